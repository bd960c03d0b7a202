"""The forward proxy: requests and answers on their ordinary ways."""

from tests.http_peers import HttpCase, OriginPeer, chunked, head_of
from tests.peers import settled, until
from whatsproxy.reason import Reason

CHUNKED = b"Transfer-Encoding: chunked"
TRAILERS = (b"X-Sum: 42", b"X-More: yes")


class OneRequestTests(HttpCase):
    async def test_get(self) -> None:
        self.start()
        client, origin, asked = await self.asked(self.request(b"/a?b=c", b"X-Mine: 1"))
        self.assertEqual(asked.line, b"GET /a?b=c HTTP/1.1")
        self.assertEqual(asked.fields, [b"Host: 127.0.0.1:%d" % self.origins.port, b"X-Mine: 1"])
        origin.answer(b"hello", b"X-Theirs: 2")
        answer = await client.answer()
        self.assertEqual((answer.line, answer.body), (b"HTTP/1.1 200 OK", b"hello"))
        self.assertEqual(answer.fields, [b"Content-Length: 5", b"X-Theirs: 2"])
        self.assertRequests(("GET", "2xx", "upstream", 1))

    async def test_post(self) -> None:
        self.start()
        client, origin, asked = await self.asked(self.request(method=b"POST", body=b"form=1"))
        self.assertEqual((asked.line, asked.body), (b"POST / HTTP/1.1", b"form=1"))
        origin.answer(b"thanks", status=b"201 Created")
        self.assertEqual((await client.answer()).status, 201)
        self.assertRequests(("POST", "2xx", "upstream", 1))

    async def test_a_body_in_pieces(self) -> None:
        """Each piece goes on at once, both ways."""
        self.start()
        client = await self.connect(self.request(b"/", b"Content-Length: 6", method=b"PUT"), b"one")
        origin = await self.origins.accepted()
        await origin.head()
        await origin.got(b"one")
        client.ask(b"two")
        await origin.got(b"onetwo")
        origin.write(head_of(b"HTTP/1.1 200 OK", b"Content-Length: 6") + b"six")
        await until(lambda: client.peer.received.endswith(b"\r\n\r\nsix"))
        origin.write(b"sev")
        self.assertEqual((await client.answer()).body, b"sixsev")

    async def test_an_unknown_method(self) -> None:
        """It is forwarded, and counted under a label that nobody chooses."""
        self.start()
        client, origin, asked = await self.asked(self.request(method=b"PROPFIND"))
        self.assertEqual(asked.line, b"PROPFIND / HTTP/1.1")
        origin.answer(status=b"404 Not Found")
        self.assertEqual((await client.answer()).status, 404)
        self.assertRequests(("other", "4xx", "upstream", 1))

    async def test_byte_by_byte(self) -> None:
        """However the bytes come, the messages are the same."""
        self.start()
        request = self.request(b"/x", CHUNKED, method=b"POST") + chunked(b"abc", b"d")
        client = await self.connect()
        for byte in request:
            client.ask(bytes([byte]))
            await settled(lambda: self.factory.ledger.received, 2)
        origin = await self.origins.accepted()
        self.assertEqual((await origin.request()).body, b"abcd")
        answer = head_of(b"HTTP/1.1 200 OK", CHUNKED) + chunked(b"efg", b"h")
        for byte in answer:
            origin.write(bytes([byte]))
            await settled(lambda: len(client.peer.received), 2)
        self.assertEqual((await client.answer()).body, b"efgh")

    async def test_a_host_that_disagrees(self) -> None:
        """The origin could choose by one what the policy has allowed by the other."""
        self.start()
        where = b"127.0.0.1:%d" % self.origins.port
        for host in (b"example.com", b"127.0.0.1", b"127.0.0.1:1", b""):
            client = await self.connect(
                head_of(b"GET http://%s/ HTTP/1.1" % where, b"Host: " + host)
            )
            answer = await client.answer()
            self.assertError(answer, 400, "Host field")
            self.assertEqual(answer.field(b"connection"), b"close")
            await client.closed()
        await self.ended_with(*[Reason.BAD_REQUEST] * 4)
        self.assertEqual(self.origins.peers, [])

    async def test_no_target_but_ours(self) -> None:
        """A name that is not allowed: 403, and the connection goes on."""
        self.start()
        client = await self.connect(
            head_of(b"GET http://example.com/ HTTP/1.1", b"Host: example.com")
        )
        refused = await client.answer()
        self.assertError(refused, 403, "example.com", "[policy] allow")
        self.assertIsNone(refused.field(b"connection"))
        client.ask(self.request())
        origin = await self.origins.accepted()
        await origin.request()
        origin.answer()
        self.assertEqual((await client.answer()).status, 200)
        self.assertRequests(("GET", "4xx", "proxy", 1), ("GET", "2xx", "upstream", 1))


