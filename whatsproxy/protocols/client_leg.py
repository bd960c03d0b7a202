"""The client's leg of HTTP: requests are read off it one by one, each in its time."""

from collections.abc import Callable
from typing import Any

import h11
from twisted.internet.error import ConnectionClosed, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.http1.errors import MessageError
from whatsproxy.http1.heads import Limits
from whatsproxy.http1.wire import Wire
from whatsproxy.lingering import DROP_LIMIT, LINGER
from whatsproxy.protocols.base import ClientProtocol, Proxy
from whatsproxy.protocols.origin import EVENTS_A_TURN, Origin
from whatsproxy.protocols.waiting import Patience, Serving, Waiting, waiting_for
from whatsproxy.reason import Reason
from whatsproxy.session import Session
from whatsproxy.tls_transport import is_encrypted
from whatsproxy.transport import send_at_once, set_buffer, unsent

#: Bytes of further requests that are kept while one is being served; beyond them the client waits.
PIPELINE_LIMIT = 64 * 1024

#: Seconds that a client is given to end the request that it is sending, and to read its answer.
PARTING = 30.0
#: Bytes of it that are read and dropped; after that the client may wait.
PARTING_DROP = 64 * 1024 * 1024

log = Logger()


@implementer(IPushProducer)
class ClientLeg(ClientProtocol):
    """Reads requests and keeps the time of all that happens.

    It is the producer of the client's transport: while that one's buffer is full, no answer goes
    on, and no request is begun. One request is served at a time, ``exchange`` where an upstream
    does; those behind it wait in the wire's buffer; ``kept`` is the origin that served the last.
    """

    __slots__ = (
        "_full",
        "_gathered",
        "_later",
        "_most",
        "_moved",
        "_parted",
        "_patience",
        "_pumping",
        "_reading",
        "ended",
        "exchange",
        "kept",
        "limits",
        "wire",
    )

    def __init__(self, proxy: Proxy, session: Session, limits: Limits) -> None:
        super().__init__(proxy, session)
        self.limits = limits
        self.wire = Wire(h11.SERVER, limits)
        self.exchange: Serving | None = None
        self.kept: Origin | None = None
        #: The client has sent all it will.
        self.ended = False
        self._patience = Patience(proxy.clock, proxy.settings, self._expired)
        self._later: IDelayedCall | None = None
        self._full = False
        self._gathered: list[bytes] | None = None
        self._most = max(PIPELINE_LIMIT, limits.head)
        self._moved = False
        self._parted = False
        self._pumping = False
        self._reading = True

    # -- What is to be done with what is read

    def begin(self, request: h11.Request, *, has_body: bool) -> None:
        """Serve a request: answer it, start an exchange, or let go. May raise MessageError."""
        raise NotImplementedError

    def go_ahead(self, event: h11.Data | h11.EndOfMessage) -> None:
        """Pass a piece of the request's body on to the exchange, or its end."""
        raise NotImplementedError

    def refuse(self, error: MessageError) -> None:
        """Answer a request that is not to be read any further."""
        raise NotImplementedError

    def late(self, waiting: Waiting) -> None:
        """End what has taken too long."""
        raise NotImplementedError

    # -- The transport

    def connectionMade(self) -> None:
        """Await a head."""
        super().connectionMade()
        send_at_once(self.transport)
        self.transport.registerProducer(self, True)
        self.keep_time()

    def dataReceived(self, data: bytes) -> None:
        """Take what the client sends, as far as it can be served."""
        self.session.received += len(data)
        self.wire.receive(data)
        self.pump()

    def sink(self) -> tuple[Any, int] | None:
        """Return who may get what is to come of a request's body, and how much that is."""
        if self.exchange is None or self._later is not None:
            return None
        left = self.wire.unseen
        taker = self.exchange.sink() if left else None
        return None if taker is None else (taker, left)

    def moved(self, size: int) -> None:
        """Count what has passed of the body; its end may have been in it."""
        self.session.received += size
        if size and self.exchange is not None:
            at_end = self.wire.passed(size)
            self.exchange.moved(size)
            self._patience.go_on()
            if at_end:
                self.pump()

    def readConnectionLost(self) -> None:
        """The client has said all; what it asked for is still answered."""
        self.ended = True
        self.wire.end()
        self.pump()

    def connectionLost(self, reason: Failure) -> None:
        """The client is gone."""
        idle = self.exchange is None and not self.wire.buffered
        self._gathered = None
        self._release()
        # Who waits for nothing, in TLS, goes without a goodbye more often than not.
        gone = idle and is_encrypted(self.transport) and reason.type is ConnectionLost
        if reason.check(ConnectionDone) or gone:
            why = Reason.CLIENT_CLOSED
        else:
            # Twisted closes a connection whose protocol raised, with what it raised (and logs it).
            why = Reason.CLIENT_RESET if reason.check(ConnectionClosed) else Reason.INTERNAL
        self.session.close(self.reason or why)

    def pauseProducing(self) -> None:
        """The client's buffer is full: no more answers."""
        self._full = True
        if self.exchange is not None:
            self.exchange.pause_answer()

    def resumeProducing(self) -> None:
        """The client's buffer is empty."""
        self._full = False
        if self.exchange is not None:
            self.exchange.resume_answer()
        self.pump()

    def stopProducing(self) -> None:
        """The client is lost; connectionLost does what is to be done."""

    # -- The Holder's duties

    def abort(self, reason: Reason) -> None:
        """Give up client and origin at once."""
        self._release()
        super().abort(reason)

    def drain(self) -> None:
        """End, if only waiting for a request; otherwise the answer under way is the last one."""
        if self.exchange is None and not self.wire.buffered and not self._parted:
            self.depart(Reason.DRAINING)

    def held(self) -> int:
        """Count requests and answers that wait, too."""
        origin = self._origin()
        of_origin = 0 if origin is None else origin.wire.buffered + unsent(origin.transport)
        return self.wire.buffered + of_origin + super().held()

    def limit(self, size: int) -> None:
        """Keep no more of requests than this; a longer head waits for better times."""
        super().limit(size)
        origin = self._origin()
        if origin is not None:
            set_buffer(origin.transport, size)
        # Usually a head must fit, whatever its limit.
        self._most = size if size < PIPELINE_LIMIT else max(PIPELINE_LIMIT, self.limits.head)
        if not self._parted:
            self._regulate()

    def _origin(self) -> Origin | None:
        return (self.exchange and self.exchange.origin) or self.kept

    # -- Requests

    def pump(self, first: Callable[[], None] | None = None) -> None:
        """Serve what has arrived, as far as that can be done now; the rest in the next turn.

        ``first`` goes on with a request that had to wait; it may do what ``begin`` may.
        """
        if self._pumping:
            return  # whoever called for it is called by it
        if self._later is None or first is not None:
            self._pumping = True
            try:
                if first is not None:
                    first()
                if self._later is None:
                    self._serve()
            except MessageError as e:
                self.refuse(e)
            except Exception:
                # Whoever has called is not to suffer for it, nor to be taken for who did it.
                log.failure("serving a request failed unexpectedly")
                self.break_off(Reason.INTERNAL)
            finally:
                self._pumping = False
        if not self._parted:
            self._regulate()
            self.keep_time()

    def _serve(self) -> None:
        for _ in range(EVENTS_A_TURN):
            event = self.wire.next_event() if self._may_take() else None
            if event is None:
                return
            self._take(event)
        if not self._parted:
            self._later = self.proxy.clock.callLater(0, self._serve_on)

    def _serve_on(self) -> None:
        self._later = None
        self.pump()

    def _may_take(self) -> bool:
        if self._parted:
            return False
        return not self._full if self.exchange is None else self.exchange.ready

    def _take(self, event: Any) -> None:
        kind = type(event)
        if kind is h11.Request:
            has_body = self.wire.framing != 0
            if not has_body:
                self.wire.next_event()  # its end, so that the next request may follow
            self.begin(event, has_body=has_body)
        elif kind is h11.ConnectionClosed:
            self.depart(Reason.CLIENT_CLOSED)
        elif self.exchange is not None:
            self.go_ahead(event)

    def _regulate(self) -> None:
        """Read from the client only what can be put somewhere."""
        if self.ended:
            return
        blocked = self.exchange is not None and self.exchange.full
        reading = not blocked and self.wire.buffered <= self._most
        if reading is not self._reading:
            self._reading = reading
            if reading:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    # -- Time

    def keep_time(self, *, moved: bool = False, anew: bool = False) -> None:
        """Wait for what has to happen next; from now on, if something has ``moved`` meanwhile.

        ``anew``: what is waited for belongs to another request than before.
        """
        if anew:
            self._patience.forget()
        if self._gathered is not None:
            self._moved = self._moved or moved
            return  # there is more to come, and then ``flush``
        waiting = waiting_for(
            self.exchange,
            begun=self.wire.buffered > 0,
            full=self._full,
            waits_for_100=self.wire.waits_for_100,
        )
        self._patience.wait_for(waiting, moved=moved)

    def _expired(self, waiting: Waiting) -> None:
        try:
            self.late(waiting)
        except Exception:
            log.failure("ending what took too long failed unexpectedly")
            self.abort(Reason.INTERNAL)

    # -- The end

    def break_off(self, reason: Reason, detail: str = "") -> None:
        """End in the middle of an answer, so that nobody takes it for the whole."""
        if self.wire.speaks_1_1:
            self.depart(reason, detail)  # its length, or its last chunk, is missing
        else:
            self.abort(reason)  # only a reset tells

    def depart(self, reason: Reason, detail: str = "") -> None:
        """Let the client go, with all that it was sent."""
        self.let_go()
        # Who is in the middle of a request may read the answer only after it.
        interrupted = self.wire.interrupted
        self.part(
            reason,
            detail,
            flush=self.proxy.settings.timeouts.idle,
            linger=PARTING if interrupted else LINGER,
            drop=PARTING_DROP if interrupted else DROP_LIMIT,
            peer_ended=self.ended,
        )

    def let_go(self) -> bytes:
        """Be no more who reads from the client; return what it has sent that was not read."""
        self._release()
        self.transport.unregisterProducer()
        if not self._reading and not self.ended:
            self.transport.resumeProducing()
        return self.wire.take_rest()

    def gather(self) -> None:
        """Keep what is to be sent to the client, and what is waited for, until ``flush``."""
        self._moved = False
        if self._gathered is None:
            self._gathered = []

    def flush(self) -> None:
        """Send what was gathered, in one piece."""
        self._send_gathered()
        if not self._parted:
            self.keep_time(moved=self._moved)

    def _send_gathered(self) -> None:
        gathered, self._gathered = self._gathered, None
        if gathered:
            self.transport.write(b"".join(gathered))

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        self.session.sent += len(data)
        if self._gathered is not None:
            self._gathered.append(data)
        elif data:
            self.transport.write(data)

    def _release(self) -> None:
        self._send_gathered()
        self._parted = True
        self._patience.stop()
        later, self._later = self._later, None
        if later is not None:
            later.cancel()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.abandon()
        kept, self.kept = self.kept, None
        if kept is not None:
            kept.close()
