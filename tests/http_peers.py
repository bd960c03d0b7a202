"""HTTP on both sides of the proxy: a client, scripted origins, and a reader of messages.

The reader is this module's own and knows no more than the tests need; nothing of it is shared with
the program.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.task import Clock

from tests.flood import buffered
from tests.peers import LOOPBACK, Listener, Peer, reactor, settled, until
from tests.support import LoopbackCase, make_settings
from whatsproxy.destination import Destination
from whatsproxy.factory import ProxyFactory
from whatsproxy.reason import Reason
from whatsproxy.session import Session


@dataclass
class Message:
    """A request or an answer; ``complete`` says whether its framing says so."""

    line: bytes
    fields: list[bytes]
    body: bytes = b""
    trailers: bytes = b""
    complete: bool = True

    @property
    def status(self) -> int:
        return int(self.line.split(b" ")[1])

    def field(self, name: bytes) -> bytes | None:
        """Return the value of a field that is there once, or None."""
        values = [line.partition(b":")[2].strip() for line in self.fields if is_named(line, name)]
        if len(values) > 1:
            raise AssertionError(f"{name!r} is there {len(values)} times")
        return values[0] if values else None


def is_named(line: bytes, name: bytes) -> bool:
    return line.partition(b":")[0].lower() == name.lower()


def cut_message(data: bytearray, *, bodiless: bool = False, ended: bool = False) -> Message | None:
    """Take a message off ``data``; None while it is not whole.

    ``bodiless`` is the answer to HEAD; ``ended`` says that no more comes: then what there is of a
    message is returned, and ``complete`` tells.
    """
    head, blank, rest = bytes(data).partition(b"\r\n\r\n")
    if not blank:
        return None
    line, *fields = head.split(b"\r\n")
    message = Message(line, fields)
    answer = line.startswith(b"HTTP/")
    length = message.field(b"content-length")
    if bodiless or (answer and (message.status < 200 or message.status in (204, 304))):
        size = 0
    elif message.field(b"transfer-encoding") == b"chunked":
        return _cut_chunked(data, message, rest, ended)
    elif length is not None:
        size = int(length)
    elif answer:
        if not ended:
            return None
        size = len(rest)
    else:
        size = 0
    if len(rest) < size and not ended:
        return None
    message.body = rest[:size]
    message.complete = len(rest) >= size
    data[:] = rest[size:]
    return message


def _cut_chunked(data: bytearray, message: Message, rest: bytes, ended: bool) -> Message | None:
    pieces = []
    while True:
        line, found, rest = rest.partition(b"\r\n")
        size = int(line, 16) if found else 0
        if not found or len(rest) < size + 2:
            if not ended:
                return None
            message.body = b"".join(pieces) + rest[:size]
            message.complete = False
            data.clear()
            return message
        if size == 0:
            break
        pieces.append(rest[:size])
        rest = rest[size + 2 :]
    message.body = b"".join(pieces)
    if rest.startswith(b"\r\n"):
        rest = rest[2:]
    else:
        message.trailers, found, rest = rest.partition(b"\r\n\r\n")
        if not found:
            return None
    data[:] = rest
    return message


class OriginPeer(Peer):
    """A scripted origin: the test takes its requests and gives its answers."""

    async def request(self) -> Message:
        """Wait for the next request."""
        return await _next(self, lambda: cut_message(self.received))

    async def head(self) -> bytes:
        """Wait for the next head, and leave what comes behind it."""
        await until(lambda: b"\r\n\r\n" in self.received or self.lost, "no head")
        head, _, rest = bytes(self.received).partition(b"\r\n\r\n")
        self.received[:] = rest
        return head

    def answer(
        self, body: bytes = b"", *fields: bytes, status: bytes = b"200 OK", length: bool = True
    ) -> None:
        """Answer; ``length=False`` says nothing of the body's length."""
        framing = (b"Content-Length: %d" % len(body),) if length else ()
        self.write(head_of(b"HTTP/1.1 " + status, *framing, *fields) + body)


class HttpClient:
    """An HTTP client's end of a connection: it reads what a peer receives."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.sent = 0
        self.got = 0

    def ask(self, *messages: bytes) -> None:
        """Send."""
        data = b"".join(messages)
        self.sent += len(data)
        self.peer.write(data)

    async def answer(self, *, bodiless: bool = False) -> Message:
        """Wait for the next answer, and take it; the end of the connection may be its end."""
        before = 0

        def read() -> Message | None:
            nonlocal before
            ended = self.peer.eof or self.peer.lost is not None
            before = len(self.peer.received)
            return cut_message(self.peer.received, bodiless=bodiless, ended=ended)

        message = await _next(self.peer, read)
        self.got += before - len(self.peer.received)
        return message

    async def closed(self) -> None:
        """Wait for the end of the other direction, nothing before it; then end ours."""
        await self.peer.ended()
        if self.peer.received:
            raise AssertionError(f"{bytes(self.peer.received[:200])!r} behind the last answer")
        if self.peer.lost is None:
            self.peer.close()


async def _next(peer: Peer, read: Callable[[], Message | None]) -> Message:
    found: list[Message] = []

    def looked() -> bool:
        message = read()
        if message is not None:
            found.append(message)
        return bool(found) or peer.lost is not None or peer.eof

    await until(looked, "no message")
    if not found and (message := read()) is not None:
        found.append(message)
    if not found:
        raise AssertionError(f"the connection ended instead: {bytes(peer.received[:200])!r}")
    return found[0]


def head_of(line: bytes, *fields: bytes) -> bytes:
    """Return a head."""
    return b"\r\n".join([line, *fields, b"", b""])


def chunked(*pieces: bytes, trailers: tuple[bytes, ...] = ()) -> bytes:
    """Return a chunked body."""
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return chunks + head_of(b"0", *trailers)


class TurningClock(Clock):
    """A clock whose time stands still; but what is due at once comes in the reactor's next turn."""

    def callLater(self, when: float, *arguments: Any, **more: Any) -> Any:
        if when == 0:
            return _NextTurn(self, reactor.callLater(0, *arguments, **more))
        return super().callLater(when, *arguments, **more)

    def callFromThread(self, *arguments: Any) -> None:
        reactor.callFromThread(*arguments)


