"""The bytes of one direction, cut into messages and checked, for h11 to read.

The guard finds by itself where each message ends, and gives h11 no byte beyond. So no byte is ever
read that the raw check has not seen, and h11 must come to the same end (see wire.py).
"""

import re
from collections.abc import Callable

from whatsproxy.http1.errors import BadMessageError, BodyTooLargeError, HeadTooLargeError
from whatsproxy.http1.heads import (
    Body,
    Framing,
    Limits,
    check_request,
    check_response,
    check_trailers,
    find_head,
)
from whatsproxy.incremental import NeedMore

#: A chunk's line: its size, and perhaps extensions, which end here (RFC 9112 7.1.1).
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
CHUNK_LINE_LIMIT = 1024
_SWITCHING_PROTOCOLS = 101


class Guard:
    """Follows the messages of one direction: a method a state, each of which takes what it can.

    ``responses`` says which kind they are. ``ended`` tells that the message is complete; ``head``
    and ``framing`` are the current one's, and ``left`` is how much is to come of a body whose
    length its head has told. ``to_head`` is to be set before the response to HEAD.
    """

    __slots__ = (
        "_limits",
        "_looked",
        "_remaining",
        "_responses",
        "_skipped",
        "_state",
        "_total",
        "ended",
        "framing",
        "head",
        "interim",
        "left",
        "to_head",
    )

    def __init__(self, limits: Limits, *, responses: bool) -> None:
        self._limits = limits
        self._responses = responses
        self.to_head = False
        self.expect_message()

    def expect_message(self) -> None:
        """Begin with the next message."""
        self.head = b""
        self.framing: Framing = 0
        self.ended = False
        #: Whether the head is that of a 1xx answer.
        self.interim = False
        self._looked = 0
        self._skipped = False
        self.left = 0
        self._remaining = 0  # of a chunk
        self._total = 0
        # A function, no method of this one, which would then be its own and so never go by itself.
        self._state: Callable[[Guard, bytearray], bytes] = Guard._take_head

    def skip(self, size: int) -> None:
        """Note that so many bytes of a body have passed elsewhere; no more than are ``left``."""
        left = self.left - size
        if left < 0 or size <= 0:
            raise ValueError("more has passed than there was of the body")
        self.left = left
        if not left:
            self._end()

    def take(self, data: bytearray) -> bytes:
        """Take checked bytes of the current message off ``data``; none: more are needed, or none.

        Raises a MessageError; nothing is to be taken after that.
        """
        return self._state(self, data)

    def _take_head(self, data: bytearray) -> bytes:
        # A client may have ended its last body with a CRLF too many (RFC 9112 2.2).
        if not self._responses and not self._skipped and data.startswith(b"\r\n"):
            self._skipped = True
            del data[:2]
        limit = self._limits.head
        size = find_head(data, self._looked, limit)
        if isinstance(size, NeedMore):
            if len(data) > limit:
                raise HeadTooLargeError(f"the head is larger than {limit} bytes")
            self._looked = len(data)
            return b""
        self._looked = 0
        self.head = _cut(data, size)
        if self._responses:
            status, self.framing = check_response(self.head, self._limits, to_head=self.to_head)
            self.interim = status < 200
            if not self.interim:
                self._expect_body()
            elif status == _SWITCHING_PROTOCOLS:
                self._end()  # what follows is no message any more
        else:
            self.framing = check_request(self.head, self._limits)
            self._expect_body()
        return self.head

    def _expect_body(self) -> None:
        if self.framing is Body.CHUNKED:
            self._state = Guard._take_chunk_line
        elif self.framing is Body.UNTIL_CLOSE:
            self._state = Guard._take_all
        elif self.framing:
            self.left = self.framing
            self._state = Guard._take_counted
        else:
            self._end()

    def _end(self) -> None:
        self.ended = True
        self._state = Guard._take_nothing

    def _take_nothing(self, data: bytearray) -> bytes:
        return b""

    def _take_all(self, data: bytearray) -> bytes:
        return _cut(data, len(data))

    def _take_counted(self, data: bytearray) -> bytes:
        piece = _cut(data, self.left)
        self.left -= len(piece)
        if not self.left:
            self._end()
        return piece

    def _take_chunk_line(self, data: bytearray) -> bytes:
        end = data.find(b"\r\n", 0, CHUNK_LINE_LIMIT)
        if end < 0:
            if len(data) >= CHUNK_LINE_LIMIT or b"\n" in data:
                raise BadMessageError("a chunk's size is not a line of its own")
            return b""
        line = _CHUNK_LINE.fullmatch(_cut(data, end + 2)[:-2])
        if line is None:
            raise BadMessageError("a chunk's size is not a number in hexadecimal digits")
        self._remaining = int(line[1], 16)
        self._total += self._remaining
        if self._limits.body and not self._responses and self._total > self._limits.body:
            raise BodyTooLargeError(f"a body of more than {self._limits.body} bytes is too large")
        self._state = Guard._take_chunk if self._remaining else Guard._take_trailers
        return line[1] + b"\r\n"

    def _take_chunk(self, data: bytearray) -> bytes:
        piece = _cut(data, self._remaining)
        self._remaining -= len(piece)
        if not self._remaining:
            self._state = Guard._take_chunk_end
        return piece

    def _take_chunk_end(self, data: bytearray) -> bytes:
        if not b"\r\n".startswith(bytes(data[:2])):
            raise BadMessageError("a chunk is longer than its size says")
        if len(data) < 2:
            return b""
        self._state = Guard._take_chunk_line
        return _cut(data, 2)

    def _take_trailers(self, data: bytearray) -> bytes:
        if data.startswith(b"\r\n"):
            self._end()
            return _cut(data, 2)
        limit = self._limits.head
        size = find_head(data, self._looked, limit)
        if isinstance(size, NeedMore):
            if len(data) > limit:
                raise HeadTooLargeError(f"the trailer section is larger than {limit} bytes")
            self._looked = len(data)
            return b""
        section = _cut(data, size)
        check_trailers(section, self._limits)
        self._end()
        return section


def _cut(data: bytearray, size: int) -> bytes:
    """Take so many bytes, or what there is, off the beginning."""
    if size >= len(data):
        piece = bytes(data)
        data.clear()
        return piece
    piece = bytes(data[:size])
    del data[:size]
    return piece
