"""The hub's transport does what Twisted's own does, on the same script of events.

What is excused is in tests/conformance_differences.py, each with its reason. CONFORMANCE_EXAMPLES
says how many scripts are tried, where it is not to be the few of every day.
"""

import os
from collections import Counter
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.conformance import play
from tests.conformance_differences import BROKEN, EARLY, INSIDE, TWISTEDS_OWN, Compared, compare
from tests.conformance_script import CALLBACKS, OUR_ACTS, THEIR_ACTS, Planted, Script, Step
from tests.peers import reactor
from whatsproxy.hub_reactor import HubReactor
from whatsproxy.hub_transport import HubTransport

EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", "400"))

_sizes = st.integers(1, 300)


def _acts(acts: list[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(acts), min_size=1, max_size=3).map(tuple)


def _steps(*, in_data: bool) -> st.SearchStrategy[Step]:
    """Return steps: with acts in dataReceived, or with so much data that it comes in pieces.

    How large the pieces are is a transport's own affair: what is done after the first one of many
    is not to be compared. A protocol that raises in connectionMade is test_hub's.
    """
    callbacks = [name for name in CALLBACKS if name != "made" and (in_data or name != "data")]
    theirs = [act for act in THEIR_ACTS if not (in_data and act == "peer_send_much")]
    harmless = [act for act in OUR_ACTS if act != "fail"]
    return st.one_of(
        st.builds(Step, _acts(theirs), st.just(""), _sizes),
        st.builds(Step, _acts([*harmless, *theirs]), st.just(""), _sizes),
        st.builds(Step, _acts(harmless), st.sampled_from(["", "", "made"]), _sizes),
        st.builds(Step, _acts(list(OUR_ACTS)), st.sampled_from(callbacks), _sizes),
    )


def _scripts(*, in_data: bool) -> st.SearchStrategy[Script]:
    steps = st.lists(_steps(in_data=in_data), max_size=9).map(tuple)
    return st.builds(Script, steps, st.booleans(), st.booleans(), st.booleans()).map(_clear)


def _clear(script: Script) -> Script:
    """Return a script with small buffers where much is written: a large one may take it all."""
    much = any("write_much" in step.acts for step in script.steps)
    return script._replace(small=script.small or much)


scripts = _scripts(in_data=True) | _scripts(in_data=False)


def script(*steps: str, **how: bool) -> Script:
    """Return a script: ``pause peer_send`` are acts at once, ``data: abort`` is in a callback."""
    read = []
    for step in steps:
        on, _, acts = step.rpartition(": ")
        read.append(Step(tuple(acts.split()), on))
    return Script(tuple(read), **how)


#: What is excused of those below: when, and as what, an end is told.
MILD = {INSIDE, EARLY, BROKEN}
#: What matters most, one by one.
PLAIN = {
    "both ways": script("write", "peer_drain", "peer_send", "peer_send write", "peer_drain"),
    "much both ways": script("write_much", "peer_send_much", "peer_drain", "lose"),
    "backpressure": script("produce", "write_much", "peer_read", "peer_drain", "write_much"),
    "backpressure ends": script("produce", "write_much", "unproduce", "peer_drain", "lose"),
    "pause": script("pause", "peer_send", "resume", "pause", "peer_send", "peer_send", "resume"),
    "pause in data": script("data: pause", "peer_send", "peer_send", "resume"),
    "pause much": script("pause", "peer_send_much", "resume"),
    "pause, and the peer ends": script("pause", "peer_send peer_shut", "resume"),
    "pause, and the peer breaks off": script("pause", "peer_send peer_reset", "resume"),
    "pause from the beginning": script("made: pause", "peer_send", "resume"),
    "half-close, ours": script("write lose_write", "peer_drain", "peer_send", "peer_shut"),
    "half-close behind much": script("write_much lose_write", "peer_drain", "peer_send"),
    "half-close, the peer's": script("peer_send peer_shut", "write", "peer_drain"),
    "half-close, both": script("lose_write", "peer_shut", "peer_drain"),
    "half-close for half-close": script("read_lost: lose_write", "peer_shut", "peer_drain"),
    "half-close, then lose": script("write_lost: write", "peer_shut", "read_lost: lose"),
    "lose behind much": script("write_much lose", "peer_read", "peer_drain"),
    "lose at once": script("made: write lose", "peer_drain"),
    "lose in data": script("data: write lose", "peer_send", "peer_drain"),
    "lose when the peer ends": script("read_lost: lose", "peer_shut", "peer_drain"),
    "lose with a producer": script("produce", "write_much", "unproduce lose", "peer_drain"),
    "lose, unread": script("pause", "peer_send", "write lose", "peer_drain"),
    "lose what is dead": script("pause", "peer_reset", "lose"),
    "lose what is dead twice over": script("peer_shut peer_reset", "lose"),
    "abort": script("abort", "peer_drain"),
    "abort at once": script("made: abort", "peer_drain"),
    "abort in data": script("data: abort", "peer_send", "peer_drain"),
    "abort with much unsent": script("produce", "write_much", "abort", "peer_drain"),
    "abort after half-close": script("lose_write", "abort", "peer_drain"),
    "swap in data": script("data: swap", "peer_send", "peer_send", "peer_shut", "write"),
    "swap in its turn": script("data: swap", "made: swap write", "peer_send", "peer_drain"),
    "swap at the end": script("read_lost: swap", "peer_shut", "lose_write", "peer_drain"),
    "raise in data": script("data: fail", "peer_send", "peer_drain"),
    "raise at the peer's end": script("read_lost: fail", "peer_shut", "peer_drain"),
    "raise at our end": script("write_lost: fail", "lose_write", "peer_drain"),
    "raise when resumed": script("produce", "resumed: fail", "write_much", "peer_drain"),
    "the peer breaks off": script("peer_reset"),
    "the peer sends and breaks off": script("peer_send peer_reset"),
    "the peer sends and goes": script("peer_send peer_close", "write", "write"),
    "the peer goes unread": script("write", "peer_close"),
    "the peer answers and breaks off": script("write_much", "peer_send peer_reset"),
    "the peer answers and goes unread": script("produce", "write_much", "peer_send peer_close"),
    "the peer says why, and we write": script("peer_send peer_reset write"),
    "the peer says why, and we write much": script("peer_send peer_reset write_much"),
    "the peer goes while much is unsent": script("write_much", "peer_reset"),
}


class ConformanceTests(SynchronousTestCase):
    """Each script on either transport, each as server and as client, told of half-closes or not."""

    def setUp(self) -> None:
        self.fast = HubReactor(reactor)
        play(reactor, Script(()))  # from its first port on, Twisted keeps a descriptor in reserve

    def compare(self, script: Script) -> Compared:
        """Play it on both; whatever Twisted does, some laws hold, and nothing is left."""
        readers, descriptors = reactor.getReaders(), {*os.listdir("/proc/self/fd")}
        twisted = play(reactor, script)
        raised = len(self.flushLoggedErrors(Planted))
        fast = play(self.fast, script)
        compared = compare(twisted, fast)
        raised_again = len(self.flushLoggedErrors(Planted))
        if compared.whole:
            self.assertEqual(raised_again, raised, script)
        self.assertEqual({*twisted.broken} - TWISTEDS_OWN, set(), script)
        self.assertEqual(fast.broken, (), script)
        self.assertEqual(self.fast.hub.owners, [], script)
        self.assertEqual(reactor.getReaders(), readers, script)
        self.assertLessEqual({*os.listdir("/proc/self/fd")}, descriptors, script)
        return compared

    def test_plain(self) -> None:
        for name, plain in PLAIN.items():
            for connects, halves in product((False, True), repeat=2):
                compared = self.compare(plain._replace(connects=connects, halves=halves))
                self.assertIsNone(compared.different, f"{name}: {connects=} {halves=}")
                self.assertLessEqual(compared.excused, MILD, name)

    def test_anything(self) -> None:
        wholes: Counter[bool] = Counter()

        @settings(max_examples=EXAMPLES)
        @given(scripts)
        def one(script: Script) -> None:
            compared = self.compare(script)
            if compared.different:  # on a machine that is too busy, once in thousands of scripts
                compared = self.compare(script)
            self.assertIsNone(compared.different, script)
            wholes[compared.whole] += 1

        one()
        self.assertGreater(wholes[True], 3 * wholes[False], "too much is excused")

    def test_twisted_agrees_with_itself(self) -> None:
        """What is seen is the same each time, or nothing could be compared; but see CUT."""

        @settings(max_examples=EXAMPLES // 5)
        @given(scripts)
        def one(script: Script) -> None:
            compared = compare(play(reactor, script), play(reactor, script))
            self.assertIsNone(compared.different, script)
            self.flushLoggedErrors(Planted)

        one()


class FaultTests(SynchronousTestCase):
    """A transport that is not the same is told apart: each fault is found by one of PLAIN."""

    def assert_found(self, **faults: Any) -> None:
        for name, fault in faults.items():
            self.patch(HubTransport, name, fault)
        fast = HubReactor(reactor)
        for plain in PLAIN.values():
            try:
                trace = play(fast, plain)
            except AssertionError:
                return  # it never comes to an end
            finally:
                self.flushLoggedErrors()
            compared = compare(play(reactor, plain), trace)
            self.flushLoggedErrors()
            if trace.broken or compared.different or not compared.excused <= MILD:
                return
        self.fail("not found")

    def test_no_pause(self) -> None:
        self.assert_found(pauseProducing=lambda transport: None)

    def test_no_resume(self) -> None:
        self.assert_found(resumeProducing=lambda transport: None)

    def test_no_backpressure(self) -> None:
        self.assert_found(registerProducer=lambda transport, producer, streaming: None)

    def test_no_half_close(self) -> None:
        self.assert_found(loseWriteConnection=HubTransport.loseConnection)

    def test_abort_is_lose(self) -> None:
        self.assert_found(abortConnection=HubTransport.loseConnection)

    def test_lose_is_abort(self) -> None:
        self.assert_found(loseConnection=HubTransport.abortConnection)

    def test_a_byte_is_lost(self) -> None:
        write = HubTransport.write
        self.assert_found(write=lambda transport, data: write(transport, data[1:]))

    def test_a_byte_is_doubled(self) -> None:
        write = HubTransport.write
        self.assert_found(write=lambda transport, data: write(transport, data[:1] + data))
