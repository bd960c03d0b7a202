"""Transfers through the proxy, over every way in, and how each of them ended for its client."""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field

from tests.chaos.channels import BROKEN, Channel, Secure
from tests.chaos.orders import OPENINGS, PIECE, Order
from tests.chaos.origins import GARBAGE
from tests.integration.tls_clients import BLIND, PROXY_NAME
from tests.integration.traffic import ALLOWED_NAME

#: A name that tests allow, and that means this machine.
ORIGIN = "origin.test"
#: The ways in that end in a tunnel: what is spoken to the proxy, and then inside.
TUNNELS = {
    "whatsapp": "whatsapp",
    "xmpp": "xmpp",
    "raw": "raw",
    "tls/whatsapp": "whatsapp",
    "tls/raw": "raw",
    "connect": "none",
    "tls/connect": "none",
    "upgrade": "none",
    # Passed through to port 443, in TLS from end to end.
    "through": "none",
}
HTTP = ("http", "tls/http")
WAYS = (*TUNNELS, *HTTP)


class UnwantedError(Exception):
    """A transfer ended in another way than it should."""

    how = ""


class RefusedError(UnwantedError):
    """The proxy has said no, in HTTP: with this status."""

    how = "refused"


class ShortError(UnwantedError):
    """A transfer ended in good order, but too early."""

    how = "short"


class WrongError(UnwantedError):
    """Other bytes came than were sent: never to be excused."""

    how = "wrong"


@dataclass
class Outcome:
    """How a transfer ended for its client.

    ``how``: complete, and every byte right; short (ended in good order, but too early); broken (and
    the client was told so: a reset, TLS or a body that was cut off); refused (with a ``status``);
    late; wrong. ``detail`` begins with the way.
    """

    how: str
    got: int
    detail: str = ""
    status: int = 0


