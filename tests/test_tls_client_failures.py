"""TLS that begins here and comes to nothing: no TLS at all, too late, given up, by other ways."""

from datetime import UTC, datetime
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.peers import LOOPBACK, FakeSocks, Listener, Peer, by_name, reactor, turn, until
from tests.socks5_attempt import GRANTED
from tests.support import RAW, WHATSAPP, fast, log_lines
from tests.test_tls_client import OTHERS, THERE, ClientCase
from tests.tls_peers import CA, TLS12, TlsPeer, server_context
from tests.tls_support import TlsCase, ca_file, tls_settings
from whatsproxy.certificates import CertificateError
from whatsproxy.codecs import SocksProxy
from whatsproxy.destination import Destination
from whatsproxy.dial import DialTimeoutError
from whatsproxy.reason import Reason
from whatsproxy.resolver import Resolver
from whatsproxy.tls_client import TlsClient, TlsFailedError, TlsTimeoutError, UntrustedError
from whatsproxy.upstream import Arrival, Upstream, direct_leg, reason_of, socks5_leg

NOW = datetime.now(UTC)


class NoTlsTests(ClientCase):
    async def no_tls(self, server: Listener, **keys: Any) -> str:
        said = await self.refused(server, TlsFailedError, **keys)
        self.assertTrue(said.startswith(f"no TLS with {THERE}: "), said)
        return said

    async def test_something_else(self) -> None:
        for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n", RAW * 9, b"220 mail.test ESMTP\r\n"):

            class Other(Peer):
                def connectionMade(self, answer: bytes = answer) -> None:
                    super().connectionMade()
                    self.write(answer)

                def dataReceived(self, data: bytes) -> None: ...

            await self.no_tls(self.listen(Other))

    async def test_it_leaves(self) -> None:
        for leave in (Peer.close, Peer.reset):

            class Leaving(Peer):
                def dataReceived(self, data: bytes, leave: Any = leave) -> None:
                    leave(self)

            await self.no_tls(self.listen(Leaving))

    async def test_too_old(self) -> None:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        CA.issue_cert("origin.test").configure_cert(context)
        context.set_max_proto_version(SSL.TLS1_1_VERSION)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        said = await self.no_tls(self.serve_context(context))
        self.assertIn("protocol", said)

    async def test_no_cipher_in_common(self) -> None:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        CA.issue_cert("origin.test").configure_cert(context)
        context.set_max_proto_version(TLS12)
        context.set_cipher_list(b"ECDHE-RSA-AES128-GCM-SHA256")  # its key is ECDSA
        self.assertIn("handshake failure", await self.no_tls(self.serve_context(context)))

    async def test_refused(self) -> None:
        """No connection at all has its own error."""
        server = self.listen()
        upstream = self.upstream(server)
        server.port = 1
        with self.assertRaises(Exception) as caught:
            await upstream.connect([THERE])
        self.assertIs(reason_of(caught.exception), Reason.UPSTREAM_REFUSED)


class TimeTests(ClientCase):
    async def hanging(self, clock: Clock) -> tuple["Deferred[Arrival]", Any]:
        """Connect to a server that takes the ClientHello and says nothing."""
        server = self.listen()
        connecting = self.upstream(server, clock, 8.0).connect([THERE])
        far = await server.accepted()
        await until(lambda: far.received)
        return connecting, far

    async def test_late(self) -> None:
        clock = Clock()
        connecting, far = await self.hanging(clock)
        clock.advance(7.9)
        self.assertNoResult(connecting)
        clock.advance(0.2)
        error = self.failureResultOf(connecting, TlsTimeoutError).value
        self.assertIn(f"no TLS with {THERE}: nothing within 8.0 s", str(error))
        await far.gone()
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_cancelled(self) -> None:
        clock = Clock()
        connecting, far = await self.hanging(clock)
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        await far.gone()
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_cancelled_before_the_leg_is_there(self) -> None:
        clock, cancelled = Clock(), list[Any]()
        client = TlsClient(clock, tls_settings())
        client.load()

        class Endpoint:
            def connect(self, _: Any) -> Deferred[Any]:
                return Deferred(cancelled.append)

        connecting = Upstream(clock, [lambda *_: Endpoint()], 8.0, client).connect([THERE])
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_the_next_destination(self) -> None:
        """A server that hangs costs its share of the time; then it is another one's turn."""
        hanging, good = self.listen(), self.serve(CA.issue_cert("origin.test"))
        client = TlsClient(reactor, tls_settings())
        client.load()
        ports = {1: hanging.port, 443: good.port}

        def leg(destination: Destination, within: float) -> Any:
            port = ports[destination.port]
            return TCP4ClientEndpoint(fast, LOOPBACK, port, timeout=within)

        upstream = Upstream(reactor, [leg], 0.6, client)
        arrival: Any = await upstream.connect([Destination("origin.test", 1, tls=True), THERE])
        self.assertEqual(arrival.destination, THERE)
        arrival.transport.abortConnection()
        await hanging.peers[0].gone()

    async def test_a_leg_that_hangs(self) -> None:
        """Is what it would be without TLS: who is slow is told from who speaks no TLS."""
        server = self.listen()
        client = TlsClient(reactor, tls_settings())
        client.load()
        for there in (Destination("origin.test", 443), THERE):
            proxy = SocksProxy(Destination(LOOPBACK, server.port))
            leg = socks5_leg(fast, Resolver(reactor), proxy)
            with self.assertRaises(Exception) as caught:
                await Upstream(reactor, [leg], 0.1, client).connect([there])
            self.assertIs(reason_of(caught.exception), Reason.SOCKS_TIMEOUT, str(there))

    async def test_a_dial_that_hangs(self) -> None:
        client = TlsClient(reactor, tls_settings())
        client.load()
        leg = direct_leg(fast, Resolver(reactor))
        there = Destination("192.0.2.1", 443, tls=True)
        with self.assertRaises(Exception) as caught:
            await Upstream(reactor, [leg], 0.1, client).connect([there])
        if isinstance(caught.exception, TlsFailedError | DialTimeoutError):
            self.assertIsInstance(caught.exception, DialTimeoutError)


