"""Whole connections under anything: both sides send what they like, in any segments, and go.

Nothing raises, the session ends, the account balances, nothing is left (tests/fuzz/player.py).
"""

import gc
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.builders import mutations
from tests.fuzz.laws import LawBroken
from tests.fuzz.player import Player, play
from tests.fuzz.script import DOES, Script, Step, read, written
from tests.fuzz.sockets import SocketPlayer
from tests.fuzz.target import corpus_of
from tests.fuzz.wires import Wire
from whatsproxy.protocols.base import ClientProtocol
from whatsproxy.protocols.origin import Origin
from whatsproxy.relay import Relay
from whatsproxy.session import Session

_numbers = st.integers(0, 255)
_hows = st.integers(0, 7)
_data = st.binary(max_size=40) | mutations().map(lambda data: data[:255])
_nothing = st.just(b"")
#: Half of what happens is what makes a connection go on.
_steps = st.builds(Step, st.sampled_from(DOES), _hows, _data, _numbers) | st.builds(
    Step,
    st.sampled_from(["name_resolves", "dial_succeeds", "client_says", "upstream_says"]),
    st.sampled_from([0, 0, 1, 2]),
    _nothing,
    _numbers,
)
_openings = st.builds(Step, st.just("client_says"), _hows, _nothing, _numbers)
scripts = st.builds(
    lambda number, finish, opening, steps: Script(number, finish, (opening, *steps)),
    # TLS that is spoken in earnest takes a few milliseconds.
    _numbers.map(lambda number: number & 127),
    _numbers,
    _openings,
    st.lists(_steps, max_size=12),
)


class MemoryTests(SynchronousTestCase):
    """All in memory but for Twisted's transports and the program."""

    @settings(max_examples=400)
    @given(scripts)
    def test_anything(self, script: Script) -> None:
        play(script)

    @settings(max_examples=30)
    @given(scripts)
    def test_scripts_are_bytes(self, script: Script) -> None:
        """What hypothesis finds can go into the corpus, and the other way round."""
        data = written(script)
        self.assertEqual(written(read(data)), data)
        self.assertEqual(read(data), read(written(read(data))))

    def test_no_object_is_left(self) -> None:
        before = self.living()
        for path in corpus_of("connection"):
            play(read(path.read_bytes()))
        self.assertLessEqual(self.living(), before)

    def living(self) -> int:
        """Count what belongs to connections, of other tests, too."""
        gc.collect()
        kinds = Session | Relay | ClientProtocol | Origin | Wire
        return sum(1 for thing in gc.get_objects() if isinstance(thing, kinds))

    def test_the_laws_can_be_broken(self) -> None:
        """An account that is wrong, a timer that is left, an error: each is noticed."""
        for harm in (
            lambda player: setattr(player.factory.ledger, "accepted", 7),
            lambda player: player.reactor.callLater(10_000, print),
            lambda player: player.factory.ledger.open(),
            lambda player: player.reactor.callLater(1, int, "no number"),
            lambda player: player.names.resolve("example.org"),
        ):
            player = Player(read(b"\0\0"))
            harm(player)
            with self.assertRaises((LawBroken, ValueError)):
                player.play()


class SocketTests(TestCase):
    """The same on loopback, by the kernel and the real reactor."""

    async def test_what_was_found(self) -> None:
        for path in corpus_of("connection")[::3]:
            await SocketPlayer(read(path.read_bytes())).play()

    async def test_anything(self) -> None:
        chosen = random.Random(1928)
        for _ in range(60):
            data = chosen.randbytes(chosen.randrange(2, 60))
            await SocketPlayer(read(data)).play()
