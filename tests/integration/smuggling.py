"""What an attempt at request smuggling is: what is sent, and what has to become of it."""

from dataclasses import dataclass

from tests.integration.recording_origin import HOST

Told = tuple[bytes, bytes, bytes]

POST_LINE = b"POST http://" + HOST + b"/x HTTP/1.1"
GET_LINE = b"GET http://" + HOST + b"/x HTTP/1.1"
HOST_LINE = b"Host: " + HOST
SMUGGLED = b"GET http://" + HOST + b"/smuggled HTTP/1.1\r\n" + HOST_LINE + b"\r\n\r\n"
SMUGGLED_TOLD: Told = (b"GET", b"/smuggled", b"")
#: As an origin has to spell it that takes a body for it.
INNER = b"GET /smuggled HTTP/1.1\r\n" + HOST_LINE + b"\r\n\r\n"
LAST = b"0\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"


@dataclass(frozen=True)
class Attack:
    """What a client sends, and what has to become of it."""

    sent: bytes
    #: The final answers, in their order.
    statuses: tuple[int, ...] = (400,)
    #: What the origin gets, whole.
    reached: tuple[Told, ...] = ()
    #: Whether the origin may have got the beginning of one more: the fault is behind its head.
    begun: bool = False
    #: Whether no program could tell that it is HTTP, so that the first of a connection gets none.
    unknown: bool = False
    #: Whether the connection ends although the answer is no error.
    ends: bool = False

    @property
    def methods(self) -> list[bytes]:
        """The methods of the requests; of those behind the first, GET."""
        return [self.sent.lstrip(b"\r\n").partition(b" ")[0], b"GET", b"GET"]

    @property
    def last(self) -> bool:
        """Whether the proxy gives up the connection, and has to say so (RFC 9112, 9.6)."""
        return self.ends or (self.statuses != () and self.statuses[-1] >= 400)


def head(*lines: bytes, start: bytes = POST_LINE, host: bytes = HOST_LINE) -> bytes:
    """Return a head with these lines."""
    return b"\r\n".join([start, *([host] if host else []), *lines, b"", b""])


def length(body: bytes) -> bytes:
    """Return the field for the length of ``body``."""
    return b"Content-Length: %d" % len(body)


def refused(sent: bytes, status: int = 400, *, unknown: bool = False) -> Attack:
    """Return an attack that must stop at its head."""
    return Attack(sent, (status,), unknown=unknown)


def cut(body: bytes, *lines: bytes) -> Attack:
    """Return an attack whose chunked body has a fault in it."""
    return Attack(head(CHUNKED, *lines) + body + SMUGGLED, begun=True)


def passed(sent: bytes, *reached: Told) -> Attack:
    """Return what only looks like an attack: each request is answered."""
    return Attack(sent, (200,) * len(reached), reached)
