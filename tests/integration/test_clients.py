"""Who may come, and how much of them, while others are served."""

import signal
import socket

from tests.builders import INTROS
from tests.integration.programs import LOOPBACK, eventually
from tests.integration.proxy import ANY_PORT, Proxy, ProxyTestCase
from tests.integration.traffic import (
    ChatServer,
    client_noise_hello,
    dial,
    ends,
    flip,
    frame,
    read_exactly,
)

HELLO = INTROS[0] + client_noise_hello(bytes(range(32)))
HERE, OTHER = LOOPBACK, "127.9.9.9"


class ClientTests(ProxyTestCase):
    """Every address of 127.0.0.0/8 is a client of its own."""

    def carry(self, config: str) -> Proxy:
        self.server = ChatServer(self.background)
        chat = f'upstream.chat = ["{LOOPBACK}:{self.server.port}"]\n'
        file = self.write("whatsproxy.toml", chat + config)
        self.service = self.twistd("-c", file, "-l", "tcp6:0", "-m", ANY_PORT)
        self.service.ready()
        return self.service

    def begin(self, source: str) -> socket.socket | None:
        """Begin a chat from an address; None where it is turned away."""
        connection = dial(self.service.port, source=source)
        try:
            connection.sendall(HELLO)
            answer = read_exactly(connection, 4)
        except ConnectionError:
            answer = b""
        if answer:
            read_exactly(connection, len(ChatServer.answer(HELLO[7:])) - 4)
            self.addCleanup(connection.close)
            return connection
        connection.close()
        return None

    def is_served(self, connection: socket.socket | None) -> None:
        """See that a chat goes on."""
        assert connection is not None, "it was turned away"
        connection.sendall(frame(b"and another thing"))
        self.assertEqual(frame(flip(b"and another thing")), read_exactly(connection, 20))

    def ended(self, reason: str) -> int:
        return self.service.ends().get(reason, 0)

    def test_lists(self) -> None:
        """A file with comments; read anew by SIGHUP, and nobody who is inside notices."""
        file = self.write("clients.txt", f"# who may\n{HERE} # only here\n\n2001:db8::/32\n")
        self.carry(f'clients.allow = ["file:{file.name}"]\nclients.deny = ["127.6.6.6"]')
        inside = self.begin(HERE)
        self.assertIsNone(self.begin(OTHER))
        file.write_text("127.0.0.0/8\n")
        self.assertIsNone(self.begin(OTHER))
        self.reloaded("ok")
        self.is_served(self.begin(OTHER))
        self.assertIsNone(self.begin("127.6.6.6"))
        file.write_text(f"{OTHER}\nnobody\n")
        self.reloaded("failed")
        self.service.wait_for(r" error .*clients\.txt: line 2: 'nobody' is no")
        self.is_served(self.begin(HERE))
        file.write_text(f"{OTHER}\n")
        self.reloaded("ok", 2)
        self.assertIsNone(self.begin(HERE))
        self.is_served(self.begin(OTHER))
        self.is_served(inside)
        self.assertEqual(4, self.ended("client_denied"))
        self.assertNotIn(OTHER, self.service.output())

    def reloaded(self, result: str, count: int = 1) -> None:
        self.service.signal(signal.SIGHUP)

        def done() -> bool:
            name, what = "reloads_total", "clients.allow"
            return self.service.figure(name, what=what, result=result) == count

        eventually(done, f"reloaded: {result}", 5)

    def test_crowds(self) -> None:
        """One client's crowd costs that client's newcomers their place, and nobody else."""
        self.carry("clients.max_per_client = 2\nclients.rate_per_client = 0")
        inside = [self.begin(HERE), self.begin(HERE), self.begin(OTHER)]
        for _ in range(3):
            self.assertIsNone(self.begin(HERE))
        self.assertEqual(3, self.ended("client_crowd"))
        for connection in inside:
            self.is_served(connection)
        first = inside.pop(0)
        assert first is not None
        first.close()
        eventually(lambda: self.ended("client_closed") == 1, "one has left", 5)
        inside.append(self.begin(HERE))
        self.assertIsNone(self.begin(HERE))
        for connection in inside:
            self.is_served(connection)

    def test_rates(self) -> None:
        """So many at once, then a few a second."""
        self.carry("clients.rate_per_client = 1\nclients.burst_per_client = 5")
        inside = self.begin(OTHER)
        count = 0
        while self.ended("client_rate") < 5:
            with dial(self.service.port, source=HERE) as connection:
                count += 1
                connection.shutdown(socket.SHUT_WR)
                self.assertTrue(ends(connection))
            self.assertLess(count, 100)
        self.assertGreaterEqual(count, 10)
        self.is_served(inside)
        self.is_served(self.begin(OTHER))
