"""One HTTP request on its way to an origin, and the answer on its way back."""

from typing import Any, NamedTuple, Protocol

import h11
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.http1.fields import Items
from whatsproxy.http1.heads import Limits
from whatsproxy.http1.wire import Wire
from whatsproxy.http1.writer import Fields
from whatsproxy.protocols.base import Proxy
from whatsproxy.protocols.origin import Origin
from whatsproxy.proxy_protocol import Ends
from whatsproxy.reason import Reason
from whatsproxy.route import Route
from whatsproxy.transport import (
    StreamTransport,
    hand_over,
    is_silent,
    send_at_once,
    set_buffer,
)
from whatsproxy.upstream import Arrival, reason_of

#: Methods that may be sent a second time when a kept connection turns out to be dead: safe ones
#: (RFC 9110 9.2.1, RFC 9112 9.3.1), and only without a body, which we do not keep.
REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS"})

log = Logger()


class Outgoing(NamedTuple):
    """The head of a request as it goes out."""

    method: bytes
    target: bytes
    fields: Fields


class Asker(Protocol):
    """The client's side of an exchange."""

    proxy: Proxy
    limits: Limits
    #: The client's: it may get an answer's body without that being taken.
    transport: StreamTransport
    #: Which is to know of that later (see ``Origin``).
    wire: Wire

    def ends(self) -> Ends | None:
        """Return both ends of the client's connection."""

    def pump(self) -> None:
        """Go on with the request: the upstream is there, or full, or not full any more."""

    def keep_time(self, *, moved: bool = False) -> None:
        """Wait for what has to happen next; something has ``moved`` towards it."""

    def take_interim(self, event: h11.InformationalResponse) -> None:
        """Take a 1xx answer, 101 excepted."""

    def take_switch(self, event: h11.InformationalResponse, origin: Origin, early: bytes) -> None:
        """Take 101, the origin itself, and what it has sent behind: no HTTP from here on."""

    def take_answer(self, event: h11.Response, items: Items) -> None:
        """Take the head of the answer, and its fields."""

    def take_body(self, event: h11.Data) -> None:
        """Take a piece of its body."""

    def gather(self) -> None:
        """Hear that more of the answer may follow at once."""

    def flush(self) -> None:
        """Hear that this was all for now."""

    def passed(self, size: int) -> None:
        """Hear that the transport has got so many bytes of the body."""

    def take_end(self, event: h11.EndOfMessage, origin: Origin | None) -> None:
        """Take its end, and the origin if it can take another request. The exchange is over."""

    def take_failure(self, reason: Reason, detail: str) -> None:
        """Hear that there is no answer, or no more of it. The exchange is over."""


