"""What is agreed in a client's handshake: versions, ciphers, certificates, protocols, tickets."""

import contextlib
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from tests.peers import LOOPBACK, reactor, until
from tests.support import WHATSAPP
from tests.tls_peers import CA, OURS, TLS12, TLS13, TlsPeer, client_side
from tests.tls_support import TlsCase, files_of
from whatsproxy.certificates import CertificateError
from whatsproxy.settings import TlsSettings
from whatsproxy.tls_codecs import CertificateFiles
from whatsproxy.tls_server import TlsServer

#: RFC 5246 7.2, as OpenSSL calls the alerts.
TOO_OLD = "tlsv1 alert protocol version"


class AgreedCase(TlsCase):
    async def refused(self, **more: Any) -> str:
        """A handshake fails; return what the client's OpenSSL says of it."""
        peer = await self.dial_tls(client_side(**more))
        said = await peer.failed()
        peer.reset()
        return said

    async def check_inside(self, peer: TlsPeer) -> None:
        """Bytes go through."""
        peer.write(WHATSAPP)
        upstream = await self.upstreams.accepted(len(self.upstreams.peers) + 1)
        await upstream.got(WHATSAPP)
        upstream.write(b"welcome")
        await peer.got(b"welcome")


class VersionTests(AgreedCase):
    async def test_both(self) -> None:
        self.start()
        for version, name in ((TLS12, "TLSv1.2"), (TLS13, "TLSv1.3")):
            peer = await self.secured(oldest=version, newest=version)
            self.assertEqual(peer.tls.get_protocol_version_name(), name)
            await self.check_inside(peer)

    async def test_the_newest_is_chosen(self) -> None:
        self.start()
        peer = await self.secured()
        self.assertEqual(peer.tls.get_protocol_version_name(), "TLSv1.3")

    async def test_old_ones_are_refused(self) -> None:
        """Said in an alert."""
        self.start()
        for version in (SSL.TLS1_VERSION, SSL.TLS1_1_VERSION):
            said = await self.refused(
                oldest=version, newest=version, ciphers=b"ALL:@SECLEVEL=0", trust=None
            )
            self.assertEqual(said, TOO_OLD)

    async def test_min_version(self) -> None:
        self.start(tls={"min_version": "1.3"})
        self.assertEqual(await self.refused(newest=TLS12), TOO_OLD)
        await self.check_inside(await self.secured())

    async def test_another_library(self) -> None:
        """Python's own ssl, on a socket, verifies name and chain, and hears of the end."""
        self.start()
        context = ssl.create_default_context()
        CA.configure_trust(context)

        def talk(port: int, version: ssl.TLSVersion) -> tuple[str | None, bytes, bytes]:
            context.maximum_version = version
            with (
                socket.create_connection((LOOPBACK, port), 5) as plain,
                context.wrap_socket(plain, server_hostname=OURS) as client,
            ):
                client.sendall(WHATSAPP)
                answer = client.recv(100)
                return client.version(), answer, client.recv(100)

        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            talking = deferToThread(talk, self.proxy_port, version)
            upstream = await self.upstreams.accepted(len(self.upstreams.peers) + 1)
            await upstream.got(WHATSAPP)
            upstream.write(b"welcome")
            upstream.end()
            self.assertEqual((await talking)[1:], (b"welcome", b""))
            upstream.close()


class CipherTests(AgreedCase):
    async def test_forward_secrecy_only(self) -> None:
        self.start()
        for ciphers in (b"ECDHE+AESGCM", b"ECDHE+CHACHA20"):
            peer = await self.secured(newest=TLS12, ciphers=ciphers)
            self.assertIn("ECDHE", peer.tls.get_cipher_name())
        for ciphers in (b"kRSA", b"ECDHE+SHA1:@SECLEVEL=0", b"ECDHE+SHA256:ECDHE+SHA384", b"DHE"):
            with contextlib.suppress(SSL.Error):  # where it cannot even be offered
                said = await self.refused(newest=TLS12, ciphers=ciphers)
                self.assertIn("handshake failure", said)

    async def test_ours_decides(self) -> None:
        """In the order of ours, not of the client's."""
        self.start(tls={"ciphers": "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256"})
        peer = await self.secured(
            newest=TLS12, ciphers=b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305"
        )
        self.assertEqual(peer.tls.get_cipher_name(), "ECDHE-ECDSA-CHACHA20-POLY1305")

    async def test_a_list_of_the_operators(self) -> None:
        self.start(tls={"ciphers": "ECDHE-ECDSA-AES256-SHA384"})
        peer = await self.secured(newest=TLS12)
        self.assertEqual(peer.tls.get_cipher_name(), "ECDHE-ECDSA-AES256-SHA384")
        self.assertIn(
            "handshake failure", await self.refused(newest=TLS12, ciphers=b"ECDHE+AESGCM")
        )


