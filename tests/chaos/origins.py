"""Origins that do as their clients order: they deliver, or fail in the way that was asked for."""

import asyncio
import hashlib
import ssl
from dataclasses import dataclass, field

from tests.chaos.channels import BROKEN, Channel, Secure
from tests.chaos.orders import END, PIECE, Order
from tests.integration.programs import LOOPBACK

#: Seconds between two bytes of a trickle.
DRIP = 0.02
#: What an origin says that speaks no language.
GARBAGE = hashlib.shake_128(b"garbage").digest(1000)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: order\r\n\r\n"


@dataclass
class Upload:
    """What has come of an order's upload: ``how`` is empty while it is under way."""

    got: int = 0
    #: complete, short (its end came too early), reset (or cut, in TLS), wrong.
    how: str = ""


class BrokenError(Exception):
    """This connection has nothing more to give."""


@dataclass
class Origins:
    """The origins of one loop; ``uploads`` are kept, by number, until somebody takes them out."""

    uploads: dict[int, Upload] = field(default_factory=dict)
    servers: list[asyncio.Server] = field(default_factory=list)
    _open: set[Channel] = field(default_factory=set)
    _empty: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> int:
        """Listen, in TLS with a context, and return the port; it takes HTTP and tunnels."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            below = channel = Channel(reader, writer)
            self._open.add(below)
            try:
                if tls is None:
                    await self._serve(channel)
                else:
                    channel = Secure(below, tls, None)
                    await self._serve(await channel.shake_hands())
                    channel.end()
            except (*BROKEN, asyncio.IncompleteReadError, BrokenError):
                pass  # the upload says how
            finally:
                self._open.discard(below)
                if not self._open:
                    self._empty.set()
                channel.close()

        server = await asyncio.start_server(connected, LOOPBACK, port, backlog=4096)
        self.servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Listen no more, and break off what is open."""
        for server in self.servers:
            server.close()
        self._empty.clear()
        for channel in list(self._open):
            channel.reset()
        if self._open:
            await self._empty.wait()

    async def _serve(self, channel: Channel) -> None:
        while True:
            first = await channel.reader.readexactly(4)  # or the end, between two requests
            if first not in (b"GET ", b"POST"):
                await self._tunnel(channel, first)
                return
            line = first + await channel.reader.readuntil(b"\r\n")
            fields = await self._fields(channel)
            order = Order.at(line.split(b" ")[1].decode())
            if fields.get(b"upgrade") == b"order":
                await channel.send(SWITCHED)
                await self._obey(channel, order)
                await self._tunnel(channel)
                return
            await self._take(channel, order, chunked=b"transfer-encoding" in fields)
            await self._answer(channel, order)

    @staticmethod
    async def _fields(channel: Channel) -> dict[bytes, bytes]:
        head = await channel.reader.readuntil(b"\r\n\r\n")
        lines = (line.partition(b":") for line in head.split(b"\r\n") if line)
        return {name.lower(): value.strip() for name, _, value in lines}

    async def _tunnel(self, channel: Channel, first: bytes = b"") -> None:
        """Take orders until the client has no more; an opening may stand before the first."""
        while True:
            try:
                line = await channel.reader.readuntil(END)
            except asyncio.IncompleteReadError as e:
                if e.partial or first:
                    raise
                return
            order = Order.of(first + line)
            first = b""
            await self._obey(channel, order)
            if order.fault in ("end", "garbage"):
                return

    async def _obey(self, channel: Channel, order: Order) -> None:
        if order.fault == "unread":
            channel.stall()
            await self._hang(channel, order, False)
        taking = asyncio.create_task(self._take(channel, order))
        try:
            await self._give(channel, order)
            await taking
        except BROKEN:
            # Whichever direction hears of it first.
            upload = self.uploads.setdefault(order.number, Upload())
            upload.how = upload.how or "reset"
            raise
        finally:
            taking.cancel()
        if not order.fault or order.fault == "trickle":
            await channel.send(order.receipt())

    async def _answer(self, channel: Channel, order: Order) -> None:
        if order.fault == "garbage" and not order.after:
            await channel.send(GARBAGE)
            raise BrokenError
        framing = "Transfer-Encoding: chunked" if order.chunked else f"Content-Length: {order.down}"
        receipt = order.receipt().hex()
        await channel.send(f"HTTP/1.1 200 OK\r\n{framing}\r\nReceipt: {receipt}\r\n\r\n".encode())
        await self._give(channel, order, framed=order.chunked)
        if order.fault in ("end", "garbage"):
            raise BrokenError
        if order.chunked:
            await channel.send(b"0\r\n\r\n")

    async def _take(self, channel: Channel, order: Order, *, chunked: bool = False) -> None:
        upload = self.uploads[order.number] = Upload()
        try:
            while upload.got < order.up:
                left = order.up - upload.got
                if chunked:
                    left = int(await channel.reader.readuntil(b"\r\n"), 16)
                while left:
                    data = await channel.reader.read(min(PIECE, left))
                    if not data or data != order.sent_up(upload.got, len(data)):
                        upload.how = "wrong" if data else "short"
                        raise BrokenError
                    upload.got += len(data)
                    left -= len(data)
                if chunked:
                    await channel.reader.readexactly(2)
            if chunked:
                await channel.reader.readuntil(b"0\r\n\r\n")
        except asyncio.IncompleteReadError:
            upload.how = "short"
            raise
        except BROKEN:
            upload.how = "reset"
            raise
        upload.how = "complete"

    async def _give(self, channel: Channel, order: Order, *, framed: bool = False) -> None:
        given = 0
        until = order.after if order.fault else order.down
        while given < until:
            piece = order.sent_down(given, until - given)
            given += len(piece)
            await channel.send(b"%x\r\n%s\r\n" % (len(piece), piece) if framed else piece)
        if order.fault:
            await getattr(self, f"_{order.fault}")(channel, order, framed)

    # -- The faults

    @staticmethod
    async def _reset(channel: Channel, order: Order, framed: bool) -> None:
        channel.reset()
        raise BrokenError

    @staticmethod
    async def _end(channel: Channel, order: Order, framed: bool) -> None:
        channel.end()

    @staticmethod
    async def _garbage(channel: Channel, order: Order, framed: bool) -> None:
        await channel.send(GARBAGE)

    @staticmethod
    async def _hang(channel: Channel, order: Order, framed: bool) -> None:
        while channel.established:
            await asyncio.sleep(0.1)  # until the other side has had enough
        raise BrokenError

    @staticmethod
    async def _trickle(channel: Channel, order: Order, framed: bool) -> None:
        for given in range(order.after, order.down):
            byte = order.sent_down(given, 1)
            await channel.send(b"1\r\n%s\r\n" % byte if framed else byte)
            await asyncio.sleep(DRIP)
