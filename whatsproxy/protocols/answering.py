"""Answers to an HTTP client: how they are given, whoever makes them, and what comes after."""

from functools import partial
from typing import Protocol

import h11
from twisted.logger import Logger

from whatsproxy.http1.answers import Answer, answer_to
from whatsproxy.http1.errors import MessageError
from whatsproxy.http1.heads import Limits
from whatsproxy.protocols.base import Proxy
from whatsproxy.protocols.client_leg import ClientLeg
from whatsproxy.protocols.origin import EVENTS_A_TURN
from whatsproxy.protocols.waiting import Waiting
from whatsproxy.reason import Reason
from whatsproxy.session import AnsweredBy, Session

log = Logger()


class MakeAnswer(Protocol):
    """Makes an answer of our own."""

    def __call__(self, *, close: bool) -> Answer:
        """Return it, with Connection: close where it is the last one."""


class AnsweringLeg(ClientLeg):
    """Gives answers. ``method`` is that of the request being served."""

    __slots__ = ("method",)

    def __init__(self, proxy: Proxy, session: Session, limits: Limits) -> None:
        super().__init__(proxy, session, limits)
        self.method = b""

    @property
    def last(self) -> bool:
        """Whether the answer that is now given is this connection's last."""
        return self.proxy.draining or (self.ended and not self.wire.buffered)

    def count(self, status: int, by: AnsweredBy) -> None:
        """Count the request by its answer."""
        self.proxy.ledger.answered(self.method, status, by)

    def give(
        self,
        make: MakeAnswer,
        reason: Reason = Reason.ANSWERED,
        detail: str = "",
        *,
        close: bool = False,
    ) -> None:
        """Give an answer of our own, and go on; ``reason`` is why it is given."""
        response, body = make(close=close or self.last or not self._request_is_read())
        self.count(response.status_code, AnsweredBy.PROXY)
        data = self.wire.send(response)
        if body and self.method != b"HEAD":
            data += self.wire.send_data(body)
        self.write(data + self.wire.send_end([]))
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
        self.give(partial(answer_to, reason, detail), reason, detail, close=close)

    def refuse(self, error: MessageError) -> None:
        """Answer a request that is not to be read any further."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.abandon()
        if exchange is not None and exchange.answered:
            self.break_off(error.reason, str(error))
        else:
            self.give_error(error.reason, str(error), close=True)

    def late(self, waiting: Waiting) -> None:
        """End what has taken too long, and say so to who waits for it."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.abandon()
        if waiting is Waiting.ANSWER_BODY:
            self.break_off(Reason.IDLE)
        elif waiting in (Waiting.ANSWER, Waiting.UPSTREAM):
            self.give_error(Reason.UPSTREAM_SILENT)
        elif waiting in (Waiting.HEAD, Waiting.BODY):
            self.give_error(Reason.REQUEST_TIMEOUT, close=True)
        else:
            self.depart(Reason.IDLE)

    def go_on(self, reason: Reason, detail: str = "") -> None:
        """Serve the next request; or let the client go, for this reason, if there is to be none."""
        if not self.wire.reusable:
            self.depart(reason, detail)
        elif self.proxy.draining:
            self.depart(Reason.DRAINING)
        else:
            self.method = b""
            self.wire.start_next_cycle()
            self.keep_time(anew=True)
            self.pump()

    def _request_is_read(self) -> bool:
        """Read the rest of a request whose answer is known already, if it is here, and not much."""
        try:
            for _ in range(EVENTS_A_TURN):
                if not isinstance(self.wire.next_event(), h11.Data):
                    break
        except MessageError:
            return False
        return self.wire.complete
