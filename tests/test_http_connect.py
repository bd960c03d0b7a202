"""CONNECT: a tunnel once the upstream is there, and only then."""

from twisted.internet.defer import fail, succeed
from twisted.internet.error import ConnectionRefusedError, NoRouteError

from tests.flood import pattern
from tests.http_cases import ESTABLISHED, ConnectCase
from tests.http_peers import HttpClient, head_of
from tests.peers import settled, turn, until
from tests.support import FakeUpstream
from whatsproxy.destination import Destination
from whatsproxy.dial import DialTimeoutError
from whatsproxy.protocols.tunnel import EARLY_LIMIT
from whatsproxy.reason import Reason


class TunnelTests(ConnectCase):
    async def test_both_ways(self) -> None:
        self.start()
        client, upstream = await self.tunnel()
        await self.assertThrough(client, upstream)
        self.assertRequests(("CONNECT", "2xx", "proxy", 1))
        session = self.session()
        self.assertEqual(session.target, f"127.0.0.1:{self.origins.port}")
        self.assertEqual(session.received, client.sent)
        self.assertEqual(session.sent, len(ESTABLISHED) + len(b"to me"))
        client.peer.end()
        await upstream.ended()
        upstream.end()
        await self.ended_with(Reason.CLIENT_CLOSED)

    async def test_any_bytes(self) -> None:
        """Also such as look like HTTP."""
        self.start()
        client, upstream = await self.tunnel()
        for data in (self.here(), bytes(range(256)) * 1000, b"GET / HTTP/1.1\r\n\r\n"):
            upstream.received.clear()
            client.peer.received.clear()
            client.ask(data)
            await upstream.got(data)
            upstream.write(data[::-1])
            await client.peer.got(data[::-1])

    async def test_half_closes(self) -> None:
        """Either side may end first, and still hear the other."""
        self.start()
        client, upstream = await self.tunnel()
        client.ask(b"last")
        client.peer.end()
        await upstream.ended()
        await upstream.got(b"last")
        upstream.write(b"answer")
        await client.peer.got(b"answer")
        upstream.end()
        await client.peer.gone()
        client, upstream = await self.tunnel()
        upstream.end()
        await client.peer.ended()
        client.ask(b"still heard")
        await upstream.got(b"still heard")
        client.peer.end()
        await upstream.gone()
        await self.ended_with(Reason.CLIENT_CLOSED, Reason.UPSTREAM_CLOSED)

    async def test_early_bytes(self) -> None:
        """In the same segment as the request, and the end behind them."""
        self.start()
        early = pattern(0, 60000)
        client = await self.connect(self.here() + early)
        client.peer.end()
        upstream = await self.origins.accepted()
        await upstream.got(early)
        await upstream.ended()
        upstream.write(b"answer")
        await client.peer.got(ESTABLISHED + b"answer")
        self.assertEqual(self.session().received, client.sent)

    async def test_byte_by_byte(self) -> None:
        self.start()
        client = await self.connect()
        for byte in self.here() + b"early":
            client.ask(bytes([byte]))
            await settled(lambda: self.factory.ledger.received, 2)
        upstream = await self.origins.accepted()
        await upstream.got(b"early")
        await client.peer.got(ESTABLISHED)

    async def test_the_second_request(self) -> None:
        """On a connection that has served others."""
        self.start()
        page = head_of(b"GET / HTTP/1.1", b"Host: x")
        client = await self.connect(page)
        await client.answer()
        client.ask(self.here(), b"early")
        upstream = await self.origins.accepted()
        await client.peer.got(ESTABLISHED)
        client.peer.received.clear()
        await upstream.got(b"early")
        upstream.received.clear()
        await self.assertThrough(client, upstream)
        self.assertEqual(self.session().received, client.sent)
        self.assertRequests(("GET", "2xx", "proxy", 1), ("CONNECT", "2xx", "proxy", 1))

    async def test_pipelined(self) -> None:
        """Its answer comes behind those before it."""
        self.start()
        page = head_of(b"GET / HTTP/1.1", b"Host: x")
        client = await self.connect(page, page, self.here(), b"early")
        upstream = await self.origins.accepted()
        for _ in range(2):
            self.assertEqual((await client.answer()).line, b"HTTP/1.1 200 OK")
        await client.peer.got(ESTABLISHED)
        await upstream.got(b"early")

    async def test_behind_a_half_close(self) -> None:
        """Pipelined behind a request that was still served when the client ended."""
        slow = self.listen()
        self.start(slow)
        client = await self.connect(self.request(to=slow), self.here(), b"early")
        origin = await slow.accepted()
        await until(lambda: origin.received)
        client.peer.end()
        await until(lambda: self.session().holder.ended)
        origin.write(head_of(b"HTTP/1.1 200 OK", b"Content-Length: 0"))
        upstream = await self.origins.accepted()
        await upstream.got(b"early")
        await upstream.ended()


