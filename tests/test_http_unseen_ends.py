"""Who goes in the middle of an HTTP body that nobody looks at, and what a kept origin did since."""

from collections.abc import Callable
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
from whatsproxy.hub_transport import HubTransport
from whatsproxy.reason import Reason
from whatsproxy.splice import Pipe


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
        PIECES,
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


class JoinedTests(UnseenCase):
    """What is at hand goes out in one piece: each is a system call, and a segment."""

    def setUp(self) -> None:
        super().setUp()
        self.written: list[tuple[Any, bytes]] = []
        write = HubTransport.write

        def record(transport: HubTransport, data: bytes) -> None:
            self.written.append((transport, data))
            write(transport, data)

        self.patch(HubTransport, "write", record)

    def test_both_ways(self) -> None:
        rig = HttpRig()
        rig.client.send(put(100) + body(100))
        rig.turn_until(lambda: rig.upstream.received)
        self.assertEqual(self.written, [(rig.to_upstream, put_forwarded(100) + body(100))])
        self.written.clear()
        chunked = head_of(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked")
        chunked += b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
        rig.upstream.send(chunked)
        rig.turn_until(lambda: rig.client.received)
        self.assertEqual(self.written, [(rig.to_client, chunked)])
        self.written.clear()
        rig.client.send(GET)
        rig.turn_until(lambda: rig.upstream.received.endswith(FORWARDED))
        rig.upstream.send(answer(5) + b"hello")
        rig.turn_until(lambda: rig.client.received.endswith(b"hello"))
        expected = [(rig.to_upstream, FORWARDED), (rig.to_client, answer(5) + b"hello")]
        self.assertEqual(self.written, expected)
        self.written.clear()
        rig.client.send(b"no request\r\n\r\n")
        rig.turn_until(lambda: b"HTTP/1.1 400 " in rig.client.received)
        self.assertEqual(len(self.written), 1)
        rig.client.end()
        self.end(rig, Reason.BAD_REQUEST)

    def test_a_head_waits_for_nobody(self) -> None:
        """Where its body has not come yet it goes alone."""
        rig = HttpRig()
        rig.client.send(put(100))
        rig.turn_until(lambda: rig.upstream.received == put_forwarded(100))
        rig.client.send(body(100))
        rig.turn_until(lambda: rig.upstream.received == put_forwarded(100) + body(100))
        rig.upstream.send(answer(100))
        rig.turn_until(lambda: rig.client.received == answer(100))
        rig.upstream.send(body(100))
        rig.turn_until(lambda: rig.client.received == answer(100) + body(100))
        rig.client.end()
        self.end(rig, Reason.CLIENT_CLOSED)
