"""The certificates of this server: loaded, made, kept, and made anew before they end."""

import contextlib
import ipaddress
import os
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from whatsproxy.files import why as why_not
from whatsproxy.tls_codecs import CertificateFiles

#: A certificate of our own is made anew so long before it ends.
RENEW = timedelta(days=30)
#: Whose metric label has no file's name.
SELF_SIGNED = "self-signed"
_FILE = "self-signed.pem"
#: What cryptography raises for bytes that are no key, no certificate, or of a kind it cannot read.
_UNREADABLE = (
    *(ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion),
    *(x509.UnsupportedGeneralNameType, x509.DuplicateExtension),
)
#: What OpenSSL and clients take.
PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)


class CertificateError(Exception):
    """A certificate cannot be used; ``str()`` names the file and what is wrong with it."""


@dataclass(frozen=True)
class Identity:
    """A private key, and the chain that speaks for it, its own certificate first.

    ``label`` tells it from others in the metrics; ``names`` are the DNS names that it speaks for,
    in lower case.
    """

    label: str
    key: PrivateKey
    chain: tuple[x509.Certificate, ...]
    names: tuple[str, ...]

    @property
    def expires(self) -> datetime:
        """When the first certificate of the chain to end does."""
        return min(certificate.not_valid_after_utc for certificate in self.chain)


def load(files: CertificateFiles, now: datetime) -> Identity:
    """Read a certificate of the operator's. Raises CertificateError."""
    chain = _read_chain(files.cert_file)
    key = _read_key(files.key_file, _passphrase(files))
    if not _match(key, chain[0]):
        raise CertificateError(f"{files.key_file}: is not the key of {files.cert_file}")
    first = chain[0]
    if first.not_valid_after_utc <= now:
        raise CertificateError(f"{files.cert_file}: expired {first.not_valid_after_utc:%Y-%m-%d}")
    if first.not_valid_before_utc > now:
        raise CertificateError(
            f"{files.cert_file}: not valid before {first.not_valid_before_utc:%Y-%m-%d}"
        )
    try:
        return Identity(files.cert_file, key, tuple(chain), _dns_names(first))
    except _UNREADABLE as e:
        raise CertificateError(f"{files.cert_file}: its names cannot be read: {e}") from None


def load_or_make(
    directory: Path | None,
    names: Sequence[str],
    addresses: Sequence[str],
    days: int,
    now: datetime,
    current: Identity | None = None,
) -> tuple[Identity, str]:
    """Return the self-signed certificate, kept in a directory; made anew where it is of no use.

    Where none can be kept, the ``current`` one stays as long as it is good.
    The second value says what was made, and why it could not be kept: for the log; empty where
    nothing was made.
    """
    why = "there is no directory to keep it in (tls.cache_dir)"
    path = None if directory is None else kept_in(directory)
    if path is not None:
        try:
            kept = _read_kept(path)
            if _is_good(kept, names, addresses, now):
                return kept, ""
            why = "the one that was kept ends soon, or is for other names"
        except FileNotFoundError:
            why = "there was none yet"
        except (OSError, *_UNREADABLE) as e:
            why = f"the one that was kept cannot be used: {e}"
    made = _make(names, addresses, days, now)
    remark = f"made a self-signed certificate, because {why}"
    if path is not None:
        try:
            _keep(made, path)
        except OSError as e:
            remark += f"; it cannot be kept in {path.parent}: {why_not(e)}"
        else:
            return made, remark
    if current is not None and _is_good(current, names, addresses, now):
        return current, ""
    return made, remark


def kept_in(directory: Path) -> Path:
    """Return the file of a directory in which load_or_make keeps the certificate."""
    return directory / _FILE


def default_directory() -> Path | None:
    """Return where a self-signed certificate is kept by default, or None where there is no place.

    systemd names a directory with CacheDirectory=; else it is the user's own cache.
    """
    if directory := os.environ.get("CACHE_DIRECTORY"):
        return Path(directory.split(":")[0])
    if directory := os.environ.get("XDG_CACHE_HOME"):
        return Path(directory, "whatsproxy")
    home = os.path.expanduser("~")
    return Path(home, ".cache", "whatsproxy") if os.path.isabs(home) else None


def _make(names: Sequence[str], addresses: Sequence[str], days: int, now: datetime) -> Identity:
    """Make a key and its certificate; nothing in it tells what this program is."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, secrets.token_hex(8))])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
    )
    alternatives = _general_names(names, addresses)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    return Identity(SELF_SIGNED, key, (certificate,), _dns_names(certificate))


def _general_names(names: Sequence[str], addresses: Sequence[str]) -> list[x509.GeneralName]:
    dns = [x509.DNSName(name) for name in dict.fromkeys(names)]
    return [*dns, *(x509.IPAddress(ipaddress.ip_address(a)) for a in dict.fromkeys(addresses))]


def _keep(identity: Identity, path: Path) -> None:
    """Write key and certificate to one file: whole or not at all, and for the owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "wb") as f:
            f.write(
                identity.key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
            f.write(identity.chain[0].public_bytes(serialization.Encoding.PEM))
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _read_kept(path: Path) -> Identity:
    if path.stat().st_mode & 0o077:
        raise ValueError("others may have read its key (its mode is not 0600)")
    data = path.read_bytes()
    key = serialization.load_pem_private_key(data, None)
    chain = x509.load_pem_x509_certificates(data)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not _match(key, chain[0]):
        raise ValueError("its key is not its own")
    return Identity(SELF_SIGNED, key, tuple(chain), _dns_names(chain[0]))


def _is_good(kept: Identity, names: Sequence[str], addresses: Sequence[str], now: datetime) -> bool:
    found = _alternative_names(kept.chain[0])
    same = set(found or ()) == set(_general_names(names, addresses))
    return same and kept.chain[0].not_valid_before_utc <= now < kept.expires - RENEW


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    """Return a certificate's names, or None where it has none. Raises what is _UNREADABLE."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    names = _alternative_names(certificate)
    return tuple(n.lower() for n in names.get_values_for_type(x509.DNSName)) if names else ()


def _read_chain(path: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(Path(path).read_bytes())
    except OSError as e:
        raise CertificateError(f"{path}: cannot be read: {why_not(e)}") from None
    except _UNREADABLE:
        raise CertificateError(f"{path}: holds no certificate in PEM") from None


def _read_key(path: str, passphrase: bytes | None) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(Path(path).read_bytes(), passphrase)
    except OSError as e:
        raise CertificateError(f"{path}: cannot be read: {why_not(e)}") from None
    except TypeError:
        needed = "has no passphrase" if passphrase else "needs a passphrase: name passphrase_env"
        raise CertificateError(f"{path}: the key {needed}") from None
    except _UNREADABLE:
        wrong = ", or the passphrase is wrong" if passphrase else ""
        raise CertificateError(f"{path}: holds no private key in PEM{wrong}") from None
    if not isinstance(key, PrivateKey):
        raise CertificateError(f"{path}: keys of that type are not taken; RSA and ECDSA are")
    return key


def _passphrase(files: CertificateFiles) -> bytes | None:
    variable = files.passphrase_env
    if not variable:
        return None
    value = os.environ.get(variable)
    if value is None:
        raise CertificateError(f"{files.key_file}: the environment has no {variable}")
    return value.encode()


def _match(key: PrivateKey, certificate: x509.Certificate) -> bool:
    der, spki = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    mine = key.public_key().public_bytes(der, spki)
    try:
        return mine == certificate.public_key().public_bytes(der, spki)
    except _UNREADABLE:
        return False
