"""SOCKS5ClientEndpoint: cancelling, time limits, what may be asked for, real servers, plugin."""

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    clientFromString,
)
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tests.peers import LOOPBACK, FakeSocks, Peer, by_name, reactor
from tests.socks5_attempt import ANONYMOUS, BOTH, GRANTED, LOGIN, Application, Attempt
from tests.support import LoopbackCase
from whatsproxy import socks5
from whatsproxy.descriptors import NoDescriptorsError
from whatsproxy.transport import SingleProtocolFactory

#: What a server says, up to a stage: nothing, the method, the login, half of the reply.
STAGES = (b"", b"\x05\x02", b"\x05\x02\x01\x00", b"\x05\x02\x01\x00" + GRANTED[:5])


class CancelTests(SynchronousTestCase):
    def test_before_the_server_is_reached(self) -> None:
        attempt = Attempt(arrived=False)
        attempt.connecting.cancel()
        self.assertIsInstance(attempt.results[0], CancelledError)
        self.assertTrue(attempt.server.cancelled)
        self.assertEqual(attempt.clock.getDelayedCalls(), [])

    def test_at_each_stage(self) -> None:
        for answers in STAGES:
            attempt = Attempt(LOGIN)
            attempt.server.feed(answers)
            attempt.connecting.cancel()
            self.assertIs(attempt.failed(), CancelledError)

    def test_afterwards(self) -> None:
        """Once the protocol has the connection, cancelling does nothing to it."""
        attempt = Attempt()
        attempt.server.feed(b"\x05\x00" + GRANTED)
        attempt.connecting.cancel()
        self.assertEqual(attempt.results, [b""])
        self.assertFalse(attempt.server.transport.disconnected)


class TimeLimitTests(SynchronousTestCase):
    def test_before_the_server_is_reached(self) -> None:
        attempt = Attempt(arrived=False)
        attempt.clock.advance(9.9)
        self.assertEqual(attempt.results, [])
        attempt.clock.advance(0.1)
        self.assertIsInstance(attempt.results[0], socks5.NegotiationTimeout)
        self.assertTrue(attempt.server.cancelled)

    def test_at_each_stage(self) -> None:
        for answers in STAGES:
            attempt = Attempt(LOGIN)
            attempt.server.feed(answers)
            attempt.clock.advance(9.9)
            self.assertEqual(attempt.results, [])
            attempt.clock.advance(0.1)
            self.assertIs(attempt.failed(), socks5.NegotiationTimeout)

    def test_it_is_for_all_stages_together(self) -> None:
        attempt = Attempt(LOGIN)
        for byte in b"\x05\x02\x01\x00" + GRANTED[:5]:
            attempt.clock.advance(1.0)
            attempt.server.feed(bytes([byte]))
        attempt.clock.advance(1.0)
        self.assertIs(attempt.failed(), socks5.NegotiationTimeout)


class ArgumentTests(SynchronousTestCase):
    def endpoint(self, methods: Any = ANONYMOUS, host: Any = "x.test", port: int = 1) -> Any:
        return Attempt(methods, host, port)

    def test_limits_of_the_login(self) -> None:
        for user, password in (("u", "p"), ("u" * 255, "p" * 255), (b"\xff" * 255, "é" * 127)):
            self.endpoint({"login": (user, password)})
        for user, password in (("", "p"), ("u", ""), ("u" * 256, "p"), ("u", "é" * 128)):
            with self.assertRaises(ValueError):
                self.endpoint({"login": (user, password)})

    def test_methods(self) -> None:
        for methods in ({}, {"gssapi": ()}, {"login": ("only",)}, {"anonymous": ("x",)}):
            with self.assertRaises(ValueError):
                self.endpoint(methods)

    def test_hosts(self) -> None:
        for host in ("", "a" * 256, b"a" * 256, "faß.de"):
            with self.assertRaises(ValueError):
                self.endpoint(host=host)

    def test_ports(self) -> None:
        self.endpoint(port=65535)
        for port in (-1, 0, 65536):
            with self.assertRaises(ValueError):
                self.endpoint(port=port)

    def test_unreachable_server(self) -> None:
        """The reason that the server itself was not reached is kept."""
        attempt = Attempt(arrived=False)
        attempt.server.fail(ConnectionRefusedError())
        (error,) = attempt.results
        self.assertIsInstance(error, socks5.ProxyUnreachable)
        self.assertIsInstance(error.__cause__, ConnectionRefusedError)
        self.assertIn("refused", str(error))
        self.assertEqual(attempt.clock.getDelayedCalls(), [])

    def test_no_descriptors(self) -> None:
        """That says nothing of the server."""
        attempt = Attempt(arrived=False)
        attempt.server.fail(NoDescriptorsError("none"))
        (error,) = attempt.results
        self.assertIsInstance(error, NoDescriptorsError)
        self.assertEqual(attempt.clock.getDelayedCalls(), [])

    def test_factory_without_a_protocol(self) -> None:
        """A factory that gives none, or raises, leaves nothing open either."""

        class Broken(Factory):
            def buildProtocol(self, addr: Any) -> Any:
                raise RuntimeError("broken")

        class Changed(Factory):
            def buildProtocol(self, addr: Any) -> Any:
                return None

        for factory, error in ((Broken(), RuntimeError), (Changed(), CancelledError)):
            attempt = Attempt(arrived=False, factory=factory)
            attempt.server.arrive()
            attempt.server.feed(b"\x05\x00" + GRANTED)
            self.assertIs(attempt.failed(), error)


