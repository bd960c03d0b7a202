"""The time of a /metrics scrape while thousands of sessions live.

    tests/sandbox .venv/bin/python bench/scrape.py [--help]

First in this process: a ledger with that many sessions, collected and encoded in both formats. Then
over HTTP, from the real service on a CPU of its own, holding as many real connections, or as many
as descriptors allow; the text that comes back must say so.
"""

import argparse
import contextlib
import http.client
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice

import report
from crowd import Crowd
from origin import listener, origin
from peers import LOOPBACK, Peer, whatsproxy
from process import descriptors, divide_cpus, pinned
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from traffic import openings

from whatsproxy.descriptors import DescriptorError, fit
from whatsproxy.metrics import LedgerCollector, registry_of
from whatsproxy.session import Ledger
from whatsproxy.sniff import Kind

#: Scrapes before any is measured.
WARM_UP = 3
#: Descriptors that this process and the origin need beside their connections.
RESERVE = 100
#: What a scraper accepts.
FORMATS = {
    "text": "text/plain; version=0.0.4",
    "OpenMetrics": "application/openmetrics-text; version=1.0.0",
}
#: No TLS: its origin would have to be on port 443, and to the ledger one kind is like another.
KINDS = ("whatsapp", "xmpp", "raw")


def main() -> None:
    """Measure and print."""
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("bench/scrape.py: out of time (--total)"))
    signal.alarm(arguments.total)
    limit = descriptors()
    print(f"    {report.command_line()}\n\n{report.environment()}\n", flush=True)
    measured, others = divide_cpus()
    rows: list[tuple[str, ...]] = []
    for sessions in (0, arguments.sessions):
        with pinned(measured):
            rows += in_process(sessions, arguments.scrapes)
    try:
        held = min(fit(arguments.sessions, limit), limit - RESERVE)
    except DescriptorError as e:
        held = 0
        print(f"Note: no connections over HTTP: {e}\n")
    if held < arguments.sessions:
        print(
            f"Note: a limit of {limit:,} descriptors, two for each connection, lets the service "
            f"hold {held:,} real connections\n",
            flush=True,
        )
    os.sched_setaffinity(0, others)
    rows += over_http(held, arguments.scrapes, measured)
    head = ("what", "sessions", "best, ms", "median, ms", "worst, ms")
    print(report.table(head, rows))


def in_process(sessions: int, scrapes: int) -> list[tuple[str, ...]]:
    """Time a ledger by itself: reading it, and reading and encoding all that a scrape has."""
    ledger = Ledger(time.monotonic)
    for number, kind in enumerate(islice(cycle([*Kind, None]), sessions)):
        session = ledger.open()
        session.received, session.sent = number, 2 * number
        if kind is not None:
            session.detected(kind)
    assert len(ledger.live) == sessions
    collector = LedgerCollector(ledger)
    registry = registry_of(ledger)
    rows = [row("ledger read", sessions, timed(lambda: list(collector.collect()), scrapes))]
    for name, accept in FORMATS.items():
        encode, _ = choose_encoder(accept)
        times = timed(partial(encode, registry), scrapes)
        rows.append(row(f"all read and encoded, {name}", sessions, times))
    return rows


def over_http(connections: int, scrapes: int, cpus: set[int]) -> list[tuple[str, ...]]:
    """Time whole scrapes of a running service, with no connection and with so many."""
    listening = listener()
    chat = f"{LOOPBACK}:{listening.getsockname()[1]}"
    with (
        origin([listening]),
        whatsproxy(cpus, ["--chat", chat]) as peer,
        contextlib.closing(http.client.HTTPConnection(LOOPBACK, peer.pages, timeout=30)) as page,
    ):
        rows = []
        for count in dict.fromkeys((0, connections)):
            crowd = Crowd(peer.address, 120.0)
            try:
                crowd.open(count, openings(KINDS), 16)
                if crowd.errors:
                    print(f"Note: connections lost before the scrapes: {dict(crowd.errors)}\n")
                check(page, peer, len(crowd))
                for name, accept in FORMATS.items():
                    times = timed(partial(get, page, accept), scrapes)
                    rows.append(row(f"over HTTP, {name}", len(crowd), times))
            finally:
                crowd.leave()
        return rows


def check(page: http.client.HTTPConnection, peer: Peer, connections: int) -> None:
    """Make sure that the service counts what it holds, so that the figures are of that."""
    active = next(
        sample.value
        for family in text_string_to_metric_families(get(page, FORMATS["text"]).decode())
        for sample in family.samples
        if sample.name == "whatsapp_proxy_connections_active"
    )
    if active != connections:
        raise SystemExit(f"process {peer.pid} says {active:g} connections, not {connections}")


def get(page: http.client.HTTPConnection, accept: str) -> bytes:
    """Return one scrape, over a connection that is kept open as Prometheus does."""
    page.request("GET", "/metrics", headers={"Accept": accept})
    answer = page.getresponse()
    if answer.status != 200:
        raise SystemExit(f"/metrics answers {answer.status}")
    return answer.read()


def timed(scrape: Callable[[], object], times: int) -> list[float]:
    """Return the seconds of each scrape, some unmeasured ones before them."""
    for _ in range(WARM_UP):
        scrape()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        scrape()
        taken.append(time.perf_counter() - began)
    return taken


def row(what: str, sessions: int, times: list[float]) -> tuple[str, ...]:
    """Return a line of the table."""
    figures = (min(times), statistics.median(times), max(times))
    return (what, f"{sessions:,}", *(f"{1e3 * seconds:.2f}" for seconds in figures))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="The time of a /metrics scrape while thousands of sessions live.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("sessions", nargs="?", type=int, default=10_000, help="live while it is scraped")
    add("--scrapes", type=int, default=100, help="measured, of each kind")
    add("--total", type=int, default=300, metavar="SECONDS", help="for everything")
    return parser.parse_args()


if __name__ == "__main__":
    main()
