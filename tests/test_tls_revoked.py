"""Certificates that their issuer has taken back: what a list beside the authorities says counts."""

import tempfile
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.test_tls_client import DAY, NOW, OTHERS, THERE, ClientCase
from tests.tls_peers import CA
from whatsproxy.reason import Reason
from whatsproxy.tls_client import UntrustedError
from whatsproxy.upstream import reason_of


def revoked(authority: trustme.CA, *certificates: trustme.LeafCert) -> bytes:
    """Return an authority's list of these certificates, in PEM."""
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(NOW - DAY)
        .next_update(NOW + DAY)
    )
    for certificate in certificates:
        leaf = x509.load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes())
        entry = x509.RevokedCertificateBuilder().serial_number(leaf.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(NOW - DAY).build())
    signed = builder.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


class RevokedTests(ClientCase):
    def trusting(self, *parts: bytes) -> str:
        path = Path(tempfile.mkdtemp(dir="."), "ca.pem")
        path.write_bytes(CA.cert_pem.bytes() + b"".join(parts))
        return str(path)

    async def test_revoked(self) -> None:
        bad, good = CA.issue_cert("origin.test"), CA.issue_cert("origin.test")
        path = self.trusting(revoked(CA, bad))
        await self.untrusted(self.serve(bad), "its certificate was revoked", upstream_ca_file=path)
        await self.trusted(self.serve(good), upstream_ca_file=path)

    async def test_without_a_list_nobody_is(self) -> None:
        bad = CA.issue_cert("origin.test")
        await self.trusted(self.serve(bad), upstream_ca_file=self.trusting())

    async def test_an_issuer_without_a_list(self) -> None:
        """Where lists count, nobody is excused."""
        path = self.trusting(OTHERS.cert_pem.bytes(), revoked(CA))
        server = self.serve(OTHERS.issue_cert("origin.test"))
        await self.untrusted(server, "no list of revoked", upstream_ca_file=path)

    async def test_the_reason(self) -> None:
        with self.assertRaises(UntrustedError) as caught:
            bad = CA.issue_cert("origin.test")
            upstream = self.upstream(
                self.serve(bad), upstream_ca_file=self.trusting(revoked(CA, bad))
            )
            await upstream.connect([THERE])
        self.assertIs(reason_of(caught.exception), Reason.UPSTREAM_UNTRUSTED)
