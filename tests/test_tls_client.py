"""TLS that begins here: who is trusted, who is not, and what is said of it."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint

from tests.peers import LOOPBACK, Listener, reactor, until
from tests.support import RAW, LoopbackCase, fast
from tests.tls_peers import CA, TLS12, TlsPeer, server_context
from tests.tls_support import tls_settings
from whatsproxy import certificates
from whatsproxy.destination import Destination
from whatsproxy.reason import Reason
from whatsproxy.tls_client import TlsClient, TlsFailedError, TlsTimeoutError, UntrustedError
from whatsproxy.upstream import Arrival, Upstream, reason_of

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
THERE = Destination("origin.test", 443, tls=True)
OTHERS = trustme.CA()


def pin_of(certificate: trustme.LeafCert) -> bytes:
    """Return the SHA-256 of its key (RFC 7469 2.4)."""
    key = x509.load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes()).public_key()
    return hashlib.sha256(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).digest()


class ClientCase(LoopbackCase):
    def setUp(self) -> None:
        super().setUp()
        self.attempt: Deferred[Any] | None = None

    def upstream(
        self, server: Listener, clock: Any = None, seconds: float = 5.0, **keys: Any
    ) -> Upstream:
        """Return an upstream that finds every destination at a server of this test."""
        client = TlsClient(clock or reactor, tls_settings(**keys))
        client.load()

        def leg(_: Destination, within: float) -> Any:
            return TCP4ClientEndpoint(fast, LOOPBACK, server.port, timeout=within)

        return Upstream(clock or reactor, [leg], seconds, client)

    def serve(self, certificate: trustme.LeafCert, **keys: Any) -> Listener:
        context = server_context(certificate, **keys)
        return self.serve_context(context)

    def serve_context(self, context: SSL.Context) -> Listener:
        def build() -> TlsPeer:
            connection = SSL.Connection(context, None)
            connection.set_accept_state()
            return TlsPeer(connection)

        return self.listen(build)

    async def trusted(self, server: Listener, there: Destination = THERE, **keys: Any) -> TlsPeer:
        """Connect, and insist that bytes go both ways; return the far end."""
        arrival: Any = await self.upstream(server, **keys).connect([there])
        self.assertIsInstance(arrival, Arrival)
        arrival.transport.write(RAW)
        far: TlsPeer = await server.accepted()
        await far.got(RAW)
        arrival.transport.abortConnection()
        await far.gone()
        return far

    async def refused(
        self, server: Listener, kind: type[Exception], there: Destination = THERE, **keys: Any
    ) -> str:
        """Connect in vain; return what is said. Nothing of ours is left, and nothing was sent."""
        with self.assertRaises(kind) as caught:
            await self.upstream(server, **keys).connect([there])
        self.assertIs(type(caught.exception), kind)
        self.assertIn(str(there), str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))
        far = await server.accepted()
        await until(lambda: far.lost or far.eof)
        self.assertEqual(far.received, b"")
        return str(caught.exception)

    async def untrusted(self, server: Listener, *texts: str, **keys: Any) -> None:
        said = await self.refused(server, UntrustedError, **keys)
        self.assertIn("did not prove who it is", said)
        for text in texts:
            self.assertIn(text, said)


class TrustedTests(ClientCase):
    async def test_by_name(self) -> None:
        far = await self.trusted(self.serve(CA.issue_cert("origin.test")))
        self.assertEqual(far.tls.get_servername(), b"origin.test")
        self.assertEqual(far.tls.get_protocol_version_name(), "TLSv1.3")

    async def test_by_a_wildcard(self) -> None:
        there = Destination("a.origin.test", 443, tls=True)
        await self.trusted(self.serve(CA.issue_cert("*.origin.test")), there)

    async def test_1_2(self) -> None:
        far = await self.trusted(self.serve(CA.issue_cert("origin.test"), newest=TLS12))
        self.assertIn("ECDHE", far.tls.get_cipher_name())

    async def test_a_chain(self) -> None:
        await self.trusted(self.serve(CA.create_child_ca().issue_cert("origin.test")))

    async def test_by_address(self) -> None:
        """IPv4 and IPv6; an address is no server name."""
        server = self.serve(CA.issue_cert("192.0.2.1", "2001:db8::1"))
        for host in ("192.0.2.1", "2001:db8::1"):
            far = await self.trusted(server, Destination(host, 443, tls=True))
            self.assertIsNone(far.tls.get_servername())
            server.peers.clear()

    async def test_an_international_name(self) -> None:
        server = self.serve(CA.issue_cert("xn--fa-hia.test"))
        far = await self.trusted(server, Destination("xn--fa-hia.test", 443, tls=True))
        self.assertEqual(far.tls.get_servername(), b"xn--fa-hia.test")

    async def test_without_tls(self) -> None:
        """A destination that is not TLS stays what it is."""
        server = self.listen()
        arrival: Any = await self.upstream(server).connect([Destination("origin.test", 443)])
        arrival.transport.write(RAW)
        await (await server.accepted()).got(RAW)
        arrival.transport.abortConnection()


class UntrustedTests(ClientCase):
    async def test_expired(self) -> None:
        certificate = CA.issue_cert("origin.test", not_before=NOW - 9 * DAY, not_after=NOW - DAY)
        await self.untrusted(self.serve(certificate), "its certificate has expired")

    async def test_not_yet_valid(self) -> None:
        certificate = CA.issue_cert("origin.test", not_before=NOW + DAY, not_after=NOW + 9 * DAY)
        await self.untrusted(self.serve(certificate), "not valid yet")

    async def test_an_unknown_issuer(self) -> None:
        await self.untrusted(self.serve(OTHERS.issue_cert("origin.test")), "unknown issuer")

    async def test_the_chain_is_missing(self) -> None:
        leaf = CA.create_child_ca().issue_cert("origin.test")
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()))
        with leaf.private_key_pem.tempfile() as path:
            context.use_privatekey_file(path)
        await self.untrusted(self.serve_context(context), "unknown issuer")

    async def test_self_signed(self) -> None:
        await self.untrusted(self.serve_context(self_signed()), "self-signed")

    async def test_another_name(self) -> None:
        for names in (("other.test",), ("*.origin.test",), ("192.0.2.1",), ("rigin.test",)):
            certificate = CA.issue_cert(*names)
            await self.untrusted(self.serve(certificate), "for another name")

    async def test_a_common_name_is_no_name(self) -> None:
        certificate = CA.issue_cert("other.test", common_name="origin.test")
        await self.untrusted(self.serve(certificate), "for another name")

    async def test_another_address(self) -> None:
        """A name that spells the address does not stand for it, nor does another address."""
        there = Destination("192.0.2.1", 443, tls=True)
        for names in (("192.0.2.2",), ("origin.test",), ("2001:db8::1",)):
            server = self.serve(CA.issue_cert(*names))
            await self.untrusted(server, "for another name", there=there)

    async def test_the_reason(self) -> None:
        self.assertIs(reason_of(UntrustedError(THERE, "x")), Reason.UPSTREAM_UNTRUSTED)
        self.assertIs(reason_of(TlsFailedError(THERE, "x")), Reason.UPSTREAM_NO_TLS)
        self.assertIs(reason_of(TlsTimeoutError(THERE, "x")), Reason.UPSTREAM_TIMEOUT)


class PinTests(ClientCase):
    """A pin stands in place of an authority, for its host and for no other."""

    def pins(self, *pins: bytes, host: str = "origin.test") -> dict[str, Any]:
        return {"upstream_pins": ((host, pins),)}

    async def test_right(self) -> None:
        """Also where nothing else is: issuer, name and time are another matter."""
        for certificate in (
            CA.issue_cert("origin.test"),
            OTHERS.issue_cert("other.test"),
            OTHERS.issue_cert("other.test", not_before=NOW - 9 * DAY, not_after=NOW - DAY),
        ):
            server = self.serve(certificate)
            await self.trusted(server, **self.pins(b"x" * 32, pin_of(certificate)))

    async def test_wrong(self) -> None:
        """Not even if an authority vouches for it."""
        for certificate in (CA.issue_cert("origin.test"), OTHERS.issue_cert("origin.test")):
            server = self.serve(certificate)
            await self.untrusted(
                server, "none of upstream_pins", **self.pins(pin_of(CA.issue_cert("origin.test")))
            )

    async def test_the_issuers_pin(self) -> None:
        """It is the server's own key that is pinned."""
        key = x509.load_pem_x509_certificate(CA.cert_pem.bytes()).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        server = self.serve(CA.issue_cert("origin.test"))
        await self.untrusted(server, **self.pins(hashlib.sha256(spki).digest()))

    async def test_another_hosts(self) -> None:
        certificate = OTHERS.issue_cert("origin.test")
        server = self.serve(certificate)
        await self.untrusted(
            server, "unknown issuer", **self.pins(pin_of(certificate), host="other.test")
        )

    async def test_by_address(self) -> None:
        certificate = OTHERS.issue_cert("other.test")
        await self.trusted(
            self.serve(certificate),
            Destination("192.0.2.1", 443, tls=True),
            **self.pins(pin_of(certificate), host="192.0.2.1"),
        )


def self_signed() -> SSL.Context:
    """Return the context of a server whose certificate only it vouches for."""
    made = certificates._make(("origin.test",), (), 9, NOW)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(made.chain[0])
    context.use_privatekey(made.key)
    return context
