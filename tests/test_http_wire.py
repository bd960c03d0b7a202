import h11
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import http_builders as b
from tests.http_reading import Reading
from whatsproxy.http1.errors import BadMessageError
from whatsproxy.http1.heads import Body
from whatsproxy.http1.wire import Wire


class WireCase(SynchronousTestCase):
    def check_seen(self, reading: Reading, messages: list[b.Message]) -> None:
        """Insist that these messages were told, and all that they say."""
        self.assertIsNone(reading.error)
        for seen, message in zip(reading.seen, messages, strict=False):
            told = seen.first[-1]
            self.assertEqual(told.headers.raw_items(), as_h11_tells(message.fields))
            if message.status:
                self.assertEqual(told.status_code, message.status)
            else:
                self.assertEqual(told.method, message.method)
            self.assertEqual(seen.framing, message.framing)
            self.assertEqual(seen.body, message.body)
            self.assertEqual(seen.trailers, message.trailers)

    def record(self) -> list[bytes]:
        """Return a list of what h11 is given from now on."""
        given: list[bytes] = []
        receive = h11.Connection.receive_data

        def receive_data(connection: h11.Connection, data: bytes) -> None:
            given.append(data)
            receive(connection, data)

        self.patch(h11.Connection, "receive_data", receive_data)
        return given


def as_h11_tells(fields: b.Pairs) -> b.Pairs:
    """Return fields as h11 gives them: the name of the coding is in lower case."""
    return [(n, v.lower() if n.lower() == b"transfer-encoding" else v) for n, v in fields]


class RequestTests(WireCase):
    @settings(max_examples=60)
    @given(b.streams, b.cuts)
    def test_every_segmentation(self, messages: list[b.Message], cuts: list[int]) -> None:
        data = b.raw(messages)
        reading = Reading().feed(*b.cut(data, cuts), end=True)
        self.check_seen(reading, messages)
        # After the last there may follow another, which never came: or the connection ends.
        self.assertIn(len(reading.seen), (len(messages), len(messages) + 1))
        self.assertEqual(reading.closed, len(reading.seen) > len(messages))
        self.assertEqual(reading.wire.take_rest(), b"")
        self.assertEqual(Reading().feed(*b.single(data), end=True).told, reading.told)

    @settings(max_examples=40)
    @given(b.streams, b.cuts)
    def test_h11_sees_no_byte_beyond(self, messages: list[b.Message], cuts: list[int]) -> None:
        given = self.record()
        wire = Wire(h11.SERVER, b.LIMITS)
        pieces = b.cut(b.raw(messages), cuts)
        for message in messages:
            given.clear()
            while not (event := wire.next_event()) or type(event) is not h11.EndOfMessage:
                if event is None:
                    wire.receive(pieces.pop(0))
            # A body that is counted is none of its business.
            framed = b"" if isinstance(message.framing, int) else message.plain
            self.assertEqual(b"".join(given), message.head + framed)
            self.assertEqual(wire.raw_head, message.head)
            # What has come behind it stays where it is, and is told to nobody.
            self.assertIsNone(wire.next_event())
            self.assertEqual(b"".join(given), message.head + framed)
            wire.send(h11.Response(status_code=204, headers=[]))
            wire.send(h11.EndOfMessage())
            if wire.reusable:
                wire.start_next_cycle()

    @settings(max_examples=60)
    @given(b.streams, b.cuts, st.binary(max_size=10))
    def test_rest(self, messages: list[b.Message], cuts: list[int], behind: bytes) -> None:
        first, *others = messages
        expected = b.raw(others) + behind
        wire = Wire(h11.SERVER, b.LIMITS)
        for piece in b.cut(b.raw(messages) + behind, cuts):
            wire.receive(piece)
            while wire.next_event() is not None:
                pass
        self.assertEqual(wire.framing, first.framing)
        self.assertEqual(wire.buffered, len(expected))
        self.assertEqual(wire.take_rest(), expected)
        self.assertEqual((wire.buffered, wire.take_rest()), (0, b""))

    def test_many_cycles(self) -> None:
        message = b.CHUNKED + b"5;x\r\nhello\r\n0\r\nX: y\r\n\r\n\r\n"
        reading = Reading().feed(message * 200)
        self.assertEqual(len(reading.seen), 201)
        for seen in reading.seen[:-1]:
            self.assertEqual((seen.body, seen.trailers), (b"hello", [(b"X", b"y")]))
        self.assertIsNone(reading.error)

    def test_not_reusable(self) -> None:
        for head in (b.get(b"Connection: x, close"), b.get(line=b"GET / HTTP/1.0")):
            reading = Reading().feed(head + b"behind")
            self.assertFalse(reading.wire.reusable)
            self.assertEqual(reading.wire.take_rest(), b"behind")
        wire = Wire(h11.SERVER, b.LIMITS)
        wire.receive(b.get())
        self.assertFalse(wire.reusable)
        wire.next_event()
        wire.next_event()
        self.assertFalse(wire.reusable)  # not answered

    def test_version(self) -> None:
        for version in (b"1.0", b"1.1"):
            wire = Wire(h11.SERVER, b.LIMITS)
            self.assertFalse(wire.speaks_1_1)
            wire.receive(b.get(line=b"GET / HTTP/" + version))
            wire.next_event()
            self.assertEqual(wire.speaks_1_1, version == b"1.1")

    def test_upgrade_and_connect_leave_the_rest(self) -> None:
        for head in (
            b.get(b"Upgrade: websocket", b"Connection: upgrade"),
            b.get(line=b"CONNECT a.test:443 HTTP/1.1"),
        ):
            wire = Wire(h11.SERVER, b.LIMITS)
            wire.receive(head + b"GET / HTTP/1.1")
            kinds = [type(wire.next_event()) for _ in range(4)]
            self.assertEqual(kinds, [h11.Request, h11.EndOfMessage, type(None), type(None)])
            self.assertEqual(wire.take_rest(), b"GET / HTTP/1.1")


