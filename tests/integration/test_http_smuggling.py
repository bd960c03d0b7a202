"""Request smuggling: of a client's bytes there is one reading, the proxy's and the origin's.

Either the proxy refuses, and what was hidden behind is never asked for; or the origin gets exactly
one message for each request, by the letter of RFC 9112, and the client one answer for each.
"""

from collections.abc import Iterable
from dataclasses import replace

from tests.integration.recording_origin import Recording
from tests.integration.smuggling import CHUNKED, GET_LINE, INNER, SMUGGLED, Attack, head, length
from tests.integration.smuggling_bodies import all_bodies, cut_off
from tests.integration.smuggling_client import Client, SmugglingTestCase
from tests.integration.smuggling_heads import all_heads, large
from tests.integration.strict_http import Message

ALL = {**all_bodies(), **all_heads()}
#: A request that nothing is wrong with, for a connection on which HTTP is spoken already.
BEFORE = head(start=GET_LINE.replace(b"/x", b"/before"))
#: Those that are cut in two at each byte.
HALVED = [
    "CL.TE",
    "a request in a chunk",
    "CRLF behind a body",
    "CR behind a head",
    "trailer b'Content-Length: 5'",
    "legal b'0005;a=b\\r\\nhello\\r\\n000;c\\r\\n\\r\\n'",
]


class AttackTestCase(SmugglingTestCase):
    """A test that makes attempts and sees what becomes of them."""

    def attempt(
        self,
        attack: Attack,
        client: Client,
        pieces: Iterable[bytes],
        *before: bytes,
        ends: bool = False,
    ) -> None:
        """Send the pieces of an attack, and see what the origin and the client get.

        ``before`` are the methods of other requests that stand before it; ``ends`` says that the
        client then ends its direction at once.
        """
        client.send_apart(pieces)
        if ends:
            client.finish()
        answers = client.answers([*before, *attack.methods], len(attack.statuses))
        requests, beginnings = self.reached()
        self.assertEqual(b"", client.rest)
        self.assertEqual(list(attack.statuses), [answer.status for answer in answers])
        expected = [tuple(map(self.origin.put_in, told)) for told in attack.reached]
        self.assertEqual(expected, [request.told for request in requests])
        for beginning in beginnings:
            self.assertTrue(attack.begun, beginning)
            self.assertRegex(beginning, rb"\A(POST|GET) /x HTTP/1\.1\r\n")
        self.assertLessEqual(len(beginnings), 1)
        # Each answer is the one to the request in its place.
        own = [answer.body for answer in answers if answer.status == 200 and answer.body]
        self.assertEqual([b"%b %b" % told[:2] for told in expected], own)
        if attack.last:
            self.assertEqual([b"close"], answers[-1].values(b"connection"))


class RequestTests(AttackTestCase):
    """Each attack, in one piece and in many, alone and behind another request."""

    def setUp(self) -> None:
        super().setUp()
        self.carry()

    def alone(self, attack: Attack) -> Attack:
        """Return an attack as the first of a connection: it may not even pass for HTTP."""
        return replace(attack, statuses=()) if attack.unknown else attack

    def behind(self, attack: Attack) -> Attack:
        """Return what becomes of an attack behind the request for /before."""
        return replace(
            attack,
            statuses=(200, *attack.statuses),
            reached=((b"GET", b"/before", b""), *attack.reached),
        )

    def test_in_one_piece(self) -> None:
        def attempt(attack: Attack) -> None:
            self.attempt(self.alone(attack), self.by_tcp(), [self.origin.put_in(attack.sent)])

        self.each(ALL, attempt)

    def test_behind_another(self) -> None:
        def attempt(attack: Attack) -> None:
            pieces = [self.origin.put_in(BEFORE + attack.sent)]
            self.attempt(self.behind(attack), self.by_tcp(), pieces, b"GET")

        self.each(ALL, attempt)

    def test_byte_by_byte(self) -> None:
        def attempt(attack: Attack) -> None:
            # What is behind a refused request is not looked at: it may come at once.
            whole = SMUGGLED if attack.last else b""
            first = self.origin.put_in(attack.sent.removesuffix(whole))
            pieces = [first[i : i + 1] for i in range(len(first))] + [self.origin.put_in(whole)]
            if attack.unknown:
                pieces.insert(0, self.origin.put_in(BEFORE))
                self.attempt(self.behind(attack), self.by_unix(), pieces, b"GET")
            else:
                self.attempt(attack, self.by_unix(), pieces)

        self.each(ALL, attempt)

    def test_in_two_halves(self) -> None:
        def attempt(attack: Attack) -> None:
            sent = self.origin.put_in(attack.sent)
            for i in range(1, len(sent)):
                self.attempt(attack, self.by_unix(), [sent[:i], sent[i:]])

        self.each({name: ALL[name] for name in HALVED}, attempt)

    def test_cut_off(self) -> None:
        def attempt(attack: Attack) -> None:
            self.attempt(attack, self.by_tcp(), [self.origin.put_in(attack.sent)], ends=True)

        self.each(cut_off(), attempt)


class LimitTests(AttackTestCase):
    """What is too large is refused, and nothing behind it is read."""

    def test_each(self) -> None:
        self.carry(http="max_body = 1000")

        def attempt(attack: Attack) -> None:
            self.attempt(attack, self.by_tcp(), [self.origin.put_in(attack.sent)])

        self.each(large(), attempt)


