"""The sniffer: its limits of time and size, and clients that say nothing, too little or leave."""

from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock

from tests.builders import python_hello
from tests.peers import Peer, until
from tests.support import (
    CONNECT,
    HTTP,
    RAW,
    WHATSAPP,
    XMPP,
    FakeUpstream,
    LoopbackCase,
    make_settings,
)
from whatsproxy.lingering import LINGER
from whatsproxy.protocols.sniffer import Sniffer
from whatsproxy.reason import Reason
from whatsproxy.sniff import SNIFF_LIMIT, Kind

SNIFF = 10.0


class SnifferCase(LoopbackCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.upstream = FakeUpstream()
        settings = make_settings(timeouts={"sniff": SNIFF})
        self.proxy = self.start_proxy(settings, clock=self.clock, upstream=self.upstream)

    async def sniffer(self, size: int = 0) -> Sniffer:
        """Return the only session's sniffer once it has buffered so much."""
        await until(lambda: self.proxy.ledger.live, "no session")
        (session,) = self.proxy.ledger.live
        holder = session.holder
        assert isinstance(holder, Sniffer)
        await until(lambda: len(holder.buffer) >= size, f"not {size} bytes buffered")
        self.assertIs(session.holder, holder)
        return holder


class TimeTests(SnifferCase):
    async def test_silence(self) -> None:
        """A client that sends nothing is told nothing, and let go: no error."""
        client = await self.client()
        await self.sniffer()
        self.clock.advance(SNIFF - 0.1)
        self.assertEqual(len(self.proxy.ledger.live), 1)
        self.clock.advance(0.1)
        await client.ended()
        self.assertEqual(client.received, b"")
        client.close()
        await self.ended_with(Reason.NO_DATA)
        self.assertEqual(self.proxy.ledger.undetected, 1)
        self.assertEqual(self.proxy.ledger.errors, 0)

    async def test_drip_feeding_gains_nothing(self) -> None:
        """The time limit is for the whole of it, not from byte to byte."""
        client = await self.client()
        for size in range(1, 11):
            client.write(b" ")
            await self.sniffer(size)
            self.clock.advance(SNIFF / 10 - 0.001)
        self.assertFalse(client.eof)
        self.clock.advance(0.01)
        await client.ended()
        client.close()
        await self.ended_with(Reason.UNDETECTED)
        self.assertEqual((self.proxy.ledger.undetected, self.proxy.ledger.errors), (1, 1))

    async def test_the_clock_stops_with_the_decision(self) -> None:
        client = await self.client(RAW)
        await until(lambda: self.upstream.asked)
        self.assertEqual(self.proxy.clock.getDelayedCalls(), [self.proxy.ceiling._timer])
        self.clock.advance(SNIFF * 2)
        self.assertFalse(client.eof)

    async def test_time_is_measured(self) -> None:
        client = await self.client(b" ")
        await self.sniffer(1)
        self.clock.advance(2.0)
        client.write(b"<stream:stream>")
        await until(lambda: self.upstream.asked)
        self.assertEqual(self.proxy.ledger.sniff_time.total, 2.0)
        self.assertEqual(sum(self.proxy.ledger.sniff_time.counts), 1)


class SizeTests(SnifferCase):
    async def test_limit(self) -> None:
        """At SNIFF_LIMIT bytes that say nothing it is over at once; at one byte less it is not."""
        client = await self.client(b" " * (SNIFF_LIMIT - 1))
        await self.sniffer(SNIFF_LIMIT - 1)
        client.write(b" ")
        await client.ended()
        client.close()
        await self.ended_with(Reason.UNDETECTED)

    async def test_far_beyond(self) -> None:
        """More than that in one go changes nothing; the rest is drained."""
        client = await self.client(b" " * 4 * SNIFF_LIMIT)
        await client.ended()
        self.assertEqual(client.received, b"")
        client.write(b" " * SNIFF_LIMIT)
        client.end()
        await client.gone()
        await self.ended_with(Reason.UNDETECTED)


class LeavingTests(SnifferCase):
    async def test_ends_without_a_word(self) -> None:
        client = await self.client()
        client.end()
        await client.gone()
        await self.ended_with(Reason.NO_DATA)

    async def test_ends_too_early(self) -> None:
        for count, beginning in enumerate((b"W", b"GET", b"\x16\x03", b"<?xm", b"ED\x00\x01"), 1):
            client = await self.client(beginning)
            await until(lambda n=count: self.proxy.ledger.accepted == n)
            client.end()
            await client.gone()
            await self.ended_with(*[Reason.UNDETECTED] * count)
        self.assertEqual(self.upstream.asked, [])

    async def test_breaks_off(self) -> None:
        client = await self.client(b"W")
        await self.sniffer(1)
        client.reset()
        await self.ended_with(Reason.UNDETECTED)
        client = await self.client()
        await self.sniffer()
        client.reset()
        await self.ended_with(Reason.UNDETECTED, Reason.NO_DATA)

    async def test_speaks_and_ends_at_once(self) -> None:
        """FIN in the same breath as a whole beginning is no reason to give up."""
        client = await self.client(WHATSAPP)
        client.end()
        await until(lambda: self.upstream.asked)
        self.assertFalse(client.eof)
        self.upstream.last.errback(ConnectionRefusedError())
        await client.gone()
        await self.ended_with(Reason.UPSTREAM_REFUSED)

    async def test_abort(self) -> None:
        """The service may end at any time."""
        client = await self.client(b"W")
        (await self.sniffer(1)).abort(Reason.SHUTDOWN)
        await client.gone()
        await self.ended_with(Reason.SHUTDOWN)


class KindTests(SnifferCase):
    async def test_kinds_are_counted_once(self) -> None:
        """By what they are on the wire, whatever becomes of them; in one piece or byte by byte."""
        for first, kind in (
            (WHATSAPP, Kind.WHATSAPP),
            (XMPP, Kind.XMPP),
            (RAW, Kind.RAW),
            (HTTP, Kind.HTTP),
            (CONNECT, Kind.CONNECT),
            (python_hello("media.whatsapp.net"), Kind.TLS),
            (python_hello("example.com"), Kind.TLS),
            (python_hello(None), Kind.TLS),
        ):
            for pieces in ([first], [first[n : n + 1] for n in range(len(first))]):
                before = dict(self.proxy.ledger.kinds)
                client = await self.client()
                for size, piece in enumerate(pieces, 1):
                    client.write(piece)
                    await self.taken(size if len(pieces) > 1 else len(first))
                    if self.proxy.ledger.kinds != before:
                        break
                after = {**before, kind: before[kind] + 1}
                self.assertEqual(self.proxy.ledger.kinds, after)
                self.assertEqual(self.proxy.ledger.undetected, 0)
                await self.leave(client)

    async def taken(self, size: int) -> None:
        """Wait until the sniffer has so many bytes, or is done."""
        await until(lambda: self.proxy.ledger.live)
        (session,) = self.proxy.ledger.live
        holder = session.holder
        await until(
            lambda: session.kind or (isinstance(holder, Sniffer) and len(holder.buffer) >= size)
        )

    async def leave(self, client: Peer) -> None:
        client.reset()
        await until(lambda: not self.proxy.ledger.live)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class LingerTests(SnifferCase):
    async def test_a_client_that_stays(self) -> None:
        """It has been told the end; some seconds later the socket is closed all the same."""
        client = await self.client()
        await self.sniffer()
        self.clock.advance(SNIFF)
        await client.ended()
        await until(self.clock.getDelayedCalls)
        self.clock.advance(LINGER - 0.1)
        self.assertEqual(len(self.proxy.ledger.live), 1)
        self.clock.advance(0.1)
        await self.ended_with(Reason.NO_DATA)
