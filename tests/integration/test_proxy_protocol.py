"""The PROXY protocol with the load balancers that people have: HAProxy, nginx, and curl."""

import re

from tests.builders import INTROS
from tests.integration.http_clients import HttpTestCase
from tests.integration.programs import (
    LOOPBACK,
    Program,
    ProgramTestCase,
    eventually,
    free_port,
    installed,
)
from tests.integration.proxy import ANY_PORT, Proxy
from tests.integration.third_party import Curl, Origin
from tests.integration.tls_clients import BLIND
from tests.integration.traffic import ALLOWED_NAME, ChatServer, chat, client_noise_hello, dial, ends

#: Another address of this machine: whoever has it is not the load balancer.
FAR = "127.9.9.9"
HELLO = [INTROS[0], client_noise_hello(bytes(range(32)))]
HAPROXY = """\
global
    log stdout format raw local0
defaults
    mode tcp
    log global
    timeout connect 5s
    timeout client 20s
    timeout server 20s
"""
#: What it says of a connection: the client and the address that it came to, as it was told them.
LOGGED = 'log-format "carried %ci:%cp to %fi:%fp"'
NGINX = """\
daemon off;
master_process off;
load_module modules/ngx_stream_module.so;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 100; }}
stream {{
    server {{
        listen {address}:{port};
        proxy_pass {address}:{to};
        proxy_protocol on;
    }}
}}
"""


class Haproxy:
    """HAProxy, which listens at ``ports``: one a section, which says the rest."""

    def __init__(self, test: ProgramTestCase, *sections: str) -> None:
        self.ports = [free_port() for _ in sections]
        text = HAPROXY
        for number, (port, section) in enumerate(zip(self.ports, sections, strict=True)):
            text += f"listen door{number}\n    bind {LOOPBACK}:{port} {section}\n"
        config = test.write("haproxy.cfg", text)
        self.program: Program = test.start_server(
            self.ports[0], installed("haproxy"), "-db", "-f", config
        )


class BelievedTests(HttpTestCase):
    """The service behind a load balancer at 127.0.0.1, which is trusted."""

    def setUp(self) -> None:
        super().setUp()
        self.server = ChatServer(self.background)
        config = f"""
            upstream.chat = ["{LOOPBACK}:{self.server.port}"]
            policy.allow_networks = ["127.0.0.0/8"]
            server.proxy_trusted = ["{LOOPBACK}"]
            clients.deny = ["127.6.6.6"]
            logging.clients = "full"
        """
        file = self.write("whatsproxy.toml", config)
        self.service = self.twistd("-c", file, "-l", f"haproxy:{ANY_PORT}", "-m", ANY_PORT)
        self.service.ready()

    def carries(self, port: int, source: str = FAR) -> None:
        """Carry a chat, byte for byte; the service knows whose it is."""
        told = self.service.output().count(f"client={source}")
        chat(port, HELLO, [b"x" * 3000], source)
        self.assertEqual(b"".join(HELLO), bytes(self.server.received[-1][: sum(map(len, HELLO))]))
        eventually(
            lambda: self.service.output().count(f"client={source}\n") == told + 1,
            f"the log tells of {source}",
            5,
        )

    def test_haproxy(self) -> None:
        """Both versions, with health checks; chats, HTTP, TLS that ends here and that does not."""
        origin = Origin(self, ALLOWED_NAME, b"through and through")
        to = f"\n    server whatsproxy {LOOPBACK}:{self.service.port} check inter 50ms "
        haproxy = Haproxy(self, f"{to} send-proxy", f"{to} send-proxy-v2")
        for port in haproxy.ports:
            self.carries(port)
            with dial(port, source="127.6.6.6") as denied:
                denied.sendall(HELLO[0])
                self.assertTrue(ends(denied))
            page = self.curled("--noproxy", "*", f"http://{LOOPBACK}:{port}/")
            self.assertIn("It works", page)
            page = self.curled("--noproxy", "*", "--insecure", f"https://{LOOPBACK}:{port}/")
            self.assertIn("It works", page)
            Curl(self, origin, port).get("/")
        # Whoever only checks has said nothing, and is welcome.
        eventually(lambda: self.service.ends().get("no_data", 0) >= 6, "health checks", 10)
        self.assertEqual(2, self.service.figure("connections_ended_total", reason="client_denied"))
        for reason in ("proxy_header", "proxy_untrusted"):
            self.assertEqual(0, self.service.figure("connections_ended_total", reason=reason))
        self.assertNotIn("DOWN", haproxy.program.output())
        self.no_error_is_logged()

    def test_nginx(self) -> None:
        port = free_port()
        config = self.write(
            "nginx.conf",
            NGINX.format(
                directory=self.directory, address=LOOPBACK, port=port, to=self.service.port
            ),
        )
        self.start_server(
            port, installed("nginx"), "-e", "stderr", "-p", "/usr/share/nginx", "-c", config
        )
        self.carries(port)
        self.no_error_is_logged()

    def test_curl(self) -> None:
        url = f"//{LOOPBACK}:{self.service.port}/"
        for scheme in ("http:", "https:"):
            words = ("--noproxy", "*", "--haproxy-protocol", "--insecure", scheme + url)
            self.assertIn("It works", self.curled(*words))
        # Whoever forgets it gets nothing; neither does whoever is somebody else.
        without = self.curl("--noproxy", "*", "http:" + url)
        self.assertEqual(52, without.wait(), without.output())
        other = self.curl("--noproxy", "*", "--haproxy-protocol", "--interface", FAR, "http:" + url)
        self.assertIn(other.wait(), (52, 55, 56), other.output())  # at once, that is
        eventually(lambda: self.service.ends().get("proxy_header") == 1, "proxy_header", 5)
        self.assertEqual(1, self.service.ends().get("proxy_untrusted"))