class SocksTests(ClientCase):
    async def test_through_socks(self) -> None:
        """The server is asked for the name; TLS, and the identity, are the far end's."""
        context = server_context(CA.issue_cert("origin.test"))

        class SocksThenTls(FakeSocks):
            """Becomes the upstream once it has granted the request."""

            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                if self.request:
                    connection = SSL.Connection(context, None)
                    connection.set_accept_state()
                    self.inner = TlsPeer(connection)
                    self.transport.protocol = self.inner
                    self.inner.makeConnection(self.transport)

        server = self.listen(SocksThenTls)
        client = TlsClient(reactor, tls_settings())
        client.load()
        proxy = SocksProxy(Destination(LOOPBACK, server.port))
        leg = socks5_leg(fast, Resolver(reactor), proxy)
        upstream = Upstream(reactor, [leg], 5.0, client)
        arrival: Any = await upstream.connect([THERE])
        arrival.transport.write(RAW)
        far = await server.accepted()
        self.assertEqual(far.request, by_name("origin.test", 443))
        await far.inner.got(RAW)
        arrival.transport.abortConnection()
        await far.inner.gone()
        with self.assertRaises(UntrustedError):
            await upstream.connect([Destination("other.test", 443, tls=True)])
        await until(lambda: server.peers[1].inner.lost)
        self.assertEqual(GRANTED[1], 0)


class LoadTests(SynchronousTestCase):
    def test_ca_file(self) -> None:
        path: str = self.mktemp()
        for data in (None, b"", RAW, b"-----BEGIN CERTIFICATE-----\n"):
            if data is not None:
                with open(path, "wb") as f:
                    f.write(data)
            with self.assertRaises(CertificateError) as caught:
                TlsClient(Clock(), tls_settings(upstream_ca_file=path)).load()
            self.assertIn(f"upstream_ca_file = {path!r}", str(caught.exception))

    def test_the_system_trusts_others(self) -> None:
        TlsClient(Clock(), tls_settings(upstream_ca_file="")).load()


class TunnelTests(TlsCase):
    """What a client of the proxy sees: nothing before the identity is proven."""

    def run_proxy(self, listener: Listener) -> Any:
        return self.start(
            places={("chat.test", 1): listener},
            tls={"upstream_ca_file": ca_file()},
            upstream={"chat": (Destination("chat.test", 1, tls=True),)},
        )

    async def test_untrusted(self) -> None:
        """Not a byte of what the client said is sent; the log names the reason."""
        lines = log_lines(self)
        server = self.listen_tls(server_context(OTHERS.issue_cert("chat.test")))
        self.run_proxy(server)
        client = await self.client(WHATSAPP)
        await client.ended()
        client.close()
        await self.ended_with(Reason.UPSTREAM_UNTRUSTED)
        self.assertEqual(server.peers[0].received, b"")
        (line,) = [line for line in lines if "connection ended" in line]
        self.assertIn("upstream_untrusted protocol=whatsapp to=tls://chat.test:1", line)
        self.assertIn("did not prove who it is: its certificate is by an unknown issuer", line)

    async def test_no_tls(self) -> None:
        server = self.listen()
        self.run_proxy(server)
        client = await self.client(WHATSAPP)
        (await server.accepted()).write(RAW * 9)
        await client.ended()
        client.close()
        await self.ended_with(Reason.UPSTREAM_NO_TLS)

    async def test_the_client_leaves_in_the_handshake(self) -> None:
        server = self.listen()
        self.run_proxy(server)
        client = await self.client(WHATSAPP)
        far = await server.accepted()
        await until(lambda: far.received)
        client.reset()
        await far.gone()
        await turn()
        await self.ended_with(Reason.CLIENT_RESET)
