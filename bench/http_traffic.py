"""What clients and origin of the HTTP benchmarks say: requests and answers, prepared."""

from dataclasses import dataclass

from origin import CHUNK
from traffic import BULK_LIMIT, PATTERN, place

#: A name that tests/sandbox resolves to this machine, so that resolving it is in the figures.
NAME = "origin.test"
#: Different requests of a kind: an answer that went to another client is seen to be wrong.
VARIANTS = 64
#: Bytes of data in a chunk, as common servers send them.
CHUNKED = 1 << 14
#: Bytes of a small body.
SMALL = 200


class Cycle:
    """The same bytes over and over, without end; nothing of it is copied to be compared or sent."""

    def __init__(self, once: bytes) -> None:
        self._length = len(once)
        self._text = once + once[:CHUNK]

    def matches(self, data: bytes, at: int) -> bool:
        """Tell whether these bytes, at most CHUNK, stand there."""
        return self._text.startswith(data, at % self._length)

    def piece(self, at: int, size: int) -> memoryview:
        """Return what stands there: ``size`` bytes, or CHUNK."""
        at %= self._length
        return memoryview(self._text)[at : at + min(size, CHUNK)]


_once = PATTERN[:BULK_LIMIT]
#: Every body is a part of this.
PLAIN = Cycle(_once)
#: The same in chunks.
IN_CHUNKS = Cycle(
    b"".join(
        b"%x\r\n%b\r\n" % (CHUNKED, _once[at : at + CHUNKED])
        for at in range(0, BULK_LIMIT, CHUNKED)
    )
)
#: Bytes of a chunk as it is sent.
CHUNK_LENGTH = len(b"%x\r\n\r\n" % CHUNKED) + CHUNKED


@dataclass(frozen=True)
class Request:
    """One request, and where in PLAIN its body and the body of its answer begin."""

    head: bytes
    #: Bytes of the two bodies.
    upload: int
    expected: int
    at: int


def small(port: int) -> list[Request]:
    """Return requests for small answers."""
    return [
        Request(_get(port, b"/small/%d" % number), 0, SMALL, place(number))
        for number in range(VARIANTS)
    ]


def downloads(port: int, size: int, *, chunked: bool) -> list[Request]:
    """Return requests for large answers, with Content-Length or in chunks."""
    form = b"chunked" if chunked else b"length"
    return [
        Request(_get(port, b"/%b/%d/%d" % (form, size, at)), 0, size, at)
        for at in range(0, VARIANTS * CHUNKED, CHUNKED)
    ]


def uploads(port: int, size: int) -> list[Request]:
    """Return requests that send much and get a small answer."""
    return [
        Request(
            _get(port, b"/upload/%d" % place(number), b"POST", b"Content-Length: %d\r\n" % size),
            size,
            SMALL,
            place(number),
        )
        for number in range(VARIANTS)
    ]


def answer(framing: bytes, status: bytes = b"200 OK") -> bytes:
    """Return the head of an answer; ``framing`` is the field that says how long it is."""
    return (
        b"HTTP/1.1 %b\r\n"
        b"Server: origin\r\n"
        b"Date: Tue, 25 Nov 2025 12:00:00 GMT\r\n"
        b"Content-Type: application/octet-stream\r\n"
        b"Cache-Control: no-store\r\n"
        b"%b\r\n\r\n" % (status, framing)
    )


def with_length(size: int) -> bytes:
    """Return the field that says the length."""
    return b"Content-Length: %d" % size


def _get(port: int, path: bytes, method: bytes = b"GET", more: bytes = b"") -> bytes:
    """Return a head as curl writes it for a proxy."""
    host = b"%b:%d" % (NAME.encode(), port)
    return (
        b"%b http://%b%b HTTP/1.1\r\n"
        b"Host: %b\r\n"
        b"User-Agent: curl/7.88.1\r\n"
        b"Accept: */*\r\n"
        b"Proxy-Connection: Keep-Alive\r\n"
        b"%b\r\n" % (method, host, path, host, more)
    )
