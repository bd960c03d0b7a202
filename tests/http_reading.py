"""What a Guard, and a Wire, make of bytes that come in pieces."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import h11
from twisted.trial.unittest import SynchronousTestCase

from tests.http_builders import LIMITS, Pairs, get, single
from whatsproxy.http1 import fields as http1_fields
from whatsproxy.http1.errors import MessageError
from whatsproxy.http1.fields import Message, Rules, items_of, request_fields
from whatsproxy.http1.guard import Guard
from whatsproxy.http1.heads import Body, Framing, Limits
from whatsproxy.http1.target import Target, parse_absolute
from whatsproxy.http1.wire import Wire
from whatsproxy.http1.writer import Fields


def take(guard: Guard, pieces: Iterable[bytes]) -> tuple[bytes, bytes]:
    """Let a guard take all it wants; return that, and what it leaves."""
    taken, data = b"", bytearray()
    for piece in pieces:
        data += piece
        while part := guard.take(data):
            taken += part
    return taken, bytes(data)


class GuardCase(SynchronousTestCase):
    def taken(
        self, data: bytes, limits: Limits = LIMITS, *, responses: bool = False
    ) -> tuple[bytes, bytes]:
        """Insist that it is a whole message, in one piece and byte by byte; return what is told."""
        told = None
        for pieces in ([data], single(data)):
            guard = Guard(limits, responses=responses)
            now = take(guard, pieces)
            self.assertTrue(guard.ended or guard.framing is Body.UNTIL_CLOSE, data[-80:])
            self.assertIn(told, (None, now))
            told = now
        assert told is not None
        return told

    def refuse(
        self,
        data: bytes,
        kind: type[MessageError],
        text: str,
        limits: Limits = LIMITS,
        *,
        responses: bool = False,
    ) -> None:
        """Insist that it is refused, in one piece and byte by byte."""
        for pieces in ([data], single(data)):
            with self.assertRaisesRegex(MessageError, text, msg=data[-80:]) as caught:
                take(Guard(limits, responses=responses), pieces)
            self.assertIs(type(caught.exception), kind)

    def awaits(self, data: bytes, limits: Limits = LIMITS) -> None:
        """Insist that this is the beginning of a message, and no more."""
        guard = Guard(limits, responses=False)
        take(guard, single(data))
        self.assertFalse(guard.ended)


@dataclass
class Seen:
    """What was told of one message: all heads, 1xx too; ``trailers`` are there at its end."""

    first: list[Any] = field(default_factory=list)
    framing: Framing = 0
    body: bytes = b""
    trailers: Pairs | None = None


class Reading:
    """Reads messages off a Wire, and gives what belongs to the other direction, to the last.

    ``methods`` are those of the requests that are answered; none: requests are read. ``error`` is
    what ended it, and ``closed`` tells that the end was seen.
    """

    def __init__(self, methods: Sequence[bytes] = (), limits: Limits = LIMITS) -> None:
        self._methods, self._asks = list(methods), bool(methods)
        self.wire = Wire(h11.CLIENT if methods else h11.SERVER, limits)
        self.seen: list[Seen] = [Seen()]
        self.error: MessageError | None = None
        self.closed = False
        self.calls = 0
        self._ask()

    @property
    def told(self) -> Any:
        """All that was told, to be compared."""
        seen = [(s.first, s.framing, s.body, s.trailers) for s in self.seen]
        return seen, type(self.error), self.closed

    def _ask(self) -> None:
        if self._methods:
            fields = [("Host", "a.test")]
            self.wire.send(h11.Request(method=self._methods.pop(0), target="/", headers=fields))
            self.wire.send(h11.EndOfMessage())

    def feed(self, *pieces: bytes, end: bool = False) -> "Reading":
        """Take pieces and, perhaps, the end."""
        for piece in pieces:
            self.wire.receive(piece)
            self._read()
        if end:
            self.wire.end()
            self._read()
        return self

    def _read(self) -> None:
        if self.error is not None:
            return
        try:
            while (event := self.wire.next_event()) is not None and not self.closed:
                self.calls += 1
                self._take(event)
        except MessageError as e:
            self.error = e

    def _take(self, event: Any) -> None:
        now, kind = self.seen[-1], type(event)
        if kind is h11.Data:
            now.body += event.data
        elif kind is h11.EndOfMessage:
            now.trailers = event.headers.raw_items()
            self._next()
        elif kind is h11.ConnectionClosed:
            self.closed = True
        else:
            now.first.append(event)
            now.framing = self.wire.framing

    def _next(self) -> None:
        if not self._asks:
            self.wire.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            self.wire.send(h11.EndOfMessage())
        if self.wire.reusable and (self._methods or not self._asks):
            self.wire.start_next_cycle()
            self.seen.append(Seen())
            self._ask()


HOST = (b"Host", b"a.test")
Head = h11.Request | h11.Response | h11.InformationalResponse


def read_request(raw: bytes) -> tuple[h11.Request, Framing]:
    """Return a request as it is read, and what follows it."""
    wire = Wire(h11.SERVER, LIMITS)
    wire.receive(raw)
    return wire.next_event(), wire.framing


def request_to_send(
    request: h11.Request, target: Target, framing: Framing, rules: Rules
) -> h11.Request:
    """Return the request that goes to the origin, for h11 to write or to judge."""
    fields = request_fields(request, items_of(request), target, framing, rules)
    return h11.Request(method=request.method, target=target.path, headers=fields)


def response_fields(
    response: h11.Response | h11.InformationalResponse, rules: Rules, *, close: bool = False
) -> Fields:
    """Return the fields that go to the client."""
    return http1_fields.response_fields(response, items_of(response), rules, close=close)


def nominated(message: Message) -> frozenset[bytes]:
    """Return the names of fields that a message's Connection says are for one hop."""
    return http1_fields.nominated(items_of(message))


def read_answer(raw: bytes, method: bytes = b"GET") -> Head:
    """Return an answer as it is read, to a request that wanted an upgrade."""
    wire = Wire(h11.CLIENT, LIMITS)
    fields = [HOST, (b"Upgrade", b"x"), (b"Connection", b"Upgrade")]
    wire.send(h11.Request(method=method, target="/", headers=fields))
    wire.send(h11.EndOfMessage())
    wire.receive(raw)
    event: Head = wire.next_event()
    return event


class RequestCase(SynchronousTestCase):
    def outgoing(self, head: bytes, rules: Rules | None = None) -> h11.Request:
        request, framing = read_request(head)
        target = parse_absolute(request.method, request.target)
        return request_to_send(request, target, framing, rules or Rules())

    def check(self, lines: list[bytes], expected: Fields, rules: Rules | None = None) -> None:
        """Insist on what becomes of these fields (behind Host, which comes first)."""
        sent = self.outgoing(get(*lines), rules)
        self.assertEqual(sent.headers.raw_items(), [HOST, *expected], lines)
