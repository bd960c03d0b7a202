"""The client's leg of HTTP: requests are read off it one by one, and answers given."""

from typing import Any

import h11
from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.http1.answers import Answer, answer_to
from whatsproxy.http1.errors import MessageError
from whatsproxy.http1.heads import Limits
from whatsproxy.http1.wire import Wire
from whatsproxy.protocols.base import ClientProtocol, Proxy
from whatsproxy.protocols.deadline import Deadline
from whatsproxy.protocols.exchange import Exchange
from whatsproxy.protocols.origin import Origin
from whatsproxy.reason import Reason
from whatsproxy.session import AnsweredBy, Session
from whatsproxy.transport import tune

#: Bytes of further requests that are kept while one is being served; beyond them the client waits.
PIPELINE_LIMIT = 64 * 1024

log = Logger()


@implementer(IPushProducer)
class ClientLeg(ClientProtocol):
    """Reads requests, gives answers, and keeps the time of both.

    It is the producer of the client's transport: while that one's buffer is full, no answer goes
    on, and no request is begun. One request is served at a time, ``exchange`` where an upstream
    does; those behind it wait in the wire's buffer; ``kept`` is the origin that served the last.
    """

    __slots__ = (
        "_full",
        "_method",
        "_parted",
        "_pumping",
        "_reading",
        "deadline",
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
        self.deadline = Deadline(proxy.clock, self._expired)
        self.exchange: Exchange | None = None
        self.kept: Origin | None = None
        #: The client has sent all it will.
        self.ended = False
        self._method = b""
        self._full = False
        self._parted = False
        self._pumping = False
        self._reading = True

    def begin(self, request: h11.Request, *, has_body: bool) -> None:
        """Serve a request: answer it, start an exchange, or let go. May raise MessageError."""
        raise NotImplementedError

    def go_ahead(self, event: h11.Data | h11.EndOfMessage) -> None:
        """Pass a piece of the request's body on to the exchange, or its end."""
        raise NotImplementedError

    # -- The transport

    def connectionMade(self) -> None:
        """Await a head."""
        super().connectionMade()
        tune(self.transport, keepalive=False)
        self.transport.registerProducer(self, True)
        self._await_request()

    def dataReceived(self, data: bytes) -> None:
        """Take what the client sends, as far as it can be served."""
        self.session.received += len(data)
        if self.exchange is None and not self.wire.buffered:
            self.deadline.set(self.proxy.settings.timeouts.http_head)
        self.wire.receive(data)
        self.pump()

    def readConnectionLost(self) -> None:
        """The client has said all; what it asked for is still answered."""
        self.ended = True
        self.wire.end()
        self.pump()

    def connectionLost(self, reason: Failure) -> None:
        """The client is gone."""
        self._release()
        if reason.check(ConnectionDone):
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
            self._part(Reason.DRAINING)

    # -- Requests

    def pump(self) -> None:
        """Serve what has arrived, as far as that can be done now."""
        if self._pumping:
            return  # whoever called for it is called by it
        self._pumping = True
        try:
            while self._may_take():
                event = self.wire.next_event()
                if event is None:
                    break
                self._take(event)
        except MessageError as e:
            self._refuse(e)
        finally:
            self._pumping = False
        self._regulate()

    def _may_take(self) -> bool:
        if self._parted:
            return False
        return not self._full if self.exchange is None else self.exchange.ready

    def _take(self, event: Any) -> None:
        kind = type(event)
        if kind is h11.Request:
            self.deadline.clear()
            self._method = event.method
            has_body = self.wire.framing != 0
            if not has_body:
                self.wire.next_event()  # its end, so that the next request may follow
            self.begin(event, has_body=has_body)
        elif kind is h11.ConnectionClosed:
            self._part(Reason.CLIENT_CLOSED)
        elif self.exchange is not None:
            self.go_ahead(event)

    def _regulate(self) -> None:
        """Read from the client only what can be put somewhere."""
        if self._parted or self.ended:
            return
        blocked = self.exchange is not None and self.exchange.full
        reading = not blocked and self.wire.buffered <= PIPELINE_LIMIT
        if reading is not self._reading:
            self._reading = reading
            if reading:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    # -- Answers

    @property
    def last(self) -> bool:
        """Whether the answer that is now given is this connection's last."""
        return self.proxy.draining or self.ended

    def count(self, status: int, by: AnsweredBy) -> None:
        """Count the request by its answer."""
        self.proxy.ledger.answered(self._method, status, by)

    def send(self, event: Any) -> None:
        """Send an event of the answer."""
        data = self.wire.send(event)
        if data:
            self.write(data)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.session.sent += len(data)
        self.transport.write(data)

    def give(self, answer: Answer, reason: Reason = Reason.ANSWERED, detail: str = "") -> None:
        """Give an answer of our own, and go on; ``reason`` is why it is given."""
        response, body = answer
        self.count(response.status_code, AnsweredBy.PROXY)
        self.send(response)
        if body and self._method != b"HEAD":
            self.send(h11.Data(data=body))
        self.send(h11.EndOfMessage())
        if reason.error and self.wire.reusable:
            # The connection goes on: this is not the reason of its end.
            log.warn(
                "request failed: {reason} to={target} ({detail})",
                reason=reason.value,
                target=self.session.target or "-",
                detail=detail or reason.text,
            )
        self.go_on(reason, detail)

    def give_error(self, reason: Reason, detail: str = "", *, close: bool = False) -> None:
        """Answer a request that fails for this reason."""
        close = close or self.last or not self._request_is_read()
        self.give(answer_to(reason, detail, close=close), reason, detail)

    def _refuse(self, error: MessageError) -> None:
        """Answer a request that is not to be read any further."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.abandon()
        if exchange is not None and exchange.answered:
            self.break_off(error.reason, str(error))
        else:
            self.give_error(error.reason, str(error), close=True)

    def _request_is_read(self) -> bool:
        """Read the rest of a request whose answer is known already, if it is here."""
        try:
            while isinstance(event := self.wire.next_event(), h11.Data):
                pass
        except MessageError:
            return False
        return self.wire.framing == 0 or isinstance(event, h11.EndOfMessage)

    # -- What comes after an answer

    def go_on(self, reason: Reason, detail: str = "") -> None:
        """Serve the next request; or let the client go, for this reason, if there is to be none."""
        if not self.wire.reusable:
            self._part(reason, detail)
        elif self.proxy.draining:
            self._part(Reason.DRAINING)
        else:
            self._method = b""
            self.wire.start_next_cycle()
            self._await_request()
            self.pump()

    def _await_request(self) -> None:
        settings = self.proxy.settings
        begun = self.wire.buffered
        self.deadline.set(settings.timeouts.http_head if begun else settings.http.keepalive)

    def _expired(self) -> None:
        """The deadline is over: who kept us waiting?"""
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            if self.wire.buffered:
                self.give_error(Reason.REQUEST_TIMEOUT, close=True)
            else:
                self._part(Reason.IDLE)
            return
        exchange.abandon()
        if exchange.answered:
            self.break_off(Reason.IDLE)
        elif exchange.complete or exchange.full:
            self.give_error(Reason.UPSTREAM_SILENT)
        else:
            self.give_error(Reason.REQUEST_TIMEOUT, close=True)

    def break_off(self, reason: Reason, detail: str = "") -> None:
        """End in the middle of an answer, so that nobody takes it for the whole."""
        if self.wire.speaks_1_1:
            self._part(reason, detail)  # its length, or its last chunk, is missing
        else:
            self.abort(reason)  # only a reset tells

    def _part(self, reason: Reason, detail: str = "") -> None:
        self.let_go()
        self.part(reason, detail, flush=self.proxy.settings.timeouts.idle, peer_ended=self.ended)

    def let_go(self) -> bytes:
        """Be no more who reads from the client; return what it has sent that was not read."""
        self._parted = True
        self._release()
        self.transport.unregisterProducer()
        if not self._reading and not self.ended:
            self.transport.resumeProducing()
        rest = self.wire.take_rest()
        self.session.received -= len(rest)  # who takes it counts it
        return rest

    def _release(self) -> None:
        self.deadline.stop()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.abandon()
        kept, self.kept = self.kept, None
        if kept is not None:
            kept.close()
