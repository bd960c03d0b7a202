"""[http]: each setting, in messages that pass."""

from typing import Any

from tests.http_peers import HttpCase, Message, chunked, head_of
from tests.peers import until
from whatsproxy.reason import Reason

CHUNKED = b"Transfer-Encoding: chunked"


class FieldTests(HttpCase):
    async def exchange(
        self, request: bytes, *answer: bytes, status: bytes = b"200 OK"
    ) -> tuple[Message, Message]:
        """Return the request as the origin gets it, and its answer as the client does."""
        client, origin, asked = await self.asked(request)
        origin.answer(b"x", *answer, status=status)
        return asked, await client.answer()

    def names(self, message: Message) -> list[bytes]:
        return [line.partition(b":")[0] for line in message.fields]

    async def test_nothing_by_default(self) -> None:
        """Fields as they were spelled and in their order; nothing added, nothing of a hop."""
        self.start()
        mine = (b"x-B: 1", b"X-A:2", b"x-b:  3  ", b"User-Agent: me", b"X-Empty:")
        hop = (
            *(b"Connection: X-Hop, keep-alive", b"X-Hop: 1", b"Keep-Alive: 5", b"TE: trailers"),
            *(b"Proxy-Authorization: Basic eDp5", b"Proxy-Connection: keep-alive"),
        )
        asked, answer = await self.exchange(self.request(b"/", *hop, *mine), *mine, *hop)
        spelled = [b"x-B: 1", b"X-A: 2", b"x-b: 3", b"User-Agent: me", b"X-Empty: "]
        self.assertEqual(asked.fields[1:], spelled)
        self.assertEqual(answer.fields, [b"Content-Length: 1", *spelled])

    async def test_set_request(self) -> None:
        """In place of those of the same name, however they were spelled."""
        self.start(http={"set_request": (("X-Site", "new"), ("User-Agent", "none"))})
        asked, answer = await self.exchange(
            self.request(b"/", b"x-site: old", b"X-SITE: older", b"Accept: a"), b"X-Site: theirs"
        )
        self.assertEqual(asked.fields[1:], [b"Accept: a", b"X-Site: new", b"User-Agent: none"])
        self.assertEqual(answer.field(b"x-site"), b"theirs")

    async def test_remove_request(self) -> None:
        self.start(http={"remove_request": ("User-Agent", "X-Gone")})
        asked, answer = await self.exchange(
            self.request(b"/", b"user-agent: me", b"X-gone: 1", b"X-Gone: 2", b"X-Here: 3"),
            b"User-Agent: odd",
        )
        self.assertEqual(asked.fields[1:], [b"X-Here: 3"])
        self.assertEqual(answer.field(b"user-agent"), b"odd")

    async def test_set_response(self) -> None:
        """Interim answers are answers, too."""
        self.start(http={"set_response": (("X-Site", "new"),)})
        client, origin, asked = await self.asked(self.request(b"/", b"X-Site: mine"))
        self.assertEqual(asked.field(b"x-site"), b"mine")
        origin.write(head_of(b"HTTP/1.1 103 Early Hints", b"X-Site: old"))
        origin.answer(b"", b"x-site: old", b"X-Site: older")
        for _ in range(2):
            self.assertEqual((await client.answer()).field(b"x-site"), b"new")

    async def test_remove_response(self) -> None:
        self.start(http={"remove_response": ("Server",)})
        client, origin, asked = await self.asked(self.request(b"/", b"Server: mine"))
        self.assertEqual(asked.field(b"server"), b"mine")
        origin.write(head_of(b"HTTP/1.1 103 Early Hints", b"Server: x", b"Link: y"))
        origin.answer(b"", b"SERVER: x", b"X-Here: 1")
        self.assertEqual((await client.answer()).fields, [b"Link: y"])
        self.assertEqual((await client.answer()).fields, [b"Content-Length: 0", b"X-Here: 1"])

    async def test_answers_of_ours(self) -> None:
        """What is said of an upstream's answers does not hold for them."""
        self.start(http={"set_response": (("X-Site", "new"),), "via": "me"})
        client = await self.connect(head_of(b"GET / HTTP/1.1", b"Host: x"))
        self.assertEqual(self.names(await client.answer()), [b"Content-Type", b"Content-Length"])

    async def test_via(self) -> None:
        """Both ways, behind those before us, with the version that came (RFC 9110 7.6.3)."""
        self.start(http={"via": "a-proxy"})
        asked, answer = await self.exchange(self.request(b"/", b"Via: 1.1 other"), b"Via: 2 cdn")
        via = [line for line in asked.fields if line.lower().startswith(b"via")]
        self.assertEqual(via, [b"Via: 1.1 other", b"Via: 1.1 a-proxy"])
        via = [line for line in answer.fields if line.lower().startswith(b"via")]
        self.assertEqual(via, [b"Via: 2 cdn", b"Via: 1.1 a-proxy"])
        asked, _ = await self.exchange(self.request(version=b"1.0"))
        self.assertEqual(asked.field(b"via"), b"1.0 a-proxy")

    async def test_the_host(self) -> None:
        """It is the target's, as the client spelled it there."""
        self.start(policy={"allow": ("localhost",), "allow_ports": (self.origins.port,)})
        where = b"LocalHost:%d" % self.origins.port
        client = await self.connect(
            head_of(b"GET http://%s/ HTTP/1.1" % where, b"Host: " + where.lower())
        )
        origin = await self.origins.accepted()
        self.assertEqual((await origin.request()).fields, [b"Host: " + where])
        origin.answer()
        await client.answer()


