"""In times of scarcity (see ceiling) nobody keeps much, in whatever stage; afterwards all go on."""

from typing import Any

from tests.http_peers import HttpCase
from tests.peers import settled, turn, until
from tests.support import RAW, FakeUpstream, LoopbackCase, make_settings, to_upstream
from whatsproxy.ceiling import RELIEF, SCARCE, TICK
from whatsproxy.transport import AMPLE

#: One read more may be on its way when the reading stops.
HELD = 2 * SCARCE


class StageTests(LoopbackCase):
    async def test_newcomers(self) -> None:
        """They do not wait for the next look."""
        upstreams = self.listen()
        proxy = self.start_proxy(to_upstream(upstreams.port))
        proxy.ceiling.share = SCARCE
        client = await self.client()
        await until(lambda: proxy.ledger.live)
        (session,) = proxy.ledger.live
        holder: Any = session.holder
        self.assertEqual(holder.transport.bufferSize, SCARCE)
        client.write(RAW)
        await (await upstreams.accepted()).got(RAW)
        relay = self.relay_of(client)
        for end in (relay._client, relay._upstream):
            self.assertEqual(end.transport.bufferSize, SCARCE)

    async def test_early_bytes(self) -> None:
        fake = FakeUpstream()
        proxy = self.start_proxy(make_settings(), upstream=fake)
        proxy.ceiling.share = SCARCE
        client = await self.client(RAW)
        await until(lambda: fake.asked)
        client.write(bytes(AMPLE // 2))
        (session,) = proxy.ledger.live
        tunnel: Any = session.holder
        await until(lambda: not tunnel._reading)
        self.assertLessEqual(await settled(lambda: session.received), HELD)
        self.assertGreater(tunnel.held(), SCARCE)
        tunnel.limit(AMPLE)
        await until(lambda: session.received == len(RAW) + AMPLE // 2)


class HttpTests(HttpCase):
    async def test_requests_that_wait(self) -> None:
        """Behind one that is being served; they are served when there is room again."""
        most = 1 << 20
        proxy = self.start(server={"max_buffered": most})
        client, origin, _ = await self.asked()
        proxy.ceiling.share = SCARCE
        proxy.ceiling.apply_to(self.session().holder)
        behind = self.request(b"/" + b"x" * 1000)
        count = AMPLE // 2 // len(behind)
        client.ask(*[behind] * count)
        leg: Any = self.session().holder
        await until(lambda: not leg._reading)
        self.assertLessEqual(await settled(lambda: leg.wire.buffered), HELD)
        self.assertEqual(leg.held(), leg.wire.buffered)
        self.assertEqual(leg.exchange.origin.transport.bufferSize, SCARCE)
        self.assertLess(leg.held(), most * RELIEF)
        for _ in range(4):
            self.clock.advance(TICK)
            await turn()
        self.assertFalse(proxy.ceiling.scarce)
        await until(lambda: leg.wire.buffered == count * len(behind))
        origin.answer()
        await client.answer()

    async def test_a_new_origin(self) -> None:
        proxy = self.start()
        proxy.ceiling.share = SCARCE
        await self.asked()
        leg: Any = self.session().holder
        self.assertEqual(leg.exchange.origin.transport.bufferSize, SCARCE)
