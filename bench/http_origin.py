"""The origin of the HTTP benchmarks: answers that are prepared, uploads that are checked."""

import contextlib
import mmap
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from http_traffic import (
    CHUNK_LENGTH,
    CHUNKED,
    IN_CHUNKS,
    PLAIN,
    SMALL,
    VARIANTS,
    Cycle,
    answer,
    with_length,
)
from origin import CHUNK, Server, origin
from traffic import place

_ANSWERS = {
    b"/small/%d" % number: answer(with_length(SMALL)) + PLAIN.piece(place(number), SMALL)
    for number in range(VARIANTS)
}


class Counts:
    """What the origin has seen, in memory that it shares with who started it."""

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, 16)).cast("Q")

    @property
    def connections(self) -> int:
        """Connections accepted."""
        return self._counts[0]

    @property
    def requests(self) -> int:
        """Requests answered."""
        return self._counts[1]

    def connected(self) -> None:
        """Count a connection."""
        self._counts[0] += 1

    def answered(self) -> None:
        """Count a request."""
        self._counts[1] += 1


@contextlib.contextmanager
def http_origin(listening: socket.socket) -> Iterator[Counts]:
    """Serve in a child until the block, or this process, ends."""
    counts = Counts()
    with origin([listening], lambda listeners, ending: HttpOrigin(listeners, ending, counts)):
        yield counts


@dataclass(slots=True)
class _State:
    """One connection: what has come, and what is to be sent."""

    received: bytes = b""
    #: The upload that is being read: where it begins in PLAIN, how much came, how much is to come.
    begin: int = 0
    read: int = 0
    awaited: int = 0
    wrong: bool = False
    #: The answer: prepared bytes, then ``left`` bytes of a cycle, then bytes again.
    head: bytes = b""
    cycle: Cycle = PLAIN
    at: int = 0
    left: int = 0
    tail: bytes = b""
    writing: bool = False
    closing: bool = False

    def answering(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self.head or self.left or self.tail)


class HttpOrigin(Server):
    """Answers /small/VARIANT, /length/SIZE/AT, /chunked/SIZE/AT, and a POST to /upload/AT."""

    def __init__(
        self,
        listeners: list[socket.socket],
        ending: int | None = None,
        counts: Counts | None = None,
    ) -> None:
        super().__init__(listeners, ending)
        self._counts = Counts() if counts is None else counts
        self._states: dict[int, _State] = {}

    def accepted(self, fd: int) -> None:
        """Count it."""
        self._counts.connected()
        self._states[fd] = _State()

    def drop(self, fd: int) -> None:
        """Close a connection and forget what it was doing."""
        del self._states[fd]
        super().drop(fd)

    def serve(self, fd: int, connection: socket.socket) -> None:
        """Send what is to be sent, or read, and answer what is complete."""
        state = self._states[fd]
        if not state.answering():
            data = connection.recv(CHUNK)
            if not data:
                self.drop(fd)
                return
            _read(state, data)
        while state.answering() and _sent(state, connection):
            if not state.answering():
                self._counts.answered()
                if state.closing:
                    self.drop(fd)
                    return
                _read(state, b"")
        if state.answering() != state.writing:
            state.writing = state.answering()
            self.watch(fd, writing=state.writing)


def _read(state: _State, data: bytes) -> None:
    """Take what has come: a part of a request, or of an upload."""
    data = state.received + data
    state.received = b""
    if not state.awaited:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            state.received = data
            return
        _request(state, head)
        data = rest
    if state.awaited:
        body, data = data[: state.awaited], data[state.awaited :]
        state.wrong = state.wrong or not PLAIN.matches(body, state.begin + state.read)
        state.read += len(body)
        state.awaited -= len(body)
        if not state.awaited:
            status = b"400 Wrong bytes" if state.wrong else b"200 OK"
            state.head = answer(with_length(SMALL), status)
            state.at, state.left = state.begin, SMALL
    state.received = data


def _request(state: _State, head: bytes) -> None:
    """Prepare the answer to a request, or for its body."""
    line, _, fields = head.partition(b"\r\n")
    path, _, version = line.partition(b" ")[2].rpartition(b" ")
    if not path.startswith(b"/"):  # what has come through a tunnel is written as for a proxy
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    fields = fields.lower() + b"\r\n"
    state.closing = version == b"HTTP/1.0" or b"connection: close" in fields
    state.cycle = PLAIN
    if path in _ANSWERS:
        state.head = _ANSWERS[path]
        return
    _, kind, *numbers = path.split(b"/")
    if kind == b"upload" and b"content-length: " in fields:
        state.begin, state.read, state.wrong = int(numbers[0]), 0, False
        state.awaited = int(fields.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return
    if kind not in (b"length", b"chunked"):
        state.head, state.closing = answer(with_length(0), b"404 Not Found"), True
        return
    size, state.at = map(int, numbers)
    if kind == b"length":
        state.head, state.left = answer(with_length(size)), size
    elif version == b"HTTP/1.0":  # which knows no chunks: the connection's end is the body's
        state.head, state.left = answer(b"Connection: close"), size
    else:
        state.head, state.tail = answer(b"Transfer-Encoding: chunked"), b"0\r\n\r\n"
        state.cycle = IN_CHUNKS
        state.at, state.left = (n // CHUNKED * CHUNK_LENGTH for n in (state.at, size))


def _sent(state: _State, connection: socket.socket) -> bool:
    """Send once; False when the connection takes no more."""
    try:
        if state.left:
            # What is prepared goes with the first bytes, as a server that knows its trade sends it.
            with state.cycle.piece(state.at, state.left) as piece:
                sent = connection.sendmsg([state.head, piece])
            before = min(sent, len(state.head))
            state.head = state.head[before:]
            state.at += sent - before
            state.left -= sent - before
        else:
            text = state.head or state.tail
            sent = connection.send(text)
            if state.head:
                state.head = text[sent:]
            else:
                state.tail = text[sent:]
    except BlockingIOError:
        return False
    return True
