"""What a TCP transport does, seen from both its ends: scripts of steps on real loopback sockets.

A script is played on whatever has a reactor's ``listenTCP``, ``adoptStreamPort`` and
``connectTCP``. Its trace says what the protocol, its producer and the peer saw after each step, so
that two transports can be compared. The peer is a bare socket; between two steps the reactor turns
until nothing moves any more and nothing is on its way in the kernel: nobody sleeps.
"""

import contextlib
import socket
import string
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.conformance_peer import OURS, SEGMENT, THEIRS, Flow, Peer, flow_of
from tests.conformance_script import (
    CALLBACKS,
    MUCH,
    SMALL,
    THEIR_ACTS,
    Planted,
    Script,
    Seen,
    Step,
    Trace,
    amount,
)
from tests.peers import LOOPBACK, reactor

#: So many turns in which nothing has moved are the end of a step.
STILL = 4
#: Seconds after which a step is not going to end.
PATIENCE = 10.0


def play(subject: Any, script: Script) -> Trace:
    """Play a script on a reactor, or on what is in its place."""
    return _Play(subject, script).run()


@implementer(IPushProducer)
class _Producer:
    """Registered with the transport; it keeps what it is told, and produces nothing."""

    def __init__(self, playing: "_Play") -> None:
        self._playing = playing
        self.state = "flowing"

    def pauseProducing(self) -> None:
        self._playing.insist(self.state == "flowing", f"a producer was paused while {self.state}")
        self.state = "paused"

    def resumeProducing(self) -> None:
        self._playing.insist(self.state == "paused", f"a producer was resumed while {self.state}")
        self.state = "flowing"
        self._playing.act_in("resumed")

    def stopProducing(self) -> None:
        self._playing.hears("producer stopped")
        self.state = "stopped"


@implementer(IProtocol)
class _Recorder:
    """A protocol that tells what it hears, and does what the script has ready for it."""

    transport: Any = None

    def __init__(self, playing: "_Play", name: str) -> None:
        self._playing = playing
        self.name = name

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        self._hears("made")

    def dataReceived(self, data: bytes) -> None:
        self._playing.takes(data)
        self._hears("data")

    def connectionLost(self, reason: Failure) -> None:
        self._hears("lost", f"lost {reason.type.__name__}")  # type: ignore[union-attr]  # a failure has a type

    def _hears(self, what: str, told: str = "") -> None:
        self._playing.insist(self._playing.holder is self, f"{self.name} still hears {what}")
        self._playing.hears(f"{self.name}:{told or what}")
        if what == "lost":
            self._playing.lost = True
        else:
            self._playing.act_in(what)


@implementer(IHalfCloseableProtocol)
class _HalfRecorder(_Recorder):
    """The same, told of half-closes."""

    def readConnectionLost(self) -> None:
        self._hears("read_lost")

    def writeConnectionLost(self) -> None:
        self._hears("write_lost")


