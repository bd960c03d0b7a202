"""Requests that take the proxy for a web server: a page that tells nothing, or upstream.web."""

from twisted.internet.error import ConnectionRefusedError

from tests.http_peers import HttpCase, HttpClient, chunked, head_of
from tests.peers import LOOPBACK, Peer, until
from tests.support import FakeUpstream
from whatsproxy.destination import Destination
from whatsproxy.reason import Reason


def origin_form(path: bytes = b"/", *fields: bytes, method: bytes = b"GET") -> bytes:
    return head_of(b"%s %s HTTP/1.1" % (method, path), b"Host: proxy.test", *fields)


class PageTests(HttpCase):
    def setUp(self) -> None:
        super().setUp()
        self.start()

    async def test_the_page(self) -> None:
        """No name of a product, a version, or a day."""
        for path in (b"/", b"/?a=b"):
            client = await self.connect(origin_form(path))
            answer = await client.answer()
            self.assertEqual(answer.line, b"HTTP/1.1 200 OK")
            names = [line.partition(b":")[0] for line in answer.fields]
            self.assertEqual(names, [b"Content-Type", b"Content-Length"])
            self.assertIn(b"<html>", answer.body)
            for word in (b"whats", b"proxy", b"python", b"twisted"):
                self.assertNotIn(word, answer.body.lower())
        self.assertRequests(("GET", "2xx", "proxy", 2))
        self.assertEqual(self.origins.peers, [])

    async def test_head(self) -> None:
        client = await self.connect(origin_form(method=b"HEAD"), origin_form())
        head = await client.answer(bodiless=True)
        page = await client.answer()
        self.assertEqual(head.fields, page.fields)
        self.assertEqual(int(head.field(b"content-length")), len(page.body))

    async def test_other_paths(self) -> None:
        for path in (b"/favicon.ico", b"/metrics", b"/?", b"//"):
            client = await self.connect(origin_form(path))
            self.assertEqual((await client.answer()).status, 200 if path == b"/?" else 404)

    async def test_other_methods(self) -> None:
        for method, path in ((b"POST", b"/"), (b"OPTIONS", b"*"), (b"DELETE", b"/x")):
            client = await self.connect(origin_form(path, method=method))
            answer = await client.answer()
            self.assertEqual((answer.status, answer.field(b"allow")), (405, b"GET, HEAD"))

    async def test_keep_alive(self) -> None:
        """Among other requests, on the same connection."""
        client = await self.connect(origin_form(), self.request(), origin_form(b"/x"))
        self.assertEqual((await client.answer()).status, 200)
        origin = await self.origins.accepted()
        await origin.request()
        origin.answer(b"forwarded")
        self.assertEqual((await client.answer()).body, b"forwarded")
        self.assertEqual((await client.answer()).status, 404)
        client.ask(origin_form(b"/", b"Connection: close"))
        self.assertEqual((await client.answer()).field(b"connection"), b"close")
        await self.left(client, Reason.ANSWERED)

    async def test_an_old_client(self) -> None:
        client = await self.connect(b"GET / HTTP/1.0\r\n\r\n")
        answer = await client.answer()
        self.assertEqual((answer.status, answer.field(b"connection")), (200, b"close"))
        await self.left(client, Reason.ANSWERED)

    async def goes_on_or_says_not(self, client: HttpClient, status: int) -> None:
        """After this answer the connection goes on, unless the answer says that it does not."""
        answer = await client.answer()
        self.assertEqual(answer.status, status)
        if answer.field(b"connection") == b"close":
            await client.closed()
            return
        client.ask(origin_form())
        self.assertEqual((await client.answer()).status, 200)

    async def test_a_body(self) -> None:
        """Nobody wants it, and nobody takes it for a request."""
        for request in (
            origin_form(b"/", b"Content-Length: 5", method=b"POST") + b"GET /",
            origin_form(b"/", b"Transfer-Encoding: chunked", method=b"POST") + chunked(b"GET /"),
            origin_form(b"/", b"Content-Length: 5", method=b"POST"),
        ):
            client = await self.connect(request)
            await self.goes_on_or_says_not(client, 405)

    async def test_the_last_hop(self) -> None:
        """OPTIONS that may go no further is answered here, also with a body."""
        request = self.request(b"/", b"Max-Forwards: 0", method=b"OPTIONS")
        client = await self.connect(request)
        await self.goes_on_or_says_not(client, 200)
        request = self.request(b"/", b"Max-Forwards: 0", method=b"OPTIONS", body=b"x")
        client = await self.connect(request)
        await self.goes_on_or_says_not(client, 200)
        self.assertEqual(self.origins.peers, [])
        client = await self.connect(self.request(b"/", b"Max-Forwards: 2", method=b"OPTIONS"))
        origin = await self.origins.accepted()
        self.assertEqual((await origin.request()).field(b"max-forwards"), b"1")


