"""How a connection is let go whose peer may still be reading, or sending."""

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from whatsproxy.transport import StreamProtocol, in_flight

#: Seconds that a parting peer is given to say goodbye too, once the kernel has everything for it.
LINGER = 5.0
#: Bytes read and dropped meanwhile; after that the peer may wait.
DROP_LIMIT = 256 * 1024


#: Seconds between two looks at what is in flight, at first and at last.
_LOOK_FIRST, _LOOK_LAST = 0.01, 1.0


class LingeringClose(StreamProtocol):
    """The last protocol of a connection that must not lose what is on its way.

    It ends our direction once the transport's buffer is sent, then reads and drops what still comes
    until the peer has ended too: closing with unread data would make the kernel reset the
    connection and destroy what the peer has not read yet. Whoever goes on sending is not read for
    ever: after ``drop`` bytes it has to wait, and after ``linger`` seconds the connection closes.
    ``dropped`` is told of each piece.

    ``flush`` is the time in seconds for the transport's buffer; when it is over the connection is
    aborted and ``stalled`` called. ``linger`` is what the peer then gets to read what the kernel
    holds for it. ``peer_ended`` and ``we_ended`` say which directions have ended before (to end
    ours twice is an error, which closes at once). ``gone`` is called once, when nothing is left.
    """

    __slots__ = (
        "_clock",
        "_drop",
        "_dropped",
        "_flush",
        "_gone",
        "_linger",
        "_peer_ended",
        "_stalled",
        "_tell",
        "_timer",
        "_we_ended",
    )

    def __init__(
        self,
        clock: IReactorTime,
        gone: Callable[[], None],
        *,
        flush: float = LINGER,
        linger: float = LINGER,
        drop: int = DROP_LIMIT,
        dropped: Callable[[int], None] | None = None,
        stalled: Callable[[], None] | None = None,
        peer_ended: bool = False,
        we_ended: bool = False,
    ) -> None:
        self._clock = clock
        self._gone = gone
        self._flush = flush
        self._linger = linger
        self._drop = drop
        self._tell = dropped
        self._stalled = stalled
        self._peer_ended = peer_ended
        self._we_ended = we_ended
        self._dropped = 0
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Begin to end."""
        self._timer = self._clock.callLater(self._flush, self._late)
        if self._peer_ended:
            self.transport.loseConnection()
            return
        self.transport.resumeProducing()
        if self._we_ended:
            self.writeConnectionLost()
        else:
            self.transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        """Drop it, within reason."""
        self._dropped += len(data)
        if self._tell is not None:
            self._tell(len(data))
        if self._dropped > self._drop:
            self.transport.pauseProducing()

    def writeConnectionLost(self) -> None:
        """The kernel has all, FIN too; wait for the peer's, but not for ever."""
        self._we_ended = True
        if self._timer is not None:
            self._timer.reset(self._linger)

    def readConnectionLost(self) -> None:
        """The peer has ended as well."""
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        """Nothing is left."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._gone()

    def _late(self) -> None:
        self._timer = None
        if self._we_ended:
            self.transport.loseConnection()
            return
        if self._stalled is not None:
            self._stalled()
        self.transport.abortConnection()


class BreakOff(StreamProtocol):
    """The last protocol of a connection whose other side has broken off.

    What is on its way still arrives; then a reset tells that it is not the whole. A FIN would make
    a truncated transfer look complete; a reset at once would destroy what was complete. ``flush``
    is the time in seconds for that; ``gone`` is called once, when nothing is left.
    """

    __slots__ = ("_clock", "_dropped", "_due", "_gone", "_pause", "_timer")

    def __init__(self, clock: IReactorTime, gone: Callable[[], None], *, flush: float) -> None:
        self._clock = clock
        self._gone = gone
        self._due = clock.seconds() + flush
        self._pause = _LOOK_FIRST
        self._dropped = 0
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Begin to end; read on, to hear of the peer's own end."""
        self.transport.resumeProducing()
        self._look()

    def dataReceived(self, data: bytes) -> None:
        """Drop it, within reason: there is nobody for it."""
        self._dropped += len(data)
        if self._dropped > DROP_LIMIT:
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure) -> None:
        """Nothing is left."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        self._gone()

    def _look(self) -> None:
        # Nobody tells when the kernel's queue is empty.
        self._timer = None
        if self._clock.seconds() >= self._due or not in_flight(self.transport):
            self.transport.abortConnection()
        else:
            self._timer = self._clock.callLater(self._pause, self._look)
            self._pause = min(2 * self._pause, _LOOK_LAST)
