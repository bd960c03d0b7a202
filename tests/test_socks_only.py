"""With a SOCKS server configured nothing is resolved or dialled by this machine itself."""

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest
from zope.interface import directlyProvides, providedBy

from tests.builders import python_hello
from tests.peers import LOOPBACK, FakeSocks, Listener, by_name, reactor
from tests.socks5_attempt import GRANTED
from tests.support import RAW, WHATSAPP, XMPP, LoopbackCase, through_socks
from whatsproxy import socks5
from whatsproxy.codecs import Direct, SocksProxy
from whatsproxy.destination import Destination
from whatsproxy.dial import DialTimeoutError
from whatsproxy.factory import ProxyFactory
from whatsproxy.reason import Reason
from whatsproxy.resolver import Resolver
from whatsproxy.upstream import Upstream, legs_of


class GuardedReactor:
    """The reactor, but only the addresses given can be dialled.

    What else is tried is kept in ``violations`` and fails.
    """

    def __init__(self, *allowed: tuple[str, int]) -> None:
        directlyProvides(self, providedBy(reactor))
        self.allowed = allowed
        self.violations: list[tuple[str, Any]] = []
        self.dialled: list[tuple[str, int]] = []
        self.leaves_descriptors = False  # as with Twisted's own

    def __getattr__(self, name: str) -> Any:
        if name in ("seconds", "callLater", "callFromThread"):
            return getattr(reactor, name)
        return self._violated(name, "")

    def connectTCP(self, host: str, port: int, *arguments: Any, **named: Any) -> Any:
        if (host, port) not in self.allowed:
            return self._violated("connectTCP", (host, port))
        self.dialled.append((host, port))
        return reactor.connectTCP(host, port, *arguments, **named)

    def _violated(self, what: str, how: Any) -> Any:
        self.violations.append((what, how))
        raise AssertionError(f"{what}({how}) with a SOCKS server configured")


class SocksOnlyTests(LoopbackCase):
    def setUp(self) -> None:
        super().setUp()

        def resolve(name: Any, *_: Any, **__: Any) -> Any:
            self.reactor.violations.append(("resolved", name))
            raise socket.gaierror(socket.EAI_NONAME, "not here")

        for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
            self.patch(socket, name, resolve)

    def guarded(self, *more: Direct | SocksProxy, reply: bytes = GRANTED) -> Listener:
        """Run a proxy on a guarded reactor, with a SOCKS server; return the server."""

        class Server(FakeSocks):
            pass

        Server.reply = reply
        server = self.listen(Server)
        settings = through_socks(server.port, *more)
        self.reactor = GuardedReactor((LOOPBACK, server.port))
        self.factory = ProxyFactory(self.reactor, settings)
        self.proxy_port = self.listen_with(self.factory)
        return server

    async def test_every_kind(self) -> None:
        """End to end, the server is told the name, and no other address is ever touched."""
        server = self.guarded()
        chat = by_name("g.whatsapp.net", 5222)
        for first, request in (
            (WHATSAPP, chat),
            (XMPP, chat),
            (RAW, chat),
            (python_hello("media.whatsapp.net"), by_name("media.whatsapp.net", 443)),
            (python_hello("MMG.whatsapp.NET"), by_name("mmg.whatsapp.net", 443)),
        ):
            client, upstream, _ = await self.joined(server, first)
            self.assertEqual(upstream.request, request)
            upstream.write(b"back")
            await client.got(b"back")
        self.assertEqual(self.reactor.violations, [])
        self.assertEqual(set(self.reactor.dialled), set(self.reactor.allowed))

    async def test_failures(self) -> None:
        """Nor when the server cannot connect: there is no silent way around it."""
        server = self.guarded(reply=b"\x05\x04")
        for first in (WHATSAPP, XMPP, RAW, python_hello("media.whatsapp.net")):
            client = await self.client(first)
            await client.ended()
            self.assertEqual(client.received, b"")
            client.close()
        await self.ended_with(*[Reason.SOCKS_REFUSED] * 4)
        self.assertEqual(len(server.peers), 4)
        self.assertEqual(self.reactor.violations, [])

    async def test_direct_is_used_where_it_is_listed(self) -> None:
        """The guard itself is guarded: with ``direct`` behind it, a failure leads to a lookup."""
        self.guarded(Direct(), reply=b"\x05\x04")
        client = await self.client(WHATSAPP)
        await client.ended()
        self.assertEqual(self.reactor.violations, [("resolved", b"g.whatsapp.net")])
        client.close()
        await self.ended_with(Reason.UPSTREAM_UNRESOLVED)


