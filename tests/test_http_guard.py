from hypothesis import given, settings
from hypothesis import strategies as st

from tests import http_builders as b
from tests.http_builders import CHUNKED
from tests.http_reading import GuardCase, take
from whatsproxy.http1.errors import BadMessageError, MessageError
from whatsproxy.http1.guard import CHUNK_LINE_LIMIT, Guard
from whatsproxy.http1.heads import Body


class MessageTests(GuardCase):
    @settings(max_examples=80)
    @given(b.requests(), b.cuts, st.binary(max_size=5))
    def test_requests(self, message: b.Message, cuts: list[int], behind: bytes) -> None:
        guard = Guard(b.LIMITS, responses=False)
        told = take(guard, b.cut(message.raw + behind, cuts))
        self.assertEqual(told, (message.head + message.plain, behind))
        self.assertTrue(guard.ended)
        self.assertEqual(guard.head, message.head)
        self.assertEqual(guard.framing, message.framing)

    @settings(max_examples=80)
    @given(b.interims, b.responses(), b.cuts, st.binary(max_size=5))
    def test_responses(
        self, interims: list[bytes], message: b.Message, cuts: list[int], behind: bytes
    ) -> None:
        guard = Guard(b.LIMITS, responses=True)
        guard.to_head = message.method == b"HEAD"
        before = b"".join(interims)
        taken, left = take(guard, b.cut(before + message.raw + behind, cuts))
        if message.framing is Body.UNTIL_CLOSE:
            self.assertEqual((taken, left), (before + message.head + message.plain + behind, b""))
            self.assertFalse(guard.ended)
        else:
            self.assertEqual((taken, left), (before + message.head + message.plain, behind))
            self.assertTrue(guard.ended)
        self.assertEqual(guard.head, message.head)
        self.assertEqual(guard.framing, message.framing)

    @given(st.lists(b.requests(lasting=True), min_size=1, max_size=4))
    def test_one_after_another(self, messages: list[b.Message]) -> None:
        guard = Guard(b.LIMITS, responses=False)
        data = bytearray(b"".join(message.raw for message in messages))
        for message in messages:
            taken = b""
            while not guard.ended:
                taken += guard.take(data)
            self.assertEqual(taken, message.head + message.plain)
            self.assertEqual(guard.take(data), b"")
            guard.expect_message()
            self.assertFalse(guard.ended)
            self.assertEqual((guard.head, guard.framing), (b"", 0))
        self.assertEqual(data, b"")

    @settings(max_examples=200)
    @given(st.booleans(), b.mutated(b.requests().map(lambda m: m.raw)) | st.binary(), b.cuts)
    def test_anything(self, responses: bool, data: bytes, cuts: list[int]) -> None:
        """A message error, or some bytes of it, in their order; the same in every segmentation."""
        told = []
        for pieces in ([data], b.cut(data, cuts)):
            guard = Guard(b.LIMITS, responses=responses)
            try:
                told.append((*take(guard, pieces), guard.ended))
            except MessageError as e:
                told.append(type(e))
        self.assertEqual(told[0], told[1])

    def test_a_line_too_many_is_skipped(self) -> None:
        head = b.get()
        self.assertEqual(self.taken(b"\r\n" + head + b"x"), (head, b"x"))
        self.awaits(b"\r\n")
        for before in (b"\r\n\r\n", b"\n", b"\r", b" ", b"\r\n\n", b"\r\n\r"):
            self.refuse(before + head, BadMessageError, "bare|request line")
        guard = Guard(b.LIMITS, responses=False)
        for _ in range(3):  # before each of them
            self.assertEqual(take(guard, [b"\r\n" + head]), (head, b""))
            guard.expect_message()
        # An answer has no business with it.
        self.refuse(b"\r\n" + b.answer(), BadMessageError, "status line", responses=True)

    def test_switch(self) -> None:
        head = b.answer(b"Upgrade: x", line=b"HTTP/1.1 101 Switching Protocols")
        self.assertEqual(self.taken(head + head, responses=True), (head, head))

    def test_to_head_lasts_for_one(self) -> None:
        guard = Guard(b.LIMITS, responses=True)
        guard.to_head = True
        self.assertEqual(take(guard, [b.answer(b"Content-Length: 5") + b"HTTP/"])[1], b"HTTP/")
        guard.expect_message()
        guard.to_head = False
        self.assertEqual(take(guard, [b.answer(b"Content-Length: 5") + b"HTTP/!"])[1], b"!")