class SentTests(HttpTestCase):
    """The chat upstream is a HAProxy that insists on the protocol and logs what it is told."""

    def setUp(self) -> None:
        super().setUp()
        self.server = ChatServer(self.background)

    def behind(self, version: str, *options: str) -> Proxy:
        to = f"{LOGGED}\n    server chat {LOOPBACK}:{self.server.port}"
        self.chat_door = Haproxy(self, f"accept-proxy\n    {to}")
        config = f"""
            upstream.chat = ["{LOOPBACK}:{self.chat_door.ports[0]}"]
            upstream.send_proxy = "{version}"
            server.proxy_trusted = ["{LOOPBACK}"]
        """
        file = self.write("whatsproxy.toml", config)
        self.service = self.twistd("-c", file, "-m", ANY_PORT, *options)
        self.service.ready()
        return self.service

    def carried(self) -> tuple[str, int]:
        """Return what the last chat's upstream was told: the client, and the port it came to."""
        line = self.chat_door.program.wait_for(
            rf"carried ({re.escape(FAR)}):\d+ to {LOOPBACK}:(\d+)"
        )
        return line[1], int(line[2])

    def test_directly(self) -> None:
        proxy = self.behind("v1", "-l", ANY_PORT)
        chat(proxy.port, HELLO, [b"x" * 3000], FAR)
        self.assertEqual((FAR, proxy.port), self.carried())
        # In TLS that ends here, the same; and nothing of all this is written down here.
        with BLIND.wrap_socket(dial(proxy.port, source="127.8.8.8")) as connection:
            connection.sendall(b"".join(HELLO))
            self.assertTrue(connection.recv(1))
            port = connection.getsockname()[1]
        self.chat_door.program.wait_for(rf"carried 127\.8\.8\.8:{port} to")
        self.assertNotIn(FAR, proxy.output())

    def test_behind_another(self) -> None:
        """HAProxy, the service, HAProxy: who is named by the first is named to the last."""
        proxy = self.behind("v2", "-l", f"haproxy:{ANY_PORT}")
        front = Haproxy(self, f"\n    server whatsproxy {LOOPBACK}:{proxy.port} send-proxy-v2")
        chat(front.ports[0], HELLO, [b"x" * 3000], FAR)
        self.assertEqual((FAR, front.ports[0]), self.carried())
