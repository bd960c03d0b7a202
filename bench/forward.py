"""whatsproxy as an HTTP forward proxy, and others beside it.

    tests/sandbox .venv/bin/python bench/forward.py [--help]

Small answers over connections that are kept, large ones by length and in chunks, uploads, and
CONNECT; the last beside a chat relay of the same bytes. In every round each program is started
afresh, on a CPU of its own; clients and origin share the others. Every byte that arrives is
checked. Only what is installed is measured: Debian's tinyproxy and squid, and from PyPI pproxy and
proxy.py, which may be in a directory of their own:

    python3 -m venv DIR && DIR/bin/pip install pproxy proxy.py
    tests/sandbox .venv/bin/python bench/forward.py --peers DIR/bin
"""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import http_cell
import http_report
import report
from cell import Figures, Load, run
from http_cell import Done, Work
from http_origin import Counts, http_origin
from http_peers import PROGRAMS, Program, installed
from http_traffic import NAME, downloads, small, uploads
from load import CHAT_NAME, MIB, note, progress
from origin import listener, origin
from peers import Starter, whatsproxy
from process import descriptors, divide_cpus

OURS, CHAT = "whatsproxy", "whatsproxy, chat relay"
SMALL, DOWNLOAD, CHUNKED, UPLOAD = "small", "download", "chunked download", "upload"
TUNNELS = "tunnels"


def main() -> None:
    """Measure and print."""
    arguments = parse()
    if os.environ.get("TEST_SANDBOX") != "1":
        sys.exit(f"bench/forward.py: {NAME} is this machine in tests/sandbox only")
    # What is running ends with this process, whoever ends it, and after so long it ends itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("bench/forward.py: out of time (--total)"))
    signal.alarm(arguments.total)
    descriptors()
    others = list(installed(arguments.peers))
    versions = [f"{program.title} {program.version()}" for program in others]
    print(f"    {report.command_line()}\n\n{report.environment(*versions)}\n", flush=True)
    measured, rest = divide_cpus()
    if measured == rest:
        note("one CPU: the load takes its share of it, so throughput is no figure")
    os.sched_setaffinity(0, rest)
    done: dict[str, dict[str, list[Done]]] = {}
    figures: dict[str, list[Figures]] = {}
    with contextlib.ExitStack() as stack:
        pages, echo = listener(), listener()
        port, chat = (int(one.getsockname()[1]) for one in (pages, echo))
        counts = stack.enter_context(http_origin(pages))
        stack.enter_context(origin([echo]))
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        options = [*options_of(Path(directory), port, chat), *arguments.proxy_option]
        starters: dict[str, Starter] = {OURS: lambda: whatsproxy(measured, options)}
        starters |= dict(usable(others, measured, port))
        works = works_of(arguments, port)
        for _ in range(arguments.rounds):
            for subject, start in starters.items():
                progress(f"{subject} ...")
                for kind, one in measure(start, works, counts, arguments.limit).items():
                    done.setdefault(kind, {}).setdefault(subject, []).append(one)
            tunnels = [(CHAT, starters[OURS], ""), *((s, starters[s], chat) for s in starters)]
            for subject, start, to in tunnels:
                progress(f"{subject}, tunnels ...")
                connect = f"{NAME}:{to}" if to else ""
                figures.setdefault(subject, []).append(measure_tunnels(start, connect, arguments))
    progress("")
    show(done, figures, arguments)


def options_of(directory: Path, port: int, chat: int) -> list[str]:
    """Return whatsproxy's options: the origin, and where the chats go, are allowed."""
    configuration = directory / "whatsproxy.toml"
    configuration.write_text(f"[policy]\nallow_ports = [{port}, {chat}]\n")
    return ["--config", str(configuration), "--allow", NAME, "--chat", f"{CHAT_NAME}:{chat}"]


def usable(programs: Sequence[Program], cpus: set[int], port: int) -> Iterator[tuple[str, Starter]]:
    """Yield name and starter of those that start here, saying which do not."""
    for program in PROGRAMS:
        if program.title not in [found.title for found in programs]:
            note(f"no {program.title}: it is not installed")
    for program in programs:
        start = partial(program.start, cpus, port)
        try:
            with start():
                pass
        except RuntimeError as e:
            note(f"no {program.title}: {e}")
        else:
            yield program.title, start


