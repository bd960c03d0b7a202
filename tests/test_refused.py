"""Connections that go nowhere: the last word of each kind, and a clean end; too many of them."""

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from tests.builders import python_hello
from tests.flood import Flood
from tests.peers import Peer, settled, until
from tests.support import (
    RAW,
    WHATSAPP,
    XMPP,
    FakeUpstream,
    LoopbackCase,
    log_lines,
    make_settings,
    to_upstream,
)
from whatsproxy.factory import ProxyFactory
from whatsproxy.journal import REMIND
from whatsproxy.lingering import DROP_LIMIT, LINGER
from whatsproxy.reason import Reason

ALERT = b"\x15\x03\x03\x00\x02\x02\x70"
#: What is refused with a last word: TLS to a name that is not allowed.
REFUSED = python_hello("example.com")


class RefusedCase(LoopbackCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.upstream = FakeUpstream()
        settings = make_settings(upstream={"raw": None, "xmpp": None})
        self.proxy = self.start_proxy(settings, clock=self.clock, upstream=self.upstream)

    async def last_word(self, first: bytes) -> bytes:
        """Return what a client is told before it is let go, in order."""
        client = await self.client(first)
        await client.ended()
        self.assertFalse(client.lost, "reset instead of FIN")
        client.end()
        self.assertTrue((await client.gone()).check(ConnectionDone))
        await until(lambda: not self.proxy.ledger.live)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.upstream.asked, [])
        return bytes(client.received)


class LastWordTests(RefusedCase):
    async def test_tls(self) -> None:
        """The alert unrecognized_name, exactly: for names that are not allowed, and for none."""
        for name in ("example.com", "whatsapp.com.example.com", None):
            self.assertEqual(await self.last_word(python_hello(name)), ALERT)
        await self.ended_with(*[Reason.REFUSED_NAME] * 3)

    async def test_raw_and_xmpp(self) -> None:
        """Turned off: not a word."""
        self.assertEqual(await self.last_word(RAW), b"")
        self.assertEqual(await self.last_word(XMPP), b"")
        await self.ended_with(Reason.REFUSED_KIND, Reason.REFUSED_KIND)

    async def test_the_name_is_logged(self) -> None:
        lines = log_lines(self)
        await self.last_word(python_hello("example.com"))
        self.assertIn("connection ended: refused_name protocol=tls", lines[-1])
        self.assertIn("('example.com')", lines[-1])

    async def test_it_arrives_whatever_is_still_sent(self) -> None:
        """A client in the middle of a message gets to read the answer: no reset."""
        client = await self.client(REFUSED + b"x" * (DROP_LIMIT // 4))
        await client.ended()
        client.write(b"x" * (DROP_LIMIT // 2))
        client.end()
        self.assertTrue((await client.gone()).check(ConnectionDone))
        self.assertTrue(client.received == ALERT)
        await self.ended_with(Reason.REFUSED_NAME)

    async def test_it_is_not_drained_for_ever(self) -> None:
        """Who goes on sending has to wait after DROP_LIMIT bytes, and is closed after LINGER."""
        client = await self.client(REFUSED)
        await client.ended()
        self.assertTrue(client.received == ALERT)
        flood = Flood(client, 64 << 20)
        sent = await settled(lambda: flood.sent)
        self.assertLess(sent, 32 << 20)
        self.assertEqual(len(self.proxy.ledger.live), 1)
        self.clock.advance(LINGER)
        await self.ended_with(Reason.REFUSED_NAME)

    async def test_the_client_has_ended_already(self) -> None:
        client = await self.client(REFUSED)
        client.end()
        await client.gone()
        self.assertTrue(client.received == ALERT)
        await self.ended_with(Reason.REFUSED_NAME)


class LingerTests(RefusedCase):
    async def refused(self) -> Peer:
        client = await self.client(REFUSED)
        await client.ended()
        return client

    async def test_a_client_that_stays(self) -> None:
        """It is given LINGER seconds, whatever it sends meanwhile."""
        client = await self.refused()
        for _ in range(4):
            self.clock.advance(LINGER / 4 - 0.01)
            client.write(b"and another thing")
        self.assertEqual(len(self.proxy.ledger.live), 1)
        self.clock.advance(0.05)
        await self.ended_with(Reason.REFUSED_NAME)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_a_client_that_breaks_off(self) -> None:
        client = await self.refused()
        client.reset()
        await self.ended_with(Reason.REFUSED_NAME)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_the_service_aborts(self) -> None:
        """The holder that the service knows still reaches the connection; the reason stays."""
        await self.refused()
        (session,) = self.proxy.ledger.live
        assert session.holder is not None
        session.holder.abort(Reason.SHUTDOWN)
        await self.ended_with(Reason.REFUSED_NAME)


class LevelTests(LoopbackCase):
    async def test_errors_are_warnings(self) -> None:
        """In the log the ordinary end of a connection is info, an error a warning."""
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        upstreams = self.listen()
        self.start_proxy(to_upstream(upstreams.port))
        (await self.client(REFUSED)).end()
        client, upstream, _ = await self.joined(upstreams, WHATSAPP)
        client.end()
        await upstream.ended()
        upstream.end()
        await self.ended_with(Reason.REFUSED_NAME, Reason.CLIENT_CLOSED)
        levels = {e["reason"]: e["log_level"] for e in events if "reason" in e}
        self.assertEqual(levels, {"refused_name": LogLevel.warn, "client_closed": LogLevel.info})


class TooManyTests(LoopbackCase):
    def test_a_line_a_minute(self) -> None:
        """The log tells of rejected connections, but not of each."""
        lines = log_lines(self)
        clock = Clock()
        self.factory = ProxyFactory(clock, make_settings(server={"max_connections": 1}))
        sniffer = self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
        for _ in range(50):
            self.assertIsNone(self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1)))
        self.assertEqual(len(lines), 1)
        self.assertIn("connections rejected: rejected: more connections than server.max_", lines[0])
        self.assertTrue(lines[0].endswith(": 1 so far"), lines[0])
        clock.advance(REMIND)
        self.assertIsNone(self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1)))
        self.assertTrue(lines[-1].endswith(": 51 so far"), lines[-1])
        self.assertEqual(len(lines), 2)
        sniffer.session.close(Reason.NO_DATA)

    async def test_max_connections(self) -> None:
        """One more is closed at once and counted; those inside notice nothing; then one fits."""
        upstreams = self.listen()
        proxy = self.start_proxy(to_upstream(upstreams.port, server={"max_connections": 3}))
        inside = [await self.joined(upstreams, WHATSAPP) for _ in range(3)]
        for count in range(1, 4):
            outside = await self.client()
            await outside.ended()
            self.assertEqual(outside.received, b"")
            self.assertEqual((proxy.ledger.rejected, len(proxy.ledger.live)), (count, 3))
        self.assertEqual(proxy.ledger.accepted, 6)
        self.assertEqual(proxy.ledger.errors, 3)
        self.assertEqual(proxy.ledger.ends[Reason.REJECTED], 3)
        for client, upstream, _ in inside:
            client.write(b"still")
            upstream.write(b"here")
            await upstream.got(WHATSAPP + b"still")
            await client.got(b"here")
        client, upstream, _ = inside[0]
        client.end()
        upstream.end()
        await until(lambda: len(proxy.ledger.live) == 2)
        await self.joined(upstreams, WHATSAPP)
