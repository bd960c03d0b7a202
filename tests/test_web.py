from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import ledger_and_time
from tests.support import log_lines
from whatsproxy.metrics import registry_of
from whatsproxy.web import CONNECTIONS, State, negotiate, operator_site

OPENMETRICS = "application/openmetrics-text"
TEXT = "text/plain"
#: What Prometheus 2.x and 3.x send.
PROMETHEUS = [
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
]
#: Each Accept field, and the media type that answers it.
ACCEPTED = {
    "": TEXT,
    "*/*": TEXT,
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": TEXT,
    "text/plain": TEXT,
    "text/*": TEXT,
    "text/plain;version=0.0.4": TEXT,
    OPENMETRICS: OPENMETRICS,
    "Application/OpenMetrics-Text ; Version=1.0.0": OPENMETRICS,
    f"{OPENMETRICS};version=1.0.0;charset=utf-8": OPENMETRICS,
    # The heavier one wins wherever it stands; of equals, the first.
    f"{OPENMETRICS};q=0.5,text/plain;q=0.4": OPENMETRICS,
    f"{OPENMETRICS};q=0.4,text/plain;q=0.5": TEXT,
    f"text/plain;q=0.4,{OPENMETRICS};q=0.5": OPENMETRICS,
    f"text/plain;q=0.5,{OPENMETRICS};q=0.4": TEXT,
    f"text/plain;q=0.5,{OPENMETRICS}": OPENMETRICS,
    f"{OPENMETRICS},text/plain": OPENMETRICS,
    f"text/plain,{OPENMETRICS}": TEXT,
    # What is weighed nothing is not wanted; what cannot be served is passed over.
    f"{OPENMETRICS};q=0": TEXT,
    f"{OPENMETRICS};q=0.000,*/*": TEXT,
    f"{OPENMETRICS};version=0.0.1": TEXT,
    f"{OPENMETRICS};version=2.0.0,text/plain;q=0.1": TEXT,
    f"{OPENMETRICS};version=2.0.0,{OPENMETRICS};version=1.0.0;q=0.2": OPENMETRICS,
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;q=0.7,"
    f"{OPENMETRICS};version=1.0.0;q=0.6,text/plain;q=0.5": OPENMETRICS,
    "application/json": TEXT,
    f"{OPENMETRICS};q=much": TEXT,
    f";,;;q,{OPENMETRICS}": OPENMETRICS,
    **dict.fromkeys(PROMETHEUS, OPENMETRICS),
}


class Answer(NamedTuple):
    """A parsed HTTP answer; the names of its fields are in lower case."""

    status: int
    fields: dict[str, str]
    body: str


class WebTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.ledger, _ = ledger_and_time()
        self.state = State()
        self.site = operator_site(registry_of(self.ledger), self.state, Clock())

    def connect(self) -> tuple[Any, StringTransport]:
        transport = StringTransport()
        protocol = self.site.buildProtocol(None)
        assert protocol is not None
        protocol.makeConnection(transport)
        return protocol, transport

    def ask(self, path: str, method: str = "GET", accept: str | None = None) -> Answer:
        fields = "" if accept is None else f"Accept: {accept}\r\n"
        protocol, transport = self.connect()
        protocol.dataReceived(f"{method} {path} HTTP/1.0\r\n{fields}\r\n".encode("latin-1"))
        self.assertTrue(transport.disconnecting)
        protocol.connectionLost(Failure(ConnectionDone()))
        head, _, body = transport.value().decode().partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return Answer(int(first.split()[1]), {n.lower(): value for n, value in pairs}, body)