class FallbackTests(LoopbackCase):
    async def unused_port(self) -> int:
        """Return a port at which nobody listens."""
        with socket.socket() as s:
            s.bind((LOOPBACK, 0))
            port: int = s.getsockname()[1]
            return port

    def connect(self, proxies: Any, *destinations: Destination) -> Deferred[Any]:
        return Upstream(reactor, legs_of(reactor, Resolver(reactor), proxies), 10.0).connect(
            destinations
        )

    async def test_direct(self) -> None:
        """``direct`` behind a dead SOCKS server gets there."""
        listener = self.listen()
        dead = SocksProxy(Destination(LOOPBACK, await self.unused_port()))
        here = Destination(LOOPBACK, listener.port)
        with self.assertRaises(socks5.ProxyUnreachable):
            await self.connect([dead], here)
        self.assertEqual(listener.peers, [])
        arrival = await self.connect([dead, Direct()], here)
        arrival.transport.write(b"directly")
        await (await listener.accepted()).got(b"directly")
        arrival.transport.abortConnection()

    async def test_the_next_server(self) -> None:
        """Several servers are tried in order; credentials go to the one that they belong to."""

        class Login(FakeSocks):
            def dataReceived(self, data: bytes) -> None:
                self.heard += data
                if data.startswith(b"\x05\x01\x02"):
                    self.write(b"\x05\x02")
                elif data.startswith(b"\x01"):
                    self.write(b"\x01\x00")
                else:
                    self.write(GRANTED)

        first, second = self.listen(FakeSocks), self.listen(Login)
        first.build = type("Refusing", (FakeSocks,), {"reply": b"\x05\x02"})
        proxies = [
            SocksProxy(Destination(LOOPBACK, first.port)),
            SocksProxy(Destination(LOOPBACK, second.port), (b"user", b"secret")),
        ]
        arrival = await self.connect(proxies, Destination("x.test", 80))
        self.assertEqual(first.peers[0].heard, b"\x05\x01\x00" + by_name("x.test", 80))
        login = b"\x05\x01\x02" + b"\x01\x04user\x06secret"
        self.assertEqual(second.peers[0].heard, login + by_name("x.test", 80))
        arrival.transport.abortConnection()


class HangingTests(LoopbackCase):
    """An address that answers nothing, not even the SYN: a listener whose queue is full."""

    def setUp(self) -> None:
        super().setUp()
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        self.hanging = Destination(LOOPBACK, listener.getsockname()[1])
        for _ in range(3):
            filler = socket.socket()
            self.addCleanup(filler.close)
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())

    async def error_of(self, proxy: Any, destination: Destination) -> Exception:
        upstream = Upstream(reactor, legs_of(reactor, Resolver(reactor), [proxy]), 0.1)
        try:
            arrival = await upstream.connect([destination])
        except Exception as e:
            return e
        arrival.transport.abortConnection()
        raise SkipTest("this system's queues are longer")

    async def test_upstream(self) -> None:
        """The error names the upstream and the time it was given."""
        error = await self.error_of(Direct(), self.hanging)
        self.assertIsInstance(error, DialTimeoutError)
        self.assertIn(f"{self.hanging} within 0.1 s", str(error))

    async def test_socks_server(self) -> None:
        error = await self.error_of(SocksProxy(self.hanging), Destination("x.test", 1))
        self.assertIsInstance(error, socks5.NegotiationTimeout)
