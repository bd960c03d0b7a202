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
    scheduled while nobody is limited.
    """

    __slots__ = ("_clock", "_due", "_timer", "seconds")

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self.seconds = seconds
        self._clock = clock
        #: When each is due, in this order.
        self._due: dict[Limited, float] = {}
        self._timer: IDelayedCall | None = None

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
        left = next(iter(self._due.values())) - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
        else:
            self._timer = self._clock.callLater(0, self._decide)

    def _decide(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for one, _ in list(takewhile(lambda item: item[1] <= now, self._due.items())):
            if self._due.pop(one, None) is None:
                continue  # it has ended with another one
            try:
                one.time_is_up()
            except Exception:
                log.failure("ending what took too long failed unexpectedly")
        if self._due:
            self._stop_timer()  # of somebody who has begun meanwhile, and is not the first
            self._look()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
