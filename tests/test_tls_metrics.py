"""What is counted of TLS, in the words of Prometheus, and in the log."""

import itertools
from typing import Any

from prometheus_client.openmetrics import exposition, parser
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import ledger_and_time, python_hello
from tests.http_peers import TurningClock
from tests.peers import until
from tests.support import RAW, WHATSAPP, XMPP, log_lines
from tests.test_metrics import Scrape, scrape_of
from tests.tls_peers import CA, OURS, TLS12, TLS13, client_context
from tests.tls_support import TlsCase, files_of, own_certificate
from whatsproxy.metrics import PREFIX, registry_of
from whatsproxy.protocols.refused import UNRECOGNIZED_NAME
from whatsproxy.reason import Reason
from whatsproxy.reload import Reloader
from whatsproxy.session import TIME_BUCKETS
from whatsproxy.sniff import Kind
from whatsproxy.verifier import Verifier

HANDSHAKES = "tls_handshakes_total"


def read(ledger: Any, identities: Any = tuple) -> Scrape:
    """Scrape as OpenMetrics, by the strict parser."""
    text = exposition.generate_latest(registry_of(ledger, identities)).decode()
    return scrape_of(list(parser.text_string_to_metric_families(text)))


def handshakes(shown: Scrape, result: str, version: str, resumed: str) -> float:
    return shown.value(HANDSHAKES, result=result, resumed=resumed, version=version)


class ShownTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ledger, self.time = ledger_and_time()

    def test_types(self) -> None:
        types = read(self.ledger).types
        self.ledger.handshake("failed")
        types |= read(self.ledger).types
        for name, type in {
            HANDSHAKES: "counter",
            "tls_inner_connections_total": "counter",
            "tls_handshake_seconds_count": "histogram",
            "reloads_total": "counter",
        }.items():
            self.assertEqual(types[PREFIX + name], type)

    def test_from_the_beginning(self) -> None:
        """What can be known before is there, at nought: a rate needs a beginning."""
        shown = read(self.ledger)
        self.assertEqual(
            shown.by("tls_inner_connections_total", "protocol"),
            {kind.value: 0.0 for kind in Kind},
        )
        self.assertEqual(shown.by("reloads_total", "result"), {"ok": 0.0, "failed": 0.0})
        self.assertEqual(shown.by("logins_total", "result"), {"ok": 0, "failed": 0, "busy": 0})
        self.assertEqual(shown.value("tls_handshake_seconds_count"), 0)

    def test_handshakes(self) -> None:
        self.ledger.handshake("ok", "TLSv1.3", True)
        self.ledger.handshake("ok", "TLSv1.3", True)
        self.ledger.handshake("ok", "TLSv1.2")
        self.ledger.handshake("late")
        shown = read(self.ledger)
        for result, version, resumed, count in (
            ("ok", "TLSv1.3", "yes", 2),
            ("ok", "TLSv1.2", "no", 1),
            ("late", "none", "no", 1),
        ):
            self.assertEqual(handshakes(shown, result, version, resumed), count)

    def test_seconds(self) -> None:
        for seconds in (0.0005, 0.3, 20.0):
            self.ledger.handshake_time.observe(seconds)
        shown = read(self.ledger)
        self.assertEqual(shown.value("tls_handshake_seconds_count"), 3)
        self.assertAlmostEqual(shown.value("tls_handshake_seconds_sum"), 20.3005)
        self.assertEqual(shown.value("tls_handshake_seconds_bucket", le=str(TIME_BUCKETS[0])), 1)
        self.assertEqual(shown.value("tls_handshake_seconds_bucket", le="0.5"), 2)
        self.assertEqual(shown.value("tls_handshake_seconds_bucket", le="+Inf"), 3)

    def test_reloads(self) -> None:
        """Whatever is read anew is there from the beginning; a Reloader knows what that is."""
        reloader = Reloader(Clock(), [Verifier(Clock(), "users", self.ledger)], self.ledger)
        reloader.startService()
        reloader.stopService()
        self.ledger.reloads["certificates", "failed"] += 1
        shown = read(self.ledger)
        for what, result in itertools.product(("certificates", "users"), ("ok", "failed")):
            value = shown.value("reloads_total", result=result, what=what)
            self.assertEqual(value, (what, result) == ("certificates", "failed"))


