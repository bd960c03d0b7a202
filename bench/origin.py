"""The origin of the benchmarks: sends every byte back, in a process of its own.

Bare epoll: it shares a CPU with the clients, and what it costs is taken from the load.
"""

import contextlib
import multiprocessing
import os
import select
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

#: Bytes a read; also the most that waits for one slow reader.
CHUNK = 1 << 17


def listener(port: int = 0) -> socket.socket:
    """Return a socket that listens on loopback."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(4096)
    listening.setblocking(False)
    return listening


class Server(ABC):
    """Serves every connection that ``listeners`` accept, until ``ending`` is at its end.

    One that is served turn by turn, by whoever has something to do meanwhile, needs no such end.
    """

    def __init__(self, listeners: list[socket.socket], ending: int | None = None) -> None:
        self._ending = ending
        self._listeners = {listening.fileno(): listening for listening in listeners}
        self._connections: dict[int, socket.socket] = {}
        self._epoll = select.epoll()
        for fd in self._listeners if ending is None else (ending, *self._listeners):
            self._epoll.register(fd, select.EPOLLIN)

    def __len__(self) -> int:
        return len(self._connections)

    def run(self) -> None:
        """Serve."""
        while self.turn(None):
            pass

    def turn(self, timeout: float | None = 0) -> bool:
        """Serve what is ready, waiting for so many seconds; False when the end has come."""
        for fd, _ in self._epoll.poll(timeout):
            if fd == self._ending:
                return False
            if fd in self._listeners:
                self._accept(self._listeners[fd])
            elif fd in self._connections:
                try:
                    self.serve(fd, self._connections[fd])
                except BlockingIOError:
                    pass
                except OSError:
                    self.drop(fd)  # the client's side counts it
        return True

    def accepted(self, fd: int) -> None:  # noqa: B027 - not everyone keeps something
        """Note a new connection."""

    @abstractmethod
    def serve(self, fd: int, connection: socket.socket) -> None:
        """Read or write: the connection is ready for what it is watched for."""

    def watch(self, fd: int, *, writing: bool) -> None:
        """Wait until a connection can be written to, or, as at first, read from."""
        self._epoll.modify(fd, select.EPOLLOUT if writing else select.EPOLLIN)

    def drop(self, fd: int) -> None:
        """Close a connection."""
        self._connections.pop(fd).close()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = listening.accept()
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connections[connection.fileno()] = connection
                self._epoll.register(connection.fileno(), select.EPOLLIN)
                self.accepted(connection.fileno())


class Echo(Server):
    """Sends everything back."""

    def __init__(self, listeners: list[socket.socket], ending: int) -> None:
        super().__init__(listeners, ending)
        # What a connection has not taken yet; it is not read from meanwhile.
        self._waiting: dict[int, bytes] = {}

    def serve(self, fd: int, connection: socket.socket) -> None:
        """Send what waits, or what has come."""
        waiting = self._waiting.pop(fd, b"")
        data = waiting or connection.recv(CHUNK)
        if not data:
            self.drop(fd)
            return
        try:
            sent = connection.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._waiting[fd] = data[sent:]
        if bool(waiting) != (sent < len(data)):
            self.watch(fd, writing=sent < len(data))

    def drop(self, fd: int) -> None:
        """Close a connection and forget what it has not taken."""
        self._waiting.pop(fd, None)
        super().drop(fd)


@contextlib.contextmanager
def origin(
    listeners: list[socket.socket],
    server: Callable[[list[socket.socket], int], Server] = Echo,
) -> Iterator[None]:
    """Serve ``listeners`` in a child until the block, or this process, ends."""
    ending, lifeline = os.pipe()
    context = multiprocessing.get_context("fork")
    process = context.Process(
        target=_child, args=(server, listeners, ending, lifeline), daemon=True
    )
    process.start()
    os.close(ending)
    for listening in listeners:
        listening.close()
    try:
        yield
    finally:
        os.close(lifeline)
        process.join(5)
        process.kill()


def _child(
    server: Callable[[list[socket.socket], int], Server],
    listeners: list[socket.socket],
    ending: int,
    lifeline: int,
) -> None:
    os.close(lifeline)
    with contextlib.suppress(KeyboardInterrupt):
        server(listeners, ending).run()
