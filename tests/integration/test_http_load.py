"""Bodies far greater than the memory that they may take, and a thousand clients that stay."""

import asyncio
import hashlib
import signal
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.integration.http_clients import HttpTestCase
from tests.integration.http_origins import NAMES, Origin, answer
from tests.integration.http_wire import Connection, Message
from tests.integration.programs import DEADLINE, LOOPBACK, eventually
from tests.integration.traffic import dial, flip

GIB, MIB = 1 << 30, 1 << 20
BLOCK = hashlib.shake_128(b"block").digest(MIB)
#: How much memory the proxy may take for any number of bytes that it passes on.
ALLOWANCE = 64 * MIB
CLIENTS = 1000
#: Clients and their origin live in this process.
DESCRIPTORS = 2 * CLIENTS + 200


def send_blocks(connection: socket.socket, count: int, *, chunked: bool) -> None:
    """Send ``count`` blocks, each with its number in it."""
    block = bytearray(BLOCK)
    for i in range(count):
        struct.pack_into(">Q", block, 0, i)
        if chunked:
            connection.sendall(b"%x\r\n" % MIB)
        connection.sendall(block)
        if chunked:
            connection.sendall(b"\r\n")
    if chunked:
        connection.sendall(b"0\r\n\r\n")


class Reader:
    """Reads a message of blocks from a blocking connection, and compares them as they come."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb", MIB)

    def close(self) -> None:
        """Let go of the connection, which is not closed before."""
        self._file.close()

    def head(self) -> bytes:
        """Return everything up to the body."""
        return b"".join(iter(self._file.readline, b"\r\n"))

    def rest(self, size: int) -> bytes:
        """Return so many bytes of a body."""
        return self._file.read(size)

    def blocks(self, count: int, *, chunked: bool) -> bool:
        """Tell whether the body is ``count`` blocks as they were sent."""
        expected, got, filled = bytearray(BLOCK), bytearray(MIB), 0
        view = memoryview(got)
        chunk = 0 if chunked else count * MIB
        for i in range(count):
            while filled < MIB:
                if not chunk:
                    chunk = int(self._file.readline().split(b";")[0], 16)
                taken = self._file.readinto(view[filled : min(MIB, filled + chunk)])
                if not taken:
                    return False
                filled, chunk = filled + taken, chunk - taken
                if chunked and not chunk:
                    self._file.readline()
            struct.pack_into(">Q", expected, 0, i)
            if got != expected:
                return False
            filled = 0
        return not chunked or self._file.readline() + self._file.readline() == b"0\r\n\r\n"


class BigBodyTests(HttpTestCase):
    """1 GiB down and 1 GiB up, while whoever should read it does not, and then when he does."""

    size = GIB
    chunked_down, chunked_up = False, True

    def setUp(self) -> None:
        super().setUp()
        listener = socket.create_server((LOOPBACK, 0))
        self.addCleanup(listener.close)
        listener.settimeout(DEADLINE)
        self.listener = listener
        self.port = listener.getsockname()[1]
        self.go = threading.Event()
        self.failures: list[BaseException] = []

    def origin(self, serve: Callable[[socket.socket], None]) -> None:
        """Serve one connection in a thread."""

        def run() -> None:
            try:
                connection, _ = self.listener.accept()
                with connection:
                    connection.settimeout(DEADLINE)
                    serve(connection)
            except BaseException as e:
                self.failures.append(e)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.addCleanup(thread.join, DEADLINE)

    def memory(self, name: str) -> int:
        """Return a figure of the proxy's memory in bytes: VmRSS now, VmHWM at its highest."""
        status = Path(f"/proc/{self.service.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith(f"{name}:"))
        return int(line.split()[1]) * 1024

    def stands_still(self, figure: str) -> float:
        """Wait until the proxy moves no more bytes: the same figure many times in a row."""
        last, times = 0.0, 0

        def same() -> bool:
            nonlocal last, times
            now = self.service.figure(figure)
            last, times = now, times + 1 if now and now == last else 0
            return times >= 10

        eventually(same, f"{figure} stands still")
        return last

    def framing(self, *, chunked: bool) -> bytes:
        return b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % self.size

    def start_request(self, method: str, line: bytes = b"X-A: b") -> socket.socket:
        """Begin a request through a new proxy, whose memory is measured from here."""
        self.carry(self.port)
        self.before = self.memory("VmRSS")
        client = dial(self.service.port)
        self.addCleanup(client.close)
        host = f"{NAMES[0]}:{self.port}"
        head = f"{method} http://{host}/ HTTP/1.1\r\nHost: {host}\r\n".encode()
        client.sendall(head + line + b"\r\n\r\n")
        return client

    def memory_is_bounded(self) -> None:
        grown = self.memory("VmHWM") - self.before
        self.assertLess(grown, ALLOWANCE, f"{grown / MIB:.1f} MiB more than at the start")

    def test_down(self) -> None:
        def serve(connection: socket.socket) -> None:
            Reader(connection).head()
            framing = self.framing(chunked=self.chunked_down)
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
            send_blocks(connection, self.size // MIB, chunked=self.chunked_down)

        self.origin(serve)
        with self.start_request("GET") as client, closing(Reader(client)) as reader:
            self.assertLess(self.stands_still("bytes_sent_total"), ALLOWANCE)
            self.memory_is_bounded()
            self.assertIn(self.framing(chunked=self.chunked_down), reader.head())
            self.assertTrue(reader.blocks(self.size // MIB, chunked=self.chunked_down))
            self.memory_is_bounded()
        self.assertGreaterEqual(self.service.figure("bytes_sent_total"), self.size)
        self.all_is_well({("GET", "2xx", "upstream"): 1})
        self.assertEqual([], self.failures)

    def test_up(self) -> None:
        def serve(connection: socket.socket) -> None:
            reader = Reader(connection)
            assert self.framing(chunked=self.chunked_up) in reader.head()
            self.go.wait(DEADLINE)
            same = reader.blocks(self.size // MIB, chunked=self.chunked_up)
            connection.sendall(answer(b"the same" if same else b"something else"))

        self.origin(serve)
        client = self.start_request("POST", self.framing(chunked=self.chunked_up))
        with client, closing(Reader(client)) as reader:

            def send() -> None:
                send_blocks(client, self.size // MIB, chunked=self.chunked_up)

            sender = threading.Thread(target=send, daemon=True)
            sender.start()
            self.addCleanup(sender.join, DEADLINE)
            self.assertLess(self.stands_still("bytes_received_total"), ALLOWANCE)
            self.memory_is_bounded()
            self.go.set()
            self.assertIn(b"HTTP/1.1 200 ", reader.head())
            self.assertEqual(b"the same", reader.rest(8))
            self.memory_is_bounded()
        self.assertGreaterEqual(self.service.figure("bytes_received_total"), self.size)
        self.all_is_well({("POST", "2xx", "upstream"): 1})
        self.assertEqual([], self.failures)


class BigBodyBySocks5Tests(BigBodyTests):
    """A quarter of it, for microsocks is slow; and framed the other way."""

    through_socks5 = True
    size = GIB // 4
    chunked_down, chunked_up = True, False


class CrowdTests(HttpTestCase):
    """A thousand clients, each with a connection that it keeps, and every byte checked."""

    def setUp(self) -> None:
        super().setUp()
        self.need_descriptors(DESCRIPTORS)

    @staticmethod
    def content(path: str) -> bytes:
        """Return what the origin has for ``path``: /WHO/SIZE."""
        _, who, size = path.split("/")
        return hashlib.shake_128(who.encode()).digest(int(size))

    def answered(self, request: Message) -> bytes:
        """Answer with the content, and with what was sent."""
        return answer(self.content(request.target) + flip(request.body))

    async def exchange(self, client: Connection, who: int) -> None:
        """Ask for three things, and send one."""
        for i, size in enumerate((10, 2000, 0, 30_000)):
            path = f"/{who}-{i}/{size}"
            body = self.content(path)[::-1][:1000] if i == 1 else b""
            got = await client.fetch(
                self.origin.url(path, NAMES[who % len(NAMES)]),
                method="POST" if body else "GET",
                body=body,
            )
            self.assertEqual(200, got.status)
            self.assertEqual(self.content(path) + flip(body), got.body, path)
            self.assertNotIn(b"close", got.tokens("connection"))

    def test_a_thousand(self) -> None:
        self.origin = Origin(self.background, self.answered)
        service = self.carry(self.origin.port)
        dialling = asyncio.Semaphore(100)

        async def one(who: int) -> Connection:
            async with dialling:
                client = await Connection.to(service.port)
                await self.exchange(client, who)
            return client

        async def come() -> list[Connection]:
            return await asyncio.gather(*(one(who) for who in range(CLIENTS)))

        async def ask_again(clients: list[Connection]) -> None:
            await asyncio.gather(*map(self.exchange, clients, range(CLIENTS)))

        async def end(clients: list[Connection]) -> None:
            self.assertEqual({True}, set(await asyncio.gather(*(c.at_end() for c in clients))))
            for client in clients:
                client.close()

        clients = self.background.run(come(), 60)
        self.assertEqual(CLIENTS, service.figure("connections_active"))
        self.assertEqual(CLIENTS, service.figure("protocol_connections_active", protocol="http"))
        self.background.run(ask_again(clients), 60)
        self.assertEqual(CLIENTS, service.figure("connections_total"))
        expected = {
            ("GET", "2xx", "upstream"): 6 * CLIENTS,
            ("POST", "2xx", "upstream"): 2 * CLIENTS,
        }
        self.assertEqual(expected, self.requests())
        self.assertEqual(0, service.figure("errors_total"))
        # All of them are idle: nothing is left to wait for.
        service.signal(signal.SIGTERM)
        with self.within(5, "an end at once"):
            self.background.run(end(clients))
            self.assertEqual(0, service.wait())
        self.assertIn(f"drained: {CLIENTS} connections finished, 0 cut", service.output())
        self.assertNotIn("Traceback", service.output())
