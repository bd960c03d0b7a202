"""A thousand connections of mixed kinds at the same time, with every byte checked both ways."""

import asyncio
import random

from tests.integration.programs import sandboxed
from tests.integration.proxy import Proxy, ProxyTestCase
from tests.integration.third_party import danted
from tests.integration.traffic import converse, flipping, opening, serve

KINDS = ("whatsapp", "xmpp", "tls", "raw")
CONNECTIONS = 1000
#: Bytes each way of each connection, after its first ones.
PAYLOAD = 24_000
#: Clients and upstreams live in this process.
DESCRIPTORS = 2 * CONNECTIONS + 200


class LoadTests(ProxyTestCase):
    """All are connected, and have got an answer, before any of them goes on."""

    def setUp(self) -> None:
        sandboxed()
        super().setUp()
        self.need_descriptors(DESCRIPTORS)

    async def crowd(self, proxy: Proxy, kinds: list[str]) -> None:
        together = asyncio.Barrier(len(kinds) + 1)
        # Dialled a few at a time: it is the connections that count here, not the listen queue.
        dialling = asyncio.Semaphore(100)

        async def one(seed: int, kind: str) -> None:
            noise = random.Random(seed)
            first, payload = opening(kind, noise), noise.randbytes(PAYLOAD)
            await converse(proxy.port, first, payload, together, dialling)

        async with asyncio.TaskGroup() as group:
            for seed, kind in enumerate(kinds):
                group.create_task(one(seed, kind))
            await together.wait()
            live = await asyncio.to_thread(self.live_figures, proxy)
            await together.wait()
        # Every first byte is counted, although not one connection has ended.
        firsts = sum(len(opening(kind, random.Random(i))) for i, kind in enumerate(kinds))
        self.assertEqual((len(kinds), firsts, firsts), live)

    @staticmethod
    def live_figures(proxy: Proxy) -> tuple[float, ...]:
        names = ("connections_active", "bytes_received_total", "bytes_sent_total")
        return tuple(proxy.figure(name) for name in names)

    def check(self, connections: int, *options: str) -> None:
        port = self.background.run(serve(flipping))
        self.background.run(serve(flipping, 443))
        proxy = self.proxy("--chat", f"127.0.0.1:{port}", *options)
        kinds = [KINDS[i % len(KINDS)] for i in range(connections)]
        self.background.run(self.crowd(proxy, kinds), 60)
        proxy.wait_for_ends({"client_closed": connections})
        self.assertEqual(dict.fromkeys(KINDS, connections // len(KINDS)), proxy.kinds())
        self.assertEqual(0, proxy.figure("errors_total"))
        sent, received = proxy.figure("bytes_sent_total"), proxy.figure("bytes_received_total")
        self.assertEqual(sent, received)
        self.assertGreater(sent, connections * PAYLOAD)

    def test_a_thousand(self) -> None:
        self.check(CONNECTIONS)

    def test_through_socks5(self) -> None:
        # dante, because microsocks ends both directions when one has ended.
        _, port = danted(self)
        self.check(CONNECTIONS // 5, "-s", f"socks5://127.0.0.1:{port}")