class MetricsTests(WebTestCase):
    def test_every_accept_field(self) -> None:
        session = self.ledger.open()
        session.sent = 5
        for accept, expected in ACCEPTED.items():
            answer = self.ask("/metrics", accept=accept)
            media, _, parameters = answer.fields["content-type"].partition(";")
            self.assertEqual((answer.status, media), (200, expected), accept)
            if media == OPENMETRICS:
                self.assertIn("version=1.0.0", parameters)
                families = list(openmetrics_parser.text_string_to_metric_families(answer.body))
            else:
                self.assertIn("version=0.0.4", parameters)
                families = list(text_string_to_metric_families(answer.body))
            values = {s.name: s.value for family in families for s in family.samples}
            self.assertEqual(values["whatsapp_proxy_bytes_sent_total"], 5)

    def test_no_accept_field(self) -> None:
        self.assertIn("text/plain; version=0.0.4", self.ask("/metrics").fields["content-type"])

    def test_no_utf_8(self) -> None:
        self.assertEqual(self.ask("/metrics", accept="\xff\xfe").status, 200)

    def test_reads_anew_each_time(self) -> None:
        for count in (0, 1, 2):
            body = self.ask("/metrics").body
            self.assertIn(f"whatsapp_proxy_connections_total {count}.0\n", body)
            self.ledger.open()

    @given(st.text(max_size=40) | st.text('aq=01.;,*/ "', max_size=40))
    def test_any_accept_field(self, accept: str) -> None:
        self.assertEqual(negotiate(accept), "text/plain; version=0.0.4")


class StateTests(WebTestCase):
    def test_health(self) -> None:
        for why in ("starting", None, "draining"):
            self.state.not_ready = why
            self.assertEqual(self.ask("/health").status, 200)

    def test_ready(self) -> None:
        answer = self.ask("/ready")
        self.assertEqual((answer.status, answer.body), (503, "not ready: starting\n"))
        self.state.not_ready = None
        answer = self.ask("/ready")
        self.assertEqual((answer.status, answer.body), (200, "ready\n"))
        self.state.not_ready = "draining"
        answer = self.ask("/ready")
        self.assertEqual((answer.status, answer.body), (503, "not ready: draining\n"))
        self.assertEqual(answer.fields["content-type"], "text/plain; charset=utf-8")
        self.state.paused = True
        self.assertEqual(self.ask("/ready").body, "not ready: draining\n")
        self.state.not_ready = None
        answer = self.ask("/ready")
        self.assertEqual((answer.status, answer.body), (503, "not ready: out of descriptors\n"))


class SiteTests(WebTestCase):
    def test_unknown_paths(self) -> None:
        for path in ("/", "/x", "/metric", "/Metrics", "/readyz", "//metrics"):
            self.assertEqual(self.ask(path).status, 404, path)

    def test_queries_are_ignored(self) -> None:
        for path in ("/metrics?name=x", "/health?x"):
            self.assertEqual(self.ask(path).status, 200, path)

    def test_head(self) -> None:
        for path, status in (("/metrics", 200), ("/health", 200), ("/ready", 503), ("/x", 404)):
            answer = self.ask(path, "HEAD")
            self.assertEqual((answer.status, answer.body), (status, ""), path)
        fields = self.ask("/health", "HEAD").fields
        self.assertEqual(fields["content-length"], str(len(self.ask("/health").body)))

    def test_head_is_nothing_to_log(self) -> None:
        lines = log_lines(self)
        self.ask("/metrics", "HEAD")
        self.assertEqual(lines, [])

    def test_no_bodies(self) -> None:
        """Nothing is to be sent here: who begins to is cut off, not stored."""
        for field in (b"Content-Length: 99999999999", b"Transfer-Encoding: chunked"):
            protocol, transport = self.connect()
            protocol.dataReceived(b"POST /metrics HTTP/1.1\r\nHost: x\r\n" + field + b"\r\n\r\n")
            self.assertTrue(transport.disconnecting, field)
            protocol.connectionLost(Failure(ConnectionDone()))

    def test_few_connections(self) -> None:
        """They share the descriptors that are kept in reserve."""
        open_ones = [self.connect()[0] for _ in range(CONNECTIONS)]
        self.assertIsNone(self.site.buildProtocol(None))
        for protocol in open_ones:
            protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.ask("/health").status, 200)

    def test_other_methods(self) -> None:
        for method in ("POST", "PUT", "DELETE"):
            for path in ("/metrics", "/health", "/ready"):
                self.assertIn(self.ask(path, method).status, (405, 501), (method, path))

    def test_an_error_shows_no_traceback(self) -> None:
        self.ledger.live = None
        answer = self.ask("/metrics")
        self.assertEqual(answer.status, 500)
        self.assertNotIn("Traceback", answer.body)
        self.assertNotIn("TypeError", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
