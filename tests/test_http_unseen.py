"""HTTP bodies that nobody looks at go through a pipe, to the byte, and HTTP goes on behind them."""

from collections.abc import Callable
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed

from tests.http_peers import TurningClock, head_of
from tests.splice_rig import MIB, NOISE, RelayCase, Rig
from tests.support import make_settings
from whatsproxy.destination import Destination
from whatsproxy.factory import ProxyFactory
from whatsproxy.protocols.http import HttpConnection
from whatsproxy.reason import Reason
from whatsproxy.sniff import Kind, Sniffed
from whatsproxy.splice import Pipe
from whatsproxy.transport import hand_over
from whatsproxy.upstream import Arrival

SITE = Destination("a.test", 80)
GET = head_of(b"GET http://a.test/ HTTP/1.1", b"Host: a.test")
FORWARDED = head_of(b"GET / HTTP/1.1", b"Host: a.test")
_SIZES = st.sampled_from([0, 1, 4000, 4096, 5000, 65536, 65537, 200_000, 300_000, MIB])
#: Pieces in which something is sent, and turns after each.
_pieces = st.lists(
    st.tuples(st.sampled_from([1, 100, 4096, 65536, 300_000]), st.integers(0, 2)), max_size=4
)


def body(size: int, number: int = 0) -> bytes:
    return NOISE[7919 * number : 7919 * number + size]


def put(size: int) -> bytes:
    return head_of(b"PUT http://a.test/ HTTP/1.1", b"Host: a.test", _length(size))


def put_forwarded(size: int) -> bytes:
    return head_of(b"PUT / HTTP/1.1", b"Host: a.test", _length(size))


def answer(size: int, *fields: bytes) -> bytes:
    return head_of(b"HTTP/1.1 200 OK", _length(size), *fields)


def _length(size: int) -> bytes:
    return b"Content-Length: %d" % size


class HttpRig(Rig):
    """An HTTP connection on a hub, which reaches the upstream once."""

    def __init__(self, pipes: int = 16) -> None:
        super().__init__(pipes, relayed=False)
        self.clock = TurningClock()
        upstream: Any = self
        self.factory = ProxyFactory(
            self.clock, make_settings(upstream={"chat": (SITE,)}), upstream=upstream
        )
        self.ledger = self.factory.ledger
        self.session = self.ledger.open()
        self.session.detected(Kind.HTTP)
        self.leg: Any = self.factory.protocol_for(Sniffed(Kind.HTTP), self.session)
        assert isinstance(self.leg, HttpConnection)
        self.reached = 0
        hand_over(self.near[0], self.leg)

    def connect(self, destinations: Any, whose: Any) -> Any:
        """Reach the upstream, once (in Upstream's place)."""
        self.reached += 1
        if self.reached > 1:
            return Deferred(lambda _: None)
        arrival = Arrival(SITE)
        hand_over(self.near[1], arrival)
        return succeed(arrival)

    def send(self, end: Any, data: bytes, pieces: list[tuple[int, int]]) -> None:
        """Let an end send in such pieces, and the rest in one."""
        for size, turns in pieces:
            end.send(data[:size])
            data = data[size:]
            self.turn(turns)
        end.send(data)

    def await_end(self) -> None:
        """Let a little time pass, until all is over."""
        self.turn_until(lambda: self._moved_on() and self.is_over() and not self.fast.hub.owners)
        for end in self.ends:
            end.close()

    def _moved_on(self) -> bool:
        self.clock.advance(0.01)  # a farewell looks again from time to time
        return True

    def reasons(self) -> dict[Reason, int]:
        return {reason: count for reason, count in self.ledger.ends.items() if count}


