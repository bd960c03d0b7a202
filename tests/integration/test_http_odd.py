"""Origins may be odd: whatever is legal arrives as it was meant, and nothing gets out of step."""

from tests.integration.http_clients import HttpTestCase
from tests.integration.http_oddities import DATE, ODDITIES, OddOrigin, assert_passed_on
from tests.integration.http_wire import HOP, Connection, Message, read_body, read_head

PLAIN = "nothing"
CLASSES = {name: f"{oddity.status // 100}xx" for name, oddity in ODDITIES.items()}


class OddOriginTests(HttpTestCase):
    """Each oddity on a connection of its own, with a plain request behind it."""

    def setUp(self) -> None:
        super().setUp()
        self.origin = OddOrigin(self.background)

    def counted(self, method: str, names: list[str]) -> None:
        """See that the answers called ``names`` were counted, and no others."""
        expected: dict[tuple[str, str, str], int] = {}
        for name in names:
            key = (method, CLASSES[name], "upstream")
            expected[key] = expected.get(key, 0) + 1
        self.all_is_well(expected)

    async def each(self, method: str) -> list[tuple[str, Message, Message | None]]:
        """Return the answer to each, and to the plain request behind it if one may follow."""
        got = []
        for name in ODDITIES:
            client = await Connection.to(self.service.port)
            answer = await client.fetch(self.origin.url(f"/{name}"), method=method)
            closes = b"close" in answer.tokens("connection")
            after = None if closes else await client.fetch(self.origin.url(f"/{PLAIN}"))
            if closes:
                self.assertTrue(await client.at_end(), name)
            client.close()
            got.append((name, answer, after))
        return got

    def test_each_arrives(self) -> None:
        self.carry(self.origin.port)
        got = self.background.run(self.each("GET"))
        for name, answer, after in got:
            assert_passed_on(name, answer)
            self.assertNotIn(b"X-Hop", dict(answer.fields))
            if after is not None:
                assert_passed_on(PLAIN, after)
        # Whether the origin's connection goes on is not the client's concern.
        self.assertEqual([], [name for name, _, after in got if after is None])
        self.counted("GET", [*ODDITIES, *([PLAIN] * len(ODDITIES))])

    def test_heads_alone(self) -> None:
        self.carry(self.origin.port)
        for name, answer, after in self.background.run(self.each("HEAD")):
            self.assertEqual(ODDITIES[name].status, answer.status)
            self.assertEqual([*ODDITIES[name].fields, DATE], answer.end_to_end(), name)
            if after is not None:
                assert_passed_on(PLAIN, after)

    def test_one_after_the_other(self) -> None:
        self.carry(self.origin.port)

        async def all_of_them() -> None:
            client = await Connection.to(self.service.port)
            for name in ODDITIES:
                assert_passed_on(name, await client.fetch(self.origin.url(f"/{name}")))
            client.close()

        self.background.run(all_of_them())
        self.assertEqual(1, self.service.figure("connections_total"))
        # A new connection to the origin after each that it ended, or that an HTTP/1.0 server may
        # not have meant to go on; and never another.
        parted = [odd for odd in ODDITIES.values() if odd.ends or b"HTTP/1.0" in odd.opening]
        self.assertEqual(1 + len(parted), len(set(self.origin.serials)), self.origin.serials)
        self.counted("GET", list(ODDITIES))

    def test_all_pipelined(self) -> None:
        self.carry(self.origin.port)

        async def all_of_them() -> None:
            client = await Connection.to(self.service.port)
            for name in ODDITIES:
                client.ask(self.origin.url(f"/{name}"))
            for name in ODDITIES:
                assert_passed_on(name, await client.answer())
            client.close()

        self.background.run(all_of_them())
        self.counted("GET", list(ODDITIES))

    def test_a_client_of_http_1_0(self) -> None:
        self.carry(self.origin.port)
        for name, oddity in ODDITIES.items():
            answer = self.background.run(self.ask_in_http_1_0(name))
            # No 1xx and no chunks, which it does not know (RFC 9110, 15.2; RFC 9112, 6.1).
            self.assertEqual(oddity.status, answer.status, name)
            self.assertEqual([], answer.values("transfer-encoding"), name)
            self.assertEqual([*oddity.fields, DATE], answer.end_to_end(), name)
            self.assertEqual(oddity.body, answer.body, name)
        self.counted("GET", list(ODDITIES))

    async def ask_in_http_1_0(self, name: str) -> Message:
        client = await Connection.to(self.service.port)
        client.writer.write(f"GET {self.origin.url('/' + name)} HTTP/1.0\r\n\r\n".encode())
        answer = await read_head(client.reader)
        assert answer is not None
        await read_body(client.reader, answer)
        self.assertTrue(await client.at_end())
        client.close()
        return answer

    def test_curl_understands(self) -> None:
        self.carry(self.origin.port)
        files = {name: self.directory / name for name in ODDITIES}
        words = [
            word for name in ODDITIES for word in ("-o", files[name], self.origin.url(f"/{name}"))
        ]
        codes = self.curled("--write-out", "%{http_code} ", *words)
        self.assertEqual([str(oddity.status) for oddity in ODDITIES.values()], codes.split())
        for name, oddity in ODDITIES.items():
            # curl makes no file for a body that is not there.
            got = files[name].read_bytes() if files[name].exists() else b""
            self.assertEqual(oddity.body, got, name)
        self.counted("GET", list(ODDITIES))


