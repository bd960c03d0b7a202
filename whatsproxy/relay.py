"""Two transports joined: what arrives at one end leaves at the other, until both have ended.

An idle relay is two ends, one Relay and nothing else: no timer, no buffer. Idle limits are watched
for all relays by one :class:`IdleWatch`, which compares byte counts, so that the hot path
(``dataReceived``) pays for an addition and a write only.
"""

from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.lingering import LINGER, LingeringClose
from whatsproxy.reason import Reason
from whatsproxy.session import Session
from whatsproxy.tls_transport import is_encrypted
from whatsproxy.transport import StreamProtocol, hand_over, tune

_ORDERLY = (Reason.CLIENT_CLOSED, Reason.UPSTREAM_CLOSED)


@implementer(IPushProducer)
class _End(StreamProtocol):
    """One end. It is the producer of the *other* end's transport: while that one's buffer is full
    this one does not read.
    """

    __slots__ = ("ended_ours", "eof", "gone", "other", "relay", "session")

    #: Why the session ends when this end's peer closes first, and when it breaks off.
    ended: Reason
    broken: Reason
    #: Seconds that it is given to take the last of what it was sent, when the other end is lost.
    linger = LINGER

    def __init__(self, relay: "Relay", session: Session) -> None:
        self.relay = relay
        self.session = session
        self.other: _End
        self.eof = False
        self.ended_ours = False
        self.gone = False

    def readConnectionLost(self) -> None:
        """The peer has sent all it will; tell the other side."""
        self.eof = True
        self.relay.half_closed(self)

    def writeConnectionLost(self) -> None:
        """Our direction to the peer has ended: the kernel has all that it was sent."""
        self.ended_ours = True

    def connectionLost(self, reason: Failure) -> None:
        """Nothing is left of this end."""
        self.gone = True
        self.relay.lost(self, reason)

    def pauseProducing(self) -> None:
        """The other end's buffer is full."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The other end's buffer is empty."""
        if not (self.eof or self.gone):
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The other end is lost; its connectionLost does what is to be done."""


class _ClientEnd(_End):
    __slots__ = ()

    ended = Reason.CLIENT_CLOSED
    broken = Reason.CLIENT_RESET
    linger = 30.0  # it may be slow, and what it reads is the answer

    def dataReceived(self, data: bytes) -> None:
        """Pass on what the client sent."""
        self.session.received += len(data)
        self.other.transport.write(data)


class _UpstreamEnd(_End):
    __slots__ = ()

    ended = Reason.UPSTREAM_CLOSED
    broken = Reason.UPSTREAM_RESET

    def dataReceived(self, data: bytes) -> None:
        """Pass on what the upstream sent."""
        self.session.sent += len(data)
        self.other.transport.write(data)


class Relay:
    """Carries one session. It closes the session when both transports are gone.

    ``idle`` is the time in seconds without a byte in either direction after which it ends;
    ``patience`` replaces it as soon as one side has said that it is done, and is also what a peer
    is given to take what is still buffered for it.
    """

    __slots__ = (
        "_client",
        "_clock",
        "_closing",
        "_patience",
        "_reason",
        "_timer",
        "_upstream",
        "_watch",
        "idle",
        "moved",
        "quiet_since",
        "session",
    )

    def __init__(
        self,
        clock: IReactorTime,
        watch: "IdleWatch",
        session: Session,
        idle: float,
        patience: float,
    ) -> None:
        self.session = session
        self.idle = idle
        # The watch's: bytes at its last look, and since when they are the same.
        self.moved = -1
        self.quiet_since = 0.0
        self._clock = clock
        self._watch = watch
        self._patience = patience
        self._reason: Reason | None = None
        self._closing = False
        self._timer: IDelayedCall | None = None
        self._client = _ClientEnd(self, session)
        self._upstream = _UpstreamEnd(self, session)
        self._client.other = self._upstream
        self._upstream.other = self._client

    def start(
        self,
        client: StreamProtocol,
        upstream: StreamProtocol,
        early: bytes = b"",
        *,
        client_ended: bool = False,
        keepalive: bool = False,
    ) -> None:
        """Take both transports from the protocols that hold them.

        ``early`` is what the client has sent so far, and is counted already; ``client_ended`` says
        that it has sent all.
        """
        tune(client.transport, keepalive)
        tune(upstream.transport, keepalive)
        hand_over(upstream, self._upstream)
        hand_over(client, self._client)
        self.session.holder = self
        self._upstream.transport.registerProducer(self._client, True)
        self._client.transport.registerProducer(self._upstream, True)
        self._watch.add(self)
        if not client_ended:
            self._client.transport.resumeProducing()  # before the early bytes, which may pause it
        if early:
            self._upstream.transport.write(early)
        if client_ended:
            self._client.readConnectionLost()

    def half_closed(self, end: _End) -> None:
        """One side has ended its direction: pass that on behind what is still buffered."""
        if self._closing:
            return
        other = end.other
        self._ends(end.ended)
        # With the producer registered, Twisted would never get round to ending the direction.
        other.transport.unregisterProducer()
        if other.eof:
            self._close(self._patience)
        else:
            self.idle = min(self.idle, self._patience)
            self.moved = -1  # the watch counts from now on
            other.transport.loseWriteConnection()

    def lost(self, end: _End, failure: Failure) -> None:
        """One side is gone: let the other one go, with what it has not been sent yet."""
        other = end.other
        self._ends(_reason_of_loss(end, failure))
        if other.gone:
            self._finish()
        elif not self._closing and _must_break(end, failure):
            self._closing = True
            other.transport.unregisterProducer()
            other.transport.abortConnection()
        elif not self._closing:
            self._closing = True
            other.gone = True  # its farewell takes care of it from here
            other.transport.unregisterProducer()
            farewell = LingeringClose(
                self._clock,
                self._finish,
                flush=self._patience,
                linger=other.linger,
                stalled=self._stalled,
                peer_ended=other.eof,
                we_ended=other.ended_ours,
            )
            hand_over(other, farewell)

    def expire(self) -> None:
        """End for want of traffic (called by the watch)."""
        if not self._closing:
            self._ends(Reason.IDLE)
            self._close(LINGER)

    def abort(self, reason: Reason) -> None:
        """Close both ends at once (the Holder's duty)."""
        self._ends(reason)
        self._closing = True
        for end in (self._client, self._upstream):
            end.transport.abortConnection()  # the one that is gone does not mind

    def drain(self) -> None:
        """Go on: nobody knows where a conversation ends (the Holder's duty)."""

    def _close(self, patience: float) -> None:
        """Close both ends, each when what it was sent is out, or after so many seconds."""
        self._closing = True
        self._timer = self._clock.callLater(patience, self.abort, Reason.IDLE)
        for end in (self._client, self._upstream):
            if not end.gone:
                end.transport.unregisterProducer()
                end.transport.loseConnection()

    def _stalled(self) -> None:
        self._ends(Reason.IDLE)

    def _ends(self, reason: Reason) -> None:
        """Note why: the first reason counts, but one side's orderly end is not yet the whole."""
        if self._reason is None or (self._reason in _ORDERLY and reason not in _ORDERLY):
            self._reason = reason

    def _finish(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._watch.discard(self)
        self.session.close(self._reason or Reason.INTERNAL)


def _reason_of_loss(end: _End, failure: Failure) -> Reason:
    if failure.check(ConnectionDone):
        return end.ended
    # Twisted closes a connection whose protocol raised, with what it raised (and logs it).
    return end.broken if failure.check(ConnectionClosed) else Reason.INTERNAL


def _must_break(end: _End, failure: Failure) -> bool:
    """Whether the loss of an end has to break off the other one.

    TLS tells a truncated stream from an ended one: to end the other side in good order would lie.
    """
    if failure.check(ConnectionDone):
        return False
    return is_encrypted(end.transport) or is_encrypted(end.other.transport)


class IdleWatch:
    """Ends relays that have been idle for too long; one look at all of them a tick.

    ``tick`` is in seconds: a relay is cut at most two of them late. Nothing is scheduled while
    there is no relay.
    """

    def __init__(self, clock: IReactorTime, tick: float) -> None:
        self._clock = clock
        self._tick = tick
        self._relays: set[Relay] = set()
        self._timer: IDelayedCall | None = None

    def add(self, relay: Relay) -> None:
        """Watch a relay from now on."""
        self._relays.add(relay)
        if self._timer is None:
            self._timer = self._clock.callLater(self._tick, self._look)

    def discard(self, relay: Relay) -> None:
        """Watch it no longer."""
        self._relays.discard(relay)
        if not self._relays and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._clock.callLater(self._tick, self._look)
        now = self._clock.seconds()
        idle = []
        for relay in self._relays:
            moved = relay.session.received + relay.session.sent
            if moved != relay.moved:
                relay.moved = moved
                relay.quiet_since = now
            elif now - relay.quiet_since >= relay.idle:
                idle.append(relay)
        for relay in idle:
            relay.expire()
