from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import http_builders as b
from tests.http_reading import Reading
from whatsproxy.http1 import guard
from whatsproxy.http1.errors import BadMessageError, HeadTooLargeError
from whatsproxy.http1.heads import Body, Limits


class AnythingTests(SynchronousTestCase):
    @settings(max_examples=120)
    @given(b.mutated(b.streams.map(b.raw)) | st.binary(max_size=60), b.cuts, st.booleans())
    def test_requests(self, data: bytes, cuts: list[int], end: bool) -> None:
        whole = Reading().feed(data, end=end)
        self.assertLessEqual(whole.calls, 2 * len(data) + 2)
        self.assertEqual(Reading().feed(*b.cut(data, cuts), end=end).told, whole.told)
        if end:  # nothing is waited for any more
            last = whole.seen[-1].trailers is not None
            self.assertTrue(whole.error is not None or whole.closed or last)

    @settings(max_examples=120)
    @given(b.mutated(b.answers.map(b.raw)) | st.binary(max_size=60), b.cuts, st.booleans())
    def test_responses(self, data: bytes, cuts: list[int], end: bool) -> None:
        methods = [b"GET", b"HEAD", b"POST", b"GET"]
        whole = Reading(methods).feed(data, end=end)
        self.assertLessEqual(whole.calls, 2 * len(data) + 2)
        self.assertEqual(Reading(methods).feed(*b.cut(data, cuts), end=end).told, whole.told)
        if end:
            last = whole.seen[-1].trailers is not None
            self.assertTrue(whole.error is not None or whole.closed or last)


class AgreementTests(SynchronousTestCase):
    """Should the two parsers ever disagree, that is an error, not a guess."""

    def read(self, framing: Any) -> Reading:
        """Read a request with 5 bytes, of which the guard believes something else."""
        self.patch(guard, "check_request", lambda head, limits: framing)
        return Reading().feed(b.get(b"Content-Length: 5") + b"3\r\nhelloworld")

    def test_h11_wants_more(self) -> None:
        for framing in (0, 3):
            reading = self.read(framing)
            self.assertIs(type(reading.error), BadMessageError)
            self.assertIn("in doubt", str(reading.error))

    def test_h11_wants_chunks(self) -> None:
        self.patch(guard, "check_request", lambda head, limits: 0)
        reading = Reading().feed(b.CHUNKED)
        self.assertIs(type(reading.error), BadMessageError)
        self.assertIn("in doubt", str(reading.error))

    def test_h11_sees_the_end_of_the_head_before(self) -> None:
        """What the guard takes for a part of a head must not be the next request."""
        self.patch(guard, "find_head", lambda data, looked, limit: len(data))
        for framing in (0, 5):
            self.patch(guard, "check_request", lambda head, limits, framing=framing: framing)
            fields = [b"Content-Length: 5"] if framing else []
            reading = Reading().feed(b.get(*fields) + b.get())
            self.assertIs(type(reading.error), BadMessageError)
            self.assertIn("in doubt", str(reading.error))

    def test_h11_wants_less(self) -> None:
        for framing in (7, 100, Body.UNTIL_CLOSE):
            reading = self.read(framing)
            self.assertIs(type(reading.error), BadMessageError)
        # Nor where no more has come than h11 wants.
        self.patch(guard, "check_request", lambda head, limits: 7)
        reading = Reading().feed(b.get(b"Content-Length: 5") + b"hello")
        self.assertIs(type(reading.error), BadMessageError)

    def test_h11_wants_no_body(self) -> None:
        """Both have found the same length, but not that it is nobody's."""
        self.patch(guard, "check_response", lambda head, limits, to_head: (200, 5))
        reading = Reading([b"HEAD"]).feed(b.answer(b"Content-Length: 5") + b"hello")
        self.assertIs(type(reading.error), BadMessageError)
        self.assertEqual(Reading([b"GET"]).feed(b.answer(b"Content-Length: 5")).error, None)

    def test_what_h11_refuses_is_a_message_error(self) -> None:
        self.patch(guard, "check_request", lambda head, limits: 0)
        reading = Reading().feed(b"GET / HTTP/1.1\r\n\r\n")
        self.assertIs(type(reading.error), BadMessageError)


class LimitTests(SynchronousTestCase):
    def test_h11_takes_as_much(self) -> None:
        """Its own limit is never the narrower one."""
        for size in (1024, 65536, 1 << 20):
            limits = Limits(head=size)
            filler = b"X: " + b"x" * (size - len(b.get(b"X: ")))
            head = b.get(filler)
            self.assertEqual(len(head), size)
            section = b"X: " + b"x" * (size - 7) + b"\r\n\r\n"
            data = head + b.CHUNKED + b"0\r\n" + section
            for pieces in ([data], [data[i : i + 1000] for i in range(0, len(data), 1000)]):
                reading = Reading(limits=limits).feed(*pieces)
                self.assertIsNone(reading.error)
                self.assertEqual(len(reading.seen), 3)
            self.assertIs(
                type(Reading(limits=limits).feed(b.get(filler + b"x")).error), HeadTooLargeError
            )

    def test_a_large_body_is_no_incomplete_event(self) -> None:
        body = bytes(200_000)
        for head, told in (
            (b.get(b"Content-Length: %d" % len(body)), body),
            (b.CHUNKED, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)),
        ):
            reading = Reading(limits=Limits(head=1024)).feed(head + told)
            self.assertEqual(reading.seen[0].body, body)
            self.assertIsNotNone(reading.seen[0].trailers)
