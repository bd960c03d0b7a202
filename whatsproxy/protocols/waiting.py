"""Whom an HTTP connection waits for, and for how long."""

import enum
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from whatsproxy.protocols.deadline import Deadline
from whatsproxy.protocols.origin import Origin
from whatsproxy.settings import Settings


class Serving(Protocol):
    """What serves the current request: an exchange, or what comes before there is one."""

    @property
    def ready(self) -> bool:
        """Whether the next piece of the request can be taken."""

    @property
    def full(self) -> bool:
        """Whether the upstream has to take some of the request first."""

    @property
    def begun(self) -> bool:
        """Whether the request is on its way."""

    @property
    def complete(self) -> bool:
        """Whether all of it is sent."""

    @property
    def answered(self) -> bool:
        """Whether the head of the answer has come."""

    @property
    def origin(self) -> Origin | None:
        """Who has the request, as soon as that is known."""

    def sink(self) -> Any:
        """Return the transport that may get the request's body unseen; None: not now."""

    def moved(self, size: int) -> None:
        """Hear of so many bytes of the body that it has got."""

    def abandon(self) -> None:
        """Want no answer any more."""

    def pause_answer(self) -> None:
        """Read no more of the answer: the client's buffer is full."""

    def resume_answer(self) -> None:
        """Read on."""


class Waiting(enum.Enum):
    """What has to happen next."""

    REQUEST = "the client may send another request"
    HEAD = "the client has begun a head"
    BODY = "the client has more of its request to send"
    TAKE = "the client has answers to take"
    CONNECT = "the upstream is being reached, or a password checked, which have limits of their own"
    UPSTREAM = "the upstream has more of the request to take"
    ANSWER = "the upstream has the request, and has to answer"
    ANSWER_BODY = "the answer has begun, and has to go on"


def waiting_for(
    exchange: Serving | None, *, begun: bool, full: bool, waits_for_100: bool
) -> Waiting:
    """Tell what a connection waits for.

    ``begun``: a head has begun to arrive; ``full``: the client's buffer is; ``waits_for_100``: the
    client sends no body before it is told to.
    """
    if exchange is None:
        if full:
            return Waiting.TAKE
        return Waiting.HEAD if begun else Waiting.REQUEST
    if exchange.answered:
        return Waiting.ANSWER_BODY
    if not exchange.begun:
        return Waiting.CONNECT
    if exchange.complete or waits_for_100:
        return Waiting.ANSWER
    return Waiting.UPSTREAM if exchange.full else Waiting.BODY


class Patience:
    """Has one thing waited for at a time; calls ``expired`` when it takes too long."""

    __slots__ = ("_deadline", "_expired", "_seconds", "_settings", "_waiting")

    def __init__(
        self, clock: IReactorTime, settings: Settings, expired: Callable[[Waiting], None]
    ) -> None:
        self._settings = settings
        self._expired: Callable[[Waiting], None] | None = expired
        self._deadline = Deadline(clock, self._over)
        self._waiting: Waiting | None = None
        self._seconds: float | None = None

    def wait_for(self, waiting: Waiting, *, moved: bool) -> None:
        """Wait for this; if it is waited for already, anew only where something has ``moved``."""
        if waiting is self._waiting and not moved:
            return
        self._waiting = waiting
        self._seconds = self._limit(waiting)
        if self._seconds is None:
            self._deadline.clear()
        else:
            self._deadline.set(self._seconds)

    def go_on(self) -> None:
        """Wait anew for what is waited for: some of it has come."""
        if self._waiting is not None and self._seconds is not None:
            self._deadline.put_off(self._seconds)

    def forget(self) -> None:
        """Take what is waited for next for something new, even if it is the same."""
        self._waiting = None

    def stop(self) -> None:
        """Wait for nothing any more; whoever is to be called is let go of."""
        self._expired = None
        self._deadline.stop()

    def _limit(self, waiting: Waiting) -> float | None:
        """Return how many seconds it may take; None where somebody else has the limit."""
        timeouts = self._settings.timeouts
        if waiting is Waiting.REQUEST:
            return self._settings.http.keepalive
        if waiting is Waiting.HEAD:
            return timeouts.http_head
        if waiting is Waiting.ANSWER:
            return timeouts.http_answer
        return None if waiting is Waiting.CONNECT else timeouts.idle

    def _over(self) -> None:
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        assert self._expired is not None, "stopped, there is no deadline"
        self._expired(waiting)
