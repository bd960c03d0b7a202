"""Two transports joined: what arrives at one end leaves at the other, until both have ended.

An idle relay is two ends, one Relay and nothing else: no timer, no buffer. Idle limits are watched
for all relays by one :class:`IdleWatch`, which compares byte counts, so that the hot path
(``dataReceived``) pays for an addition and a write only.
"""

from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.reason import Reason
from whatsproxy.session import Session
from whatsproxy.transport import LINGER, LingeringClose, StreamProtocol, hand_over, tune


@implementer(IPushProducer)
class _End(StreamProtocol):
    """One end. It is the producer of the *other* end's transport: while that one's buffer is full
    this one does not read.
    """

    __slots__ = ("eof", "gone", "other", "relay", "session")

    #: Why the session ends when this end's peer closes first, and when it breaks off.
    ended: Reason
    broken: Reason

    def __init__(self, relay: "Relay", session: Session) -> None:
        self.relay = relay
        self.session = session
        self.other: _End
        self.eof = False
        self.gone = False

    def readConnectionLost(self) -> None:
        """The peer has sent all it will; tell the other side."""
        self.eof = True
        self.relay.half_closed(self)

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

    broken = Reason.CLIENT_RESET
    ended = Reason.CLIENT_CLOSED

    def dataReceived(self, data: bytes) -> None:
        """Pass on what the client sent."""
        self.session.received += len(data)
        self.other.transport.write(data)


class _UpstreamEnd(_End):
    __slots__ = ()

    broken = Reason.UPSTREAM_RESET
    ended = Reason.UPSTREAM_CLOSED

    def dataReceived(self, data: bytes) -> None:
        """Pass on what the upstream sent."""
        self.session.sent += len(data)
        self.other.transport.write(data)


class Relay:
    """Carries one session. It closes the session when both transports are gone.

    ``idle`` and ``half_idle`` are the seconds without a byte, in either direction, after which it
    ends: the second counts from the moment on at which one side has said that it is done.
    """

    __slots__ = (
        "_client",
        "_clock",
        "_closing",
        "_half_idle",
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
        half_idle: float,
    ) -> None:
        self.session = session
        self.idle = idle
        self.moved = -1
        self.quiet_since = 0.0
        self._clock = clock
        self._watch = watch
        self._half_idle = half_idle
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

        ``early`` is what the client sent so far; ``client_ended`` says that it has sent all.
        """
        self.session.holder = self
        tune(client.transport, keepalive)
        tune(upstream.transport, keepalive)
        hand_over(upstream, self._upstream)
        hand_over(client, self._client)
        self._upstream.transport.registerProducer(self._client, True)
        self._client.transport.registerProducer(self._upstream, True)
        self._watch.add(self)
        if not client_ended:
            self._client.transport.resumeProducing()  # before the early bytes, which may pause it
        if early:
            self._client.dataReceived(early)
        if client_ended:
            self._client.readConnectionLost()

    def half_closed(self, end: _End) -> None:
        """One side has ended its direction: pass that on behind what is still buffered."""
        if self._closing:
            return
        if self._reason is None:
            self._reason = end.ended
        other = end.other
        # With the producer registered, Twisted would never get round to ending the direction.
        other.transport.unregisterProducer()
        if other.eof:
            self.close(self._reason)
        else:
            self.idle = min(self.idle, self._half_idle)
            self.moved = -1  # the watch counts from now on
            other.transport.loseWriteConnection()

    def lost(self, end: _End, reason: Failure) -> None:
        """One side is gone: let the other one go, with what it has not been sent yet."""
        other = end.other
        if self._reason is None:
            self._reason = _reason_of_loss(end, reason)
        if other.gone:
            self._finish()
        elif not self._closing:
            self._closing = True
            other.transport.unregisterProducer()
            farewell = LingeringClose(self._clock, self._finish, peer_ended=other.eof)
            other.gone = True
            hand_over(other, farewell)

    def close(self, reason: Reason) -> None:
        """Close both ends, each when what it was sent is out, or after LINGER seconds."""
        if self._closing:
            return
        self._closing = True
        self._reason = self._reason or reason
        self._timer = self._clock.callLater(LINGER, self.abort, reason)
        for end in (self._client, self._upstream):
            if not end.gone:
                end.transport.unregisterProducer()
                end.transport.loseConnection()

    def abort(self, reason: Reason) -> None:
        """Close both ends at once (the Holder's duty)."""
        self._reason = self._reason or reason
        self._closing = True
        for end in (self._client, self._upstream):
            end.transport.abortConnection()  # the one that is gone does not mind

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
            relay.close(Reason.IDLE)
