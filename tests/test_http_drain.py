"""A service that stops: what HTTP connections still get, and when they end."""

from tests.http_cases import ReuseCase
from tests.http_peers import HttpCase, HttpClient, OriginPeer, chunked, head_of
from tests.peers import settled, turn, until
from tests.support import FakeUpstream
from whatsproxy.factory import GRACE
from whatsproxy.lingering import LINGER
from whatsproxy.reason import Reason

CHUNKED = b"Transfer-Encoding: chunked"


class IdleTests(ReuseCase):
    """Connections that only wait for a request."""

    async def test_after_an_answer(self) -> None:
        """It ends at once, in order; so does the origin's that was kept."""
        self.start()
        client, origin = await self.kept()
        self.factory.drain()
        self.assertTrue(self.factory.draining)
        await origin.ended()
        await self.left(client, Reason.DRAINING)

    async def test_a_client_that_stays(self) -> None:
        """It is told; whether it goes or not, it does not hold up the end."""
        self.start()
        client, _ = await self.kept()
        self.factory.drain()
        await client.peer.ended()
        self.assertEqual(len(self.factory.ledger.live), 1)
        self.pass_time(LINGER)
        await self.ended_with(Reason.DRAINING)

    async def test_one_drain_is_enough(self) -> None:
        """Whatever comes after it changes nothing."""
        self.start()
        client, _ = await self.kept()
        self.factory.drain()
        self.factory.drain()
        client.ask(self.request())
        await self.left(client, Reason.DRAINING)

    async def test_in_the_middle_of_a_head(self) -> None:
        """The request is still read, and refused."""
        self.start()
        client, _ = await self.kept(self.request()[:-2])
        await until(lambda: self.session().holder.wire.buffered)
        self.factory.drain()
        self.assertEqual(await settled(lambda: client.peer.eof), False)
        client.ask(b"\r\n")
        answer = await client.answer()
        self.assertError(answer, 503, "stopping", "try again soon")
        self.assertEqual(answer.field(b"connection"), b"close")
        await self.left(client, Reason.DRAINING)
        self.assertRequests(("GET", "2xx", "upstream", 1), ("GET", "5xx", "proxy", 1))

    async def test_a_head_that_never_ends(self) -> None:
        self.start()
        client, _ = await self.kept(self.request()[:-2])
        await until(lambda: self.session().holder.wire.buffered)
        self.factory.drain()
        self.pass_time(self.factory.settings.timeouts.http_head)
        self.assertEqual((await client.answer()).status, 408)
        await self.left(client, Reason.REQUEST_TIMEOUT)

    async def test_before_the_first_request(self) -> None:
        """Nothing new begins, for who has begun to say what it wants; who has not is let go."""
        self.start()
        silent, begun = await self.connect(), await self.connect(b"GE")
        await until(lambda: sum(bool(s.holder.buffer) for s in self.factory.ledger.live) == 1)
        await until(lambda: len(self.factory.ledger.live) == 2)
        self.factory.drain()
        begun.ask(self.request()[2:])
        self.assertError(await begun.answer(), 503)
        self.assertFalse(silent.peer.eof)
        self.pass_time(GRACE)
        for client in (silent, begun):
            await client.peer.ended()
            client.peer.close()
        await self.ended_with(Reason.DRAINING, Reason.NO_DATA)
        self.assertEqual(self.origins.peers, [])

    async def test_grace_is_no_gift(self) -> None:
        """Who is silent and would be let go sooner, is."""
        self.start()
        silent = await self.connect()
        await until(lambda: self.factory.ledger.live)
        sniffing = self.factory.sniffing.seconds
        self.pass_time(sniffing - GRACE / 10)
        self.factory.drain()
        self.pass_time(GRACE / 10)
        await silent.peer.ended()
        silent.peer.close()
        await self.ended_with(Reason.NO_DATA)

    async def test_each_kind_of_request(self) -> None:
        """CONNECT, a page, a body: all of them are refused."""
        self.start()
        self.factory.drain()
        for request in (
            self.request(method=b"POST", body=b"x"),
            self.request(b"/", CHUNKED, method=b"POST") + chunked(b"x"),
            head_of(b"CONNECT 127.0.0.1:%d HTTP/1.1" % self.origins.port, b"Host: 127.0.0.1"),
            head_of(b"GET / HTTP/1.1", b"Host: x"),
        ):
            client = await self.connect(request)
            self.assertError(await client.answer(), 503)
            await client.closed()
        await self.ended_with(*[Reason.DRAINING] * 4)
        self.assertEqual(self.origins.peers, [])


