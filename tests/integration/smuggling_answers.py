"""Response smuggling: answers that two programs may read in two ways, and answers to nobody.

In nearly each an answer is hidden that says "evil": no client must ever get it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 5\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LAST = b"0\r\n\r\n"


@dataclass(frozen=True)
class Trick:
    """What an origin answers to the request for /x, and what the client gets of it."""

    raw: bytes
    #: The status of the final answer; None: it is broken off, and the connection with it.
    status: int | None = 502
    body: bytes = b""
    method: bytes = b"GET"
    #: What the client asks for more than a plain request does.
    lines: tuple[bytes, ...] = ()
    #: Whether the origin ends the connection behind it.
    ends: bool = False
    #: Whether it is wrong from its head on, so that it does not matter in which pieces it comes.
    divisible: bool = True


def answered(raw: bytes, body: bytes = b"", status: int = 200, method: bytes = b"GET") -> Trick:
    """Return a good answer that has something behind it, for nobody."""
    return Trick(raw, status, body, method, divisible=False)


def framing() -> Iterator[tuple[str, Trick]]:
    """Answers whose length is told twice, wrongly, or nearly."""
    hidden = b"5\r\nhello\r\n" + LAST + EVIL
    for lines in (
        LENGTH + CHUNKED, CHUNKED + LENGTH, LENGTH + LENGTH, LENGTH + b"Content-Length: 6\r\n",
        b"Content-Length: 0\r\n" + CHUNKED, CHUNKED + b"Transfer-Encoding: x\r\n",
        b"Content_Length: 5\r\n", b"Transfer_Encoding: chunked\r\n", b"Content-Length : 5\r\n",
        b"Transfer-Encoding : chunked\r\n", b"X: y\r\n " + CHUNKED, b"X: y\r\n\t" + LENGTH,
        CHUNKED + CHUNKED, b" " + LENGTH, b"X: y\n" + LENGTH, b"X: y\r" + LENGTH,
        b"\x00" + LENGTH, b"Content Length: 5\r\n",
        LENGTH + b"X : y\r\n", LENGTH + b"X\r\n", LENGTH + b": y\r\n", LENGTH + b"X: \x00\r\n",
        LENGTH + b"X: y\r\n z\r\n", LENGTH + b"X:\r\n\ty\r\n", LENGTH + b"X(y): z\r\n",
        LENGTH + b" \r\n", LENGTH + b"X: y\n", LENGTH + b"X: y\r", LENGTH + b"\n",
        LENGTH + b"Connection: Content-Length\r\n", LENGTH[:-2] + b"\n", LENGTH + b"X: \ry\r\n",
        CHUNKED + b"Connection: x, transfer-encoding\r\n",
        LENGTH + b"".join(b"X-%d: y\r\n" % i for i in range(100)),
        LENGTH + b"X: " + b"y" * 65536 + b"\r\n",
    ):  # fmt: skip
        yield f"fields {lines[:60]!r}", Trick(OK + lines + b"\r\n" + hidden)
    for value in (
        b"+5", b"-5", b"5, 5", b"5,6", b"5 5", b"0x5", b"5;", b"5.0", b"", b"5_0", b'"5"', b"five",
        b"\xb2", b"5\x0b", b"18446744073709551621", b"0" * 40 + b"5", b"5\x00", b"\r\n 5",
        b"5\rX: y", b"5\nX: y",
    ):  # fmt: skip
        raw = OK + b"Content-Length: " + value + b"\r\n\r\nhello" + EVIL
        yield f"Content-Length {value!r}", Trick(raw)
    for value in (
        b"xchunked", b"chunked, identity", b"identity", b"gzip, chunked", b"chunked, chunked",
        b"chunked\x0b", b"gzip", b'"chunked"', b"chunked;q=1", b"", b"\r\n chunked",
        b"chunked\x00", b"\x0bchunked", b",chunked", b"chunked\xa0",
    ):  # fmt: skip
        raw = OK + b"Transfer-Encoding: " + value + b"\r\n\r\n" + hidden
        yield f"Transfer-Encoding {value!r}", Trick(raw)
    yield "chunked in HTTP/1.0", Trick(b"HTTP/1.0 200 OK\r\n" + CHUNKED + b"\r\n" + hidden)
    yield "LF only", Trick((OK + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + b"hello" + EVIL)


def status_lines() -> Iterator[tuple[str, Trick]]:
    """First lines that are nearly an answer's."""
    for line in (
        b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/2.0 200 OK", b"HTTP/1.2 200 OK",
        b"HTTP/0.9 200 OK", b"200 OK", b"http/1.1 200 OK", b"HTTP/1.1\t200 OK",
        b"HTTP/1.1  200 OK", b"HTTP/1.1 099 OK", b"ICY 200 OK", b"HTTP/1.1 200\rOK",
        b"HTTP/1.1 200\x00", b"HTTP/1.1 200 O\x00K", b"HTTP/1.1 200\nX: y", b" HTTP/1.1 200 OK",
        b"\r\nHTTP/1.1 200 OK", b"\nHTTP/1.1 200 OK", b"xHTTP/1.1 200 OK", b"HTTP/1.1 200OK",
        b"HTTP/1.1 -20 OK", b"HTTP/1.1 2 0 OK", b"HTTP/1.1 0200 OK", b"HTTP/1.1 200\tOK",
        b"HTTP/1.1 +200 OK", b"HTTP/1.1 200.1 OK", b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1 OK",
        b"GET /x HTTP/1.1", b"\x00HTTP/1.1 200 OK", b"HTTP/1.1 2\xb20 OK",
    ):  # fmt: skip
        yield f"first line {line!r}", Trick(line + b"\r\n" + LENGTH + b"\r\nhello" + EVIL)


