"""The proxies of a soak, each with its log, and how they are at some moments."""

import signal
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.subject import FREE_FOR_ALL, Watched
from tests.chaos.transfers import ORIGIN, WAYS, Site
from tests.integration.programs import LOOPBACK, eventually
from tests.integration.proxy import ANY_PORT

MAX_CONNECTIONS = 400
#: Time limits that a soak meets often.
CONFIG = f"""
server.max_connections = {MAX_CONNECTIONS}
timeouts.idle = 10
timeouts.chat_idle = 10
timeouts.http_answer = 10
timeouts.sniff = 5
"""


@dataclass
class Party:
    """One proxy; ``vague``: what is behind it may make an end of a break."""

    name: str
    proxy: Watched
    site: Site
    slow_site: Site
    log_file: Path
    vague: bool
    #: Lines about connections in logs that have been rotated away.
    logged: int = 0
    rotations: int = 0
    #: Resident memory at some parts of the time.
    resident: dict[str, int] = field(default_factory=dict)
    cpu: float = 0.0
    accepted: int = 0

    def rotate(self) -> None:
        """Do what logrotate does; the old log is read, and deleted."""
        old = self.log_file.with_suffix(".1")
        self.log_file.rename(old)
        self.proxy.signal(signal.SIGUSR1)
        eventually(self.log_file.exists, "a new log is opened")
        eventually(lambda: "log reopened" in self.log_file.read_text(), "the log is reopened")
        self.logged += lines_of_connections(old)
        old.unlink()
        self.rotations += 1

    def problems(self) -> list[str]:
        """Return, when everybody has gone, what is not as it should be."""
        found = []
        self.accepted = int(self.proxy.figure("connections_total"))
        active = self.proxy.figure("connections_active")
        if active:
            found.append(f"{active:.0f} sessions are left")
        if left := self.proxy.left_behind():
            found.append(f"left behind: {left}")
        ends = self.proxy.ends()
        if ends.get("internal"):
            found.append(f"{ends['internal']} connections ended by internal errors")
        logged = self.logged + lines_of_connections(self.log_file)
        ended = sum(ends.values()) - ends.get("rejected", 0)
        if logged != ended:
            found.append(f"{logged} connections are in the log, and {ended} have ended")
        if bad := [line for line in self.proxy.output().splitlines() if is_bad(line)]:
            found.append(f"in the log: {bad[0]}")
        return found


def start(
    directory: Path, name: str, origin: int, trust: ssl.SSLContext, *options: str, vague: bool
) -> Party:
    """Start a proxy, go every way once, and note how it is at rest."""
    directory.mkdir()
    log_file = directory / "log"
    config = directory / "whatsproxy.toml"
    ports = f"policy.allow_ports = [443, {origin}]\n"
    config.write_text(f'{CONFIG}{FREE_FOR_ALL}{ports}logging.output = "{log_file}"\n')
    words = ("-c", config, "-l", ANY_PORT, "-m", ANY_PORT, "--chat", f"{LOOPBACK}:{origin}")
    allowed = ("--allow", ORIGIN, "--allow", "*.whatsapp.net")
    proxy = Watched.begin(directory, *words, *allowed, *options, log_file=log_file)
    try:
        proxy.ready()
    except BaseException:
        proxy.stop()
        raise
    site = Site(proxy.port, origin, trust, patience=60)
    slow = Site(proxy.port, origin, trust, patience=60, drag=0.1)
    return Party(name, proxy, site, slow, log_file, vague)


async def warm(party: Party) -> None:
    """Go every way once."""
    for way in WAYS:
        (outcome,) = await party.site.carry(way, party.site.order(1000, 1000))
        assert outcome.how == "complete", outcome


def lines_of_connections(log: Path) -> int:
    return sum(" connection ended: " in line for line in log.open())


def is_bad(line: str) -> bool:
    words = line.split(" ")
    return "Traceback" in line or (len(words) > 1 and words[1] in ("error", "critical"))