class UnderWayTests(HttpCase):
    """Requests that are being served are served to their end."""

    async def test_before_the_head(self) -> None:
        """The answer says that it is the last."""
        self.start()
        client, origin, _ = await self.asked()
        self.factory.drain()
        self.assertEqual(await settled(lambda: client.peer.eof), False)
        origin.answer(b"last")
        answer = await client.answer()
        self.assertEqual((answer.body, answer.field(b"connection")), (b"last", b"close"))
        await origin.ended()
        await self.left(client, Reason.ANSWERED)

    async def test_behind_the_head(self) -> None:
        """It could not say so any more: it ends behind the answer."""
        self.start()
        client, origin, _ = await self.asked()
        origin.write(head_of(b"HTTP/1.1 200 OK", b"Content-Length: 8") + b"half")
        await until(lambda: client.peer.received.endswith(b"half"))
        self.factory.drain()
        self.assertEqual(await settled(lambda: client.peer.eof), False)
        origin.write(b"rest")
        answer = await client.answer()
        self.assertEqual((answer.body, answer.complete), (b"halfrest", True))
        self.assertIsNone(answer.field(b"connection"))
        await origin.ended()
        await self.left(client, Reason.DRAINING)

    async def test_a_pipelined_request(self) -> None:
        """It is not served: a close says that the client may ask somebody else."""
        self.start()
        for part in (b"", head_of(b"HTTP/1.1 200 OK", b"Content-Length: 4")):
            self.factory.draining = False
            number = len(self.origins.peers) + 1
            client, origin, _ = await self.asked(self.request(), self.request(b"/2"))
            origin.write(part)
            await until(lambda c=client, p=part: len(c.peer.received) >= len(p))
            self.factory.drain()
            origin.write(b"last") if part else origin.answer(b"last")
            self.assertEqual((await client.answer()).body, b"last")
            await client.peer.ended()
            if client.peer.received:
                self.assertError(await client.answer(), 503)
            await client.closed()
            self.assertEqual((len(self.origins.peers), origin.received), (number, b""))

    async def test_a_request_in_its_body(self) -> None:
        self.start()
        client = await self.connect(self.request(b"/", CHUNKED, method=b"PUT"))
        origin = await self.origins.accepted()
        await origin.head()
        self.factory.drain()
        client.ask(chunked(b"x"))
        await until(lambda: origin.received.endswith(b"0\r\n\r\n"))
        origin.answer(b"last")
        answer = await client.answer()
        self.assertEqual((answer.body, answer.field(b"connection")), (b"last", b"close"))
        await self.left(client, Reason.ANSWERED)

    async def test_while_connecting(self) -> None:
        upstream = FakeUpstream()
        self.start(fake=upstream)
        client = await self.connect(self.request())
        await until(lambda: upstream.asked)
        self.factory.drain()
        arrival = await self.arrival(self.origins.port)
        upstream.last.callback(arrival)
        origin = await self.origins.accepted()
        await origin.request()
        origin.answer(b"last")
        answer = await client.answer()
        self.assertEqual((answer.body, answer.field(b"connection")), (b"last", b"close"))
        await self.left(client, Reason.ANSWERED)

    async def test_a_failure(self) -> None:
        """The client is told, and that it is the last."""
        self.start()
        client, origin, _ = await self.asked()
        self.factory.drain()
        origin.reset()
        answer = await client.answer()
        self.assertError(answer, 502)
        self.assertEqual(answer.field(b"connection"), b"close")
        await self.left(client, Reason.UPSTREAM_RESET)

    async def test_a_farewell(self) -> None:
        """A connection that is ending anyway ends once."""
        self.start()
        client = await self.connect(self.request(b"/", b"Content-Length: 1", b"Content-Length: 1"))
        await client.peer.ended()
        self.factory.drain()
        for _ in range(5):
            await turn()
        self.assertEqual((await client.answer()).status, 400)
        await self.left(client, Reason.BAD_REQUEST)


class TunnelTests(HttpCase):
    """A tunnel has no answer behind which it could end."""

    async def open(self, client: HttpClient, origin: OriginPeer) -> None:
        for number in range(3):
            client.ask(b"to %d" % number)
            await until(lambda n=number: origin.received.endswith(b"to %d" % n))
            origin.write(b"from %d" % number)
            await until(lambda n=number: client.peer.received.endswith(b"from %d" % n))
        self.assertFalse(client.peer.eof or origin.eof)

    async def test_connect(self) -> None:
        self.start()
        client = await self.connect(
            head_of(b"CONNECT 127.0.0.1:%d HTTP/1.1" % self.origins.port, b"Host: 127.0.0.1")
        )
        origin = await self.origins.accepted()
        self.assertEqual((await client.answer(bodiless=True)).status, 200)
        self.factory.drain()
        await self.open(client, origin)

    async def test_upgraded(self) -> None:
        self.start()
        client, origin, _ = await self.asked(
            self.request(b"/", b"Connection: Upgrade", b"Upgrade: x")
        )
        self.factory.drain()
        origin.write(
            head_of(b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: x")
        )
        self.assertEqual((await client.answer()).status, 101)
        self.factory.drain()
        await self.open(client, origin)
