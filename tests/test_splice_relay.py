"""Splicing in a relay: what goes through pipes arrives whole, and no pipe is left with anybody."""

import errno
import os
import socket
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from tests.splice_rig import MIB, NOISE, RelayCase, Rig, descriptors
from whatsproxy import hub_transport, splice
from whatsproxy.reason import Reason
from whatsproxy.splice import Pipe
from whatsproxy.transport import StreamProtocol, hand_over


class RelayTests(RelayCase):
    """Two ends on the hub, and the kernel between them."""

    def test_much_both_ways(self) -> None:
        rig = self.rig()
        rig.client.send(NOISE)
        rig.upstream.send(NOISE[::-1])
        rig.finish()
        self.whole(rig)
        self.assertGreater(sum(self.filled), 7 * MIB, "it was copied")
        self.over(rig)

    def test_messages_are_copied(self) -> None:
        """A pipe costs more than it saves below a few KiB."""
        rig = self.rig()
        for number in range(50):
            for end in rig.ends:
                end.send(NOISE[number : number + 1000])
            rig.turn_until(lambda: rig.upstream.received == rig.client.sent)
            rig.turn_until(lambda: rig.client.received == rig.upstream.sent)
        self.assertEqual(self.filled, [])
        rig.finish()
        self.whole(rig)
        self.over(rig)

    def test_no_pipes(self) -> None:
        """Without a pipe the bytes are copied; nobody waits for one."""
        rig = self.rig(pipes=0)
        rig.client.send(NOISE)
        rig.upstream.send(NOISE[::-1])
        rig.finish()
        self.whole(rig)
        self.assertEqual(self.filled, [])
        self.over(rig)

    def test_all_pipes_taken(self) -> None:
        """Who comes when others have all pipes is served without."""
        rig = self.rig(pipes=1)
        pipe = rig.fast.hub.pipes.borrow()
        assert pipe is not None
        rig.client.send(NOISE)
        rig.turn_until(lambda: rig.upstream.received == NOISE)
        self.assertEqual(self.filled, [])
        rig.fast.hub.pipes.give_back(pipe)
        rig.client.send(NOISE)
        rig.finish()
        self.whole(rig)
        self.assertTrue(self.filled)
        self.over(rig)

    def test_stalled_ones_do_not_keep_all_pipes(self) -> None:
        """When more than half are lent, who stalls has the rest copied out of its pipe."""
        rig = self.rig(pipes=2)
        other = self.rig(fast=rig.fast)
        for each in (rig, other):
            each.upstream.stall()
            each.client.send(NOISE)
        rig.turn_until(lambda: rig.to_upstream.unsent and other.turn() is None)
        rig.turn_until(lambda: other.to_upstream.unsent and other.turn() is None)
        self.assertLessEqual(rig.fast.hub.pipes.lent, 1)
        self.filled.clear()
        third = self.rig(fast=rig.fast)
        third.client.send(NOISE)
        for each in (third, other, rig):
            each.finish()
            self.whole(each)
        self.assertTrue(self.filled)
        self.over(rig)

    def test_urgent_data(self) -> None:
        """Splicing does not get past it, and a FIN behind it must not come early (tcp(7))."""
        rig = self.rig()
        rig.client.send(NOISE[:MIB])
        rig.turn_until(lambda: len(rig.upstream.received) == MIB)
        self.assertTrue(self.filled)
        bare = rig.client._socket
        assert bare is not None
        rig.client.send(NOISE[:50_000])
        bare.send(b"!", socket.MSG_OOB)
        rig.client.send(NOISE[:50_000])
        rig.finish()
        self.whole(rig)
        self.over(rig)

    def test_no_splice_here(self) -> None:
        """An old system, or a sandbox, may refuse it: from then on all is copied."""
        for number in (errno.EINVAL, errno.ENOSYS, errno.EPERM):

            def refuse(*_: object, number: int = number) -> int:
                self.filled.append(number)
                raise OSError(number, os.strerror(number))

            self.patch(Pipe, "fill", refuse)
            self.filled.clear()
            rig = self.rig()
            rig.client.send(NOISE)
            rig.upstream.send(NOISE[::-1])
            rig.finish()
            self.whole(rig)
            self.assertEqual(self.filled, [number])
            self.over(rig)

    def test_a_pipe_is_borrowed_for_its_bytes_only(self) -> None:
        """Idle, a relay is two descriptors."""
        rig = self.rig()
        idle = descriptors()
        rig.client.send(NOISE)
        rig.turn_until(lambda: rig.upstream.received == NOISE)
        self.assertEqual(rig.fast.hub.pipes.lent, 0)
        rig.fast.hub.pipes.shrink()
        self.assertEqual(descriptors(), idle)
        rig.finish()
        self.over(rig)

    def test_held(self) -> None:
        """What is in a pipe is held for somebody, as what is in a buffer is, and limits reading."""
        rig = self.rig()
        rig.upstream.stall()
        rig.client.send(NOISE)
        rig.fill_up()
        held = rig.relay.held()
        self.assertEqual(held, rig.to_upstream._pipe.held)
        self.assertLessEqual(held, splice.PIPE_SIZE)
        queued = len(rig.client.sent) - rig.session.received
        self.assertGreater(queued, 0)  # the rest waits where it has come from
        rig.turn(20)
        self.assertEqual(rig.relay.held(), held)
        rig.upstream.read()
        rig.turn_until(lambda: rig.upstream.received == NOISE)
        self.assertEqual(rig.relay.held(), 0)
        rig.finish()
        self.whole(rig)
        self.over(rig)

    def test_a_limit_means_copying(self) -> None:
        """Where less may wait than a pipe holds, there is none."""
        rig = self.rig()
        rig.relay.limit(1000)
        rig.upstream.stall()
        rig.client.send(NOISE)
        rig.fill_up()
        self.assertLessEqual(rig.relay.held(), 2000)
        rig.finish()
        self.whole(rig)
        self.assertEqual(self.filled, [])
        self.over(rig)

    def test_a_limit_of_the_sink(self) -> None:
        """It is the sink's limit that says how much may wait for it."""
        rig = self.rig()
        rig.to_upstream.bufferSize = 1000
        rig.client.send(NOISE)
        rig.finish()
        self.whole(rig)
        self.assertEqual(self.filled, [])
        self.over(rig)

    def test_written_behind_a_pipe(self) -> None:
        """What is written while something is in the pipe comes after that."""
        rig = self.rig()
        rig.upstream.stall()
        rig.client.send(NOISE)
        rig.fill_up()
        moved, held = rig.session.received, rig.relay.held()
        rig.upstream.read()
        rig.upstream.go()  # the kernel has room again; the hub does not know it yet
        rig.to_upstream.write(b"behind it")
        self.assertEqual(rig.relay.held(), held + 9)
        rig.turn_until(lambda: len(rig.upstream.received) == len(NOISE) + 9)
        self.assertEqual(rig.upstream.received, NOISE[:moved] + b"behind it" + NOISE[moved:])
        rig.finish()
        self.over(rig)

    def test_the_last_words_of_a_sink(self) -> None:
        """What an upstream says before it breaks off arrives, though it takes nothing more."""
        rig = self.rig()
        rig.client.send(NOISE)
        rig.turn_until(lambda: rig.upstream.received == NOISE)
        self.filled.clear()
        # The client's event comes first: what it has sent meets the reset.
        rig.client.send(NOISE)
        rig.upstream.send(b"enough")
        rig.upstream.reset()
        rig.finish()
        self.assertGreater(len(self.filled), 0, "it was copied")
        self.assertEqual(rig.client.received, b"enough")
        self.assertTrue(rig.client.saw_reset)
        self.over(rig)

    def test_the_end_behind_a_pipe(self) -> None:
        """A FIN waits for what is still in the pipe; the other direction goes on."""
        rig = self.rig()
        rig.upstream.stall()
        rig.client.send(NOISE)
        rig.client.end()
        rig.fill_up()
        self.assertFalse(rig.upstream.saw_end)
        rig.upstream.send(b"meanwhile")
        rig.turn_until(lambda: rig.client.received == b"meanwhile")
        rig.upstream.read()
        rig.turn_until(lambda: rig.upstream.saw_end)
        self.assertEqual(rig.upstream.received, NOISE)
        rig.upstream.send(NOISE)
        rig.finish()
        self.whole(rig)
        self.over(rig)

    def test_reset_with_a_full_pipe(self) -> None:
        """What is in the pipe is lost with whom it is for, and the pipe with it."""
        for breaks in ("client", "upstream"):
            rig = self.rig()
            rig.upstream.stall()
            rig.client.send(NOISE)
            rig.fill_up()
            getattr(rig, breaks).reset()
            # The upstream, if it is left, reads what there was.
            rig.finish()
            self.assertTrue(rig.client.sent.startswith(rig.upstream.received))
            self.over(rig)

    def test_aborted_with_a_full_pipe(self) -> None:
        rig = self.rig()
        rig.upstream.stall()
        rig.client.send(NOISE)
        rig.fill_up()
        rig.relay.abort(Reason.IDLE)
        rig.turn_until(rig.is_over)
        rig.finish()
        self.assertTrue(rig.client.sent.startswith(rig.upstream.received))
        self.over(rig)

    def test_bulk_does_not_starve_a_chat(self) -> None:
        """What a relay may move at a time is bounded; then the others have their turn."""
        self.patch(hub_transport, "BUDGET", 128 * 1024)
        self.patch(splice, "PIPE_SIZE", 64 * 1024)
        bulk = self.rig()
        chat = self.rig(fast=bulk.fast)
        for number in range(1, 6):
            bulk.client.send(NOISE[: MIB // 2])
            chat.client.send(b"x")
            before = bulk.session.received
            bulk.turn()
            chat.turn(2)
            self.assertEqual(chat.upstream.received, b"x" * number)
            self.assertLessEqual(bulk.session.received - before, 3 * (128 + 64) * 1024)
        bulk.finish()
        chat.finish()
        self.whole(bulk)
        self.whole(chat)
        self.over(bulk)


@implementer(IPushProducer)
class Measured(StreamProtocol):
    """Passes on so many bytes, and keeps what comes behind them."""

    def __init__(self) -> None:
        self.left = 0
        self.other: Any = None
        self.rest = b""
        self.ended = False

    def sink(self) -> tuple[Any, int] | None:
        return (self.other, self.left) if self.left else None

    def moved(self, size: int) -> None:
        self.left -= size

    def dataReceived(self, data: bytes) -> None:
        taken, self.rest = data[: self.left], self.rest + data[self.left :]
        self.left -= len(taken)
        if taken:
            self.other.write(taken)

    def readConnectionLost(self) -> None:
        self.ended = True

    def pauseProducing(self) -> None:
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The sink is gone."""


class MeasureTests(RelayCase):
    """A protocol may let so many bytes pass, and see what comes behind them."""

    @settings(max_examples=30)
    @given(
        st.lists(st.sampled_from([1, 100, 4095, 4096, 4097, 65536, MIB]), min_size=1, max_size=5),
        st.sampled_from([1, 4096, 5000, 65536, 65537, 300_000, MIB]),
        st.sampled_from([0, 16]),
    )
    def test_not_a_byte_more(self, sizes: list[int], most: int, pipes: int) -> None:
        rig = self.rig(pipes, relayed=False)
        measured = Measured()
        measured.left, measured.other = most, rig.to_upstream
        hand_over(rig.near[0], measured)
        rig.to_upstream.registerProducer(measured, True)
        for number, size in enumerate(sizes):
            rig.client.send(NOISE[number * 7919 : number * 7919 + size])
            rig.turn(number)
        rig.client.end()
        rig.turn_until(lambda: measured.ended)
        passed = bytes(rig.client.sent[:most])
        rig.turn_until(lambda: rig.upstream.received == passed)
        rig.turn(3)
        self.assertEqual(rig.upstream.received, passed)
        self.assertEqual(measured.rest, rig.client.sent[most:])
        self.assertEqual(measured.left, max(0, most - sum(sizes)))
        for near in rig.near:
            near.transport.abortConnection()
        rig.turn_until(lambda: not rig.fast.hub.owners)


SIDES = ("client", "upstream")
_DOES = ("send", "send", "send", "stall", "read", "end")
_steps = st.tuples(
    st.sampled_from(SIDES),
    st.sampled_from(_DOES),
    st.sampled_from([1, 4095, 4096, 4097, 65536, 300_000, MIB]),
    st.integers(0, 6),
)


class AnythingTests(RelayCase):
    """Any bytes, stalls and half-closes in any order; and then, perhaps, a reset."""

    def play(self, rig: Rig, steps: list[tuple[str, str, int, int]]) -> None:
        for number, (side, does, size, turns) in enumerate(steps):
            end = getattr(rig, side)
            if does == "send":
                start = 7919 * number
                end.send(NOISE[start : start + size])
            else:
                getattr(end, does)()
            rig.turn(turns)

    @settings(max_examples=40)
    @given(st.lists(_steps, max_size=12), st.sampled_from([0, 1, 16]))
    def test_whole(self, steps: list[tuple[str, str, int, int]], pipes: int) -> None:
        rig = self.rig(pipes)
        self.play(rig, steps)
        rig.finish()
        self.whole(rig)
        self.over(rig)

    @settings(max_examples=40)
    @given(st.lists(_steps, max_size=12), st.sampled_from(SIDES), st.sampled_from([0, 1, 16]))
    def test_broken_off(
        self, steps: list[tuple[str, str, int, int]], breaks: str, pipes: int
    ) -> None:
        rig = self.rig(pipes)
        self.play(rig, steps)
        getattr(rig, breaks).reset()
        rig.finish()
        self.assertTrue(rig.client.sent.startswith(rig.upstream.received))
        self.assertTrue(rig.upstream.sent.startswith(rig.client.received))
        self.over(rig)