class CountedTests(TlsCase):
    def shown(self) -> Scrape:
        assert self.factory is not None
        return read(self.factory.ledger, lambda: self.factory.tls.identities)

    async def talk(self, first: bytes, **more: Any) -> Any:
        """Connect, say something, and leave; return the session of TLS."""
        client, upstream = await self.joined_tls(first, **more)
        upstream.write(b"welcome")
        await client.got(b"welcome")
        client.close()
        await upstream.ended()
        upstream.close()
        return client.tls.get_session()

    async def test_found_inside(self) -> None:
        """By kind, once each; on the wire they are all TLS."""
        self.start()
        for first in (WHATSAPP, WHATSAPP, XMPP, RAW):
            await self.talk(first)
        page = await self.secured(b"GET / HTTP/1.1\r\nHost: x.test\r\n\r\n")
        await until(lambda: page.received)
        page.close()
        await until(lambda: not self.factory.ledger.live)
        shown = self.shown()
        self.assertEqual(
            {k: n for k, n in shown.by("tls_inner_connections_total", "protocol").items() if n},
            {"whatsapp": 2, "xmpp": 1, "raw": 1, "http": 1},
        )
        wire = shown.by("protocol_connections", "protocol")
        self.assertEqual({k: n for k, n in wire.items() if n}, {"tls": 5})
        self.assertEqual(shown.value("connections_total"), 5)

    async def test_versions_and_resumption(self) -> None:
        self.start()
        for version in (TLS12, TLS13):
            context = client_context(newest=version)
            session = await self.talk(WHATSAPP, context=context)
            await self.talk(WHATSAPP, context=context, session=session)
        await until(lambda: not self.factory.ledger.live)
        shown = self.shown()
        for version in ("TLSv1.2", "TLSv1.3"):
            for resumed in ("no", "yes"):
                self.assertEqual(handshakes(shown, "ok", version, resumed), 1)
        self.assertEqual(shown.value("tls_handshake_seconds_count"), 4)

    async def test_the_time_of_a_handshake(self) -> None:
        """From the ClientHello on: not from accept, when nothing was said yet."""
        clock = TurningClock()
        self.start(clock=clock)
        client = await self.client()
        await until(lambda: self.factory.ledger.live)
        clock.advance(3.0)
        client.reset()
        await until(lambda: not self.factory.ledger.live)
        await self.talk(WHATSAPP)
        await until(lambda: not self.factory.ledger.live)
        self.assertEqual(self.shown().value("tls_handshake_seconds_sum"), 0)
        self.assertEqual(self.shown().value("tls_handshake_seconds_count"), 1)

    async def test_refused_names(self) -> None:
        """Counted, without a label that a stranger controls; the name is in the log alone."""
        lines = log_lines(self)
        self.start(server={"names": (OURS,)})
        for name in ("a-strangers-name.test", "another-one.test"):
            client = await self.client(python_hello(name))
            await client.got(UNRECOGNIZED_NAME)
            client.close()
        await self.ended_with(*[Reason.REFUSED_NAME] * 2)
        shown = self.shown()
        self.assertEqual(shown.by("connections_ended_total", "reason")["refused_name"], 2)
        self.assertEqual(shown.value("connections_ended_total", reason="refused_name"), 2)
        self.assertNotIn("stranger", str(shown.samples))
        self.assertIn("a-strangers-name.test", "".join(lines))
        self.assertEqual([key for key in shown.samples if key[0] == PREFIX + HANDSHAKES], [])

    async def test_in_the_log(self) -> None:
        lines = log_lines(self)
        self.start()
        await self.talk(WHATSAPP)
        await until(lambda: not self.factory.ledger.live)
        (line,) = [line for line in lines if "connection ended" in line]
        self.assertIn("client_closed protocol=tls/whatsapp to=127.0.0.1:", line)
        self.assertIn(f" received={len(WHATSAPP)} sent=7", line)

    async def test_expiry(self) -> None:
        """A certificate a label; anew when it is reloaded."""
        files = [files_of(own_certificate()), files_of(CA.issue_cert("second.test"))]
        factory = self.start(tls={"certificate": tuple(files)})
        name = "certificate_expiry_timestamp_seconds"
        self.assertEqual(
            self.shown().by(name, "certificate"),
            {i.label: i.expires.timestamp() for i in factory.tls.identities},
        )
        self.assertEqual(
            [i.label for i in factory.tls.identities], [each.cert_file for each in files]
        )
