"""An origin on a bare socket that keeps every byte it gets, and answers as it is told.

The proxy is judged by what is recorded here, connection by connection.
"""

import contextlib
import fcntl
import os
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable

from tests.integration.programs import DEADLINE, LOOPBACK, ProgramTestCase
from tests.integration.strict_http import Fault, Message, requests_in, take_head

#: Stands in the tables for the origin; the port has as many digits as every port that the system
#: chooses, so that no length changes when it is put in.
HOST = b"origin.test:00000"


def plain(request: Message) -> bytes:
    """Return an answer that tells which request it is for."""
    body = request.kind + b" " + request.target
    length = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    return length + (b"" if request.kind == b"HEAD" else body)


def wait_until_taken(connection: socket.socket) -> None:
    """Return when the other end's kernel has all that was sent; of a unix socket: its program.

    Return too when the connection is broken off, and nothing will be taken any more.
    """
    end = time.monotonic() + DEADLINE
    broken = select.poll()
    broken.register(connection, 0)
    while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0]:
        if broken.poll(0):
            return
        assert time.monotonic() < end, "the proxy does not read"
        os.sched_yield()


class Recording:
    """One connection to the origin."""

    def __init__(self, connection: socket.socket, peer: tuple[str, int]) -> None:
        self._socket = connection
        self._read = 0
        self.peer = peer
        #: Every byte that came.
        self.received = b""
        #: Set when the proxy has ended the connection, or broken it off.
        self.ended = threading.Event()

    def next_request(self) -> Message | None:
        """Return the next request when it is whole; None where there is none any more.

        Raises Fault for what is no request.
        """
        while True:
            found, _ = requests_in(self.received)
            if len(found) > self._read:
                self._read += 1
                return found[self._read - 1]
            if not self.more():
                return None

    def next_head(self) -> Message | None:
        """Return the head of the first request as soon as it is there."""
        while (head := take_head(self.received)) is None:
            if not self.more():
                return None
        return head[0]

    def more(self) -> bool:
        """Wait for more bytes; say whether there were any."""
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            return False  # whoever waits for the end fails
        except OSError:
            data = b""
        if data:
            self.received += data
            return True
        self.ended.set()
        return False

    def send(self, data: bytes) -> None:
        """Send bytes, if there is still somebody who takes them."""
        with contextlib.suppress(OSError):
            self._socket.sendall(data)

    def arrived(self) -> None:
        """Wait until what was sent is there, whether it is read or not."""
        wait_until_taken(self._socket)

    def finish(self) -> None:
        """End our direction."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Record the rest, and close."""
        while self.more():
            pass
        self._socket.close()


Behaviour = Callable[[Recording], None]


def answer_each(recording: Recording) -> None:
    """Answer every request when it is whole."""
    while (request := recording.next_request()) is not None:
        recording.send(plain(request))


class RecordingOrigin:
    """Listens until the test ends; ``behaviour`` serves each connection, in a thread of its own."""

    def __init__(self, test: ProgramTestCase, behaviour: Behaviour = answer_each) -> None:
        self.behaviour = behaviour
        self._changed = threading.Condition()
        self._recordings: list[Recording] = []
        self._listener = socket.create_server((LOOPBACK, 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        test.addCleanup(self._stop)

    @property
    def name(self) -> bytes:
        """The origin's name and port, as a client spells them."""
        name = b"origin.test:%d" % self.port
        assert len(name) == len(HOST), name
        return name

    def put_in(self, data: bytes) -> bytes:
        """Return bytes of a table as they are to be sent."""
        return data.replace(HOST[-6:], self.name[-6:])

    def settled(self) -> list[Recording]:
        """Return the connections since the last call, oldest first, when all of them have ended.

        Whoever may still have asked for a connection must be gone.
        """
        with socket.create_connection((LOOPBACK, self.port), DEADLINE) as probe:
            ours = probe.getsockname()

        # What was asked for before the probe is accepted before it.
        def accepted() -> bool:
            return any(recording.peer == ours for recording in self._recordings)

        with self._changed:
            assert self._changed.wait_for(accepted, DEADLINE), "the origin accepts nothing"
            recordings, self._recordings = self._recordings, []
        for recording in recordings:
            assert recording.ended.wait(DEADLINE), "a connection to the origin does not end"
        return [recording for recording in recordings if recording.peer != ours]

    def await_end(self) -> None:
        """Wait until every connection so far has ended."""
        with self._changed:
            recordings = list(self._recordings)
        for recording in recordings:
            assert recording.ended.wait(DEADLINE), "a connection to the origin does not end"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = self._listener.accept()
                connection.settimeout(DEADLINE)
                recording = Recording(connection, peer)
                with self._changed:
                    self._recordings.append(recording)
                    self._changed.notify_all()
                threading.Thread(target=self._serve, args=(recording,), daemon=True).start()

    def _serve(self, recording: Recording) -> None:
        # A fault is found again, by the test, in what was recorded.
        with contextlib.suppress(Fault):
            self.behaviour(recording)
        recording.close()

    def _stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE)
        self._listener.close()