def without_body() -> Iterator[tuple[str, Trick]]:
    """Bodies where none can be."""
    none, same = b"HTTP/1.1 204 None\r\n", b"HTTP/1.1 304 Same\r\n"
    yield "204 with a length", Trick(none + b"Content-Length: %d\r\n\r\n" % len(EVIL) + EVIL)
    yield "204 with chunks", Trick(none + CHUNKED + b"\r\n" + b"2B\r\n" + EVIL + b"\r\n" + LAST)
    yield "204 with a body", answered(none + b"\r\n" + EVIL, status=204)
    size = b"Content-Length: %d\r\n\r\n" % len(EVIL)
    yield "304 with a body", answered(same + size + EVIL, status=304)
    yield (
        "304 with chunks",
        answered(same + CHUNKED + b"\r\n2B\r\n" + EVIL + b"\r\n" + LAST, status=304),
    )
    for line in (size, CHUNKED + b"\r\n", b"\r\n"):
        yield f"HEAD, {line!r}", answered(OK + line + EVIL, method=b"HEAD")
    for status in (b"100 Continue", b"103 Early Hints", b"199 Odd"):
        early = b"HTTP/1.1 " + status + b"\r\n"
        whole = OK + LENGTH + b"\r\nhello"
        yield (
            f"{status!r} with a length",
            Trick(early + b"Content-Length: 43\r\n\r\n" + EVIL + whole),
        )
        yield (
            f"{status!r} with chunks",
            Trick(early + CHUNKED + b"\r\n2B\r\n" + EVIL + b"\r\n" + LAST + whole),
        )
        yield f"{status!r} with a body", Trick(early + b"\r\nbody" + whole)
        yield f"{status!r} with CRLF behind", Trick(early + b"\r\n\r\n" + whole)
    switch = b"HTTP/1.1 101 Now\r\nConnection: Upgrade\r\nUpgrade: "
    yield "101 nobody asked for", Trick(switch + b"websocket\r\n\r\n" + EVIL)
    yield "101 to HEAD", Trick(switch + b"websocket\r\n\r\n" + EVIL, method=b"HEAD")
    asked = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
    yield "101 to h2c", Trick(switch + b"h2c\r\n\r\n" + EVIL, lines=asked)
    yield (
        "101 to an Upgrade of nobody's",
        Trick(switch + b"websocket\r\n\r\n" + EVIL, lines=asked[1:]),
    )


def behind() -> Iterator[tuple[str, Trick]]:
    """More than one answer for a request, and bodies that do not end where they say."""
    hello = OK + LENGTH + b"\r\nhello"
    chunks = OK + CHUNKED + b"\r\n5\r\nhello\r\n"
    for more in (
        EVIL,
        EVIL * 3,
        b"\r\n" + EVIL,
        b"\n",
        b"\x00",
        b"x",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ):
        yield f"a length and {more[:30]!r}", answered(hello + more, b"hello")
        yield f"chunks and {more[:30]!r}", answered(chunks + LAST + more, b"hello")
    nothing = OK + b"Content-Length: 0\r\n\r\n"
    yield "nothing, and an answer", answered(nothing + EVIL)
    # By the letter it is a body, whatever is in it; and it ends with the connection.
    yield "until the end", Trick(OK + b"\r\n" + EVIL, 200, EVIL, ends=True)
    yield "in HTTP/1.0", Trick(b"HTTP/1.0 200 OK\r\n\r\n" + EVIL, 200, EVIL, ends=True)
    whole = OK + b"Content-Length: %d\r\n\r\n" % len(EVIL) + EVIL
    yield "an answer in a body", Trick(whole, 200, EVIL)
    for body in (
        b"5\nhello\r\n" + LAST, b"0x5\r\nhello\r\n" + LAST, b"5\r\nhelloXX" + LAST,
        b"5\r\nhello\n" + LAST, b"-5\r\n", b"5;\nhello\r\n" + LAST, b"5;a\rb\r\nhello\r\n" + LAST,
        b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
        b"5\r\nhello\r\n0\r\n" + CHUNKED + b"\r\n", b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        b"5\r\nhello\r\n0\r\n y\r\n\r\n", b"5\r\nhello\r\n0\n\n", b"5\r\nhello\r\n0\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n", b"10000000000000005\r\nhello\r\n", b"\r\n",
        b"5\r\nhello\r\n0\r\nConnection: close\r\n\r\n",
        b"5;" + b"a" * 1100 + b"\r\nhello\r\n" + LAST, b"5\x00\r\nhello\r\n",
    ):  # fmt: skip
        yield f"chunks {body[:60]!r}", Trick(OK + CHUNKED + b"\r\n" + body + EVIL, None)
    yield "a length beyond the end", Trick(hello.replace(b"5", b"9"), None, ends=True)
    yield "no last chunk", Trick(chunks, None, ends=True)
    yield "no end of the last chunk", Trick(chunks + b"0\r\n", None, ends=True)
    for i in (7, 12, 20, len(OK + LENGTH), len(OK + LENGTH) + 1):
        yield f"{i} bytes of a head", Trick(hello[:i], ends=True)


def all_tricks() -> dict[str, Trick]:
    """Return all of them by name."""
    return dict([*framing(), *status_lines(), *without_body(), *behind()])
