"""Settings about TLS: certificates, names of this server, pins."""

import base64
import binascii
import ipaddress
import os
import re
from dataclasses import dataclass

from whatsproxy.codecs import Codec, list_of, text_of
from whatsproxy.destination import DestinationError, normalise_host, normalise_name
from whatsproxy.policy import normalise_pattern


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where a certificate's chain and key are; ``passphrase_env`` names a variable, or nothing."""

    cert_file: str
    key_file: str
    passphrase_env: str = ""


#: The public keys that a host may have: SHA-256 digests of their SubjectPublicKeyInfo (RFC 7469).
Pins = tuple[tuple[str, tuple[bytes, ...]], ...]


def _decode_files(raw: object) -> CertificateFiles:
    right = '{cert_file = "chain.pem", key_file = "key.pem"} is expected'
    if not isinstance(raw, dict) or not {"cert_file", "key_file"} <= raw.keys():
        raise ValueError(right)
    unknown = raw.keys() - {"cert_file", "key_file", "passphrase_env"}
    if unknown:
        raise ValueError(f"{', '.join(map(repr, sorted(unknown)))} is unknown; {right}")
    texts = {key: text_of(value) for key, value in raw.items()}
    if not texts["cert_file"] or not texts["key_file"] or "\0" in "".join(texts.values()):
        raise ValueError(right)
    for key in ("cert_file", "key_file"):
        texts[key] = os.path.expanduser(texts[key])
    return CertificateFiles(**texts)


def _decode_certificates(raw: object) -> tuple[CertificateFiles, ...]:
    found: tuple[CertificateFiles, ...] = list_of("[[tls.certificate]]", _decode_files).decode(raw)
    if len({os.path.abspath(files.cert_file) for files in found}) < len(found):
        raise ValueError("a cert_file stands there twice")
    return found


def _encode_files(files: tuple[CertificateFiles, ...]) -> list[dict[str, str]]:
    return [
        {"cert_file": f.cert_file, "key_file": f.key_file}
        | ({"passphrase_env": f.passphrase_env} if f.passphrase_env else {})
        for f in files
    ]


def _files_from_text(text: str) -> object:
    """Read ``CHAIN:KEY[:VARIABLE],CHAIN:KEY``."""
    names = ("cert_file", "key_file", "passphrase_env")
    return [
        dict(zip(names, item.strip().split(":", 2), strict=False))
        for item in text.split(",")
        if item.strip()
    ]


def _decode_pattern(raw: object) -> str:
    try:
        return normalise_pattern(text_of(raw))
    except DestinationError as e:
        raise ValueError(f"{e}; proxy.example or *.proxy.example would be right") from None


def _decode_address(raw: object) -> str:
    try:
        if "%" in text_of(raw):
            raise ValueError
        return str(ipaddress.ip_address(text_of(raw)))
    except ValueError:
        raise ValueError("an IPv4 or IPv6 address is expected") from None


def _decode_pin(raw: object) -> bytes:
    found = re.fullmatch(r"sha256/([A-Za-z0-9+/]{43}=)", text_of(raw))
    try:
        return base64.b64decode(found[1], validate=True) if found else _no_pin()
    except binascii.Error:
        return _no_pin()


def _no_pin() -> bytes:
    raise ValueError("sha256/ and the base64 of a public key's SHA-256 are expected")


def _decode_pins(raw: object) -> Pins:
    if not isinstance(raw, dict):
        raise ValueError('{"host" = ["sha256/…"]} is expected')
    pins = {}
    for host, values in raw.items():
        try:
            name = normalise_host(host)
        except DestinationError as e:
            raise ValueError(str(e)) from None
        if not isinstance(values, list | tuple) or not values:
            raise ValueError(f'{host}: a list of pins is expected: ["sha256/…"]')
        if name in pins:
            raise ValueError(f"{host} stands there twice")
        pins[name] = tuple(_decode_pin(value) for value in values)
    return tuple(pins.items())


def _encode_pins(pins: Pins) -> dict[str, list[str]]:
    return {
        host: [f"sha256/{base64.b64encode(value).decode()}" for value in values]
        for host, values in pins
    }


def _pins_from_text(text: str) -> object:
    """Read ``HOST=sha256/…,HOST=sha256/…``; a host may stand there more than once."""
    pins: dict[str, list[str]] = {}
    for item in text.split(","):
        host, _, pin = item.strip().partition("=")
        if host:
            pins.setdefault(host, []).append(pin)
    return pins


def _decode_path(raw: object) -> str:
    text = text_of(raw)
    if "\0" in text:
        raise ValueError("a path is expected")
    return os.path.expanduser(text)


def _decode_ciphers(raw: object) -> str:
    text = text_of(raw)
    if not re.fullmatch(r"[A-Za-z0-9_+:!@=.-]*", text):
        raise ValueError("a list of ciphers in OpenSSL's words is expected: ECDHE+AESGCM")
    return text


def _decode_dns_name(raw: object) -> str:
    try:
        text = text_of(raw)
        return normalise_pattern(text) if text.startswith("*.") else normalise_name(text)
    except DestinationError as e:
        raise ValueError(str(e)) from None


CERTIFICATES = Codec(
    "certificates: cert_file, key_file[, passphrase_env]",
    _decode_certificates,
    encode=_encode_files,
    from_text=_files_from_text,
)
SERVER_NAMES = list_of("names", _decode_pattern)
DNS_NAMES = list_of("names", _decode_dns_name)
IP_ADDRESSES = list_of("addresses", _decode_address)
PINS = Codec(
    '{"host" = ["sha256/…"]}', _decode_pins, encode=_encode_pins, from_text=_pins_from_text
)
PATH = Codec("a path, or nothing", _decode_path)
CIPHERS = Codec("ciphers in OpenSSL's words, or nothing", _decode_ciphers)
