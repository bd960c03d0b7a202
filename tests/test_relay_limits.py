"""The relay's limits: idle times, and how long a close may take."""

from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock

from tests.flood import Flood, fill, slow_down
from tests.peers import Peer, settled, turn, until
from tests.support import RAW, WHATSAPP, XMPP, LoopbackCase, to_upstream
from whatsproxy.idle_watch import IdleWatch
from whatsproxy.lingering import LINGER
from whatsproxy.reason import Reason
from whatsproxy.relay import Relay

MIB = 1 << 20


class ClockCase(LoopbackCase):
    """Real connections, and a clock of the test's own; the limits are the defaults."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.upstreams = self.listen()
        settings = to_upstream(self.upstreams.port)
        self.proxy = self.start_proxy(settings, clock=self.clock)

    def pass_time(self, seconds: float) -> None:
        """Let seconds pass, one at a time."""
        self.clock.pump([1.0] * int(seconds))

    async def assertOpen(self, client: Peer) -> None:
        for _ in range(10):
            await turn()
        self.assertFalse(client.eof or client.lost)
        self.assertTrue(self.proxy.ledger.live)

    async def assertIdle(self, client: Peer) -> None:
        """The relay has ended it, once."""
        await client.ended()
        await self.ended_with(Reason.IDLE)


class IdleTests(ClockCase):
    async def check(self, first: bytes, limit: float) -> None:
        client, _, _ = await self.joined(self.upstreams, first)
        self.pass_time(limit)
        await self.assertOpen(client)
        self.pass_time(10)  # two ticks
        await self.assertIdle(client)

    async def test_raw(self) -> None:
        await self.check(RAW, 300)

    async def test_chat(self) -> None:
        """A silent chat lives as long as timeouts.chat_idle."""
        await self.check(WHATSAPP, 3600)

    async def test_xmpp(self) -> None:
        await self.check(XMPP, 3600)

    async def test_any_byte_counts(self) -> None:
        """In either direction."""
        client, upstream, _ = await self.joined(self.upstreams)
        for number in range(1, 6):
            self.pass_time(200)
            await self.assertOpen(client)
            if number % 2:
                client.write(b"c")
                await until(lambda n=number: len(upstream.received) > len(RAW) + n // 2)
            else:
                upstream.write(b"u")
                await client.got(b"u" * (number // 2))
        self.pass_time(310)
        await self.assertIdle(client)

    async def test_each_by_itself(self) -> None:
        """One relay's bytes keep no other alive, and one relay's end stops no other's watch."""
        quiet, _, _ = await self.joined(self.upstreams)
        loud, upstream, _ = await self.joined(self.upstreams)
        for number in range(4):
            self.pass_time(100)
            upstream.write(b"u")
            await until(lambda n=number: len(loud.received) > n)
        await quiet.ended()
        await self.assertOpen(loud)
        self.pass_time(310)
        await loud.ended()
        await self.ended_with(Reason.IDLE, Reason.IDLE)

    async def test_half_closed_chat(self) -> None:
        """Once one side is done, a silence is no chat's any more: timeouts.idle, from then on."""
        client, upstream, _ = await self.joined(self.upstreams, WHATSAPP)
        self.pass_time(2000)
        client.end()
        await upstream.ended()
        self.pass_time(300)
        await self.assertOpen(client)
        self.pass_time(10)
        await client.gone()
        await until(lambda: not self.proxy.ledger.live)
        self.assertEqual(sum(self.proxy.ledger.ends.values()), 1)

    async def test_nothing_is_scheduled_without_relays(self) -> None:
        client, upstream, _ = await self.joined(self.upstreams)
        # The other one is the ceiling's.
        self.assertEqual(len(self.proxy.clock.getDelayedCalls()), 2)
        client.close()
        await upstream.ended()
        upstream.close()
        await self.ended_with(Reason.CLIENT_CLOSED)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_watch_looks_often_enough(self) -> None:
        """Its tick follows short limits."""
        for sections, tick in (
            ({}, 5.0),
            ({"timeouts": {"idle": 1.0}}, 0.1),
            ({"timeouts": {"chat_idle": 20.0}}, 2.0),
        ):
            self.start_proxy(to_upstream(1, **sections), clock=self.clock)
            self.assertAlmostEqual(self.watch()._tick, tick)

    def watch(self) -> IdleWatch:
        assert self.factory is not None
        return self.factory.idle_watch


