"""One end of an HTTP/1.1 connection, without the connection: the guard, and h11 behind it.

Two parsers read every message, and must agree on where it ends.
"""

from typing import Any

import h11

from whatsproxy.http1.errors import BadMessageError, BodyTooLargeError, MessageError
from whatsproxy.http1.guard import Guard
from whatsproxy.http1.heads import Body, Framing, Limits


class Wire:
    """Bytes to events, and back. ``role`` is ours: h11.SERVER towards a client."""

    __slots__ = ("_buffer", "_complete", "_ended", "_error", "_guard", "_h11")

    def __init__(self, role: Any, limits: Limits) -> None:
        # The guard has limited whatever h11 gets to see.
        self._h11 = h11.Connection(role, max_incomplete_event_size=limits.head)
        self._guard = Guard(limits, responses=role is h11.CLIENT)
        self._buffer = bytearray()
        self._error: MessageError | None = None
        self._complete = False
        self._ended = False

    def receive(self, data: bytes) -> None:
        """Take what arrived."""
        self._buffer += data

    def end(self) -> None:
        """Note that the peer has sent all it will."""
        self._ended = True

    @property
    def buffered(self) -> int:
        """Bytes that have arrived and belong to no event yet."""
        return len(self._buffer)

    @property
    def framing(self) -> Framing:
        """What follows the head that came last."""
        return self._guard.framing

    @property
    def speaks_1_1(self) -> bool:
        """Whether the peer does, by its last message."""
        return self._h11.their_http_version == b"1.1"

    @property
    def complete(self) -> bool:
        """Whether the peer's message has been read to its end."""
        return self._complete

    @property
    def interrupted(self) -> bool:
        """Whether the peer is in the middle of a body, as far as its head can be believed."""
        if self._error is not None and not isinstance(self._error, BodyTooLargeError):
            return False
        return bool(self._guard.head) and not self._complete

    @property
    def waits_for_100(self) -> bool:
        """Whether the client waits for 100 Continue before it sends its body."""
        return self._h11.they_are_waiting_for_100_continue

    @property
    def reusable(self) -> bool:
        """Whether both sides are through with their message, and another may follow."""
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    def next_event(self) -> Any:
        """Return h11's next event, or None when nothing more can be told now. Raises MessageError.

        After EndOfMessage there is none before ``start_next_cycle``; after an error, only the same.
        """
        if self._error is not None:
            raise self._error
        try:
            return self._next_event()
        except MessageError as e:
            self._error = e
            raise

    def _next_event(self) -> Any:
        while not self._complete:
            event = self._read()
            if event is h11.NEED_DATA:
                if self._guard.ended:
                    raise BadMessageError("the end of the message is in doubt")
                if not self._feed():
                    return None
            elif event is h11.PAUSED:
                return None
            else:
                if type(event) is h11.EndOfMessage:
                    self._insist_on_the_end()
                return event
        return None

    def _insist_on_the_end(self) -> None:
        by_close = self._ended and self._guard.framing is Body.UNTIL_CLOSE
        if not (self._guard.ended or by_close) or self._h11.trailing_data[0]:
            raise BadMessageError("the end of the message is in doubt")
        self._complete = True

    def _read(self) -> Any:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError:  # whose text holds bytes of a stranger's
            problem = "ended too early" if self._ended else "is not HTTP/1.1"
            raise BadMessageError(f"the message {problem}") from None

    def _feed(self) -> bool:
        """Give h11 a piece, or the end; say whether there was anything."""
        piece = self._guard.take(self._buffer)
        if not piece and self._ended:
            if self._buffer:
                raise BadMessageError("the connection ended in the middle of a message")
        elif not piece:
            return False
        self._h11.receive_data(piece)
        return True

    def send(self, event: Any) -> bytes:
        """Return an event's bytes. Raises h11.LocalProtocolError for one that has no place now."""
        if type(event) is h11.Request:
            self._guard.to_head = event.method == b"HEAD"
        return self._h11.send(event) or b""

    def start_next_cycle(self) -> None:
        """Begin with the next request and its answer; ``reusable`` must hold."""
        self._h11.start_next_cycle()
        self._guard.expect_message()
        self._complete = False

    @property
    def raw_head(self) -> bytes:
        """The current message's head as it came."""
        return self._guard.head

    def take_rest(self) -> bytes:
        """Take away what has arrived behind the current message."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest
