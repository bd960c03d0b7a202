"""TLS that begins at the proxy: origins have to prove who they are, and clients hear why not."""

import hashlib
import json
import random

from tests.integration.programs import LOOPBACK, free_port, installed, sandboxed
from tests.integration.proxy import Proxy
from tests.integration.third_party import authority, microsocks
from tests.integration.tls_clients import (
    PROXY_NAME,
    TlsTestCase,
    exchange,
    farewell,
    tls_chat,
    tls_dial,
)
from tests.integration.tls_origins import (
    HttpsOrigin,
    bad_certificates,
    certificate_of,
    present,
    served,
)
from tests.integration.traffic import ChatServer, chat, client_noise_hello, dial, ends, flip

ORIGIN = "origin.test"
BODY = random.Random(31).randbytes(1 << 20)
HELLO = client_noise_hello(bytes(32))


class OriginTestCase(TlsTestCase):
    """An HTTPS origin on port 443, whose authority the proxy trusts."""

    def setUp(self) -> None:
        sandboxed()
        super().setUp()
        self.identity = authority(ORIGIN)
        self.trust = self.identity.trust(self.directory)
        self.origin = HttpsOrigin(self, body=BODY)
        self.origin.show(present(self.identity))

    def carry(self, config: str = "", *options: str) -> Proxy:
        trust = f'tls.upstream_ca_file = "{self.trust}"\n'
        self.service = self.proxy("--allow", ORIGIN, *options, config=trust + config)
        return self.service

    def by_host(self, path: str = "/x", host: str = ORIGIN) -> tuple[str, ...]:
        """Return curl's words for a request to us, over TLS, whose Host is an origin's."""
        port = self.service.port
        return (
            *("--insecure", "--connect-to", f"{PROXY_NAME}:443:{LOOPBACK}:{port}"),
            *("--header", f"Host: {host}", f"https://{PROXY_NAME}{path}"),
        )


