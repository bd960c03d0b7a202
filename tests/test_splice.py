"""Pipes, each of which takes from one socket and gives to another; and the pool of them."""

import contextlib
import os
import socket

from twisted.trial.unittest import SynchronousTestCase

from tests.peers import LOOPBACK
from tests.splice_rig import MIB, descriptors
from whatsproxy import splice
from whatsproxy.descriptors import KEPT
from whatsproxy.splice import Pipe, PipePool
from whatsproxy.transport import ALL


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
        self.assertEqual(self.pipe.fill(self.source.fileno(), ALL), 7)
        self.assertEqual(self.pipe.held, 7)
        self.assertTrue(self.pipe.empty(self.sink.fileno()))
        self.assertEqual((self.pipe.held, self.far_sink.recv(100)), (0, b"through"))

    def test_no_more_than_is_wanted(self) -> None:
        """What is behind that stays where it is, to be read as anything else."""
        self.far_source.sendall(b"body and head")
        self.assertEqual(self.pipe.fill(self.source.fileno(), 4), 4)
        self.assertEqual(self.source.recv(100), b" and head")

    def test_nothing_there(self) -> None:
        self.assertRaises(BlockingIOError, self.pipe.fill, self.source.fileno(), ALL)
        self.assertEqual(self.pipe.held, 0)

    def test_the_end(self) -> None:
        self.far_source.close()
        self.assertEqual(self.pipe.fill(self.source.fileno(), ALL), 0)

    def test_a_sink_that_is_full(self) -> None:
        """What the sink does not take stays in the pipe, in its order."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.sink.send(bytes(1 << 16))
        self.far_source.sendall(b"patience")
        self.pipe.fill(self.source.fileno(), ALL)
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
        self.pipe.fill(self.source.fileno(), ALL)
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


class RestTests(SynchronousTestCase):
    def test_in_pieces(self) -> None:
        """What the kernel hands over in several reads."""
        pipe = Pipe()
        self.addCleanup(pipe.close)
        data = bytes(range(256)) * 64
        os.write(pipe._in, data)
        pipe.held = len(data)
        read = os.read
        self.patch(splice.os, "read", lambda fd, size: read(fd, min(size, 5000)))
        self.assertEqual(pipe.rest(), data)
        self.assertEqual(pipe.held, 0)


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

    def test_the_last_descriptors(self) -> None:
        """They are the service's: bytes can be copied, the log cannot be opened elsewhere."""
        asked: list[tuple[int, int]] = []
        answers = [True, False]

        def below(number: int, kept: int) -> bool:
            asked.append((number, kept))
            return answers.pop()

        self.patch(splice, "below", below)
        self.assertIsNone(self.pool.borrow())
        self.assertEqual((descriptors(), self.pool.lent), (self.before, 0))
        pipe = self.borrow()
        self.assertEqual(asked, [(max(pipe._in, pipe._out), KEPT)] * 2)
        self.pool.give_back(pipe)

    def test_a_small_one_is_none(self) -> None:
        """Where fs.pipe-user-pages-soft is used up copying is cheaper."""
        self.patch(splice, "WORTHWHILE", 1 << 30)
        self.assertIsNone(self.pool.borrow())
        self.assertEqual((descriptors(), self.pool.lent), (self.before, 0))

    def test_no_descriptors(self) -> None:
        def refuse(*_: object) -> None:
            raise OSError(24, "none left")

        self.patch(splice.os, "pipe2", refuse)
        self.assertIsNone(self.pool.borrow())
        self.assertEqual(self.pool.lent, 0)

    def test_none_at_all(self) -> None:
        self.assertIsNone(PipePool(0).borrow())
