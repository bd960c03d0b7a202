"""A proxy that terminates TLS, in this process, and what it is told: files, settings, places."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import Clock

from tests.peers import LOOPBACK, Listener, reactor
from tests.support import LoopbackCase, fast, make_settings
from tests.tls_peers import CA, OURS, TlsPeer, client_side, server_side
from whatsproxy.destination import Destination
from whatsproxy.factory import ProxyFactory, told_upstreams
from whatsproxy.settings import Settings, TlsSettings
from whatsproxy.tls_client import TlsClient
from whatsproxy.tls_codecs import CertificateFiles
from whatsproxy.transport import SingleProtocolFactory
from whatsproxy.upstream import Upstream


def files_of(
    certificate: trustme.LeafCert, directory: Path | None = None, name: str = "own"
) -> CertificateFiles:
    """Write a certificate's chain and key; return where they are."""
    directory = directory or Path(tempfile.mkdtemp(dir="."))
    chain, key = directory / f"{name}.pem", directory / f"{name}.key"
    chain.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    return CertificateFiles(str(chain), str(key))


def ca_file(authority: trustme.CA = CA) -> str:
    """Write an authority's certificate; return where it is."""
    path = Path(tempfile.mkdtemp(dir="."), "ca.pem")
    path.write_bytes(authority.cert_pem.bytes())
    return str(path)


def redirecting(
    places: dict[tuple[str, int], Listener],
) -> Callable[[Destination, float], Any]:
    """Return a leg that takes each host and port to a listener of this machine."""

    def leg(destination: Destination, seconds: float) -> Any:
        port = places[destination.host, destination.port].port
        return TCP4ClientEndpoint(fast, LOOPBACK, port, timeout=seconds)

    return leg


_own: list[trustme.LeafCert] = []


def own_certificate() -> trustme.LeafCert:
    """Return the proxy's certificate, the same in all tests."""
    if not _own:
        _own.append(CA.issue_cert(OURS, f"*.{OURS}", LOOPBACK))
    return _own[0]


class TlsCase(LoopbackCase):
    """A proxy that terminates TLS by a certificate of CA, and plain upstreams behind it."""

    def setUp(self) -> None:
        super().setUp()
        self.upstreams = self.listen()

    def settings(self, **sections: Any) -> Settings:
        """Return settings that send every kind to the upstreams of this test."""
        tls = {"auto_generate": False, "certificate": (files_of(own_certificate()),)}
        tls.update(sections.pop("tls", {}))
        chat = (Destination(LOOPBACK, self.upstreams.port),)
        sections["upstream"] = {"chat": chat, **sections.get("upstream", {})}
        return make_settings(tls=tls, **sections)

    def start(
        self,
        settings: Settings | None = None,
        *,
        clock: Clock | None = None,
        places: dict[tuple[str, int], Listener] | None = None,
        fake: Any = None,
        **sections: Any,
    ) -> ProxyFactory:
        """Run a proxy, whose destinations are ``places``, or a FakeUpstream's, if given."""
        settings = settings or self.settings(**sections)
        if places is not None:
            client = TlsClient(reactor, settings.tls)
            client.load()
            seconds = settings.timeouts.connect
            told = told_upstreams(settings)
            fake = Upstream(reactor, [redirecting(places)], seconds, client, told)
        factory = self.start_proxy(settings, clock=clock, upstream=fake)
        factory.tls.load()
        factory.tls_client.load()
        return factory

    async def dial_tls(self, connection: SSL.Connection, port: int = 0, **more: Any) -> TlsPeer:
        """Connect a TLS peer to the proxy, or to a port of this machine."""
        peer = TlsPeer(connection, **more)
        endpoint = TCP4ClientEndpoint(reactor, LOOPBACK, port or self.proxy_port, timeout=5)
        await endpoint.connect(SingleProtocolFactory(peer))
        self._dialled.append(peer)
        return peer

    async def secured(self, first: bytes = b"", **more: Any) -> TlsPeer:
        """Connect to the proxy in TLS and say something."""
        peer = await self.dial_tls(client_side(**more))
        await peer.handshaken()
        if first:
            peer.write(first)
        return peer

    async def joined_tls(self, first: bytes, **more: Any) -> tuple[TlsPeer, Any]:
        """Connect a client in TLS through the proxy: it, and its upstream."""
        number = len(self.upstreams.peers) + 1
        client = await self.secured(first, **more)
        upstream = await self.upstreams.accepted(number)
        await upstream.got(first)
        return client, upstream

    def session(self) -> Any:
        """Return the only session."""
        assert self.factory is not None
        (session,) = self.factory.ledger.live
        return session

    def listen_tls(self, context: SSL.Context, build: Any = TlsPeer) -> Listener:
        """Accept TLS as an upstream does."""
        return self.listen(lambda: build(server_side(context)))


def tls_settings(**keys: Any) -> TlsSettings:
    """Return settings of TLS in which the tests' authority vouches for upstreams."""
    return TlsSettings(**{"auto_generate": False, "upstream_ca_file": ca_file(), **keys})
