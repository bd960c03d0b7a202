"""How long things may take on an HTTP connection, and what the client is told when they do not."""

from twisted.internet.error import ConnectionLost

from tests.http_peers import HttpCase, HttpClient, OriginPeer, chunked, head_of
from tests.peers import turn, until
from whatsproxy.reason import Reason

#: All different, so that none can stand in for another.
LIMITS = {"http_head": 10.0, "http_answer": 120.0, "idle": 300.0}
KEEPALIVE = 60.0
CHUNKED = b"Transfer-Encoding: chunked"


class DeadlineCase(HttpCase):
    def setUp(self) -> None:
        super().setUp()
        self.start(timeouts=LIMITS, http={"keepalive": KEEPALIVE})

    async def answered(self) -> tuple[HttpClient, OriginPeer]:
        """Return a client whose first request has been answered."""
        client, origin, _ = await self.asked()
        origin.answer()
        await client.answer()
        return client, origin

    async def silence(self, client: HttpClient, seconds: float) -> None:
        """So much time passes, and the client hears nothing."""
        self.pass_time(seconds)
        for _ in range(5):
            await turn()
        self.assertEqual(client.peer.received, b"")
        self.assertFalse(client.peer.eof or client.peer.lost)


class HeadTests(DeadlineCase):
    """timeouts.http_head: for the whole head, from its first byte on."""

    async def too_slow(self, client: HttpClient) -> None:
        answer = await client.answer()
        self.assertError(answer, 408, "request did not arrive in time", "[timeouts] http_head")
        self.assertEqual(answer.field(b"connection"), b"close")
        await self.left(client, Reason.REQUEST_TIMEOUT)

    async def test_the_first(self) -> None:
        client = await self.connect(self.request()[:-2])
        await self.taken(client)
        await self.silence(client, 9.9)
        self.clock.advance(0.2)
        await self.too_slow(client)
        self.assertRequests(("other", "4xx", "proxy", 1))

    async def test_byte_by_byte(self) -> None:
        """Single bytes do not extend it."""
        client = await self.connect(self.request()[:-20])
        for byte in self.request()[-20:-11]:
            await self.taken(client)
            await self.silence(client, 1)
            client.ask(bytes([byte]))
        await self.taken(client)
        await self.silence(client, 0.9)
        self.clock.advance(0.2)
        await self.too_slow(client)

    async def test_in_time(self) -> None:
        """Afterwards it is over: the answer has its own time."""
        client = await self.connect(self.request()[:-2])
        await self.taken(client)
        await self.silence(client, 9.5)
        client.ask(b"\r\n")
        origin = await self.origins.accepted()
        await origin.request()
        await self.silence(client, 100)
        origin.answer(b"late")
        self.assertEqual((await client.answer()).body, b"late")

    async def test_a_later_one(self) -> None:
        """It begins with the first byte, however long nothing was asked before."""
        client, _ = await self.answered()
        await self.silence(client, 55)
        client.ask(b"G")
        await self.taken(client)
        await self.silence(client, 9.5)
        client.ask(b"E")
        await self.taken(client)
        self.clock.advance(0.6)
        await self.too_slow(client)

    async def test_each_has_its_own(self) -> None:
        """Where one ends and the next begins in the same segment."""
        page = head_of(b"GET / HTTP/1.1", b"Host: x")
        client = await self.connect(page[:-2])
        for _ in range(3):
            await self.taken(client)
            await self.silence(client, 9)
            client.ask(b"\r\n" + page[:-2])
            self.assertEqual((await client.answer()).status, 200)
        await self.taken(client)
        await self.silence(client, 9.5)
        self.clock.advance(0.6)
        await self.too_slow(client)

    async def test_one_that_began_behind_a_request(self) -> None:
        """While another one is served it has time."""
        client, origin, _ = await self.asked(self.request(), self.request()[:-2])
        await self.silence(client, 100)
        origin.answer()
        await client.answer()
        await self.silence(client, 9.5)
        self.clock.advance(0.6)
        await self.too_slow(client)
        await origin.ended()


class KeepAliveTests(DeadlineCase):
    """http.keepalive: between two requests."""

    async def test_it_ends(self) -> None:
        """Without a word, and with the origin that was kept."""
        client, origin = await self.answered()
        await self.silence(client, 59.9)
        self.assertFalse(origin.eof)
        self.clock.advance(0.2)
        await origin.ended()
        await self.left(client, Reason.IDLE)

    async def test_each_answer_begins_it_anew(self) -> None:
        client, origin = await self.answered()
        for _ in range(3):
            await self.silence(client, 50)
            client.ask(self.request())
            await origin.request()
            await self.silence(client, 70)
            origin.answer()
            await client.answer()
        await self.silence(client, 59.9)
        self.clock.advance(0.2)
        await self.left(client, Reason.IDLE)

    async def test_each_answer_of_ours_begins_it_anew(self) -> None:
        """Though it is given as soon as the request is there."""
        client = await self.connect()
        for _ in range(4):
            client.ask(head_of(b"GET / HTTP/1.1", b"Host: x"))
            self.assertEqual((await client.answer()).status, 200)
            await self.silence(client, 50)
        self.pass_time(10)
        await self.left(client, Reason.IDLE)

    async def test_an_answer_of_ours(self) -> None:
        client = await self.connect(head_of(b"GET / HTTP/1.1", b"Host: x"))
        await client.answer()
        await self.silence(client, 59.9)
        self.clock.advance(0.2)
        await self.left(client, Reason.IDLE)


