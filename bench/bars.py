"""The bars: what whatsproxy's data plane costs in CPU and memory, against HAProxy in the same run.

    tests/sandbox .venv/bin/python bench/bars.py [--help]

In each cell all programs do the same work on a CPU of their own, turn by turn, the load on the
others; what is compared is their CPU time or their memory, round by round. whatsproxy has all its
features on: limits per client, metrics, timeouts, a line in the log for every connection.
"""

import argparse
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import bar_certificates
import bar_report
import report
from bar_cells import (
    BY_SOCKS,
    CELLS,
    HTTP,
    META,
    OURS,
    PPROXY,
    PROXY_PY,
    SPLICING,
    TLS,
    TUNNEL,
    Cell,
    Idle,
    Load,
    Sample,
    hold,
    run,
)
from bar_http import Pages, Requests
from http_origin import http_origin
from http_peers import installed
from http_traffic import NAME
from load import CHAT_NAME, note, progress
from origin import listener
from pairs import Pairs
from peers import LOOPBACK, ROOT, Haproxy, Peer, Starter, find, haproxy, microsocks, whatsproxy
from process import descriptors, divide_cpus
from tls_pairs import TlsPairs


def main() -> None:
    """Measure and print."""
    arguments = parse()
    # What is running ends with this process, whoever ends it, and after so long it ends itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("bench/bars.py: out of time (--total)"))
    signal.alarm(arguments.total)
    limit = descriptors()
    print(f"    {report.command_line()}\n\n{report.environment()}\n", flush=True)
    measured, others = divide_cpus()
    if measured == others:
        note("one CPU: the load takes its share of it, so no program is ever saturated")
    os.sched_setaffinity(0, others)
    gc.disable()  # the load makes no cycles, and thousands of sockets to look through
    cells = chosen(arguments.only)
    samples: dict[str, dict[str, list[Sample]]] = {}
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        listening = stack.enter_context(listener())
        answering = listener()
        site = Site(listening, Pages(), int(answering.getsockname()[1]), directory, arguments.limit)
        stack.enter_context(http_origin(answering))
        wanted = {subject for cell in cells for subject in cell.subjects}
        starters = dict(programs(stack, arguments, site, wanted, limit, measured, others))
        for _ in range(arguments.rounds):
            for cell, title, sample in measure(cells, starters, site):
                samples.setdefault(cell.name, {}).setdefault(title, []).append(sample)
    progress("")
    bar_report.show(cells, samples, arguments.rounds)
    if bar_report.failures(samples):
        sys.exit(1)


@dataclass(frozen=True)
class Site:
    """What is there for all programs: the origins, and a directory for files."""

    listening: socket.socket
    #: The origin of HTTP; and the port of one that answers while nobody has turns for that.
    pages: Pages
    answering: int
    directory: Path
    #: Seconds for each phase.
    limit: float

    @property
    def port(self) -> int:
        """The port of the origin of everything else."""
        return int(self.listening.getsockname()[1])

    def load(self, cell: Cell | Idle, title: str, peer: Peer) -> Load:
        """Return the load of a cell for a program."""
        if not cell.load:
            return Pairs(peer.address, self.listening, self.limit)
        if cell.load == HTTP:
            tunnelled = role_of(title) == TUNNEL
            return Requests(peer.address, self.pages, self.limit, tunnelled=tunnelled)
        return TlsPairs(peer.address, self.listening, self.limit, cell.load)


def chosen(only: Sequence[str]) -> list[Cell | Idle]:
    """Return the cells that are to be measured and can be here."""
    cells = [cell for cell in CELLS if not only or cell.name in only]
    if os.environ.get("TEST_SANDBOX") != "1" and any(cell.load == HTTP for cell in cells):
        note(f"no HTTP: {NAME} is this machine in tests/sandbox only")
        cells = [cell for cell in cells if cell.load != HTTP]
    return cells


def measure(
    cells: Sequence[Cell | Idle], starters: dict[str, Starter], site: Site
) -> Iterator[tuple[Cell | Idle, str, Sample]]:
    """Yield the samples of one round. Programs are started once in it, and for each idle cell."""
    with contextlib.ExitStack() as stack:
        peers: dict[str, Peer] = {}
        for cell in cells:
            progress(f"{cell.name} ...")
            titles = [title for title in starters if role_of(title) in cell.subjects]
            if isinstance(cell, Idle):
                for title in titles:
                    yield cell, title, hold(cell, title, starters[title], site.load)
                continue
            for title in titles:
                if title not in peers:
                    peers[title] = stack.enter_context(starters[title]())
            subjects = {title: peers[title] for title in titles}
            for title, sample in run(cell, subjects, site.load).items():
                yield cell, title, sample


