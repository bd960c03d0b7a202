"""One cell of the table: one program, so many connections, from the first dial to the last FIN."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from crowd import Crowd
from peers import Peer
from process import cpu_seconds, memory
from traffic import BULK_LIMIT, BULKY, CHATS, openings

#: Seconds for a program to finish what it was doing, before its CPU and memory are read.
SETTLE = 0.25
#: Connections through a new program before anything is measured: imports, threads, caches.
WARM_UP = 40


@dataclass(frozen=True)
class Load:
    """What every cell carries."""

    kinds: tuple[str, ...]
    #: Connections opened and closed in all, in waves of the cell's size.
    churn: int
    #: Connections between their dialling and their first answer, at most.
    dialling: int
    #: Bytes of a message, and how many are exchanged over each cell's chats in all.
    message: int
    messages: int
    #: Bytes sent by the bulky connections in all; as many come back.
    bulk: int
    #: Seconds for each phase.
    limit: float


@dataclass
class Figures:
    """What was measured, of one run of a cell. Bytes, seconds, and CPU seconds of the program."""

    connections: int
    opened: int = 0
    completed: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    first_bytes: list[float] = field(default_factory=list)
    #: Opening and closing.
    cycle_seconds: float = 0.0
    cycle_cpu: float = 0.0
    messages: int = 0
    message_seconds: float = 0.0
    message_cpu: float = 0.0
    #: Both ways together.
    bulk: int = 0
    bulk_seconds: float = 0.0
    bulk_cpu: float = 0.0
    cpu: float = 0.0
    #: Memory with no connection, with ``held`` of them open and idle, at the peak, at the end.
    memory_none: float = 0.0
    memory_held: float = 0.0
    memory_peak: float = 0.0
    memory_after: float = 0.0
    held: int = 0

    @property
    def memory_each(self) -> float:
        """Bytes that each open, idle connection holds."""
        return (self.memory_held - self.memory_none) / max(self.held, 1)


def run(peer: Peer, connections: int, load: Load) -> Figures:
    """Measure one program, freshly started."""
    first = openings(load.kinds)
    warm = Crowd(peer.address, load.limit, peer.connect)
    warm.open(WARM_UP, first, load.dialling)
    warm.exchange(load.kinds, load.message, 1)
    warm.close()
    warm.leave()
    time.sleep(SETTLE)
    figures = Figures(connections)
    figures.memory_none, _ = memory(peer.pid)
    at_first = cpu_seconds(peer.pid)
    crowd = Crowd(peer.address, load.limit, peer.connect)
    try:
        _phases(peer, crowd, figures, load, first)
    finally:
        crowd.leave()
    figures.cpu = cpu_seconds(peer.pid) - at_first
    figures.memory_after, figures.memory_peak = memory(peer.pid)
    figures.completed = crowd.completed
    figures.errors = crowd.errors
    # Whatever became of one that is neither: it was not completed.
    figures.errors["lost"] += figures.opened - crowd.completed - crowd.errors.total()
    figures.errors += Counter()  # drops the zeros
    figures.first_bytes = crowd.first_bytes
    return figures


def _phases(
    peer: Peer, crowd: Crowd, figures: Figures, load: Load, first: Iterator[tuple[str, bytes]]
) -> None:
    count = figures.connections

    def cycle(phase: Callable[[], float]) -> None:
        with cpu(peer) as spent:
            figures.cycle_seconds += phase()
        figures.cycle_cpu += spent[0]

    cycle(lambda: crowd.open(count, first, load.dialling))
    figures.opened = count
    figures.memory_held, _ = memory(peer.pid)
    figures.held = len(crowd)

    # At least one exchange each, so that no connection goes unused.
    chats = _share(count, load.kinds, CHATS)
    with cpu(peer) as spent:
        times = -(-load.messages // chats) if chats else 0
        talking, figures.message_seconds = crowd.exchange(CHATS, load.message, times)
    figures.messages, figures.message_cpu = talking * times, spent[0]

    bulky = _share(count, load.kinds, BULKY)
    with cpu(peer) as spent:
        each = load.bulk // bulky if bulky else 0
        times = max(1, -(-each // BULK_LIMIT))
        size = max(1, each // times)
        moving, figures.bulk_seconds = crowd.exchange(BULKY, size, times)
    figures.bulk, figures.bulk_cpu = 2 * moving * times * size, spent[0]
    cycle(crowd.close)

    waves = max(0, load.churn - count) // count

    def churn() -> float:
        return sum(crowd.open(count, first, load.dialling) + crowd.close() for _ in range(waves))

    cycle(churn)
    figures.opened += waves * count


def _share(count: int, kinds: tuple[str, ...], some: tuple[str, ...]) -> int:
    """Return how many of ``count`` connections, in the turn of ``kinds``, are of ``some``."""
    return sum(kinds[i % len(kinds)] in some for i in range(count))


@contextlib.contextmanager
def cpu(peer: Peer) -> Iterator[list[float]]:
    """Put the CPU seconds that the program spent on the block into the list that is given."""
    spent: list[float] = []
    before = cpu_seconds(peer.pid)
    yield spent
    time.sleep(SETTLE)
    spent.append(cpu_seconds(peer.pid) - before)
