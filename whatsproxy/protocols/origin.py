"""The upstream leg of HTTP: one connection to an origin, used for one request after another."""

from typing import Any, Protocol

import h11
from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from whatsproxy.destination import Destination
from whatsproxy.http1.errors import MessageError
from whatsproxy.http1.heads import Limits
from whatsproxy.http1.wire import Wire
from whatsproxy.reason import Reason
from whatsproxy.transport import StreamProtocol, broke_off

#: Seconds that an origin which is not needed any more may hold a descriptor: no session counts it.
GOODBYE = 0.2
#: Events of one connection that are served before it is the others' turn: much more can arrive at
#: once, in one-byte chunks or in short requests.
EVENTS_A_TURN = 100


class Listener(Protocol):
    """Whose request an origin is answering."""

    def heard(self, event: Any) -> None:
        """Take one of h11's events of the answer."""

    def gather(self) -> None:
        """Hear that events may follow one another: what comes of them may be sent in one piece."""

    def flush(self) -> None:
        """Hear that those were all for now."""

    def taker(self) -> Any:
        """Return the transport that may get the body of the answer unseen; None: there is none."""

    def passed(self, size: int) -> None:
        """Hear of so many bytes that the taker has got."""

    def count(self, size: int) -> None:
        """Hear of all that it has got since the last time, before anything else is heard."""

    def failed(self, reason: Reason, detail: str) -> None:
        """Hear that there is no more of the answer; the origin is given up."""


