"""The ClientHello of TLS, read out of the records it comes in (RFC 8446 4.1.2, 5.1; RFC 6066 3).

It is read, never answered: who is to terminate TLS sees every byte of it again.
"""

import enum
import struct
from dataclasses import dataclass

from whatsproxy.incremental import NeedMore

HANDSHAKE = 22
CLIENT_HELLO = b"\x01"
_BEGINNING = bytes((HANDSHAKE, 3))
#: The largest hello read, record headers included; post-quantum key shares pass 8 KiB.
HELLO_LIMIT = 16 * 1024
#: A hello in more pieces than this is no client's; each piece costs another look at all of them.
RECORD_COUNT_LIMIT = 128
_RECORD_LIMIT = 2**14
_SERVER_NAME, _ALPN = 0, 16
_READ = frozenset((_SERVER_NAME, _ALPN))
_BEFORE_SESSION = 2 + 32  # legacy_version, random
_LENGTH, _EXTENSION, _NAMES = struct.Struct("!H"), struct.Struct("!HH"), struct.Struct("!HBH")
#: Of a record and its first message: type and major version, minor version, length, type, length.
_HEADERS = struct.Struct("!HBHBBH")
_HELLO = HANDSHAKE << 8 | 3, CLIENT_HELLO[0], 0  # which is less than 64 KiB long
_RUNS_PAST = (ValueError, IndexError, struct.error)


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
    if len(data) > _HEADERS.size:
        beginning, _, length, kind, high, size = _HEADERS.unpack_from(data)
        if (beginning, kind, high) == _HELLO and size + 4 <= length <= _RECORD_LIMIT:
            end = _HEADERS.size + size
            if size and end <= len(data):
                return _parse_body(data[_HEADERS.size : end])  # in one record, as is usual
    # Each byte of the two headers that is here must fit, so that no other protocol waits for TLS.
    if len(data) < 6:
        return NeedMore(len(data) + 1) if _record_fits(data[:5]) else Unreadable.NOT_TLS
    if not data.startswith(_BEGINNING) or data[5:6] != CLIENT_HELLO or not _record_fits(data[:5]):
        return Unreadable.NOT_TLS
    message = _reassemble(data)
    return _parse_body(message) if isinstance(message, bytes) else message


def _record_fits(header: bytes) -> bool:
    """Is this, as far as it goes (five bytes at most), the header of a handshake record?"""
    # The minor version is to be ignored (RFC 8446 5.1).
    if not header.startswith(_BEGINNING[: len(header)]):
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


def _parse_body(body: bytes) -> ClientHello | Unreadable:
    """Read it; what is _RUNS_PAST is raised in here where a length runs past its container.

    Every connection in TLS pays for this: so there is one cursor, and no object for each vector.
    """
    try:
        end = len(body)
        position = _BEFORE_SESSION
        position += 1 + body[position]  # legacy_session_id
        (size,) = _LENGTH.unpack_from(body, position)
        position += 2 + size  # cipher_suites
        position += 1 + body[position]  # legacy_compression_methods
        if position == end:
            return ClientHello(None, ())
        (size,) = _LENGTH.unpack_from(body, position)
        position += 2
        if position + size != end:
            return Unreadable.MALFORMED
        server_name: str | None = None
        alpn: tuple[bytes, ...] = ()
        seen = []
        extension_at = _EXTENSION.unpack_from
        while position < end:
            kind, size = extension_at(body, position)
            position += 4 + size
            if kind in _READ:
                # RFC 8446 4.2: there must not be two of the same type. OpenSSL does not insist on
                # it for those that it does not know; we do for those that are read here.
                if kind in seen:
                    return Unreadable.MALFORMED
                seen.append(kind)
                content = body[position - size : position]
                if kind == _SERVER_NAME:
                    server_name = _parse_server_name(content)
                else:
                    alpn = _parse_alpn(content)
        if position > end:
            return Unreadable.MALFORMED  # the last one runs past
        return ClientHello(server_name, alpn)
    except _RUNS_PAST:
        return Unreadable.MALFORMED


def _parse_server_name(extension: bytes) -> str | None:
    """One name of type host_name, no more: what OpenSSL accepts, so that both see the same.

    An empty one is none.
    """
    names, kind, size = _NAMES.unpack_from(extension)
    name = extension[_NAMES.size :]
    if kind != 0 or len(name) != size or names != size + 3:
        raise ValueError
    if len(name) > 255 or 0 in name:
        raise ValueError
    return name.decode("ascii", "backslashreplace") or None


def _parse_alpn(extension: bytes) -> tuple[bytes, ...]:
    (size,) = _LENGTH.unpack_from(extension)
    position, end = 2, len(extension)
    if position + size != end:
        raise ValueError
    protocols = []
    while position < end:
        start = position + 1
        position = start + extension[position]
        if position > end or position == start:
            raise ValueError
        protocols.append(extension[start:position])
    return tuple(protocols)