class ReencryptionTests(OriginTestCase):
    """Requests that came in TLS go on in TLS."""

    def test_by_host(self) -> None:
        self.carry()
        file, upload = self.directory / "got", self.directory / "upload"
        upload.write_bytes(BODY)
        self.curled("--fail", "--output", file, *self.by_host())
        self.assertEqual(BODY, file.read_bytes())
        put = ("--fail", "--expect100-timeout", "0.01", "--upload-file", upload)
        sent = self.curled(*put, *self.by_host("/put?a=b"))
        self.assertEqual(hashlib.sha256(BODY).hexdigest(), sent)
        chunked = ("--header", "Transfer-Encoding: chunked")
        self.assertEqual(sent, self.curled(*put, *chunked, *self.by_host("/put")))
        # Over an address no name is sent, and it is the same.
        by_address = ("--insecure", "--header", f"Host: {ORIGIN}")
        url = f"https://{LOOPBACK}:{self.service.port}/y"
        self.assertEqual(BODY, self.curled_bytes("--fail", *by_address, url))
        expected = [
            f"GET {ORIGIN}/x",
            f"PUT {ORIGIN}/put?a=b",
            f"PUT {ORIGIN}/put",
            f"GET {ORIGIN}/y",
        ]
        self.assertEqual(expected, self.origin.requests)
        self.assertEqual([ORIGIN] * 4, self.origin.names)
        labels = {"status": "2xx", "answered_by": "upstream"}
        self.assertEqual(4, self.service.figure("http_requests_total", **labels))
        self.nothing_is_wrong(self.service)

    def curled_bytes(self, *words: str) -> bytes:
        file = self.directory / "fetched"
        self.curled("--output", file, *words)
        return file.read_bytes()

    def test_same_name_outside(self) -> None:
        """With the allowed name as the server name, it is the origin's own TLS that is seen."""
        self.carry()
        led = ("--connect-to", f"{ORIGIN}:443:{LOOPBACK}:{self.service.port}")
        words = ("--cacert", self.trust, "--write-out", "%{certs}", "--output", "got")
        certificates = self.curled(*led, *words, f"https://{ORIGIN}/")
        self.assertIn(certificate_of(present(self.identity)), certificates)
        self.assertEqual(0, self.service.figure("tls_handshakes_total"))

    def test_connections_are_used_again(self) -> None:
        """That in TLS for TLS only: https: and http: to one port are different origins."""
        self.carry()
        host = self.by_host()
        made = self.curled(
            "--output", "a", "--output", "b", "--write-out", "%{num_connects}", *host, host[-1]
        )
        self.assertEqual("10", made)
        self.assertEqual(1, self.origin.connections)
        with tls_dial(self.service.port) as connection:
            for target, code in (("https", b"200"), ("http", b"502"), ("https", b"200")):
                head = f"HEAD {target}://{ORIGIN}:443/ HTTP/1.1\r\nHost: {ORIGIN}:443\r\n\r\n"
                connection.sendall(head.encode())
                answer = b""
                while not answer.endswith(b"\r\n\r\n"):
                    answer += connection.recv(1)
                self.assertTrue(answer.startswith(b"HTTP/1.1 " + code), answer)

    def test_absolute_form(self) -> None:
        """https: URLs are asked for by the proxy, whether or not the client came in TLS."""
        self.carry()
        port = self.service.port
        words = (
            "--insecure",
            "--request-target",
            f"https://{ORIGIN}/x",
            "--header",
            f"Host: {ORIGIN}",
        )
        for scheme in ("http", "https"):
            url = f"{scheme}://{LOOPBACK}:{port}/"
            self.assertEqual(BODY, self.curled_bytes("--fail", *words, url))
        self.assertEqual([f"GET {ORIGIN}/x"] * 2, self.origin.requests)

    def test_through_socks5(self) -> None:
        """The way there proves nothing: the origin itself does, or is refused."""
        server, port = microsocks(self)
        self.carry("", "-s", f"socks5://{LOOPBACK}:{port}")
        self.assertEqual(BODY, self.curled_bytes("--fail", *self.by_host()))
        self.origin.show(bad_certificates(self.identity.authority, ORIGIN)["expired"])
        self.assertIn("expired", self.curled(*self.by_host()))
        server.says_it("connected to", 2)

    def test_others_hosts(self) -> None:
        """A Host that is not allowed gets what any visitor of the proxy gets."""
        self.carry("policy.allow_networks = []\n")
        hosts = ("a.test", PROXY_NAME, "x", f"{ORIGIN}:8443", "127.0.0.1")
        pages = {self.curled("--fail", *self.by_host("/", host)) for host in hosts}
        self.assertEqual(1, len(pages), pages)
        self.assertEqual([], self.origin.requests)
        # Out of TLS, Host means nothing of the kind.
        words = ("--header", f"Host: {ORIGIN}", f"http://{LOOPBACK}:{self.service.port}/")
        self.assertNotEqual(BODY, self.curled_bytes(*words))
        self.assertEqual([], self.origin.requests)

    def test_upgrade(self) -> None:
        self.carry()
        with tls_dial(self.service.port, PROXY_NAME) as connection:
            fields = (f"Host: {ORIGIN}", "Connection: upgrade", "Upgrade: flip", "", "early")
            connection.sendall("\r\n".join(("GET /ws HTTP/1.1", *fields)).encode())
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                answer += connection.recv(1)
            self.assertTrue(answer.startswith(b"HTTP/1.1 101 "), answer)
            exchange(connection, flip(b"early"))
            connection.sendall(BODY)
            exchange(connection, flip(BODY))
            connection.unwrap()
        self.service.wait_for_orderly_ends(1)
        self.nothing_is_wrong(self.service)