def works_of(arguments: argparse.Namespace, port: int) -> list[Work]:
    """Return the work for each program and round, but for the tunnels."""
    size = arguments.size * MIB
    times = max(1, arguments.bulk // arguments.size)
    few = arguments.few
    return [
        Work(SMALL, small(port), arguments.requests, arguments.clients),
        Work(DOWNLOAD, downloads(port, size, chunked=False), times, few),
        Work(CHUNKED, downloads(port, size, chunked=True), times, few),
        Work(UPLOAD, uploads(port, size), times, few),
    ]


def measure(start: Starter, works: Sequence[Work], counts: Counts, limit: float) -> dict[str, Done]:
    """Measure one program at all kinds of work."""
    with start() as peer:
        return http_cell.run(peer, works, counts, limit)


def measure_tunnels(start: Starter, connect: str, arguments: argparse.Namespace) -> Figures:
    """Measure one program's tunnels to ``connect``, or, where that is empty, its relays."""
    load = Load(
        ("whatsapp", "raw"),
        arguments.churn,
        16,
        arguments.message,
        arguments.messages,
        arguments.bulk // 2 * MIB,
        arguments.limit,
    )
    with start() as peer:
        return run(replace(peer, connect=connect), arguments.tunnels, load)


def show(
    done: dict[str, dict[str, list[Done]]],
    figures: dict[str, list[Figures]],
    arguments: argparse.Namespace,
) -> None:
    """Print the tables and what else there is to know; exit with 1 if we failed at something."""
    print(
        f"{arguments.rounds} rounds; in each cell their median and their range. CPU is the "
        "measured program's alone, threads and child processes included.\n\n"
        f"Answers of 200 bytes over {arguments.clients} connections, kept where the program keeps "
        f"them; {arguments.requests:,} requests a round.\n"
    )
    print(http_report.small(done[SMALL], OURS), end="\n\n")
    print(
        f"Bodies of {arguments.size} MiB over {arguments.few} connections, {arguments.bulk} MiB "
        "a round and kind. The peak is resident memory.\n"
    )
    large = {kind: done[kind] for kind in (DOWNLOAD, CHUNKED, UPLOAD)}
    print(http_report.bulk(large, OURS), end="\n\n")
    print(
        f"Tunnels by CONNECT, and a chat relay of the same bytes: {arguments.tunnels} at a time, "
        f"{arguments.churn:,} or more a round, {arguments.messages:,} messages of "
        f"{arguments.message} bytes there and back, {arguments.bulk // 2} MiB of bulk each way.\n"
    )
    print(http_report.tunnels(figures), end="\n\n")
    print(http_report.tunnels_compared(figures, OURS), end="\n\n")
    for line in http_report.remarks(done):
        print(f"- {line}")
    failures = [*http_report.failures(done), *http_report.failures({TUNNELS: figures})]
    for _, line in failures:
        print(f"- {line}")
    if any(subject in (OURS, CHAT) for subject, _ in failures):
        sys.exit(1)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="whatsproxy as an HTTP forward proxy, and others beside it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    peers = [os.environ["BENCH_PEERS"]] if os.environ.get("BENCH_PEERS") else []
    add(
        "--peers",
        action="append",
        default=peers,
        metavar="DIR",
        help="where pproxy and proxy (proxy.py's) are, if not on the PATH; also in BENCH_PEERS",
    )
    add("--rounds", type=int, default=5, help="all programs in turn, so often")
    add("--requests", type=int, default=10_000, help="for small answers, per program and round")
    add("--clients", type=int, default=16, help="connections that they are made on")
    add("--size", type=int, default=16, metavar="MIB", help="of a large body")
    add("--bulk", type=int, default=512, metavar="MIB", help="per kind, program and round")
    add("--few", type=int, default=4, metavar="CLIENTS", help="connections for large bodies")
    add("--tunnels", type=int, default=100, help="tunnels at a time")
    add("--churn", type=int, default=1500, help="tunnels made per program and round, at least")
    add("--message", type=int, default=300, metavar="BYTES", help="size of a chat message")
    add("--messages", type=int, default=10_000, help="messages per program and round")
    add("--limit", type=float, default=60.0, metavar="SECONDS", help="for each phase")
    add("--total", type=int, default=2400, metavar="SECONDS", help="for everything")
    add(
        "--proxy-option",
        action="append",
        default=[],
        metavar="WORD",
        help="one more word for whatsproxy's command line",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
