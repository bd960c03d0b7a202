"""The self-signed certificate: made, kept, and made anew."""

import base64
import contextlib
import errno
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from whatsproxy import certificates
from whatsproxy.certificates import (
    RENEW,
    SELF_SIGNED,
    Identity,
    default_directory,
    load_or_make,
)

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
NAMES, ADDRESSES = ("a.test", "*.b.test"), ("192.0.2.1", "2001:db8::1")
FILE = "self-signed.pem"


def pem_of(key: Any, passphrase: bytes | None = None) -> bytes:
    """Return a private key as PEM, encrypted if there is a passphrase."""
    hidden: Any = serialization.NoEncryption()
    if passphrase:
        hidden = serialization.BestAvailableEncryption(passphrase)
    return bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
    )


def armoured(label: str, der: bytes) -> bytes:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n".encode()


def alternatives(identity: Identity) -> list[str]:
    found = identity.chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


class KeptCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())

    def get(
        self, names: Any = NAMES, addresses: Any = ADDRESSES, days: int = 365, now: datetime = NOW
    ) -> tuple[Identity, str]:
        return load_or_make(self.directory, names, addresses, days, now)

    def renewed(self, first: Identity, why: str, **keys: Any) -> Identity:
        """The next one is another one, for this reason, and is kept."""
        second, remark = self.get(**keys)
        self.assertNotEqual(first.chain, second.chain)
        self.assertIn("made a self-signed certificate, because", remark)
        self.assertIn(why, remark)
        self.assertNotIn("cannot be kept", remark)
        third, remark = self.get(**keys)
        self.assertEqual((second.chain, ""), (third.chain, remark))
        return second


class MadeTests(KeptCase):
    def test_what_it_is(self) -> None:
        """P-256, exactly the names and addresses wanted, for a server, signed by itself."""
        identity, remark = self.get()
        (certificate,) = identity.chain
        assert isinstance(identity.key, ec.EllipticCurvePrivateKey)
        self.assertEqual(identity.key.curve.name, "secp256r1")
        self.assertEqual(alternatives(identity), [*NAMES, *ADDRESSES])
        self.assertEqual(identity.names, NAMES)
        self.assertEqual(identity.label, SELF_SIGNED)
        self.assertEqual(identity.expires, NOW + 365 * DAY)
        self.assertLessEqual(certificate.not_valid_before_utc, NOW)
        certificate.verify_directly_issued_by(certificate)
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual(list(usage), [x509.ExtendedKeyUsageOID.SERVER_AUTH])
        self.assertIn("there was none yet", remark)

    def test_its_subject_names_nothing(self) -> None:
        """Random digits and nothing else: two do not resemble each other."""
        subjects = set()
        for _ in range(5):
            self.directory = Path(self.mktemp())
            identity, _ = self.get()
            (attribute,) = identity.chain[0].subject
            self.assertEqual(attribute.oid, NameOID.COMMON_NAME)
            self.assertRegex(str(attribute.value), r"\A[0-9a-f]{16}\Z")
            self.assertEqual(identity.chain[0].subject, identity.chain[0].issuer)
            subjects.add(attribute.value)
            der = identity.chain[0].public_bytes(serialization.Encoding.DER).lower()
            for word in (b"proxy", b"whats", b"twisted"):
                self.assertNotIn(word, der)
        self.assertEqual(len(subjects), 5)

    def test_no_names(self) -> None:
        identity, _ = self.get((), ())
        self.assertEqual(identity.names, ())
        self.assertEqual(self.get((), ())[0].chain, identity.chain)

    def test_a_name_twice(self) -> None:
        identity, _ = self.get(("a.test", "a.test"), ("192.0.2.1",) * 2)
        self.assertEqual(alternatives(identity), ["a.test", "192.0.2.1"])
        self.assertEqual(self.get(("a.test",), ("192.0.2.1",))[0].chain, identity.chain)


