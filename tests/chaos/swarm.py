"""Many connections in a row, of every kind and with every kind of end, as fast as can be.

    python -m tests.chaos.swarm WORKERS

Plain blocking sockets in forked processes: nothing costs less. It brings its own origin, and tells
its port ("origin on PORT, none on PORT"). For each line "PROXY_PORT COUNT" on its standard input it
makes so many connections to a proxy, and says in JSON how many of each kind went as they should.
"""

import contextlib
import json
import os
import signal
import socket
import ssl
import struct
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice

from tests.builders import python_hello
from tests.chaos.orders import OPENINGS
from tests.integration.programs import LOOPBACK
from tests.integration.tls_clients import BLIND, PROXY_NAME
from tests.integration.traffic import flip

#: Seconds that a step may take.
PATIENCE = 20.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + bytes(2000)
RESET = struct.pack("ii", 1, 0)
#: Of Linux: the port is chosen when connecting, when it is known where to.
BIND_ADDRESS_NO_PORT = 24
HELLO = python_hello(PROXY_NAME)


class Swarm:
    """The connections of one worker."""

    def __init__(self, worker: int, proxy: int, origin: int, nowhere: int) -> None:
        self._address = (LOOPBACK, proxy)
        # Each from an address of its own: so many connections in a row use up one address's ports.
        self._source = (f"127.0.1.{worker + 1}", 0)
        self._place = f"origin.test:{origin}".encode()
        self._nowhere = f"origin.test:{nowhere}".encode()

    def dial(self) -> socket.socket:
        connection = socket.socket()
        connection.settimeout(PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
        connection.bind(self._source)
        connection.connect(self._address)
        return connection

    # -- One connection each; True if it went as it should.

    def chat(self, opening: bytes = OPENINGS["whatsapp"]) -> bool:
        with self.dial() as c:
            c.sendall(opening)
            right = take(c, len(opening)) == flip(opening)
            c.shutdown(socket.SHUT_WR)
            return right and c.recv(1) == b""

    def xmpp(self) -> bool:
        return self.chat(OPENINGS["xmpp"])

    def raw(self) -> bool:
        return self.chat(OPENINGS["raw"])

    def reset(self) -> bool:
        """A chat that its client breaks off."""
        with self.dial() as c:
            c.sendall(OPENINGS["raw"])
            right = take(c, len(OPENINGS["raw"])) == flip(OPENINGS["raw"])
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return right

    def http(self) -> bool:
        """Two requests on a connection that is kept."""
        with self.dial() as c:
            for _ in range(2):
                c.sendall(b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\n\r\n" % ((self._place,) * 2))
                if take(c, len(ANSWER)) != ANSWER:
                    return False
            return True

    def connect(self) -> bool:
        with self.dial() as c:
            return self.tunnelled(c)

    def tunnelled(self, c: socket.socket) -> bool:
        c.sendall(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % ((self._place,) * 2))
        if not c.recv(4096).startswith(b"HTTP/1.1 200 "):
            return False
        c.sendall(OPENINGS["raw"])
        return take(c, len(OPENINGS["raw"])) == flip(OPENINGS["raw"])

    def tls(self) -> bool:
        """TLS that ends in the proxy, a tunnel in it, and an end in good order."""
        with BLIND.wrap_socket(self.dial(), server_hostname=PROXY_NAME) as c:
            right = self.tunnelled(c)
            c.unwrap()
            return right

    def no_tls(self) -> bool:
        """A handshake that begins well."""
        with self.dial() as c:
            c.sendall(HELLO)
            right = take(c, 1) == b"\x16"
            c.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            return right and ends(c)

    def refused(self) -> bool:
        with self.dial() as c:
            c.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n")
            return c.recv(4096).startswith(b"HTTP/1.1 403 ")

    def malformed(self) -> bool:
        with self.dial() as c:
            c.sendall(b"GET http://origin.test/ HTTP/1.1\r\nHost : origin.test\r\n\r\n")
            return c.recv(4096).startswith(b"HTTP/1.1 400 ") and ends(c)

    def unreachable(self) -> bool:
        with self.dial() as c:
            c.sendall(b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\n\r\n" % ((self._nowhere,) * 2))
            return c.recv(4096).startswith(b"HTTP/1.1 502 ")

    def silent(self) -> bool:
        self.dial().close()
        return True

    def half_sent(self) -> bool:
        """Ends its direction in the middle of its first word."""
        with self.dial() as c:
            c.sendall(HELLO[:100])
            c.shutdown(socket.SHUT_WR)
            return ends(c)

    def half_sent_and_reset(self) -> bool:
        with self.dial() as c:
            c.sendall(b"GE")
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return True


#: What a worker does, in turn; what costs the proxy most less often.
PROGRAMME: tuple[Callable[[Swarm], bool], ...] = (
    *(Swarm.chat, Swarm.silent, Swarm.http, Swarm.half_sent, Swarm.reset, Swarm.silent),
    *(Swarm.connect, Swarm.half_sent_and_reset, Swarm.chat, Swarm.silent, Swarm.refused),
    *(Swarm.half_sent, Swarm.xmpp, Swarm.half_sent_and_reset, Swarm.chat, Swarm.silent),
    *(Swarm.malformed, Swarm.half_sent, Swarm.tls, Swarm.silent, Swarm.reset, Swarm.silent),
    *(Swarm.unreachable, Swarm.half_sent_and_reset, Swarm.raw, Swarm.silent, Swarm.no_tls),
    *(Swarm.half_sent, Swarm.chat, Swarm.silent, Swarm.half_sent_and_reset, Swarm.silent),
)


def take(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := connection.recv(size - len(data))):
        data += more
    return data


def ends(connection: socket.socket) -> bool:
    """Read to the end, or to the break."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(4096):
            pass
    return True


def work(swarm: Swarm, worker: int, count: int) -> dict[str, int]:
    """Make so many connections."""
    done: Counter[str] = Counter()
    turns = cycle(PROGRAMME)
    for kind in islice(turns, worker, worker + count):
        name = kind.__name__
        try:
            done[name if kind(swarm) else f"{name}: another answer"] += 1
        except (OSError, ssl.SSLError) as e:
            done[f"{name}: {e!r}"] += 1
    return done


def report(writing: int, swarm: Swarm, worker: int, count: int) -> None:
    """Do the work of one worker, and write what came of it to a descriptor."""
    with open(writing, "w") as f:
        json.dump(work(swarm, worker, count), f)


def answer(listener: socket.socket) -> None:
    """Be an origin, for one connection after the other: HTTP, or everything back, flipped."""
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := connection.recv(1 << 16):
                connection.sendall(ANSWER if data.startswith(b"GET ") else flip(data))


def main() -> None:
    """Fork the origin; then, for each line, the workers."""
    workers = int(sys.argv[1])
    listener = socket.create_server((LOOPBACK, 0), backlog=4096)
    nowhere = socket.socket()  # bound, so that nobody else is, and not listening
    nowhere.bind((LOOPBACK, 0))
    origin, no_origin = listener.getsockname()[1], nowhere.getsockname()[1]
    origins = [fork(lambda: answer(listener)) for _ in range(2 * workers)]
    print(f"origin on {origin}, none on {no_origin}", flush=True)
    try:
        for line in sys.stdin:
            proxy, count = map(int, line.split())
            pipes, pids = [], []
            for i in range(workers):
                reading, writing = os.pipe()
                swarm = Swarm(i, proxy, origin, no_origin)

                pids.append(fork(partial(report, writing, swarm, i, count // workers)))
                os.close(writing)
                pipes.append(open(reading))
            total: Counter[str] = Counter()
            for pipe in pipes:
                with pipe:
                    total.update(json.load(pipe))
            for pid in pids:
                os.waitpid(pid, 0)
            print(json.dumps(total), flush=True)
    finally:
        for pid in origins:
            os.kill(pid, signal.SIGKILL)


def fork(call: Callable[[], None]) -> int:
    """Run a call in a process of its own, and return its number."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            call()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


if __name__ == "__main__":
    main()
