"""The ledger in the words of Prometheus: read when a scrape asks, deciding nothing."""

import enum
import os
import platform
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.registry import Collector

import twisted
from whatsproxy import __version__
from whatsproxy.certificates import Identity
from whatsproxy.session import TIME_BUCKETS, Histogram, Ledger
from whatsproxy.sniff import Kind

PREFIX = "whatsapp_proxy_"
#: Beside the kinds: never shown what it is, and closed at accept.
UNDETECTED, REJECTED = "undetected", "rejected"


class LedgerCollector(Collector):
    """Yields a ledger's figures.

    ``connections_total`` counts every accept. The ``protocol_connections`` add up to it, save for
    the connections that are being sniffed at this moment: those are in
    ``protocol_connections_active{protocol="undetected"}`` alone until their kind is known, so that
    no figure ever goes back.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        """Read the ledger once."""
        ledger = self._ledger
        active = Counter([session.kind for session in ledger.live])
        yield _counter("connections", "Connections accepted.", ledger.accepted)
        yield GaugeMetricFamily(
            PREFIX + "connections_active", "Connections open.", value=len(ledger.live)
        )
        yield _counter("bytes_sent", "Payload bytes sent to clients.", ledger.sent)
        yield _counter("bytes_received", "Payload bytes received from clients.", ledger.received)
        yield GaugeMetricFamily(
            PREFIX + "buffered_bytes",
            "Bytes that wait for slow peers, at the last look; at most a second ago.",
            value=sum([session.buffered for session in ledger.live]),
        )
        yield _counter("errors", "Connections that ended by an error.", ledger.errors)

        # Not a counter: those must be called _total, and a family may not be called as its sibling.
        by_kind = UnknownMetricFamily(
            PREFIX + "protocol_connections",
            "Connections since the start, by what they were on the wire.",
            labels=["protocol"],
        )
        active_by_kind = GaugeMetricFamily(
            PREFIX + "protocol_connections_active",
            "Connections open, by what they are on the wire; undetected ones are being sniffed.",
            labels=["protocol"],
        )
        for kind in Kind:
            by_kind.add_metric([kind.value], ledger.kinds[kind])
            active_by_kind.add_metric([kind.value], active[kind])
        by_kind.add_metric([UNDETECTED], ledger.undetected)
        by_kind.add_metric([REJECTED], ledger.rejected)
        active_by_kind.add_metric([UNDETECTED], active[None])
        yield by_kind
        yield active_by_kind

        yield GaugeMetricFamily(
            PREFIX + "accept_paused",
            "1 while accepting waits for descriptors.",
            value=ledger.accept_paused,
        )
        yield _counter(
            "accept_pauses",
            "How often accepting had to wait for descriptors.",
            ledger.accept_pauses,
        )
        yield _labelled(
            "connections_ended", "Connections ended, by reason.", ["reason"], ledger.ends
        )
        yield _labelled(
            "http_requests",
            "HTTP requests by method, class of the answer's status, and who answered.",
            ["method", "status", "answered_by"],
            ledger.http_requests,
        )
        yield _labelled(
            "tls_inner_connections",
            "Connections whose TLS ended here, by what was found inside.",
            ["protocol"],
            ledger.inner_kinds,
        )
        yield _labelled(
            "tls_handshakes",
            "TLS handshakes of clients by result, version, and whether a ticket resumed them.",
            ["result", "version", "resumed"],
            ledger.handshakes,
        )
        yield _labelled(
            "reloads",
            "Attempts to read files anew, by what is in them.",
            ["what", "result"],
            ledger.reloads,
        )
        yield _labelled(
            "logins", "Names and passwords of HTTP requests.", ["result"], ledger.logins
        )
        yield _histogram("sniff_seconds", "From accept to the kind.", ledger.sniff_time)
        yield _histogram(
            "upstream_connect_seconds", "From the kind to the upstream.", ledger.connect_time
        )
        yield _histogram(
            "tls_handshake_seconds", "From the ClientHello to the end.", ledger.handshake_time
        )


class _Certificates(Collector):
    def __init__(self, identities: Callable[[], Iterable[Identity]]) -> None:
        self._identities = identities

    def collect(self) -> Iterator[Metric]:
        expiry = GaugeMetricFamily(
            PREFIX + "certificate_expiry_timestamp_seconds",
            "When a certificate ends.",
            labels=["certificate"],
        )
        for identity in self._identities():
            expiry.add_metric([identity.label], identity.expires.timestamp())
        yield expiry


def registry_of(
    ledger: Ledger, identities: Callable[[], Iterable[Identity]] = tuple
) -> CollectorRegistry:
    """Return a registry of one service: its ledger, its certificates, this process, this build."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector(ledger))
    registry.register(_Certificates(identities))
    registry.register(_Build())
    registry.register(_Process())
    return registry


class _Build(Collector):
    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            PREFIX + "build",
            "What is running.",
            value={
                "version": __version__,
                "python": platform.python_version(),
                "twisted": twisted.__version__,
            },
        )


class _Process(Collector):
    """What prometheus-client's ProcessCollector tells, by cheaper means.

    That one lists the directory of descriptors, which takes 15 ms with 19,000 of them, while the
    reactor stands still. It is asked once, for what never changes, and where there is a /proc.
    """

    def __init__(self) -> None:
        once = {metric.name: metric for metric in ProcessCollector(registry=None).collect()}
        self._fixed = [
            once[name] for name in ("process_start_time_seconds", "process_max_fds") if name in once
        ]

    def collect(self) -> Iterator[Metric]:
        if not self._fixed:
            return
        yield from self._fixed
        yield CounterMetricFamily(
            "process_cpu_seconds", "User and system CPU time.", value=time.process_time()
        )
        with open("/proc/self/statm", "rb") as f:
            virtual, resident = (
                int(pages) * resource.getpagesize() for pages in f.read().split()[:2]
            )
        yield GaugeMetricFamily(
            "process_virtual_memory_bytes", "Virtual memory size.", value=virtual
        )
        yield GaugeMetricFamily(
            "process_resident_memory_bytes", "Resident memory size.", value=resident
        )
        yield GaugeMetricFamily("process_open_fds", "Open descriptors.", value=_open_descriptors())


def _open_descriptors() -> int:
    """Linux tells the number as the directory's size since 6.2; before, that is 0."""
    return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))


def _counter(name: str, text: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, text, value=value)


def _labelled(
    name: str, text: str, labels: list[str], counts: Mapping[Any, int]
) -> CounterMetricFamily:
    """Return a counter whose keys are its labels' values: an Enum's, a text, or several of them."""
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for key, count in counts.items():
        parts = key if isinstance(key, tuple) else (key,)
        values = [part.value if isinstance(part, enum.Enum) else part for part in parts]
        family.add_metric(values, count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> HistogramMetricFamily:
    buckets = []
    below = 0
    for bound, count in zip((*map(str, TIME_BUCKETS), "+Inf"), histogram.counts, strict=True):
        below += count
        buckets.append((bound, below))
    return HistogramMetricFamily(PREFIX + name, text, buckets=buckets, sum_value=histogram.total)