class KeptTests(KeptCase):
    def test_for_the_owner_alone(self) -> None:
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        self.get()
        self.assertEqual(os.listdir(self.directory), [FILE])
        self.assertEqual(stat.S_IMODE(os.stat(self.directory / FILE).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(self.directory).st_mode), 0o700)

    def test_it_is_used_again(self) -> None:
        first, _ = self.get()
        for now in (NOW, NOW + DAY, NOW + 365 * DAY - RENEW - DAY):
            second, remark = self.get(now=now)
            self.assertEqual((second.chain, remark), (first.chain, ""))
            self.assertEqual(pem_of(second.key), pem_of(first.key))

    def test_the_order_of_names_does_not_matter(self) -> None:
        first, _ = self.get()
        self.assertEqual(self.get(NAMES[::-1], ADDRESSES[::-1])[0].chain, first.chain)

    def test_anew_before_it_ends(self) -> None:
        self.assertEqual(RENEW, 30 * DAY)
        first, _ = self.get()
        end = NOW + 365 * DAY
        self.assertEqual(self.get(now=end - RENEW - timedelta(seconds=1))[0].chain, first.chain)
        second = self.renewed(first, "ends soon", now=end - RENEW)
        self.assertEqual(second.expires, end - RENEW + 365 * DAY)

    def test_anew_when_the_clock_was_wrong(self) -> None:
        """Made in the future: no client would take it now."""
        first, _ = self.get(now=NOW + 100 * DAY)
        self.renewed(first, "")

    def test_anew_for_other_names(self) -> None:
        for keys in (
            {"names": ("a.test",)},
            {"names": (*NAMES, "c.test")},
            {"addresses": ()},
            {"addresses": ("192.0.2.2", "2001:db8::1")},
            {"names": (), "addresses": ()},
        ):
            self.directory = Path(self.mktemp())
            first, _ = self.get()
            self.renewed(first, "other names", **keys)

    def test_anew_when_damaged(self) -> None:
        first, _ = self.get()
        path = self.directory / FILE
        whole = path.read_bytes()
        key, _, chain = whole.partition(b"-----BEGIN CERT")
        chain = b"-----BEGIN CERT" + chain
        for data in (
            *(b"", b"\0" * len(whole), whole[: len(whole) // 2], whole[:-30], key, chain, b"\xff"),
            pem_of(ec.generate_private_key(ec.SECP256R1())) + chain,  # another's
            pem_of(ed25519.Ed25519PrivateKey.generate()) + chain,
            pem_of(first.key, b"secret") + chain,
        ):
            path.write_bytes(data)
            first = self.renewed(first, "the one that was kept cannot be used")

    @given(st.data())
    def test_any_damage(self, data: st.DataObject) -> None:
        """Whatever a bad disk makes of the file: the service starts, with a sound certificate."""
        self.directory = Path(self.mktemp())
        first, _ = self.get()
        parts = [
            base64.b64decode(b"".join(block.split(b"-----")[2].split()))
            for block in (
                pem_of(first.key),
                first.chain[0].public_bytes(serialization.Encoding.PEM),
            )
        ]
        for _ in range(data.draw(st.integers(1, 3))):
            which = data.draw(st.integers(0, 1))
            damaged = bytearray(parts[which])
            damaged[data.draw(st.integers(0, 200)) % len(damaged)] ^= data.draw(st.integers(1, 255))
            parts[which] = bytes(damaged)
        (self.directory / FILE).write_bytes(
            armoured("PRIVATE KEY", parts[0]) + armoured("CERTIFICATE", parts[1])
        )
        identity, _ = self.get()
        self.assertEqual(identity.names, NAMES)
        self.assertTrue(certificates._match(identity.key, identity.chain[0]))


class DirectoryTests(KeptCase):
    """Where nothing can be kept it serves all the same, and says so."""

    def unkept(self) -> str:
        identity, remark = self.get()
        self.assertEqual(identity.names, NAMES)
        self.assertIn(f"it cannot be kept in {self.directory}: ", remark)
        return remark

    def test_no_directory(self) -> None:
        identity, remark = load_or_make(None, NAMES, (), 365, NOW)
        self.assertEqual(identity.names, NAMES)
        self.assertIn("tls.cache_dir", remark)

    def test_a_file_in_its_place(self) -> None:
        self.directory.write_bytes(b"")
        self.unkept()
        self.directory = self.directory / "below"
        self.unkept()

    def test_no_permission(self) -> None:
        def refuse(*_: Any, **__: Any) -> Any:
            raise PermissionError(errno.EACCES, "Permission denied")

        self.patch(certificates.tempfile, "mkstemp", refuse)
        self.assertIn("Permission denied", self.unkept())

    def broken_write(self, error: BaseException) -> None:
        def fail(_: int) -> None:
            raise error

        self.patch(os, "fsync", fail)

    def test_a_full_disk(self) -> None:
        """The old one stays, whole, though it is for other names; no half of the new one does."""
        old, _ = self.get(("old.test",))
        before = (self.directory / FILE).read_bytes()
        self.broken_write(OSError(errno.ENOSPC, "No space left on device"))
        self.assertIn("No space left", self.unkept())
        self.assertEqual(os.listdir(self.directory), [FILE])
        self.assertEqual((self.directory / FILE).read_bytes(), before)
        self.assertEqual(self.get(("old.test",), ADDRESSES)[0].chain, old.chain)

    def test_an_interrupt(self) -> None:
        self.get(("old.test",))
        before = (self.directory / FILE).read_bytes()
        self.broken_write(KeyboardInterrupt())
        with self.assertRaises(KeyboardInterrupt):
            self.get()
        self.assertEqual(os.listdir(self.directory), [FILE])
        self.assertEqual((self.directory / FILE).read_bytes(), before)

    def test_a_crash_while_writing(self) -> None:
        """Not even the clearing up runs: what is read afterwards is the old one."""
        old, _ = self.get()

        def crash(*_: Any) -> Any:
            raise KeyboardInterrupt

        self.patch(os, "replace", crash)
        self.patch(os, "unlink", crash)
        with contextlib.suppress(KeyboardInterrupt):
            self.get(("new.test",))
        self.assertEqual(len(os.listdir(self.directory)), 2)
        self.assertEqual(self.get()[0].chain, old.chain)

    def test_the_default(self) -> None:
        for environ, expected in (
            ({"CACHE_DIRECTORY": "/a:/b", "XDG_CACHE_HOME": "/c", "HOME": "/d"}, "/a"),
            ({"XDG_CACHE_HOME": "/c", "HOME": "/d"}, "/c/whatsproxy"),
            ({"HOME": "/d"}, "/d/.cache/whatsproxy"),
            ({"HOME": "nowhere"}, None),
        ):
            self.patch(os, "environ", environ)
            self.assertEqual(default_directory(), expected and Path(expected))
