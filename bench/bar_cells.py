"""What the bars are about: each cell's work, done by all programs in turn, and its cost."""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from bar_certificates import ECDSA, RSA
from bar_http import BODY, Requests
from pairs import Pairs
from peers import Peer, Starter
from process import cpu_seconds, memory

#: Who does the work: programs, and ways to run them.
OURS, BY_SOCKS, TUNNEL = "whatsproxy", "whatsproxy by SOCKS5", "whatsproxy, CONNECT"
META, SPLICING, TLS = "HAProxy", "HAProxy, splicing", "HAProxy, TLS"
PPROXY, PROXY_PY = "pproxy", "proxy.py"
#: Loads beside plain pairs and TLS to one of the certificates.
HTTP = "http"
#: In how many pieces each does a cell's work, turn by turn with the others.
SLICES = 3
#: Seconds for a program to finish what it was doing, buffered lines of the log included.
SETTLE = 0.4
#: Bytes of a message.
MESSAGE = 300
MIB = 1 << 20
#: Connections that are being opened at a time.
_AT_ONCE = 32

Load = Pairs | Requests


@dataclass
class Sample:
    """What one program did in one round of a cell."""

    #: Connections, messages, bytes; and what they cost: CPU seconds, or bytes of memory.
    work: float = 0.0
    cost: float = 0.0
    #: Seconds in which the work was done; 0 where they tell nothing.
    seconds: float = 0.0
    #: Of a held connection.
    descriptors: float = 0.0
    #: Of TLS: what was agreed on.
    cipher: str = ""
    errors: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Cell:
    """A kind of work, and who does it."""

    name: str
    title: str
    #: What figures are in, how many of them a unit of cost/work is, digits behind the point.
    unit: str
    units: float
    digits: int
    subjects: tuple[str, ...]


@dataclass(frozen=True)
class Cell(_Cell):
    """Work whose CPU is measured."""

    #: What is done before anything is measured, and what then, SLICES times: it returns the work.
    prepare: Callable[[Load], object]
    work: Callable[[Load], float]
    load: str = ""
    #: Whether each unit of work leaves a line in whatsproxy's log.
    logged: bool = False


@dataclass(frozen=True)
class Idle(_Cell):
    """Connections that are held; what they hold in memory is measured."""

    held: int
    load: str = ""


#: Makes the load of a cell for the program of this title.
Maker = Callable[[Cell | Idle, str, Peer], Load]


def _churn(count: int) -> Callable[[Load], float]:
    def work(load: Load) -> float:
        assert isinstance(load, Pairs)
        load.churn(count, _AT_ONCE)
        return count

    return work


def _ping_pong(count: int) -> Callable[[Load], float]:
    def work(load: Load) -> float:
        assert isinstance(load, Pairs)
        load.ping_pong(MESSAGE, count)
        return count

    return work


def _bulk(up: int, down: int) -> Callable[[Load], float]:
    """Return work that moves MiB up and down on each connection."""

    def work(load: Load) -> float:
        assert isinstance(load, Pairs)
        load.move(up * MIB, down * MIB)
        return (up + down) * MIB * len(load)

    return work


def _hold(count: int) -> Callable[[Load], object]:
    def prepare(load: Load) -> None:
        assert isinstance(load, Pairs)
        load.open(count, _AT_ONCE)

    return prepare


def _small(count: int) -> Callable[[Load], float]:
    def work(load: Load) -> float:
        assert isinstance(load, Requests)
        return load.small(count)

    return work


def _bodies(count: int) -> Callable[[Load], float]:
    """Return work that brings bodies."""

    def work(load: Load) -> float:
        assert isinstance(load, Requests)
        return load.down(count)

    return work


