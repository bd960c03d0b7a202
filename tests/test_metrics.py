import platform
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import exposition
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import ledger_and_time
from whatsproxy import __version__
from whatsproxy.metrics import registry_of
from whatsproxy.reason import Reason
from whatsproxy.session import TIME_BUCKETS, Ledger
from whatsproxy.sniff import Kind

P = "whatsapp_proxy_"
PROTOCOLS = ["http", "connect", "tls", "xmpp", "whatsapp", "raw", "undetected", "rejected"]
#: What dashboards of the existing proxy ask for: these names and no others, and their types.
PROMISED = {
    P + "connections_total": "counter",
    P + "connections_active": "gauge",
    P + "bytes_sent_total": "counter",
    P + "bytes_received_total": "counter",
    P + "errors_total": "counter",
    P + "protocol_connections": "unknown",
}


class Scrape(NamedTuple):
    """What a scrape says: each family's type, and each sample's value by name and labels."""

    types: dict[str, str]
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float]

    def value(self, name: str, **labels: str) -> float:
        return self.samples[P + name, tuple(labels.items())]

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return the samples of a name by the value of their only label."""
        return {
            dict(labels)[label]: value
            for (of, labels), value in self.samples.items()
            if of == P + name
        }


def scrape_of(families: list[Metric]) -> Scrape:
    return Scrape(
        {s.name: family.type for family in families for s in family.samples},
        {(s.name, tuple(s.labels.items())): s.value for f in families for s in f.samples},
    )


def scrape(ledger: Ledger) -> Scrape:
    """Scrape as OpenMetrics, by the strict parser."""
    text = openmetrics.generate_latest(registry_of(ledger)).decode()
    return scrape_of(list(openmetrics_parser.text_string_to_metric_families(text)))


def text_scrape(ledger: Ledger) -> Scrape:
    text = exposition.generate_latest(registry_of(ledger)).decode()
    return scrape_of(list(text_string_to_metric_families(text)))


class NamesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ledger, self.time = ledger_and_time()

    def test_promised_names_and_types(self) -> None:
        for types in (scrape(self.ledger).types, text_scrape(self.ledger).types):
            for name, type in PROMISED.items():
                self.assertEqual(types[name], type, name)

    def test_declared_types_of_both_formats(self) -> None:
        registry = registry_of(self.ledger)
        text = exposition.generate_latest(registry).decode()
        for name, type in PROMISED.items():
            self.assertIn(f"# TYPE {name} {type.replace('unknown', 'untyped')}\n", text)
        strict = openmetrics.generate_latest(registry).decode()
        for name, type in PROMISED.items():
            self.assertIn(f"# TYPE {name.removesuffix('_total')} {type}\n", strict)
        self.assertTrue(strict.endswith("# EOF\n"))

    def test_all_names(self) -> None:
        ours = {name for name in scrape(self.ledger).types if name.startswith(P)}
        times = {
            f"{P}{what}_seconds_{part}"
            for what in ("sniff", "upstream_connect", "tls_handshake")
            for part in ("bucket", "count", "sum")
        }
        others = {
            *("protocol_connections_active", "connections_ended_total", "build_info"),
            *("tls_inner_connections_total", "reloads_total", "logins_total"),
            *("accept_paused", "accept_pauses_total", "buffered_bytes"),
        }
        self.assertEqual(ours, {*PROMISED, *times, *(P + other for other in others)})
        self.assertIn("process_open_fds", scrape(self.ledger).types)
        self.assertIn("process_resident_memory_bytes", scrape(self.ledger).types)

    def test_every_value_is_there_from_the_start(self) -> None:
        seen = scrape(self.ledger)
        self.assertEqual(seen.by("protocol_connections", "protocol"), dict.fromkeys(PROTOCOLS, 0))
        self.assertEqual(
            seen.by("protocol_connections_active", "protocol"), dict.fromkeys(PROTOCOLS[:-1], 0)
        )
        self.assertEqual(
            seen.by("connections_ended_total", "reason"), {reason.value: 0 for reason in Reason}
        )
        for name in ("connections_total", "bytes_sent_total", "errors_total"):
            self.assertEqual(seen.value(name), 0)

    def test_build(self) -> None:
        (labels,) = [labels for name, labels in scrape(self.ledger).samples if "build" in name]
        self.assertEqual(dict(labels)["version"], __version__)
        self.assertEqual(dict(labels)["python"], platform.python_version())
        self.assertIn("twisted", dict(labels))

    def test_two_services_count_for_themselves(self) -> None:
        other, _ = ledger_and_time()
        self.ledger.open()
        self.assertEqual(scrape(self.ledger).value("connections_total"), 1)
        self.assertEqual(scrape(other).value("connections_total"), 0)


class ValuesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ledger, self.time = ledger_and_time()

    def test_a_session_counts_while_it_lives(self) -> None:
        session = self.ledger.open()
        seen = scrape(self.ledger)
        self.assertEqual(seen.value("connections_total"), 1)
        self.assertEqual(seen.value("connections_active"), 1)
        self.assertEqual(seen.value("protocol_connections_active", protocol="undetected"), 1)
        session.detected(Kind.WHATSAPP)
        session.sent, session.received = 7, 5
        seen = scrape(self.ledger)
        self.assertEqual(seen.value("bytes_sent_total"), 7)
        self.assertEqual(seen.value("bytes_received_total"), 5)
        self.assertEqual(seen.value("protocol_connections", protocol="whatsapp"), 1)
        self.assertEqual(seen.value("protocol_connections_active", protocol="whatsapp"), 1)
        self.assertEqual(seen.value("protocol_connections_active", protocol="undetected"), 0)
        session.close(Reason.UPSTREAM_RESET)
        seen = scrape(self.ledger)
        self.assertEqual(seen.value("connections_total"), 1)
        self.assertEqual(seen.value("connections_active"), 0)
        self.assertEqual(seen.value("bytes_sent_total"), 7)
        self.assertEqual(seen.value("bytes_received_total"), 5)
        self.assertEqual(seen.value("errors_total"), 1)
        self.assertEqual(seen.value("protocol_connections", protocol="whatsapp"), 1)
        self.assertEqual(seen.value("protocol_connections_active", protocol="whatsapp"), 0)
        self.assertEqual(seen.value("connections_ended_total", reason="upstream_reset"), 1)

    def test_rejected_and_undetected(self) -> None:
        self.ledger.reject(Reason.REJECTED)
        self.ledger.open().close(Reason.NO_DATA)
        seen = scrape(self.ledger)
        self.assertEqual(seen.value("connections_total"), 2)
        self.assertEqual(seen.value("protocol_connections", protocol="rejected"), 1)
        self.assertEqual(seen.value("protocol_connections", protocol="undetected"), 1)

    def test_pauses(self) -> None:
        for paused, pauses in ((False, 0), (True, 3), (False, 3)):
            self.ledger.accept_paused, self.ledger.accept_pauses = paused, pauses
            seen = scrape(self.ledger)
            self.assertEqual(seen.value("accept_paused"), paused)
            self.assertEqual(seen.value("accept_pauses_total"), pauses)

    def test_histograms_are_cumulative(self) -> None:
        for seconds in (0.0, 0.25, 0.25, 60.0):
            session = self.ledger.open()
            self.time.seconds = session.started + seconds
            session.detected(Kind.RAW)
            self.ledger.connect_time.observe(seconds / 2)
        seen = scrape(self.ledger)
        buckets = seen.by("sniff_seconds_bucket", "le")
        self.assertEqual(list(buckets), [*map(str, TIME_BUCKETS), "+Inf"])
        self.assertEqual([buckets[le] for le in ("0.001", "0.1", "0.25", "10.0")], [1, 1, 3, 3])
        self.assertEqual(buckets["+Inf"], 4)
        self.assertEqual(seen.value("sniff_seconds_count"), 4)
        self.assertEqual(seen.value("sniff_seconds_sum"), 60.5)
        self.assertEqual(seen.value("upstream_connect_seconds_sum"), 30.25)
        self.assertEqual(seen.by("upstream_connect_seconds_bucket", "le")["0.1"], 1)


#: What may happen to a connection: its kind, if that is known, and its end, if it has come.
_LIVES = st.lists(
    st.just("rejected")
    | st.tuples(st.none() | st.sampled_from(Kind), st.none() | st.sampled_from(Reason)),
    max_size=30,
)


class SumsTests(SynchronousTestCase):
    @given(_LIVES)
    def test_they_add_up(self, lives: list[object]) -> None:
        ledger, _ = ledger_and_time()
        sniffing = active = 0
        for n, life in enumerate(lives):
            if not isinstance(life, tuple):
                ledger.reject(Reason.REJECTED)
                continue
            kind, reason = life
            session = ledger.open()
            session.sent, session.received = n, 2 * n
            if kind is not None:
                session.detected(kind)
            if reason is not None:
                session.close(reason)
            sniffing += kind is None and reason is None
            active += reason is None
        seen = scrape(ledger)
        kinds = seen.by("protocol_connections", "protocol")
        self.assertEqual(seen.value("connections_total"), len(lives))
        self.assertEqual(sum(kinds.values()) + sniffing, len(lives))
        self.assertEqual(seen.value("connections_active"), active)
        live = seen.by("protocol_connections_active", "protocol")
        self.assertEqual(sum(live.values()), active)
        self.assertEqual(live["undetected"], sniffing)
        ends = seen.by("connections_ended_total", "reason")
        self.assertEqual(sum(ends.values()) + active, len(lives))
        errors = sum(ends[reason.value] for reason in Reason if reason.error)
        self.assertEqual(seen.value("errors_total"), errors)
        self.assertEqual(seen.value("bytes_received_total"), 2 * seen.value("bytes_sent_total"))
        ours = {key: value for key, value in seen.samples.items() if key[0].startswith(P)}
        text = text_scrape(ledger).samples
        self.assertEqual(ours, {key: text[key] for key in ours})
