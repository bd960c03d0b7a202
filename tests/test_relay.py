"""The relay: bytes, half-closes, resets and errors, on real connections."""

import select
from unittest import SkipTest

from twisted.internet.error import ConnectionDone, ConnectionLost

from tests.flood import Flood, buffered, fill, slow_down
from tests.peers import Peer, reactor, turn, until
from tests.support import FAST, RAW, LoopbackCase, to_upstream
from whatsproxy import relay as relay_module
from whatsproxy.lingering import BreakOff
from whatsproxy.reason import Reason
from whatsproxy.relay import _UpstreamEnd

MIB = 1 << 20


class RelayCase(LoopbackCase):
    def setUp(self) -> None:
        super().setUp()
        self.upstreams = self.listen()
        self.proxy = self.start_proxy(to_upstream(self.upstreams.port))


class BytesTests(RelayCase):
    async def test_both_ways(self) -> None:
        client, upstream, relay = await self.joined(self.upstreams)
        upstream.write(b"hello")
        await client.got(b"hello")
        client.write(b"more")
        await upstream.got(RAW + b"more")
        self.assertEqual((relay.session.received, relay.session.sent), (len(RAW) + 4, 5))
        self.assertEqual((self.proxy.ledger.received, self.proxy.ledger.sent), (len(RAW) + 4, 5))
        client.close()
        await upstream.ended()
        upstream.close()
        await self.ended_with(Reason.CLIENT_CLOSED)
        self.assertEqual((self.proxy.ledger.received, self.proxy.ledger.sent), (len(RAW) + 4, 5))

    async def test_every_byte_value(self) -> None:
        client, upstream, _ = await self.joined(self.upstreams)
        everything = bytes(range(256)) * 1000
        client.write(everything)
        upstream.write(everything[::-1])
        await upstream.got(RAW + everything)
        await client.got(everything[::-1])

    async def test_relays_do_not_mix(self) -> None:
        pairs = [await self.joined(self.upstreams) for _ in range(20)]
        for number, (client, upstream, _) in enumerate(pairs):
            client.write(b"to %d" % number)
            upstream.write(b"from %d" % number)
        for number, (client, upstream, _) in enumerate(pairs):
            await upstream.got(RAW + b"to %d" % number)
            await client.got(b"from %d" % number)


class HalfCloseTests(RelayCase):
    async def test_the_client_ends_first(self) -> None:
        """The other direction goes on for as long as it likes."""
        client, upstream, _ = await self.joined(self.upstreams)
        client.write(b"last")
        client.end()
        await upstream.ended()
        self.assertEqual(upstream.received, RAW + b"last")
        for part in (b"one", b"two", b"three" * 100_000):
            client.received.clear()
            upstream.write(part)
            await client.got(part)
        self.assertFalse(client.eof)
        upstream.end()
        await client.ended()
        await self.ended_with(Reason.CLIENT_CLOSED)
        self.assertTrue((await client.gone()).check(ConnectionDone))
        self.assertTrue((await upstream.gone()).check(ConnectionDone))

    async def test_the_upstream_ends_first(self) -> None:
        client, upstream, _ = await self.joined(self.upstreams)
        upstream.write(b"last")
        upstream.end()
        await client.ended()
        self.assertEqual(client.received, b"last")
        client.write(b"still heard")
        await upstream.got(RAW + b"still heard")
        client.end()
        await upstream.ended()
        await self.ended_with(Reason.UPSTREAM_CLOSED)

    async def test_both_at_once(self) -> None:
        client, upstream, _ = await self.joined(self.upstreams)
        client.end()
        upstream.end()
        await client.gone()
        await upstream.gone()
        await until(lambda: not self.proxy.ledger.live)

    async def test_behind_a_full_buffer(self) -> None:
        """FIN follows the bytes, though the reader that must take them first had stalled."""
        client, upstream, relay = await self.joined(self.upstreams)
        slow, through = slow_down(upstream), relay._upstream.transport
        sent = await fill(client, through, lambda: relay.session.received - len(RAW))
        client.end()
        await until(lambda: relay._client.eof)
        self.assertGreater(buffered(through), 0)
        self.assertFalse(slow.eof)
        slow.go_on()
        await slow.counted(sent)
        await slow.ended()
        slow.write(b"thanks")
        await client.got(b"thanks")

    async def test_behind_a_paused_producer(self) -> None:
        """The same where the sender had been paused before it ended."""
        client, upstream, relay = await self.joined(self.upstreams)
        slow = slow_down(upstream)
        Flood(client, 12 * MIB)
        await until(lambda: relay._upstream.transport.producerPaused)
        self.assertFalse(relay._client.eof)
        slow.go_on()
        await slow.counted(12 * MIB)
        await slow.ended()
        slow.write(b"thanks")
        await client.got(b"thanks")

    async def test_to_a_slow_client(self) -> None:
        """An upstream that sends all it has and leaves does not cut the client short."""
        client, upstream, relay = await self.joined(self.upstreams)
        slow = slow_down(client)
        Flood(upstream, 12 * MIB)
        await until(lambda: relay._client.transport.producerPaused)
        slow.go_on()
        await slow.counted(12 * MIB)
        await slow.ended()
        slow.close()
        await self.ended_with(Reason.UPSTREAM_CLOSED)
        self.assertEqual(self.proxy.ledger.sent, 12 * MIB)


