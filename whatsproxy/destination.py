"""Where a connection may go: a host and a port, in one normal form.

Names that are equal to a resolver are equal here: lower case, no trailing dot, IDNA 2008
A-labels. Addresses are in their shortest form (RFC 5952). What only *looks* like a name but is an
address to some C library (``0177.1``, ``2130706433``) is refused, so that a rule about names is
never asked about one.
"""

import re
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

#: Letters, digits, hyphen, and the underscore that real names use (RFC 8552).
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
#: A last label that inet_aton() would take for a number.
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAME_LIMIT = 253


class DestinationError(ValueError):
    """The text is no destination; ``str()`` says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A host (name or address, normalised) and a TCP port; ``tls``: TLS is spoken there."""

    host: str
    port: int
    tls: bool = False
    _text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        text = f"{'tls://' if self.tls else ''}{host}:{self.port}"
        object.__setattr__(self, "_text", text)  # frozen; each connection asks for it

    @property
    def is_address(self) -> bool:
        """Is the host a literal IPv4 or IPv6 address?"""
        return is_address(self.host)

    def over_tls(self) -> "Destination":
        """Return the same place, spoken to in TLS."""
        return Destination(self.host, self.port, tls=True)

    def __str__(self) -> str:
        return self._text


def is_address(host: str) -> bool:
    """Is this *normalised* host a literal address? (No normalised name ends in a digit label.)"""
    return ":" in host or host.rpartition(".")[2].isdecimal()


def normalise_name(name: str) -> str:
    """Return a host name in lower case A-labels without the trailing dot.

    Raises DestinationError for what is no host name (RFC 1123, 5891), an address included.
    """
    text = name
    if not name.isascii():
        try:
            text = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError as e:
            raise DestinationError(f"{name!r} is no internationalised host name: {e}") from None
    text = text.lower().removesuffix(".")
    if len(text) > _NAME_LIMIT:
        raise DestinationError(f"a host name of {len(text)} characters is too long")
    labels = text.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise DestinationError(f"{name!r} is no host name")
    if _NUMERIC.fullmatch(labels[-1]):
        raise DestinationError(f"{name!r} is a number, not a host name")
    return text


def normalise_host(host: str) -> str:
    """Return a name, an IPv4 address or an IPv6 address (without brackets) in its normal form."""
    try:
        if ":" in host:
            if "%" in host:
                raise DestinationError(f"{host!r}: an address with a zone is not accepted")
            return str(IPv6Address(host))
        return str(IPv4Address(host))
    except AddressValueError:
        if ":" in host:
            raise DestinationError(f"{host!r} is no IPv6 address") from None
    return normalise_name(host)


def parse_port(text: str) -> int:
    """Return a port from 1 to 65535 (RFC 3986 digits: no sign, no space)."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise DestinationError(f"{text!r} is no port from 1 to 65535")
    return int(text)


def parse_destination(text: str, default_port: int | None = None) -> Destination:
    """Parse ``host:port`` or ``[v6]:port`` (RFC 3986 3.2, without userinfo)."""
    bracketed = re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", text, re.DOTALL)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
        if ":" not in host:
            raise DestinationError(f"{host!r} is no IPv6 address")
    else:
        host, colon, tail = text.partition(":")
        port = tail if colon else None
    if port is None:
        if default_port is None:
            raise DestinationError(f"{text!r} lacks a port: host:port is expected")
        return Destination(normalise_host(host), default_port)
    return Destination(normalise_host(host), parse_port(port))
