"""What goes out on one end of an HTTP/1.1 connection: heads, bodies and their framing.

Fields come from messages that were checked, or from the checked configuration. How a body is framed
follows from its head (RFC 9112 6); a message that does not keep to its head is an error of ours.
"""

import h11

from whatsproxy.http1.heads import CONNECTION, ENCODING, LENGTH, Body, Framing

Fields = list[tuple[bytes, bytes]]

_CHUNKED = (b"Transfer-Encoding", b"chunked")
_FRAMING = frozenset({LENGTH, ENCODING, CONNECTION})
_CLOSE = b"close"
_NO_PLACE = "that has no place in the message"


class Writer:
    """Makes one message's bytes. ``framing`` is what follows its head.

    ``done``: it is complete. ``lasting``: its head does not say that the connection ends with it.
    """

    __slots__ = ("_left", "_sending", "_switched", "done", "framing", "lasting", "responded")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin with the next message."""
        self.framing: Framing = 0
        self.lasting = True
        self.done = False
        #: Whether anything was answered, be it a 1xx.
        self.responded = False
        self._sending = False
        self._switched = False
        self._left = 0

    def request(self, method: bytes, target: bytes, fields: Fields) -> bytes:
        """Return the head of a request."""
        self._insist(not self._sending)
        length, chunked, close = _framing_in(fields)
        self._begin_body(Body.CHUNKED if chunked else length or 0)
        self.lasting = not close
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, lines_of(fields))

    def interim(self, status: int, reason: bytes, fields: Fields) -> bytes:
        """Return a 1xx answer; behind 101 there is no HTTP."""
        self._insist(not self._sending)
        self.responded = True
        self._switched = status == 101
        return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, lines_of(fields))

    def response(
        self,
        status: int,
        reason: bytes,
        fields: Fields,
        *,
        method: bytes,
        to_1_1: bool,
        lasting: bool,
    ) -> bytes:
        """Return the head of an answer, with the fields that frame its body.

        ``method`` is the request's; ``to_1_1``: the client speaks HTTP/1.1; ``lasting``: another
        request may follow, as far as the client is concerned.
        """
        self._insist(not self._sending)
        self.responded = True
        length, _, close = _framing_in(fields)
        framing: Framing = length or 0
        if length is None and status not in (204, 304):
            # A client of HTTP/1.0 knows no chunks: the connection's end is the body's.
            framing = Body.CHUNKED if to_1_1 else Body.UNTIL_CLOSE
            if to_1_1:
                fields = [*fields, _CHUNKED]
            elif method != b"HEAD":
                lasting = False
        if status in (204, 304) or method == b"HEAD":
            framing = 0
        if not lasting:
            fields = _closing(fields)
        self._begin_body(framing)
        self.lasting = lasting and not close
        return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, lines_of(fields))

    def data(self, data: bytes) -> bytes:
        """Return a piece of the body."""
        self._insist(self._sending and not self.done)
        if self.framing is Body.CHUNKED:
            return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        if self.framing is not Body.UNTIL_CLOSE:
            self._count(len(data))
        return data

    def unseen(self, size: int) -> None:
        """Note that so many bytes of a body with a length went out by another way."""
        # Only in the middle of such a body there is anything left of one.
        left = self._left - size
        if left < 0 or size <= 0:
            raise h11.LocalProtocolError(_NO_PLACE)
        self._left = left

    def end(self, trailers: Fields) -> bytes:
        """Return the end of the body."""
        chunked = self.framing is Body.CHUNKED
        in_place = self._sending and not (self.done or self._left)
        self._insist(in_place and (chunked or not trailers))
        self.done = True
        return b"0\r\n%b\r\n" % lines_of(trailers) if chunked else b""

    def _begin_body(self, framing: Framing) -> None:
        self.framing = framing
        self._left = 0 if isinstance(framing, Body) else framing
        self._sending = True

    def _count(self, size: int) -> None:
        self._insist(size <= self._left)
        self._left -= size

    def _insist(self, right: bool) -> None:
        if not right or self._switched:
            raise h11.LocalProtocolError(_NO_PLACE)


def lines_of(fields: Fields) -> bytes:
    """Return field lines."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def _framing_in(fields: Fields) -> tuple[int | None, bool, bool]:
    """Return what fields say: a length, chunks, and whether the connection ends."""
    length, chunked, close = None, False, False
    for spelled, value in fields:
        name = spelled.lower()
        if name in _FRAMING:
            if name == LENGTH:
                length = int(value)
            elif name == ENCODING:
                chunked = True
            else:
                close = close or _CLOSE in _options(value)
    return length, chunked, close


def _options(value: bytes) -> list[bytes]:
    return [option.strip(b" \t") for option in value.lower().split(b",")]


def _closing(fields: Fields) -> Fields:
    """Return fields that say, besides all they say, that the connection ends."""
    options = {_CLOSE}
    for name, value in fields:
        if name.lower() == CONNECTION:
            options.update(option for option in _options(value) if option)
    options.discard(b"keep-alive")
    kept = [field for field in fields if field[0].lower() != CONNECTION]
    return kept + [(b"Connection", option) for option in sorted(options)]
