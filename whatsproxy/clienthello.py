"""The ClientHello of TLS, read out of the records it comes in (RFC 8446 4.1.2, 5.1; RFC 6066 3).

It is read, never answered: who is to terminate TLS sees every byte of it again.
"""

import enum
from dataclasses import dataclass

from whatsproxy.incremental import NeedMore

HANDSHAKE = 22
CLIENT_HELLO = b"\x01"
#: The largest hello read, record headers included; post-quantum key shares pass 8 KiB.
HELLO_LIMIT = 16 * 1024
#: A hello in more pieces than this is no client's; each piece costs another look at all of them.
RECORD_COUNT_LIMIT = 128
_RECORD_LIMIT = 2**14
_SERVER_NAME, _ALPN = 0, 16


class Unreadable(enum.Enum):
    """The answers that are no ClientHello."""

    NOT_TLS = "the first bytes are not those of a ClientHello record"
    MALFORMED = "it begins like a ClientHello and is none"


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What the client asks for: the server name as it came, and the protocols it offers by ALPN.

    ``server_name`` is not normalised, and anything but ASCII in it is backslash-escaped.
    """

    server_name: str | None
    alpn: tuple[bytes, ...]


def parse_client_hello(data: bytes) -> ClientHello | Unreadable | NeedMore:
    """Read a ClientHello from the first bytes of a connection; bytes behind it are ignored."""
    data = data[:HELLO_LIMIT]
    # Each byte of the two headers that is here must fit, so that no other protocol waits for TLS.
    if not _record_fits(data[:5]) or data[5:6] not in (b"", CLIENT_HELLO):
        return Unreadable.NOT_TLS
    if len(data) < 6:
        return NeedMore(len(data) + 1)
    message = _reassemble(data)
    if isinstance(message, NeedMore | Unreadable):
        return message
    try:
        return _parse_body(message)
    except _MalformedError:
        return Unreadable.MALFORMED


def _record_fits(header: bytes) -> bool:
    """Is this, as far as it goes (five bytes at most), the header of a handshake record?"""
    # The minor version is to be ignored (RFC 8446 5.1).
    for got, allowed in zip(header, ((HANDSHAKE,), (3,)), strict=False):
        if got not in allowed:
            return False
    return len(header) < 5 or 0 < int.from_bytes(header[3:], "big") <= _RECORD_LIMIT


def _reassemble(data: bytes) -> bytes | Unreadable | NeedMore:
    """Join the handshake message's fragments; the answer is its body, without its header."""
    message = bytearray()
    wanted = 4
    position = 0
    for left in reversed(range(RECORD_COUNT_LIMIT)):
        header = data[position : position + 5]
        if not _record_fits(header):
            return Unreadable.MALFORMED
        if len(header) < 5:
            return NeedMore(len(data) + 1)
        length = int.from_bytes(header[3:], "big")
        position += 5
        message += data[position : position + length]
        if wanted == 4 and len(message) >= 4:
            wanted = 4 + int.from_bytes(message[1:4], "big")
        if len(message) >= wanted > 4:
            return bytes(message[4:wanted])
        if wanted == 4 and len(message) >= 4:
            return Unreadable.MALFORMED  # an empty message
        missing = wanted - len(message)
        end = position + length
        if min(end, len(data)) + missing > HELLO_LIMIT:
            return Unreadable.MALFORMED
        if end > len(data):
            # Nothing can be decided before the length is known, the message is here, or the next
            # record's first byte shows that it is none (the last one's end, if no more may come).
            return NeedMore(min(end + bool(left), len(data) + missing))
        position = end
    return Unreadable.MALFORMED


class _MalformedError(Exception):
    """A length runs past its container."""


class _Reader:
    """A cursor over a vector of TLS's presentation language (RFC 8446 3.4)."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def take(self, count: int) -> bytes:
        """Return exactly ``count`` bytes."""
        end = self._position + count
        if end > len(self._data):
            raise _MalformedError
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def number(self, size: int) -> int:
        """Return an integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> "_Reader":
        """Return a vector whose length field has ``size`` bytes."""
        return _Reader(self.take(self.number(size)))

    def rest(self) -> bytes:
        """Return what is left."""
        return self.take(len(self._data) - self._position)

    def end(self) -> None:
        """Insist that nothing is left."""
        if self:
            raise _MalformedError


def _parse_body(body: bytes) -> ClientHello:
    hello = _Reader(body)
    hello.take(2 + 32)  # legacy_version, random
    hello.vector(1)  # legacy_session_id
    hello.vector(2)  # cipher_suites
    hello.vector(1)  # legacy_compression_methods
    server_name: str | None = None
    alpn: tuple[bytes, ...] = ()
    if hello:
        extensions = hello.vector(2)
        hello.end()
        seen = set()
        while extensions:
            kind = extensions.number(2)
            # RFC 8446 4.2: there must not be two of the same type. OpenSSL does not insist on it
            # for those that it does not know; we do for those that are read here.
            if kind in seen and kind in (_SERVER_NAME, _ALPN):
                raise _MalformedError
            seen.add(kind)
            content = extensions.vector(2)
            if kind == _SERVER_NAME:
                server_name = _parse_server_name(content)
            elif kind == _ALPN:
                alpn = _parse_alpn(content)
    return ClientHello(server_name, alpn)


def _parse_server_name(extension: _Reader) -> str | None:
    """One name of type host_name, no more: what OpenSSL accepts, so that both see the same.

    An empty one is none.
    """
    names = extension.vector(2)
    extension.end()
    if names.number(1) != 0:
        raise _MalformedError
    name = names.vector(2).rest()
    names.end()
    if len(name) > 255 or 0 in name:
        raise _MalformedError
    return name.decode("ascii", "backslashreplace") or None


def _parse_alpn(extension: _Reader) -> tuple[bytes, ...]:
    offered = extension.vector(2)
    extension.end()
    protocols = []
    while offered:
        protocol = offered.vector(1).rest()
        if not protocol:
            raise _MalformedError
        protocols.append(protocol)
    return tuple(protocols)
