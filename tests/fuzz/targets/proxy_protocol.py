"""PROXY headers: the parsers' laws, their limits, a second reading, and the way back."""

import ipaddress
import socket
from collections.abc import Iterator

from tests.fuzz.laws import check_parser, choices, insist, insist_equal
from tests.fuzz.target import Plant, Target
from whatsproxy.incremental import NeedMore
from whatsproxy.networks import address_of, is_v4, number_of
from whatsproxy.proxy_protocol import (
    V1_LIMIT,
    V2_LIMIT,
    Ends,
    ProxyHeader,
    parse_proxy_header,
    proxy_header,
)

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def check(data: bytes) -> None:
    header = check_parser(parse_proxy_header, data, choices(data))
    limit = V2_LIMIT if data.startswith(b"\r") else V1_LIMIT
    insist_equal(parse_proxy_header(data[:limit]), header, "looks beyond the limit")
    if isinstance(header, NeedMore):
        insist(header.at_least <= limit, "waits for", header.at_least)
    elif header is not None:
        insist(0 < header.size <= min(limit, len(data)), "a size of", header.size)
        insist_equal(header, _read(data), "read otherwise")
        _check_way_back(header.ends)


def _read(data: bytes) -> ProxyHeader | None:
    """Read it as simply as can be: by Python's own addresses, all at once."""
    if not data.startswith(_SIGNATURE):
        line = data[: data.index(b"\r\n")]
        words = line.decode("ascii", "replace").split(" ")
        if words[1] == "UNKNOWN":
            return ProxyHeader(None, len(line) + 2)
        family, *addresses, client_port, server_port = words[1:]
        kind = {"TCP4": ipaddress.IPv4Address, "TCP6": ipaddress.IPv6Address}[family]
        client, server = (kind(address) for address in addresses)
        insist(all(port == str(int(port)) for port in (client_port, server_port)), "ports")
        ends = Ends(
            number_of(str(client)), int(client_port), number_of(str(server)), int(server_port)
        )
        return ProxyHeader(ends, len(line) + 2)
    version, family = data[12], data[13]
    insist(version in (0x20, 0x21), "a version, or a command, that is none")
    size = 16 + int.from_bytes(data[14:16], "big")
    width = {0x11: 4, 0x21: 16}.get(family)
    if version == 0x20 or width is None:
        return ProxyHeader(None, size)
    body = data[16:size]
    kind = socket.AF_INET if width == 4 else socket.AF_INET6
    client, server = (number_of(socket.inet_ntop(kind, body[at : at + width])) for at in (0, width))
    ports = [int.from_bytes(body[at : at + 2], "big") for at in (2 * width, 2 * width + 2)]
    return ProxyHeader(Ends(client, ports[0], server, ports[1]), size)


def _check_way_back(ends: Ends | None) -> None:
    """What we write ourselves is read, by us and by the letter, as what it was made of."""
    for version in ("v1", "v2"):
        written = proxy_header(version, ends)
        read = parse_proxy_header(written + b"behind")
        insist_equal(read, ProxyHeader(ends, len(written)), "another one when written as", version)
    if ends is not None:
        for number in (ends.client, ends.server):
            insist_equal(number_of(address_of(number)), number, "another address")
            insist_equal(is_v4(number), ":" not in address_of(number), "the family")


def seeds() -> Iterator[bytes]:
    v4 = Ends(number_of("192.0.2.1"), 56324, number_of("198.51.100.2"), 443)
    v6 = Ends(number_of("2001:db8::1"), 1, number_of("::ffff:192.0.2.1"), 65535)
    for ends in (v4, v6, None):
        for version in ("v1", "v2"):
            yield proxy_header(version, ends) + b"WA\x06\x03"
    yield b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"
    yield b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n"
    yield b"PROXY TCP4 0177.1 192.0.2.2 1 2\r\n"
    yield b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n"
    yield _SIGNATURE + b"\x20\x00\x00\x00"
    yield _SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216)
    yield _SIGNATURE + b"\x21\x11\x00\x0f" + bytes(12) + b"\x03\x00\x00"
    yield _SIGNATURE + b"\x21\x11\x02\x08" + bytes(520)
    yield _SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12)


TARGET = Target(
    "proxy_protocol",
    check,
    seeds,
    plants=(
        Plant("proxy_protocol.py", "if max(ports) > 65535:", "if max(ports) > 65536:"),
        Plant(
            "proxy_protocol.py",
            "if len(data) < V1_LIMIT else None",
            "if len(data) <= V1_LIMIT else None",
        ),
        Plant("proxy_protocol.py", "size > V2_LIMIT", "size > V2_LIMIT + 16"),
        Plant("proxy_protocol.py", "(0, width)]\n", "(0, 4)]\n"),
    ),
    words=(
        *(
            b"PROXY TCP4 ",
            b"PROXY TCP6 ",
            b"PROXY UNKNOWN",
            b"\r\n",
            b" 65535",
            b" 65536",
            b"::ffff:",
        ),
        *(
            _SIGNATURE,
            b"\x21\x11\x00\x0c",
            b"\x21\x21\x00\x24",
            b"\x20\x00\x00\x00",
            b"192.0.2.1 ",
            b"::1 ",
        ),
    ),
    longest=700,
)