class ChunkTests(GuardCase):
    def test_lines(self) -> None:
        for line, size in (
            *((b"5", b"5"), (b"5 ", b"5"), (b"5 \t;", b"5"), (b"5;a", b"5"), (b"5;;\t\xff", b"5")),
            *((b"0" * 14 + b"5", b"0" * 14 + b"5"), (b'5;a="\\"', b"5"), (b"5 ;", b"5")),
        ):
            told = self.taken(CHUNKED + line + b"\r\nhello\r\n0\r\n\r\nx")
            self.assertEqual(told, (CHUNKED + size + b"\r\nhello\r\n0\r\n\r\n", b"x"), line)
        for zero in (b"0", b"000", b"0" * 15, b"0;x"):
            taken, _ = self.taken(CHUNKED + zero + b"\r\n\r\n")
            self.assertEqual(taken, CHUNKED + zero.partition(b";")[0] + b"\r\n\r\n")

    def test_bad_lines(self) -> None:
        for line in (
            *(b"", b" 5", b"-5", b"+5", b"0x5", b"5,", b"g", b"5 5", b"5\x0b", b"5\xa0", b"\t5"),
            *(b"\xb9", b"5_0", b"0" * 15 + b"5", b"f" * 16, b"5\0", b"5;a\0", b"5;\x7f", b";a"),
            *(b"5\r", b"5;a\rb", b"5 a", b"5.", b"five", b"5=a", b'"5"'),
        ):
            data = CHUNKED + line + b"\r\nhello\r\n0\r\n\r\n"
            self.refuse(data, BadMessageError, "hexadecimal digits")
        for line in (b"5\n", b"5;a\n", b"\n", b"0\n\n", b"5\nhello\n0\n\n"):
            self.refuse(CHUNKED + line, BadMessageError, "not a line of its own")

    def test_line_limit(self) -> None:
        for size in (CHUNK_LINE_LIMIT - 2, CHUNK_LINE_LIMIT - 1):
            line = b"5;" + b"a" * (size - 2)
            data = CHUNKED + line + b"\r\nhello\r\n0\r\n\r\n"
            if size + 2 <= CHUNK_LINE_LIMIT:
                self.assertEqual(self.taken(data)[1], b"")
            else:
                self.refuse(data, BadMessageError, "not a line of its own")
        # Not even an endless one is waited for.
        line = b"5;" + b"a" * CHUNK_LINE_LIMIT
        self.awaits(CHUNKED + line[: CHUNK_LINE_LIMIT - 1])
        self.refuse(CHUNKED + line[:CHUNK_LINE_LIMIT], BadMessageError, "line of its own")
        self.refuse(CHUNKED + b"0" * CHUNK_LINE_LIMIT, BadMessageError, "line of its own")

    def test_end(self) -> None:
        for end in (b"x\r\n", b"\n", b"\r0", b"\rx", b"0\r\n\r\n", b"\n\r\n", b" \r\n", b"\0"):
            data = CHUNKED + b"5\r\nhello" + end
            self.refuse(data, BadMessageError, "longer than its size")
        self.awaits(CHUNKED + b"5\r\nhello\r")

    def test_trailers(self) -> None:
        for section in (b"\r\n", b"X: y\r\n\r\n", b"X:\r\nY: \xff\r\n\r\n"):
            data = CHUNKED + b"0\r\n" + section
            self.assertEqual(self.taken(data + b"\r\nx"), (data, b"\r\nx"))
            for size in range(len(section)):
                self.awaits(CHUNKED + b"0\r\n" + section[:size])
        for section, text in (
            (b"X: y\n\r\n", "bare CR or LF"),
            (b"\n", "bare CR or LF"),
            (b"\rX", "bare CR or LF"),
            (b"X y\r\n\r\n", "no colon"),
            (b" X: y\r\n\r\n", "obs-fold"),
            (b"Content-Length: 5\r\n\r\n", "belongs into the head"),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "no colon"),
        ):
            self.refuse(CHUNKED + b"0\r\n" + section, BadMessageError, text)