class UnseenCase(RelayCase):
    def accounted(self, rig: HttpRig) -> None:
        counts = rig.session.received, rig.session.sent
        self.assertEqual(counts, (len(rig.client.sent), len(rig.client.received)))
        self.assertEqual((rig.ledger.received, rig.ledger.sent), counts)

    def end(self, rig: HttpRig, reason: Reason) -> None:
        """Wait for the end, for this reason, after which nothing is left."""
        rig.await_end()
        self.assertEqual(rig.reasons(), {reason: 1})
        self.over(rig)

    def served(self, rig: HttpRig) -> None:
        """Ask once more, by both connections: all is as it was."""
        asked, answered = bytes(rig.upstream.received), bytes(rig.client.received)
        rig.client.send(GET)
        rig.turn_until(lambda: rig.upstream.received == asked + FORWARDED)
        rig.upstream.send(answer(2) + b"ok")
        rig.turn_until(lambda: rig.client.received == answered + answer(2) + b"ok")

    def begun_download(self, size: int) -> HttpRig:
        """Return a rig in whose answer half of the body has come."""
        rig = HttpRig()
        rig.client.send(GET)
        rig.turn_until(lambda: rig.upstream.received == FORWARDED)
        rig.upstream.send(answer(size) + body(size // 2))
        rig.turn_until(lambda: len(rig.client.received) == len(answer(size)) + size // 2)
        self.assertGreater(sum(self.filled), size // 4, "it was copied")
        return rig

    def begun_upload(self, size: int) -> HttpRig:
        """Return a rig in whose request half of the body has gone."""
        rig = HttpRig()
        rig.client.send(put(size) + body(size // 2))
        rig.turn_until(lambda: len(rig.upstream.received) == len(put_forwarded(size)) + size // 2)
        self.assertGreater(sum(self.filled), size // 4, "it was copied")
        return rig


class WholeTests(UnseenCase):
    """Messages one behind the other, in any pieces: each arrives, and not a byte else."""

    @settings(max_examples=60)
    @given(
        st.none() | _SIZES,
        st.lists(_SIZES, min_size=1, max_size=4),
        _pieces,
        _pieces,
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
            rig.turn_until(lambda: len(rig.upstream.received) >= len(expected))  # noqa: B023
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


class KeptTests(UnseenCase):
    """What a kept origin did before it was asked again, and nobody has heard yet."""

    def check(self, does: Callable[[HttpRig], None]) -> None:
        """Another connection is made for the request, and nothing else is answered."""
        rig = HttpRig()
        rig.client.send(GET)
        rig.turn_until(lambda: rig.upstream.received == FORWARDED)
        rig.upstream.send(answer(2) + b"ok")
        rig.turn_until(lambda: rig.client.received == answer(2) + b"ok")
        rig.client.send(GET)  # of this the proxy hears first
        does(rig)
        rig.turn_until(lambda: rig.reached == 2)
        rig.turn(3)
        self.assertEqual(rig.client.received, answer(2) + b"ok")
        self.assertEqual(rig.upstream.received, FORWARDED)
        rig.client.reset()
        self.end(rig, Reason.CLIENT_RESET)

    def test_it_spoke(self) -> None:
        self.check(lambda rig: rig.upstream.send(answer(8) + b"smuggled"))

    def test_it_ended(self) -> None:
        self.check(lambda rig: rig.upstream.end())

    def test_it_broke_off(self) -> None:
        self.check(lambda rig: rig.upstream.reset())


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


class BrokenOffTests(UnseenCase):
    """Somebody goes in the middle of a body."""

    def test_the_origin_ends(self) -> None:
        rig = self.begun_download(2 * MIB)
        rig.upstream.end()
        rig.turn_until(lambda: rig.client.saw_end)
        self.assertEqual(rig.client.received, rig.upstream.sent)
        rig.client.end()
        self.end(rig, Reason.UPSTREAM_RESET)
        self.accounted(rig)

    def test_the_origin_breaks_off(self) -> None:
        rig = self.begun_download(2 * MIB)
        rig.upstream.reset()
        rig.turn_until(lambda: rig.client.saw_end)
        self.assertEqual(rig.client.received, rig.upstream.sent)
        rig.client.end()
        self.end(rig, Reason.UPSTREAM_RESET)

    def test_the_client_ends_and_reads_on(self) -> None:
        rig = self.begun_download(2 * MIB)
        rig.client.end()
        rig.turn(3)
        rig.upstream.send(body(MIB, 2))
        rig.turn_until(lambda: rig.client.received == rig.upstream.sent and rig.client.saw_end)
        self.end(rig, Reason.CLIENT_CLOSED)
        self.accounted(rig)

    def test_the_client_breaks_off(self) -> None:
        rig = self.begun_download(2 * MIB)
        rig.client.reset()
        self.end(rig, Reason.CLIENT_RESET)

    def test_an_upload_ends_too_early(self) -> None:
        rig = self.begun_upload(2 * MIB)
        rig.client.end()
        rig.turn_until(lambda: rig.client.received.startswith(b"HTTP/1.1 400 "))
        self.end(rig, Reason.BAD_REQUEST)
        self.assertEqual(len(rig.upstream.received), len(put_forwarded(2 * MIB)) + MIB)

    def test_an_upload_is_broken_off(self) -> None:
        rig = self.begun_upload(2 * MIB)
        rig.client.reset()
        self.end(rig, Reason.CLIENT_RESET)

    def test_the_origin_of_an_upload_breaks_off(self) -> None:
        rig = self.begun_upload(2 * MIB)
        rig.upstream.reset()
        rig.turn_until(lambda: rig.client.received.startswith(b"HTTP/1.1 502 "))
        rig.client.send(body(MIB, 2))  # what it has to say is heard, and goes nowhere
        rig.turn_until(lambda: not rig.client._pending)
        rig.client.end()
        self.end(rig, Reason.UPSTREAM_RESET)

    def test_an_origin_that_takes_no_more(self) -> None:
        """What the client has sent meanwhile is read all the same."""
        fill = Pipe.fill

        def fill_little(pipe: Pipe, source: int, most: int) -> int:
            return fill(pipe, source, min(most, 8192))

        self.patch(Pipe, "fill", fill_little)
        self.patch(Pipe, "empty", mock.Mock(side_effect=BrokenPipeError))
        rig = HttpRig()
        rig.client.send(put(MIB) + body(60_000))
        rig.turn_until(lambda: rig.session.received == len(rig.client.sent))
        rig.client.reset()
        self.end(rig, Reason.CLIENT_RESET)

    def test_an_early_answer(self) -> None:
        """The origin wants no more of an upload, and says why; the client may end it."""
        rig = self.begun_upload(2 * MIB)
        rig.upstream.send(head_of(b"HTTP/1.1 413 No", b"Content-Length: 2") + b"no")
        rig.turn_until(lambda: rig.client.received.endswith(b"\r\n\r\nno"))
        self.assertIn(b"\r\nConnection: close\r\n", bytes(rig.client.received))
        rig.client.send(body(MIB, 2))
        rig.turn_until(lambda: not rig.client._pending)
        rig.client.end()
        self.end(rig, Reason.ANSWERED)
        self.accounted(rig)

    def test_an_answer_in_the_middle_of_an_upload(self) -> None:
        """Both bodies are under way at once."""
        rig = self.begun_upload(2 * MIB)
        rig.upstream.send(answer(2 * MIB) + body(MIB))
        rig.turn_until(lambda: len(rig.client.received) > MIB)
        rig.client.send(body(MIB, 2))
        whole = put_forwarded(2 * MIB) + body(MIB) + body(MIB, 2)
        rig.turn_until(lambda: rig.upstream.received == whole)
        rig.upstream.send(body(MIB, 2))
        rig.turn_until(lambda: rig.client.received.endswith(body(MIB, 2)))
        self.assertGreater(sum(self.filled), 3.5 * MIB)
        rig.client.end()
        self.end(rig, Reason.ANSWERED)
        self.accounted(rig)

    def test_the_service_aborts(self) -> None:
        rig = self.begun_download(2 * MIB)
        rig.session.holder.abort(Reason.SHUTDOWN)
        self.end(rig, Reason.SHUTDOWN)

    def test_the_service_drains(self) -> None:
        """What has begun is brought to its end."""
        rig = self.begun_download(2 * MIB)
        rig.factory.drain()
        rig.upstream.send(body(MIB, 2))
        rig.turn_until(lambda: rig.client.received == rig.upstream.sent and rig.client.saw_end)
        rig.client.end()
        self.end(rig, Reason.DRAINING)

    @settings(max_examples=40)
    @given(
        st.booleans(),
        st.sampled_from(["client", "upstream"]),
        st.sampled_from(["reset", "end", "close"]),
        _pieces,
        st.integers(0, 3),
        st.sampled_from([0, 1, 16]),
    )
    def test_anywhere(
        self,
        up: bool,
        who: str,
        how: str,
        pieces: list[tuple[int, int]],
        turns: int,
        pipes: int,
    ) -> None:
        """Nobody gets a byte that was not sent to it, and nothing is left."""
        rig = HttpRig(pipes)
        if up:
            rig.send(rig.client, put(3 * MIB) + body(2 * MIB), pieces)
            whole = put_forwarded(3 * MIB) + body(2 * MIB)
        else:
            rig.client.send(GET)
            whole = FORWARDED
            rig.turn_until(lambda: rig.upstream.received == FORWARDED)
            rig.send(rig.upstream, answer(3 * MIB) + body(2 * MIB), pieces)
        rig.turn(turns)
        getattr(getattr(rig, who), how)()
        rig.turn(3)
        for end in rig.ends:
            end.end()
        rig.await_end()
        self.assertTrue(whole.startswith(rig.upstream.received))
        if not up:
            self.assertTrue(rig.upstream.sent.startswith(rig.client.received))
        self.over(rig)


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
            rig.turn_until(lambda: len(rig.upstream.received) == before + 100_000)  # noqa: B023
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