class WaitingTests(ConnectCase):
    """While the upstream is being reached, and when it is not."""

    def setUp(self) -> None:
        super().setUp()
        self.upstream = FakeUpstream()
        self.start(fake=self.upstream)

    async def waiting(self, *first: bytes) -> HttpClient:
        count = len(self.upstream.asked)
        client = await self.connect(self.here(), *first)
        await until(lambda: len(self.upstream.asked) > count)
        return client

    async def test_not_before_it_is_there(self) -> None:
        client = await self.waiting()
        self.assertEqual(await settled(lambda: bytes(client.peer.received)), b"")
        self.assertRequests()
        arrival = await self.arrival(self.origins.port)
        self.upstream.last.callback(arrival)
        await client.peer.got(ESTABLISHED)
        client.peer.received.clear()
        await self.assertThrough(client, await self.origins.accepted())

    async def test_what_was_sent_meanwhile(self) -> None:
        """It is kept, within limits, and delivered first."""
        client = await self.waiting(b"one ")
        tunnel = self.session().holder
        client.ask(pattern(0, 1 << 20))
        await until(lambda: len(tunnel._early) > EARLY_LIMIT)
        kept = await settled(lambda: len(tunnel._early))
        self.assertLessEqual(kept, 3 * EARLY_LIMIT)
        arrival = await self.arrival(self.origins.port)
        self.upstream.last.callback(arrival)
        upstream = await self.origins.accepted()
        await upstream.got(b"one " + pattern(0, 1 << 20))
        self.assertEqual(self.session().received, client.sent)

    async def test_it_fails(self) -> None:
        """The client is told why, and nothing that it sent is taken for a request."""
        for error, status, text in (
            (ConnectionRefusedError(), 502, "Nothing listens there"),
            (NoRouteError(), 502, "no way there"),
            (DialTimeoutError(Destination("x.test", 443), 10.0), 504, "x.test:443 within 10.0 s"),
        ):
            for early in (b"", self.request(), b"\x16\x03\x01"):
                client = await self.waiting(early)
                self.upstream.last.errback(error)
                answer = await client.answer()
                self.assertError(answer, status, text)
                self.assertEqual(answer.field(b"connection"), b"close")
                client.ask(self.request())
                await client.closed()
        self.assertEqual(len(self.upstream.asked), 9)
        self.assertRequests(("CONNECT", "5xx", "proxy", 9))
        await until(lambda: not self.factory.ledger.live)

    async def test_at_once(self) -> None:
        """Before connect() returns: either way."""
        self.upstream.answer = lambda: fail(ConnectionRefusedError())
        client = await self.connect(self.here(), b"early")
        self.assertError(await client.answer(), 502)
        await client.closed()
        arrival = await self.arrival(self.origins.port)
        self.upstream.answer = lambda: succeed(arrival)
        client = await self.connect(self.here(), b"early")
        await client.peer.got(ESTABLISHED)
        await (await self.origins.accepted()).got(b"early")

    async def test_the_client_goes(self) -> None:
        client = await self.waiting()
        client.peer.reset()
        await self.ended_with(Reason.CLIENT_RESET)
        self.assertEqual(self.upstream.cancelled, 1)
        self.assertRequests()

    async def test_no_limit_of_http(self) -> None:
        """Neither while it waits nor later is it an HTTP connection any more."""
        client = await self.waiting()
        self.pass_time(200)
        self.assertEqual(await settled(lambda: bytes(client.peer.received), 5), b"")
        arrival = await self.arrival(self.origins.port)
        self.upstream.last.callback(arrival)
        await client.peer.got(ESTABLISHED)
        client.peer.received.clear()
        self.pass_time(200)
        await self.assertThrough(client, await self.origins.accepted())

    async def test_its_idle_limit(self) -> None:
        client = await self.waiting()
        arrival = await self.arrival(self.origins.port)
        self.upstream.last.callback(arrival)
        await client.peer.got(ESTABLISHED)
        for _ in range(int(self.factory.settings.timeouts.idle) // 10 + 1):
            self.pass_time(10)
            await turn()  # in which the watch looks
        await client.peer.ended()
        await self.ended_with(Reason.IDLE)
