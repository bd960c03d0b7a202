"""One end of an HTTP/1.1 connection, without the connection: the guard, and h11 behind it.

Two parsers read every head and all chunked framing, and must agree on where a message ends. In a
body whose length its head has told there is nothing to be read: it is counted here, and does not
have to come here at all.
"""

from functools import cache
from typing import Any

import h11

from whatsproxy.http1.errors import BadMessageError, BodyTooLargeError, MessageError
from whatsproxy.http1.fields import Items, items_of
from whatsproxy.http1.guard import Guard
from whatsproxy.http1.heads import CONNECTION, ENCODING, LENGTH, Body, Framing, Limits
from whatsproxy.http1.writer import Fields, Writer

_END = h11.EndOfMessage()
#: What is read of a head here.
_DECISIVE_FIELDS = frozenset({CONNECTION, ENCODING, LENGTH})
#: Methods whose answers are framed otherwise than all others'.
_DECISIVE = (b"HEAD", b"CONNECT")


class Wire:
    """Bytes to events, and back. ``role`` is ours: h11.SERVER towards a client.

    h11 reads, a new one each message. What goes out is the writer's.
    """

    __slots__ = (
        "_begun",
        "_buffer",
        "_complete",
        "_counted",
        "_ended",
        "_error",
        "_fed",
        "_guard",
        "_h11",
        "_lasting",
        "_limits",
        "_method",
        "_role",
        "_untold",
        "_writer",
        "items",
        "speaks_1_1",
    )

    def __init__(self, role: Any, limits: Limits) -> None:
        self._role = role
        self._limits = limits
        self._guard = Guard(limits, responses=role is h11.CLIENT)
        self._writer = Writer()
        self._buffer = bytearray()
        #: Its class and its text. An exception has the frames that it came through, and these us:
        #: one that is kept is never let go of by itself.
        self._error: tuple[type[MessageError], str] | None = None
        self._ended = False
        #: Whether the peer does, by its last message.
        self.speaks_1_1 = False
        self._begin()

    def _begin(self) -> None:
        #: There as soon as there is something for it: who waits for a message needs none.
        self._h11: h11.Connection | None = None
        self._method = b""
        #: The fields of the head, where it is that of a request or a final answer.
        self.items: Items = []
        self._complete = False
        self._lasting = True
        #: Whether h11 has got something of the message.
        self._fed = False
        #: Whether its body, or that there is none, is none of h11's; whether any of it has come.
        self._counted = False
        self._begun = False
        #: A request of which h11 need not know before a final answer, which it reads likewise: a
        #: server may answer what it has not understood. A 1xx, or an end, it must not take so.
        self._untold: h11.Request | None = None

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
    def complete(self) -> bool:
        """Whether the peer's message has been read to its end."""
        return self._complete

    @property
    def interrupted(self) -> bool:
        """Whether the peer is in the middle of a body, as far as its head can be believed."""
        if self._error is not None and not issubclass(self._error[0], BodyTooLargeError):
            return False
        return bool(self._guard.head) and not self._complete

    @property
    def waits_for_100(self) -> bool:
        """Whether the client waits for 100 Continue before it sends its body."""
        return (
            self._h11 is not None
            and self._h11.they_are_waiting_for_100_continue
            and not (self._begun or self._complete)
            and not self._writer.responded
        )

    @property
    def reusable(self) -> bool:
        """Whether both sides are through with their message, and another may follow."""
        writer = self._writer
        return self._complete and writer.done and self._lasting and writer.lasting

    @property
    def unseen(self) -> int:
        """Bytes, the next to arrive, that need not come here (see ``passed``); perhaps none."""
        return 0 if self._buffer or self._error else self._guard.left

    def passed(self, size: int) -> bool:
        """Note that so many ``unseen`` bytes have gone on; say whether there are events again."""
        guard = self._guard
        guard.skip(size)
        self._begun = True
        return guard.ended

    def next_event(self) -> Any:
        """Return h11's next event, or None when nothing more can be told now. Raises MessageError.

        After EndOfMessage there is none before ``start_next_cycle``; after an error, only the same.
        """
        if self._error is not None:
            kind, problem = self._error
            raise kind(problem)
        try:
            return self._next_of_body() if self._counted else self._next_event()
        except MessageError as e:
            self._error = type(e), str(e)
            raise

    def _next_event(self) -> Any:
        while not self._complete:
            event = self._read() if self._fed else h11.NEED_DATA
            if event is h11.NEED_DATA:
                if self._guard.ended:
                    raise BadMessageError("the end of the message is in doubt")
                if not self._feed():
                    return None
            elif event is h11.PAUSED:
                return None
            else:
                kind = type(event)
                if kind is h11.EndOfMessage:
                    self._insist_on_the_end()
                elif kind is h11.Request or kind is h11.Response:
                    self._take_head(event)
                return event
        return None

    def _take_head(self, event: Any) -> None:
        """Note what a head says of its connection and its body, on which h11 must agree."""
        self.speaks_1_1 = self._lasting = event.http_version == b"1.1"
        self.items = items = items_of(event)
        lengths, encoded = [], False
        for name, _, value in items:
            if name in _DECISIVE_FIELDS:
                if name == LENGTH:
                    lengths.append(int(value))
                elif name == ENCODING:
                    encoded = True
                elif b"close" in [option.strip(b" \t") for option in value.lower().split(b",")]:
                    self._lasting = False
        left = self._guard.left
        agreed = True
        if left:
            self._counted = True
            agreed = lengths == [left] and self._read() is h11.NEED_DATA
        if type(event) is h11.Request:
            self._method = event.method
            if self._guard.ended:
                # By these fields, and by nothing else, h11 would tell that there is no body.
                self._counted = True
                agreed = not (encoded or any(lengths) or self._parser().trailing_data[0])
        if not agreed:
            raise BadMessageError("the end of the message is in doubt")

    def _next_of_body(self) -> Any:
        """Return a piece of a body whose length is known, or its end."""
        piece = self._guard.take(self._buffer)
        if piece:
            self._begun = True
            return h11.Data(data=piece)
        if self._complete:
            return None
        if self._guard.ended:
            self._complete = True
            return _END
        if self._ended:
            raise BadMessageError("the message ended too early")
        return None

    def _insist_on_the_end(self) -> None:
        by_close = self._ended and self._guard.framing is Body.UNTIL_CLOSE
        if not (self._guard.ended or by_close) or self._parser().trailing_data[0]:
            raise BadMessageError("the end of the message is in doubt")
        self._complete = True

    def _parser(self) -> h11.Connection:
        if self._h11 is None:
            # The guard has limited whatever it gets to see.
            size = self._limits.head
            self._h11 = h11.Connection(self._role, max_incomplete_event_size=size)
        return self._h11

    def _read(self) -> Any:
        parser = self._h11
        assert parser is not None, "it has got something"
        try:
            return parser.next_event()
        except h11.RemoteProtocolError:  # whose text holds bytes of a stranger's
            problem = "ended too early" if self._ended else "is not HTTP/1.1"
            raise BadMessageError(f"the message {problem}") from None

    def _feed(self) -> bool:
        """Give h11 a piece, or the end; say whether there was anything."""
        piece = self._guard.take(self._buffer) if self._buffer else b""
        if not piece and self._ended:
            if self._buffer:
                raise BadMessageError("the connection ended in the middle of a message")
        elif not piece:
            return False
        parser = self._parser()
        request, self._untold = self._untold, None
        if request is not None and (self._guard.interim or not piece):
            parser.send(request)
        parser.receive_data(piece)
        self._fed = True
        return True

    # What goes out. All raise h11.LocalProtocolError for what has no place now.

    def send(self, event: Any) -> bytes:
        """Return an event's bytes."""
        kind = type(event)
        if kind is h11.Data:
            return self._writer.data(event.data)
        if kind is h11.EndOfMessage:
            return self._writer.end(event.headers.raw_items())
        fields = event.headers.raw_items()
        if kind is h11.Request:
            return self.send_request(event.method, event.target, fields)
        if kind is h11.Response:
            return self.send_response(event.status_code, event.reason, fields)
        return self.send_interim(event.status_code, event.reason, fields)

    def send_request(self, method: bytes, target: bytes, fields: Fields) -> bytes:
        """Return a request's head; what is read next is its answer."""
        self._guard.to_head = method == b"HEAD"
        data = self._writer.request(method, target, fields)
        upgrade = b"upgrade" in [name.lower() for name, _ in fields]
        known = method if method in _DECISIVE else b"GET"
        request = _what_h11_must_know(known, upgrade)
        if upgrade or method in _DECISIVE:
            self._parser().send(request)
        else:
            self._untold = request
        return data

    def send_interim(self, status: int, reason: bytes, fields: Fields) -> bytes:
        """Return a 1xx answer; 101 ends HTTP here."""
        return self._writer.interim(status, reason, fields)

    def send_response(self, status: int, reason: bytes, fields: Fields) -> bytes:
        """Return an answer's head, with the fields that frame its body."""
        return self._writer.response(
            status,
            reason,
            fields,
            method=self._method,
            to_1_1=self.speaks_1_1,
            lasting=self._lasting,
        )

    def send_data(self, data: bytes) -> bytes:
        """Return a piece of a body."""
        return self._writer.data(data)

    def send_unseen(self, size: int) -> None:
        """Note that so many bytes of a body, whose head has told its length, went out elsewhere."""
        self._writer.unseen(size)

    def send_end(self, trailers: Fields) -> bytes:
        """Return the end of a message."""
        return self._writer.end(trailers)

    def start_next_cycle(self) -> None:
        """Begin with the next request and its answer; ``reusable`` must hold."""
        self._guard.expect_message()
        self._writer.begin()
        self._begin()

    @property
    def raw_head(self) -> bytes:
        """The current message's head as it came."""
        return self._guard.head

    def take_rest(self) -> bytes:
        """Take away what has arrived behind the current message."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


@cache
def _what_h11_must_know(method: bytes, upgrade: bool) -> h11.Request:
    """Return a request on which h11 reads answers as on any other with this method."""
    fields = [(b"Host", b"h"), *([(b"Upgrade", b"u")] if upgrade else [])]
    return h11.Request(method=method, target=b"/", headers=fields)
