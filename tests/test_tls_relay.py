"""The relay with TLS at one side or both: bytes, backpressure, and ends that are told apart."""

from typing import Any

from twisted.internet.error import ConnectionDone

from tests.flood import Flood, buffered, fill, slow_down
from tests.http_peers import TurningClock
from tests.peers import settled, turn, until
from tests.support import RAW, WHATSAPP
from tests.tls_peers import TLS12, TLS13, TlsFlood, TlsPeer
from tests.tls_support import TlsCase
from whatsproxy import relay as relay_module
from whatsproxy.reason import Reason
from whatsproxy.relay import Relay

MIB = 1 << 20


class RelayCase(TlsCase):
    """The client's side is TLS, the upstream's is not."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = TurningClock()
        self.proxy = self.start(clock=self.clock, timeouts={"idle": 100.0, "chat_idle": 1000.0})

    async def joined(self, first: bytes = WHATSAPP, **more: Any) -> tuple[TlsPeer, Any, Relay]:
        client, upstream = await self.joined_tls(first, **more)
        await until(lambda: any(isinstance(s.holder, Relay) for s in self.proxy.ledger.live))
        return client, upstream, self.relay_of(client)

    async def pass_time(self, seconds: int) -> None:
        """Let time pass, so that everything that is due gets its turn."""
        for _ in range(0, seconds, 2):
            self.clock.advance(2)
            await turn()

    def below(self, relay: Relay) -> Any:
        """Return the TCP below a relay's client; on the hub TLS is on it itself."""
        transport = relay._client.transport
        return getattr(transport, "transport", transport)


class BytesTests(RelayCase):
    async def test_large_transfers(self) -> None:
        """Both ways at once, each byte right, then an end in good order."""
        for version in (TLS12, TLS13):
            client, upstream, _ = await self.joined(newest=version)
            slow = slow_down(upstream)
            slow.go_on()
            client.count_pattern()
            TlsFlood(client, 8 * MIB)
            Flood(upstream, 8 * MIB)
            await slow.counted(8 * MIB)
            await client.counted(8 * MIB)
            await client.told()
            client.close()
            await slow.ended()
            slow.close()
            await until(lambda: not self.proxy.ledger.live)
        size = 8 * MIB
        self.assertEqual(self.proxy.ledger.received, 2 * (size + len(WHATSAPP)))
        self.assertEqual(self.proxy.ledger.sent, 2 * size)
        await self.ended_with(*[Reason.UPSTREAM_CLOSED] * 2)

    async def test_a_stalled_client(self) -> None:
        """The upstream has to wait; when the client reads on, nothing is missing."""
        client, upstream, relay = await self.joined()
        client.count_pattern()
        client.transport.pauseProducing()
        Flood(upstream, 24 * MIB)
        sent = await settled(lambda: relay.session.sent, 200)
        self.assertLess(sent, 16 * MIB)
        self.assertLess(buffered(self.below(relay)), MIB)
        client.transport.resumeProducing()
        await client.counted(24 * MIB)
        await client.told()

    async def test_a_stalled_upstream(self) -> None:
        client, upstream, relay = await self.joined()
        slow = slow_down(upstream)
        flood = TlsFlood(client, 24 * MIB, close=True)
        await settled(lambda: flood.sent, 200)
        self.assertLess(flood.sent, 24 * MIB)
        self.assertLess(buffered(relay._upstream.transport), MIB)
        slow.go_on()
        await slow.counted(24 * MIB)
        await slow.ended()
        slow.close()
        await self.ended_with(Reason.CLIENT_CLOSED)

    async def test_small_records(self) -> None:
        client, upstream, _ = await self.joined()
        for number in range(500):
            client.write(b"%d," % number)
            upstream.write(b"%d;" % number)
            await turn()
        await upstream.got(WHATSAPP + b"".join(b"%d," % n for n in range(500)))
        await client.got(b"".join(b"%d;" % n for n in range(500)))


class OrderlyTests(RelayCase):
    async def test_the_client_says_goodbye(self) -> None:
        """Its close_notify alone, or with FIN, ends the upstream in good order, and is answered."""
        for leave in (TlsPeer.notify, TlsPeer.close):
            client, upstream, _ = await self.joined()
            client.write(b"last words")
            leave(client)
            await upstream.ended()
            self.assertFalse(upstream.lost)
            self.assertEqual(upstream.received, WHATSAPP + b"last words")
            upstream.close()
            if leave is TlsPeer.notify:
                await client.told()
                await client.ended()
                client.close()
            self.assertTrue((await client.gone()).check(ConnectionDone))
            await until(lambda: not self.proxy.ledger.live)
        await self.ended_with(*[Reason.CLIENT_CLOSED] * 2)

    async def test_goodbye_and_reset(self) -> None:
        """As a kernel ends who has not read all (tickets will do): it has said goodbye before."""
        for _ in range(5):
            client, upstream, _ = await self.joined()
            client.write(b"last words")
            client.notify()
            await until(lambda c=client: not buffered(c.transport))
            client.reset()
            await upstream.ended()
            self.assertFalse(upstream.lost)
            self.assertEqual(upstream.received, WHATSAPP + b"last words")
            upstream.close()
            await until(lambda: not self.proxy.ledger.live)
        await self.ended_with(*[Reason.CLIENT_CLOSED] * 5)

    async def test_goodbye_behind_a_full_buffer(self) -> None:
        """A stalled upstream still gets all of it, and then FIN."""
        client, upstream, relay = await self.joined()
        slow, through = slow_down(upstream), relay._upstream.transport
        sent = await fill(client, through, lambda: relay.session.received - len(WHATSAPP))
        client.close()
        await client.gone()
        self.assertGreater(buffered(through), 0)
        slow.go_on()
        await slow.counted(sent)
        await slow.ended()
        self.assertFalse(slow.lost)
        slow.close()
        await self.ended_with(Reason.CLIENT_CLOSED)

    async def test_the_upstream_ends(self) -> None:
        """Its FIN becomes close_notify, behind all that it has sent."""
        for version in (TLS12, TLS13):
            client, upstream, _ = await self.joined(newest=version)
            upstream.write(b"z" * MIB)
            upstream.end()
            await client.told()
            self.assertEqual(client.received, b"z" * MIB)
            client.close()
            await upstream.ended()
            await until(lambda: not self.proxy.ledger.live)
        await self.ended_with(*[Reason.UPSTREAM_CLOSED] * 2)

    async def test_the_upstream_ends_behind_a_full_buffer(self) -> None:
        client, upstream, relay = await self.joined()
        client.count_pattern()
        client.transport.pauseProducing()
        sent = await fill(upstream, self.below(relay), lambda: relay.session.sent)
        upstream.end()
        await until(lambda: relay._upstream.eof)
        self.assertGreater(buffered(self.below(relay)), 0)
        client.transport.resumeProducing()
        await client.told()
        await client.counted(sent)
        client.close()
        await self.ended_with(Reason.UPSTREAM_CLOSED)

    async def test_the_client_goes_on_after_that(self) -> None:
        """It may still send; it need not answer the close_notify when it goes."""
        client, upstream, _ = await self.joined()
        upstream.end()
        await client.told()
        client.write(b"still heard")
        await upstream.got(WHATSAPP + b"still heard")
        client.end()
        await upstream.ended()
        self.assertFalse(upstream.lost and not upstream.lost.check(ConnectionDone))
        await self.ended_with(Reason.UPSTREAM_CLOSED)

    async def test_a_client_that_stays(self) -> None:
        """Nothing is left of a client that takes no notice of the end."""
        client, upstream, _ = await self.joined()
        upstream.end()
        await client.told()
        await self.pass_time(120)
        await until(lambda: self.a_moment_passes() and not self.proxy.ledger.live)
        await self.ended_with(Reason.IDLE)

    async def test_idle(self) -> None:
        """Nobody has said that it is all."""
        client, upstream, _ = await self.joined()
        await self.pass_time(990)
        self.assertFalse(client.notified or upstream.eof)
        await self.pass_time(20)
        await until(lambda: self.a_moment_passes() and upstream.lost and client.lost)
        await client.truncated()
        await self.ended_with(Reason.IDLE)


class TruncatedTests(RelayCase):
    async def test_the_client_breaks_off(self) -> None:
        """FIN or RST without close_notify: not the end of what it had to say."""
        for leave in (TlsPeer.end, TlsPeer.reset):
            for version in (TLS12, TLS13):
                client, upstream, _ = await self.joined(newest=version)
                client.write(b"half a mess")
                await upstream.got(WHATSAPP + b"half a mess")
                leave(client)
                failure = await upstream.gone()
                self.assertFalse(failure.check(ConnectionDone))
                self.assertFalse(upstream.eof)
                await until(lambda: not self.proxy.ledger.live)
        await self.ended_with(*[Reason.CLIENT_RESET] * 4)

    async def test_garbage(self) -> None:
        """What is no record breaks it off as well."""
        client, upstream, _ = await self.joined()
        client.transport.write(RAW * 100)
        self.assertFalse((await upstream.gone()).check(ConnectionDone))
        await until(lambda: client.error or client.lost)
        await client.truncated()
        await until(lambda: not self.proxy.ledger.live)
        self.assertEqual(self.proxy.ledger.errors, 1)

    async def test_the_upstream_breaks_off(self) -> None:
        client, upstream, relay = await self.joined()
        upstream.write(b"half a mess")
        await client.got(b"half a mess")
        upstream.reset()
        await until(lambda: relay._upstream.gone)
        await until(lambda: self.a_moment_passes() and client.lost)
        await client.truncated()
        await self.ended_with(Reason.UPSTREAM_RESET)

    async def test_a_bug(self) -> None:
        """Of ours: neither side takes it for an end."""

        def explode(_: object, data: bytes) -> None:
            raise RuntimeError("a bug")

        for side in (relay_module._ClientEnd, relay_module._UpstreamEnd):
            client, upstream, _ = await self.joined()
            patched = self.patch(side, "dataReceived", explode)
            (client if side is relay_module._ClientEnd else upstream).write(b"boom")
            await until(lambda: self.a_moment_passes() and not self.proxy.ledger.live)
            await client.truncated()
            await upstream.ended()
            patched.restore()
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        await self.ended_with(*[Reason.INTERNAL] * 2)

    async def test_a_stalled_client_breaks_off(self) -> None:
        client, upstream, relay = await self.joined()
        client.transport.pauseProducing()
        Flood(upstream, 24 * MIB)
        await settled(lambda: relay.session.sent, 100)
        client.reset()
        self.assertFalse((await upstream.gone()).check(ConnectionDone))
        await self.ended_with(Reason.CLIENT_RESET)
