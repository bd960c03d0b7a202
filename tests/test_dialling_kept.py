"""What was needed to connect is gone when client and upstream are joined: 9,000 idle ones pay."""

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tests.peers import LOOPBACK, FakeSocks, Listener, Peer, reactor
from tests.support import WHATSAPP, LoopbackCase, to_upstream
from whatsproxy import attempts, dial, introduced, socks5, upstream
from whatsproxy.codecs import Direct, SocksProxy
from whatsproxy.destination import Destination
from whatsproxy.hub_reactor import HubReactor
from whatsproxy.resolver import Resolver
from whatsproxy.upstream import Upstream, legs_of

MODULES = {module.__name__ for module in (attempts, dial, introduced, socks5, upstream)}
#: There is one of these for all connections to a place.
SHARED = {"Upstream", "DirectEndpoint", "SOCKS5ClientEndpoint"}
COUNT = 3


def alive() -> Counter[str]:
    """Count the objects that connecting is made of."""
    kinds = Counter(type(thing) for thing in gc.get_objects())
    return Counter(
        {
            kind.__name__: count
            for kind, count in kinds.items()
            if kind.__module__ in MODULES and kind.__name__ not in SHARED
        }
    )


class KeptTests(LoopbackCase):
    async def check(
        self, at: Any, build: Callable[[], Peer], proxy: bool, joined: dict[str, int]
    ) -> None:
        server = self.listen(build)
        hops: Sequence[Any] = [self.hop(server)] if proxy else [Direct()]
        legs = legs_of(at, Resolver(reactor), hops)
        self.start_proxy(to_upstream(server.port), upstream=Upstream(reactor, legs, 5.0))
        gc.collect()
        before = alive()
        gc.disable()
        self.addCleanup(gc.enable)
        clients = []
        for number in range(COUNT):
            clients.append((await self.joined(server, WHATSAPP))[0])
            self.assertEqual(len(server.peers), number + 1)
        self.assertEqual(dict(alive() - before), joined)

    def hop(self, server: Listener) -> SocksProxy:
        return SocksProxy(Destination(LOOPBACK, server.port))

    async def test_directly(self) -> None:
        """Nothing, without a garbage collection; Twisted's transports keep their factory."""
        await self.check(HubReactor(reactor), Peer, False, {})

    async def test_by_socks(self) -> None:
        await self.check(HubReactor(reactor), FakeSocks, True, {})

    async def test_directly_without_the_hub(self) -> None:
        await self.check(reactor, Peer, False, {"_Try": COUNT})

    async def test_by_socks_without_the_hub(self) -> None:
        await self.check(reactor, FakeSocks, True, {"_Try": COUNT})