@dataclass
class Site:
    """Where everything is: the proxy's port, the origins', and whom a TLS client trusts.

    ``name`` is how clients call the origin.
    """

    proxy: int
    origin: int
    trust: ssl.SSLContext | None = None
    name: str = ORIGIN
    #: Seconds for one transfer.
    patience: float = 30.0
    #: Seconds that a client takes between two pieces.
    drag: float = 0.0
    numbers: int = field(default=0)

    def order(self, up: int = 0, down: int = 0, fault: str = "", after: int = 0, **more) -> Order:
        """Return a new order."""
        self.numbers += 1
        return Order(self.numbers, up, down, fault, after, **more)

    @property
    def place(self) -> str:
        """The origin's authority."""
        return f"{self.name}:{self.origin}"

    async def open(self, way: str, order: Order) -> Channel:
        """Return a connection that goes this way, ready for its opening or its first request."""
        channel = await Channel.to(self.proxy)
        try:
            if way == "through":
                assert self.trust is not None
                return await Secure(channel, self.trust, ALLOWED_NAME).shake_hands()
            if way.startswith("tls/"):
                channel = await Secure(channel, BLIND, PROXY_NAME).shake_hands()
            place = self.place
            if way.endswith("connect"):
                await ask(channel, f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n", 200)
            elif way == "upgrade":
                head = f"GET http://{place}{order.path()} HTTP/1.1\r\nHost: {place}\r\n"
                await ask(channel, f"{head}Connection: upgrade\r\nUpgrade: order\r\n\r\n", 101)
        except BaseException:
            channel.reset()
            raise
        return channel

    def words(self, way: str, order: Order, *, first: bool = True) -> bytes:
        """Return what a client says to get what it orders, and what before its first order."""
        if way in HTTP:
            method = "POST" if order.up else "GET"
            length = f"Content-Length: {order.up}"
            sized = f"{'Transfer-Encoding: chunked' if order.chunked else length}\r\n"
            sized = sized if order.up else ""
            line = f"{method} http://{self.place}{order.path()} HTTP/1.1"
            return f"{line}\r\nHost: {self.place}\r\n{sized}\r\n".encode()
        if not first:
            return order.line()
        # The path of the upgrade was the order.
        return OPENINGS[TUNNELS[way]] + (b"" if way == "upgrade" else order.line())

    async def carry(self, way: str, *orders: Order) -> list[Outcome]:
        """Do transfers on one connection, one after the other; stop at the first that fails."""
        outcomes = [Outcome("late", 0, f"{way}: {order}") for order in orders]
        done = 0
        channel: Channel | None = None
        try:
            async with asyncio.timeout(self.patience):
                channel = await self.open(way, orders[0])
                for done, order in enumerate(orders):
                    words = self.words(way, order, first=not done)
                    framed = order.chunked and bool(order.up) and way in HTTP
                    sending = asyncio.create_task(upload(channel, order, words, framed=framed))
                    try:
                        receive = http if way in HTTP else tunnel
                        await receive(self, channel, order, outcomes[done], sending)
                    finally:
                        sending.cancel()
                        with contextlib.suppress(asyncio.CancelledError, *BROKEN):
                            await sending
                    outcomes[done].how = "complete"
                await leave(channel)
        except TimeoutError:
            outcomes[done].how = "late"
        except (UnwantedError, *BROKEN, asyncio.IncompleteReadError) as e:
            outcomes[done].how = e.how if isinstance(e, UnwantedError) else "broken"
            outcomes[done].status = e.args[0] if isinstance(e, RefusedError) else 0
            outcomes[done].detail = f"{way}: {e!r}"
        finally:
            if channel is not None:
                channel.close()
        return outcomes[: done + 1]


async def ask(channel: Channel, head: str, status: int) -> None:
    """Send a request that is to be answered by a head alone."""
    await channel.send(head.encode())
    answer = await channel.reader.readuntil(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 %d " % status):
        raise RefusedError(int(answer.split(b" ")[1]))


async def leave(channel: Channel) -> None:
    """End our direction, and wait for the end of the other one: nothing more may come."""
    channel.end()
    if more := await channel.reader.read(PIECE):
        raise WrongError(f"{more[:40]!r} behind the end")


async def tunnel(
    site: Site, channel: Channel, order: Order, outcome: Outcome, sending: asyncio.Task[None]
) -> None:
    """Receive what is ordered over a tunnel, and the receipt for what is being sent."""
    expected = order.after if order.fault == "garbage" else order.down
    try:
        while outcome.got < expected:
            data = await channel.reader.read(min(PIECE, expected - outcome.got))
            if not data:
                raise ShortError(f"{outcome.got} of {order}")
            taken(order, outcome, data)
            if site.drag:
                await asyncio.sleep(site.drag)
        last = GARBAGE if order.fault == "garbage" else order.receipt()
        said = b""
        while len(said) < len(last):
            data = await channel.reader.read(len(last) - len(said))
            if not data:
                raise ShortError(f"{len(said)} bytes of a receipt for {order}")
            said += data
        if said != last:
            raise WrongError(f"{said!r} instead of a receipt for {order}")
    except ShortError:
        if order.fault == "end":
            await sending  # that direction is still open
        raise
    await sending


async def http(
    site: Site, channel: Channel, order: Order, outcome: Outcome, sending: asyncio.Task[None]
) -> None:
    """Receive what is ordered as the answer to an HTTP request."""
    answer = await channel.reader.readuntil(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RefusedError(int(answer.split(b" ")[1]))
    if b"Receipt: " + order.receipt().hex().encode() not in answer:
        raise WrongError(f"{answer!r} has no receipt for {order}")
    if b"\r\nTransfer-Encoding: chunked\r\n" in answer:
        while size := int(await channel.reader.readuntil(b"\r\n"), 16):
            await body(site, channel, order, outcome, size)
            await channel.reader.readexactly(2)
        await channel.reader.readexactly(2)
    else:
        await body(site, channel, order, outcome, order.down)
    if outcome.got != order.down:
        raise WrongError(f"{outcome.got} bytes, and they are all, of {order}")
    await sending


async def body(site: Site, channel: Channel, order: Order, outcome: Outcome, size: int) -> None:
    """Read so many bytes of a body."""
    end = outcome.got + size
    while outcome.got < end:
        data = await channel.reader.read(min(PIECE, end - outcome.got))
        if not data:
            raise asyncio.IncompleteReadError(b"", end - outcome.got)
        taken(order, outcome, data)
        if site.drag:
            await asyncio.sleep(site.drag)


def taken(order: Order, outcome: Outcome, data: bytes) -> None:
    """Compare a piece with what should have come."""
    if data != order.sent_down(outcome.got, len(data)):
        raise WrongError(f"from {outcome.got} on, of {order}")
    outcome.got += len(data)


async def upload(channel: Channel, order: Order, first: bytes, *, framed: bool) -> None:
    """Send the first words, and what is to be sent of an order; ``framed``: in chunks."""
    sent = 0
    if first:
        await channel.send(first)
    while sent < order.up:
        piece = order.sent_up(sent, PIECE)
        sent += len(piece)
        await channel.send(b"%x\r\n%s\r\n" % (len(piece), piece) if framed else piece)
    if framed:
        await channel.send(b"0\r\n\r\n")