_CONNECTION, _GB = ("µs CPU a connection", 1e6, 1), ("CPU s a GB", 1e9, 3)
CELLS: tuple[Cell | Idle, ...] = (
    Cell(
        "bulk",
        "bulk, 4 connections, both ways at once",
        *_GB,
        (OURS, META, SPLICING),
        _hold(4),
        _bulk(32, 32),
    ),
    Cell(
        "setup",
        "connect, intro, reply, close",
        *_CONNECTION,
        (OURS, META, SPLICING),
        _churn(200),
        _churn(800),
        logged=True,
    ),
    Cell(
        "socks",
        "likewise, whatsproxy by SOCKS5",
        *_CONNECTION,
        (BY_SOCKS, META),
        _churn(200),
        _churn(600),
        logged=True,
    ),
    Cell(
        "roundtrip",
        f"{MESSAGE} bytes there and back, 64 connections",
        "µs CPU a round trip",
        1e6,
        2,
        (OURS, META, SPLICING),
        _hold(64),
        _ping_pong(12_000),
    ),
    Idle("idle", "9,000 idle relays", "KB a relay", 1e-3, 2, (OURS, META), 9000),
    *(
        Cell(
            f"tls-{kind}",
            f"TLS 1.3, {title}: handshake, intro, reply, close",
            *_CONNECTION,
            (OURS, TLS),
            _churn(50),
            _churn(200),
            name,
            logged=True,
        )
        for kind, title, name in (("ecdsa", "ECDSA P-256", ECDSA), ("rsa", "RSA 2048", RSA))
    ),
    *(
        Cell(
            f"tls-{way}",
            f"TLS bulk {way}, 4 connections",
            *_GB,
            (OURS, TLS),
            _hold(4),
            _bulk(*each),
            ECDSA,
        )
        for way, each in (("down", (0, 16)), ("up", (16, 0)))
    ),
    Idle("tls-idle", "2,000 idle TLS", "KB a relay", 1e-3, 2, (OURS, TLS), 2000, ECDSA),
    Cell(
        "http",
        "HTTP, small answers, 16 connections kept",
        "µs CPU a request",
        1e6,
        1,
        (OURS, PPROXY, PROXY_PY),
        _small(100),
        _small(1500),
        HTTP,
    ),
    Cell(
        "body",
        f"bodies of {BODY // MIB} MiB, by HTTP and by CONNECT",
        *_GB,
        (OURS, TUNNEL),
        _bodies(8),
        _bodies(16),
        HTTP,
    ),
)


def run(cell: Cell, peers: Mapping[str, Peer], make: Maker) -> dict[str, Sample]:
    """Let these programs do one round of the work, turn by turn."""
    samples = {title: Sample() for title in peers}
    with contextlib.ExitStack() as stack:
        loads = {
            title: stack.enter_context(_load(cell, title, peer, make))
            for title, peer in peers.items()
        }
        for load in loads.values():
            cell.prepare(load)
            cell.work(load)
        time.sleep(SETTLE)
        lines = {title: _lines(peer) for title, peer in peers.items()}
        # What is left to do in the turns of the others counts, too; who is idle costs nothing then.
        before = {title: cpu_seconds(peer.pid) for title, peer in peers.items()}
        for _ in range(SLICES):
            for title, load in loads.items():
                began = time.monotonic()
                samples[title].work += cell.work(load)
                samples[title].seconds += time.monotonic() - began
        time.sleep(SETTLE)
        for title, sample in samples.items():
            peer, load = peers[title], loads[title]
            sample.cost = cpu_seconds(peer.pid) - before[title]
            sample.errors += load.errors
            sample.cipher = getattr(load, "cipher", "")
            if cell.logged and peer.pages:
                missing = int(sample.work) - (_lines(peer) - lines[title])
                sample.errors += Counter({"not in the log": missing})  # drops what is not positive
    return samples


def hold(idle: Idle, title: str, start: Starter, make: Maker) -> Sample:
    """Measure what connections hold of a program that is started for it."""
    with start() as peer, _load(idle, title, peer, make) as load:
        assert isinstance(load, Pairs)
        load.churn(100, _AT_ONCE)
        time.sleep(SETTLE)
        before, descriptors = memory(peer.pid)[0], _descriptors(peer)
        load.open(idle.held, _AT_ONCE)
        time.sleep(SETTLE)
        return Sample(
            work=len(load),
            cost=memory(peer.pid)[0] - before,
            descriptors=(_descriptors(peer) - descriptors) / max(len(load), 1),
            cipher=getattr(load, "cipher", ""),
            errors=load.errors,
        )


@contextlib.contextmanager
def _load(cell: Cell | Idle, title: str, peer: Peer, make: Maker) -> Iterator[Load]:
    load = make(cell, title, peer)
    try:
        load.check()
        if load.errors:
            said = peer.log.read_text(errors="replace")[-2000:] if peer.log else ""
            raise RuntimeError(f"{cell.name}, {title}: {', '.join(load.errors)}\n{said}")
        yield load
    finally:
        load.leave()


def _descriptors(peer: Peer) -> int:
    return len(os.listdir(f"/proc/{peer.pid}/fd"))


def _lines(peer: Peer) -> int:
    return peer.log.read_bytes().count(b"\n") if peer.log else 0
