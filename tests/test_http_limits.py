from typing import Any

from tests import http_builders as b
from tests.http_builders import CHUNKED
from tests.http_reading import GuardCase, take
from whatsproxy.http1 import heads
from whatsproxy.http1.errors import BodyTooLargeError, HeadTooLargeError
from whatsproxy.http1.guard import Guard
from whatsproxy.http1.heads import Limits


class LimitTests(GuardCase):
    def test_head(self) -> None:
        for responses, short in ((False, b.get(b"X: ")), (True, b.answer(b"X: "))):
            for limit in (1024, 65536):
                limits = Limits(head=limit)
                padding = b"x" * (limit - len(short))
                longest = short[:-4] + padding + short[-4:]
                told = self.taken(longest + b"", limits, responses=responses)
                self.assertEqual(told, (longest, b""))
                for beyond in (
                    short[:-4] + padding + b"x" + short[-4:],
                    short[:-4] + padding + b"x" * 10,
                    b"x" * (limit + 1),
                ):
                    text = f"larger than {limit} bytes"
                    self.refuse(beyond, HeadTooLargeError, text, limits, responses=responses)
        self.awaits(b"x" * 1024, Limits(head=1024))

    def test_what_follows_a_head_does_not_count(self) -> None:
        head = b.get()
        limits = Limits(head=len(head))
        told = take(Guard(limits, responses=False), [head + bytes(5000)])
        self.assertEqual(told, (head, bytes(5000)))

    def test_trailers(self) -> None:
        before = CHUNKED + b"0\r\n"
        limits = Limits(head=200, fields=3)
        longest = b"X: " + b"x" * 193 + b"\r\n\r\n"
        self.assertEqual(self.taken(before + longest, limits)[1], b"")
        for beyond in (b"X" + longest, b"x" * 201):
            self.refuse(before + beyond, HeadTooLargeError, "trailer section is larger", limits)
        self.assertEqual(self.taken(before + b"X: y\r\n" * 3 + b"\r\n", limits)[1], b"")
        many = before + b"X: y\r\n" * 4 + b"\r\n"
        self.refuse(many, HeadTooLargeError, "more than 3 fields", limits)

    def test_what_stands_behind_the_limit_changes_nothing(self) -> None:
        """It is seen in one piece and never in single bytes: the error must be the same."""
        limits = Limits(head=100)
        for behind in (b"\n", b"\rx", b"\r\r\n", b"\r\n\r\n"):
            data = b.get(b"X: " + b"x" * 100)[:101] + behind + b"Y: y\r\n\r\n"
            for responses in (False, True):
                text = "head is larger"
                self.refuse(data, HeadTooLargeError, text, limits, responses=responses)
            section = b.CHUNKED + b"0\r\n" + data
            self.refuse(section, HeadTooLargeError, "trailer section is larger", limits)

    def test_fields(self) -> None:
        for responses, build in ((False, b.get), (True, b.answer)):
            fields = [b"X: y"] * (99 if build is b.get else 100)
            self.taken(build(*fields), responses=responses)
            beyond = build(*fields, b"X: y")
            self.refuse(beyond, HeadTooLargeError, "than 100 fields", responses=responses)

    def test_counted_body(self) -> None:
        limits = Limits(body=5)
        self.assertEqual(self.taken(b.get(b"Content-Length: 5") + b"hello!", limits)[1], b"!")
        self.refuse(b.get(b"Content-Length: 6"), BodyTooLargeError, "6 bytes", limits)

    def test_chunked_body(self) -> None:
        limits = Limits(body=5)
        self.taken(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", limits)
        self.taken(CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", limits)
        for body in (b"6\r\n", b"5\r\nhello\r\n1\r\n", b"f" * 15 + b"\r\n"):
            self.refuse(CHUNKED + body, BodyTooLargeError, "more than 5 bytes", limits)

    def test_each_message_anew(self) -> None:
        guard = Guard(Limits(body=5), responses=False)
        message = CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"
        for _ in range(3):
            self.assertEqual(take(guard, [message]), (message, b""))
            guard.expect_message()

    def test_an_answer_may_have_any_size(self) -> None:
        limits = Limits(body=3)
        chunked = b.answer(b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n"
        for whole in (chunked, b.answer(b"Content-Length: 5") + b"hello", b.answer() + b"hello"):
            self.assertEqual(self.taken(whole, limits, responses=True), (whole, b""))

    def test_enormous_sizes(self) -> None:
        for size in (b"Content-Length: " + b"9" * 18, b"Transfer-Encoding: chunked"):
            line = b"f" * 15 + b"\r\n" if size.startswith(b"T") else b""
            guard = Guard(b.LIMITS, responses=False)
            data = b.get(size) + line + bytes(1000)
            self.assertEqual(take(guard, [data]), (data, b""))
            self.assertFalse(guard.ended)


class Counted(bytearray):
    """Counts the bytes through which it is searched."""

    searched = 0

    def find(self, what: Any, start: int = 0, end: int | None = None) -> int:
        found = super().find(what, start, len(self) if end is None else end)
        stop = min(len(self), len(self) if end is None else end) if found < 0 else found + len(what)
        self.searched += max(0, stop - start)
        return found


class CountedPattern:
    """Counts the bytes through which a regular expression is searched for."""

    def __init__(self, pattern: Any) -> None:
        self.pattern = pattern
        self.searched = 0

    def search(self, data: bytes, start: int, stop: int) -> Any:
        self.searched += stop - start
        return self.pattern.search(data, start, stop)


class WorkTests(GuardCase):
    def test_single_bytes_are_not_looked_at_again_and_again(self) -> None:
        pattern = CountedPattern(heads._BARE)
        self.patch(heads, "_BARE", pattern)
        filler = b"X: " + b"x" * 60_000
        for message in (
            b.get(filler),
            CHUNKED + b"0\r\n" + filler + b"\r\n\r\n",
            b.get(b"Content-Length: 60000") + bytes(60_000),
        ):
            guard, data = Guard(b.LIMITS, responses=False), Counted()
            pattern.searched = 0
            for piece in b.single(message):
                data += piece
                while guard.take(data):
                    pass
            self.assertTrue(guard.ended)
            self.assertLess(data.searched + pattern.searched, 12 * len(message))
            self.assertGreater(data.searched + pattern.searched, 0)