class OddRequestTests(HttpTestCase):
    """The other way round: what the origin gets of what a client sends."""

    FIELDS = [
        "x-lower: 1",
        "X-UPPER: 2",
        "X-Empty:",
        "Cookie: a=1",
        "Cookie: b=2",
        "X-Name: caf\xe9",
        "X-Between: 1",
        "x-lower: 3",
        "Expect: ",
    ]

    def setUp(self) -> None:
        super().setUp()
        self.origin = OddOrigin(self.background)

    def received(self, *lines: str, method: str = "GET", body: bytes = b"") -> Message:
        async def ask() -> None:
            client = await Connection.to(self.service.port)
            url = self.origin.url(f"/{PLAIN}")
            assert_passed_on(PLAIN, await client.fetch(url, *lines, method=method, body=body))
            client.close()

        self.carry(self.origin.port)
        self.background.run(ask())
        self.no_error_is_logged()
        return self.origin.requests[-1]

    def test_fields_arrive_as_they_were_sent(self) -> None:
        lines = self.FIELDS[:-1]
        request = self.received(*lines, method="POST", body=b"12345")
        host = ("Host", f"origin.test:{self.origin.port}")
        sent = [host, *(tuple(part.strip() for part in line.split(":")) for line in lines)]
        expected = [(name.encode(), value.encode("latin-1")) for name, value in sent]
        self.assertEqual(expected, request.end_to_end())
        self.assertEqual(f"POST /{PLAIN} HTTP/1.1".encode(), request.start)
        self.assertEqual(b"12345", request.body)

    def test_nothing_names_the_client_or_the_proxy(self) -> None:
        request = self.received()
        self.assertEqual(
            [(b"Host", f"origin.test:{self.origin.port}".encode())], request.end_to_end()
        )

    def test_hop_by_hop_fields_stay_behind(self) -> None:
        request = self.received(
            "Connection: X-Hop, keep-alive",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic YTpi",
            "Keep-Alive: timeout=5",
            "X-Hop: 1",
            "X-Kept: 1",
            "TE: gzip",
        )
        names = {name.lower() for name, _ in request.fields} - HOP
        self.assertEqual({b"host", b"x-kept"}, names)
        self.assertNotIn(b"x-hop", request.tokens("connection"))
        self.assertNotIn(b"gzip", request.tokens("te"))

    def test_trailers_of_a_request(self) -> None:
        async def ask() -> None:
            client = await Connection.to(self.service.port)
            url = self.origin.url(f"/{PLAIN}")
            client.writer.write(
                f"POST {url} HTTP/1.1\r\nHost: {url.split('/')[2]}\r\n".encode()
                + b"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
                + b"4;a=b\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n"
            )
            assert_passed_on(PLAIN, await client.answer())
            client.close()

        self.carry(self.origin.port)
        self.background.run(ask())
        (request,) = self.origin.requests
        self.assertEqual((b"body", [(b"X-Sum", b"42")]), (request.body, request.trailers))
        self.no_error_is_logged()

    def test_what_is_set_and_removed(self) -> None:
        config = """
            [http]
            via = "hidden"
            set_request = {"X-New" = "1", "x-lower" = "2"}
            remove_request = ["cookie"]
            set_response = {"X-Answered" = "1"}
            remove_response = ["set-cookie"]
        """

        async def ask() -> Message:
            client = await Connection.to(self.service.port)
            url = self.origin.url("/repeated")
            answer = await client.fetch(url, "X-Lower: 1", "Cookie: a", "X-Kept: 1")
            client.close()
            return answer

        self.carry(self.origin.port, config=config)
        answer = self.background.run(ask())
        request = dict(self.origin.requests[0].fields)
        self.assertEqual(b"1", request[b"X-New"])
        self.assertEqual(b"1", request[b"X-Kept"])
        self.assertEqual([b"2"], self.origin.requests[0].values("x-lower"))
        self.assertEqual([], self.origin.requests[0].values("cookie"))
        self.assertEqual([b"1.1 hidden"], self.origin.requests[0].values("via"))
        self.assertEqual([b"1"], answer.values("x-answered"))
        self.assertEqual([], answer.values("set-cookie"))
        self.assertEqual([b"1.1 hidden"], answer.values("via"))
        self.no_error_is_logged()


class OddOriginBySocks5Tests(OddOriginTests):
    through_socks5 = True