class EarlyAnswerTests(SmugglingTestCase):
    """An origin that answers before it has read: what is left of the request is no request."""

    LINES = {
        "length": [length(SMUGGLED)],
        "chunked": [CHUNKED],
        "expectation": [length(SMUGGLED), b"Expect: 100-continue"],
        "expectation, chunked": [CHUNKED, b"Expect: 100-continue"],
    }

    def attempt(self, lines: list[bytes], answer: bytes, begun: bytes = b"") -> None:
        """Send a head, and the smuggled request when it is answered."""

        def early(recording: Recording) -> None:
            if recording.next_head() is not None:
                recording.send(answer)

        self.origin.behaviour = early
        client = self.by_tcp()
        client.send(self.origin.put_in(head(*lines) + begun))
        self.assertTrue(client.more())
        client.send(self.origin.put_in(SMUGGLED))
        # The proxy ends the connection by itself, without a second answer.
        while client.more():
            pass
        (got,) = client.answers([b"POST"], 1)
        self.assertEqual(b"", client.rest)
        self.assertEqual([b"close"], got.values(b"connection"))
        self.assertIn(b"early", got.body)
        requests, (beginning,) = self.reached()
        self.assertEqual([], requests)
        # Not even as the body: the origin has lost interest.
        self.assertNotIn(b"smuggled", beginning)

    def test_each(self) -> None:
        self.carry()
        sized = b"Content-Length: 5\r\n"
        for status in (b"200 OK", b"413 Full", b"417 No"):
            start = b"HTTP/1.1 " + status + b"\r\n"
            for more in (b"", b"Connection: close\r\n", b"Connection: keep-alive\r\n"):
                answer = start + sized + more + b"\r\nearly"
                self.each(self.LINES, lambda lines, answer=answer: self.attempt(lines, answer))

    def test_the_body_has_begun(self) -> None:
        self.carry()
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly"
        self.attempt([length(b"hello" + SMUGGLED)], answer, b"hello")
        self.attempt([CHUNKED], answer, b"5\r\nhello\r\n")
        self.attempt([CHUNKED], answer, b"5\r\nhel")


class HopByHopTests(SmugglingTestCase):
    """Fields of one connection, and tunnels."""

    def setUp(self) -> None:
        super().setUp()
        self.carry()

    def asked(self, sent: bytes, *methods: bytes) -> list[Message]:
        """Send, and return the answers."""
        client = self.by_tcp()
        client.send(self.origin.put_in(sent))
        return client.answers(list(methods), len(methods))

    def test_trailers_that_connection_names(self) -> None:
        # RFC 9110, 7.6.1: "remove any header or trailer field(s) ... with the same name".
        lines = [CHUNKED, b"Connection: X-Hop", b"X-Hop: 1", b"Trailer: X-Hop, X-Kept"]
        trailers = b"X-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-Kept: 1\r\n"
        (answer,) = self.asked(head(*lines) + b"0\r\n" + trailers + b"\r\n", b"POST")
        (request,), _ = self.reached()
        self.assertEqual(200, answer.status)
        self.assertEqual(((b"X-Kept", b"1"),), request.trailers)
        self.assertEqual([], request.values(b"x-hop"))

    def test_trailers_that_connection_names_in_answers(self) -> None:
        def behaviour(recording: Recording) -> None:
            recording.next_request()
            recording.send(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: X-Hop\r\n\r\n"
                b"0\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-Kept: 1\r\n\r\n"
            )

        self.origin.behaviour = behaviour
        (answer,) = self.asked(head(start=GET_LINE), b"GET")
        self.assertEqual(((b"X-Kept", b"1"),), answer.trailers)

    def test_connect_to_where_nobody_listens(self) -> None:
        for body in (SMUGGLED, INNER):
            target = b"origin.test:%d" % self.closed
            start = b"CONNECT " + target + b" HTTP/1.1"
            sent = head(start=start, host=b"Host: " + target) + body
            (answer,) = self.asked(sent, b"CONNECT")
            self.assertEqual((502, [b"close"]), (answer.status, answer.values(b"connection")))
        self.assertEqual(([], []), self.reached())

    def test_upgraded_with_a_request_behind(self) -> None:
        # When it is answered 101 what came early belongs to the new protocol, for all three.
        def behaviour(recording: Recording) -> None:
            recording.next_request()
            recording.send(b"HTTP/1.1 101 Now\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            recording.send(b"hello")
            recording.close()

        self.origin.behaviour = behaviour
        lines = [b"Connection: Upgrade", b"Upgrade: websocket"]
        client = self.by_tcp()
        client.send(self.origin.put_in(head(*lines, start=GET_LINE) + SMUGGLED))
        client.leave()
        switch, _, rest = client.received.partition(b"\r\n\r\n")
        self.assertTrue(switch.startswith(b"HTTP/1.1 101 Now\r\n"), client.received)
        self.assertEqual(b"hello", rest)
        (recording,) = self.origin.settled()
        request, _, rest = recording.received.partition(b"\r\n\r\n")
        self.assertTrue(request.startswith(b"GET /x HTTP/1.1\r\n"), recording.received)
        self.assertEqual(self.origin.put_in(SMUGGLED), rest)
