"""One epoll for all relayed sockets, which the reactor knows as one descriptor (Linux).

Twisted's epoll reactor pays for each socket's interest in writing again and again, and for a log
context at each event. Here a socket is registered once for its life, edge-triggered, for all there
is to hear of; what an event says is a hint, and only a system call is believed; but that a socket
is connected now (see hub_connector).
"""

import os
import select
import weakref
from _socket import socket as Socket  # noqa: N812  # see hub_socket
from typing import Any, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.splice import PipePool

#: All that is to be heard of a socket, told when it changes.
_EVERYTHING = (
    select.EPOLLIN | select.EPOLLPRI | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
)
#: Events that are taken at a time, and how often, before the rest of the reactor has its turn: that
#: costs more than a socket's.
BATCH = 128
BATCHES = 8

log = Logger()


class Unsettled(Protocol):
    """Who has put something off."""

    def settle(self) -> None:
        """Do what was put off (see Hub.settle_later)."""

    def fail(self, failure: Failure) -> None:
        """End: an error of ours has come out of another method."""


class Hubbed(Unsettled, Protocol):
    """What the hub knows of a socket's owner."""

    def happened(self, events: int) -> None:
        """Look at the socket: something may have changed."""


@implementer(IReadDescriptor)
class Hub:
    """Tells the owners of sockets what happens to them, each in a try of its own.

    An exception that escaped would make the reactor drop the hub, and with it every connection.
    With its first socket it is registered with the reactor, and with its last it leaves.
    """

    def __init__(self, reactor: Any, pipes: int) -> None:
        #: Listened to while something is to be settled and there is no batch to end.
        self._bell = _Bell(self)
        self.reactor = reactor
        self.pipes = PipePool(pipes)
        self._epoll = select.epoll()
        self._owners: list[Hubbed | None] = []  # by descriptor
        self._count = 0  # of descriptors, and of listeners among them
        self._listeners = 0
        self._unsettled: list[Unsettled] = []
        self._last: list[Unsettled] = []  # behind those
        self._closing: list[Socket] = []
        self._in_batch = False

    def listen(self, number: int, owner: Hubbed) -> None:
        """Tell an owner, again and again, that there is something to be read. Raises OSError."""
        self.register(number, owner, select.EPOLLIN)
        self._listeners += 1

    def register(self, number: int, owner: Hubbed, interest: int = _EVERYTHING) -> None:
        """Tell an owner from now on what happens to its socket's descriptor. Raises OSError."""
        self._epoll.register(number, interest)
        owners = self._owners
        if number >= len(owners):
            owners.extend([None] * (number + 64 - len(owners)))
        if not self._count:
            try:
                self.reactor.addReader(self)
            except OSError:
                self._epoll.unregister(number)
                raise
        owners[number] = owner
        self._count += 1

    def replace(self, number: int, owner: Hubbed) -> None:
        """Let somebody else own a descriptor that is registered."""
        self._owners[number] = owner

    def rearm(self, number: int) -> None:
        """Tell again what there is already, behind all others' events."""
        self._epoll.modify(number, _EVERYTHING)

    def forget(self, number: int) -> None:
        """Let go of a descriptor that is about to be closed, and so leaves the epoll by itself."""
        self._owners[number] = None
        self._count -= 1
        if self._count == self._listeners:
            self._rest()

    def close(self, socket: Socket) -> None:
        """Close a socket, at once, but not before no event of this batch can name it any more.

        Its number would be the next newcomer's, and what happened to it happen to that. (A socket
        that is closed by itself is so in its own event, or at the batch's end.)
        """
        self.forget(socket.fileno())
        if self._in_batch:
            self._closing.append(socket)
        else:
            socket.close()

    def heed(self, number: int, heeded: bool) -> None:
        """Tell of a listener's newcomers, or do not; its place might not be had again."""
        self._epoll.modify(number, select.EPOLLIN if heeded else 0)

    def listen_no_more(self, number: int) -> None:
        """Let go of a listener, which goes on without the hub."""
        self._epoll.unregister(number)
        self._listeners -= 1
        self.forget(number)

    def settle_later(self, one: Unsettled) -> None:
        """Call ``settle`` of one when what is going on has returned: at the batch's end.

        So nobody hears of an end in the middle of asking for it.
        """
        self._unsettled.append(one)
        if not (self._in_batch or self._bell.heard):
            self._ring()

    def settle_last(self, one: Unsettled) -> None:
        """Call ``settle`` of one behind all that is put off otherwise, because it takes long.

        What is quick in that batch does not wait for it; and where many have the same to do, they
        do it in a row, with its code and its tables in the CPU's caches.
        """
        self._last.append(one)
        if not (self._in_batch or self._bell.heard):
            self._ring()

    def _ring(self) -> None:
        """Have a batch, since none is going on."""
        try:
            self.listen(self._bell.number, self._bell)
        except OSError:  # there is no room for it (fs.epoll.max_user_watches)
            self.reactor.callLater(0, self._settle)
        else:
            self._bell.heard = True

    def _rest(self) -> None:
        """Keep nothing that connections need; with the last listener leave the reactor."""
        self.pipes.shrink()
        if not self._count:
            self.reactor.removeReader(self)

    def fileno(self) -> int:
        """Return the epoll's descriptor (called by the reactor)."""
        return self._epoll.fileno()

    def doRead(self) -> None:
        """Tell what has happened (called by the reactor)."""
        owners = self._owners
        # The bound is for what does not end; each socket is heard once, whatever their number: what
        # is due after this turn must know of all that came in time (see protocols.deadline).
        for _ in range(max(BATCHES, 1 + self._count // BATCH)):
            batch = self._epoll.poll(0, BATCH)
            if not batch:
                return
            self._in_batch = True
            try:
                for number, events in batch:
                    owner = owners[number]
                    if owner is not None:
                        try:
                            owner.happened(events)
                        except Exception:
                            _fail(owner)
            finally:
                self._in_batch = False
                if self._unsettled or self._last or self._closing:
                    self._settle()

    def _settle(self) -> None:
        self._in_batch = True  # what they put off is done here as well
        unsettled, last = self._unsettled, self._last
        try:
            while unsettled or last:
                for one in unsettled:  # which grows meanwhile
                    try:
                        one.settle()
                    except Exception:
                        _fail(one)
                unsettled[:] = last
                last.clear()
        finally:
            unsettled.clear()
            self._in_batch = False
            while self._closing:
                self._closing.pop().close()

    def connectionLost(self, reason: Failure) -> None:
        """Nothing is done: the epoll lives as long as the hub (IReadDescriptor)."""

    def logPrefix(self) -> str:
        """Name the hub in errors of its own (IReadDescriptor)."""
        return "hub"

    @property
    def owners(self) -> list[Hubbed]:
        """Who owns a registered socket: nobody, when everything has ended (for tests)."""
        return [owner for owner in self._owners if owner is not None]


class _Bell:
    """Always rings, so that who listens to it is called at the next turn."""

    def __init__(self, hub: Hub) -> None:
        """Raises OSError."""
        self._hub = weakref.ref(hub)
        self.number = os.eventfd(1, os.EFD_CLOEXEC)
        self.heard = False

    def __del__(self) -> None:
        number = getattr(self, "number", None)
        if number is not None:
            os.close(number)

    def happened(self, events: int) -> None:
        """Ring once: it is the batch's end that was waited for."""
        hub = self._hub()
        assert hub is not None, "it is the hub that calls"
        self.heard = False
        hub.listen_no_more(self.number)

    def settle(self) -> None:
        """Nothing is put off here."""

    def fail(self, failure: Failure) -> None:
        """There is nothing to be ended."""


def _fail(owner: Unsettled) -> None:
    """End a connection whose protocol raised, and nothing else."""
    failure = Failure()
    log.failure("serving a connection failed unexpectedly", failure)
    try:
        owner.fail(failure)
    except Exception:
        log.failure("ending a connection failed unexpectedly")
