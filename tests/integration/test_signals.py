"""The signals that are no reason to end."""

import os
import signal

from tests.builders import INTROS
from tests.integration.programs import eventually
from tests.integration.proxy import ANY_PORT, ProxyTestCase
from tests.integration.traffic import ChatServer, chat, client_noise_hello

HELLO = client_noise_hello(bytes(32))


class SignalTests(ProxyTestCase):
    """SIGHUP and SIGUSR1 leave the service, and its connections, as they are."""

    def test_hangup(self) -> None:
        self.survives(signal.SIGHUP)

    def test_user_signal(self) -> None:
        self.survives(signal.SIGUSR1)

    def survives(self, number: signal.Signals) -> None:
        server = ChatServer(self.background)
        proxy = self.proxy("--chat", f"127.0.0.1:{server.port}")
        proxy.signal(number)
        chat(proxy.port, [INTROS[0] + HELLO], [b"still here"])
        self.assertEqual(200, proxy.get("/ready")[0])
        proxy.signal(number)
        proxy.signal(signal.SIGTERM)
        self.assertEqual(0, proxy.wait())

    def test_from_the_first_moment(self) -> None:
        """As soon as it listens, a signal is not fatal, and SIGTERM is an orderly end."""
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
            proxy = self.twistd("-l", ANY_PORT, "-m", "")
            proxy.wait_for("listening on")
            proxy.signal(number)
            proxy.signal(signal.SIGTERM)
            self.assertEqual(0, proxy.wait(), number)

    def test_log_file_is_reopened(self) -> None:
        log, rotated = self.directory / "proxy.log", self.directory / "proxy.log.1"
        file = self.write("quiet.toml", f'logging.output = "{log}"')
        proxy = self.twistd("-c", file, "-l", ANY_PORT, "-m", "")
        eventually(lambda: log.exists() and "listening on" in log.read_text(), "it listens")
        os.rename(log, rotated)
        proxy.signal(signal.SIGUSR1)
        eventually(log.exists, "the log file is there again")
        proxy.signal(signal.SIGTERM)
        self.assertEqual(0, proxy.wait())
        self.assertIn("drained: ", log.read_text())
        self.assertNotIn("drained: ", rotated.read_text())
        self.assertNotIn("listening on", proxy.output())