class AnswerTests(DeadlineCase):
    """timeouts.http_answer: for the upstream to begin its answer."""

    async def too_slow(self, client: HttpClient, origin: OriginPeer) -> None:
        answer = await client.answer()
        self.assertError(answer, 504, "upstream did not answer", "[timeouts] http_answer")
        self.assertTrue((await origin.gone()).check(ConnectionLost))
        self.assertRequests(("GET", "5xx", "proxy", 1))

    async def test_get(self) -> None:
        """The connection goes on."""
        client, origin, _ = await self.asked()
        await self.silence(client, 119.9)
        self.clock.advance(0.2)
        await self.too_slow(client, origin)
        client.ask(self.request())
        origin = await self.origins.accepted(2)
        await origin.request()
        origin.answer(b"next")
        self.assertEqual((await client.answer()).body, b"next")

    async def test_half_a_head(self) -> None:
        """Bytes of a head do not extend it, nor do interim answers begin the answer."""
        client, origin, _ = await self.asked()
        await self.silence(client, 60)
        origin.write(head_of(b"HTTP/1.1 103 Early Hints"))
        self.assertEqual((await client.answer()).status, 103)
        await self.silence(client, 59)
        origin.write(b"HTTP/1.1 200 OK\r\n")
        exchange = self.session().holder.exchange
        await until(lambda: exchange.origin.wire.buffered)
        self.clock.advance(1.1)
        await self.too_slow(client, origin)

    async def test_behind_a_body(self) -> None:
        """It begins when the body has been sent."""
        client = await self.connect(self.request(b"/", CHUNKED, method=b"GET"))
        origin = await self.origins.accepted()
        await origin.head()
        await self.silence(client, 200)
        client.ask(chunked(b"x"))
        await until(lambda: origin.received.endswith(b"0\r\n\r\n"))
        await self.silence(client, 119.9)
        self.clock.advance(0.2)
        await self.too_slow(client, origin)

    async def test_a_client_that_waits_for_100(self) -> None:
        """It sends no body before it is told to: the upstream is who is late."""
        client = await self.connect(
            self.request(b"/", b"Content-Length: 9", b"Expect: 100-continue", method=b"PUT")
        )
        origin = await self.origins.accepted()
        await origin.head()
        await self.silence(client, 119.9)
        self.clock.advance(0.2)
        self.assertEqual((await client.answer()).status, 504)
        await self.left(client, Reason.UPSTREAM_SILENT)

    async def test_a_kept_connection(self) -> None:
        client, origin = await self.answered()
        client.ask(self.request())
        await origin.request()
        await self.silence(client, 119.9)
        self.clock.advance(0.2)
        self.assertEqual((await client.answer()).status, 504)

    async def test_not_once_it_has_begun(self) -> None:
        """An answer that came before the request's body had ended is in time already."""
        client = await self.connect(self.request(b"/", CHUNKED, method=b"PUT"))
        origin = await self.origins.accepted()
        await origin.head()
        origin.write(head_of(b"HTTP/1.1 200 OK", b"Content-Length: 4"))
        await until(lambda: client.peer.received)
        client.ask(chunked(b"x"))
        await until(lambda: origin.received.endswith(b"0\r\n\r\n"))
        self.pass_time(200)
        origin.write(b"late")
        answer = await client.answer()
        self.assertEqual((answer.body, answer.complete), (b"late", True))


class IdleTests(DeadlineCase):
    """timeouts.idle: in the middle of a body."""

    async def test_the_request(self) -> None:
        """Each piece extends it; then the client hears why, and the origin gets no end."""
        client = await self.connect(self.request(b"/", CHUNKED, method=b"PUT"))
        origin = await self.origins.accepted()
        await origin.head()
        for _ in range(3):
            await self.silence(client, 299)
            client.ask(b"1\r\nx\r\n")
            await self.taken(client)
        await self.silence(client, 299.9)
        self.clock.advance(0.2)
        answer = await client.answer()
        self.assertError(answer, 408, "[timeouts] http_head, idle")
        self.assertEqual(answer.field(b"connection"), b"close")
        self.assertTrue((await origin.gone()).check(ConnectionLost))
        await self.left(client, Reason.REQUEST_TIMEOUT)

    async def answering(self, version: bytes) -> tuple[HttpClient, OriginPeer]:
        client, origin, _ = await self.asked(self.request(version=version))
        origin.write(head_of(b"HTTP/1.1 200 OK", b"Content-Length: 9"))
        for _ in range(3):
            await until(lambda: client.peer.received)
            client.peer.received.clear()
            await self.silence(client, 299)
            origin.write(b"x")
        await until(lambda: client.peer.received)
        client.peer.received.clear()
        await self.silence(client, 299.9)
        self.clock.advance(0.2)
        self.assertTrue((await origin.gone()).check(ConnectionLost))
        return client, origin

    async def test_the_answer(self) -> None:
        """Each piece extends it; then it ends, with bytes missing."""
        client, _ = await self.answering(b"1.1")
        await self.left(client, Reason.IDLE)

    async def test_the_answer_to_an_old_client(self) -> None:
        client, _ = await self.answering(b"1.0")
        self.assertTrue((await client.peer.gone()).check(ConnectionLost))
        await self.ended_with(Reason.IDLE)

    async def test_a_farewell(self) -> None:
        """The answer to a request that was late is kept for a slow reader so long, no longer."""
        client = await self.connect(self.request()[:-2])
        await self.taken(client)
        client.peer.transport.pauseProducing()
        self.pass_time(10.1)
        for _ in range(5):
            await turn()
        self.assertEqual(len(self.factory.ledger.live), 1)
        self.pass_time(300)
        await self.ended_with(Reason.REQUEST_TIMEOUT)
