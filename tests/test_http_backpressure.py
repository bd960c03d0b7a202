"""HTTP bodies and pipelines that somebody does not read: who sends them has to wait."""

import socket
from typing import Any

from tests.flood import PIECE, Flood, Slow, buffered, pattern, slow_down
from tests.http_peers import HttpCase, HttpClient, OriginPeer, chunked, head_of
from tests.peers import settled, turn, until
from whatsproxy.lingering import LINGER
from whatsproxy.protocols.client_leg import PIPELINE_LIMIT
from whatsproxy.reason import Reason
from whatsproxy.splice import PIPE_SIZE

MIB = 1 << 20
#: A transport's limit for its buffer, or what a pipe holds, and one read on top of that.
BUFFER_LIMIT = PIPE_SIZE + 64 * 1024
#: What the kernel may hold of one connection, on both of its ends.
KERNEL = 24 * MIB


class BackpressureCase(HttpCase):
    def setUp(self) -> None:
        super().setUp()
        self.start()

    def leg(self) -> Any:
        return self.session().holder

    async def stalled_answer(
        self, size: int, version: bytes = b"1.1", *, length: bool = True
    ) -> tuple[Slow, Flood, OriginPeer]:
        """Return a client that stands still in a large answer, and who sends that."""
        client, origin, _ = await self.asked(self.request(version=version))
        framing = (b"Content-Length: %d" % size,) if length else ()
        origin.write(head_of(b"HTTP/1.1 200 OK", *framing))
        await client.answer(bodiless=True)
        slow = slow_down(client.peer)
        flood = Flood(origin, size)
        leg = self.leg()
        await until(lambda: leg._full, "the client's buffer never was full")
        await settled(lambda: (leg.session.sent, flood.sent))
        return slow, flood, origin

    async def stalled_upload(self, size: int) -> tuple[Slow, Flood, HttpClient]:
        """Return an origin that stands still in a large request, and who sends that."""
        client = await self.connect(self.request(b"/", b"Content-Length: %d" % size, method=b"PUT"))
        origin = await self.origins.accepted()
        await origin.head()
        slow = slow_down(origin)
        flood = Flood(client.peer, size)
        leg = self.leg()
        await until(lambda: leg.exchange.full, "the origin's buffer never was full")
        await settled(lambda: (leg.session.received, flood.sent))
        return slow, flood, client


class AnswerTests(BackpressureCase):
    async def check(self, version: bytes, *, length: bool) -> None:
        size = 64 * MIB
        slow, flood, _ = await self.stalled_answer(size, version, length=length)
        leg = self.leg()
        self.assertLessEqual(buffered(leg.transport), BUFFER_LIMIT)
        self.assertEqual(leg.exchange.origin.wire.buffered, 0)
        self.assertLess(leg.session.sent, KERNEL)
        self.assertLess(flood.sent, 2 * KERNEL)
        most = 0

        def watch() -> None:
            nonlocal most
            most = max(most, buffered(leg.transport))

        slow.watch = watch
        slow.go_on()
        await slow.counted(size)
        self.assertLessEqual(most, BUFFER_LIMIT)
        if version == b"1.0":
            await slow.ended()
            slow.close()
            await self.ended_with(Reason.ANSWERED)

    async def test_a_stalled_client(self) -> None:
        """A large answer waits for its reader; then all of it arrives, and the next may come."""
        await self.check(b"1.1", length=True)
        leg = self.leg()
        await until(lambda: leg.exchange is None)
        self.assertTrue(leg._reading)

    async def test_a_stalled_old_client(self) -> None:
        """The same where the end of the connection is the end of the answer."""
        await self.check(b"1.0", length=False)

    async def test_it_takes_too_long(self) -> None:
        """timeouts.idle: the origin is given up, and after as long again the client."""
        _, _, origin = await self.stalled_answer(64 * MIB)
        self.pass_time(301)
        origin.transport.resumeProducing()
        await origin.gone()
        self.pass_time(290)
        for _ in range(10):
            await turn()
        self.assertEqual(len(self.factory.ledger.live), 1)
        self.pass_time(20)
        await self.ended_with(Reason.IDLE)

    async def test_the_client_goes(self) -> None:
        slow, _, origin = await self.stalled_answer(64 * MIB)
        slow.reset()
        await origin.gone()
        await self.ended_with(Reason.CLIENT_RESET)

    async def test_the_origin_goes(self) -> None:
        """What had come of the answer is delivered; the rest is missing."""
        slow, _, origin = await self.stalled_answer(64 * MIB)
        origin.reset()
        slow.go_on()
        await slow.ended()
        slow.close()
        await self.ended_with(Reason.UPSTREAM_RESET)
        self.assertGreater(slow.count, 0)
        self.assertLess(slow.count, 64 * MIB)

    async def test_the_service_aborts(self) -> None:
        slow, _, origin = await self.stalled_answer(64 * MIB)
        self.leg().abort(Reason.SHUTDOWN)
        await origin.gone()
        await self.ended_with(Reason.SHUTDOWN)
        slow.go_on()
        await slow.gone()