class CloseTests(ClockCase):
    async def stalled(self) -> tuple[Peer, Any, Relay]:
        """Join a client with an upstream that does not read; the proxy holds bytes for it."""
        client, upstream, relay = await self.joined(self.upstreams)
        slow = slow_down(upstream)
        through = relay._upstream.transport
        await fill(
            client,
            through,
            lambda: relay.session.received - len(RAW),
            nudge=lambda: slow.write(b"."),
        )
        return client, slow, relay

    async def assertAborted(self, reason: Reason, limit: float = LINGER, late: float = 0.0) -> None:
        """Nothing happens for so many seconds; then the stalled side is cut, or a bit later."""
        self.pass_time(limit - 1)
        for _ in range(10):
            await turn()
        self.assertEqual(len(self.proxy.ledger.live), 1)
        self.pass_time(1 + late)
        for _ in range(10):
            await turn()
        self.assertEqual(len(self.proxy.ledger.live), 0)  # now, not when the kernel takes more
        await self.ended_with(reason)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_close(self) -> None:
        _, _, relay = await self.stalled()
        relay.expire()
        await self.assertAborted(Reason.IDLE)

    async def test_close_delivers(self) -> None:
        """A reader that goes on in time gets all of it."""
        _, slow, relay = await self.stalled()
        size = relay.session.received - len(RAW)
        relay.expire()
        slow.go_on()
        await slow.counted(size)
        # Time goes on until both sides are gone: each is looked after for itself.
        await until(lambda: self.a_moment_passes() and slow.lost and not self.proxy.ledger.live)
        self.assertFalse(slow.eof)  # nobody has said that it is all
        await self.ended_with(Reason.IDLE)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_the_sender_is_gone(self) -> None:
        """What it left is kept for as long as an idle connection is, and no longer."""
        client, _, relay = await self.stalled()
        client.reset()
        await until(lambda: relay._client.gone)
        await self.assertAborted(Reason.CLIENT_RESET, 300)

    async def test_the_sender_has_ended_and_is_gone(self) -> None:
        """An orderly end, followed by a reset, is none."""
        client, slow, relay = await self.stalled()
        client.end()
        await until(lambda: relay._client.eof)
        client.reset()
        await until(lambda: slow.write(b"is anybody there?") or relay._client.gone)
        await self.assertAborted(Reason.CLIENT_RESET, 300)

    async def test_both_have_ended(self) -> None:
        """The same where nothing is to come any more, but something is still to be read."""
        client, slow, relay = await self.stalled()
        client.end()
        slow.end()
        await until(lambda: relay._client.eof and relay._upstream.eof)
        await self.assertAborted(Reason.IDLE, 300, 2 * self.proxy.idle_watch._tick)

    async def test_the_reader_breaks_off_a_paused_sender(self) -> None:
        """Its reset is seen only by writing to it; the reader still gets what was in flight."""
        client, upstream, relay = await self.joined(self.upstreams)
        slow = slow_down(upstream)
        Flood(client, 64 * MIB)
        for _ in range(5):  # whatever the kernel can still take, let it take now
            slow.write(b".")
            await settled(lambda: relay.session.received)
        self.assertTrue(relay._upstream.transport.producerPaused)
        client.reset()
        await until(lambda: slow.write(b"is anybody there?") or relay._client.gone)
        slow.go_on()
        await until(lambda: self.a_moment_passes() and slow.lost)
        self.assertFalse(slow.eof)
        await self.ended_with(Reason.CLIENT_RESET)
        self.assertEqual(slow.count, self.proxy.ledger.received - len(RAW))

    async def test_the_survivor_has_ended(self) -> None:
        """Then there is nothing to wait for."""
        client, upstream, _ = await self.joined(self.upstreams)
        upstream.end()
        await client.ended()
        client.reset()
        await until(lambda: not self.proxy.ledger.live)
        await upstream.ended()

    async def test_the_survivor_does_not_end(self) -> None:
        """It hears of the reset by a reset."""
        client, upstream, _ = await self.joined(self.upstreams)
        client.reset()
        await until(lambda: self.a_moment_passes() and upstream.lost)
        self.assertFalse(upstream.eof)
        await self.ended_with(Reason.CLIENT_RESET)

    async def test_idle_and_stalled(self) -> None:
        """A reader that stalls for longer than the idle limit loses its connection."""
        client, _, relay = await self.stalled()
        self.pass_time(300)
        await self.assertOpen(client)
        while not relay._closing:
            self.pass_time(1)
        await until(lambda: client.lost or not self.clock.advance(0.001))
        self.pass_time(LINGER)
        await self.ended_with(Reason.IDLE)

    async def test_abort(self) -> None:
        client, slow, relay = await self.stalled()
        relay.abort(Reason.SHUTDOWN)
        relay.abort(Reason.INTERNAL)  # changes nothing
        await self.ended_with(Reason.SHUTDOWN)
        slow.go_on()
        self.assertTrue((await slow.gone()).check(ConnectionLost))
        self.assertTrue((await client.gone()).check(ConnectionLost))

    async def test_abort_after_close(self) -> None:
        _, _, relay = await self.stalled()
        relay.expire()
        relay.abort(Reason.SHUTDOWN)
        await self.ended_with(Reason.IDLE)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_abort_of_the_survivor(self) -> None:
        """The session's holder can still be told to stop while it says goodbye."""
        client, upstream, relay = await self.joined(self.upstreams)
        client.reset()
        await upstream.ended()
        relay.abort(Reason.SHUTDOWN)
        await self.ended_with(Reason.CLIENT_RESET)
        await until(lambda: upstream.write(b"is anybody there?") or upstream.lost)
