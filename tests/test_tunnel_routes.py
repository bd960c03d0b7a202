"""Where each kind is taken, and what the sockets on the way there are told."""

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.builders import python_hello
from tests.peers import LOOPBACK, FakeSocks, by_name, until
from tests.support import (
    RAW,
    WHATSAPP,
    XMPP,
    FakeUpstream,
    LoopbackCase,
    log_lines,
    make_settings,
    through_socks,
    to_upstream,
)
from whatsproxy.destination import Destination
from whatsproxy.factory import ProxyFactory
from whatsproxy.relay import Relay
from whatsproxy.session import Session


class RouteTests(LoopbackCase):
    async def test_each_kind_has_its_destination(self) -> None:
        server = self.listen(FakeSocks)
        self.start_proxy(
            through_socks(
                server.port,
                upstream={
                    "chat": (Destination("chat.test", 1),),
                    "xmpp": (Destination("xmpp.test", 2),),
                    "raw": (Destination("raw.test", 3),),
                },
            )
        )
        for first, request in (
            (WHATSAPP, by_name("chat.test", 1)),
            (XMPP, by_name("xmpp.test", 2)),
            (RAW, by_name("raw.test", 3)),
            (python_hello("static.whatsapp.net"), by_name("static.whatsapp.net", 443)),
        ):
            _, upstream, _ = await self.joined(server, first)
            self.assertEqual(upstream.request, request)

    async def test_the_second_destination(self) -> None:
        """Where the first one fails, the next one is taken, and named in the log."""
        listener = self.listen()
        with socket.socket() as unused:
            unused.bind((LOOPBACK, 0))
            dead = Destination(LOOPBACK, unused.getsockname()[1])
        alive = Destination(LOOPBACK, listener.port)
        self.start_proxy(make_settings(upstream={"chat": (dead, alive)}))
        lines = log_lines(self)
        client, upstream, _ = await self.joined(listener, WHATSAPP)
        client.end()
        upstream.end()
        await client.gone()
        await until(lambda: not self.live())
        self.assertIn(f"to={alive} ", lines[-1])

    def live(self) -> set[Session]:
        assert self.factory is not None
        return self.factory.ledger.live


class TransportTests(LoopbackCase):
    async def options(
        self, proxy: ProxyFactory, first: bytes, clock: Clock | None = None
    ) -> list[tuple[Any, ...]]:
        """Return what is set on both sockets; with a clock, when they have been there a while."""
        client, _, relay = await self.joined(self.upstreams, first)
        assert isinstance(relay, Relay)
        if clock is not None:
            clock.pump([1.0] * 6)
        found = []
        for transport in (relay._client.transport, relay._upstream.transport):
            handle = transport.getHandle()
            times = [
                handle.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            ]
            found.append((transport.getTcpNoDelay(), transport.getTcpKeepAlive(), times))
        client.reset()
        return found

    async def test_keepalive(self) -> None:
        """Chats that last are probed on both legs, at a pace that a phone's battery bears."""
        self.upstreams = self.listen()
        clock = Clock()
        proxy = self.start_proxy(to_upstream(self.upstreams.port), clock=clock)
        for first in (WHATSAPP, XMPP, RAW):
            for no_delay, keepalive, _ in await self.options(proxy, first):
                self.assertTrue(no_delay)
                self.assertFalse(keepalive)
        for first in (WHATSAPP, XMPP):
            self.assertEqual(
                await self.options(proxy, first, clock), [(True, True, [240, 30, 4])] * 2, first
            )
        for _, keepalive, _ in await self.options(proxy, RAW, clock):
            self.assertFalse(keepalive)

    async def test_connect_time(self) -> None:
        clock, waiting = Clock(), FakeUpstream()
        proxy = self.start_proxy(make_settings(), clock=clock, upstream=waiting)
        listener = self.listen()
        await self.client(RAW)
        await until(lambda: waiting.asked)
        clock.advance(0.3)
        last: Deferred[Any] = waiting.last
        last.callback(await self.arrival(listener.port))
        self.assertEqual(proxy.ledger.connect_time.total, 0.3)
        self.assertEqual(sum(proxy.ledger.connect_time.counts), 1)
