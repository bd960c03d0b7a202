"""Splicing: what goes through pipes arrives whole, and no pipe is left with anybody."""

import contextlib
import os
import random
import socket
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.sockets import End
from tests.peers import LOOPBACK, Listener, reactor
from whatsproxy import hub_transport, splice
from whatsproxy.hub_reactor import HubReactor
from whatsproxy.idle_watch import IdleWatch
from whatsproxy.reason import Reason
from whatsproxy.relay import Relay
from whatsproxy.session import Ledger, Session
from whatsproxy.splice import Pipe, PipePool
from whatsproxy.transport import StreamProtocol

MIB = 1 << 20
#: Bytes that the kernel may hold on the way to a peer (it takes twice as many): less than NOISE.
KERNEL = MIB // 4
#: What is sent; each side begins elsewhere in it.
NOISE = random.Random(6).randbytes(4 * MIB)


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def _connected(port: int) -> socket.socket:
    bare = socket.socket()
    bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL)
    bare.connect((LOOPBACK, port))
    return bare


class PipeTests(SynchronousTestCase):
    """A pipe takes from one socket and gives to another."""

    def setUp(self) -> None:
        self.source, self.far_source = self.sockets()
        self.sink, self.far_sink = self.sockets()
        self.pipe = Pipe()
        self.addCleanup(self.pipe.close)

    def sockets(self) -> tuple[socket.socket, socket.socket]:
        """Return two ends of a TCP connection."""
        with socket.create_server((LOOPBACK, 0)) as server:
            near = socket.create_connection(server.getsockname())
            far = server.accept()[0]
        for end in (near, far):
            self.addCleanup(end.close)
            end.setblocking(False)
        return near, far

    def test_through(self) -> None:
        self.far_source.sendall(b"through")
        self.assertEqual(self.pipe.fill(self.source.fileno()), 7)
        self.assertEqual(self.pipe.held, 7)
        self.assertTrue(self.pipe.empty(self.sink.fileno()))
        self.assertEqual((self.pipe.held, self.far_sink.recv(100)), (0, b"through"))

    def test_nothing_there(self) -> None:
        self.assertRaises(BlockingIOError, self.pipe.fill, self.source.fileno())
        self.assertEqual(self.pipe.held, 0)

    def test_the_end(self) -> None:
        self.far_source.close()
        self.assertEqual(self.pipe.fill(self.source.fileno()), 0)

    def test_a_sink_that_is_full(self) -> None:
        """What the sink does not take stays in the pipe, in its order."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.sink.send(bytes(1 << 16))
        self.far_source.sendall(b"patience")
        self.pipe.fill(self.source.fileno())
        self.assertFalse(self.pipe.empty(self.sink.fileno()))
        self.assertEqual(self.pipe.held, 8)
        received = b""
        while not self.pipe.empty(self.sink.fileno()):
            received = self.far_sink.recv(MIB)
        self.far_sink.setblocking(True)
        self.sink.close()
        while piece := self.far_sink.recv(MIB):
            received = piece
        self.assertTrue(received.endswith(b"\0patience"))

    def test_a_sink_that_is_gone(self) -> None:
        self.far_source.sendall(b"too late")
        self.pipe.fill(self.source.fileno())
        self.sink.shutdown(socket.SHUT_WR)
        self.assertRaises(OSError, self.pipe.empty, self.sink.fileno())

    def test_its_size_is_the_systems_affair(self) -> None:
        """Where no large pipe is to be had, a small one does."""

        def refuse(number: int, what: int, size: int = 0) -> int:
            if what == splice.fcntl.F_SETPIPE_SZ:
                raise PermissionError
            return asked(number, what, size)

        asked = splice.fcntl.fcntl
        self.patch(splice.fcntl, "fcntl", refuse)
        pipe = Pipe()
        self.addCleanup(pipe.close)
        self.assertGreaterEqual(pipe.size, 4096)


class PoolTests(SynchronousTestCase):
    """There are only so many pipes, and each is with one at a time."""

    def setUp(self) -> None:
        self.before = descriptors()
        self.pool = PipePool(2)
        self.addCleanup(self.pool.shrink)

    def borrow(self) -> Pipe:
        pipe = self.pool.borrow()
        assert pipe is not None
        return pipe

    def test_bounded(self) -> None:
        one, two = self.borrow(), self.borrow()
        self.assertIsNot(one, two)
        self.assertIsNone(self.pool.borrow())
        self.assertEqual(self.pool.lent, 2)
        self.pool.give_back(one)
        self.assertIs(self.borrow(), one)
        for pipe in (one, two):
            self.pool.give_back(pipe)
        self.assertEqual(self.pool.lent, 0)
        self.pool.shrink()
        self.assertEqual(descriptors(), self.before)

    def test_one_with_something_in_it(self) -> None:
        """Nobody else is to find what was left in a pipe: it is closed."""
        pipe = self.borrow()
        os.write(pipe._in, b"secret")
        pipe.held = 6
        self.pool.give_back(pipe)
        self.assertEqual((descriptors(), self.pool.lent), (self.before, 0))
        self.assertEqual(self.borrow().held, 0)

    def test_no_descriptors(self) -> None:
        def refuse(*_: object) -> None:
            raise OSError(24, "none left")

        self.patch(splice.os, "pipe2", refuse)
        self.assertIsNone(self.pool.borrow())
        self.assertEqual(self.pool.lent, 0)

    def test_none_at_all(self) -> None:
        self.assertIsNone(PipePool(0).borrow())


class Rig:
    """A relay on a hub between two bare peers; the test turns the reactor."""

    def __init__(self, pipes: int = 16, fast: HubReactor | None = None) -> None:
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
        near = [ends[end.address[1]] for end in (self.client, self.upstream)]
        self.to_client, self.to_upstream = (peer.transport for peer in near)
        for transport in (self.to_client, self.to_upstream):
            transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL)
        self.session: Session = self.ledger.open()
        self.relay = Relay(self.clock, watch, self.session, 300.0, 60.0)
        self.relay.start(*near)
        self.ends = (self.client, self.upstream)

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
            reactor.iterate(0)
            for end in getattr(self, "ends", ()):
                end.go()

    def is_over(self) -> bool:
        return not self.ledger.live

    def finish(self) -> None:
        """Let everybody read and end, and wait for the session's end."""
        for end in self.ends:
            end.read()
            end.end()
        self.turn_until(lambda: self._moved_on() and self.is_over())
        for end in self.ends:
            end.close()

    def _moved_on(self) -> bool:
        self.clock.advance(0.01)  # a farewell looks again from time to time
        return True


