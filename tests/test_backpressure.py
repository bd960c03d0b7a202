"""Memory: a reader that stalls holds its sender back, whatever that one would send."""

from tests.flood import Flood, buffered, slow_down
from tests.peers import settled, until
from tests.support import RAW, LoopbackCase, to_upstream
from whatsproxy.splice import PIPE_SIZE

MIB = 1 << 20
#: What a pipe holds, which is more than a transport's limit for its buffer and one read on top.
BUFFER_LIMIT = PIPE_SIZE + 64 * 1024
#: What the kernel may hold of one connection, on both of its ends.
KERNEL = 24 * MIB


class BackpressureTests(LoopbackCase):
    async def check(self, size: int, *, to_client: bool) -> None:
        upstreams = self.listen()
        proxy = self.start_proxy(to_upstream(upstreams.port))
        client, upstream, relay = await self.joined(upstreams)
        sender, reader = (upstream, client) if to_client else (client, upstream)
        end = relay._client if to_client else relay._upstream
        slow = slow_down(reader)
        flood = Flood(sender, size)

        def moved() -> int:
            return relay.session.sent if to_client else relay.session.received - len(RAW)

        await until(lambda: end.transport.producerPaused)
        taken = await settled(moved)
        self.assertLessEqual(buffered(end.transport), BUFFER_LIMIT)
        self.assertGreater(buffered(end.transport), 0)
        self.assertLess(taken, KERNEL)
        self.assertLess(flood.sent, 2 * KERNEL)
        self.assertLess(flood.sent, size)
        most = 0

        def watch() -> None:
            nonlocal most
            most = max(most, buffered(end.transport))

        slow.watch = watch
        slow.go_on()
        await slow.counted(size)
        await slow.ended()
        self.assertEqual(moved(), size)
        self.assertLessEqual(most, BUFFER_LIMIT)
        slow.close()
        await until(lambda: not proxy.ledger.live)

    async def test_a_stalled_upstream(self) -> None:
        """200 MiB against a reader that stalls: nothing piles up, and later all of it arrives."""
        await self.check(200 * MIB, to_client=False)

    async def test_a_stalled_client(self) -> None:
        await self.check(64 * MIB, to_client=True)

    async def test_the_other_direction_goes_on(self) -> None:
        """A reader that has stalled can still be heard."""
        upstreams = self.listen()
        self.start_proxy(to_upstream(upstreams.port))
        client, upstream, relay = await self.joined(upstreams)
        slow = slow_down(upstream)
        Flood(client, 64 * MIB)
        await until(lambda: relay._upstream.transport.producerPaused)
        for part in (b"one", b"two" * MIB):
            client.received.clear()
            slow.write(part)
            await client.got(part)
        self.assertTrue(relay._upstream.transport.producerPaused)
