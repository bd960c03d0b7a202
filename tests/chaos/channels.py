"""Connections on an asyncio loop that tell an end from a cut, which asyncio's own in TLS do not."""

import asyncio
import contextlib
import socket
import ssl
import struct

from tests.integration.programs import LOOPBACK

#: What a connection raises that was broken off, or was no TLS any more.
BROKEN = (ConnectionError, ssl.SSLError, TimeoutError)


class Channel:
    """A TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, port: int) -> "Channel":
        """Connect to a port of this machine."""
        return cls(*await asyncio.open_connection(LOOPBACK, port))

    async def send(self, data: bytes) -> None:
        """Send, and wait while too much of it is still here."""
        self._writer.write(data)
        await self._writer.drain()

    def end(self) -> None:
        """End our direction."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Break off (RST)."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def stall(self) -> None:
        """Read nothing any more, and let the kernel take little."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15)
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # sockets have it

    def close(self) -> None:
        """Let it go."""
        self._writer.close()

    @property
    def socket(self) -> socket.socket:
        """The socket, for its options."""
        found: socket.socket = self._writer.get_extra_info("socket")
        return found

    @property
    def established(self) -> bool:
        """Whether both directions are open, as far as the kernel knows."""
        try:
            return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\x01"
        except OSError:
            return False


class Secure(Channel):
    """TLS over a channel. Its reader raises SSLEOFError where TCP ends and TLS has not."""

    def __init__(self, below: Channel, context: ssl.SSLContext, name: str | None) -> None:
        """Be a client that wants a server of this name, or a server where there is none."""
        super().__init__(asyncio.StreamReader(), below._writer)
        self.reader.set_transport(self)  # type: ignore[arg-type]  # pause_, resume_reading
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=name is None, server_hostname=name
        )
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._pump: asyncio.Task[None] | None = None

    async def shake_hands(self) -> "Secure":
        """Do the handshake, and begin to read."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except ssl.SSLError:
                with contextlib.suppress(ConnectionError):
                    await self._flush()  # the alert
                raise
        await self._flush()
        self._pump = asyncio.create_task(self._read_on())
        return self

    async def send(self, data: bytes) -> None:
        """Encrypt and send."""
        self._tls.write(data)
        await self._flush()

    def end(self) -> None:
        """Say goodbye (close_notify), after which nothing can be sent."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._writer.write(self._outgoing.read())

    def reset(self) -> None:
        """Break off."""
        self._stop()
        super().reset()

    def close(self) -> None:
        """Let it go."""
        self._stop()
        super().close()

    def pause_reading(self) -> None:
        """Read no more for now (called by the reader)."""
        self._wanted.clear()

    def resume_reading(self) -> None:
        """Read on (called by the reader)."""
        self._wanted.set()

    def _stop(self) -> None:
        if self._pump is not None:
            self._pump.cancel()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._below.send(self._outgoing.read())

    async def _feed(self) -> None:
        if data := await self._below.reader.read(1 << 16):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _read_on(self) -> None:
        try:
            while True:
                await self._wanted.wait()
                try:
                    data = self._tls.read(1 << 16)
                except ssl.SSLWantReadError:
                    await self._flush()  # the answer to a change of keys
                    await self._feed()
                    continue
                if not data:
                    break
                self.reader.feed_data(data)
            self.reader.feed_eof()
        except ssl.SSLZeroReturnError:
            self.reader.feed_eof()
        except (ssl.SSLError, OSError) as e:
            self.reader.set_exception(e)
