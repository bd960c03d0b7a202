"""Two transports joined: what arrives at one end leaves at the other, until both have ended.

An idle relay is two ends, one Relay and nothing else: no timer, no buffer. Idle limits are watched
for all relays by one IdleWatch, so that the hot path (``dataReceived``) pays for an addition and a
write only.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.idle_watch import IdleWatch
from whatsproxy.lingering import LINGER, BreakOff, LingeringClose
from whatsproxy.reason import Reason
from whatsproxy.session import Session
from whatsproxy.transport import (
    ALL,
    StreamProtocol,
    broke_off,
    hand_over,
    probe_silence,
    send_at_once,
    set_buffer,
    unsent,
)

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

    def makeConnection(self, transport: Any) -> None:
        """Take the transport; nothing begins here."""
        self.transport = transport

    def readConnectionLost(self) -> None:
        """The peer has sent all it will; tell the other side."""
        if broke_off(self.transport):
            self.transport.abortConnection()  # and so it is lost
            return
        self.eof = True
        self.relay.half_closed(self)

    def writeConnectionLost(self) -> None:
        """Our direction to the peer has ended: the kernel has all that it was sent."""
        self.ended_ours = True

    def connectionLost(self, reason: Failure) -> None:
        """Nothing is left of this end."""
        self.gone = True
        self.relay.lost(self, reason)

    def sink(self) -> tuple[Any, int] | None:
        """Nothing is to be seen of what passes: it may go to the other end in the kernel."""
        return None if self.other.gone else (self.other.transport, ALL)

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

    def moved(self, size: int) -> None:
        """Count what the upstream has got."""
        self.session.received += size


class _UpstreamEnd(_End):
    __slots__ = ()

    ended = Reason.UPSTREAM_CLOSED
    broken = Reason.UPSTREAM_RESET

    def dataReceived(self, data: bytes) -> None:
        """Pass on what the upstream sent."""
        self.session.sent += len(data)
        self.other.transport.write(data)

    def moved(self, size: int) -> None:
        """Count what the client has got."""
        self.session.sent += size


@dataclass(frozen=True, slots=True)
class Terms:
    """What many relays have in common.

    ``idle`` is the time in seconds without a byte in either direction after which one ends;
    ``patience`` replaces it as soon as one side has said that it is done, and is also what a peer
    is given to take what is still buffered for it. ``keepalive``: silent peers are probed.
    """

    clock: IReactorTime
    watch: IdleWatch
    idle: float
    patience: float
    keepalive: bool = False


class Relay:
    """Carries one session. It closes the session when both transports are gone."""

    __slots__ = (
        "_client",
        "_closing",
        "_reason",
        "_terms",
        "_upstream",
        "idle",
        "moved",
        "quiet_since",
        "session",
    )

    def __init__(self, terms: Terms, session: Session) -> None:
        self.session = session
        self.idle = terms.idle
        # The watch's: bytes at its last look, and since when they are the same.
        self.moved = -1
        self.quiet_since = 0.0
        self._terms = terms
        self._reason: Reason | None = None
        self._closing = False
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
    ) -> None:
        """Take both transports from the protocols that hold them.

        ``early`` is what the client has sent so far, and is counted already; ``client_ended`` says
        that it has sent all.
        """
        send_at_once(client.transport)
        send_at_once(upstream.transport)
        hand_over(upstream, self._upstream)
        hand_over(client, self._client)
        self.session.holder = self
        from_client, to_upstream = client.transport, upstream.transport
        to_upstream.registerProducer(self._client, True)
        from_client.registerProducer(self._upstream, True)
        self._terms.watch.add(self)
        if not client_ended:
            from_client.resumeProducing()  # before the early bytes, which may pause it
        if early:
            to_upstream.write(early)
        if client_ended:
            self._client.readConnectionLost()

    def half_closed(self, end: _End) -> None:
        """One side has ended its direction: pass that on behind what is still buffered."""
        if self._closing:
            return
        other = end.other
        if self._reason is None:
            self._reason = end.ended
        # With the producer registered, Twisted would never get round to ending the direction.
        other.transport.unregisterProducer()
        # From now on nobody is waited for longer than a peer that may be gone.
        self.moved = -1
        patience = self._terms.patience
        if self.idle > patience:
            self.idle = patience
        if other.eof:
            # Both have said all: each closes when what it was sent is out.
            self._closing = True
            end.transport.loseConnection()
            other.transport.loseConnection()
        else:
            other.transport.loseWriteConnection()

    def lost(self, end: _End, failure: Failure) -> None:
        """One side is gone: let the other one go, with what it has not been sent yet."""
        if self._reason is None or not isinstance(failure.value, ConnectionDone):
            self._ends(_reason_of_loss(end, failure))
        if end.other.gone:
            self._finish()
        elif not self._closing:
            self._closing = True
            whole = end.eof or isinstance(failure.value, ConnectionDone)
            self._let_go(end.other, whole=whole)

    def lasts(self) -> None:
        """Hear that it is not over at once: silent peers will be probed (called by the watch)."""
        if self._terms.keepalive and not self._closing:
            for end in (self._client, self._upstream):
                if not end.gone:
                    probe_silence(end.transport)

    def expire(self) -> None:
        """End for want of traffic (called by the watch)."""
        if self._closing:
            self.abort(Reason.IDLE)  # somebody does not take the last of what it was sent
            return
        self._ends(Reason.IDLE)
        self._closing = True
        for end in (self._client, self._upstream):
            if not end.gone:
                self._let_go(end, whole=end.other.eof, patience=LINGER)

    def _let_go(self, end: _End, *, whole: bool, patience: float | None = None) -> None:
        """Leave an end to its farewell; what it was sent must not look ``whole`` if it is not.

        ``patience`` is the time in seconds for what is still buffered. A farewell has limits of its
        own: nobody watches any more.
        """
        terms = self._terms
        terms.watch.discard(self)
        gone = partial(self._left, end)
        flush = terms.patience if patience is None else patience
        end.transport.unregisterProducer()
        if whole:
            farewell: StreamProtocol = LingeringClose(
                terms.clock,
                gone,
                flush=flush,
                linger=end.linger,
                stalled=self._stalled,
                peer_ended=end.eof,
                we_ended=end.ended_ours,
            )
        else:
            farewell = BreakOff(terms.clock, gone, flush=flush)
        hand_over(end, farewell)

    def _left(self, end: _End) -> None:
        end.gone = True
        if end.other.gone:
            self._finish()

    def abort(self, reason: Reason) -> None:
        """Close both ends at once (the Holder's duty)."""
        self._ends(reason)
        self._closing = True
        for end in (self._client, self._upstream):
            end.transport.abortConnection()  # the one that is gone does not mind

    def held(self) -> int:
        """Count what waits in either transport (the Holder's duty)."""
        return unsent(self._client.transport) + unsent(self._upstream.transport)

    def limit(self, size: int) -> None:
        """Let no more wait than this, each way (the Holder's duty)."""
        for end in (self._client, self._upstream):
            set_buffer(end.transport, size)

    def drain(self) -> None:
        """Go on: nobody knows where a conversation ends (the Holder's duty)."""

    def _stalled(self) -> None:
        self._ends(Reason.IDLE)

    def _ends(self, reason: Reason) -> None:
        """Note why: the first reason counts, but one side's orderly end is not yet the whole."""
        if self._reason is None or (self._reason in _ORDERLY and reason not in _ORDERLY):
            self._reason = reason

    def _finish(self) -> None:
        self._terms.watch.discard(self)
        self.session.close(self._reason or Reason.INTERNAL)
        for end in (self._client, self._upstream):
            del end.other, end.relay  # so that all is gone at once, circles and all


def _reason_of_loss(end: _End, failure: Failure) -> Reason:
    if isinstance(failure.value, ConnectionDone):
        return end.ended
    # Twisted closes a connection whose protocol raised, with what it raised (and logs it).
    return end.broken if isinstance(failure.value, ConnectionClosed) else Reason.INTERNAL