class ConnectionTests(HttpCase):
    """Several requests on one connection."""

    async def test_keep_alive(self) -> None:
        self.start()
        client, origin, _ = await self.asked()
        origin.answer(b"1")
        self.assertEqual((await client.answer()).body, b"1")
        for number in (b"2", b"3"):
            client.ask(self.request(b"/" + number))
            self.assertEqual((await origin.request()).line, b"GET /%s HTTP/1.1" % number)
            origin.answer(number)
            answer = await client.answer()
            self.assertEqual(answer.body, number)
            self.assertIsNone(answer.field(b"connection"))
        self.assertRequests(("GET", "2xx", "upstream", 3))

    async def test_pipelined(self) -> None:
        """Answered in order, one at a time."""
        self.start()
        paths = [b"/%d" % n for n in range(20)]
        client, origin, asked = await self.asked(*map(self.request, paths))
        for path in paths:
            self.assertEqual(asked.line, b"GET %s HTTP/1.1" % path)
            self.assertEqual(await settled(lambda: bytes(origin.received), 5), b"")
            origin.answer(path)
            self.assertEqual((await client.answer()).body, path)
            if path != paths[-1]:
                asked = await origin.request()
        self.assertRequests(("GET", "2xx", "upstream", 20))

    async def test_pipelined_behind_a_body(self) -> None:
        self.start()
        client, origin, asked = await self.asked(
            self.request(b"/1", method=b"POST", body=b"x" * 1000),
            self.request(b"/2", CHUNKED, method=b"POST") + chunked(b"y" * 1000),
            self.request(b"/3"),
        )
        self.assertEqual(asked.body, b"x" * 1000)
        origin.answer(b"1")
        self.assertEqual((await client.answer()).body, b"1")
        origin = await self.origins.accepted(2)
        self.assertEqual((await origin.request()).body, b"y" * 1000)
        origin.answer(b"2")
        self.assertEqual((await client.answer()).body, b"2")
        self.assertEqual((await origin.request()).line, b"GET /3 HTTP/1.1")
        origin.answer(b"3")
        self.assertEqual((await client.answer()).body, b"3")

    async def test_pipelined_errors_keep_their_place(self) -> None:
        """Answers of the proxy's own come in turn, too."""
        self.start()
        refused = head_of(b"GET http://example.com/ HTTP/1.1", b"Host: example.com")
        client, origin, _ = await self.asked(self.request(), refused, b"nonsense\r\n\r\n")
        self.assertEqual(await settled(lambda: bytes(client.peer.received), 5), b"")
        origin.answer(b"first")
        self.assertEqual((await client.answer()).body, b"first")
        self.assertEqual((await client.answer()).status, 403)
        last = await client.answer()
        self.assertError(last, 400, "request line")
        self.assertEqual(last.field(b"connection"), b"close")
        await self.left(client, Reason.BAD_REQUEST)

    async def test_an_empty_line_between(self) -> None:
        """A CRLF too many behind a body is skipped (RFC 9112 2.2)."""
        self.start()
        client, origin, _ = await self.asked(
            self.request(method=b"POST", body=b"x"), b"\r\n", self.request(b"/2")
        )
        origin.answer()
        await client.answer()
        self.assertEqual((await origin.request()).line, b"GET /2 HTTP/1.1")
        origin.answer()
        await client.answer()

    async def test_several_origins(self) -> None:
        """One after the other on one client connection."""
        others = self.listen(OriginPeer)
        self.start(others)
        client = await self.connect()
        for count, listener in enumerate((self.origins, others, self.origins, others)):
            client.ask(self.request(to=listener))
            origin = await listener.accepted(count // 2 + 1)
            asked = await origin.request()
            self.assertEqual(asked.field(b"host"), b"127.0.0.1:%d" % listener.port)
            origin.answer(b"%d" % count)
            self.assertEqual((await client.answer()).body, b"%d" % count)
        self.assertEqual([len(self.origins.peers), len(others.peers)], [2, 2])

    async def test_a_client_that_wants_no_more(self) -> None:
        """Connection: close is answered so, and what follows is not read."""
        self.start()
        client, origin, asked = await self.asked(
            self.request(b"/", b"Connection: close"), self.request(b"/2")
        )
        self.assertIsNone(asked.field(b"connection"))
        origin.answer(b"last")
        answer = await client.answer()
        self.assertEqual((answer.body, answer.field(b"connection")), (b"last", b"close"))
        await self.left(client, Reason.ANSWERED)
        self.assertEqual(origin.received, b"")

    async def test_a_client_that_goes(self) -> None:
        self.start()
        client, origin, _ = await self.asked()
        origin.answer()
        await client.answer()
        client.peer.close()
        await origin.ended()
        await self.ended_with(Reason.CLIENT_CLOSED)

    async def test_many_clients(self) -> None:
        """They do not mix."""
        self.start()
        pairs = [await self.asked(self.request(b"/%d" % n)) for n in range(20)]
        for number, (_, origin, asked) in enumerate(pairs):
            self.assertEqual(asked.line, b"GET /%d HTTP/1.1" % number)
            origin.answer(b"to %d" % number)
        for number, (client, _, _) in enumerate(pairs):
            self.assertEqual((await client.answer()).body, b"to %d" % number)


class AccountTests(HttpCase):
    """What is counted is what the client's socket sent and got."""

    async def test_bytes(self) -> None:
        self.start()
        client, origin, _ = await self.asked(
            self.request(b"/1"), self.request(b"/2", CHUNKED, method=b"POST"), chunked(b"x" * 5000)
        )
        origin.write(head_of(b"HTTP/1.1 103 Early Hints"))
        origin.write(head_of(b"HTTP/1.1 200 OK", CHUNKED) + chunked(b"y" * 7000))
        await client.answer()
        await client.answer()
        origin = await self.origins.accepted(2)
        await origin.request()
        origin.answer(b"z" * 300)
        await client.answer()
        client.ask(self.request(b"/3", to=None).replace(b"127.0.0.1", b"example.com"))
        await client.answer()
        client.ask(head_of(b"GET / HTTP/1.1", b"Host: x"))
        await client.answer()
        session = self.session()
        self.assertEqual((session.received, session.sent), (client.sent, client.got))
        client.peer.close()
        await self.ended_with(Reason.CLIENT_CLOSED)
        ledger = self.factory.ledger
        self.assertEqual((ledger.received, ledger.sent), (client.sent, client.got))

    async def test_bytes_of_a_refused_body(self) -> None:
        """What an error's answer leaves unread is counted, once."""
        self.start()
        head = head_of(
            b"POST http://example.com/ HTTP/1.1", b"Host: example.com", b"Content-Length: 9000"
        )
        client = await self.connect(head)
        await client.answer()
        client.ask(b"x" * 4000)
        await self.left(client, Reason.REFUSED_NAME)
        self.assertEqual(self.factory.ledger.received, len(head) + 4000)

    async def test_a_counter_never_goes_back(self) -> None:
        """Bytes that were counted stay counted, though the request they began is not served."""
        self.start()
        client, origin, _ = await self.asked(self.request(), self.request(b"/2") * 20)
        received = self.factory.ledger.received
        origin.write(head_of(b"HTTP/1.1 200 OK", b"Content-Length: 10") + b"half")
        await until(lambda: client.peer.received.endswith(b"half"))
        origin.reset()
        self.assertFalse((await client.answer()).complete)
        self.assertGreaterEqual(self.factory.ledger.received, received)
        await self.left(client, Reason.UPSTREAM_RESET)
        self.assertGreaterEqual(self.factory.ledger.received, received)

    async def test_the_target_in_the_log(self) -> None:
        self.start()
        await self.asked()
        self.assertEqual(self.session().target, f"127.0.0.1:{self.origins.port}")

    async def test_connect_times(self) -> None:
        """Each connection to an origin is timed; a kept one takes no time to connect."""
        self.start()
        client, origin, _ = await self.asked()
        origin.answer()
        await client.answer()
        client.ask(self.request())
        await origin.request()
        self.assertEqual(sum(self.factory.ledger.connect_time.counts), 1)