class Origin(StreamProtocol):
    """Holds the transport; tells ``listener`` what is answered while there is one.

    Without one an origin has nothing to say: what it says then is an answer to nobody, and must
    not become the answer to the next request.
    """

    __slots__ = (
        "_aborted",
        "_clock",
        "_closing",
        "_eof",
        "_gone",
        "_held",
        "_later",
        "_left",
        "_offered",
        "_paused",
        "_uncounted",
        "answering",
        "destination",
        "listener",
        "wire",
    )

    def __init__(self, clock: IReactorTime, destination: Destination, limits: Limits) -> None:
        self.destination = destination
        self.wire = Wire(h11.CLIENT, limits)
        self.listener: Listener | None = None
        #: Whether a byte of the current answer has come.
        self.answering = False
        self._clock = clock
        self._closing: IDelayedCall | None = None
        self._later: IDelayedCall | None = None
        self._left = False
        self._paused = False
        self._eof = False
        self._aborted = False
        self._gone = False
        self._held = b""
        #: Bytes of a body that may still go by unseen; and that have, of which both wires are still
        #: to hear: there are many pieces of a large one, and until it ends nobody asks.
        self._offered = 0
        self._uncounted = 0

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return not (self._eof or self._aborted or self._gone) and self._closing is None

    def write(self, data: bytes) -> None:
        """Send bytes, behind what was held."""
        if self._held:
            data, self._held = self._held + data, b""
        if data:
            self.transport.write(data)

    def hold(self, data: bytes) -> None:
        """Send bytes together with the next ones, or when told to ``flush``."""
        self._held = data

    def flush(self) -> None:
        """Send what was held."""
        self.write(b"")

    def sink(self) -> tuple[Any, int] | None:
        """Return who may get what is to come of a body, and how much that is."""
        if self.listener is None or self._later is not None:
            return None
        if not self._uncounted:
            self._offered = self.wire.unseen
        taker = self.listener.taker() if self._offered else None
        return None if taker is None else (taker, self._offered)

    def moved(self, size: int) -> None:
        """Hear what has passed of the body; its end may have been in it."""
        if size and self.listener is not None:
            self._uncounted += size
            self._offered -= size
            self.listener.passed(size)
            if not self._offered:
                self._count()
                self._read()

    def _count(self) -> None:
        """Tell both wires what has gone by."""
        size, self._uncounted = self._uncounted, 0
        if size and self.listener is not None:
            self.wire.passed(size)
            self.listener.count(size)

    def pause(self) -> None:
        """Read no more of the answer for now."""
        self._paused = True
        self._regulate()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        self._regulate()

    def rest(self) -> "Origin | None":
        """Let go of the listener; return the origin if it can take another request."""
        self.listener = None
        self.transport.unregisterProducer()
        if self.usable and self.wire.reusable and not self.wire.buffered:
            self.wire.start_next_cycle()
            self.answering = False
            if self._paused:
                self.resume()
            return self
        self.close()
        return None

    def leave(self) -> bytes:
        """Be no more who reads from the origin; return what it has sent that was not read."""
        self.listener = None
        self.transport.unregisterProducer()
        self.resume()
        self._left = True
        return self.wire.take_rest()

    def close(self) -> None:
        """End the connection in good order, if that needs no time: nobody waits for more of it."""
        self.listener = None
        if not self._gone and self._closing is None:
            self._closing = self._clock.callLater(GOODBYE, self.abort)
            self.transport.loseConnection()

    def abort(self) -> None:
        """Break the connection off."""
        self.listener = None
        self._aborted = True
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Read, if somebody asked."""
        if self.listener is None:
            self.abort()
            return
        self.answering = True
        if self._uncounted:
            self._count()
        self.wire.receive(data)
        self._read()

    def readConnectionLost(self) -> None:
        """The origin has said all: that may be the end of a body, or too early."""
        if broke_off(self.transport):
            self.transport.abortConnection()  # and so it is lost
            return
        self._eof = True
        if self.listener is None:
            self.close()
            return
        self._count()
        self.wire.end()
        self._read()

    def connectionLost(self, reason: Failure) -> None:
        """Nothing is left of the connection."""
        self._gone = True
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        if reason.check(ConnectionDone) and self.listener is not None:
            # TLS has no half-close: who says goodbye is gone. What it has said is still read.
            self._eof = True
            self._count()
            self.wire.end()
            self._read()
            return
        later, self._later = self._later, None
        if later is not None:
            later.cancel()
        if reason.check(ConnectionClosed):
            self._fail(Reason.UPSTREAM_RESET, "the upstream broke the connection off")
        else:  # Twisted closes a connection whose protocol raised, with what it raised
            self._fail(Reason.INTERNAL, "")

    def _read(self) -> None:
        """Tell the listener what has arrived; after EVENTS_A_TURN, go on in the next turn."""
        listener = self.listener
        if self._later is not None or listener is None:
            return
        listener.gather()
        try:
            self._tell()
        finally:
            listener.flush()

    def _tell(self) -> None:
        try:
            for _ in range(EVENTS_A_TURN):
                if self.listener is None:
                    return
                event = self.wire.next_event()
                if event is None or type(event) is h11.ConnectionClosed:
                    break
                self.listener.heard(event)
            else:
                if self.listener is not None:
                    self._later = self._clock.callLater(0, self._read_on)
                    self._regulate()
                return
        except MessageError as e:
            if not self._eof:
                self._fail(Reason.UPSTREAM_BAD_ANSWER, f"the upstream's answer is not HTTP: {e}")
                return
        if self._eof:
            problem = "the upstream ended the connection in the middle of its answer"
            self._fail(Reason.UPSTREAM_RESET, problem if self.answering else _NO_ANSWER)

    def _read_on(self) -> None:
        self._later = None
        self._read()
        self._regulate()

    def _regulate(self) -> None:
        """Read from the origin unless the client is full, or there is more than enough to do."""
        if self._left or self._eof or self._gone or self._closing is not None:
            return
        if self._paused or self._later is not None:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()

    def _fail(self, reason: Reason, detail: str) -> None:
        listener = self.listener
        if listener is None:
            return
        if not self._gone:
            self.transport.unregisterProducer()
            self.abort()
        self.listener = None
        listener.failed(reason, detail)


_NO_ANSWER = "the upstream ended the connection before it had answered"
