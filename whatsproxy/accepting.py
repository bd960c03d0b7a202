"""Accepting only what there are descriptors for: listeners pause near the limit, and resume.

Twisted, out of a process's descriptors, closes whoever is waiting and logs their addresses; out of
the system's it only logs, and is called again at once, for ever. So the listening socket is
replaced by one that looks before it accepts.
"""

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.tcp import Port
from twisted.logger import Logger

from whatsproxy.descriptors import EXHAUSTED, PER_CONNECTION, below, room

#: Seconds between two looks while descriptors are short.
POLL = 0.1
#: So far below the limit nobody looks twice: the last newcomer got the lowest number that was free,
#: and no more than so many descriptors are taken between two newcomers.
FAR = 256
#: How far a lot grows.
GROWTH = 16
#: Seconds between two reports in the log.
REMIND = 60.0

log = Logger()


class Acceptor:
    """Listeners that pause together when the descriptors but for the last ``kept`` are taken.

    From then on each look lets in as many as there is room for, a client's and an upstream's
    descriptor each: ``lot`` at the most, twice as many whenever so many have come and there is
    still room. Who does not come in waits in the kernel's queue. The pause is over when nobody has
    come, or a lot was not used up, or has grown by GROWTH, and there is room for as many again.
    ``changed`` is called at its beginning and at its end.
    """

    def __init__(
        self, clock: Any, kept: int, lot: int, changed: Callable[[bool], None] = lambda _: None
    ) -> None:
        self._clock = clock
        self._kept = kept
        self._first_lot = self._lot = lot
        self._changed = changed
        self._ports: list[Any] = []
        self._timer: IDelayedCall | None = None  # only while paused
        self._left = self._given = 0  # of this lot
        self._last = 1 << 30  # the number of the last one that came in; nothing is known yet
        self._began = 0.0
        self._told = False
        self._silent_until = 0.0

    def watch(self, port: IListeningPort) -> None:
        """Let a port of Twisted's accept by our leave; other kinds stay as they are."""
        if not isinstance(port, Port):
            return
        bare: socket.socket = port.socket
        watched = _WatchedSocket(bare.family, bare.type, bare.proto, fileno=bare.detach())
        watched.setblocking(False)
        watched.acceptor = self
        port.socket = watched
        port.fileno = watched.fileno  # type: ignore[method-assign]  # as Port.startListening does
        self._ports.append(port)

    def forget(self, port: IListeningPort) -> None:
        """Let go of a port that is about to close; with the last one a pause ends."""
        if port in self._ports:
            self._ports.remove(port)
        if not self._ports and self._timer is not None:
            self._timer.cancel()
            self._end()

    def may_enter(self) -> bool:
        """Answer whether one more may be accepted, and stop listening where not."""
        if self._timer is None:
            if below(self._last + FAR, self._kept):
                return True
            if room(PER_CONNECTION, self._kept) == PER_CONNECTION:
                return True
            self.run_short(f"the last {self._kept} are kept for the service")
        elif self._left:
            return True
        else:
            self._read(False)
        return False

    def entered(self, number: int) -> None:
        """Count one that has been accepted, and has this descriptor."""
        self._left -= 1
        self._last = number

    def run_short(self, why: str) -> None:
        """Pause."""
        self._left = 0
        self._lot = self._first_lot
        self._read(False)
        if self._timer is None:
            self._timer = self._clock.callLater(POLL, self._look, why)
            self._began = self._clock.seconds()
            self._changed(True)
            self._tell(why)

    def _look(self, why: str) -> None:
        enough = self._lot * PER_CONNECTION
        found = room(enough, self._kept)
        nobody_waits = self._left and self._left == self._given
        ample = found == enough and (self._left or self._lot >= GROWTH * self._first_lot)
        if nobody_waits or ample:
            self._end()
            self._read(True)
            return
        self._tell(why)
        self._left = self._given = found // PER_CONNECTION
        self._lot = self._lot * 2 if found == enough else self._first_lot
        self._timer = self._clock.callLater(POLL, self._look, why)
        if self._left:
            self._read(True)

    def _end(self) -> None:
        self._timer = None
        self._changed(False)
        if self._told:
            self._told = False
            log.info(
                "accepting again, after {seconds:.1f} s",
                seconds=self._clock.seconds() - self._began,
            )

    def _tell(self, why: str) -> None:
        now = self._clock.seconds()
        if not self._told and now >= self._silent_until:
            self._told = True
            self._silent_until = now + REMIND
            log.warn("out of descriptors: newcomers wait for those to come free ({why})", why=why)

    def _read(self, on: bool) -> None:
        for port in self._ports:
            if port.connected and not port.disconnecting:
                (port.startReading if on else port.stopReading)()


class _WatchedSocket(socket.socket):
    """A listening socket that accepts while its acceptor lets it, and otherwise finds nobody."""

    acceptor: Acceptor

    def _accept(self) -> tuple[int, Any]:
        """Accept, or raise BlockingIOError (called by socket.accept, and by the hub)."""
        acceptor = self.acceptor
        if not acceptor.may_enter():
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        try:
            accepted: tuple[int, Any] = super()._accept()  # type: ignore[misc]  # undeclared
        except OSError as e:
            if e.errno not in EXHAUSTED:
                raise
            acceptor.run_short(os.strerror(e.errno))
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
        acceptor.entered(accepted[0])
        return accepted
