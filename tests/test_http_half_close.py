"""HTTP clients that end their direction, at every stage; and answers that come too early."""

from twisted.internet.defer import succeed
from twisted.internet.error import (
    ConnectionLost,
    ConnectionRefusedError,
)

from tests.http_peers import HttpCase, HttpClient, OriginPeer, chunked, head_of
from tests.peers import turn, until
from tests.support import FakeUpstream
from whatsproxy.reason import Reason

CHUNKED = b"Transfer-Encoding: chunked"
HEAD = head_of(b"HTTP/1.1 200 OK", b"Content-Length: 10")


class HalfCloseTests(HttpCase):
    """The client ends its direction, and waits for what it has asked for."""

    def setUp(self) -> None:
        super().setUp()
        self.start()

    async def test_behind_its_request(self) -> None:
        for method, body in ((b"GET", None), (b"POST", b"form")):
            client, origin, asked = await self.asked(self.request(method=method, body=body))
            self.assertEqual(asked.body, body or b"")
            client.peer.end()
            await until(lambda: self.session().holder.ended)
            origin.answer(b"answer" * 1000)
            answer = await client.answer()
            self.assertEqual(answer.body, b"answer" * 1000)
            self.assertEqual(answer.field(b"connection"), b"close")
            await client.peer.ended()
            await until(lambda: not self.factory.ledger.live)
            await origin.ended()
        await self.ended_with(Reason.ANSWERED, Reason.ANSWERED)

    async def test_in_the_answer(self) -> None:
        """Its head has gone out already."""
        client, origin, _ = await self.asked()
        origin.write(HEAD + b"half")
        await until(lambda: client.peer.received.endswith(b"half"))
        client.peer.end()
        await until(lambda: self.session().holder.ended)
        origin.write(b"other!")
        self.assertEqual((await client.answer()).body, b"halfother!")
        await self.left(client, Reason.CLIENT_CLOSED)

    async def test_behind_several(self) -> None:
        """Each of them is answered; the last one says that it is the last."""
        client, origin, asked = await self.asked(*[self.request(b"/%d" % n) for n in range(3)])
        client.peer.end()
        await until(lambda: self.session().holder.ended)
        for number in range(3):
            self.assertEqual(asked.line, b"GET /%d HTTP/1.1" % number)
            origin.answer(b"%d" % number)
            answer = await client.answer()
            self.assertEqual(answer.body, b"%d" % number)
            self.assertEqual(answer.field(b"connection"), b"close" if number == 2 else None)
            if number < 2:
                asked = await origin.request()
        await client.closed()
        await until(lambda: not self.factory.ledger.live)

    async def test_behind_several_of_ours(self) -> None:
        """The same with answers that need no origin."""
        page = head_of(b"GET / HTTP/1.1", b"Host: x")
        client = await self.connect(page * 3)
        client.peer.end()
        for _ in range(3):
            self.assertEqual((await client.answer()).status, 200)
        await client.closed()
        await until(lambda: not self.factory.ledger.live)

    async def test_in_the_middle_of_a_head(self) -> None:
        client = await self.connect(self.request()[:-2])
        client.peer.end()
        answer = await client.answer()
        self.assertError(answer, 400, "in the middle")
        self.assertEqual(answer.field(b"connection"), b"close")
        await self.left(client, Reason.BAD_REQUEST)
        self.assertEqual(self.origins.peers, [])

    async def test_in_the_middle_of_a_body(self) -> None:
        """The origin must not take it for the whole."""
        for fields, part in (((b"Content-Length: 9",), b"x"), ((CHUNKED,), b"5\r\nx")):
            number = len(self.origins.peers) + 1
            client = await self.connect(self.request(b"/", *fields, method=b"PUT"), part)
            origin = await self.origins.accepted(number)
            await origin.head()
            await until(lambda o=origin: o.received)
            client.peer.end()
            self.assertError(await client.answer(), 400)
            self.assertTrue((await origin.gone()).check(ConnectionLost))
            await client.closed()
        await self.ended_with(Reason.BAD_REQUEST, Reason.BAD_REQUEST)

    async def test_between_two_chunks(self) -> None:
        client = await self.connect(self.request(b"/", CHUNKED, method=b"PUT"), b"1\r\nx\r\n")
        origin = await self.origins.accepted()
        await origin.head()
        client.peer.end()
        self.assertError(await client.answer(), 400)
        self.assertTrue((await origin.gone()).check(ConnectionLost))
        self.assertNotIn(b"0\r\n\r\n", origin.received)
        await self.left(client, Reason.BAD_REQUEST)

    async def test_idle(self) -> None:
        client, origin, _ = await self.asked()
        origin.answer()
        await client.answer()
        client.peer.end()
        await self.left(client, Reason.CLIENT_CLOSED)


