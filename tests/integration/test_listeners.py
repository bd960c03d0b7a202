"""Two listeners of one service that differ, and what a proxy to everywhere needs."""

import re
import socket
import tempfile
from pathlib import Path

from tests.builders import INTROS, python_hello
from tests.integration.http_clients import HttpTestCase
from tests.integration.http_origins import Origin, answer
from tests.integration.programs import LOOPBACK, sandboxed
from tests.integration.proxy import ANY_PORT, Proxy, ProxyTestCase
from tests.integration.tls_clients import BLIND, tls_chat, tls_dial
from tests.integration.traffic import (
    ALLOWED_NAME,
    ChatServer,
    chat,
    client_noise_hello,
    dial,
    ends,
    read_to_end,
)

HELLO = [INTROS[0], client_noise_hello(bytes(range(32)))]
UNRECOGNIZED_NAME = bytes.fromhex("15 03 03 00 02 02 70")


class DifferentTests(HttpTestCase):
    """As on a public machine: chat and media for everybody, the HTTP proxy for this machine."""

    def setUp(self) -> None:
        super().setUp()
        self.server = ChatServer(self.background)
        self.origin = Origin(self.background, lambda _: answer(b"an origin's"))
        config = f"""
            upstream.chat = ["{LOOPBACK}:{self.server.port}"]
            policy.allow = ["origin.test", "{ALLOWED_NAME}"]
            policy.allow_ports = [{self.origin.port}]
            policy.allow_networks = ["127.0.0.0/8"]
            [[listener]]
            endpoint = "tcp:0:interface=0.0.0.0"
            kinds = ["whatsapp", "tls"]
            [[listener]]
            endpoint = "{ANY_PORT}"
            kinds = ["http", "connect"]
            allow = ["127.0.0.0/30"]
        """
        self.service = self.twistd("-c", self.write("whatsproxy.toml", config), "-m", ANY_PORT)
        self.service.ready()
        told = re.findall(r"listening on (\S+):(\d+) ", self.service.output())
        self.assertEqual(["0.0.0.0", LOOPBACK], [address for address, _ in told])
        self.public, self.private = (int(port) for _, port in told)

    def through(self, port: int, *words: str) -> str:
        """Return what curl gets from an origin through a listener, and the status of the tunnel."""
        self.service.port = port
        curl = self.curl("--write-out", " %{http_connect} %{http_code}", *words)
        curl.wait()
        return curl.output("stdout")

    def test_each_takes_its_own(self) -> None:
        chat(self.public, HELLO, [b"x" * 3000])
        with tls_dial(self.public) as connection:
            tls_chat(connection, [b"y" * 3000])
        self.assertEqual("an origin's 000 200", self.through(self.private, self.origin.url("/")))
        tunnelled = self.through(self.private, "--proxytunnel", self.origin.url("/"))
        self.assertEqual("an origin's 200 200", tunnelled)
        # A listener's own rule about clients is not the other's.
        chat(self.public, HELLO, [b"x"], "127.9.9.9")
        with dial(self.private, source="127.9.9.9") as connection:
            self.assertTrue(ends(connection))
        self.assertEqual(1, self.service.ends()["client_denied"])

    def test_neither_takes_the_others(self) -> None:
        page = self.curled("--noproxy", "*", f"http://{LOOPBACK}:{self.public}/")
        self.assertIn("It works", page)
        self.assertEqual(f"{page} 000 200", self.through(self.public, self.origin.url("/")))
        tunnel = self.through(self.public, "--proxytunnel", self.origin.url("/"))
        self.assertEqual(" 405 000", tunnel)
        # The same by an HTTPS proxy, which the public listener would be.
        https = ("--proxy", f"https://{LOOPBACK}:{self.public}", "--proxy-insecure")
        self.assertEqual(f"{page} 000 200", self.through(self.public, *https, self.origin.url("/")))
        tunnel = self.through(self.public, *https, "--proxytunnel", self.origin.url("/"))
        self.assertEqual(" 405 000", tunnel)
        for first in (b"<stream:stream to='jabber.test'>", b"\0raw"):
            with dial(self.public) as connection:
                connection.sendall(first)
                self.assertEqual(b"", read_to_end(connection))
        with dial(self.private) as connection:
            connection.sendall(b"".join(HELLO))
            self.assertEqual(b"", read_to_end(connection))
        with dial(self.private) as connection:
            connection.sendall(python_hello(ALLOWED_NAME))
            self.assertEqual(UNRECOGNIZED_NAME, read_to_end(connection))
        self.assertEqual([], self.origin.requests)
        self.assertEqual([], self.server.received)
        self.no_error_is_logged()
        self.assertEqual(4, self.service.ends()["refused_kind"])


class EverywhereTests(ProxyTestCase):
    """``allow = ["*"]``: only where somebody says who the clients are."""

    OPEN = 'policy.allow = ["*"]\n'

    def try_start(self, number: int, config: str, *options: str) -> Proxy:
        file = self.write(f"everywhere{number}.toml", self.OPEN + config)
        return self.twistd("-c", file, "-m", "", *options)

    def test_an_open_relay(self) -> None:
        """One line that says what would help, and status 1; the same by --check-config."""
        believing = 'server.proxy_trusted = ["127.0.0.1"]\n'
        programs = {
            "tcp:0": self.try_start(0, "", "-l", "tcp:0"),
            "tcp6:8443": self.try_start(1, "", "--check-config"),
            # Whoever is behind a load balancer is not on this machine.
            ANY_PORT: self.try_start(2, believing, "-l", f"haproxy:{ANY_PORT}"),
        }
        for endpoint, program in programs.items():
            self.assertEqual(1, program.wait(), program.output())
            (line,) = program.output("stderr").splitlines()
            for part in ("[policy] allow", "[clients] allow", "loopback", f"({endpoint} does not)"):
                self.assertIn(part, line)
            self.assertNotIn("listening on", program.output())

    def test_with_a_rule(self) -> None:
        """Any name, and TLS to it is passed through; TLS to our own ends here all the same."""
        sandboxed()
        path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "socket"
        config = """
            policy.allow_networks = ["127.0.0.0/8"]
            server.names = ["proxy.test"]
            [[listener]]
            endpoint = "tcp:0"
            allow = ["127.0.0.1"]
        """
        file = self.write("whatsproxy.toml", self.OPEN + config)
        proxy = self.twistd("-c", file, "-m", ANY_PORT, "-l", ANY_PORT, "-l", f"unix:{path}")
        proxy.ready()
        with socket.create_server((LOOPBACK, 443)) as origin:
            for name in ("static.test", "jabber.test"):
                hello = python_hello(name)
                with dial(proxy.port) as connection:
                    connection.sendall(hello)
                    upstream, _ = origin.accept()
                    with upstream:
                        self.assertEqual(hello, upstream.recv(len(hello)))
        with tls_dial(proxy.port, "proxy.test", BLIND) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            self.assertIn(b"It works", read_to_end(connection))
        proxy.wait_for("listening on 0.0.0.0:")
