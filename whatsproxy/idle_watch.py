"""Idle limits of all relays, watched by one timer that compares byte counts."""

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from whatsproxy.session import Session


class Watched(Protocol):
    """A relay, as the watch sees it."""

    session: Session
    #: Seconds without a byte after which it ends.
    idle: float
    #: The watch's own: bytes at its last look, and since when they are the same.
    moved: int
    quiet_since: float

    def lasts(self) -> None:
        """Hear of the first look."""

    def expire(self) -> None:
        """End for want of traffic."""


class IdleWatch:
    """Ends relays that have been idle for too long; one look at all of them a tick.

    ``tick`` is in seconds: a relay is cut at most two of them late. Nothing is scheduled while
    there is no relay.
    """

    def __init__(self, clock: IReactorTime, tick: float) -> None:
        self._clock = clock
        self._tick = tick
        self._relays: set[Watched] = set()
        self._timer: IDelayedCall | None = None

    def add(self, relay: Watched) -> None:
        """Watch a relay from now on."""
        self._relays.add(relay)
        if self._timer is None:
            self._timer = self._clock.callLater(self._tick, self._look)

    def discard(self, relay: Watched) -> None:
        """Watch it no longer."""
        self._relays.discard(relay)
        if not self._relays and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = self._clock.seconds()
        assert self._timer is not None
        # Late by more than a tick: the process was stopped, and has not seen yet what came.
        late = now - self._timer.getTime() > self._tick
        self._timer = self._clock.callLater(self._tick, self._look)
        idle = []
        for relay in self._relays:
            moved = relay.session.received + relay.session.sent
            if moved != relay.moved:
                if relay.moved < 0:
                    relay.lasts()
                relay.moved = moved
                relay.quiet_since = now
            elif now - relay.quiet_since >= relay.idle and not late:
                idle.append(relay)
        for relay in idle:
            relay.expire()
