"""Mixed traffic through the real proxy: what it carries, what it costs, and HAProxy beside it.

    tests/sandbox .venv/bin/python bench/load.py [--help]

Each cell of the tables is a fresh ``twistd whatsproxy`` (or HAProxy) on a CPU of its own; clients,
origin and SOCKS server share the others. WhatsApp-shaped, XMPP-shaped, TLS and raw connections are
opened a few at a time and held; the chats exchange messages, the others bulk; all are closed; and
smaller crowds open and close again, until enough connections were made for a stable mean. Every
byte that comes back is checked.
"""

import argparse
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator

import report
from cell import Figures, Load, run
from origin import listener, origin
from peers import LOOPBACK, Starter, find, haproxy, microsocks, whatsproxy
from process import descriptors, divide_cpus
from traffic import ALLOWED_NAME

DIRECT, BY_SOCKS, HAPROXY = "whatsproxy", "whatsproxy by SOCKS5", "HAProxy"
ALL_KINDS: tuple[str, ...] = ("whatsapp", "xmpp", "tls", "raw")
MIB = 1 << 20
#: In tests/sandbox, which keeps it here: a name, so that resolving it is in the figures.
CHAT_NAME = "g.whatsapp.net"


def main() -> None:
    """Measure and print."""
    arguments = parse()
    # What is running ends with this process, whoever ends it, and after so long it ends itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("bench/load.py: out of time (--total)"))
    signal.alarm(arguments.total)
    limit = descriptors()
    print(f"    {report.command_line()}\n\n{report.environment()}\n", flush=True)
    measured, others = divide_cpus()
    if measured == others:
        note("one CPU: the load takes its share of it, so throughput and latencies are no figures")
    os.sched_setaffinity(0, others)
    counts = [n for n in arguments.connections if fits(n, limit)]
    cells: dict[tuple[str, int], list[Figures]] = {}
    with contextlib.ExitStack() as stack:
        listeners, kinds, name = origin_listeners()
        port = int(listeners[0].getsockname()[1])
        stack.enter_context(origin(listeners))
        load = Load(
            kinds,
            arguments.churn,
            arguments.dialling,
            arguments.message,
            arguments.messages,
            arguments.bulk * MIB,
            arguments.limit,
        )
        options = ["--chat", f"{name}:{port}", *arguments.proxy_option]
        starters = dict(programs(stack, measured, others, options, port, limit))
        for _ in range(arguments.rounds):
            for count in counts:
                for subject, start in starters.items():
                    progress(f"{subject}, {count} connections ...")
                    with start() as peer:
                        figures = run(peer, count, load)
                    cells.setdefault((subject, count), []).append(figures)
    progress("")
    show(cells, load, arguments.rounds)
    if report.failures(cells):
        sys.exit(1)


def origin_listeners() -> tuple[list[socket.socket], tuple[str, ...], str]:
    """Return what the origin listens on, the kinds that can be carried, and the chat's host."""
    listeners = [listener()]
    if os.environ.get("TEST_SANDBOX") != "1":
        note(f"no TLS pass-through: outside of tests/sandbox {ALLOWED_NAME} is the real one")
    else:
        try:
            listeners.append(listener(443))
        except OSError as e:
            note(f"no TLS pass-through: port 443: {e.strerror}")
        else:
            return listeners, ALL_KINDS, CHAT_NAME
    return listeners, tuple(kind for kind in ALL_KINDS if kind != "tls"), LOOPBACK


def programs(
    stack: contextlib.ExitStack,
    measured: set[int],
    others: set[int],
    options: list[str],
    port: int,
    limit: int,
) -> Iterator[tuple[str, Starter]]:
    """Yield name and starter of what is to be measured, saying what is missing."""
    yield DIRECT, lambda: whatsproxy(measured, options)
    # In between, so that the two that are compared lie as close together as they can.
    if find("haproxy"):
        yield HAPROXY, lambda: haproxy(measured, port, limit)
    else:
        note("no HAProxy: it is not installed")
    if find("microsocks"):
        server = stack.enter_context(microsocks(others))
        url = f"socks5://{LOOPBACK}:{server.address[1]}"
        yield BY_SOCKS, lambda: whatsproxy(measured, [*options, "--socks5", url])
    else:
        note("no SOCKS5: microsocks is not installed")


def fits(connections: int, limit: int) -> bool:
    """Tell whether a proxy, or microsocks, can hold so many, and say so if not."""
    needed = 2 * connections + 200
    if needed > limit:
        note(f"no {connections:,} connections: {needed:,} descriptors, and the limit is {limit:,}")
    return needed <= limit


def show(cells: dict[tuple[str, int], list[Figures]], load: Load, rounds: int) -> None:
    """Print the tables, larger crowds below smaller ones, and what else there is to know."""
    order = {DIRECT: 0, BY_SOCKS: 1, HAPROXY: 2}
    ordered = dict(sorted(cells.items(), key=lambda cell: (order[cell[0][0]], cell[0][1])))
    print(
        f"{', '.join(load.kinds)} in equal parts, {load.dialling} dialled at a time, {rounds} "
        f"rounds; per round and cell {load.churn:,} connections or more, {load.messages:,} "
        f"messages of {load.message} bytes over the chats, {load.bulk // MIB} MiB of bulk each way "
        "over the others. First byte: from dialling to the first byte of the origin's answer. MB/s "
        "are both ways together; by SOCKS5 microsocks limits them, not the proxy. CPU is the "
        "measured program's alone; a connection is its opening, one exchange, its end, and with "
        "whatsproxy its line in the log. KB an idle connection are resident memory, without the "
        "kernel's buffers.\n"
    )
    print(report.carried(ordered), end="\n\n")
    print(report.cost(ordered), end="\n\n")
    if any(subject == HAPROXY for subject, _ in ordered):
        print(f"{DIRECT} / {HAPROXY}, median and range of the rounds:\n")
        print(report.compared(ordered, DIRECT, HAPROXY), end="\n\n")
    for line in report.failures(ordered):
        print(line)


def note(text: str) -> None:
    """Print a remark that belongs to the result."""
    print(f"Note: {text}\n", flush=True)


def progress(text: str) -> None:
    """Show on a terminal what is running; no part of the result."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Mixed traffic through the real proxy, with HAProxy beside it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("connections", nargs="*", type=int, default=[100, 1000, 5000], help="held at a time")
    add("--rounds", type=int, default=3, help="all cells in turn, so often")
    add("--churn", type=int, default=3000, help="connections made per cell, at least")
    add("--dialling", type=int, default=16, help="connections being opened at a time")
    add("--message", type=int, default=300, metavar="BYTES", help="size of a chat message")
    add("--messages", type=int, default=20_000, help="messages per cell, at least")
    add("--bulk", type=int, default=192, metavar="MIB", help="bulk each way per cell, about")
    add("--limit", type=float, default=60.0, metavar="SECONDS", help="for each phase of a cell")
    add("--total", type=int, default=1200, metavar="SECONDS", help="for everything")
    add(
        "--proxy-option",
        action="append",
        default=[],
        metavar="WORD",
        help="one more word for whatsproxy's command line, such as --proxy-option=--config "
        "--proxy-option=FILE; its ports are read from its log, so the level must let them in",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