class ResponseTests(WireCase):
    @settings(max_examples=60)
    @given(b.answers, b.interims, b.cuts)
    def test_every_segmentation(
        self, messages: list[b.Message], interims: list[bytes], cuts: list[int]
    ) -> None:
        data = b"".join(b"".join(interims) + message.raw for message in messages)
        methods = [message.method for message in messages]
        reading = Reading(methods).feed(*b.cut(data, cuts), end=True)
        self.assertEqual(len(reading.seen), len(messages))
        self.check_seen(reading, messages)
        for seen in reading.seen:
            self.assertEqual(len(seen.first), len(interims) + 1)
        self.assertEqual(Reading(methods).feed(*b.single(data), end=True).told, reading.told)

    def test_switch(self) -> None:
        wire = Wire(h11.CLIENT, b.LIMITS)
        fields = [("Host", "a"), ("Connection", "upgrade"), ("Upgrade", "websocket")]
        wire.send(h11.Request(method="GET", target="/", headers=fields))
        wire.send(h11.EndOfMessage())
        head = b.answer(b"Upgrade: websocket", line=b"HTTP/1.1 101 Switching Protocols")
        wire.receive(head + b"HTTP/1.1 200 OK\r\n\r\n")
        event = wire.next_event()
        self.assertIs(type(event), h11.InformationalResponse)
        self.assertIsNone(wire.next_event())
        self.assertEqual(wire.take_rest(), b"HTTP/1.1 200 OK\r\n\r\n")

    def test_switch_that_nobody_wanted(self) -> None:
        reading = Reading([b"GET"]).feed(b.answer(line=b"HTTP/1.1 101 Switching Protocols"))
        self.assertIs(type(reading.error), BadMessageError)

    def test_answer_to_head_is_not_for_the_next(self) -> None:
        told = b.answer(b"Content-Length: 5")
        reading = Reading([b"HEAD", b"GET", b"HEAD"]).feed(told + told + b"hello" + told)
        self.assertEqual([seen.body for seen in reading.seen], [b"", b"hello", b""])
        self.assertIsNone(reading.error)

    def test_answer_to_nobody(self) -> None:
        reading = Reading([b"GET"]).feed(b.answer(b"Content-Length: 0") * 2)
        self.assertEqual(len(reading.seen), 1)
        self.assertEqual(reading.wire.buffered, len(b.answer(b"Content-Length: 0")))

    def test_early(self) -> None:
        """An answer may come before its request is complete."""
        wire = Wire(h11.CLIENT, b.LIMITS)
        fields = [("Host", "a"), ("Content-Length", "5")]
        wire.send(h11.Request(method="POST", target="/", headers=fields))
        wire.receive(b.answer(b"Content-Length: 0"))
        kinds = [type(wire.next_event()) for _ in range(3)]
        self.assertEqual(kinds, [h11.Response, h11.EndOfMessage, type(None)])
        self.assertFalse(wire.reusable)
        wire.send(h11.Data(data=b"hello"))
        wire.send(h11.EndOfMessage())
        self.assertTrue(wire.reusable)


