"""How long Python's collector stops the service, with thousands of relays held.

    tests/sandbox .venv/bin/python bench/pauses.py [--help]

The real service, once as it is and once with Python's own settings (nothing frozen, 700 objects and
ten times ten), holds relays and opens and closes connections beside them. A sitecustomize of this
command's writes down how long each collection took. At last one full collection is asked for, which
is what the longest pause can be.
"""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import report
from origin import listener
from pairs import Pairs
from peers import LOOPBACK, ROOT, whatsproxy
from process import descriptors, divide_cpus

#: Put before everything else into the measured process. SIGUSR2 asks for a full collection.
WATCH = """\
import gc, os, signal, time
_out = os.open({path!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
_began = 0.0
def _watch(phase, info):
    global _began
    if phase == "start":
        _began = time.perf_counter()
    else:
        took = time.perf_counter() - _began
        os.write(_out, f"{{info['generation']}} {{took}}\\n".encode())
if {plain}:
    gc.freeze = lambda: None
    gc.set_threshold = lambda *_: None
gc.callbacks.append(_watch)
signal.signal(signal.SIGUSR2, lambda *_: gc.collect())
"""
#: Descriptors that the service needs beside its connections'.
RESERVE = 400


def main() -> None:
    """Measure and print."""
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    held = min(arguments.relays, (descriptors() - RESERVE) // 2)
    print(f"    {report.command_line()}\n\n{report.environment()}\n", flush=True)
    measured, others = divide_cpus()
    os.sched_setaffinity(0, others)
    rows = []
    for title, plain in (("whatsproxy", False), ("Python's settings", True)):
        for count in (0, held):
            times = collections(count, arguments.churn, measured, plain)
            *passing, last = times
            rows.append(
                (
                    title,
                    f"{count:,}",
                    *(f"{sum(g == n for g, _ in passing):,}" for n in range(3)),
                    f"{max((seconds for _, seconds in passing), default=0.0) * 1e3:.1f}",
                    f"{sum(seconds for _, seconds in passing) * 1e6 / arguments.churn:.2f}",
                    f"{last[1] * 1e3:.1f}",
                )
            )
    head = (
        *("collector", "relays held", "young", "middle", "full"),
        *("longest, ms", "µs a connection", "a full one, ms"),
    )
    print(f"{arguments.churn:,} connections opened and closed meanwhile.\n")
    print(report.table(head, rows))


def collections(held: int, churn: int, cpus: set[int], plain: bool) -> list[tuple[int, float]]:
    """Return generation and seconds of each collection; the last one is the one asked for."""
    with tempfile.TemporaryDirectory() as directory, watched(Path(directory), plain) as path:
        listening = listener()
        chat = f"{LOOPBACK}:{listening.getsockname()[1]}"
        with whatsproxy(cpus, ["--chat", chat], Path(directory)) as peer:
            load = Pairs(peer.address, listening, 120.0)
            try:
                load.open(held, 16)
                time.sleep(0.5)
                path.write_text("")
                load.churn(churn, 16)
                os.kill(peer.pid, signal.SIGUSR2)
                time.sleep(1.0)
                if load.errors:
                    raise SystemExit(f"bench/pauses.py: {dict(load.errors)}")
                lines = path.read_text().splitlines()  # before the interpreter's own end
            finally:
                load.leave()
    return [(int(generation), float(seconds)) for generation, seconds in map(str.split, lines)]


@contextlib.contextmanager
def watched(directory: Path, plain: bool) -> Iterator[Path]:
    """Put the watch and the package into a directory, and say where the figures will be."""
    path = directory / "collections"
    (directory / "sitecustomize.py").write_text(WATCH.format(path=str(path), plain=plain))
    for name in ("whatsproxy", "twisted"):
        (directory / name).symlink_to(ROOT / name)
    yield path


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="How long Python's collector stops the service.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("relays", nargs="?", type=int, default=10_000, help="held meanwhile")
    add("--churn", type=int, default=20_000, help="connections opened and closed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