class _Play(ClientFactory):
    """One script on one connection: a method an act of ours."""

    noisy = False

    def __init__(self, subject: Any, script: Script) -> None:
        self._subject, self._script = subject, script
        self._peer = Peer()
        self._broken = self._peer.broken
        self._seen: list[Seen] = []
        #: Our side: who holds the transport, its socket, what it has heard and done in this step.
        self.holder: Any = None
        self.lost = False
        self._bare: Any = None
        self._heard: list[str] = []
        self._acted: list[str] = []
        self._within: list[str] = []
        self._ready: dict[str, list[Step]] = {name: [] for name in CALLBACKS}
        self._names = iter(string.ascii_letters)
        self._producer: _Producer | None = None
        self._written = self._received = 0
        self._sent_before_peer_left = 0

    def run(self) -> Trace:
        steps = list(self._script.steps)
        while steps and steps[0].on == "made":
            self._ready["made"].append(steps.pop(0))
        with contextlib.ExitStack() as undo:
            self._connect(undo)
            # Whoever is left at the end goes, as kindly as it can.
            last = [Step((act,)) for act in ("peer_drain", "lose", "peer_drain", "abort")]
            for step in [Step(()), *steps, *last]:
                if step.on:
                    self._ready[step.on].append(step)
                else:
                    self._act(step)
                    self._settle(step)
            self.insist(self.lost, "connectionLost never came")
        return Trace(tuple(self._seen), tuple(self._broken))

    # -- The connection

    def _connect(self, undo: contextlib.ExitStack) -> None:
        small = self._script.small
        undo.callback(self._peer.close, reset=True)
        if self._script.connects:
            with _socket(small) as server:
                server.bind((LOOPBACK, 0))
                server.listen()
                self._subject.connectTCP(LOOPBACK, server.getsockname()[1], self)
                _turn_until(lambda: self._bare is not None or self.lost, "no connection")
                self._peer.take(server.accept()[0])
            return
        if small:
            with _socket(small) as server:
                server.bind((LOOPBACK, 0))
                server.listen()
                port = self._subject.adoptStreamPort(server.fileno(), socket.AF_INET, self)
        else:
            port = self._subject.listenTCP(0, self, 50, LOOPBACK)
        undo.callback(_stop, port)
        bare = _socket(small)
        with contextlib.suppress(BlockingIOError):
            bare.connect((LOOPBACK, port.getHost().port))
        self._peer.take(bare)
        _turn_until(lambda: self._bare is not None, "no connection")

    def buildProtocol(self, addr: Any) -> Any:
        self.holder = self._recorder()
        return self.holder

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self.insist(False, f"no connection: {reason.value!r}")
        self.lost = True

    def _recorder(self) -> Any:
        return (_HalfRecorder if self._script.halves else _Recorder)(self, next(self._names))

    # -- What our side hears

    def hears(self, what: str) -> None:
        """Keep what the protocol or its producer is told; and from within which act, if any."""
        self.insist(not self.lost, f"{what} after the end")
        if self._bare is None:
            self._bare = self.holder.transport.getHandle()
            if self._script.small:
                self._bare.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        if self._within and not what.endswith(":made"):
            what += f" in {self._within[-1]}"
        if not (what.endswith(":data") and self._heard[-1:] == [what]):
            self._heard.append(what)

    def takes(self, data: bytes) -> None:
        there = self._received
        self.insist(len(data) > 0, "dataReceived came with nothing")
        self.insist(data == THEIRS[there : there + len(data)], "our side got other bytes")
        self._received += len(data)

    def insist(self, truth: bool, what: str) -> None:
        """Keep that a law is broken."""
        if not truth:
            self._broken.append(what)

    def act_in(self, callback: str) -> None:
        """Do what is ready for a callback."""
        if self._ready[callback]:
            within, self._within = self._within, []
            try:
                self._act(self._ready[callback].pop(0))
            finally:
                self._within = within

    def _act(self, step: Step) -> None:
        for act in step.acts:
            if act in THEIR_ACTS:
                getattr(self, act)(step)
            elif not self.lost:
                self._acted.append(act)
                self._within.append(act)
                try:
                    getattr(self, act)(step)
                finally:
                    self._within.pop()

    # -- Our acts

    def write(self, step: Step) -> None:
        data = OURS[self._written : self._written + step.size]
        self._written += len(data)
        self.holder.transport.write(data)

    def write_much(self, step: Step) -> None:
        self.write(step._replace(size=MUCH))

    def lose_write(self, step: Step) -> None:
        self.holder.transport.loseWriteConnection()

    def lose(self, step: Step) -> None:
        self.holder.transport.loseConnection()

    def abort(self, step: Step) -> None:
        self.holder.transport.abortConnection()

    def pause(self, step: Step) -> None:
        self.holder.transport.pauseProducing()

    def resume(self, step: Step) -> None:
        self.holder.transport.resumeProducing()

    def produce(self, step: Step) -> None:
        if self._producer is None:
            self._producer = _Producer(self)
            self.holder.transport.registerProducer(self._producer, True)

    def unproduce(self, step: Step) -> None:
        if self._producer is not None:
            self._producer = None
            self.holder.transport.unregisterProducer()

    def swap(self, step: Step) -> None:
        transport = self.holder.transport
        self.holder = transport.protocol = self._recorder()
        self.holder.makeConnection(transport)

    def fail(self, step: Step) -> None:
        if step.on:  # in a step of its own nobody would take it
            raise Planted

    # -- The peer's

    def peer_send(self, step: Step) -> None:
        self._peer.send(step.size)

    def peer_send_much(self, step: Step) -> None:
        self._peer.send(MUCH)

    def peer_read(self, step: Step) -> None:
        self._peer.read(step.size)

    def peer_drain(self, step: Step) -> None:
        self._peer.draining = True

    def peer_shut(self, step: Step) -> None:
        self._peer.shut()

    def peer_close(self, step: Step) -> None:
        self._peer_leaves(reset=False)

    def peer_reset(self, step: Step) -> None:
        self._peer_leaves(reset=True)

    def _peer_leaves(self, *, reset: bool) -> None:
        flow = self._flow
        self._sent_before_peer_left = flow.sent if flow is not None else 0
        self._peer.close(reset=reset)

    # -- Waiting, and looking

    @property
    def _flow(self) -> Flow | None:
        return None if self.lost else flow_of(self._bare)

    def _settle(self, step: Step) -> None:
        """Turn until everything has stood still for a while, and note what there is."""
        peer = self._peer
        last: Any = None
        still = 0
        for _ in _turns(f"{step} of {self._script}"):
            peer.pump()
            flow = self._flow
            now = (flow, peer.flow, peer.received, peer.sent, self._received, len(self._heard))
            arrived = peer.has_arrived(flow, self._sent_before_peer_left)
            still = still + 1 if arrived and now == last else 0
            last = now
            if still >= STILL:
                break
        peer.draining = False
        unnoticed = flow is not None and flow.state == "CLOSE"
        producer = self._producer.state if self._producer is not None else ""
        self._seen.append(
            Seen(
                step,
                tuple(self._acted),
                tuple(self._heard),
                amount(self._received, peer.sent),
                amount(peer.received, self._written),
                self._received < peer.sent,
                peer.saw,
                producer,
                peer.flow is None,
                unnoticed,
            )
        )
        self._heard, self._acted = [], []


def _socket(small: bool) -> socket.socket:
    bare = socket.socket()
    bare.setblocking(False)
    bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF) if small else ():
        bare.setsockopt(socket.SOL_SOCKET, option, SMALL)
    return bare


def _turns(what: str) -> Iterator[None]:
    """Let the reactor go round, again and again; fail when that takes too long."""
    deadline = reactor.seconds() + PATIENCE
    while reactor.seconds() < deadline:
        reactor.iterate(0)
        yield
    raise AssertionError(f"still not so after {PATIENCE} s: {what}")


def _turn_until(condition: Callable[[], object], what: str) -> None:
    for _ in _turns(what):
        if condition():
            break


def _stop(port: Any) -> None:
    stopped = maybeDeferred(port.stopListening)
    _turn_until(lambda: stopped.called, "the port is still open")
