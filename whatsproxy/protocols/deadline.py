"""A time limit that is moved often and passes seldom."""

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Deadline:
    """Calls once when its time has come.

    To move it further away, which each request and each chunk do, costs a comparison: the timer
    is left where it is, and looks again when it goes off.
    """

    __slots__ = ("_call", "_clock", "_due", "_timer")

    def __init__(self, clock: IReactorTime, call: Callable[[], None]) -> None:
        self._clock = clock
        self._call: Callable[[], None] | None = call
        self._due: float | None = None
        self._timer: IDelayedCall | None = None

    def set(self, seconds: float) -> None:
        """Let it be so many seconds from now."""
        self._due = self._clock.seconds() + seconds
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._look)
        elif self._timer.getTime() > self._due:
            self._timer.reset(seconds)

    def put_off(self, seconds: float) -> None:
        """Let one that is set be so many seconds from now, which is no sooner than it was."""
        self._due = self._clock.seconds() + seconds

    def clear(self) -> None:
        """Let there be none for now."""
        self._due = None

    def stop(self) -> None:
        """Let there be none ever again; whoever is to be called is let go of."""
        self._due = self._call = None
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look(self) -> None:
        """Look whether the time has come; where it has, hear the sockets out before the verdict.

        A process that was stopped (SIGSTOP, a frozen machine) finds its timers due before it has
        seen what came in time.
        """
        self._timer = None
        if self._due is None:
            return
        left = self._due - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
        else:
            self._timer = self._clock.callLater(0, self._decide)

    def _decide(self) -> None:
        if self._due is None or self._due > self._clock.seconds():
            self._look()
        else:
            self._timer = self._due = None
            assert self._call is not None, "stopped, there is no timer"
            self._call()
