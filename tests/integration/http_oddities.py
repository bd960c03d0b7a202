"""Every legal oddity that an origin may send, and what a client must get of it."""

import asyncio
from dataclasses import dataclass

from tests.integration.http_origins import Origin
from tests.integration.http_wire import Message, read_request
from tests.integration.programs import Background

#: Dated, as the answers of an origin with a clock are: who passes on an undated one may date it.
DATE = (b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT")


@dataclass(frozen=True)
class Oddity:
    """One answer: what goes over the wire, and what the client must get of it."""

    #: The status line, and all of the 1xx answers before it.
    opening: bytes = b"HTTP/1.1 200 OK\r\n"
    #: Fields that have to arrive exactly so.
    fields: tuple[tuple[bytes, bytes], ...] = ()
    #: Fields between this server and the proxy.
    framing: bytes = b"Content-Length: 4\r\n"
    payload: bytes = b"body"
    status: int = 200
    body: bytes = b"body"
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    before: tuple[int, ...] = ()
    #: Whether the connection to the origin ends behind it.
    ends: bool = False
    colon: bytes = b": "

    def head(self) -> bytes:
        """Return the answer up to its body."""
        fields = [*self.fields, DATE]
        named = b"".join(name + self.colon + value + b"\r\n" for name, value in fields)
        return self.opening + named + self.framing + b"\r\n"


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Hint: 1\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
NO_BODY = {"payload": b"", "body": b""}
ODDITIES = {
    "early-hints": Oddity(HINTS + HINTS + b"HTTP/1.1 200 OK\r\n", before=(103, 103)),
    "processing": Oddity(
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
        before=(102, 100),
    ),
    "unknown-1xx": Oddity(b"HTTP/1.1 142 \r\nX-A: b\r\n\r\nHTTP/1.1 200 OK\r\n", before=(142,)),
    "trailers": Oddity(
        framing=b"Trailer: X-Sum, X-Empty\r\n" + CHUNKED,
        payload=b"4\r\nbody\r\n0\r\nX-Sum: 42\r\nX-Empty:\r\n\r\n",
        trailers=((b"X-Sum", b"42"), (b"X-Empty", b"")),
    ),
    "chunk-extensions": Oddity(
        framing=CHUNKED, payload=b'2;a=b\r\nbo\r\n002 ; c="d;e"; f\r\ndy\r\n000;last\r\n\r\n'
    ),
    "small-chunks": Oddity(
        framing=CHUNKED, payload=b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n", body=b"x" * 5000
    ),
    "upper-case-coding": Oddity(
        framing=b"TRANSFER-encoding: CHUNKED\r\n",
        payload=b"A\r\n0123456789\r\n0\r\n\r\n",
        body=b"0123456789",
    ),
    "close-delimited": Oddity(framing=b"", ends=True),
    "close-delimited-and-said": Oddity(framing=b"Connection: close\r\n", ends=True),
    "close-delimited-and-empty": Oddity(framing=b"", ends=True, **NO_BODY),
    "no-reason": Oddity(b"HTTP/1.1 200 \r\n"),
    "no-reason-and-no-space": Oddity(b"HTTP/1.1 200\r\n"),
    "odd-reason": Oddity(b"HTTP/1.1 200 Gr\xfc\xdfe, \t: you\r\n"),
    "unknown-status": Oddity(b"HTTP/1.1 299 Odd\r\n", status=299),
    "unknown-error": Oddity(b"HTTP/1.1 599 Odd\r\n", status=599),
    "empty-values": Oddity(fields=((b"X-Empty", b""), (b"X-Other", b"1"), (b"X-Empty-Too", b""))),
    "no-space-after-colon": Oddity(fields=((b"X-A", b"b"), (b"X-Empty", b"")), colon=b":"),
    "white-space-around": Oddity(fields=((b"X-A", b"b \t c"), (b"X-B", b"d")), colon=b": \t  "),
    "obs-text": Oddity(fields=((b"X-Name", b"caf\xe9 \xe2\x98\x95 \xff"),)),
    "repeated": Oddity(
        fields=(
            (b"Set-Cookie", b"a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT"),
            (b"X-Between", b"1"),
            (b"Set-Cookie", b"b=2"),
            (b"set-cookie", b"a=3"),
        )
    ),
    "mixed-case": Oddity(fields=((b"x-lower", b"1"), (b"X-UPPER", b"2"), (b"eTaG", b'"3"'))),
    "odd-names": Oddity(fields=((b"!#$%&'*+-.^_`|~09aZ", b"1"), (b"X_Under", b"2"))),
    "http-1.0": Oddity(b"HTTP/1.0 200 OK\r\n", ends=True),
    "http-1.0-close-delimited": Oddity(b"HTTP/1.0 200 OK\r\n", framing=b"", ends=True),
    "http-1.0-keep-alive": Oddity(
        b"HTTP/1.0 200 OK\r\n", framing=b"Connection: keep-alive\r\nContent-Length: 4\r\n"
    ),
    "leading-zeros": Oddity(framing=b"Content-Length: 0004\r\n"),
    # Wrong of the server (RFC 9110, 8.6), and common.
    "no-content": Oddity(
        b"HTTP/1.1 204 No Content\r\n", framing=b"Content-Length: 0\r\n", status=204, **NO_BODY
    ),
    # The length that the body would have had.
    "not-modified": Oddity(
        b"HTTP/1.1 304 Not Modified\r\n", framing=b"Content-Length: 5\r\n", status=304, **NO_BODY
    ),
    "nothing": Oddity(framing=b"Content-Length: 0\r\n", **NO_BODY),
    "hop-by-hop": Oddity(
        fields=((b"X-Kept", b"1"),),
        framing=b"Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Content-Length: 4\r\n",
    ),
    "long": Oddity(fields=tuple((b"X-%d" % i, b"v" * 500) for i in range(90))),
}


class OddOrigin(Origin):
    """A server that answers /NAME with the oddity of that name.

    Each of its connections is told apart: ``serials`` has one number a request.
    """

    def __init__(self, background: Background) -> None:
        super().__init__(background, self.odd_answer)
        self.serials: list[int] = []
        self._connections = 0

    @staticmethod
    def odd_answer(request: Message) -> bytes:
        """Return the oddity that ``request`` asks for; as far as it asks for it."""
        oddity = ODDITIES[request.target[1:]]
        return oddity.head() + (b"" if request.start.startswith(b"HEAD ") else oddity.payload)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self._connections += 1
        serial = self._connections
        while (request := await read_request(reader)) is not None:
            self.requests.append(request)
            self.serials.append(serial)
            writer.write(self.odd_answer(request))
            await writer.drain()
            if ODDITIES[request.target[1:]].ends:
                return


def assert_passed_on(name: str, answer: Message) -> None:
    """See that ``answer`` is what the oddity called ``name`` must become."""
    oddity = ODDITIES[name]
    assert answer.status == oddity.status, (name, answer.start)
    assert [early.status for early in answer.before] == list(oddity.before), (name, answer.before)
    assert answer.end_to_end() == [*oddity.fields, DATE], (name, answer.fields)
    assert answer.body == oddity.body, (name, answer.body[:100])
    assert tuple(answer.trailers) == oddity.trailers, (name, answer.trailers)
