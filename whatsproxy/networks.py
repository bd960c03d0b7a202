"""Addresses and networks as numbers, on one line for both families, IPv4 behind IPv6.

A v4-mapped address (``::ffff:192.0.2.1``, RFC 4291 2.5.5.2), which is how a dual-stack listener
sees 192.0.2.1, has the number of that one: no rule can be passed by the other spelling. And
``::/0`` is IPv6, and nothing of IPv4. Numbers instead of ipaddress's objects: a list of 100,000
networks loads in a fraction of a second, and a look-up is a bisection.
"""

import ipaddress
import re
import socket
from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

_V4_BITS, _V6_BITS = 32, 128
_V4 = 1 << _V6_BITS
#: What v4-mapped addresses have in front of the IPv4 address.
_MAPPED = 0xFFFF
#: What one operator of IPv6 has at the least: the networks of single hosts (RFC 6177, RFC 7934).
_HOST_BITS_V6 = 64
_PREFIX = re.compile("[0-9]{1,3}")

#: First and last number.
Network = tuple[int, int]


class NetworkError(ValueError):
    """The text is no network; ``str()`` says what would be right."""


@lru_cache(4096)
def number_of(address: str) -> int:
    """Return the number of an IPv4 or IPv6 address, whose zone, if any, is left out.

    Raises ValueError for what is none. Only the usual spelling of IPv4 is one, not ``127.1``.
    """
    try:
        if ":" in address:
            plain = address.partition("%")[0]
            return number_from(socket.inet_pton(socket.AF_INET6, plain))
        return number_from(socket.inet_pton(socket.AF_INET, address))
    except (OSError, UnicodeError):
        raise ValueError(f"{address!r} is no address") from None


def number_from(packed: bytes) -> int:
    """Return the number of an address of 4 or 16 bytes."""
    number = int.from_bytes(packed)
    if len(packed) * 8 == _V4_BITS or number >> _V4_BITS == _MAPPED:
        return _V4 | (number & 0xFFFFFFFF)
    return number


def packed(number: int, *, as_v6: bool = False) -> bytes:
    """Return an address as 4 or 16 bytes; ``as_v6``: IPv4 in its v4-mapped form."""
    if not is_v4(number):
        return number.to_bytes(_V6_BITS // 8)
    number &= 0xFFFFFFFF
    if as_v6:
        return (_MAPPED << _V4_BITS | number).to_bytes(_V6_BITS // 8)
    return number.to_bytes(_V4_BITS // 8)


def is_v4(number: int) -> bool:
    """Is this the number of an IPv4 address?"""
    return number >= _V4


def address_of(number: int) -> str:
    """Return the address of a number, in its shortest form (RFC 5952)."""
    if is_v4(number):
        return socket.inet_ntoa((number & 0xFFFFFFFF).to_bytes(4))
    if number >> _V4_BITS:
        return socket.inet_ntop(socket.AF_INET6, number.to_bytes(16))  # ipaddress takes ten times
    return str(ipaddress.IPv6Address(number))  # of these inet_ntop would write the end as IPv4


def is_loopback(number: int) -> bool:
    """Is this an address by which a host reaches itself?"""
    return number == 1 or number >> 24 == (_V4 | 127 << 24) >> 24


def host_of(number: int) -> int:
    """Return what stands for one host: the address in IPv4, the /64 in IPv6."""
    return number if is_v4(number) else number >> _HOST_BITS_V6 << _HOST_BITS_V6


def neighbourhood(number: int) -> str:
    """Return the network of a number as text, so wide that it tells no host: /24 or /48."""
    if is_v4(number):
        return f"{address_of(number >> 8 << 8)}/24"
    return f"{address_of(number >> 80 << 80)}/48"


def parse_network(text: str) -> Network:
    """Parse an address, or ``address/prefix`` (RFC 4632, RFC 4291 2.3). Raises NetworkError."""
    address, slash, prefix = text.partition("/")
    try:
        first = number_of(address)
    except ValueError:
        first = -1
    if first < 0 or "%" in address:
        raise NetworkError(f"{text!r} is no network; 192.0.2.0/24 or 2001:db8::/32 would be right")
    bits = _V6_BITS if ":" in address else _V4_BITS
    if not slash:
        return first, first
    length = int(prefix) if _PREFIX.fullmatch(prefix) else bits + 1
    if length > bits:
        raise NetworkError(f"{text!r}: behind the slash 0 to {bits} is expected")
    size = 1 << (bits - length)
    if first & (size - 1) or (is_v4(first) and size > 1 << _V4_BITS):
        right = ipaddress.ip_network(text, strict=False)
        raise NetworkError(f"{text!r} is an address within a network; {right} would be right")
    return first, first + size - 1


class AddressSet(Protocol):
    """Whatever can tell whether an address belongs to it, by its number."""

    def __contains__(self, number: int, /) -> bool:
        """Is it one of them?"""


class Networks:
    """A set of networks; ``number in networks`` tells whether one of them covers an address."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in sorted(networks):
            if self._lasts and first <= self._lasts[-1] + 1:
                self._lasts[-1] = max(last, self._lasts[-1])
            else:
                self._firsts.append(first)
                self._lasts.append(last)

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]


def parse_list(text: str) -> list[Network]:
    """Parse a list of networks: one a line, ``#`` begins a comment. Raises NetworkError."""
    networks = []
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.partition("#")[0].strip()
        if entry:
            try:
                networks.append(parse_network(entry))
            except NetworkError as e:
                raise NetworkError(f"line {number}: {e}") from None
    return networks