class ProtocolTests(AgreedCase):
    async def test_alpn(self) -> None:
        """Ours where it is offered; otherwise none, but no failure."""
        self.start()
        for offered, chosen in (
            ((), b""),
            ((b"http/1.1",), b"http/1.1"),
            ((b"xmpp-client",), b"xmpp-client"),
            ((b"h2", b"http/1.1"), b"http/1.1"),
            ((b"xmpp-client", b"http/1.1"), b"http/1.1"),
            ((b"h2",), b""),
            ((b"HTTP/1.1", b"xmpp-server", b"x"), b""),
        ):
            for version in (TLS12, TLS13):
                peer = await self.secured(protocols=offered, newest=version)
                self.assertEqual(peer.tls.get_alpn_proto_negotiated(), chosen, offered)
                await self.check_inside(peer)

    async def test_no_renegotiation(self) -> None:
        """The client is told so, and nothing is begun anew."""
        self.start()
        peer = await self.secured(WHATSAPP, newest=TLS12)
        await (await self.upstreams.accepted()).got(WHATSAPP)
        peer.tls.renegotiate()
        with contextlib.suppress(SSL.Error):
            peer.tls.do_handshake()
        peer.flush()
        await until(lambda: peer.error or peer.lost or peer.eof)
        self.assertIn("no renegotiation", str(peer.error))
        self.assertEqual(self.factory.ledger.handshakes.total(), 1)


class ChosenTests(AgreedCase):
    async def test_by_name(self) -> None:
        """The exact one before a wildcard, which is for one label only; the first for the rest."""
        issued = {
            key: CA.issue_cert(*names)
            for key, names in {
                "first": ("first.test",),
                "wild": ("*.b.test",),
                "exact": ("x.b.test", "second.b.test"),
                "idn": ("xn--fa-hia.test",),
            }.items()
        }
        files = tuple(files_of(certificate) for certificate in issued.values())
        factory = self.start(tls={"certificate": files})
        serials = {
            identity.chain[0].serial_number: key
            for key, identity in zip(issued, factory.tls.identities, strict=True)
        }
        for name, expected in (
            ("first.test", "first"),
            *((name, "wild") for name in ("y.b.test", "Y.B.Test", "*.b.test")),
            *((name, "exact") for name in ("x.b.test", "X.b.TEST", "second.b.test")),
            ("xn--fa-hia.test", "idn"),
            *((name, "first") for name in (None, "other.test", "b.test", "z.y.b.test", LOOPBACK)),
        ):
            for version in (TLS12, TLS13):
                peer = await self.secured(name=name, newest=version, trust=None)
                seen = peer.tls.get_peer_certificate(as_cryptography=True)
                self.assertEqual(serials[seen.serial_number], expected, name)
                peer.reset()

    async def test_a_dot_behind_the_name(self) -> None:
        files = (files_of(CA.issue_cert("first.test")), files_of(CA.issue_cert("a.test")))
        factory = self.start(tls={"certificate": files})
        self.assertEqual(
            factory.tls._pick("a.test."), factory.tls._pick("a.test"), "the same certificate"
        )
        self.assertNotEqual(factory.tls._pick("a.test"), factory.tls._pick("b.test"))

    async def test_the_chain_is_sent(self) -> None:
        """Who trusts the root alone can verify."""
        issued = CA.create_child_ca().create_child_ca().issue_cert(OURS)
        self.start(tls={"certificate": (files_of(issued),)})
        peer = await self.secured()
        chain = peer.tls.get_peer_cert_chain(as_cryptography=True)
        self.assertEqual(len(chain), 3)

    async def test_key_types(self) -> None:
        for kind in (trustme.KeyType.RSA, trustme.KeyType.ECDSA):
            self.start(tls={"certificate": (files_of(CA.issue_cert(OURS, key_type=kind)),)})
            for version in (TLS12, TLS13):
                await self.check_inside(await self.secured(newest=version))

    async def test_self_signed(self) -> None:
        """Made for the names of the settings, and ours; the client that was given it trusts it."""
        directory = str(Path(self.mktemp()))
        tls = {
            "certificate": (),
            "auto_generate": True,
            "cache_dir": directory,
            "dns_names": ("a.test",),
            "ip_addresses": ("192.0.2.1",),
            "validity_days": 90,
        }
        factory = self.start(tls=tls, server={"names": ("b.test", "*.c.test")})
        (identity,) = factory.tls.identities
        self.assertEqual(identity.names, ("a.test", "b.test", "*.c.test"))
        valid = identity.chain[0].not_valid_after_utc - identity.chain[0].not_valid_before_utc
        self.assertEqual(valid.days, 91)
        self.assertEqual([p.name for p in Path(directory).iterdir()], ["self-signed.pem"])
        peer = await self.secured(name="b.test", trust=None)
        seen = peer.tls.get_peer_certificate(as_cryptography=True)
        self.assertEqual(seen, identity.chain[0])


class LoadTests(SynchronousTestCase):
    def refuse(self, *texts: str, **keys: Any) -> None:
        server = TlsServer(reactor, TlsSettings(auto_generate=False, **keys), ())
        with self.assertRaises(CertificateError) as caught:
            server.load()
        for text in texts:
            self.assertIn(text, str(caught.exception))

    def test_ciphers(self) -> None:
        self.refuse("ciphers = 'NOT-A-CIPHER'", ciphers="NOT-A-CIPHER")

    def test_a_certificate_that_openssl_does_not_take(self) -> None:
        """RSA of 1,024 bits is below its level of security."""
        key = rsa.generate_private_key(65537, 1024)
        name = x509.Name([])
        builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
        now = datetime.now(UTC)
        builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=9))
        certificate = builder.sign(key, hashes.SHA256())
        path: str = self.mktemp()
        pem = serialization.Encoding.PEM
        Path(path).write_bytes(
            certificate.public_bytes(pem)
            + key.private_bytes(
                pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.refuse(f"{path}: OpenSSL", certificate=(CertificateFiles(path, path),))

    def test_nothing(self) -> None:
        server = TlsServer(reactor, TlsSettings(auto_generate=False), ())
        server.load()
        self.assertEqual(server.identities, [])
        self.assertFalse(server.changed())
