"""Chat, XMPP, passed-through TLS and raw bytes: connect to the upstream, replay, relay."""

from functools import partial

from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from whatsproxy.attempts import Attempt
from whatsproxy.lingering import LingeringClose
from whatsproxy.protocols.base import ClientProtocol, Proxy
from whatsproxy.protocols.refused import Refused
from whatsproxy.reason import Reason
from whatsproxy.route import Route
from whatsproxy.session import Session
from whatsproxy.transport import StreamTransport, hand_over, unsent
from whatsproxy.upstream import Arrival, reason_of

#: Bytes that are kept for an upstream that is not there yet; beyond them the client must wait.
EARLY_LIMIT = 64 * 1024
log = Logger()


class Tunnel(ClientProtocol):
    """Holds the client while its upstream is being reached, then leaves both to a Relay.

    ``early`` is what the client has sent that is counted already; ``ended`` says that it is all.
    """

    __slots__ = (
        "_connecting",
        "_early",
        "_ended",
        "_gone",
        "_last",
        "_limit",
        "_reading",
        "_route",
        "_started",
    )

    def __init__(
        self,
        proxy: Proxy,
        session: Session,
        route: Route,
        *,
        early: bytes = b"",
        ended: bool = False,
    ) -> None:
        super().__init__(proxy, session)
        self._route = route
        self._early = early
        self._ended = ended
        self._gone = False
        #: The upstream's, where that alone is left.
        self._last: StreamTransport | None = None
        self._limit = EARLY_LIMIT
        self._reading = True
        self._started = proxy.clock.seconds()
        self._connecting: Attempt | None = None

    def connectionMade(self) -> None:
        """Reach for the upstream."""
        super().connectionMade()
        self.session.target = str(self._route.destinations[0])
        connecting = self.proxy.upstream.attempt(self._route.destinations, self, self.ends)
        self._connecting = connecting
        connecting.start()

    def dataReceived(self, data: bytes) -> None:
        """Keep what comes before the upstream is there."""
        self.session.received += len(data)
        self._early += data
        if len(self._early) > self._limit:
            self._regulate()

    def readConnectionLost(self) -> None:
        """The client has said all; what it said still goes out."""
        self._ended = True

    def abort(self, reason: Reason) -> None:
        """Want no upstream any more, and let the client go at once."""
        waiting = self._connecting is not None
        self._stop_connecting()
        if not self._gone:
            super().abort(reason)
        elif self._last is not None:
            self._last.abortConnection()
        elif waiting:
            self.session.close(reason)

    def held(self) -> int:
        """Count what waits for the upstream, too."""
        if self._last is not None:
            return unsent(self._last)
        return len(self._early) + super().held()

    def limit(self, size: int) -> None:
        """Keep no more than this for the upstream, either."""
        super().limit(size)
        self._limit = min(size, EARLY_LIMIT)
        self._regulate()

    def _regulate(self) -> None:
        reading = len(self._early) <= self._limit
        if reading is not self._reading and not (self._ended or self._gone):
            self._reading = reading
            if reading:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    def connectionLost(self, reason: Failure) -> None:
        """The client is gone before the upstream was there."""
        if reason.check(ConnectionDone) and self._early and self._connecting is not None:
            # In TLS, which has no half-close, who says goodbye is gone; what it said goes out.
            self._gone = True
            return
        self._stop_connecting()
        if reason.check(ConnectionDone):
            why = Reason.CLIENT_CLOSED
        else:
            # Twisted closes a connection whose protocol raised, with what it raised (and logs it).
            why = Reason.CLIENT_RESET if reason.check(ConnectionClosed) else Reason.INTERNAL
        self.session.close(self.reason or why, "no upstream reached yet")

    def _stop_connecting(self) -> None:
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()

    def reached(self, holder: Arrival) -> None:
        """Go on to the relay (called by the attempt)."""
        self._connecting = None
        try:
            self._arrived(holder)
        except Exception:
            self._broken()
            holder.transport.abortConnection()  # perhaps nobody else knows it yet

    def unreached(self, error: Exception) -> None:
        """Let the client go (called by the attempt)."""
        self._connecting = None
        try:
            self._refuse(error)
        except Exception:
            self._broken()

    def _arrived(self, arrival: Arrival) -> None:
        proxy, session = self.proxy, self.session
        proxy.ledger.connect_time.observe(proxy.clock.seconds() - self._started)
        session.target = str(arrival.destination)
        if self._gone:
            self._last = arrival.transport
            arrival.transport.write(self._early)
            bye = partial(session.close, Reason.CLIENT_CLOSED)
            hand_over(arrival, LingeringClose(proxy.clock, bye))
            return
        self.connected()
        self.join(arrival, self._early, ended=self._ended)

    def _refuse(self, error: Exception) -> None:
        reason, detail = reason_of(error), str(error)
        if reason is Reason.INTERNAL:
            log.failure("connecting failed unexpectedly", Failure(error))
            detail = ""
        if self._gone:
            self.session.close(reason, detail)
            return
        refused = Refused(
            *(self.proxy, self.session, reason, detail),
            last_word=self.last_word(reason, detail),
            peer_ended=self._ended,
        )
        hand_over(self, refused)

    def _broken(self) -> None:
        """An error of ours: let it end this connection, and nothing else."""
        log.failure("serving a connection failed unexpectedly")
        (self.session.holder or self).abort(Reason.INTERNAL)

    def connected(self) -> None:
        """Tell the client, where its protocol wants to know."""

    def last_word(self, reason: Reason, detail: str) -> bytes:
        """Return what the client is told when no upstream was reached: nothing, here."""
        return b""
