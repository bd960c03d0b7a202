"""The bars as Markdown: what everything cost, and which bars are reached."""

import re
import statistics
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bar_cells import BY_SOCKS, META, OURS, SLICES, SPLICING, TLS, TUNNEL, Cell, Idle, Sample
from cryptography.hazmat.backends.openssl.backend import backend
from peers import find
from report import over, spread, table

Samples = Mapping[str, Mapping[str, Sequence[Sample]]]


@dataclass(frozen=True)
class Bar:
    """What a cell's figure of ``ours`` must not exceed: a multiple of ``theirs``, or a figure."""

    cell: str
    what: str
    ours: str
    #: Empty: bar and stretch are in the cell's unit.
    theirs: str
    bar: float | None
    stretch: float | None
    #: Whether it is not the cost that is judged but the descriptors of a connection.
    descriptors: bool = False


#: CPU µs of a connection through HAProxy where the bars in µs come from.
_REFERENCE = 36
BARS = (
    Bar("bulk", "bulk, both directions", OURS, META, 0.32, None),
    Bar("bulk", "bulk, both directions", OURS, SPLICING, None, 1.1),
    Bar("setup", "connection set-up, direct", OURS, META, 1.6, 1.3),
    Bar("socks", "connection set-up, by SOCKS5", BY_SOCKS, META, 110 / _REFERENCE, 90 / _REFERENCE),
    Bar("roundtrip", "small-message round trip", OURS, META, 1.3, 1.1),
    Bar("idle", "idle relay", OURS, "", 1.3, 0.8),
    Bar("idle", "idle relay", OURS, "", 2.0, None, descriptors=True),
    Bar("tls-ecdsa", "TLS terminated, handshake ECDSA", OURS, TLS, 1.25, 1.05),
    Bar("tls-rsa", "TLS terminated, handshake RSA", OURS, TLS, 1.25, 1.05),
    Bar("tls-down", "TLS terminated, bulk down", OURS, TLS, 1.2, 1.0),
    Bar("tls-up", "TLS terminated, bulk up", OURS, TLS, 1.4, 1.0),
    Bar("tls-idle", "TLS terminated, idle", OURS, "", 24, 15),
    Bar("http", "HTTP keep-alive request, small", OURS, "", 250, 120),
    Bar("body", "HTTP bodies", OURS, TUNNEL, 1.0, None),
)


def show(cells: Sequence[Cell | Idle], samples: Samples, rounds: int) -> None:
    """Print everything."""
    print(
        f"{rounds} rounds; the programs do each cell's work in turn, {SLICES} times a round. "
        "In each field: the median of the rounds, and their range. CPU is the measured program's "
        "alone; busy is its share of its CPU while it worked.\n"
    )
    print(_figures(cells, samples), end="\n\n")
    print(_judged(cells, samples), end="\n\n")
    for line in (*_remarks(samples), *failures(samples)):
        print(f"- {line}")


def _remarks(samples: Samples) -> Iterable[str]:
    """Yield what TLS was spoken, and with what; and what figures in µs mean on this machine."""
    http, setup = samples.get("http", {}), samples.get("setup", {})
    if OURS in http and META in setup:
        request, connection = (
            1e6 * statistics.median(over(run.cost, run.work) for run in runs)
            for runs in (http[OURS], setup[META])
        )
        yield (
            f"HAProxy's connection took {connection:.0f} µs here; where it takes {_REFERENCE} µs, "
            f"an HTTP request would be {request * _REFERENCE / connection:.0f} µs"
        )
    spoken = {
        (title, run.cipher)
        for subjects in samples.values()
        for title, runs in subjects.items()
        for run in runs
        if run.cipher
    }
    for title, cipher in sorted(spoken):
        yield f"{title}: {cipher}, {_openssl(title)}"


def _openssl(title: str) -> str:
    """Return which OpenSSL a program links."""
    if title != TLS:
        return f"{backend.openssl_version_text()}, that of cryptography"
    said = subprocess.run([str(find("haproxy")), "-vv"], capture_output=True, text=True).stdout
    found = re.search(r"Running on OpenSSL version : (.*)", said)
    return f"{found[1]}, the system's" if found else "?"


def failures(samples: Samples) -> list[str]:
    """Return a line for each cell and program that had errors."""
    lines = []
    for name, subjects in samples.items():
        for title, runs in subjects.items():
            errors = sum((run.errors for run in runs), Counter[str]())
            if errors:
                what = ", ".join(f"{count} x {why}" for why, count in errors.most_common())
                lines.append(f"Errors, {name}, {title}: {what}")
    return lines


def _figures(cells: Sequence[Cell | Idle], samples: Samples) -> str:
    head = ("what", "through", "figure", "unit", "busy", "a second", "descriptors")
    rows = []
    for cell in cells:
        for title, runs in samples.get(cell.name, {}).items():
            seconds = sum(run.seconds for run in runs)
            busy = over(sum(run.cost for run in runs), seconds)
            rate = over(sum(run.work for run in runs), seconds)
            rows.append(
                (
                    cell.title,
                    title,
                    _spread(_values(cell, runs), cell.digits),
                    cell.unit,
                    f"{busy:.0%}" if seconds else "",
                    _rate(rate) if seconds else "",
                    f"{runs[-1].descriptors:.2f}" if runs[-1].descriptors else "",
                )
            )
    return table(head, rows)


def _judged(cells: Sequence[Cell | Idle], samples: Samples) -> str:
    head = ("bar", "against", "measured", "bar at", "", "stretch at", "")
    known = {cell.name: cell for cell in cells}
    rows = []
    for bar in BARS:
        if bar.cell not in samples:
            continue
        subjects = samples[bar.cell]
        for title in subjects:
            role, of, tree = title.partition(" of ")
            # Our own other half is that of the same tree.
            theirs = bar.theirs + of + tree if bar.theirs == TUNNEL else bar.theirs
            if role != bar.ours or (theirs or title) not in subjects:
                continue
            values = _values(known[bar.cell], subjects[title])
            if bar.descriptors:
                values = [run.descriptors for run in subjects[title]]
            elif theirs:
                others = _values(known[bar.cell], subjects[theirs])
                values = [over(a, b) for a, b in zip(values, others, strict=True)]
            middle = statistics.median(values)
            against = f"{bar.theirs} x" if bar.theirs else known[bar.cell].unit
            if bar.descriptors:
                against = "descriptors"
            rows.append(
                (
                    bar.what + of + tree,
                    against,
                    _spread(values, 2),
                    *_verdict(middle, bar.bar),
                    *_verdict(middle, bar.stretch),
                )
            )
    return table(head, rows)


def _verdict(value: float, bar: float | None) -> tuple[str, str]:
    if bar is None:
        return "", ""
    if value != value:
        return f"{bar:.2f}", "?"
    return f"{bar:.2f}", "yes" if value <= bar else f"no, {value / bar:.2f} x"


def _spread(values: Sequence[float], digits: int) -> str:
    """Return the median and, where there is one, the range."""
    return spread(values, digits) if len(values) > 1 else f"{values[0]:,.{digits}f}"


def _values(cell: Cell | Idle, runs: Sequence[Sample]) -> list[float]:
    return [cell.units * over(run.cost, run.work) for run in runs]


def _rate(rate: float) -> str:
    return f"{rate / 1e6:,.0f} MB" if rate > 1e7 else f"{rate:,.0f}"
