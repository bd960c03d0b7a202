import h11
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import http_builders as b
from tests.http_reading import (
    HOST,
    RequestCase,
    read_answer,
    read_request,
    request_to_send,
    response_fields,
)
from whatsproxy.http1.fields import Rules, is_last_hop, items_of, tokens
from whatsproxy.http1.heads import Body, check_request
from whatsproxy.http1.target import parse_absolute
from whatsproxy.http1.writer import Fields


class RequestTests(RequestCase):
    def test_order_and_spelling(self) -> None:
        lines = [b"x-B: 2", b"X-b:1", b"ACCEPT:  a,b ", b"Cookie: \xe9", b"x-b: 2", b"Via: 1.1 x"]
        expected = [
            *((b"x-B", b"2"), (b"X-b", b"1"), (b"ACCEPT", b"a,b"), (b"Cookie", b"\xe9")),
            *((b"x-b", b"2"), (b"Via", b"1.1 x")),
        ]
        self.check(lines, expected)

    def test_line(self) -> None:
        for target, path in ((b"http://a.test/?x#"[:-1], b"/?x"), (b"http://a.test", b"/")):
            sent = self.outgoing(b.get(line=b"M-SEARCH %b HTTP/1.0" % target))
            self.assertEqual((sent.method, sent.target), (b"M-SEARCH", path))
            self.assertEqual(sent.http_version, b"1.1")

    def test_host_is_the_targets(self) -> None:
        for authority in (b"A.test:80", b"a.TEST", b"a.test.:8080"):
            for lines in ([b"Host: a.test"], [b"X: y", b"HOST: a.test:80"]):
                raw = b.head(b"GET http://%b/ HTTP/1.1" % authority, *lines)
                self.assertEqual(self.outgoing(raw).headers.raw_items()[0], (b"Host", authority))
                hosts = [n for n, _ in self.outgoing(raw).headers if n == b"host"]
                self.assertEqual(len(hosts), 1)
        sent = self.outgoing(b.head(b"GET http://a.test/ HTTP/1.0"))
        self.assertEqual(sent.headers.raw_items(), [HOST])

    def test_hop_by_hop(self) -> None:
        for line in (
            *(b"Connection: close", b"connection: keep-alive, x", b"Keep-Alive: timeout=5"),
            *(b"TE: trailers", b"Upgrade: x", b"HTTP2-Settings: AAM", b"Proxy-Connection: close"),
            *(b"Proxy-Authorization: Basic eDp5", b"proxy-authenticate: x", b"PROXY-anything: x"),
        ):
            self.check([b"A: 1", line, b"B: 2"], [(b"A", b"1"), (b"B", b"2")])
        self.check([b"Proxy: x", b"Trailer: X"], [(b"Proxy", b"x"), (b"Trailer", b"X")])

    def test_what_connection_names(self) -> None:
        for named in (b"X-A", b"close, x-a", b"x-A ,\t close", b",,X-A,", b"x-b, X-A"):
            for lines in (
                [b"X-A: 1", b"Connection: " + named, b"Y: 2", b"x-a: 3"],
                [b"connection: z", b"X-A: 1", b"CONNECTION: " + named, b"Y: 2"],
            ):
                self.check(lines, [(b"Y", b"2")])
        self.check([b"Connection: x-aa, x", b"X-A: 1"], [(b"X-A", b"1")])
        self.check([b"Connection: Expect", b"Expect: 100-continue"], [])

    def test_expect(self) -> None:
        expect = (b"Expect", b"100-continue")
        line = b"Expect: 100-continue"
        self.check([line, b"Content-Length: 5"], [expect, (b"Content-Length", b"5")])
        old = self.outgoing(b.get(line, b"X: y", line=b"POST http://a.test/ HTTP/1.0"))
        self.assertEqual(old.headers.raw_items(), [HOST, (b"X", b"y")])

    def test_framing(self) -> None:
        for line, expected in (
            (b"content-LENGTH: 007", (b"content-LENGTH", b"7")),
            (b"Content-Length: 000", (b"Content-Length", b"0")),
            (b"Content-Length: " + b"9" * 18, (b"Content-Length", b"9" * 18)),
        ):
            self.check([b"A: 1", line, b"B: 2"], [(b"A", b"1"), expected, (b"B", b"2")])
        chunked = (b"Transfer-Encoding", b"chunked")
        self.check([b"transfer-encoding: CHUNKED", b"B: 2"], [(b"B", b"2"), chunked])
        self.check([b"A: 1"], [(b"A", b"1")])

    def test_max_forwards(self) -> None:
        for method, value, expected in (
            (b"OPTIONS", b"5", b"4"),
            (b"OPTIONS", b"1", b"0"),
            (b"OPTIONS", b"010", b"9"),
            (b"OPTIONS", b"many", b"many"),
            (b"OPTIONS", b"-1", b"-1"),
            (b"OPTIONS", b"9" * 5000, b"9" * 5000),
            (b"GET", b"5", b"5"),
        ):
            line = method + b" http://a.test/ HTTP/1.1"
            sent = self.outgoing(b.get(b"max-FORWARDS: " + value, line=line))
            self.assertEqual(sent.headers.raw_items(), [HOST, (b"max-FORWARDS", expected)], value)

    def test_last_hop(self) -> None:
        for method, value, last in (
            (b"OPTIONS", b"0", True),
            (b"OPTIONS", b"00", True),
            (b"OPTIONS", b"1", False),
            (b"OPTIONS", b"10", False),
            (b"OPTIONS", b"x", False),
            (b"OPTIONS", b"", False),
            (b"GET", b"0", False),
            (b"options", b"0", False),
        ):
            line = method + b" http://a.test/ HTTP/1.1"
            request, _ = read_request(b.get(b"Max-Forwards: " + value, line=line))
            self.assertEqual(is_last_hop(request), last, value)
        request, _ = read_request(b.get(line=b"OPTIONS http://a.test/ HTTP/1.1"))
        self.assertFalse(is_last_hop(request))


