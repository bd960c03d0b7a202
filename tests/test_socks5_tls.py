"""SOCKS5 inside TLS: the transport that changes hands is a protocol wrapper."""

import trustme
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from tests.peers import LOOPBACK, FakeSocks, Listener, Peer, reactor, until
from tests.support import LoopbackCase
from whatsproxy import socks5
from whatsproxy.transport import SingleProtocolFactory


class BehindTLSTests(LoopbackCase):
    """The SOCKS conversation inside TLS: the transport is a protocol wrapper."""

    def endpoint(self, server: Listener) -> socks5.SOCKS5ClientEndpoint:
        issued = trustme.CA().issue_cert("socks.test")
        key = issued.private_key_pem.bytes()
        certificate = PrivateCertificate.loadPEM(key + issued.cert_chain_pems[0].bytes())
        port = self.listen_with(TLSMemoryBIOFactory(certificate.options(), False, server))
        to_server = TCP4ClientEndpoint(reactor, LOOPBACK, port)
        return socks5.SOCKS5ClientEndpoint(
            "x.test", 443, wrapClientTLS(CertificateOptions(), to_server)
        )

    async def test_success(self) -> None:
        """The protocol is handed the TLS, not what is below it."""

        class Speaking(FakeSocks):
            behind = b"the upstream speaks first"

        server = Listener(Speaking)
        peer = Peer()
        await self.endpoint(server).connect(SingleProtocolFactory(peer))
        self.assertIsInstance(peer.transport, TLSMemoryBIOProtocol)
        await peer.got(Speaking.behind)
        peer.write(b"inside" * 10_000)
        upstream = await server.accepted()
        await upstream.got(b"inside" * 10_000)
        peer.close()
        await upstream.gone()
        await peer.gone()

    async def test_refusal(self) -> None:
        """A refusal closes the TLS connection, too."""

        class Refusing(FakeSocks):
            reply = b"\x05\x05"

        server = Listener(Refusing)
        with self.assertRaises(socks5.ConnectionRefused):
            await self.endpoint(server).connect(SingleProtocolFactory(Peer()))
        await server.peers[0].gone()

    async def test_the_server_goes(self) -> None:
        """A server that goes before it has answered is noticed at once."""
        for leave in (Peer.close, Peer.reset):
            server = Listener()
            connecting = self.endpoint(server).connect(SingleProtocolFactory(Peer()))
            peer = await server.accepted()
            await peer.got(b"\x05\x01\x00")
            leave(peer)
            await until(lambda d=connecting: d.called)
            self.failureResultOf(connecting, socks5.ConnectionLostEarly)
