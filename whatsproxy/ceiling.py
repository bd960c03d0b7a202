"""A ceiling for what waits in memory for slow peers, in the whole process."""

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from whatsproxy.session import Holder, Ledger
from whatsproxy.transport import AMPLE

#: Seconds between two looks.
TICK = 1.0
#: Bytes that are read at a time, and may wait, each way of each connection in times of scarcity.
SCARCE = 4096
#: Of the ceiling; below it scarcity is over.
RELIEF = 0.75

log = Logger()


class Ceiling:
    """Looks once a second at what waits, and lets each connection have less when it is too much.

    Usually a connection reads AMPLE bytes at a time, and reads no more while as many wait for the
    other side. Above ``most`` bytes in all it is SCARCE bytes: whoever has more waiting does not
    read. When that has helped it is twice as many with each look, up to AMPLE again. So no more is
    used than ``most``, what arrives in a second, and a few KiB a connection (16 while it is being
    detected). It looks only at connections that have moved, or have something waiting: an idle one
    costs nothing but a comparison.
    """

    def __init__(self, clock: IReactorTime, ledger: Ledger, most: int) -> None:
        self._clock = clock
        self._ledger = ledger
        self._most = most
        self._timer: IDelayedCall | None = None
        #: Bytes that waited at the last look.
        self.buffered = 0
        #: Bytes that each connection may read at a time, and have waiting.
        self.share = AMPLE

    @property
    def scarce(self) -> bool:
        """Whether there is less for each connection than usual."""
        return self.share < AMPLE

    def watch(self) -> None:
        """There is a connection: look from now on."""
        if self._timer is None:
            self._timer = self._clock.callLater(TICK, self._look)

    def apply_to(self, holder: Holder) -> None:
        """Let whoever begins to hold a connection have what there is."""
        if self.scarce:
            holder.limit(self.share)

    def rest(self) -> None:
        """There is no connection: look no more."""
        self.buffered, self.share = 0, AMPLE
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look(self) -> None:
        self._timer = self._clock.callLater(TICK, self._look)
        total = 0
        for session in self._ledger.live:
            moved = session.received + session.sent
            if moved != session.moved or session.buffered:
                session.moved = moved
                session.buffered = session.holder.held() if session.holder is not None else 0
                total += session.buffered
        self.buffered = total
        if total > self._most:
            if not self.scarce:
                log.warn(
                    "max_buffered = {most} passed: {total} bytes wait; reading less at a time",
                    most=self._most,
                    total=total,
                )
            self._give(SCARCE)
        elif self.scarce and total <= self._most * RELIEF:
            # Step by step: everybody at once would be too much again.
            self._give(min(2 * self.share, AMPLE))
            if self.share == AMPLE:
                log.info("{total} bytes wait: reading as usual", total=total)

    def _give(self, size: int) -> None:
        if size == self.share:
            return  # newcomers have asked for it
        self.share = size
        for session in list(self._ledger.live):
            if session.holder is not None:
                session.holder.limit(size)