class ConnectingTests(HttpCase):
    """What the client does while its upstream is being reached."""

    def setUp(self) -> None:
        super().setUp()
        self.upstream = FakeUpstream()
        self.start(fake=self.upstream)

    async def waiting(self, *first: bytes) -> HttpClient:
        client = await self.connect(*first)
        await until(lambda: self.upstream.asked)
        return client

    async def arrive(self) -> OriginPeer:
        arrival = await self.arrival(self.origins.port)
        self.upstream.last.callback(arrival)
        return await self.origins.accepted()

    async def test_it_ends(self) -> None:
        client = await self.waiting(self.request())
        client.peer.end()
        await until(lambda: self.session().holder.ended)
        origin = await self.arrive()
        await origin.request()
        origin.answer(b"answer")
        self.assertEqual((await client.answer()).body, b"answer")
        await self.left(client, Reason.ANSWERED)

    async def test_it_ends_and_there_is_no_upstream(self) -> None:
        client = await self.waiting(self.request())
        client.peer.end()
        await until(lambda: self.session().holder.ended)
        self.upstream.last.errback(ConnectionRefusedError())
        answer = await client.answer()
        self.assertError(answer, 502)
        self.assertEqual(answer.field(b"connection"), b"close")
        await self.left(client, Reason.UPSTREAM_REFUSED)

    async def test_it_ends_in_its_body(self) -> None:
        client = await self.waiting(self.request(b"/", b"Content-Length: 9", method=b"PUT"), b"x")
        client.peer.end()
        await until(lambda: self.session().holder.ended)
        origin = await self.arrive()
        self.assertError(await client.answer(), 400)
        await until(lambda: origin.lost or origin.eof)
        await self.left(client, Reason.BAD_REQUEST)

    async def test_its_body_is_bad(self) -> None:
        """It is found out when it is to be sent."""
        client = await self.waiting(self.request(b"/", CHUNKED, method=b"PUT"), b"evil\r\n")
        origin = await self.arrive()
        answer = await client.answer()
        self.assertError(answer, 400, "chunk")
        self.assertEqual(answer.field(b"connection"), b"close")
        await until(lambda: origin.lost or origin.eof)
        await self.left(client, Reason.BAD_REQUEST)

    async def test_its_body_is_here(self) -> None:
        client = await self.waiting(self.request(method=b"PUT", body=b"x" * 1000))
        client.ask(self.request(b"/2"))
        origin = await self.arrive()
        self.assertEqual((await origin.request()).body, b"x" * 1000)
        origin.answer()
        await client.answer()
        self.assertEqual((await origin.request()).line, b"GET /2 HTTP/1.1")

    async def test_the_upstream_is_there_at_once(self) -> None:
        """Before connect() returns."""
        arrival = await self.arrival(self.origins.port)
        self.upstream.answer = lambda: succeed(arrival)
        client = await self.connect(self.request(method=b"PUT", body=b"x"), self.request(b"/2"))
        origin = await self.origins.accepted()
        self.assertEqual((await origin.request()).body, b"x")
        origin.answer(b"1")
        self.assertEqual((await client.answer()).body, b"1")
        await origin.request()


class EarlyAnswerTests(HttpCase):
    """A final answer while the request's body is still on its way."""

    def setUp(self) -> None:
        super().setUp()
        self.start()

    async def uploading(self) -> tuple[HttpClient, OriginPeer]:
        client = await self.connect(
            self.request(b"/", b"Content-Length: 100000", method=b"PUT"), b"x" * 1000
        )
        origin = await self.origins.accepted()
        await origin.head()
        await origin.got(b"x" * 1000)
        return client, origin

    async def test_it_is_the_last(self) -> None:
        """What is left of the body must not be taken for a request, and destroys no answer."""
        client, origin = await self.uploading()
        origin.answer(b"too large", status=b"413 Too Large")
        answer = await client.answer()
        self.assertEqual((answer.status, answer.body), (413, b"too large"))
        self.assertEqual(answer.field(b"connection"), b"close")
        client.ask(b"x" * 50000)
        for _ in range(10):
            await turn()
        self.assertIsNone(client.peer.lost)
        await self.left(client, Reason.ANSWERED)
        await until(lambda: origin.eof or origin.lost)

    async def test_the_origin_closes_behind_it(self) -> None:
        client, origin = await self.uploading()
        origin.answer(b"no", b"Connection: close", status=b"403 Forbidden")
        origin.close()
        answer = await client.answer()
        self.assertEqual((answer.status, answer.body), (403, b"no"))
        client.ask(b"x" * 99000)
        await self.left(client, Reason.ANSWERED)

    async def test_both_go_on(self) -> None:
        """An answer that has begun goes on beside the body, as long as both take."""
        client, origin = await self.uploading()
        origin.write(head_of(b"HTTP/1.1 200 OK", CHUNKED))
        for number in range(5):
            origin.write(b"1\r\n%d\r\n" % number)
            await until(lambda n=number: client.peer.received.endswith(b"1\r\n%d\r\n" % n))
            client.ask(b"y" * 1000)
            await until(lambda n=number: len(origin.received) == (n + 2) * 1000)
        client.ask(b"z" * 94000)
        await until(lambda: len(origin.received) == 100000)
        origin.write(chunked())
        answer = await client.answer()
        self.assertEqual((answer.body, answer.complete), (b"01234", True))
        self.assertEqual(answer.field(b"connection"), b"close")
        await self.left(client, Reason.ANSWERED)

    async def test_the_body_turns_out_bad(self) -> None:
        """In the middle of an answer only a truncation can tell."""
        client = await self.connect(self.request(b"/", CHUNKED, method=b"PUT"))
        origin = await self.origins.accepted()
        await origin.head()
        origin.write(HEAD + b"half")
        await until(lambda: client.peer.received.endswith(b"half"))
        client.ask(b"evil\r\n")
        answer = await client.answer()
        self.assertEqual((answer.status, answer.body, answer.complete), (200, b"half", False))
        await self.left(client, Reason.BAD_REQUEST)
        await until(lambda: origin.eof or origin.lost)
