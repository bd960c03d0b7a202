"""Figures as Markdown: what was carried, what it cost, and how that compares."""

import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from cell import Figures
from peers import find

import twisted

#: The runs of one cell, one a round, in order.
Runs = Sequence[Figures]


def command_line() -> str:
    """Return the command that is running, as it is typed at the top of the source tree."""
    python = Path(os.path.relpath(sys.executable))
    words = [str(python), *sys.argv]
    if os.environ.get("TEST_SANDBOX") == "1":
        words.insert(0, "tests/sandbox")
    return shlex.join(words)


def environment(*programs: str) -> str:
    """Return in one line what the figures depend on; ``programs`` instead of HAProxy."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    parts = [
        f"{os.cpu_count()} x {cpu}",
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}",
        f"Twisted {twisted.__version__}",
    ]
    if programs:
        parts += programs
    elif haproxy := find("haproxy"):
        said = subprocess.run([haproxy, "-v"], capture_output=True, text=True).stdout
        parts.append(f"HAProxy {said.split()[2]}")
    return ", ".join(parts)


def carried(cells: Mapping[tuple[str, int], Runs]) -> str:
    """Return the table of what went through, all rounds together."""
    head = (
        "through",
        "connections",
        "completed",
        "errors",
        "connections/s",
        "first byte p50, ms",
        "p99, ms",
        "messages/s",
        "bulk MB/s",
    )
    rows = []
    for (subject, connections), runs in cells.items():
        times = [seconds for run in runs for seconds in run.first_bytes] or [0.0]
        rows.append(
            (
                subject,
                f"{connections:,}",
                f"{sum(run.completed for run in runs):,}",
                f"{sum(run.errors.total() for run in runs):,}",
                f"{_ratio(runs, _opened, _cycle_seconds):,.0f}",
                f"{1e3 * percentile(times, 50):.1f}",
                f"{1e3 * percentile(times, 99):.1f}",
                f"{_ratio(runs, lambda r: r.messages, lambda r: r.message_seconds):,.0f}",
                f"{1e-6 * _ratio(runs, lambda r: r.bulk, lambda r: r.bulk_seconds):,.0f}",
            )
        )
    return table(head, rows)


def cost(cells: Mapping[tuple[str, int], Runs]) -> str:
    """Return the table of what that took of the program, all rounds together."""
    head = (
        "through",
        "connections",
        "CPU, s",
        "µs a connection",
        "µs a message",
        "s a GB",
        "RSS empty, MB",
        "peak, MB",
        "after, MB",
        "KB an idle connection",
    )
    rows = []
    for (subject, connections), runs in cells.items():
        rows.append(
            (
                subject,
                f"{connections:,}",
                f"{sum(run.cpu for run in runs):.2f}",
                f"{1e6 * _ratio(runs, _cycle_cpu, _opened):,.0f}",
                f"{1e6 * _ratio(runs, lambda r: r.message_cpu, lambda r: r.messages):,.0f}",
                f"{1e9 * _ratio(runs, lambda r: r.bulk_cpu, lambda r: r.bulk):.2f}",
                f"{1e-6 * statistics.median(run.memory_none for run in runs):.1f}",
                f"{1e-6 * max(run.memory_peak for run in runs):.1f}",
                f"{1e-6 * statistics.median(run.memory_after for run in runs):.1f}",
                f"{1e-3 * statistics.median(run.memory_each for run in runs):.1f}",
            )
        )
    return table(head, rows)


def compared(cells: Mapping[tuple[str, int], Runs], ours: str, theirs: str) -> str:
    """Return the table of ours / theirs: the median of the rounds' ratios, and their range."""
    head = ("connections", "CPU a connection", "CPU a message", "CPU a GB", "KB an idle connection")
    figures: list[Callable[[Figures], float]] = [
        lambda r: over(r.cycle_cpu, r.opened),
        lambda r: over(r.message_cpu, r.messages),
        lambda r: over(r.bulk_cpu, r.bulk),
        lambda r: r.memory_each,
    ]
    rows = []
    for subject, connections in cells:
        if subject == ours and (theirs, connections) in cells:
            pairs = list(zip(cells[ours, connections], cells[theirs, connections], strict=True))
            ratios = ([over(figure(a), figure(b)) for a, b in pairs] for figure in figures)
            rows.append([f"{connections:,}", *(spread(values, 1) for values in ratios)])
    return table(head, rows)


def failures(cells: Mapping[tuple[str, int], Runs]) -> list[str]:
    """Return a line for each cell that had errors: which, and how many."""
    lines = []
    for (subject, connections), runs in cells.items():
        errors = sum((run.errors for run in runs), Counter[str]())
        if errors:
            what = ", ".join(f"{count} x {why}" for why, count in errors.most_common())
            lines.append(f"Errors, {subject}, {connections:,} connections: {what}")
    return lines


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table: the first column to the left, figures to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = [("-" * width if i == 0 else "-" * (width - 1) + ":") for i, width in enumerate(widths)]
    shown = []
    for line in (lines[0], rule, *lines[1:]):
        cells = [
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        shown.append(f"| {' | '.join(cells)} |")
    return "\n".join(shown)


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the smallest value that at least ``percent`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(percent) // 100) - 1)]


def spread(values: Iterable[float], digits: int) -> str:
    """Return the median of some values, and their range."""
    known = [value for value in values if value == value]
    if not known:
        return "-"
    middle, least, most = statistics.median(known), min(known), max(known)
    return f"{middle:,.{digits}f} ({least:,.{digits}f} to {most:,.{digits}f})"


def _ratio(
    runs: Runs, above: Callable[[Figures], float], below: Callable[[Figures], float]
) -> float:
    return over(sum(map(above, runs)), sum(map(below, runs)))


def over(above: float, below: float) -> float:
    """Return the quotient, or NaN where there is none."""
    return above / below if below else float("nan")


def _opened(run: Figures) -> float:
    return run.opened


def _cycle_seconds(run: Figures) -> float:
    return run.cycle_seconds


def _cycle_cpu(run: Figures) -> float:
    return run.cycle_cpu
