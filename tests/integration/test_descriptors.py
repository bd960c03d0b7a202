"""A crowd that takes every descriptor: it waits, the operator does not, and it passes."""

import contextlib
import os
import re
import resource
import select
import signal
import socket
import time
from itertools import count, islice
from pathlib import Path

from tests.integration.programs import LOOPBACK, eventually
from tests.integration.proxy import ANY_PORT, Proxy, ProxyTestCase
from tests.integration.traffic import dial, flip, flipping, read_exactly, serve
from whatsproxy.descriptors import KEPT, PER_CONNECTION
from whatsproxy.web import CONNECTIONS

FIRST = b"\x00\x01raw bytes"
#: Clients that there is room for.
INSIDE = 6
#: Seconds in which a waiting crowd may cost no more than BUSY seconds of the processor.
WINDOW, BUSY = 0.5, 0.2


class CrowdTests(ProxyTestCase):
    """The limit is lowered while it runs, as an operator or another part of the process might."""

    def setUp(self) -> None:
        super().setUp()
        self.crowd = contextlib.ExitStack()
        self.addCleanup(self.crowd.close)
        upstream = self.background.run(serve(flipping))
        self.log = self.directory / "proxy.log"
        file = self.write("file.toml", f'logging.output = "{self.log}"')
        chat = ["--chat", f"{LOOPBACK}:{upstream}"]
        self.proxy_ = self.twistd("-c", file, "-l", ANY_PORT, "-m", ANY_PORT, *chat)
        self.serves(self.proxy_)

    def serves(self, proxy: Proxy) -> None:
        """Wait until it has told its ports, in its log."""
        told = r"listening on \S*?:(\d+) [^§]*metrics on http://[^/]*:(\d+)/metrics"

        def found() -> re.Match[str] | None:
            return re.search(told, self.log.read_text()) if self.log.exists() else None

        match = eventually(found, "it listens")
        assert match is not None
        proxy.port, proxy.pages = int(match[1]), int(match[2])
        eventually(lambda: proxy.get("/ready")[0] == 200, "/ready says 200")

    def leave_room_for(self, clients: int) -> None:
        """Lower the limit to what so many clients need, and what is kept."""
        taken = {int(n) for n in os.listdir(f"/proc/{self.proxy_.process.pid}/fd")}
        free = (n for n in count() if n not in taken)
        *_, last = islice(free, clients * PER_CONNECTION)
        limit = last + 1 + KEPT
        resource.prlimit(self.proxy_.process.pid, resource.RLIMIT_NOFILE, (limit, limit))

    def come(self) -> socket.socket:
        """Return a client that has spoken and may or may not have been let in."""
        client = self.crowd.enter_context(dial(self.proxy_.port))
        client.sendall(FIRST)
        return client

    def served(self, client: socket.socket) -> None:
        self.assertEqual(flip(FIRST), read_exactly(client, len(FIRST)))

    @staticmethod
    def turned_away(clients: list[socket.socket]) -> bool:
        """Tell whether a connection was ended, without an answer."""
        ready, _, _ = select.select(clients, [], [], 0)
        return any(not client.recv(1, socket.MSG_PEEK) for client in ready)

    def paused(self) -> bool:
        return bool(self.proxy_.figure("accept_paused"))

    def fill(self) -> tuple[list[socket.socket], list[socket.socket]]:
        """Return clients that are inside, as many as there is room for, and as many that wait."""
        self.leave_room_for(INSIDE)
        inside = []
        for _ in range(INSIDE):
            inside.append(self.come())
            self.served(inside[-1])
        waiting = [self.come() for _ in range(INSIDE)]
        eventually(self.paused, "accepting is paused")
        return inside, waiting

    def passes(self) -> None:
        """Let all of them go; who comes now is served."""
        self.crowd.close()
        eventually(lambda: not self.paused(), "accepting has resumed")
        self.served(self.come())

    def processor_time(self) -> float:
        """Return the seconds of the processor's time that it has taken."""
        stat = Path(f"/proc/{self.proxy_.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def test_the_crowd_waits(self) -> None:
        """Those inside are served; who waits costs nothing, and comes in when there is room."""
        inside, waiting = self.fill()
        began, used = time.monotonic(), self.processor_time()
        eventually(lambda: time.monotonic() > began + WINDOW, "time passes")
        self.assertLess(self.processor_time() - used, BUSY)

        for client in inside:
            client.sendall(FIRST)
            self.served(client)
        self.assertEqual(self.proxy_.figure("connections_active"), INSIDE)
        self.assertEqual(self.proxy_.get("/ready")[::2], (503, "not ready: out of descriptors\n"))
        for gone, next_one in zip(inside, waiting, strict=True):
            gone.close()
            self.served(next_one)
        self.passes()
        self.assertEqual(self.proxy_.ends(), {"client_closed": 2 * INSIDE})

        # All at once, nobody has an upstream yet that could be counted: then some are told no,
        # because what is kept for the service is nobody's.
        self.proxy_.signal(signal.SIGSTOP)
        at_once = [self.come() for _ in range(10 * INSIDE)]
        self.proxy_.signal(signal.SIGCONT)
        eventually(lambda: self.turned_away(at_once), "some are told no")
        self.passes()
        eventually(lambda: "no_descriptors" in self.proxy_.ends(), "that is why")
        self.assertLessEqual(
            set(self.proxy_.ends()), {"client_closed", "client_reset", "no_descriptors"}
        )
        log = self.log.read_text()
        self.assertNotIn("Traceback", log)
        self.assertEqual(len(re.findall("newcomers wait", log)), 1, log)
        self.assertNotIn(LOOPBACK, log.partition("newcomers")[2].partition("\n")[0])

    def test_the_operator_does_not(self) -> None:
        """With the metrics at their own limit the log is reopened and certificates are read."""
        self.fill()
        for _ in range(CONNECTIONS - 1):
            self.crowd.enter_context(dial(self.proxy_.pages))
        self.assertEqual(self.proxy_.get("/health")[0], 200)
        self.assertIn("whatsapp_proxy_accept_pauses_total 1.0", self.proxy_.get("/metrics")[2])
        rotated = self.directory / "proxy.log.1"
        self.log.rename(rotated)
        self.proxy_.signal(signal.SIGUSR1)
        eventually(lambda: self.log.exists() and "log reopened" in self.log.read_text(), "reopened")
        self.proxy_.signal(signal.SIGHUP)
        eventually(lambda: "self-signed is valid until" in self.log.read_text(), "reloaded")
        self.assertNotIn("cannot", self.log.read_text())
        self.proxy_.signal(signal.SIGTERM)
        self.crowd.close()
        self.assertEqual(self.proxy_.wait(), 0)