class _NextTurn:
    """A call in the reactor's next turn, whose time is the clock's own: it may be moved."""

    def __init__(self, clock: TurningClock, call: Any) -> None:
        self._clock = clock
        self._call = call
        self._due: float | None = clock.seconds()

    def getTime(self) -> float:
        return float(self._call.getTime()) if self._due is None else self._due

    def active(self) -> bool:
        return bool(self._call.active())

    def cancel(self) -> None:
        self._call.cancel()

    def reset(self, seconds: float) -> None:
        call, arguments, more = self._call.func, self._call.args, self._call.kw
        self._call.cancel()
        self._call = self._clock.callLater(seconds, call, *arguments, **more)
        self._due = None

    def delay(self, seconds: float) -> None:
        self.reset(self.getTime() + seconds - self._clock.seconds())


class HttpCase(LoopbackCase):
    """A proxy whose timers are the test's, and origins that it may reach.

    When a test is over its clients break off; then the proxy has to leave the origins by itself.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TurningClock()
        self.origins = self.listen(OriginPeer)

    async def tearDown(self) -> None:
        for peer in self._dialled:
            if peer.lost is None:
                peer.reset()
        for listener in self._listeners:
            for peer in listener.peers:
                if getattr(peer.transport, "protocol", None) is peer:
                    await until(
                        lambda p=peer: self.a_moment_passes() and (p.eof or p.lost),
                        "an origin was not let go",
                    )
        if self.factory is not None:
            await until(lambda: not self._closing(), "an origin's connection is still closing")
        await super().tearDown()

    def _closing(self) -> list[Any]:
        """Return the timers of origins that are being let go: each ends a moment later."""
        calls = self.clock.getDelayedCalls()
        return [call for call in calls if getattr(call.func, "__qualname__", "") == "Origin.abort"]

    def start(self, *more: Listener, fake: Any = None, **sections: Any) -> ProxyFactory:
        """Run a proxy that reaches the origins (and ``more``), with a FakeUpstream or really."""
        listeners = (self.origins, *more)
        chat = tuple(Destination(LOOPBACK, listener.port) for listener in listeners)
        sections["upstream"] = {"chat": chat, **sections.get("upstream", {})}
        return self.start_proxy(make_settings(**sections), clock=self.clock, upstream=fake)

    def request(
        self,
        path: bytes = b"/",
        *fields: bytes,
        method: bytes = b"GET",
        version: bytes = b"1.1",
        body: bytes | None = None,
        to: Listener | None = None,
    ) -> bytes:
        """Return a request in absolute form; a body gets a Content-Length."""
        where = b"%s:%d" % (LOOPBACK.encode(), (to or self.origins).port)
        if body is not None:
            fields = (*fields, b"Content-Length: %d" % len(body))
        line = b"%s http://%s%s HTTP/%s" % (method, where, path, version)
        return head_of(line, b"Host: " + where, *fields) + (body or b"")

    async def connect(self, *first: bytes) -> HttpClient:
        """Connect a client to the proxy and send requests."""
        client = HttpClient(await self.client())
        client.ask(*first)
        return client

    async def asked(
        self, *first: bytes, number: int | None = None
    ) -> tuple[HttpClient, OriginPeer, Message]:
        """Connect a client that asks; return it, the origin that it reaches, and what that got."""
        number = len(self.origins.peers) + 1 if number is None else number
        client = await self.connect(*(first or (self.request(),)))
        origin = await self.origins.accepted(number)
        return client, origin, await origin.request()

    def session(self) -> Session:
        """Return the only session."""
        (session,) = self.factory.ledger.live
        return session

    async def taken(self, client: HttpClient) -> None:
        """Wait until the proxy has read what the client has sent."""
        await until(lambda: not buffered(client.peer.transport))
        await settled(lambda: self.factory.ledger.received, 10)

    def pass_time(self, seconds: float) -> None:
        """Let seconds pass, in steps of at most one."""
        whole = int(seconds)
        self.clock.pump([1.0] * whole + [seconds - whole])

    def assertRequests(self, *counted: tuple[str, str, str, int]) -> None:
        """The requests counted are exactly these: method, class, who answered, how many."""
        requests = {key: n for key, n in self.factory.ledger.http_requests.items() if n}
        self.assertEqual(requests, {(m, s, by): n for m, s, by, n in counted})

    def assertError(self, answer: Message, status: int, *texts: str) -> None:
        """It is an answer of the proxy's own, with these texts in it."""
        self.assertEqual(answer.status, status)
        self.assertTrue(answer.complete)
        self.assertEqual(answer.field(b"content-type"), b"text/plain; charset=utf-8")
        for text in texts:
            self.assertIn(text, answer.body.decode())

    async def left(self, client: HttpClient, *reasons: Reason) -> None:
        """The proxy has closed behind its answer, and the session ended so."""
        await client.closed()
        await self.ended_with(*reasons)
