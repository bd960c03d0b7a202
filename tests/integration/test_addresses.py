"""Permitted names that lead where no client may go: the sandbox's lead to this machine."""

from tests.integration.http_clients import HttpTestCase
from tests.integration.http_origins import Origin, answer
from tests.integration.programs import LOOPBACK, free_port
from tests.integration.third_party import Curl
from tests.integration.third_party import Origin as SecureOrigin
from tests.integration.traffic import ALLOWED_NAME, dial, read_to_end


class AddressTests(HttpTestCase):
    def asked(self, url: str, *words: str) -> tuple[str, str]:
        """Return the status that curl gets, of the tunnel or of the answer, and what it shows."""
        codes = "\n%{http_connect} %{http_code}"
        curl = self.curl(
            "--include", "--suppress-connect-headers", "--write-out", codes, *words, url
        )
        curl.wait()
        text, _, last = curl.output("stdout").rpartition("\n")
        tunnel, code = last.split()
        return tunnel if "--proxytunnel" in words else code, text

    def refused(self, url: str, *said: str) -> None:
        """Ask for it, and for a tunnel to there; both in vain."""
        status, text = self.asked(url)
        self.assertEqual("403", status, text)
        for part in said:
            self.assertIn(part, text)
        self.assertNotIn("127.0.0.1", text)
        self.assertEqual("403", self.asked(url, "--proxytunnel")[0])

    def test_refused(self) -> None:
        """By default: HTTP, tunnels, and TLS that is passed through."""
        origin = Origin(self.background, lambda _: answer(b"never"))
        secure = SecureOrigin(self, ALLOWED_NAME, b"never")
        options = ("--allow", ALLOWED_NAME)
        config = "policy.allow_networks = []"
        service = self.carry(origin.port, 443, config=config, options=options)
        self.refused(origin.url("/"), "not for clients: loopback", "[policy] allow_networks")
        curl = Curl(self, secure, service.port).start("/")
        self.assertEqual(35, curl.wait(), curl.output())
        service.wait_for_ends({"refused_address": 2, "client_closed": 1})
        self.assertEqual([], origin.requests)
        self.assertEqual([], secure.requests)
        service.wait_for(r"(?s)(?:refused_address.*?\n.*?){3}")  # lines are written in bundles
        lines = [line for line in service.output().splitlines() if "refused_address" in line]
        self.assertEqual(3, len(lines), lines)
        for line in lines:
            self.assertIn("is not for clients: loopback", line)
        self.no_error_is_logged()

    def test_allowed_by_network(self) -> None:
        """Then names may lead there; and yet not to this proxy itself."""
        origin = Origin(self.background, lambda _: answer(b"here"))
        secure = SecureOrigin(self, ALLOWED_NAME, b"there")
        port, pages = free_port(), free_port()
        ports = (origin.port, 443, port, pages)
        service = self.carry(
            *ports,
            config='policy.allow_networks = ["127.0.0.0/8", "::1"]',
            options=(
                *("--allow", ALLOWED_NAME, "-l", f"tcp:{port}"),
                *("-m", f"tcp:{pages}:interface={LOOPBACK}"),
            ),
        )
        for words in ((), ("--proxytunnel",)):
            status, text = self.asked(origin.url("/"), *words)
            self.assertEqual("200", status)
            self.assertTrue(text.endswith("here"), text)
        Curl(self, secure, service.port).get("/")
        for ours in (port, pages, service.port):
            if ours in ports:
                self.refused(f"http://origin.test:{ours}/", "this proxy itself")
                status, _ = self.asked(f"http://{LOOPBACK}:{ours}/", "--proxytunnel")
                self.assertEqual("403", status)
        # As curl would not write them.
        for odd in ("0177.0.0.1", "2130706433", "127.1", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0"):
            with dial(service.port) as connection:
                connection.sendall(f"CONNECT {odd}:{port} HTTP/1.0\r\n\r\n".encode())
                self.assertRegex(read_to_end(connection), rb"^HTTP/1\.1 40[03] ", odd)
        self.no_error_is_logged()