class UpgradeTests(RequestCase):
    def test_passed_on(self) -> None:
        for lines, protocols in (
            ([b"Upgrade: websocket", b"Connection: Upgrade"], b"websocket"),
            ([b"connection: keep-alive, UPGRADE", b"upgrade: WebSocket"], b"WebSocket"),
            ([b"Upgrade: a/1, b", b"Connection: upgrade", b"UPGRADE: c"], b"a/1, b, c"),
            ([b"Upgrade: x", b"Connection: upgrade", b"Content-Length: 0"], b"x"),
        ):
            sent = self.outgoing(b.get(*lines, b"X: y")).headers.raw_items()
            self.assertEqual(sent[-2:], [(b"Connection", b"Upgrade"), (b"Upgrade", protocols)])
            self.assertEqual([n.lower() for n, _ in sent].count(b"upgrade"), 1)
            self.assertEqual([n.lower() for n, _ in sent].count(b"connection"), 1)

    def test_not_passed_on(self) -> None:
        line = b"POST http://a.test/ HTTP/1.1"
        upgrade, connection = b"Upgrade: websocket", b"Connection: upgrade"
        for head in (
            b.get(upgrade, line=line),
            b.get(upgrade, b"Connection: upgrades, close", line=line),
            b.get(connection, line=line),
            b.get(connection, b"Upgrade:", line=line),
            b.get(connection, b"Upgrade: ,", line=line),
            b.get(upgrade, connection, b"Content-Length: 1", line=line),
            b.get(upgrade, connection, b"Transfer-Encoding: chunked", line=line),
            b.get(upgrade, connection, line=b"POST http://a.test/ HTTP/1.0"),
            b.get(connection, b"Upgrade: h2c", line=line),
            b.get(connection, b"Upgrade: websocket, H2C", line=line),
            b.get(connection, upgrade, b"Upgrade: h2c", b"HTTP2-Settings: A", line=line),
        ):
            names = [name for name, _ in self.outgoing(head).headers]
            self.assertFalse({b"upgrade", b"connection", b"http2-settings"} & set(names), head)


class ResponseTests(SynchronousTestCase):
    def check(self, head: bytes, expected: Fields, rules: Rules | None = None) -> None:
        self.assertEqual(response_fields(read_answer(head), rules or Rules()), expected, head)

    def test_order_and_spelling(self) -> None:
        lines = [b"SET-cookie: a", b"x: \xff", b"Set-Cookie: b", b"content-length: 005"]
        expected = [(b"SET-cookie", b"a"), (b"x", b"\xff"), (b"Set-Cookie", b"b")]
        self.check(b.answer(*lines), [*expected, (b"content-length", b"5")])

    def test_hop_by_hop(self) -> None:
        for line in (
            *(b"Connection: close", b"Keep-Alive: x", b"Transfer-Encoding: chunked", b"Upgrade: x"),
            *(b"Proxy-Authenticate: Basic", b"proxy-connection: x", b"TE: x"),
        ):
            self.check(b.answer(b"A: 1", line, b"B: 2"), [(b"A", b"1"), (b"B", b"2")])
        self.check(b.answer(b"A: 1", b"Connection: x, a", b"B: 2", b"a: 3"), [(b"B", b"2")])

    def test_close(self) -> None:
        answer = read_answer(b.answer(b"Connection: x", b"A: 1"))
        fields = response_fields(answer, Rules(), close=True)
        self.assertEqual(fields, [(b"A", b"1"), (b"Connection", b"close")])

    def test_switch(self) -> None:
        lines = (b"upgrade: WebSocket", b"Connection: UPGRADE, x", b"X: 1", b"Y: 2")
        head = b.answer(*lines, line=b"HTTP/1.1 101 x")
        expected = [(b"Y", b"2"), (b"Connection", b"Upgrade"), (b"Upgrade", b"WebSocket")]
        self.check(head, expected)
        # So does 426 say to what the origin would switch, and it may be the last answer, too.
        head = b.answer(*lines, line=b"HTTP/1.1 426 x")
        self.check(head, expected)
        told = response_fields(read_answer(head), Rules(), close=True)
        self.assertEqual(told, [*expected, (b"Connection", b"close")])

    def test_no_length_where_there_is_never_a_body(self) -> None:
        for status in (102, 204):
            head = b.answer(b"A: 1", b"Content-Length: 0", line=b"HTTP/1.1 %d x" % status)
            self.check(head, [(b"A", b"1")])
        for status in (200, 205, 304):
            head = b.answer(b"Content-Length: 0", line=b"HTTP/1.1 %d x" % status)
            self.check(head, [(b"Content-Length", b"0")])

    def test_interim(self) -> None:
        head = b.answer(b"Link: x", b"Connection: y", line=b"HTTP/1.1 103 x")
        self.check(head, [(b"Link", b"x")])


