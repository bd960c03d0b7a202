"""A relay on a hub between two bare peers, and nothing left of it in the end."""

import os
import random
import socket
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.conformance_peer import flow_of
from tests.fuzz.sockets import End
from tests.peers import LOOPBACK, Listener, reactor
from whatsproxy.hub import Hub
from whatsproxy.hub_reactor import HubReactor
from whatsproxy.idle_watch import IdleWatch
from whatsproxy.relay import Relay, Terms
from whatsproxy.session import Ledger, Session
from whatsproxy.splice import Pipe, PipePool
from whatsproxy.transport import StreamProtocol

MIB = 1 << 20
#: Bytes that the kernel may hold on the way to a peer (it takes twice as many): less than NOISE.
KERNEL = MIB // 4
#: Seconds in which something may happen, which is then attended to at once.
MOMENT = 0.001
#: Turns in which nothing has moved after which nothing is going to.
STILL = 20
#: What is sent; each side begins elsewhere in it.
NOISE = random.Random(6).randbytes(4 * MIB)


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def _connected(port: int) -> socket.socket:
    bare = socket.socket()
    bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL)
    bare.connect((LOOPBACK, port))
    return bare


class Rig:
    """A relay on a hub between two bare peers; the test turns the reactor."""

    def __init__(
        self, pipes: int = 16, fast: HubReactor | None = None, *, relayed: bool = True
    ) -> None:
        self.fast = fast or HubReactor(reactor)
        if fast is None:
            self.fast.hub.pipes = PipePool(pipes)
        #: Descriptors before there were connections.
        self.before = descriptors()
        self.clock = Clock()
        self.ledger = Ledger(self.clock.seconds)
        watch = IdleWatch(self.clock, 1.0)
        listener = Listener(StreamProtocol)
        port = self.fast.listenTCP(0, listener, interface=LOOPBACK)
        self.client, self.upstream = (End(_connected(port.getHost().port)) for _ in range(2))
        self.turn_until(lambda: len(listener.peers) == 2)
        stopped = maybeDeferred(port.stopListening)
        self.turn_until(lambda: stopped.called)
        ends = {peer.transport.getPeer().port: peer for peer in listener.peers}
        self.near = [ends[end.address[1]] for end in (self.client, self.upstream)]
        self.to_client, self.to_upstream = (peer.transport for peer in self.near)
        for transport in (self.to_client, self.to_upstream):
            transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL)
        self.ends = (self.client, self.upstream)
        self._last: tuple[int, ...] = ()
        if not relayed:
            return
        self.session: Session = self.ledger.open()
        self.relay = Relay(Terms(self.clock, watch, 300.0, 60.0), self.session)
        self.relay.start(*self.near)

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            reactor.iterate(0)
            for end in self.ends:
                end.go()

    def turn_until(self, condition: Any) -> None:
        deadline = reactor.seconds() + 10
        while not condition():
            if reactor.seconds() > deadline:
                raise AssertionError("still not so")
            reactor.iterate(MOMENT)
            for end in getattr(self, "ends", ()):
                end.go()

    def fill_up(self) -> None:
        """Wait until an upstream that has stalled gets no more, and nothing is on its way to it."""
        still = 0
        deadline = reactor.seconds() + 10
        while still < STILL:
            if reactor.seconds() > deadline:
                raise AssertionError("it never fills up")
            reactor.iterate(MOMENT)
            self.client.go()
            now = self._how_far()
            still = still + 1 if now == self._last and self._is_full() else 0
            self._last = now

    def _is_full(self) -> bool:
        """Tell whether there is more to be read, and the kernel sends no more of what it has."""
        sink, peer = flow_of(self.to_upstream.getHandle()), flow_of(self.upstream._socket)
        waits = flow_of(self.to_client.getHandle()).waiting > 0
        return waits and sink.unsent > 0 and sink.sent == peer.received and self.relay.held() > 0

    def is_over(self) -> bool:
        return not self.ledger.live

    def finish(self) -> None:
        """Let everybody read and end, and wait for the session's end."""
        for end in self.ends:
            end.read()
            end.end()
        self.turn_until(lambda: self._time_passes() and self.is_over())
        for end in self.ends:
            end.close()

    def _time_passes(self) -> bool:
        """Let time pass while nothing else happens: a farewell looks again from time to time."""
        now = self._how_far()
        if now == self._last:
            self.clock.advance(50 * MOMENT)
        self._last = now
        return True

    def _how_far(self) -> tuple[int, ...]:
        bytes_at = (self.session.received, self.session.sent, self.relay.held())
        return *bytes_at, *(len(end.sent) + len(end.received) for end in self.ends)


class RelayCase(SynchronousTestCase):
    """Each test begins and ends with nothing."""

    def setUp(self) -> None:
        self.rig().finish()  # what Twisted opens once is open now
        self.filled: list[int] = []
        fill = Pipe.fill

        def count(pipe: Pipe, source: int, most: int) -> int:
            size = fill(pipe, source, most)
            self.filled.append(size)
            return size

        self.patch(Pipe, "fill", count)

    def rig(self, *arguments: Any, **more: Any) -> Rig:
        """Return a new one, of which nothing is left either if the test fails."""
        rig = Rig(*arguments, **more)
        self.addCleanup(self._clean, rig.fast.hub)
        return rig

    def _clean(self, hub: Hub) -> None:
        for owner in hub.owners:
            owner.fail(Failure(AssertionError("left over")))
        reactor.iterate(0)

    def over(self, rig: Rig) -> None:
        """See that nothing is left of it."""
        rig.turn()  # what a timer has just put off is done
        hub = rig.fast.hub
        self.assertEqual((hub.owners, hub.pipes.lent, hub.pipes._idle), ([], 0, []))
        self.assertNotIn(hub, reactor.getReaders())
        self.assertEqual(rig.clock.getDelayedCalls(), [])
        self.assertLessEqual(descriptors(), rig.before)

    def whole(self, rig: Rig) -> None:
        """See that all has arrived, and is accounted for."""
        self.assertEqual(rig.upstream.received, rig.client.sent)
        self.assertEqual(rig.client.received, rig.upstream.sent)
        self.assertTrue(rig.client.saw_end)
        self.assertTrue(rig.upstream.saw_end)
        counts = rig.session.received, rig.session.sent
        self.assertEqual(counts, (len(rig.client.sent), len(rig.upstream.sent)))
        self.assertEqual((rig.ledger.received, rig.ledger.sent), counts)
