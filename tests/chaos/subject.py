"""The proxy that is put to the test: twistd, with a window into it."""

import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.integration.programs import environment, eventually
from tests.integration.proxy import Proxy
from whatsproxy.resolver import NAMES
from whatsproxy.route import ROUTES
from whatsproxy.upstream import FIRSTS

#: What no connection may leave behind, by the beginnings of their types' names: there may be no
#: more of them than before. ``scheduled`` are timers.
PER_CONNECTION = (
    "whatsproxy.",
    "h11.",
    "OpenSSL.SSL.Connection",
    "twisted.internet.tcp.Server",
    "twisted.internet.tcp.Client",
    "twisted.internet.defer.Deferred",
    "scheduled",
)
#: But for these, so many of which are remembered: targets of HTTP requests, ways to them, names.
REMEMBERED = {
    "whatsproxy.destination.Destination": 2048,
    "whatsproxy.dial.DirectEndpoint": FIRSTS,
    "whatsproxy.time_limit.TimeLimit": FIRSTS + 3,  # and those that all clients share
    "whatsproxy.socks5.SOCKS5ClientEndpoint": FIRSTS,
    "whatsproxy.socks5_handshake.Words": FIRSTS,
    "whatsproxy.name_cache.Known": NAMES,
    "whatsproxy.route.Route": ROUTES + 8,  # and those that are configured
    "whatsproxy.route.Terminate": ROUTES,
    "whatsproxy.route.Refusal": ROUTES + 8,
}

#: Configuration that lets one address come as often as it likes, and go to loopback; and leaves a
#: line in the log for every connection.
FREE_FOR_ALL = """
clients.max_per_client = 0
clients.rate_per_client = 0
policy.allow_networks = ["127.0.0.0/8", "::1/128"]
logging.rate = 0
"""


class Watched(Proxy):
    """A running proxy that tells what objects are alive in it.

    ``census`` is where it writes that; ``log_file`` where it logs, if that is not its output.
    """

    census: Path
    log_file: Path | None = None

    @classmethod
    def begin(
        cls,
        directory: Path,
        *options: str | Path,
        prefix: Sequence[str] = (),
        log_file: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> "Watched":
        """Start twistd whatsproxy in the foreground, by ``prefix``; it need not be ready yet."""
        census = directory / "census"
        argv = [*prefix, sys.executable, "-m", "tests.chaos.watched", "--nodaemon", "--pidfile="]
        words = [str(word) for word in (*argv, "whatsproxy", *options)]
        proxy = cls(words, directory, environment(WATCHED=str(census), **(env or {})))
        proxy.census, proxy.log_file = census, log_file
        return proxy

    def ready(self) -> None:
        """Wait until it has told its ports and serves."""
        if self.log_file is None:
            super().ready()
            return

        def port(pattern: str) -> int:
            def found() -> re.Match[str] | None:
                assert self.process.poll() is None, self.output()
                return re.search(pattern, self.output())

            return int(eventually(found, f"logged: {pattern}")[1])

        self.port = port(r"listening on \S*?:(\d+) ")
        self.pages = port(r"metrics on http://[^/]*:(\d+)/metrics")
        eventually(lambda: self.get("/ready")[0] == 200, "/ready says 200")

    def output(self, name: str | None = None) -> str:
        """Return what it has said, in its log file too."""
        said = super().output(name)
        if self.log_file is not None and self.log_file.exists():
            said += self.log_file.read_text()
        return said

    def objects(self) -> Counter[str]:
        """Return how many objects of each type there are, garbage collected."""
        file = self.census
        file.unlink(missing_ok=True)
        self.signal(signal.SIGUSR2)
        eventually(file.exists, "the census is there")
        return Counter(json.loads(file.read_text()))

    def per_connection(self) -> dict[str, int]:
        """Return those that belong to connections."""
        return {
            name: count
            for name, count in self.objects().items()
            if name.startswith(PER_CONNECTION) and count > REMEMBERED.get(name, 0)
        }

    def note_rest(self) -> None:
        """Remember what there is while nobody is connected."""
        # The pages' own connections go a moment after their answers.
        server = "twisted.internet.tcp.Server"
        eventually(lambda: server not in self.per_connection(), "nobody is there")
        self._at_rest = self.descriptors(), self.per_connection()

    def left_behind(self) -> str:
        """Return what there is more than at rest, in words; nothing, that is, if all is well."""
        descriptors, objects = self._at_rest
        found = ""

        def nothing() -> bool:
            nonlocal found
            open_now, now = self.descriptors(), self.per_connection()
            more = {k: (objects.get(k, 0), v) for k, v in now.items() if v > objects.get(k, 0)}
            found = str(more) if more else ""
            if open_now > descriptors:
                found += f" {open_now} descriptors instead of {descriptors}"
            return not found

        try:
            eventually(nothing, "nothing is left")
        except AssertionError:
            return found
        return ""

    def descriptors(self) -> int:
        """Return how many descriptors are open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident(self) -> int:
        """Return the resident memory, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def cpu(self) -> float:
        """Return the seconds of processor time that it has taken."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
