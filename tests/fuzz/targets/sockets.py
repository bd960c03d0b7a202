"""The same scripts as those of ``connection``, on real sockets."""

from collections.abc import Iterator

from twisted.internet.defer import ensureDeferred
from twisted.python.failure import Failure

from tests.fuzz.script import read
from tests.fuzz.sockets import SocketPlayer
from tests.fuzz.target import Plant, Target
from tests.fuzz.targets.connection import WORDS
from tests.peers import reactor


def check(data: bytes) -> None:
    """Turn the reactor, which nobody else does, until the script is over."""
    outcome: list[object] = []
    ensureDeferred(SocketPlayer(read(data)).play()).addBoth(outcome.append)
    while not outcome:
        reactor.iterate(0)
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()


def seeds() -> Iterator[bytes]:
    yield from ()


TARGET = Target(
    "sockets",
    check,
    seeds,
    plants=(
        Plant(
            "relay.py",
            "        self._terms.watch.discard(self)\n        self.session.close",
            "        self.session.close",
        ),
    ),
    words=WORDS,
    longest=200,
    shares="connection",
)
