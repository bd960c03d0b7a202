"""The language of conformance scripts, and of what is seen when one is played."""

from typing import NamedTuple

#: What our side does, in a step of its own or in the callback that ``Step.on`` names.
OUR_ACTS = (
    *("write", "write_much", "lose_write", "lose", "abort", "pause", "resume"),
    *("produce", "unproduce", "swap", "fail"),
)
#: What the peer does; several acts of a step reach the kernel before the transport can look.
THEIR_ACTS = (
    *("peer_send", "peer_send_much", "peer_read", "peer_drain"),
    *("peer_shut", "peer_close", "peer_reset"),
)
#: Callbacks in which our side can act: a step each time.
CALLBACKS = ("made", "data", "read_lost", "write_lost", "resumed")
#: Bytes: more than the kernel's buffers and a transport's take together, where they are SMALL.
MUCH, SMALL = 300_000, 8192
#: What the kernel takes in any case: scripts of small writes never come to more.
LITTLE = 10_000


class Planted(Exception):
    """What a protocol raises when a script says so."""


class Step(NamedTuple):
    """What is done at once: some of OUR_ACTS, of THEIR_ACTS, or of both."""

    acts: tuple[str, ...]
    #: In which callback of ours, the next time it comes; now, where empty.
    on: str = ""
    #: Bytes of a write, a send or a read that is not of MUCH.
    size: int = 100


class Script(NamedTuple):
    """How a connection is made, and what happens on it."""

    steps: tuple[Step, ...]
    #: Our side connects, rather than accepts.
    connects: bool = False
    #: The protocol is told of half-closes.
    halves: bool = True
    #: The kernel's buffers are SMALL.
    small: bool = True


class Seen(NamedTuple):
    """What was seen at the end of a step."""

    step: Step
    #: What our side did in it, callbacks included.
    acted: tuple[str, ...]
    #: What it heard: ``a:data``, ``a:lost ConnectionDone``; ``... in abort`` from within an act.
    heard: tuple[str, ...]
    #: Bytes received by each side so far; where there is much: "all" that was sent, or "some".
    received: int | str
    peer_received: int | str
    #: Whether our side has left unread what the peer has sent.
    unread: bool
    #: What ended the peer's reading: "", "end" (FIN) or "reset".
    peer_saw: str
    #: The registered producer: "", "flowing", "paused" or "stopped".
    producer: str
    #: The peer has left.
    peer_gone: bool
    #: The kernel knows that the connection is no more, and the protocol does not.
    unnoticed: bool


class Trace(NamedTuple):
    """All that was seen; and the laws that were broken, whatever another transport does."""

    seen: tuple[Seen, ...]
    broken: tuple[str, ...]


def amount(size: int, of: int) -> int | str:
    """Return what can be compared: how much of MUCH the kernel holds is its own affair."""
    return size if of < LITTLE else "all" if size == of else "some"