class TokensTests(SynchronousTestCase):
    def test_tokens(self) -> None:
        for lines, expected in (
            ([], []),
            ([b"X: "], []),
            ([b"X: A,b ,\tc, ,"], [b"a", b"b", b"c"]),
            ([b"X: a", b"Y: b", b"x: C d"], [b"a", b"c d"]),
        ):
            request, _ = read_request(b.get(*lines))
            self.assertEqual(tokens(items_of(request), b"x"), expected)


# -- Properties

_HOPS = st.lists(
    st.sampled_from(
        [
            *((b"Connection", b"X-Hop, close"), (b"connection", b"keep-alive"), (b"X-Hop", b"1")),
            *((b"Keep-Alive", b"timeout=5"), (b"TE", b"trailers"), (b"x-hop", b"2")),
            *((b"Proxy-Authorization", b"Basic eDp5"), (b"PROXY-Connection", b"x")),
        ]
    ),
    max_size=4,
)


def end_to_end(fields: b.Pairs) -> b.Pairs:
    """Return what is to be left of a message's fields: a second opinion."""
    named = [v.decode("latin-1") for n, v in fields if n.lower() == b"connection"]
    gone = {word.strip(" \t").lower() for word in ",".join(named).split(",")}
    gone |= {"connection", "keep-alive", "te", "transfer-encoding", "host"}
    kept = []
    for name, value in fields:
        low = name.decode().lower()
        if low not in gone and not low.startswith("proxy-"):
            kept.append((name, b"%d" % int(value) if low == "content-length" else value))
    return kept


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=60)
    @given(_HOPS.flatmap(lambda hops: b.requests(extra=hops)))
    def test_requests(self, message: b.Message) -> None:
        request, framing = read_request(message.raw)
        target = parse_absolute(request.method, request.target)
        outgoing = request_to_send(request, target, framing, Rules())
        client = h11.Connection(h11.CLIENT)
        sent = client.send(outgoing)
        # The origin reads the same: the fields, and what follows them.
        again, framing_again = read_request(sent)
        self.assertEqual(framing_again, message.framing)
        self.assertEqual(check_request(sent, b.LIMITS), message.framing)
        self.assertEqual(end_to_end(again.headers.raw_items()), end_to_end(message.fields))
        self.assertEqual((again.method, again.target), (message.method, b"/x?y"))
        if message.body:
            sent += client.send(h11.Data(data=message.body))
        trailers = message.trailers if framing is Body.CHUNKED else []
        client.send(h11.EndOfMessage(headers=trailers))

    @settings(max_examples=60)
    @given(_HOPS.flatmap(lambda hops: b.responses(extra=hops)))
    def test_responses(self, message: b.Message) -> None:
        answer = read_answer(message.raw, message.method)
        fields = response_fields(answer, Rules())
        server = h11.Connection(h11.SERVER)
        server.receive_data(b.get(line=message.method + b" / HTTP/1.1"))
        server.next_event()
        sent = server.send(h11.Response(status_code=message.status, reason=b"x", headers=fields))
        again = read_answer(sent, message.method)
        self.assertEqual(end_to_end(again.headers.raw_items()), end_to_end(message.fields))
        self.assertEqual(again.status_code, message.status)
        if message.body:
            server.send(h11.Data(data=message.body))
        trailers = message.trailers if message.framing is Body.CHUNKED else []
        server.send(h11.EndOfMessage(headers=trailers))
