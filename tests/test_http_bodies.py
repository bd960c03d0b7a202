"""The forward proxy: bodies of every framing, answers without one, interim answers, HTTP/1.0."""

from tests.http_peers import HttpCase, HttpClient, OriginPeer, chunked, head_of
from tests.peers import settled
from whatsproxy.reason import Reason

CHUNKED = b"Transfer-Encoding: chunked"
TRAILERS = (b"X-Sum: 42", b"X-More: yes")


class ChunkedTests(HttpCase):
    async def test_both_ways_with_trailers(self) -> None:
        self.start()
        client, origin, asked = await self.asked(
            self.request(b"/", CHUNKED, b"Trailer: X-Sum", method=b"POST"),
            chunked(b"one", b"two", trailers=TRAILERS),
        )
        self.assertEqual(asked.field(b"transfer-encoding"), b"chunked")
        self.assertEqual(asked.field(b"trailer"), b"X-Sum")
        self.assertEqual(asked.body, b"onetwo")
        self.assertEqual(asked.trailers.split(b"\r\n"), list(TRAILERS))
        origin.write(head_of(b"HTTP/1.1 200 OK", CHUNKED))
        origin.write(chunked(b"three", b"four", trailers=TRAILERS))
        answer = await client.answer()
        self.assertEqual(answer.body, b"threefour")
        self.assertEqual(answer.trailers.split(b"\r\n"), list(TRAILERS))

    async def test_to_an_old_client(self) -> None:
        """HTTP/1.0 knows no chunks, and no trailers: the end of the connection is the end."""
        self.start()
        client, origin, _ = await self.asked(self.request(version=b"1.0"))
        origin.write(head_of(b"HTTP/1.1 200 OK", CHUNKED))
        origin.write(chunked(b"three", b"four", trailers=TRAILERS))
        answer = await client.answer()
        self.assertIsNone(answer.field(b"transfer-encoding"))
        self.assertEqual((answer.body, answer.field(b"connection")), (b"threefour", b"close"))
        await self.left(client, Reason.ANSWERED)

    async def test_extensions_end_here(self) -> None:
        """The bytes are the same, whatever was said about a chunk."""
        self.start()
        client, origin, asked = await self.asked(
            self.request(b"/", CHUNKED, method=b"POST"), b'3;a="b"\r\none\r\n0;c\r\n\r\n'
        )
        self.assertEqual(asked.body, b"one")
        origin.answer()
        await client.answer()


class InterimTests(HttpCase):
    """1xx answers."""

    async def test_100_continue(self) -> None:
        """The origin decides: its 100 and the expectation are passed on, then the body."""
        self.start()
        client = await self.connect(
            self.request(b"/", b"Content-Length: 4", b"Expect: 100-continue", method=b"PUT")
        )
        origin = await self.origins.accepted()
        self.assertIn(b"\r\nExpect: 100-continue", await origin.head())
        self.assertEqual(await settled(lambda: bytes(client.peer.received), 5), b"")
        origin.write(head_of(b"HTTP/1.1 100 Continue"))
        self.assertEqual((await client.answer()).status, 100)
        client.ask(b"body")
        await origin.got(b"body")
        origin.received.clear()
        origin.answer(b"done")
        answer = await client.answer()
        self.assertEqual((answer.status, answer.body), (200, b"done"))
        self.assertIsNone(answer.field(b"connection"))
        self.assertRequests(("PUT", "2xx", "upstream", 1))

    async def test_an_expectation_that_fails(self) -> None:
        """A final answer instead of 100: the client may send the body or not, so it is the last."""
        self.start()
        client = await self.connect(
            self.request(b"/", b"Content-Length: 4", b"Expect: 100-continue", method=b"PUT")
        )
        origin = await self.origins.accepted()
        await origin.head()
        origin.answer(b"no", status=b"417 Expectation Failed")
        answer = await client.answer()
        self.assertEqual((answer.status, answer.field(b"connection")), (417, b"close"))
        await self.left(client, Reason.ANSWERED)
        await origin.ended()
        self.assertEqual(origin.received, b"")

    async def test_several(self) -> None:
        self.start()
        client, origin, _ = await self.asked()
        early = b"Link: </style.css>; rel=preload"
        for number in range(3):
            origin.write(head_of(b"HTTP/1.1 103 Early Hints", early))
            hint = await client.answer()
            self.assertEqual((number, hint.line), (number, b"HTTP/1.1 103 Early Hints"))
            self.assertEqual(hint.fields, [early])
        origin.write(head_of(b"HTTP/1.1 102 Processing"))
        origin.answer(b"done")
        self.assertEqual((await client.answer()).status, 102)
        self.assertEqual((await client.answer()).body, b"done")
        self.assertRequests(("GET", "2xx", "upstream", 1))

    async def test_not_to_an_old_client(self) -> None:
        """HTTP/1.0 knows no 1xx (RFC 9110 15.2), nor an expectation."""
        self.start()
        client, origin, asked = await self.asked(
            self.request(b"/", b"Expect: 100-continue", method=b"POST", version=b"1.0", body=b"x")
        )
        self.assertIsNone(asked.field(b"expect"))
        origin.write(head_of(b"HTTP/1.1 100 Continue"))
        origin.write(head_of(b"HTTP/1.1 103 Early Hints"))
        origin.answer(b"done")
        answer = await client.answer()
        self.assertEqual((answer.status, answer.body), (200, b"done"))