class WebTests(HttpCase):
    """upstream.web: that server's own answer, as if the proxy were not there."""

    ODD = (
        b"GET /a%20b?c HTTP/1.1\r\nhOST:   proxy.test\r\nConnection:  Keep-Alive\r\n"
        b"Proxy-Connection: x\r\nTE: trailers\r\nX-Empty:\r\n\r\n"
    )
    ANSWER = b"HTTP/1.1 299 \r\nsErVeR:x\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"

    def setUp(self) -> None:
        super().setUp()
        self.web = self.listen(Peer)
        self.settings = {"upstream": {"web": Destination(LOOPBACK, self.web.port)}}

    async def check(self, client: HttpClient, before: bytes = b"") -> None:
        """Every byte is the client's and the server's own, also of what follows."""
        web = await self.web.accepted()
        await web.got(self.ODD + before)
        web.write(self.ANSWER)
        await client.peer.got(self.ANSWER)
        client.ask(b"POST /2 HTTP/1.1\r\n\nwhatever \xff")
        await web.got(self.ODD + before + b"POST /2 HTTP/1.1\r\n\nwhatever \xff")
        client.peer.end()
        await web.ended()
        web.write(b"last")
        await client.peer.got(self.ANSWER + b"last")
        web.end()
        await client.peer.gone()

    async def test_the_first_request(self) -> None:
        self.start(**self.settings)
        client = await self.connect(self.ODD)
        await self.check(client)
        self.assertEqual(self.factory.ledger.received, client.sent)

    async def test_a_later_request(self) -> None:
        """On a connection that was a proxy's before."""
        self.start(**self.settings)
        client, origin, _ = await self.asked()
        origin.answer()
        await client.answer()
        client.ask(self.ODD, b"behind it")
        await self.check(client, b"behind it")
        await origin.ended()
        self.assertEqual(self.factory.ledger.received, client.sent)
        self.assertEqual(self.factory.ledger.sent, client.got + len(self.ANSWER + b"last"))

    async def test_a_later_request_with_a_body(self) -> None:
        self.start(**self.settings)
        bodies = (
            (b"Content-Length: 9", b"GET / evi"),
            (b"Transfer-Encoding: chunked", b"5;ext=1\r\nGET /\r\n0\r\nX-T: 1\r\n\r\n"),
        )
        for number, (framing, body) in enumerate(bodies, 1):
            client = await self.connect(
                head_of(b"GET http://example.com/ HTTP/1.1", b"Host: example.com")
            )
            await client.answer()
            request = origin_form(b"/", framing, method=b"POST") + body
            client.ask(request)
            web = await self.web.accepted(number)
            await web.got(request)

    async def test_forwarding_goes_on(self) -> None:
        """Requests for others are none of the web server's."""
        self.start(**self.settings)
        _, origin, asked = await self.asked()
        self.assertEqual(asked.line, b"GET / HTTP/1.1")
        self.assertEqual(self.web.peers, [])
        origin.answer()

    async def test_it_is_not_there(self) -> None:
        """The client is told, whichever its first request was."""
        upstream = FakeUpstream()
        self.start(fake=upstream, **self.settings)
        for first in (b"", head_of(b"GET http://example.com/ HTTP/1.1", b"Host: example.com")):
            client = await self.connect(first)
            if first:
                await client.answer()
            count = len(upstream.asked)
            client.ask(self.ODD)
            await until(lambda n=count: len(upstream.asked) > n)
            upstream.last.errback(ConnectionRefusedError())
            self.assertError(await client.answer(), 502, "Nothing listens there")
            await client.closed()
        await self.ended_with(Reason.UPSTREAM_REFUSED, Reason.UPSTREAM_REFUSED)

    async def test_the_client_ends_while_it_is_reached(self) -> None:
        upstream = FakeUpstream()
        self.start(fake=upstream, **self.settings)
        client = await self.connect(self.ODD)
        await until(lambda: upstream.asked)
        client.peer.end()
        await until(lambda: self.session().holder._ended)
        upstream.last.callback(await self.arrival(self.web.port))
        web = await self.web.accepted()
        await web.got(self.ODD)
        await web.ended()
