"""The HTTP figures as Markdown. In each cell: the median of the rounds, and their range."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from cell import Figures
from http_cell import Done
from report import over, spread, table

#: What is measured, once a round, in order.
T = TypeVar("T")
Rounds = Mapping[str, Sequence[T]]


def small(rounds: Rounds[Done], ours: str) -> str:
    """Return the table of many small answers."""
    head = (
        "through",
        "requests",
        "errors",
        "requests/s",
        "requests a CPU second",
        "µs CPU a request",
        f"/ {ours}",
        "connections to it, a 1,000 requests",
        "to the origin",
    )
    rows = []
    for subject, runs in rounds.items():
        asked = [run.completed for run in runs]
        rows.append(
            (
                subject,
                f"{sum(asked):,}",
                f"{sum(run.errors.total() for run in runs):,}",
                f"{over(sum(asked), sum(run.seconds for run in runs)):,.0f}",
                spread([over(run.completed, run.cpu) for run in runs], 0),
                spread([1e6 * _request(run) for run in runs], 0),
                ratios(rounds, subject, ours, _request),
                f"{over(1e3 * sum(run.dialled for run in runs), sum(asked)):,.0f}",
                f"{over(1e3 * sum(run.accepted for run in runs), sum(asked)):,.0f}",
            )
        )
    return table(head, rows)


def bulk(kinds: Mapping[str, Rounds[Done]], ours: str) -> str:
    """Return the table of large bodies, a line for each kind and program."""
    head = ("through", "what", "GB", "errors", "MB/s", "CPU s a GB", f"/ {ours}", "peak, MB")
    rows = []
    for kind, rounds in kinds.items():
        for subject, runs in rounds.items():
            moved = sum(run.bytes for run in runs)
            rows.append(
                (
                    subject,
                    kind,
                    f"{1e-9 * moved:.1f}",
                    f"{sum(run.errors.total() for run in runs):,}",
                    f"{1e-6 * over(moved, sum(run.seconds for run in runs)):,.0f}",
                    spread([1e9 * _byte(run) for run in runs], 2),
                    ratios(rounds, subject, ours, _byte),
                    f"{1e-6 * max(run.peak for run in runs):,.0f}",
                )
            )
    return table(head, rows)


#: What is told of tunnels: unit, title, units in 1, digits.
_OF_TUNNELS: list[tuple[str, str, float, int, Callable[[Figures], float]]] = [
    ("µs", "CPU a connection", 1e6, 0, lambda run: over(run.cycle_cpu, run.opened)),
    ("µs", "CPU a message", 1e6, 1, lambda run: over(run.message_cpu, run.messages)),
    ("s", "CPU a GB", 1e9, 2, lambda run: over(run.bulk_cpu, run.bulk)),
    ("KB", "an idle connection", 1e-3, 1, lambda run: run.memory_each),
]


def tunnels(rounds: Rounds[Figures]) -> str:
    """Return the table of tunnels, and of what carries the same bytes without CONNECT."""
    head = (
        "through",
        "completed",
        "errors",
        *(f"{unit} {title}" for unit, title, *_ in _OF_TUNNELS),
    )
    rows = []
    for subject, runs in rounds.items():
        completed = f"{sum(run.completed for run in runs):,}"
        errors = f"{sum(run.errors.total() for run in runs):,}"
        figures = (
            spread([units * figure(run) for run in runs], digits)
            for _, _, units, digits, figure in _OF_TUNNELS
        )
        rows.append((subject, completed, errors, *figures))
    return table(head, rows)


def tunnels_compared(rounds: Rounds[Figures], ours: str) -> str:
    """Return the same as multiples of ours."""
    head = (f"/ {ours}", *(title for _, title, *_ in _OF_TUNNELS))
    rows = [
        (subject, *(ratios(rounds, subject, ours, figure) for *_, figure in _OF_TUNNELS))
        for subject in rounds
        if subject != ours
    ]
    return table(head, rows)


def ratios(
    rounds: Rounds[T], theirs: str, ours: str, figure: Callable[[T], float], digits: int = 2
) -> str:
    """Return theirs / ours, round by round."""
    if theirs == ours:
        return "1"
    pairs = zip(rounds[theirs], rounds[ours], strict=True)
    return spread([over(figure(their), figure(our)) for their, our in pairs], digits)


def remarks(kinds: Mapping[str, Rounds[Done]]) -> Iterable[str]:
    """Yield what is to be known of single cells: repeated requests, and another framing."""
    for kind, rounds in kinds.items():
        for subject, runs in rounds.items():
            if repeated := sum(run.repeated for run in runs):
                yield f"{subject}, {kind}: {repeated:,} requests made again after a hang-up"
            if extra := sum(run.answered - run.completed for run in runs):
                yield f"{subject}, {kind}: the origin answered {extra:+,} times more"
            framings = set().union(*(run.framings for run in runs)) - {_framing(kind)}
            if framings:
                yield f"{subject}, {kind}: answers framed by {', '.join(sorted(framings))}"


def failures(kinds: Mapping[str, Rounds[Done] | Rounds[Figures]]) -> Iterable[tuple[str, str]]:
    """Yield subject and errors of each cell that had some."""
    for kind, rounds in kinds.items():
        for subject, runs in rounds.items():
            errors = sum((run.errors for run in runs), Counter[str]())
            if errors:
                what = ", ".join(f"{count} x {why}" for why, count in errors.most_common())
                yield subject, f"Errors, {subject}, {kind}: {what}"


def _framing(kind: str) -> str:
    return "chunks" if kind == "chunked download" else "length"


def _request(run: Done) -> float:
    return over(run.cpu, run.completed)


def _byte(run: Done) -> float:
    return over(run.cpu, run.bytes)