class LimitTests(HttpCase):
    async def refused(self, status: int, reason: Reason, text: str, *request: bytes) -> None:
        before = self.factory.ledger.ends[reason]
        client = await self.connect(*request)
        answer = await client.answer()
        self.assertError(answer, status, text, "[http] max_head, max_fields and max_body")
        self.assertEqual(answer.field(b"connection"), b"close")
        await client.closed()
        await until(lambda: not self.factory.ledger.live)
        self.assertEqual(self.factory.ledger.ends[reason], before + 1)

    async def passes(self, *request: bytes) -> Message:
        number = len(self.origins.peers) + 1
        client = await self.connect(*request)
        origin = await self.origins.accepted(number)
        asked = await origin.request()
        origin.answer()
        self.assertEqual((await client.answer()).status, 200)
        client.peer.reset()
        await until(lambda: not self.factory.ledger.live)
        return asked

    def padded(self, size: int) -> bytes:
        """Return a request of so many bytes."""
        short = len(self.request(b"/", b"X-Pad: "))
        return self.request(b"/", b"X-Pad: " + b"x" * (size - short))

    async def head_limit(self, limit: int) -> None:
        await self.passes(self.padded(limit))
        text = f"larger than {limit} bytes"
        await self.refused(431, Reason.HEAD_TOO_LARGE, text, self.padded(limit + 1))
        # nor is more awaited
        await self.refused(431, Reason.HEAD_TOO_LARGE, text, self.padded(limit + 9)[: limit + 1])

    async def test_max_head(self) -> None:
        self.start()
        await self.head_limit(65536)

    async def test_another_max_head(self) -> None:
        """Smaller, and larger than what is kept of pipelined requests."""
        for limit in (2000, 300_000):
            self.start(http={"max_head": limit})
            await self.head_limit(limit)

    async def test_a_large_trailer_section(self) -> None:
        """It is limited as a head is."""
        self.start(http={"max_head": 300_000})
        trailers = tuple(b"X-T: " + b"x" * 50_000 for _ in range(5))
        request = self.request(b"/", CHUNKED, method=b"PUT")
        asked = await self.passes(request, chunked(b"x", trailers=trailers))
        self.assertEqual(asked.trailers.split(b"\r\n"), list(trailers))
        body = chunked(b"x", trailers=trailers * 2)
        await self.refused(431, Reason.HEAD_TOO_LARGE, "trailer section", request, body)

    async def test_max_fields(self) -> None:
        for limit, settings in ((100, {}), (5, {"max_fields": 5})):
            self.start(http=settings)
            await self.passes(self.request(b"/", *[b"X: 1"] * (limit - 1)))
            request = self.request(b"/", *[b"X: 1"] * limit)
            await self.refused(431, Reason.HEAD_TOO_LARGE, f"more than {limit} fields", request)

    async def test_the_upstreams_head(self) -> None:
        """The same limits, but not the client's fault."""
        self.start(http={"max_head": 2000, "max_fields": 5})
        for fields in ((b"X-Pad: " + b"x" * 2000,), (b"X: 1",) * 6):
            client, origin, _ = await self.asked()
            origin.write(head_of(b"HTTP/1.1 200 OK", *fields))
            self.assertError(await client.answer(), 502, "not HTTP")

    async def test_max_body(self) -> None:
        """A length that is too large is refused before anything is forwarded."""
        self.start(http={"max_body": 1000})
        asked = await self.passes(self.request(method=b"PUT", body=b"x" * 1000))
        self.assertEqual(len(asked.body), 1000)
        reached = len(self.origins.peers)
        request = self.request(b"/", b"Content-Length: 1001", method=b"PUT")
        await self.refused(413, Reason.BODY_TOO_LARGE, "body of 1001 bytes", request, b"x" * 500)
        self.assertEqual(len(self.origins.peers), reached)

    async def test_max_body_in_chunks(self) -> None:
        """Found out on the way: the origin does not get an end."""
        self.start(http={"max_body": 1000})
        request = self.request(b"/", CHUNKED, method=b"PUT")
        asked = await self.passes(request, chunked(b"x" * 600, b"x" * 400))
        self.assertEqual(len(asked.body), 1000)
        text = "more than 1000 bytes"
        body = chunked(b"x" * 600, b"x" * 401)
        await self.refused(413, Reason.BODY_TOO_LARGE, text, request, body)
        await until(lambda: all(peer.eof or peer.lost for peer in self.origins.peers))
        self.assertNotIn(b"\r\n0\r\n", self.origins.peers[-1].received)

    async def test_max_body_is_of_one_request(self) -> None:
        self.start(http={"max_body": 1000})
        request = self.request(method=b"PUT", body=b"x" * 1000)
        client, origin, _ = await self.asked(request)
        for number in (2, 3):
            origin.answer()
            self.assertEqual((await client.answer()).status, 200)
            client.ask(request)
            origin = await self.origins.accepted(number)
            await origin.request()

    async def test_no_max_body(self) -> None:
        """By default there is none, nor ever for answers."""
        self.start(http={"max_body": 1000})
        client, origin, _ = await self.asked()
        origin.answer(b"x" * 5000)
        self.assertEqual(len((await client.answer()).body), 5000)
        self.start()
        asked = await self.passes(self.request(method=b"PUT", body=b"x" * 5_000_000))
        self.assertEqual(len(asked.body), 5_000_000)

    async def test_keepalive(self) -> None:
        self.start(http={"keepalive": 7.0})
        await self.idle_after(7.0)

    async def idle_after(self, limit: float, **more: Any) -> None:
        client, origin, _ = await self.asked()
        origin.answer()
        await client.answer()
        self.clock.advance(limit - 0.1)
        self.assertFalse(self.session().holder._parted)
        self.clock.advance(0.2)
        await self.left(client, Reason.IDLE)

    async def test_the_timeouts(self) -> None:
        """[timeouts] http_head, http_answer and idle, with other values than the defaults'."""
        self.start(timeouts={"http_head": 3.0, "http_answer": 5.0, "idle": 4.0})
        client = await self.connect(self.request()[:-2])
        await self.taken(client)
        self.clock.advance(3.1)
        self.assertEqual((await client.answer()).status, 408)
        client, origin, _ = await self.asked()
        self.clock.advance(4.9)
        self.assertIsNotNone(self.holder_of_http().exchange)
        self.clock.advance(0.2)
        self.assertEqual((await client.answer()).status, 504)
        client, origin, _ = await self.asked()
        origin.write(head_of(b"HTTP/1.1 200 OK", b"Content-Length: 9") + b"half")
        await until(lambda: client.peer.received.endswith(b"half"))
        self.clock.advance(4.1)
        self.assertFalse((await client.answer()).complete)

    def holder_of_http(self) -> Any:
        (holder,) = [s.holder for s in self.factory.ledger.live if s.holder.exchange is not None]
        return holder
