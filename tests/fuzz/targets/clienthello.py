"""ClientHellos: the laws of parsers, records of any size, and what OpenSSL reads in them."""

from collections.abc import Iterator

from tests import builders as b
from tests.fuzz.laws import check_parser, choices, insist, insist_equal
from tests.fuzz.target import Plant, Target
from tests.test_clienthello_corpus import recorded
from tests.test_clienthello_openssl import (
    EMPTY_NAME,
    EMPTY_RECORD_BETWEEN,
    UNKNOWN_TWICE,
    server,
)
from whatsproxy.clienthello import (
    HELLO_LIMIT,
    RECORD_COUNT_LIMIT,
    ClientHello,
    Unreadable,
    parse_client_hello,
)
from whatsproxy.incremental import NeedMore


def check(data: bytes) -> None:
    chosen = choices(data)
    hello = check_parser(parse_client_hello, data, chosen)
    insist_equal(parse_client_hello(data[:HELLO_LIMIT]), hello, "looks beyond the limit")
    if isinstance(hello, ClientHello):
        _check_fields(hello)
        message = _message(data)
        sizes = [chosen.randrange(1, 400) for _ in range(chosen.randrange(RECORD_COUNT_LIMIT - 1))]
        spread = b.records(message, sizes)
        if len(spread) <= HELLO_LIMIT:
            insist_equal(check_parser(parse_client_hello, spread, chosen), hello, "in records")
        _compare_with_openssl(data, hello)
    elif hello is not Unreadable.NOT_TLS and not isinstance(hello, NeedMore):
        insist(hello is Unreadable.MALFORMED, hello)
        _compare_with_openssl(data, hello)


def _check_fields(hello: ClientHello) -> None:
    name = hello.server_name
    insist(name is None or (name.isascii() and "\0" not in name and name), repr(name))
    insist(all(1 <= len(protocol) <= 255 for protocol in hello.alpn), hello.alpn)


def _message(data: bytes) -> bytes:
    """Return the handshake message, put together from the records."""
    message = b""
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        size = int.from_bytes(data[3:5], "big")
        message, data = message + data[5 : 5 + size], data[5 + size :]
    return message[: 4 + int.from_bytes(message[1:4], "big")]


def _compare_with_openssl(data: bytes, hello: ClientHello | Unreadable) -> None:
    """What both read is the same, and nothing that OpenSSL answers is unreadable to us.

    Save for records that must not be there (RFC 8446 5.1) and messages beyond our limits.
    """
    heard = server().hear(data)
    if isinstance(hello, ClientHello):
        if heard.named:
            insist_equal(hello.server_name, heard.name or None, "the server name")
        if heard.alpn is not None:
            insist_equal(hello.alpn, heard.alpn, "ALPN")
    elif heard.accepted:
        insist(_oversized(data), "OpenSSL answers what we cannot read")


def _oversized(data: bytes) -> bool:
    """Whether there is an empty record, or more of them than are read, or a message too long."""
    records = 0
    while len(data) >= 5:
        size = int.from_bytes(data[3:5], "big")
        records += 1
        if size == 0 or records > RECORD_COUNT_LIMIT:
            return True
        data = data[5 + size :]
    return False


def seeds() -> Iterator[bytes]:
    yield from (hello.data for hello in recorded()[::4])
    yield from (UNKNOWN_TWICE, EMPTY_NAME, EMPTY_RECORD_BETWEEN)
    named = b.message(b.server_names(b"a.b"), b.alpn(b"h2", b"http/1.1"))
    yield from (b.records(named), b.records(named, [1, 3, 40]), b.records(named, [1] * 20))
    yield from (b.record(b.message()), b.record(b.message(b.server_names(b"a", kind=1))))


TARGET = Target(
    "clienthello",
    check,
    seeds,
    plants=(
        Plant("clienthello.py", "if len(name) > 255 or 0 in name:", "if len(name) > 255:"),
        Plant(
            "clienthello.py",
            "missing = wanted - len(message)",
            "missing = wanted - len(message) + 1",
        ),
        Plant(
            "clienthello.py", "NeedMore(min(end + bool(left), ", "NeedMore(max(end + bool(left), "
        ),
    ),
    words=(
        *(b"\x16\x03\x01", b"\x01\x00\x00", b"\x03\x03", b"\x00\x00", b"\x00\x10", b"\x02h2"),
        *(b"\x00\x00\x00\x08\x00\x06\x00\x00\x03a.b", b"\x00\x10\x00\x05\x00\x03\x02h2"),
    ),
    longest=2048,
)