def role_of(title: str) -> str:
    """Return what a program is, whatever tree it comes from."""
    return title.partition(" of ")[0]


def programs(
    stack: contextlib.ExitStack,
    arguments: argparse.Namespace,
    site: Site,
    wanted: set[str],
    limit: int,
    measured: set[int],
    others: set[int],
) -> Iterator[tuple[str, Starter]]:
    """Yield title and starter of those programs that are wanted, saying what is missing."""
    certificates = bar_certificates.write(site.directory)
    options = [*options_of(site, certificates), *arguments.proxy_option]
    trees = {"": arguments.program[0]} | {f" of {tree}": tree for tree in arguments.program[1:]}
    for suffix, tree in trees.items():
        if arguments.program != [ROOT]:
            note(f"whatsproxy{suffix} is {imported(tree)}")
        yield OURS + suffix, partial(whatsproxy, measured, options, tree)
        yield TUNNEL + suffix, partial(whatsproxy, measured, options, tree)
    if BY_SOCKS in wanted and not find("microsocks"):
        note("no SOCKS5: microsocks is not installed")
    elif BY_SOCKS in wanted:
        server = stack.enter_context(microsocks(others))
        by_socks = [*options, "--socks5", f"socks5://{LOOPBACK}:{server.address[1]}"]
        for suffix, tree in trees.items():
            yield BY_SOCKS + suffix, partial(whatsproxy, measured, by_socks, tree)
    if find("haproxy"):
        haproxies = {
            META: Haproxy(),
            SPLICING: Haproxy(splicing=True),
            TLS: Haproxy(buffer=16_384, certificates=certificates),
        }
        for title, settings in haproxies.items():
            yield title, partial(haproxy, measured, site.port, limit, settings, wait=False)
    else:
        note("no HAProxy: it is not installed")
    found = {program.title: program for program in installed(arguments.peers)}
    for title in sorted({PPROXY, PROXY_PY} & wanted):
        if title in found:
            yield title, partial(found[title].start, measured, site.answering)
        else:
            note(f"no {title}: it is not installed")


def options_of(site: Site, certificates: Sequence[Path]) -> list[str]:
    """Return whatsproxy's options: where chats go, whose TLS ends here, which HTTP is allowed."""
    configuration = site.directory / "whatsproxy.toml"
    entries = (
        f'[[tls.certificate]]\ncert_file = "{path}"\nkey_file = "{path}"\n' for path in certificates
    )
    configuration.write_text(f"[policy]\nallow_ports = [{site.pages.port}]\n{''.join(entries)}")
    chat = CHAT_NAME if os.environ.get("TEST_SANDBOX") == "1" else LOOPBACK
    allowed = ["--allow", NAME, "--chat", f"{chat}:{site.port}"]
    return ["--config", str(configuration), *allowed]


def imported(tree: Path) -> str:
    """Return which whatsproxy is run from a source tree."""
    command = [sys.executable, "-c", "import whatsproxy; print(whatsproxy.__file__)"]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        command, cwd="/", env=environment, capture_output=True, text=True, check=True
    )
    found = Path(done.stdout.strip())
    if not found.is_relative_to(tree):
        sys.exit(f"bench/bars.py: {tree} is no source tree of whatsproxy: that is {found}")
    return str(found)


def parse() -> argparse.Namespace:
    """Read the command line."""
    names = [cell.name for cell in CELLS]
    parser = argparse.ArgumentParser(
        description="What whatsproxy's data plane costs, against HAProxy in the same run.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="all cells in turn, so often")
    add(
        "--only",
        type=lambda text: text.split(","),
        default=[],
        metavar="CELL[,CELL]",
        help=f"of {', '.join(names)}; all",
    )
    add(
        "--program",
        type=lambda text: Path(text).resolve(),
        action="append",
        default=[],
        metavar="DIR",
        help="the source tree that whatsproxy is taken from, instead of this one; several are "
        "measured side by side",
    )
    peers = [os.environ["BENCH_PEERS"]] if os.environ.get("BENCH_PEERS") else []
    add(
        "--peers",
        action="append",
        default=peers,
        metavar="DIR",
        help="where pproxy and proxy (proxy.py's) are, if not on the PATH; also in BENCH_PEERS",
    )
    add("--limit", type=float, default=30.0, metavar="SECONDS", help="for each phase of a cell")
    add("--total", type=int, default=900, metavar="SECONDS", help="for everything")
    add(
        "--proxy-option",
        action="append",
        default=[],
        metavar="WORD",
        help="one more word for whatsproxy's command line",
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - set(names):
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}")
    arguments.program = arguments.program or [ROOT]
    return arguments


if __name__ == "__main__":
    main()
