"""One program, freshly started, through every kind of HTTP work."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from cell import SETTLE, cpu
from http_crowd import HttpCrowd
from http_origin import Counts
from http_traffic import Request
from peers import Peer
from process import memory, reset_peak


@dataclass(frozen=True)
class Work:
    """One kind of work: what is asked, how often, by how many clients at a time."""

    name: str
    requests: Sequence[Request]
    times: int
    clients: int

    @property
    def size(self) -> int:
        """Bytes of the bodies of one request, both ways."""
        return self.requests[0].upload + self.requests[0].expected


@dataclass
class Done:
    """What was measured of one kind of work, once. Bytes, seconds, CPU seconds of the program."""

    completed: int
    errors: Counter[str]
    bytes: int
    seconds: float
    cpu: float
    #: Connections to the program, and from it to the origin.
    dialled: int
    accepted: int
    #: Requests that the origin answered, and those made again since the proxy had hung up.
    answered: int
    repeated: int
    #: Resident memory at the peak.
    peak: float
    framings: Counter[str] = field(default_factory=Counter)


def run(peer: Peer, works: Sequence[Work], counts: Counts, limit: float) -> dict[str, Done]:
    """Do all the work, each kind once unmeasured and short; ``limit`` is in seconds, for each."""
    for work in works:
        _ask(peer, work, 2 * work.clients, limit)
    return {work.name: _measure(peer, work, counts, limit) for work in works}


def _measure(peer: Peer, work: Work, counts: Counts, limit: float) -> Done:
    time.sleep(SETTLE)
    accepted, answered = counts.connections, counts.requests
    reset_peak(peer.pid)
    with cpu(peer) as spent:
        crowd, seconds = _ask(peer, work, work.times, limit)
    return Done(
        completed=crowd.completed,
        errors=crowd.errors,
        bytes=crowd.completed * work.size,
        seconds=seconds,
        cpu=spent[0],
        dialled=crowd.dialled,
        accepted=counts.connections - accepted,
        answered=counts.requests - answered,
        repeated=crowd.repeated,
        peak=memory(peer.pid)[1],
        framings=crowd.framings,
    )


def _ask(peer: Peer, work: Work, times: int, limit: float) -> tuple[HttpCrowd, float]:
    crowd = HttpCrowd(peer.address, limit)
    try:
        return crowd, crowd.ask(work.requests, times, work.clients)
    finally:
        crowd.leave()
