"""The upstream leg of HTTP: one connection to an origin, used for one request after another."""

from typing import Any, Protocol

import h11
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from whatsproxy.destination import Destination
from whatsproxy.http1.errors import MessageError
from whatsproxy.http1.heads import Limits
from whatsproxy.http1.wire import Wire
from whatsproxy.lingering import LINGER
from whatsproxy.reason import Reason
from whatsproxy.transport import StreamProtocol


class Listener(Protocol):
    """Whose request an origin is answering."""

    def heard(self, event: Any) -> None:
        """Take one of h11's events of the answer."""

    def failed(self, reason: Reason, detail: str) -> None:
        """Hear that there is no more of the answer; the origin is given up."""


class Origin(StreamProtocol):
    """Holds the transport; tells ``listener`` what is answered while there is one.

    Without one an origin has nothing to say: what it says then is an answer to nobody, and must
    not become the answer to the next request.
    """

    __slots__ = ("_clock", "_closing", "_eof", "_gone", "destination", "heard", "listener", "wire")

    def __init__(self, clock: IReactorTime, destination: Destination, limits: Limits) -> None:
        self.destination = destination
        self.wire = Wire(h11.CLIENT, limits)
        self.listener: Listener | None = None
        #: Whether a byte of the current answer has come.
        self.heard = False
        self._clock = clock
        self._closing: IDelayedCall | None = None
        self._eof = False
        self._gone = False

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return not (self._eof or self._gone) and self._closing is None

    def send(self, event: Any) -> None:
        """Send an event of the request."""
        data = self.wire.send(event)
        if data:
            self.transport.write(data)

    def rest(self) -> "Origin | None":
        """Let go of the listener; return the origin if it can take another request."""
        self.listener = None
        self.transport.unregisterProducer()
        if self.usable and self.wire.reusable and not self.wire.buffered:
            self.wire.start_next_cycle()
            self.heard = False
            self.transport.resumeProducing()
            return self
        self.close()
        return None

    def close(self) -> None:
        """End the connection, behind what is still to be sent; it may take LINGER seconds."""
        self.listener = None
        if not self._gone and self._closing is None:
            self._closing = self._clock.callLater(LINGER, self.abort)
            self.transport.loseConnection()

    def abort(self) -> None:
        """Break the connection off."""
        self.listener = None
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Read, if somebody asked."""
        if self.listener is None:
            self.abort()
            return
        self.heard = True
        self.wire.receive(data)
        self._read()

    def readConnectionLost(self) -> None:
        """The origin has said all: that may be the end of a body, or too early."""
        self._eof = True
        if self.listener is None:
            self.close()
            return
        self.wire.end()
        self._read()
        self._fail(Reason.UPSTREAM_RESET, "the upstream ended the connection before its answer")

    def connectionLost(self, reason: Failure) -> None:
        """Nothing is left of the connection."""
        self._gone = True
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self._fail(Reason.UPSTREAM_RESET, "the upstream broke the connection off")

    def _read(self) -> None:
        try:
            while self.listener is not None:
                event = self.wire.next_event()
                if event is None or type(event) is h11.ConnectionClosed:
                    return
                self.listener.heard(event)
        except MessageError as e:
            if self._eof:
                return  # it ended in the middle
            self._fail(Reason.UPSTREAM_BAD_ANSWER, f"the upstream's answer is not HTTP: {e}")

    def _fail(self, reason: Reason, detail: str) -> None:
        listener = self.listener
        if listener is None:
            return
        if not self._gone:
            self.transport.unregisterProducer()
            self.abort()
        self.listener = None
        listener.failed(reason, detail)