def hung_up(descriptor: int) -> bool:
    """Whether the kernel has seen a reset."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return bool(poll.poll(0))


class ResetTests(RelayCase):
    async def test_the_client_breaks_off(self) -> None:
        client, upstream, _ = await self.joined(self.upstreams)
        client.reset()
        await upstream.ended()
        upstream.close()
        await self.ended_with(Reason.CLIENT_RESET)

    async def test_the_upstream_breaks_off(self) -> None:
        client, upstream, _ = await self.joined(self.upstreams)
        upstream.reset()
        await client.ended()
        client.close()
        await self.ended_with(Reason.UPSTREAM_RESET)

    async def test_an_event_without_input(self) -> None:
        """Twisted takes it for a FIN; in the middle of a reset there is one (EPOLLHUP alone)."""
        if FAST:
            raise SkipTest("the hub believes no event (tests.test_hub)")
        for side in ("_client", "_upstream"):
            client, upstream, relay = await self.joined(self.upstreams)
            end = getattr(relay, side)
            end.transport.stopReading()  # so that the reactor does not see it first
            (client if side == "_client" else upstream).reset()
            await until(lambda t=end.transport: hung_up(t.fileno()))
            end.transport.startReading()
            reactor._doReadOrWrite(end.transport, end.transport.fileno(), select.EPOLLHUP)
            other = upstream if side == "_client" else client
            await until(lambda o=other: o.lost, "the other one was not told")
            self.assertFalse(other.eof)
            await until(lambda: not self.proxy.ledger.live)
        await self.ended_with(Reason.CLIENT_RESET, Reason.UPSTREAM_RESET)

    async def test_in_flight_is_delivered(self) -> None:
        """What the proxy had taken arrives, though its sender is gone and the reader is slow."""
        client, upstream, relay = await self.joined(self.upstreams)
        slow = slow_down(client)
        through = relay._client.transport
        sent = await fill(upstream, through, lambda: relay.session.sent)
        upstream.reset()
        await until(lambda: isinstance(through.protocol, BreakOff))
        self.assertGreater(buffered(through), 0)
        slow.go_on()
        await slow.counted(sent)
        await until(lambda: slow.lost, "the reader was not told that this was not all")
        self.assertFalse(slow.eof)
        await self.ended_with(Reason.UPSTREAM_RESET)

    async def test_a_paused_sender_breaks_off(self) -> None:
        """Nothing is read from it, so its reset is seen late; but it is seen."""
        client, upstream, relay = await self.joined(self.upstreams)
        slow = slow_down(client)
        Flood(upstream, 64 * MIB)
        await until(lambda: relay._client.transport.producerPaused)
        taken = relay.session.sent
        upstream.reset()
        slow.go_on()
        await slow.ended()
        self.assertGreaterEqual(slow.count, taken)
        slow.close()
        await self.ended_with(Reason.UPSTREAM_RESET)

    async def test_after_a_half_close(self) -> None:
        """A client that ends its direction and then breaks off takes the upstream with it."""
        client, upstream, _ = await self.joined(self.upstreams)
        client.end()
        await upstream.ended()
        client.reset()
        self.assertFalse(upstream.lost)
        self.patch(_UpstreamEnd, "linger", 0.05)
        await until(lambda: upstream.write(b"x") or upstream.lost)  # how else could it be told
        await until(lambda: not self.proxy.ledger.live)

    async def test_a_client_that_talks_while_it_reads_the_last(self) -> None:
        """All was sent, and our FIN; then the upstream goes: nothing may destroy what is unread."""
        client, upstream, relay = await self.joined(self.upstreams)
        client.transport.pauseProducing()
        upstream.write(b"z" * 256 * 1024)
        upstream.end()
        await until(lambda: relay._client.ended_ours)
        upstream.reset()
        await until(lambda: client.write(b".") or relay._upstream.gone)
        for _ in range(20):
            client.write(b"thanks")
            await turn()
        client.transport.resumeProducing()
        await client.got(b"z" * 256 * 1024)
        await client.ended()
        self.assertFalse(client.lost)
        client.end()
        await self.ended_with(Reason.UPSTREAM_RESET)

    async def test_the_survivor_goes_on_sending(self) -> None:
        """It has got all that there was, and then a reset, however much it has to say."""
        client, upstream, relay = await self.joined(self.upstreams)
        client.write(b"the last word")
        await until(lambda: relay.session.received == len(RAW + b"the last word"))
        client.reset()
        upstream.write(b"y" * MIB)
        await upstream.got(RAW + b"the last word")
        self.assertTrue((await upstream.gone()).check(ConnectionLost))
        self.assertFalse(upstream.eof)
        await self.ended_with(Reason.CLIENT_RESET)


class ErrorTests(RelayCase):
    async def test_an_exception_ends_that_connection_only(self) -> None:
        """A bug met by one connection is logged, ends both its sides, and touches no other."""
        bystander, bystanders_upstream, _ = await self.joined(self.upstreams)
        for side in (relay_module._ClientEnd, relay_module._UpstreamEnd):
            client, upstream, _ = await self.joined(self.upstreams)

            def explode(_: object, data: bytes) -> None:
                raise RuntimeError("a bug")

            patched = self.patch(side, "dataReceived", explode)
            speaker = client if side is relay_module._ClientEnd else upstream
            listener = upstream if speaker is client else client
            speaker.write(b"boom")
            await speaker.ended()
            await listener.ended()
            listener.close()
            patched.restore()
            await until(lambda: len(self.proxy.ledger.live) == 1)
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.proxy.ledger.ends[Reason.INTERNAL], 2)
        bystander.write(b"well")
        await bystanders_upstream.got(RAW + b"well")


class ReasonTests(RelayCase):
    """What breaks off a connection of which one side is done already is its reason all the same."""

    async def half_closed(self) -> tuple[Peer, Peer, relay_module.Relay]:
        client, upstream, relay = await self.joined(self.upstreams)
        client.end()
        await upstream.ended()
        return client, upstream, relay

    async def test_reset(self) -> None:
        client, upstream, _ = await self.half_closed()
        upstream.reset()
        await client.gone()
        await self.ended_with(Reason.UPSTREAM_RESET)

    async def test_cut(self) -> None:
        _, _, relay = await self.half_closed()
        relay.abort(Reason.SHUTDOWN)
        await self.ended_with(Reason.SHUTDOWN)

    async def test_bug(self) -> None:
        client, upstream, _ = await self.half_closed()

        def explode(_: object, data: bytes) -> None:
            raise RuntimeError("a bug")

        self.patch(relay_module._UpstreamEnd, "dataReceived", explode)
        upstream.write(b"boom")
        await client.gone()
        await until(lambda: not self.proxy.ledger.live)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        await self.ended_with(Reason.INTERNAL)
