"""Twisted's own timers without a reactor around them."""

from twisted.internet.base import ReactorBase


class TurningReactor(ReactorBase):
    """Turns when the test says so, at a time that the test sets."""

    now = 50.0

    def installWaker(self) -> None:
        """Nobody sleeps."""

    def seconds(self) -> float:
        return self.now

    def turn(self, now: float) -> None:
        """Do what is due by then."""
        self.now = now
        self.timeout()
        self.runUntilCurrent()
