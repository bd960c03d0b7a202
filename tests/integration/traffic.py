"""What goes over the wire in these tests: openings of every kind, clients, and upstreams.

The bytes of the WhatsApp chat are those that were seen on real connections. The upstreams are
asyncio servers on a loop in the background; clients that have to control each segment are blocking
sockets, and crowds of clients are asyncio again.
"""

import asyncio
import contextlib
import hashlib
import random
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.builders import INTROS, python_hello
from tests.integration.programs import DEADLINE, LOOPBACK, Background, eventually

#: A name that the default policy allows and the sandbox resolves.
ALLOWED_NAME = "media.whatsapp.net"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def frame(payload: bytes) -> bytes:
    """Return a Noise frame: a 3-byte big-endian length, and so many bytes."""
    return len(payload).to_bytes(3, "big") + payload


def client_noise_hello(ephemeral: bytes) -> bytes:
    """Return the chat client's first frame, around its 32 bytes of key."""
    assert len(ephemeral) == 32
    return frame(b"\x12\x22\x0a\x20" + ephemeral)


def edge_routing(blob: bytes) -> list[bytes]:
    """Return the edge-routing header in the pieces in which some clients write it."""
    return [b"ED\x00\x01", len(blob).to_bytes(3, "big"), blob]


def opening(kind: str, noise: random.Random) -> bytes:
    """Return first bytes that make a connection one of ``kind``."""
    if kind == "whatsapp":
        return noise.choice(INTROS) + client_noise_hello(noise.randbytes(32))
    if kind == "xmpp":
        return b"<?xml version='1.0'?><stream:stream to='jabber.test' version='1.0'>"
    if kind == "tls":
        return python_hello(ALLOWED_NAME)
    return b"\x00\x01raw" + noise.randbytes(8)


_FLIP = bytes(255 - i for i in range(256))


def flip(data: bytes) -> bytes:
    """Return what the flipping upstream answers to ``data``: every bit turned over."""
    return data.translate(_FLIP)


async def flipping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection by sending every byte back, flipped, and then its end."""
    while data := await reader.read(1 << 16):
        writer.write(flip(data))
        await writer.drain()


async def digesting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one upload by answering, when it has ended, with its SHA-256."""
    digest = hashlib.sha256()
    while data := await reader.read(1 << 16):
        digest.update(data)
    writer.write(digest.digest())


async def serve(handler: Handler, port: int = 0, tls: ssl.SSLContext | None = None) -> int:
    """Listen on loopback, with one ``handler`` a connection; return the port."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that breaks off is the client's business: its test looks at its own end.
        with contextlib.suppress(ConnectionError):
            await handler(reader, writer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, LOOPBACK, port, backlog=4096, ssl=tls)
    return int(server.sockets[0].getsockname()[1])


class ChatServer:
    """A WhatsApp-shaped chat server.

    It takes an edge-routing header or none, the intro, and frames. Its first frame begins with 1a
    and proves by a digest that it saw the client's; every later frame it sends back, flipped.
    """

    def __init__(self, background: Background) -> None:
        #: Every byte of each connection, in the order of their coming.
        self.received: list[bytearray] = []
        self.port = background.run(serve(self.serve))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = bytearray()
        self.received.append(seen)

        async def take(size: int) -> bytes:
            data = await reader.readexactly(size)
            seen.extend(data)
            return data

        async def take_frame() -> bytes:
            return await take(int.from_bytes(await take(3), "big"))

        intro = await take(4)
        if intro == b"ED\x00\x01":
            await take_frame()
            intro = await take(4)
        assert intro in INTROS, intro
        writer.write(self.answer(await take_frame()))
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                writer.write(frame(flip(await take_frame())))

    @staticmethod
    def answer(hello: bytes) -> bytes:
        """Return the server's first frame, to the payload of the client's first."""
        return frame(b"\x1a" + hashlib.sha256(hello).digest() + bytes(100))


def dial(port: int, deadline: float = DEADLINE, source: str = "") -> socket.socket:
    """Return a blocking connection whose every write is a segment of its own.

    ``source`` is the address that it comes from, if that matters.
    """
    connection = socket.create_connection((LOOPBACK, port), deadline, (source, 0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_exactly(connection: socket.socket, size: int) -> bytes:
    """Return ``size`` bytes; fewer if the connection ends before."""
    data = bytearray()
    while len(data) < size and (more := connection.recv(size - len(data))):
        data += more
    return bytes(data)


def read_to_end(connection: socket.socket) -> bytes:
    """Return everything up to the end of the stream; raises ConnectionError if it is broken off."""
    data = bytearray()
    while more := connection.recv(1 << 16):
        data += more
    return bytes(data)


def ends(connection: socket.socket) -> bool:
    """Tell whether the connection is ended by the other side, one way or the other."""
    with contextlib.suppress(ConnectionError):
        read_to_end(connection)
    return True


#: So often nothing new is read when there is nothing to be waited for.
_LOOKS = 5


def _queued(connection: socket.socket) -> int:
    """Return how much of what was written the program at the other end has not yet read."""

    def hexadecimal(address: tuple[str, int]) -> str:
        return f"{socket.inet_aton(address[0])[::-1].hex().upper()}:{address[1]:04X}"

    ours, theirs = map(hexadecimal, (connection.getsockname(), connection.getpeername()))
    queued = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if (local, remote) == (ours, theirs):
            queued += int(queues.partition(":")[0], 16)
        elif (local, remote) == (theirs, ours):
            queued += int(queues.partition(":")[2], 16)
    return queued


def write_apart(connection: socket.socket, pieces: list[bytes]) -> None:
    """Write each piece when the program at the other end has read the one before, or seen it.

    Who only looks (as for TLS, whose first bytes it leaves for another) reads nothing for a while.
    """
    for piece in pieces:
        looks = [-1] * _LOOKS

        def taken(looks: list[int] = looks) -> bool:
            looks[:] = [*looks[1:], _queued(connection)]
            return looks[-1] == 0 or len(set(looks)) == 1

        eventually(taken, "the other end reads what was written")
        connection.sendall(piece)


def chat(port: int, pieces: list[bytes], frames: list[bytes], source: str = "") -> None:
    """Hold a WhatsApp-shaped chat over ``port``: begin with ``pieces``, then exchange ``frames``.

    The last piece ends with the client's first frame.
    """
    with dial(port, source=source) as connection:
        write_apart(connection, pieces)
        expected = ChatServer.answer(b"".join(pieces)[-36:])
        got = read_exactly(connection, len(expected))
        assert got == expected, (got, expected)
        for payload in frames:
            connection.sendall(frame(payload))
            got = read_exactly(connection, 3 + len(payload))
            assert got == frame(flip(payload)), f"a frame of {len(payload)} bytes came back wrong"
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection) == b""


async def converse(
    port: int,
    first: bytes,
    payload: bytes,
    together: asyncio.Barrier,
    dialling: asyncio.Semaphore,
) -> None:
    """Check every byte of a connection to the flipping upstream.

    ``first`` is exchanged under ``dialling``. Then all parties of ``together`` meet, twice, so that
    one of them can look at the crowd in between; and then ``payload`` is exchanged.
    """
    async with dialling:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(first)
        got = await reader.readexactly(len(first))
    assert got == flip(first), (first, got)
    await together.wait()
    await together.wait()
    writer.write(payload)
    writer.write_eof()
    got = await reader.read(-1)
    writer.close()
    assert got == flip(payload), f"{len(got)} bytes of {len(payload)} came back, or wrong ones"