class NoBodyTests(HttpCase):
    """Answers whose framing does not depend on what their fields say."""

    async def check(self, status: bytes, *fields: bytes, method: bytes = b"GET") -> None:
        """It goes through, no body is waited for, and the next answer is the next one's."""
        client, origin, _ = await self.asked(self.request(method=method))
        origin.write(head_of(b"HTTP/1.1 " + status, *fields))
        answer = await client.answer(bodiless=True)
        self.assertEqual(answer.status, int(status[:3]))
        added = [field for field in answer.fields if field not in fields]
        self.assertIn(added, ([], [CHUNKED] if method == b"HEAD" else []))  # as GET would be told
        client.ask(self.request(b"/next"))
        self.assertEqual((await origin.request()).line, b"GET /next HTTP/1.1")
        origin.answer(b"next")
        self.assertEqual((await client.answer()).body, b"next")

    async def test_head(self) -> None:
        self.start()
        await self.check(b"200 OK", b"Content-Length: 1000", method=b"HEAD")
        await self.check(b"200 OK", CHUNKED, method=b"HEAD")
        await self.check(b"404 Not Found", method=b"HEAD")

    async def test_the_length_of_a_head(self) -> None:
        """HEAD is told what GET would be (RFC 9110 9.3.2)."""
        self.start()
        client, origin, _ = await self.asked(self.request(method=b"HEAD"))
        origin.write(head_of(b"HTTP/1.1 200 OK", b"Content-Length: 1000"))
        answer = await client.answer(bodiless=True)
        self.assertEqual(answer.field(b"content-length"), b"1000")

    async def test_204(self) -> None:
        self.start()
        await self.check(b"204 No Content")

    async def test_304(self) -> None:
        self.start()
        await self.check(b"304 Not Modified", b'ETag: "1"')
        await self.check(b"304 Not Modified", b"Content-Length: 1000")

    async def test_an_empty_body(self) -> None:
        self.start()
        await self.check(b"200 OK", b"Content-Length: 0")


class OldTests(HttpCase):
    """HTTP/1.0 on either side, and answers that end with their connection."""

    async def test_an_old_client(self) -> None:
        """It gets HTTP/1.1 in the head, and an end."""
        self.start()
        client, origin, asked = await self.asked(
            head_of(b"GET http://127.0.0.1:%d/ HTTP/1.0" % self.origins.port)
        )
        self.assertEqual(asked.line, b"GET / HTTP/1.1")
        self.assertEqual(asked.field(b"host"), b"127.0.0.1:%d" % self.origins.port)
        origin.answer(b"hello")
        answer = await client.answer()
        self.assertEqual((answer.body, answer.field(b"connection")), (b"hello", b"close"))
        await self.left(client, Reason.ANSWERED)

    async def test_an_old_client_posts(self) -> None:
        self.start()
        client, origin, asked = await self.asked(
            self.request(method=b"POST", version=b"1.0", body=b"form")
        )
        self.assertEqual(asked.body, b"form")
        origin.answer(b"ok")
        self.assertEqual((await client.answer()).body, b"ok")
        await self.left(client, Reason.ANSWERED)

    async def test_an_old_origin(self) -> None:
        """Its connection is not used again; the client's is."""
        self.start()
        client, origin, _ = await self.asked()
        origin.write(head_of(b"HTTP/1.0 200 OK", b"Content-Length: 5") + b"hello")
        answer = await client.answer()
        self.assertEqual((answer.line, answer.body), (b"HTTP/1.1 200 OK", b"hello"))
        self.assertIsNone(answer.field(b"connection"))
        await origin.ended()
        client.ask(self.request())
        second = await self.origins.accepted(2)
        await second.request()
        second.answer(b"again")
        self.assertEqual((await client.answer()).body, b"again")

    async def until_close(self, version: bytes, *head: bytes) -> tuple[HttpClient, OriginPeer]:
        client, origin, _ = await self.asked(self.request(version=version))
        origin.write(head_of(*head) + b"all ")
        origin.write(b"of it")
        origin.end()
        return client, origin

    async def test_close_delimited(self) -> None:
        """The client gets chunks, and may go on."""
        self.start()
        for head in ((b"HTTP/1.0 200 OK",), (b"HTTP/1.1 200 OK", b"Connection: close")):
            client, origin = await self.until_close(b"1.1", *head)
            answer = await client.answer()
            self.assertEqual(answer.field(b"transfer-encoding"), b"chunked")
            self.assertIsNone(answer.field(b"connection"))
            self.assertEqual(answer.body, b"all of it")
            await origin.gone()
            client.ask(self.request())
            origin = await self.origins.accepted(len(self.origins.peers) + 1)
            await origin.request()
            origin.answer(b"next")
            self.assertEqual((await client.answer()).body, b"next")

    async def test_close_delimited_to_an_old_client(self) -> None:
        self.start()
        client, _ = await self.until_close(b"1.0", b"HTTP/1.0 200 OK")
        answer = await client.answer()
        self.assertEqual((answer.body, answer.field(b"connection")), (b"all of it", b"close"))
        await client.peer.ended()
        self.assertIsNone(client.peer.lost)
        await self.left(client, Reason.ANSWERED)

    async def test_an_empty_close_delimited_body(self) -> None:
        self.start()
        client, origin, _ = await self.asked()
        origin.write(head_of(b"HTTP/1.1 200 OK"))
        origin.end()
        self.assertEqual((await client.answer()).body, b"")
