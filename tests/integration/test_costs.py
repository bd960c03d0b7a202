"""What a connection and a message cost, counted: system calls, descriptors, objects.

No times here: counts are the same on any machine.
"""

import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.subject import Watched
from tests.integration.programs import LOOPBACK, installed
from tests.integration.proxy import ProxyTestCase
from tests.integration.traffic import dial, flip, flipping, read_exactly, serve

#: Connections of a test, and messages.
MANY = 50
MESSAGE = b"a small message" * 5
#: System calls that may come from elsewhere: a timer, a line of the log.
SLACK = 10
#: System calls of a connection that is made, relays a message each way and ends, but for those that
#: wait; and of how many things it has to hear, one after the other, at most.
CALLS, EVENTS = 22, 7
#: What there is of an idle relay, for the garbage collector to look at.
HELD = {
    "whatsproxy.hub_transport.HubTransport": 2,
    "whatsproxy.relay._ClientEnd": 1,
    "whatsproxy.relay._UpstreamEnd": 1,
    "whatsproxy.relay.Relay": 1,
    "whatsproxy.session.Session": 1,
}


class CostCase(ProxyTestCase):
    """A proxy that can be looked into, and an upstream that sends everything back, flipped."""

    def setUp(self) -> None:
        super().setUp()
        upstream = self.background.run(serve(flipping))
        log = self.directory / "log"
        self.service: Watched = self.proxy(
            *("--chat", f"{LOOPBACK}:{upstream}"), config=f'logging.output = "{log}"'
        )
        self.exchange(self.connected())  # what is taken once is taken now

    def twistd(self, *options: str | Path, env: dict[str, str] | None = None) -> Watched:
        proxy = Watched.begin(self.directory, *options, log_file=self.directory / "log", env=env)
        self.addCleanup(proxy.stop)
        return proxy

    def connected(self) -> socket.socket:
        """Return a connection that is relayed."""
        client = dial(self.service.port)
        self.addCleanup(client.close)
        self.exchange(client, b"\x00\x01raw")
        return client

    def exchange(self, client: socket.socket, message: bytes = MESSAGE) -> None:
        """Send a message, and wait for its answer."""
        client.sendall(message)
        self.assertEqual(flip(message), read_exactly(client, len(message)))


class SystemCallTests(CostCase):
    """strace counts."""

    @contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """Count the proxy's system calls meanwhile."""
        table = self.directory / "table"
        argv = [
            installed("strace"),
            "-f",
            "-c",
            "-o",
            str(table),
            "-p",
            str(self.service.process.pid),
        ]
        strace = self.start(*argv)
        strace.wait_for(r"attached")
        calls: Counter[str] = Counter()
        try:
            yield calls
        finally:
            strace.signal(signal.SIGINT)
            strace.wait()
        for line in table.read_text().splitlines():
            fields = re.fullmatch(r" *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)", line)
            if fields is not None and fields[2] != "total":
                calls[fields[2]] += int(fields[1])

    def assert_carried(self, calls: Counter[str], messages: int) -> None:
        """See that each was received once, and sent once."""
        for name in ("recvfrom", "sendto"):
            # strace may leave while the last call is under way, and does not count it then.
            self.assertIn(calls.pop(name), (messages - 1, messages), name)

    def test_messages(self) -> None:
        """One is received and sent; three times an epoll is asked, the last time in vain."""
        client = self.connected()
        with self.counted() as calls:
            for _ in range(MANY):
                self.exchange(client)
        messages = 2 * MANY  # and their answers
        self.assert_carried(calls, messages)
        self.assertLessEqual(calls.pop("epoll_wait"), 3 * messages + SLACK)
        self.assertLessEqual(calls.total(), SLACK, calls)

    def test_messages_at_once(self) -> None:
        """Where there is much to do, the epolls are asked once for all of it."""
        clients = [self.connected() for _ in range(MANY)]
        with self.counted() as calls:
            self.service.signal(signal.SIGSTOP)
            for client in clients:
                client.sendall(MESSAGE)
            self.service.signal(signal.SIGCONT)
            for client in clients:
                self.assertEqual(flip(MESSAGE), read_exactly(client, len(MESSAGE)))
        messages = 2 * MANY
        self.assert_carried(calls, messages)
        # The answers come as the upstream, which is this process, sends them.
        self.assertLessEqual(calls.pop("epoll_wait"), 2 * MANY + SLACK)

    def test_connections(self) -> None:
        """One is accepted, found out about, connected, relayed both ways, ended and logged."""
        with self.counted() as calls:
            for _ in range(MANY):
                with self.connected() as client:
                    client.shutdown(socket.SHUT_WR)
                    self.assertEqual(b"", client.recv(1))
        self.assertGreaterEqual(calls["connect"], MANY)
        self.assertLessEqual(calls.pop("epoll_wait"), 3 * EVENTS * MANY)
        self.assertLessEqual(calls.total(), CALLS * MANY, calls)


class IdleTests(CostCase):
    """What a relay holds while nobody says a word."""

    def test_idle(self) -> None:
        descriptors, objects = self.service.descriptors(), self.service.objects()
        for _ in range(MANY):
            self.connected()
        self.assertEqual(descriptors + 2 * MANY, self.service.descriptors())
        more = self.service.objects()
        more.subtract(objects)
        grown = {name: count / MANY for name, count in more.items() if count >= MANY / 2}
        self.assertEqual(HELD, grown)