class RelayCase(SynchronousTestCase):
    """Each test begins and ends with nothing."""

    def setUp(self) -> None:
        Rig().finish()  # what Twisted opens once is open now
        self.filled: list[int] = []
        fill = Pipe.fill

        def count(pipe: Pipe, source: int) -> int:
            size = fill(pipe, source)
            self.filled.append(size)
            return size

        self.patch(Pipe, "fill", count)

    def over(self, rig: Rig) -> None:
        """See that nothing is left of it."""
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


class RelayTests(RelayCase):
    """Two ends on the hub, and the kernel between them."""

    def test_much_both_ways(self) -> None:
        rig = Rig()
        rig.client.send(NOISE)
        rig.upstream.send(NOISE[::-1])
        rig.finish()
        self.whole(rig)
        self.assertGreater(sum(self.filled), 7 * MIB, "it was copied")
        self.over(rig)

    def test_messages_are_copied(self) -> None:
        """A pipe costs more than it saves below a few KiB."""
        rig = Rig()
        for number in range(50):
            for end in rig.ends:
                end.send(NOISE[number : number + 1000])
            rig.turn_until(lambda: rig.upstream.received == rig.client.sent)
            rig.turn_until(lambda: rig.client.received == rig.upstream.sent)
        self.assertEqual(self.filled, [])
        rig.finish()
        self.whole(rig)
        self.over(rig)

    def test_no_pipes(self) -> None:
        """Without a pipe the bytes are copied; nobody waits for one."""
        rig = Rig(pipes=0)
        rig.client.send(NOISE)
        rig.upstream.send(NOISE[::-1])
        rig.finish()
        self.whole(rig)
        self.assertEqual(self.filled, [])
        self.over(rig)

    def test_all_pipes_taken(self) -> None:
        """One that stalls keeps its pipe; who comes after that is served without."""
        rig = Rig(pipes=1)
        other = Rig(fast=rig.fast)
        rig.upstream.stall()
        rig.client.send(NOISE)
        rig.turn_until(lambda: rig.to_upstream.unsent)
        rig.turn(20)
        self.assertEqual(rig.fast.hub.pipes.lent, 1)
        self.filled.clear()
        other.client.send(NOISE)
        other.finish()
        self.whole(other)
        self.assertEqual(self.filled, [])
        rig.finish()
        self.whole(rig)
        self.over(rig)

    def test_a_pipe_is_borrowed_for_its_bytes_only(self) -> None:
        """Idle, a relay is two descriptors."""
        rig = Rig()
        idle = descriptors()
        rig.client.send(NOISE)
        rig.turn_until(lambda: rig.upstream.received == NOISE)
        self.assertEqual(rig.fast.hub.pipes.lent, 0)
        rig.fast.hub.pipes.shrink()
        self.assertEqual(descriptors(), idle)
        rig.finish()
        self.over(rig)

    def test_held(self) -> None:
        """What is in a pipe is held for somebody, as what is in a buffer is, and limits reading."""
        rig = Rig()
        rig.upstream.stall()
        rig.client.send(NOISE)
        rig.turn_until(lambda: rig.to_upstream.unsent)
        rig.turn(20)
        held = rig.relay.held()
        self.assertEqual(held, rig.to_upstream._pipe.held)
        self.assertLessEqual(held, splice.PIPE_SIZE)
        queued = len(rig.client.sent) - rig.session.received
        self.assertGreater(queued, 0)  # the rest waits where it has come from
        rig.turn(20)
        self.assertEqual(rig.relay.held(), held)
        rig.upstream.read()
        rig.turn_until(lambda: rig.upstream.received == NOISE)
        self.assertEqual(rig.relay.held(), 0)
        rig.finish()
        self.whole(rig)
        self.over(rig)

    def test_a_limit_means_copying(self) -> None:
        """Where less may wait than a pipe holds, there is none."""
        rig = Rig()
        rig.relay.limit(1000)
        rig.upstream.stall()
        rig.client.send(NOISE)
        rig.turn_until(lambda: rig.to_upstream.unsent)
        rig.turn(20)
        self.assertLessEqual(rig.relay.held(), 2000)
        rig.finish()
        self.whole(rig)
        self.assertEqual(self.filled, [])
        self.over(rig)

    def test_the_end_behind_a_pipe(self) -> None:
        """A FIN waits for what is still in the pipe; the other direction goes on."""
        rig = Rig()
        rig.upstream.stall()
        rig.client.send(NOISE)
        rig.client.end()
        rig.turn_until(lambda: rig.to_upstream.unsent)
        rig.turn(20)
        self.assertFalse(rig.upstream.saw_end)
        rig.upstream.send(b"meanwhile")
        rig.turn_until(lambda: rig.client.received == b"meanwhile")
        rig.upstream.read()
        rig.turn_until(lambda: rig.upstream.saw_end)
        self.assertEqual(rig.upstream.received, NOISE)
        rig.upstream.send(NOISE)
        rig.finish()
        self.whole(rig)
        self.over(rig)

    def test_reset_with_a_full_pipe(self) -> None:
        """What is in the pipe is lost with whom it is for, and the pipe with it."""
        for breaks in ("client", "upstream"):
            rig = Rig()
            rig.upstream.stall()
            rig.client.send(NOISE)
            rig.turn_until(lambda rig=rig: rig.to_upstream.unsent)
            rig.turn(20)
            getattr(rig, breaks).reset()
            # The upstream, if it is left, reads what there was.
            rig.finish()
            self.assertTrue(rig.client.sent.startswith(rig.upstream.received))
            self.over(rig)

    def test_aborted_with_a_full_pipe(self) -> None:
        rig = Rig()
        rig.upstream.stall()
        rig.client.send(NOISE)
        rig.turn_until(lambda: rig.to_upstream.unsent)
        rig.relay.abort(Reason.IDLE)
        rig.turn_until(rig.is_over)
        rig.finish()
        self.assertTrue(rig.client.sent.startswith(rig.upstream.received))
        self.over(rig)

    def test_bulk_does_not_starve_a_chat(self) -> None:
        """What a relay may move at a time is bounded; then the others have their turn."""
        self.patch(hub_transport, "BUDGET", 128 * 1024)
        self.patch(splice, "PIPE_SIZE", 64 * 1024)
        bulk = Rig()
        chat = Rig(fast=bulk.fast)
        for number in range(1, 6):
            bulk.client.send(NOISE[: MIB // 2])
            chat.client.send(b"x")
            before = bulk.session.received
            bulk.turn()
            chat.turn(2)
            self.assertEqual(chat.upstream.received, b"x" * number)
            self.assertLessEqual(bulk.session.received - before, 3 * (128 + 64) * 1024)
        bulk.finish()
        chat.finish()
        self.whole(bulk)
        self.whole(chat)
        self.over(bulk)


_SIDES = ("client", "upstream")
_DOES = ("send", "send", "send", "stall", "read", "end")
_steps = st.tuples(
    st.sampled_from(_SIDES),
    st.sampled_from(_DOES),
    st.sampled_from([1, 4095, 4096, 4097, 65536, 300_000, MIB]),
    st.integers(0, 6),
)


class AnythingTests(RelayCase):
    """Any bytes, stalls and half-closes in any order; and then, perhaps, a reset."""

    def play(self, rig: Rig, steps: list[tuple[str, str, int, int]]) -> None:
        for number, (side, does, size, turns) in enumerate(steps):
            end = getattr(rig, side)
            if does == "send":
                start = 7919 * number
                end.send(NOISE[start : start + size])
            else:
                getattr(end, does)()
            rig.turn(turns)

    @settings(max_examples=40)
    @given(st.lists(_steps, max_size=12), st.sampled_from([0, 1, 16]))
    def test_whole(self, steps: list[tuple[str, str, int, int]], pipes: int) -> None:
        rig = Rig(pipes)
        self.play(rig, steps)
        rig.finish()
        self.whole(rig)
        self.over(rig)

    @settings(max_examples=40)
    @given(st.lists(_steps, max_size=12), st.sampled_from(_SIDES), st.sampled_from([0, 1, 16]))
    def test_broken_off(
        self, steps: list[tuple[str, str, int, int]], breaks: str, pipes: int
    ) -> None:
        rig = Rig(pipes)
        self.play(rig, steps)
        getattr(rig, breaks).reset()
        rig.finish()
        self.assertTrue(rig.client.sent.startswith(rig.upstream.received))
        self.assertTrue(rig.upstream.sent.startswith(rig.client.received))
        self.over(rig)