class UnseenTests(WireCase):
    """A body that has a length need not come here."""

    def begun(self, *more: bytes) -> Wire:
        wire = Wire(h11.SERVER, b.LIMITS)
        wire.receive(b.get(b"Content-Length: 10"))
        for piece in more:
            wire.receive(piece)
        self.assertEqual(wire.unseen, 0)  # its head was not read
        self.assertIs(type(wire.next_event()), h11.Request)
        return wire

    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=10), b.cuts)
    def test_some_of_it(self, pieces: list[tuple[bool, int]], cuts: list[int]) -> None:
        wire, left = self.begun(), 10
        for unseen, wanted in pieces:
            size = min(wanted, left)
            left -= size
            self.assertEqual(wire.unseen, left + size)
            if unseen and size:
                self.assertEqual(wire.passed(size), left == 0)
            elif size:
                wire.receive(bytes(size))
                self.assertEqual(wire.unseen, 0)
                self.assertEqual(wire.next_event(), h11.Data(data=bytes(size)))
            self.assertFalse(wire.complete)
        if left:
            self.assertIsNone(wire.next_event())
            self.assertTrue(wire.passed(left))
        self.assertEqual(wire.unseen, 0)
        self.assertEqual(wire.next_event(), h11.EndOfMessage())
        self.assertTrue(wire.complete)
        for piece in b.cut(b.get(), cuts):  # and this is another message
            wire.receive(piece)
            self.assertIsNone(wire.next_event())
        wire.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
        wire.send(h11.EndOfMessage())
        wire.start_next_cycle()
        self.assertIs(type(wire.next_event()), h11.Request)
        self.assertEqual(wire.unseen, 0)

    def test_not_more(self) -> None:
        for size in (11, -1):
            self.assertRaises(ValueError, self.begun().passed, size)
        wire = self.begun()
        self.assertTrue(wire.passed(10))
        self.assertRaises(ValueError, wire.passed, 1)
        wire = Wire(h11.SERVER, b.LIMITS)
        wire.receive(b.CHUNKED + b"5\r\n")
        wire.next_event()
        self.assertIsNone(wire.next_event())
        self.assertEqual(wire.unseen, 0)
        self.assertRaises(ValueError, wire.passed, 1)

    def test_the_end_in_the_middle(self) -> None:
        wire = self.begun()
        wire.passed(9)
        wire.end()
        self.assertRaisesRegex(BadMessageError, "too early", wire.next_event)
        self.assertEqual(wire.unseen, 0)

    def test_an_answer_to_head(self) -> None:
        wire = Wire(h11.CLIENT, b.LIMITS)
        wire.send(h11.Request(method="HEAD", target="/", headers=[("Host", "a")]))
        wire.receive(b.answer(b"Content-Length: 10"))
        wire.next_event()
        self.assertEqual(wire.unseen, 0)

    def test_who_waits_for_100(self) -> None:
        for begins in (lambda wire: wire.passed(1), lambda wire: wire.receive(b"x")):
            wire = Wire(h11.SERVER, b.LIMITS)
            wire.receive(b.get(b"Content-Length: 10", b"Expect: 100-continue"))
            wire.next_event()
            self.assertTrue(wire.waits_for_100)
            begins(wire)
            wire.next_event()
            self.assertFalse(wire.waits_for_100)

    def test_who_was_told_to_go_on(self) -> None:
        for status, kind in ((100, h11.InformationalResponse), (417, h11.Response)):
            wire = Wire(h11.SERVER, b.LIMITS)
            wire.receive(b.get(b"Content-Length: 10", b"Expect: 100-continue"))
            wire.next_event()
            self.assertTrue(wire.waits_for_100)
            wire.send(kind(status_code=status, headers=[]))
            self.assertFalse(wire.waits_for_100)


class EndTests(WireCase):
    """The connection's end, behind each byte: an error, unless a message may end there."""

    @settings(max_examples=25)
    @given(b.requests())
    def test_requests(self, message: b.Message) -> None:
        for size in range(len(message.raw) + 1):
            begun = message.raw[:size]
            for pieces in ([begun], [begun[:-1], begun[-1:]]):
                reading = Reading().feed(*pieces, end=True)
                complete = reading.seen[0].trailers is not None
                self.assertEqual(complete, size == len(message.raw))
                if size in (0, len(message.raw)):
                    self.assertIsNone(reading.error)
                else:
                    self.assertIs(type(reading.error), BadMessageError)
                self.assertEqual(reading.closed, len(reading.seen) > 1 or size == 0)

    @settings(max_examples=25)
    @given(b.responses())
    def test_responses(self, message: b.Message) -> None:
        until_close = message.framing is Body.UNTIL_CLOSE
        for size in range(len(message.raw) + 1):
            begun = message.raw[:size]
            for pieces in ([begun], [begun[:-1], begun[-1:]]):
                reading = Reading([message.method]).feed(*pieces, end=True)
                right = size == len(message.raw) or (until_close and size >= len(message.head))
                self.assertEqual(reading.seen[0].trailers is not None, right, size)
                self.assertEqual(type(reading.error), type(None) if right else BadMessageError)

    def test_after_a_line_too_many(self) -> None:
        self.assertTrue(Reading().feed(b.get() + b"\r\n", end=True).closed)
        self.assertTrue(Reading().feed(b"\r\n", end=True).closed)
        self.assertIs(type(Reading().feed(b"\r", end=True).error), BadMessageError)

    def test_behind_an_interim_answer(self) -> None:
        reading = Reading([b"GET"]).feed(b.answer(line=b"HTTP/1.1 100 Continue"), end=True)
        self.assertIs(type(reading.error), BadMessageError)

    def test_between_answers(self) -> None:
        wire = Wire(h11.CLIENT, b.LIMITS)
        wire.end()
        self.assertEqual(wire.next_event(), h11.ConnectionClosed())