class UntrustedTests(OriginTestCase):
    """502 with the reason, and not one byte of the request for the origin."""

    def answers(self, *words: str) -> tuple[str, str]:
        said = self.curled("--write-out", "\n%{http_code}", *words)
        body, _, code = said.rpartition("\n")
        return code, body

    def test_bad_certificates(self) -> None:
        self.carry()
        bad = bad_certificates(self.identity.authority, ORIGIN)
        for why, presented in bad.items():
            self.origin.show(presented)
            code, body = self.answers(*self.by_host())
            self.assertEqual("502", code, why)
            self.assertIn(why.strip(), body)
            self.assertIn(ORIGIN, body)
        self.assertEqual([], self.origin.requests)
        labels = {"status": "5xx", "answered_by": "proxy"}
        self.assertEqual(len(bad), self.service.figure("http_requests_total", **labels))
        # It is not held against the origin, once it is good.
        self.origin.show(present(self.identity))
        self.curled("--fail", "--output", "got", *self.by_host())
        self.assertEqual(1, len(self.origin.requests))
        self.nothing_is_wrong(self.service)

    def test_system_authorities(self) -> None:
        """Whom nothing is said about is trusted to whom the system trusts: not to ours."""
        self.service = self.proxy("--allow", ORIGIN)
        code, body = self.answers(*self.by_host())
        self.assertEqual("502", code)
        self.assertIn("unknown issuer", body)
        self.service = self.proxy("--allow", ORIGIN, env={"SSL_CERT_FILE": str(self.trust)})
        self.assertEqual("200", self.answers(*self.by_host(), "--output", "got")[0])

    def test_no_tls_there(self) -> None:
        async def talk(reader, writer) -> None:
            writer.write(b"SSH-2.0-x\r\n")
            await reader.read(1)

        async def hang(reader, writer) -> None:
            await reader.read(-1)

        async def leave(reader, writer) -> None:
            await reader.read(1)

        chain, key = self.identity.identity(self.directory)
        old = free_port()
        self.start_server(
            *(old, installed("openssl"), "s_server", "-accept", str(old), "-tls1_1"),
            *("-cipher", "ALL:@SECLEVEL=0", "-cert", chain, "-key", key),
        )
        ports = {
            served(self, talk): ("502", "wrong version number"),
            served(self, leave): ("502", "No TLS with"),
            served(self, hang): ("504", "0.5 s"),
            old: ("502", "alert protocol version"),
        }
        self.carry(f"policy.allow_ports = {list(ports)}\ntimeouts.connect = 0.5")
        for port, (code, why) in ports.items():
            got, body = self.answers(*self.by_host(host=f"{ORIGIN}:{port}"))
            self.assertEqual(code, got, body)
            self.assertIn(why, body)
        self.nothing_is_wrong(self.service)

    def test_pins(self) -> None:
        """A pin takes the place of an authority, of names and of dates; only the key counts."""
        bad = bad_certificates(self.identity.authority, ORIGIN)
        good = bad["self-signed"], bad["expired"], bad["another name"]
        pins = {ORIGIN: [presented.pin for presented in good]}
        config = ", ".join(f'"{host}" = {json.dumps(values)}' for host, values in pins.items())
        self.carry(f"tls.upstream_pins = {{{config}}}")
        for presented in good:
            self.origin.show(presented)
            self.assertEqual("200", self.answers(*self.by_host(), "--output", "got")[0])
        # By the authority that it trusts, but by none of the pins.
        for presented in (present(self.identity), bad["unknown issuer"]):
            self.origin.show(presented)
            code, body = self.answers(*self.by_host())
            self.assertEqual("502", code)
            self.assertIn("upstream_pins", body)
        self.assertEqual(3, len(self.origin.requests))


class ChatLegTests(OriginTestCase):
    """``tls://`` upstreams, for chats that came in TLS or out of it."""

    def setUp(self) -> None:
        super().setUp()
        self.server = ChatServer(self.background)
        self.context = present(self.identity).context(self.directory)
        self.port = served(self, self.server.serve, 0, self.context)

    def test_verified(self) -> None:
        self.carry(f'upstream.chat = ["tls://{ORIGIN}:{self.port}"]')
        frames = [b"a", BODY[:70_000]]
        with tls_dial(self.service.port, PROXY_NAME) as connection:
            tls_chat(connection, frames)
        chat(self.service.port, [b"WA\x06\x03" + HELLO], frames[:1])
        self.assertEqual(2, len(self.server.received))
        self.service.wait_for_ends({"client_closed": 2})
        self.nothing_is_wrong(self.service)

    def test_not_verified(self) -> None:
        """Nothing of the chat reaches a server that is not who it should be."""
        self.carry(f'upstream.chat = ["tls://static.test:{self.port}"]')
        with dial(self.service.port) as connection:
            connection.sendall(b"WA\x06\x03" + HELLO)
            self.assertTrue(ends(connection))
        with tls_dial(self.service.port) as inside:
            inside.sendall(b"WA\x06\x03" + HELLO)
            self.assertEqual(b"", farewell(inside))
        self.service.wait_for_ends({"upstream_untrusted": 2})
        self.assertEqual([], [seen for seen in self.server.received if seen])
        self.service.wait_for("certificate is for another name")  # lines are written in bundles

    def test_second_takes_over(self) -> None:
        self.carry(
            f'upstream.chat = ["tls://static.test:{self.port}", "tls://{ORIGIN}:{self.port}"]'
        )
        with tls_dial(self.service.port, PROXY_NAME) as connection:
            tls_chat(connection, [b"x"])