class UploadTests(BackpressureCase):
    async def test_a_stalled_origin(self) -> None:
        """A large request waits for who reads it, and arrives."""
        size = 64 * MIB
        slow, flood, client = await self.stalled_upload(size)
        leg = self.leg()
        through = leg.exchange.origin.transport
        self.assertLessEqual(buffered(through), BUFFER_LIMIT)
        self.assertLessEqual(leg.wire.buffered, BUFFER_LIMIT)
        self.assertLess(leg.session.received, KERNEL)
        self.assertLess(flood.sent, 2 * KERNEL)
        most = 0

        def watch() -> None:
            nonlocal most
            most = max(most, buffered(through) + leg.wire.buffered)

        slow.watch = watch
        slow.go_on()
        await slow.counted(size)
        self.assertLessEqual(most, 2 * BUFFER_LIMIT)
        slow.write(head_of(b"HTTP/1.1 200 OK", b"Content-Length: 2") + b"ok")
        self.assertEqual((await client.answer()).body, b"ok")
        await self.left(client, Reason.ANSWERED)

    async def test_it_takes_too_long(self) -> None:
        """It is the upstream that keeps everybody waiting, and the client is told."""
        _, _, client = await self.stalled_upload(64 * MIB)
        self.pass_time(301)
        answer = await client.answer()
        self.assertError(answer, 504)
        self.assertEqual(answer.field(b"connection"), b"close")
        self.pass_time(LINGER)  # it goes on sending
        await self.ended_with(Reason.UPSTREAM_SILENT)

    async def test_an_answer_all_the_same(self) -> None:
        """An origin that reads no more may have said why."""
        slow, _, client = await self.stalled_upload(64 * MIB)
        slow.write(head_of(b"HTTP/1.1 413 Too Large", b"Content-Length: 2") + b"no")
        answer = await client.answer()
        self.assertEqual((answer.status, answer.body), (413, b"no"))
        self.assertEqual(answer.field(b"connection"), b"close")
        self.pass_time(LINGER)
        await self.ended_with(Reason.ANSWERED)

    async def test_the_other_direction_goes_on(self) -> None:
        """A large answer to a request that stands still."""
        slow, _, client = await self.stalled_upload(64 * MIB)
        body = pattern(0, MIB)
        slow.write(head_of(b"HTTP/1.1 200 OK", b"Content-Length: %d" % (2 * MIB)))
        slow.write(body)
        slow.write(body)
        self.assertTrue((await client.answer()).body == body + body)
        self.pass_time(LINGER)

    async def test_the_origin_goes(self) -> None:
        slow, _, client = await self.stalled_upload(64 * MIB)
        slow.reset()
        answer = await client.answer()
        self.assertError(answer, 502)
        self.assertEqual(answer.field(b"connection"), b"close")
        self.pass_time(LINGER)
        await self.ended_with(Reason.UPSTREAM_RESET)


class PipelineTests(BackpressureCase):
    PAD = b"X-Pad: " + b"x" * 1000

    async def held_back(self, client: HttpClient) -> None:
        """The proxy does not take all that the client has to say, and keeps little of it."""
        leg = self.leg()
        await settled(lambda: (leg.wire.buffered, leg.session.sent))
        self.assertLessEqual(leg.wire.buffered, PIPELINE_LIMIT + 64 * 1024)
        self.assertLessEqual(buffered(leg.transport), BUFFER_LIMIT)
        self.assertGreater(buffered(client.peer.transport), 0)

    async def test_who_asks_and_never_reads(self) -> None:
        """Answers of ours wait for their reader as others do; in the end each has come."""
        count = 8000
        page = head_of(b"GET /x HTTP/1.1", b"Host: x", self.PAD)
        client = await self.connect(page)
        await client.answer()
        leg = self.leg()
        # Not the client's SO_RCVBUF: where a window shrinks the kernel drops what is on its way,
        # acknowledgements of the client's own bytes too.
        for handle in (leg.transport.getHandle(), client.peer.transport.getHandle()):
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
        client.peer.transport.pauseProducing()
        client.ask(page * count)
        await until(lambda: leg._full)
        await self.held_back(client)
        self.assertEqual(len(self.factory.ledger.live), 1)
        client.peer.transport.resumeProducing()
        size = len(client.peer.received)
        await until(lambda: buffered(client.peer.transport) == 0, "never read", 20)
        await settled(lambda: len(client.peer.received), 100)
        received = bytes(client.peer.received[size:])
        self.assertEqual(received.count(b"HTTP/1.1 404 Not Found\r\n"), count)
        self.assertEqual(len(received) % count, 0)
        self.assertRequests(("GET", "4xx", "proxy", count + 1))

    async def test_who_asks_while_an_answer_is_under_way(self) -> None:
        """It has to wait beyond PIPELINE_LIMIT, however long the answer takes."""
        request = self.request(b"/next", *[b"X-Pad: " + b"x" * 60_000])
        client, origin, _ = await self.asked()
        client.ask(*[request] * 200)
        await self.held_back(client)
        origin.answer(b"first")
        self.assertEqual((await client.answer()).body, b"first")
        for number in range(200):
            self.assertEqual((await origin.request()).line, b"GET /next HTTP/1.1")
            origin.answer(b"%d" % number)
            self.assertEqual((await client.answer()).body, b"%d" % number)

    async def test_a_slow_reader_is_not_late(self) -> None:
        """While it has an answer to take, the request behind that is not what takes too long."""
        client, origin, _ = await self.asked()
        origin.write(head_of(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked"))
        await until(lambda: client.peer.received)
        client.ask(head_of(b"GET / HTTP/1.1", b"Host: x"))
        leg, through = self.leg(), self.leg().transport
        client.peer.transport.pauseProducing()
        through.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
        pieces = 0
        while buffered(through) < PIECE // 2:
            origin.write(chunked(b"x" * 10_000)[:-5])
            pieces += 1
            await settled(lambda: (leg.session.sent, buffered(through)), 5)
        origin.write(chunked(b"x" * 60_000))
        await until(lambda: leg.exchange is None)
        self.assertTrue(leg._full)
        for _ in range(20):
            self.pass_time(10)
            await turn()
        client.peer.transport.resumeProducing()
        self.assertEqual(len((await client.answer()).body), pieces * 10_000 + 60_000)
        self.assertEqual((await client.answer()).status, 200)
