"""Out through the SOCKS5 servers that people run: microsocks and dante, with and without login."""

from collections.abc import Callable

from tests.builders import INTROS
from tests.integration.programs import Program, sandboxed
from tests.integration.proxy import ProxyTestCase
from tests.integration.third_party import QUOTED, USER, Curl, Origin, danted, microsocks
from tests.integration.traffic import (
    ALLOWED_NAME,
    ChatServer,
    chat,
    client_noise_hello,
    dial,
    ends,
)

HELLO = client_noise_hello(bytes(32))
BODY = bytes(range(256)) * 1024


class RealServerTests(ProxyTestCase):
    """A chat and a TLS pass-through, both by name."""

    def setUp(self) -> None:
        sandboxed()
        super().setUp()

    def check(self, server: Program, url: str, connected: Callable[[str], int]) -> None:
        upstream = ChatServer(self.background)
        proxy = self.proxy("-s", url, "--chat", f"g.whatsapp.net:{upstream.port}")
        chat(proxy.port, [INTROS[1] + HELLO], [b"a", b"b" * 100_000])
        origin = Origin(self, ALLOWED_NAME, BODY)
        curl = Curl(self, origin, proxy.port)
        curl.get("/down")
        curl.put("/up")
        proxy.wait_for_orderly_ends(3)
        self.assertEqual({"whatsapp": 1, "tls": 2}, proxy.kinds())
        self.assertEqual(3, connected(server.output()), server.output())

    def test_microsocks(self) -> None:
        server, port = microsocks(self)
        self.check(server, f"socks5://127.0.0.1:{port}", lambda log: log.count("connected to"))

    def test_microsocks_with_password(self) -> None:
        server, port = microsocks(self, login=True)
        url = f"socks5://{USER}:{QUOTED}@127.0.0.1:{port}"
        self.check(server, url, lambda log: log.count("connected to"))

    def test_danted(self) -> None:
        server, port = danted(self)
        url = f"socks5://127.0.0.1:{port}"
        self.check(server, url, lambda log: log.count("tcp/connect ["))

    def test_danted_with_password(self) -> None:
        server, port = danted(self, login=True)
        url = f"socks5://{USER}:{QUOTED}@127.0.0.1:{port}"
        self.check(server, url, lambda log: log.count(f"tcp/connect [: username%{USER}@"))


class CredentialTests(ProxyTestCase):
    """What a server says to the wrong credentials, or to none."""

    def refused(self, port: int, credentials: str) -> None:
        proxy = self.proxy("-s", f"socks5://{credentials}127.0.0.1:{port}")
        with dial(proxy.port) as connection, self.within(5, "a refusal"):
            connection.sendall(INTROS[0] + HELLO)
            self.assertTrue(ends(connection))
        proxy.wait_for_ends({"socks_auth": 1})
        self.assertEqual(1, proxy.figure("errors_total"))
        self.assertNotIn("wrong-word", proxy.output())

    def test_wrong_password(self) -> None:
        _, port = microsocks(self, login=True)
        self.refused(port, f"{USER}:wrong-word@")

    def test_no_password(self) -> None:
        _, port = microsocks(self, login=True)
        self.refused(port, "")
