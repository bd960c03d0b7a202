"""The operator's own certificates: read, or refused by a word about the file."""

import os
from datetime import timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519
from twisted.trial.unittest import SynchronousTestCase

from tests.test_certificates import DAY, NOW, armoured, pem_of
from tests.tls_peers import CA
from tests.tls_support import files_of, own_certificate
from whatsproxy.certificates import (
    CertificateError,
    load,
)
from whatsproxy.tls_codecs import CertificateFiles


class OwnCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def files(self, issued: trustme.LeafCert) -> CertificateFiles:
        return files_of(issued, self.directory)

    def refuse(self, files: CertificateFiles, at: str, *texts: str) -> None:
        """It is a CertificateError that begins with this, and has these texts in it."""
        with self.assertRaises(CertificateError) as caught:
            load(files, NOW)
        self.assertTrue(str(caught.exception).startswith(f"{at}: "), caught.exception)
        self.assertNotIn("\n", str(caught.exception))
        for text in texts:
            self.assertIn(text, str(caught.exception))


class OwnTests(OwnCase):
    def test_chain(self) -> None:
        """The whole of it, in its order; the end is the first to come."""
        authority = CA.create_child_ca()
        issued = authority.issue_cert("A.test", "*.b.test", "192.0.2.1", not_after=NOW + DAY)
        files = self.files(issued)
        identity = load(files, NOW)
        self.assertEqual(len(identity.chain), 2)
        self.assertEqual(identity.names, ("a.test", "*.b.test"))
        self.assertEqual(identity.label, files.cert_file)
        self.assertEqual(identity.expires, NOW + DAY)
        identity.chain[0].verify_directly_issued_by(identity.chain[1])

    def test_one_file_for_both(self) -> None:
        issued = own_certificate()
        path = self.directory / "both.pem"
        for parts in (
            [issued.private_key_pem, *issued.cert_chain_pems],
            [*issued.cert_chain_pems, issued.private_key_pem],
        ):
            path.write_bytes(b"".join(part.bytes() for part in parts))
            identity = load(CertificateFiles(str(path), str(path)), NOW)
            self.assertEqual(len(identity.chain), len(issued.cert_chain_pems))

    def test_another_key(self) -> None:
        files = self.files(own_certificate())
        for key in (
            ec.generate_private_key(ec.SECP256R1()),
            rsa.generate_private_key(65537, 2048),
            ed25519.Ed25519PrivateKey.generate(),
        ):
            Path(files.key_file).write_bytes(pem_of(key))
            self.refuse(files, files.key_file, f"is not the key of {files.cert_file}")

    def test_key_types(self) -> None:
        for kind in (trustme.KeyType.RSA, trustme.KeyType.ECDSA):
            files = self.files(CA.issue_cert("a.test", key_type=kind))
            self.assertEqual(load(files, NOW).names, ("a.test",))

    def test_expired(self) -> None:
        files = self.files(CA.issue_cert("a.test", not_after=NOW))
        self.refuse(files, files.cert_file, f"expired {NOW:%Y-%m-%d}")
        files = self.files(CA.issue_cert("a.test", not_after=NOW + timedelta(seconds=1)))
        load(files, NOW)

    def test_not_yet_valid(self) -> None:
        start = NOW + timedelta(seconds=1)
        files = self.files(CA.issue_cert("a.test", not_before=start, not_after=start + DAY))
        self.refuse(files, files.cert_file, f"not valid before {start:%Y-%m-%d}")
        load(files, start)

    def test_unreadable(self) -> None:
        files = self.files(own_certificate())
        nowhere = str(self.directory / "nowhere")
        for path, why in ((nowhere, "No such file"), (str(self.directory), "Is a directory")):
            self.refuse(CertificateFiles(path, files.key_file), path, "cannot be read", why)
            self.refuse(CertificateFiles(files.cert_file, path), path, "cannot be read", why)

    def test_no_pem(self) -> None:
        for data in (b"", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END", b"x" * 9999):
            files = self.files(own_certificate())
            Path(files.cert_file).write_bytes(data)
            self.refuse(files, files.cert_file, "holds no certificate in PEM")
            files = self.files(own_certificate())
            Path(files.key_file).write_bytes(data)
            self.refuse(files, files.key_file, "holds no private key in PEM")
        self.refuse(
            CertificateFiles(files.cert_file, files.cert_file), files.cert_file, "no private key"
        )

    def test_any_damage(self) -> None:
        """Every byte of either, flipped: loaded, or refused by a word about one of the files."""
        issued = own_certificate()
        files = self.files(issued)
        for path, label in ((files.cert_file, "CERTIFICATE"), (files.key_file, "PRIVATE KEY")):
            whole = Path(path).read_bytes()
            key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
            certificate = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
            der = (
                certificate.public_bytes(serialization.Encoding.DER)
                if label == "CERTIFICATE"
                else key.private_bytes(
                    serialization.Encoding.DER,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
            for at in range(len(der)):
                damaged = der[:at] + bytes([der[at] ^ 1]) + der[at + 1 :]
                Path(path).write_bytes(armoured(label, damaged))
                try:
                    load(files, NOW)
                except CertificateError as e:
                    self.assertRegex(str(e), rf"\A({files.cert_file}|{files.key_file}): ")
            Path(path).write_bytes(whole)


class KeyTests(OwnCase):
    def test_types_that_are_not_taken(self) -> None:
        files = self.files(own_certificate())
        for key in (x25519.X25519PrivateKey.generate(), dsa.generate_private_key(2048)):
            Path(files.key_file).write_bytes(pem_of(key))
            self.refuse(files, files.key_file, "that type", "RSA and ECDSA")

    def test_a_curve_that_nobody_knows(self) -> None:
        """SM2, as ``openssl genpkey -algorithm SM2`` makes it."""
        files = self.files(own_certificate())
        Path(files.key_file).write_bytes(SM2)
        self.refuse(files, files.key_file)

    def with_passphrase(self, variable: str) -> CertificateFiles:
        files = self.files(own_certificate())
        key = serialization.load_pem_private_key(Path(files.key_file).read_bytes(), None)
        Path(files.key_file).write_bytes(pem_of(key, "geheim ß".encode()))
        return CertificateFiles(files.cert_file, files.key_file, variable)

    def test_passphrase(self) -> None:
        files = self.with_passphrase("KEY_WORD")
        self.patch(os, "environ", {"KEY_WORD": "geheim ß"})
        self.assertEqual(load(files, NOW).label, files.cert_file)

    def test_wrong_passphrase(self) -> None:
        files = self.with_passphrase("KEY_WORD")
        for word in ("geheim", "geheim ß "):
            self.patch(os, "environ", {"KEY_WORD": word})
            self.refuse(files, files.key_file, "the passphrase is wrong")

    def test_no_passphrase(self) -> None:
        files = self.with_passphrase("")
        self.refuse(files, files.key_file, "needs a passphrase", "passphrase_env")
        self.patch(os, "environ", {"KEY_WORD": ""})
        files = self.with_passphrase("KEY_WORD")
        self.refuse(files, files.key_file, "needs a passphrase")

    def test_no_variable(self) -> None:
        """Of which certificate, the error has to say as well."""
        files = self.with_passphrase("KEY_WORD")
        self.patch(os, "environ", {})
        with self.assertRaises(CertificateError) as caught:
            load(files, NOW)
        self.assertIn("KEY_WORD", str(caught.exception))
        self.assertIn(files.key_file, str(caught.exception))

    def test_a_passphrase_for_nothing(self) -> None:
        files = self.files(own_certificate())
        self.patch(os, "environ", {"KEY_WORD": "x"})
        files = CertificateFiles(files.cert_file, files.key_file, "KEY_WORD")
        self.refuse(files, files.key_file, "has no passphrase")


SM2 = b"""\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqBHM9VAYItBG0wawIBAQQguqN29fYmK2DkLvLB
mgYLNzU6B+pbJgIzb9CAtqfGi6ihRANCAARlUEXTGHCGh2bqsYXq2Z4hA+VZSFvA
BVF1eRFxPFaamPd3qBo9XGaXzOpOEVm2eFjkJ7zTzmFrOEGBNZjkA9oe
-----END PRIVATE KEY-----
"""
