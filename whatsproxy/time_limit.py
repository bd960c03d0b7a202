"""A time limit that is the same for everybody, and seldom reached by anybody."""

from itertools import takewhile
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

log = Logger()


class Limited(Protocol):
    """Whoever has so much time and no more."""

    def time_is_up(self) -> None:
        """Hear that the time is over; it is limited no longer."""


class TimeLimit:
    """Gives each the same time, in ``seconds``: so who came first is due first.

    To come and to go costs an entry in a dict, and one timer waits for the first of all. Nothing is
    scheduled while nobody is limited. Where the clock goes back, who came before is late later.
    """

    __slots__ = ("_clock", "_due", "_heard", "_timer", "seconds")

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self.seconds = seconds
        self._clock = clock
        #: When each is due, in this order.
        self._due: dict[Limited, float] = {}
        self._timer: IDelayedCall | None = None
        #: Who is due by then has been heard.
        self._heard = 0.0

    def left(self, one: Limited) -> float:
        """Return how many seconds somebody has left who is limited."""
        return self._due[one] - self._clock.seconds()

    def begin(self, one: Limited) -> None:
        """Limit one, who is not limited yet."""
        self._due[one] = self._clock.seconds() + self.seconds
        if self._timer is None:
            self._timer = self._clock.callLater(self.seconds, self._look)

    def end(self, one: Limited) -> None:
        """Limit one no longer, if it is limited at all."""
        due = self._due
        if due.pop(one, None) is not None and not due:
            self._stop_timer()

    def _look(self) -> None:
        """Look who is due; where somebody is, hear the sockets out before the verdict.

        A process that was stopped (SIGSTOP, a frozen machine) finds its timers due before it has
        seen what came in time.
        """
        now = self._clock.seconds()
        left = next(iter(self._due.values())) - now
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
        else:
            self._heard = now
            self._timer = self._clock.callLater(0, self._decide)

    def _decide(self) -> None:
        self._timer = None
        heard = self._heard
        for one, due in list(takewhile(lambda item: item[1] <= heard, self._due.items())):
            if self._due.get(one) != due:
                continue  # it has ended with another one
            del self._due[one]
            try:
                one.time_is_up()
            except Exception:
                log.failure("ending what took too long failed unexpectedly")
        self._stop_timer()  # of somebody who has begun meanwhile, and need not be the first
        if self._due:
            self._look()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