@implementer(IPushProducer)
class Exchange:
    """Carries one request. It is the producer of the origin's transport: its body is.

    ``request`` is what goes out; ``has_body`` says that a body follows it. ``complete`` tells that
    the request is sent, ``answered`` that the head of its answer has come.
    """

    __slots__ = (
        "_asker",
        "_connecting",
        "_has_body",
        "_later",
        "_repeatable",
        "_request",
        "_route",
        "_started",
        "answered",
        "complete",
        "full",
        "origin",
    )

    def __init__(self, asker: Asker, request: Outgoing, route: Route, *, has_body: bool) -> None:
        self._asker = asker
        self._request = request
        self._route = route
        self._has_body = has_body
        self._repeatable = False
        self._started = 0.0
        self._later: IDelayedCall | None = None
        self.origin: Origin | None = None
        self._connecting: Deferred[Arrival] | None = None
        self.complete = False
        self.answered = False
        self.full = False

    @property
    def begun(self) -> bool:
        """Whether the request is on its way; otherwise the upstream is being reached."""
        return self.origin is not None and self._later is None

    @property
    def ready(self) -> bool:
        """Whether the request's body can be sent on now."""
        return self.begun and not self.full and not self.complete

    def start(self, kept: Origin | None) -> None:
        """Send the request, over the kept connection where that is right."""
        if kept is None:
            self._connect()
            return
        # What the origin has sent meanwhile, unasked, must not be taken for the answer.
        silent = self._may_use(kept) and is_silent(kept.transport)
        if silent:
            self._begin_kept(kept)
        elif silent is None:
            # Of two timers without delay, the second comes behind a look at all sockets.
            self.origin = kept
            self._later = self._asker.proxy.clock.callLater(0, self._wait_on, kept)
        else:
            kept.close()
            self._connect()

    def _wait_on(self, kept: Origin) -> None:
        self._later = self._asker.proxy.clock.callLater(0, self._waited, kept)

    def _waited(self, kept: Origin) -> None:
        self._later = None
        self.origin = None
        if kept.usable and is_silent(kept.transport) is not False:
            self._begin_kept(kept)
            return
        try:
            kept.close()
            self._connect()
            self._asker.pump()
        except Exception:
            self._broken(Failure())

    def _begin_kept(self, kept: Origin) -> None:
        try:
            self._repeatable = True
            self._begin(kept)
        except Exception:
            kept.abort()
            self._broken(Failure())

    def send(self, data: bytes) -> None:
        """Send a piece of the request's body; ``ready`` must hold."""
        assert self.origin is not None
        self.origin.write(self.origin.wire.send_data(data))

    def end(self, trailers: Fields) -> None:
        """Send the end of it; likewise."""
        assert self.origin is not None
        self.complete = True
        self.origin.write(self.origin.wire.send_end(trailers))

    def sink(self) -> Any:
        """Return the transport that may get the request's body unseen; None: not now."""
        origin = self.origin
        if origin is None or self._later is not None or self.full or self.complete:
            return None  # it is not ``ready``
        return origin.transport

    def moved(self, size: int) -> None:
        """Hear of so many bytes of the request's body that it has got."""
        assert self.origin is not None
        self.origin.wire.send_unseen(size)

    def abandon(self) -> None:
        """Want no answer any more."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        later, self._later = self._later, None
        if later is not None:
            later.cancel()
        origin, self.origin = self.origin, None
        if origin is not None:
            origin.transport.unregisterProducer()
            origin.abort()

    def pause_answer(self) -> None:
        """Read no more of the answer: the client's buffer is full."""
        if self.origin is not None:
            self.origin.pause()

    def resume_answer(self) -> None:
        """Read on."""
        if self.origin is not None:
            self.origin.resume()

    def pauseProducing(self) -> None:
        """The origin's buffer is full."""
        self.full = True
        self._asker.pump()

    def resumeProducing(self) -> None:
        """The origin's buffer is empty."""
        self.full = False
        self._asker.pump()

    def stopProducing(self) -> None:
        """The origin is lost; ``failed`` does what is to be done."""

    def heard(self, event: Any) -> None:
        """Pass an event of the answer on (the origin's Listener)."""
        kind = type(event)
        if kind is h11.Data:
            self._asker.take_body(event)
        elif kind is h11.Response:
            assert self.origin is not None
            self._asker.take_answer(event, self.origin.wire.items)
            self.answered = True
            self._asker.keep_time(moved=True)
        elif kind is h11.EndOfMessage:
            origin, self.origin = self.origin, None
            assert origin is not None
            self._asker.take_end(event, origin.rest())
        elif event.status_code == 101:
            origin, self.origin = self.origin, None
            assert origin is not None
            self._asker.take_switch(event, origin, origin.leave())
        else:
            self._asker.take_interim(event)

    def gather(self) -> None:
        """Hear that several events may follow (the origin's Listener)."""
        self._asker.gather()

    def flush(self) -> None:
        """Hear that those were all (the origin's Listener)."""
        self._asker.flush()

    def taker(self) -> Any:
        """Return who may get the answer's body unseen (the origin's Listener)."""
        return self._asker.transport if self.answered else None

    def passed(self, size: int) -> None:
        """Hear of so many bytes of it (the origin's Listener)."""
        self._asker.passed(size)

    def count(self, size: int) -> None:
        """Hear of all of them together (the origin's Listener)."""
        self._asker.wire.send_unseen(size)

    def failed(self, reason: Reason, detail: str) -> None:
        """Hear that the origin is gone (the origin's Listener): once more, or tell the client."""
        origin, self.origin = self.origin, None
        if self._repeatable and origin is not None and not origin.answering:
            self._repeatable = False
            self.complete = False
            self.full = False
            self._connect()
            self._asker.pump()
        else:
            self._asker.take_failure(reason, detail)

    def _may_use(self, kept: Origin) -> bool:
        return (
            kept.usable
            and kept.destination in self._route.destinations
            and self._request.method in REPEATABLE
            and not self._has_body
        )

    def _connect(self) -> None:
        proxy = self._asker.proxy
        self._started = proxy.clock.seconds()
        connecting = proxy.upstream.connect(self._route.destinations, self._asker.ends)
        self._connecting = connecting
        connecting.addCallbacks(self._reached, self._unreached)
        connecting.addErrback(self._broken)

    def _reached(self, arrival: Arrival) -> None:
        self._connecting = None
        proxy = self._asker.proxy
        proxy.ledger.connect_time.observe(proxy.clock.seconds() - self._started)
        try:
            send_at_once(arrival.transport)
            origin = Origin(proxy.clock, arrival.destination, self._asker.limits)
            hand_over(arrival, origin)
            set_buffer(origin.transport, proxy.ceiling.share)
        except Exception:
            arrival.transport.abortConnection()  # nobody else knows it yet
            raise
        self._begin(origin)

    def _begin(self, origin: Origin) -> None:
        self.origin = origin
        origin.listener = self
        origin.transport.registerProducer(self, True)
        head = origin.wire.send_request(*self._request)
        if self._has_body:
            origin.hold(head)
            self._asker.pump()
            origin.flush()
        else:
            self.complete = True
            origin.write(head + origin.wire.send_end([]))
            self._asker.pump()

    def _unreached(self, failure: Failure) -> None:
        if self._connecting is None and failure.check(CancelledError):
            return  # nobody waits for it any more
        self._connecting = None
        error = failure.value
        assert error is not None
        reason = reason_of(error)
        if reason is Reason.INTERNAL:
            log.failure("connecting failed unexpectedly", failure)
        self._asker.take_failure(reason, "" if reason is Reason.INTERNAL else str(error))

    def _broken(self, failure: Failure) -> None:
        """An error of ours: let it end this exchange, and nothing else."""
        log.failure("beginning a request failed unexpectedly", failure)
        self.abandon()
        self._asker.take_failure(Reason.INTERNAL, "")
