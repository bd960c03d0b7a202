"""Much HTTP at once, in small pieces: nobody is kept waiting by it, and nothing is lost."""

from tests.flood import pattern
from tests.http_peers import HttpCase, cut_message, head_of
from tests.peers import turn, until
from whatsproxy.reason import Reason


class CrowdTests(HttpCase):
    def setUp(self) -> None:
        super().setUp()
        self.start()

    CHUNKED = b"Transfer-Encoding: chunked"
    BODY = pattern(0, 5000)
    CHUNKS = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"

    async def test_an_answer_of_many_chunks(self) -> None:
        """And the origin's end right behind it."""
        for ends in (False, True):
            client, origin, _ = await self.asked()
            origin.write(head_of(b"HTTP/1.1 200 OK", self.CHUNKED) + self.CHUNKS)
            if ends:
                origin.end()
            answer = await client.answer()
            self.assertTrue(answer.body == self.BODY)
            client.ask(self.request(b"/next"))
            origin = await self.origins.accepted(3) if ends else origin
            self.assertEqual((await origin.request()).line, b"GET /next HTTP/1.1")
            origin.answer(b"next")
            self.assertEqual((await client.answer()).body, b"next")

    async def test_a_truncated_answer_of_many_chunks(self) -> None:
        """All that came of it is delivered, and it does not look whole."""
        client, origin, _ = await self.asked()
        origin.write(head_of(b"HTTP/1.1 200 OK", self.CHUNKED) + self.CHUNKS[:-5])
        origin.end()
        answer = await client.answer()
        self.assertTrue(answer.body == self.BODY)
        self.assertFalse(answer.complete)
        await self.left(client, Reason.UPSTREAM_RESET)

    async def test_a_request_of_many_chunks(self) -> None:
        """With a further request behind it, and the client's end behind that."""
        client = await self.connect(
            self.request(b"/", self.CHUNKED, method=b"PUT"), self.CHUNKS, self.request(b"/next")
        )
        client.peer.end()
        origin = await self.origins.accepted()
        self.assertTrue((await origin.request()).body == self.BODY)
        origin.answer(b"1")
        self.assertEqual((await client.answer()).body, b"1")
        self.assertEqual((await origin.request()).line, b"GET /next HTTP/1.1")
        origin.answer(b"2")
        self.assertEqual((await client.answer()).body, b"2")
        await client.closed()

    async def test_many_requests_and_an_end(self) -> None:
        page = head_of(b"GET / HTTP/1.1", b"Host: x")
        client = await self.connect(page * 1000)
        client.peer.end()
        await client.peer.ended()
        answers = 0
        while cut_message(client.peer.received) is not None:
            answers += 1
        self.assertEqual((answers, client.peer.received), (1000, b""))

    async def test_others_have_their_turn(self) -> None:
        """Somebody's crowd of chunks is not all served before the next one's request."""
        busy, origin, _ = await self.asked()
        origin.write(head_of(b"HTTP/1.1 200 OK", self.CHUNKED))
        await until(lambda: busy.peer.received)
        served: list[int] = []
        (holder,) = [session.holder for session in self.factory.ledger.live]
        other = await self.connect(head_of(b"GET / HTTP/1.1", b"Host: x"))
        await other.answer()
        origin.transport.getHandle().send(self.CHUNKS[:30000])
        other.peer.transport.getHandle().send(head_of(b"GET / HTTP/1.1", b"Host: x"))
        while not other.peer.received:
            await turn()
            served.append(holder.session.sent)
        self.assertLess(holder.session.sent, 30000)

    async def test_whoever_goes_in_the_middle(self) -> None:
        """Neither end leaves anything behind."""
        for goes in ("client", "origin", "service"):
            client, origin, _ = await self.asked()
            session = self.session()
            origin.write(head_of(b"HTTP/1.1 200 OK", self.CHUNKED) + self.CHUNKS[:-5])
            client.ask(head_of(b"GET / HTTP/1.1", b"Host: x") * 1000)
            await until(lambda s=session: s.sent > 1000)
            if goes == "client":
                client.peer.reset()
            elif goes == "origin":
                origin.reset()
            else:
                session.holder.abort(Reason.SHUTDOWN)
            await client.peer.ended()
            client.peer.reset()
            await until(lambda: not self.factory.ledger.live)
            await until(lambda o=origin: o.eof or o.lost)
