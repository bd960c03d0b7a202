"""The PROXY protocol, versions 1 and 2: who a connection is from, said by a load balancer.

The source is HAProxy's proxy-protocol.txt; numbers of sections are its. Who may be believed is not
decided here.
"""

import re
from dataclasses import dataclass

from whatsproxy.incremental import NeedMore
from whatsproxy.networks import address_of, is_v4, number_from, number_of, packed

#: Bytes of a header of version 1 (2.1), and of version 2 with all its extensions (2.2): what one
#: TCP segment is sure to hold.
V1_LIMIT = 107
V2_LIMIT = 536
_V1 = b"PROXY "
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED = 16
_LINE = re.compile(
    rb"PROXY (TCP[46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})"
)
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of a connection: addresses as numbers (see networks), and ports."""

    client: int
    client_port: int
    server: int
    server_port: int


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A header of so many bytes. ``ends`` is None where the connection is the sender's own, or
    from somewhere that has no address (LOCAL, UNKNOWN, a unix socket).
    """

    ends: Ends | None
    size: int


def parse_proxy_header(data: bytes) -> ProxyHeader | NeedMore | None:
    """Read the header in front of a connection's bytes; None where there is none, and never is."""
    return _parse_v2(data) if data[:1] == _V2[:1] else _parse_v1(data)


def _parse_v1(data: bytes) -> ProxyHeader | NeedMore | None:
    if not _agree(data, _V1):
        return None
    end = data.find(b"\r\n", 0, V1_LIMIT)
    if end < 0:
        return NeedMore(len(data) + 1) if len(data) < V1_LIMIT else None
    line, size = data[:end], end + 2
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return ProxyHeader(None, size)
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    family = found[1]
    if any((b":" in address) != (family == b"TCP6") for address in found.group(2, 3)):
        return None
    try:
        client, server = (number_of(address.decode()) for address in found.group(2, 3))
    except ValueError:
        return None
    ports = int(found[4]), int(found[5])
    if max(ports) > 65535:
        return None
    return ProxyHeader(Ends(client, ports[0], server, ports[1]), size)


def _parse_v2(data: bytes) -> ProxyHeader | NeedMore | None:
    if not _agree(data, _V2):
        return None
    if len(data) < len(_V2):
        return NeedMore(len(data) + 1)
    if len(data) < _V2_FIXED:
        return NeedMore(_V2_FIXED)
    command, family = data[12], data[13]
    size = _V2_FIXED + int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY) or size > V2_LIMIT:
        return None
    width = {_TCP4: 4, _TCP6: 16}.get(family) if command == _PROXY else None
    if width is not None and size < _V2_FIXED + 2 * width + 4:
        return None
    if len(data) < size:
        return NeedMore(size)
    if width is None:
        return ProxyHeader(None, size)
    body = data[_V2_FIXED:size]
    numbers = [number_from(body[at : at + width]) for at in (0, width)]
    ports = [int.from_bytes(body[at : at + 2], "big") for at in (2 * width, 2 * width + 2)]
    return ProxyHeader(Ends(numbers[0], ports[0], numbers[1], ports[1]), size)


def proxy_header(version: str, ends: Ends | None) -> bytes:
    """Return a header of version ``v1`` or ``v2``, without extensions.

    Where the two ends are not both IPv4, both are told as IPv6.
    """
    if ends is None:
        return b"PROXY UNKNOWN\r\n" if version == "v1" else _V2 + bytes([_PROXY, 0, 0, 0])
    v4 = is_v4(ends.client) and is_v4(ends.server)
    if version == "v1":
        client, server = (_spelled(number, v4) for number in (ends.client, ends.server))
        family = "TCP4" if v4 else "TCP6"
        line = f"PROXY {family} {client} {server} {ends.client_port} {ends.server_port}\r\n"
        return line.encode()
    body = b"".join(packed(number, as_v6=not v4) for number in (ends.client, ends.server))
    body += b"".join(port.to_bytes(2, "big") for port in (ends.client_port, ends.server_port))
    return _V2 + bytes([_PROXY, _TCP4 if v4 else _TCP6]) + len(body).to_bytes(2, "big") + body


def _spelled(number: int, v4: bool) -> str:
    return f"::ffff:{address_of(number)}" if is_v4(number) and not v4 else address_of(number)


def _agree(data: bytes, pattern: bytes) -> bool:
    """Is one of the two the beginning of the other?"""
    return data.startswith(pattern) if len(data) >= len(pattern) else pattern.startswith(data)
