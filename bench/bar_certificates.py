"""Certificates for the bars: the same files for every program, ECDSA P-256 and RSA 2048."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

#: Server names, by which a program with several certificates picks one.
ECDSA, RSA = "ecdsa.test", "rsa.test"


def write(directory: Path) -> list[Path]:
    """Make one of each kind; return their files, with the certificate and its key in each."""
    return [
        _write(directory, ECDSA, ec.generate_private_key(ec.SECP256R1())),
        _write(directory, RSA, rsa.generate_private_key(65537, 2048)),
    ]


def _write(directory: Path, host: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> Path:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{host}.pem"
    path.touch(0o600)
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path