class DeliveryTests(SynchronousTestCase):
    def test_the_stream_goes_to_the_last_protocol(self) -> None:
        """Whoever has taken the transport by the time the Deferred has fired gets the bytes."""
        attempt = Attempt()
        successor = Application()

        def take(protocol: Any) -> None:
            attempt.server.transport.protocol = successor

        attempt.connecting.addCallback(lambda _: take(attempt.application))
        attempt.server.feed(b"\x05\x00" + GRANTED + b"behind")
        attempt.server.feed(b" and later")
        self.assertEqual(attempt.application.received, b"")
        self.assertEqual(successor.received, b"behind and later")


class Eager(FakeSocks):
    """Speaks in the same segment as its reply, and ends its direction at once."""

    behind = b"the upstream speaks first"

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self.request and not self.received:
            self.end()


class Login(FakeSocks):
    """Wants a user and a password."""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        answers = {1: b"\x05\x02", 2: b"\x01\x00", 3: self.reply}
        self.turns = getattr(self, "turns", 0) + 1
        self.write(answers[self.turns])


class LoopbackTests(LoopbackCase):
    async def connect(self, endpoint: IStreamClientEndpoint) -> Peer:
        peer = Peer()
        await endpoint.connect(SingleProtocolFactory(peer))
        self._dialled.append(peer)
        return peer

    def parse(self, description: str) -> IStreamClientEndpoint:
        endpoint: IStreamClientEndpoint = clientFromString(reactor, description)
        return endpoint

    async def test_description(self) -> None:
        """``socks5:`` is known to every Twisted program, by the plugin."""
        server = self.listen(FakeSocks)
        endpoint = self.parse(
            rf"socks5:g.whatsapp.net:5222:proxy=tcp\:{LOOPBACK}\:{server.port}",
        )
        peer = await self.connect(endpoint)
        peer.write(b"hello")
        upstream = await server.accepted()
        await upstream.got(b"hello")
        self.assertEqual(upstream.request, by_name("g.whatsapp.net", 5222))
        upstream.write(b"welcome")
        await peer.got(b"welcome")

    async def test_description_with_login(self) -> None:
        server = self.listen(Login)
        description = rf"socks5:x.test:1:proxy=tcp\:{LOOPBACK}\:{server.port}:user=u:password=p\:w"
        await self.connect(self.parse(description))
        self.assertEqual(
            server.peers[0].heard, b"\x05\x01\x02\x01\x01u\x03p:w" + by_name("x.test", 1)
        )

    async def test_description_with_timeout(self) -> None:
        server = self.listen()
        description = rf"socks5:x.test:1:proxy=tcp\:{LOOPBACK}\:{server.port}:timeout=0.05"
        with self.assertRaises(socks5.NegotiationTimeout):
            await self.connect(self.parse(description))
        await (await server.accepted()).gone()

    def test_bad_descriptions(self) -> None:
        for description in (
            "socks5:x.test:1:user=u",
            "socks5:x.test:1:password=p",
            "socks5:x.test:port",
            "socks5::1",
            "socks5:x.test:1:proxy=nonsense",
            "socks5:x.test:1:timeout=soon",
        ):
            with self.assertRaises(ValueError, msg=description):
                self.parse(description)

    async def test_the_upstream_speaks_first_and_ends(self) -> None:
        """Bytes behind the reply arrive, then the end, and our direction still works."""
        server = self.listen(Eager)
        to_server = TCP4ClientEndpoint(reactor, LOOPBACK, server.port)
        peer = await self.connect(socks5.SOCKS5ClientEndpoint("x.test", 1, to_server))
        await peer.ended()
        self.assertEqual(peer.received, Eager.behind)
        peer.write(b"still heard")
        await server.peers[0].got(b"still heard")

    async def test_cancel_closes_the_connection(self) -> None:
        server = self.listen()
        to_server = TCP4ClientEndpoint(reactor, LOOPBACK, server.port)
        endpoint = socks5.SOCKS5ClientEndpoint("x.test", 1, to_server, BOTH)
        connecting = endpoint.connect(SingleProtocolFactory(Peer()))
        await (await server.accepted()).got(b"\x05\x02\x00\x02")
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        await server.peers[0].gone()

    async def test_two_servers_in_a_row(self) -> None:
        """The proxy endpoint may itself be one that goes through SOCKS5."""

        class First(FakeSocks):
            """Becomes the second server once it has answered as the first."""

            def dataReceived(self, data: bytes) -> None:
                if self.request and not hasattr(self, "first"):
                    self.first, self.request = self.request, b""
                    self.heard.clear()
                super().dataReceived(data)

        server = self.listen(First)
        to_first = TCP4ClientEndpoint(reactor, LOOPBACK, server.port)
        to_second = socks5.SOCKS5ClientEndpoint("second.test", 1080, to_first)
        peer = await self.connect(socks5.SOCKS5ClientEndpoint("x.test", 443, to_second))
        peer.write(b"through both")
        await server.peers[0].got(b"through both")
        self.assertEqual(server.peers[0].first, by_name("second.test", 1080))
        self.assertEqual(server.peers[0].request, by_name("x.test", 443))
