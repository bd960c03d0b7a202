"""HTTP bodies that nobody looks at go through a pipe, to the byte, and HTTP goes on behind them."""

from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http_peers import head_of
from tests.http_rig import (
    FORWARDED,
    GET,
    PIECES,
    HttpRig,
    UnseenCase,
    answer,
    body,
    put,
    put_forwarded,
)
from tests.splice_rig import MIB
from whatsproxy.hub_transport import SMALL
from whatsproxy.reason import Reason
from whatsproxy.splice import Pipe

_SIZES = st.sampled_from([0, 1, 4000, 4096, 5000, 65536, 65537, 200_000, 300_000, MIB])


class WholeTests(UnseenCase):
    """Messages one behind the other, in any pieces: each arrives, and not a byte else."""

    @settings(max_examples=60)
    @given(
        st.none() | _SIZES,
        st.lists(_SIZES, min_size=1, max_size=4),
        PIECES,
        PIECES,
        st.sampled_from([0, 1, 16]),
    )
    def test_any(
        self,
        upload: int | None,
        sizes: list[int],
        asking: list[tuple[int, int]],
        answering: list[tuple[int, int]],
        pipes: int,
    ) -> None:
        self.filled.clear()
        rig = HttpRig(pipes)
        asked = [(GET, FORWARDED)] * len(sizes)
        if upload is not None:
            sent = body(upload, 9)
            asked[0] = put(upload) + sent, put_forwarded(upload) + sent
        rig.send(rig.client, b"".join(request for request, _ in asked), asking)
        expected = b""
        for number, size in enumerate(sizes):
            expected += asked[number][1]
            rig.turn_until(lambda: len(rig.upstream.received) >= len(expected))  # noqa: B023  # called in this very round
            self.assertEqual(rig.upstream.received, expected)
            rig.send(rig.upstream, answer(size) + body(size, number), answering)
            rig.turn_until(lambda: rig.client.received == rig.upstream.sent)
        self.assertLessEqual(sum(self.filled), sum(sizes) + (upload or 0))
        self.served(rig)
        rig.client.end()
        self.end(rig, Reason.CLIENT_CLOSED)
        self.accounted(rig)

    def test_a_download_is_not_copied(self) -> None:
        rig = HttpRig()
        rig.client.send(GET)
        rig.turn_until(lambda: rig.upstream.received == FORWARDED)
        rig.upstream.send(answer(3 * MIB) + body(3 * MIB))
        rig.turn_until(lambda: rig.client.received == rig.upstream.sent)
        self.assertGreater(sum(self.filled), 2.9 * MIB)
        self.served(rig)
        rig.client.end()
        self.end(rig, Reason.CLIENT_CLOSED)
        self.accounted(rig)

    def test_the_next_download_is_copied_no_more_than_the_first(self) -> None:
        """What comes behind a body is a head again."""
        rig = HttpRig()
        asked, size = b"", 100_000
        for number in range(3):
            rig.client.send(GET)
            asked += FORWARDED
            rig.turn_until(lambda: rig.upstream.received == asked)  # noqa: B023  # called in this very round
            rig.upstream.send(answer(size) + body(size, number))
            rig.turn_until(lambda: rig.client.received == rig.upstream.sent)
            self.assertGreaterEqual(sum(self.filled), (number + 1) * (size - SMALL))
        rig.client.end()
        self.end(rig, Reason.CLIENT_CLOSED)

    def test_an_upload_is_not_copied(self) -> None:
        rig = HttpRig()
        rig.client.send(put(3 * MIB) + body(3 * MIB) + GET)
        expected = put_forwarded(3 * MIB) + body(3 * MIB)
        rig.turn_until(lambda: rig.upstream.received == expected)
        self.assertGreater(sum(self.filled), 2.9 * MIB)
        rig.upstream.send(answer(0))
        rig.turn_until(lambda: rig.upstream.received == expected + FORWARDED)
        rig.upstream.send(answer(1) + b"x")
        rig.turn_until(lambda: rig.client.received == rig.upstream.sent)
        self.served(rig)
        rig.client.end()
        self.end(rig, Reason.CLIENT_CLOSED)
        self.accounted(rig)

    def test_chunks_are_copied(self) -> None:
        """Their framing has to be read."""
        rig = HttpRig()
        rig.client.send(GET)
        rig.turn_until(lambda: rig.upstream.received == FORWARDED)
        head = head_of(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked")
        rig.upstream.send(head + b"100000\r\n" + body(MIB) + b"\r\n0\r\n\r\n")
        rig.turn_until(lambda: rig.client.received.endswith(b"\r\n0\r\n\r\n"))
        self.assertEqual(self.filled, [])
        self.served(rig)
        rig.client.end()
        self.end(rig, Reason.CLIENT_CLOSED)

    def test_an_answer_to_head(self) -> None:
        """It tells the length of a body that does not come: what comes instead is unasked for."""
        rig = HttpRig()
        rig.client.send(GET.replace(b"GET", b"HEAD"))
        rig.turn_until(lambda: rig.upstream.received == FORWARDED.replace(b"GET", b"HEAD"))
        rig.upstream.send(answer(MIB) + body(MIB))
        rig.turn_until(lambda: rig.upstream.saw_end or rig.upstream.saw_reset)
        self.assertEqual(rig.client.received, answer(MIB))
        self.assertEqual(self.filled, [])
        rig.client.end()
        self.end(rig, Reason.CLIENT_CLOSED)


class BehindTests(UnseenCase):
    """What stands behind a body is not a part of it."""

    def test_an_answer_that_nobody_asked_for(self) -> None:
        rig = self.begun_download(2 * MIB)
        whole = bytes(rig.client.received) + body(MIB, 3)
        rig.upstream.send(body(MIB, 3) + answer(5) + b"smuggled" * 1000)
        rig.turn_until(lambda: rig.upstream.saw_end or rig.upstream.saw_reset)
        rig.turn(3)
        self.assertEqual(rig.client.received, whole)
        rig.client.end()
        self.end(rig, Reason.CLIENT_CLOSED)
        self.accounted(rig)

    def test_what_is_no_request(self) -> None:
        rig = self.begun_upload(2 * MIB)
        whole = bytes(rig.upstream.received) + body(MIB, 3)
        rig.client.send(body(MIB, 3) + b"no request\r\n\r\n")
        rig.turn_until(lambda: rig.upstream.received == whole)
        rig.upstream.send(answer(0))
        rig.turn_until(lambda: rig.client.received.startswith(answer(0) + b"HTTP/1.1 400 "))
        rig.turn(3)
        self.assertEqual(rig.upstream.received, whole)
        rig.client.end()
        self.end(rig, Reason.BAD_REQUEST)


class FullTests(UnseenCase):
    """Who does not read holds up who sends, and no more than a pipe and the kernel's buffers."""

    def test_a_client_that_does_not_read(self) -> None:
        rig = HttpRig()
        rig.client.send(GET * 2)
        rig.turn_until(lambda: rig.upstream.received == FORWARDED)
        rig.client.stall()
        rig.upstream.send(answer(4 * MIB) + body(4 * MIB))
        rig.turn_until(lambda: rig.fast.hub.pipes.lent)
        rig.turn(5)
        self.assertLess(rig.session.sent, 3 * MIB)
        self.assertGreater(rig.leg.held(), 0)
        self.assertTrue(rig.leg._full)
        rig.client.read()
        rig.turn_until(lambda: rig.client.received == rig.upstream.sent)
        rig.turn_until(lambda: rig.upstream.received == FORWARDED * 2)
        self.assertEqual(rig.leg.held(), 0)
        rig.upstream.send(answer(0))
        rig.turn_until(lambda: rig.client.received == rig.upstream.sent)
        rig.client.end()
        self.end(rig, Reason.CLIENT_CLOSED)
        self.accounted(rig)

    def test_the_end_of_a_body_is_in_the_pipe(self) -> None:
        """The next request is not begun before the client has taken the answer."""
        rig = HttpRig()
        rig.client.send(GET * 2)
        rig.turn_until(lambda: rig.upstream.received == FORWARDED)
        with mock.patch.object(Pipe, "empty", return_value=False):
            rig.upstream.send(answer(40_000) + body(40_000))
            rig.turn_until(lambda: rig.fast.hub.pipes.lent)
            rig.turn(3)
        self.assertIsNone(rig.leg.exchange)  # for the proxy it is over
        self.assertGreater(rig.leg.held(), 30_000)
        self.assertEqual(rig.upstream.received, FORWARDED)
        rig.fast.hub.rearm(rig.to_client.getHandle().fileno())
        rig.turn_until(lambda: rig.upstream.received == FORWARDED * 2)
        rig.turn_until(lambda: rig.client.received == rig.upstream.sent)
        rig.client.reset()
        self.end(rig, Reason.CLIENT_RESET)

    def test_an_answer_behind_what_is_in_the_pipe(self) -> None:
        """What the proxy has to say itself does not overtake the end of a body."""
        rig = HttpRig()
        rig.client.send(GET + b"no request\r\n\r\n")
        rig.turn_until(lambda: rig.upstream.received == FORWARDED)
        with mock.patch.object(Pipe, "empty", return_value=False):
            rig.upstream.send(answer(40_000) + body(40_000))
            rig.turn_until(lambda: rig.fast.hub.pipes.lent)
            rig.turn(3)
        rig.fast.hub.rearm(rig.to_client.getHandle().fileno())
        expected = answer(40_000) + body(40_000) + b"HTTP/1.1 400 "
        rig.turn_until(lambda: rig.client.received.startswith(expected))
        rig.client.end()
        self.end(rig, Reason.BAD_REQUEST)

    def test_an_origin_that_does_not_read(self) -> None:
        rig = HttpRig()
        rig.upstream.stall()
        rig.client.send(put(4 * MIB) + body(4 * MIB))
        rig.turn_until(lambda: rig.fast.hub.pipes.lent)
        rig.turn(5)
        self.assertTrue(rig.leg.exchange.full)
        self.assertLess(rig.session.received, 3 * MIB)
        rig.upstream.read()
        whole = put_forwarded(4 * MIB) + body(4 * MIB)
        rig.turn_until(lambda: rig.upstream.received == whole)
        rig.upstream.send(answer(0))
        rig.turn_until(lambda: rig.client.received == rig.upstream.sent)
        self.served(rig)
        rig.client.end()
        self.end(rig, Reason.CLIENT_CLOSED)
        self.accounted(rig)


class TimeTests(UnseenCase):
    """What goes by unseen is traffic."""

    def pass_time(self, rig: HttpRig, seconds: int) -> None:
        for _ in range(seconds):
            rig.clock.advance(1)
        rig.turn(2)

    def test_an_answer(self) -> None:
        rig = self.begun_download(2 * MIB)
        for number in range(3):
            self.pass_time(rig, 200)
            rig.upstream.send(body(100_000, number))
            rig.turn_until(lambda: rig.client.received == rig.upstream.sent)
        self.pass_time(rig, 302)
        rig.turn_until(lambda: rig.client.saw_end)
        rig.client.end()
        self.end(rig, Reason.IDLE)

    def test_all_of_it_by_a_pipe(self) -> None:
        """Nothing is copied in between, which would be noticed as well."""
        for begun, reason in (
            (self.begun_download, Reason.IDLE),
            (self.begun_upload, Reason.REQUEST_TIMEOUT),
        ):
            rig = begun(2 * MIB)
            who: Any = rig.leg if begun == self.begun_upload else rig.leg.exchange.origin
            for _ in range(3):
                self.pass_time(rig, 200)
                who.moved(1000)  # as the transport tells it
            self.assertEqual(len(rig.ledger.live), 1)
            self.pass_time(rig, 302)
            rig.client.end()
            self.end(rig, reason)

    def test_an_upload(self) -> None:
        rig = self.begun_upload(2 * MIB)
        for number in range(3):
            self.pass_time(rig, 200)
            before = len(rig.upstream.received)
            rig.client.send(body(100_000, number))
            rig.turn_until(lambda: len(rig.upstream.received) == before + 100_000)  # noqa: B023  # called in this very round
        self.pass_time(rig, 302)
        rig.turn_until(lambda: rig.client.received.startswith(b"HTTP/1.1 408 "))
        rig.client.end()
        self.end(rig, Reason.REQUEST_TIMEOUT)


class CeilingTests(UnseenCase):
    def test_a_ceiling_means_copying(self) -> None:
        """Where little may wait for anybody, nothing may wait in a pipe."""
        rig = HttpRig()
        rig.leg.limit(16 * 1024)
        rig.client.send(GET)
        rig.turn_until(lambda: rig.upstream.received == FORWARDED)
        rig.upstream.send(answer(MIB) + body(MIB))
        rig.turn_until(lambda: rig.client.received == rig.upstream.sent)
        self.assertEqual(self.filled, [])
        rig.client.end()
        self.end(rig, Reason.CLIENT_CLOSED)
