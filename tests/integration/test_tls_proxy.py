"""curl, to whom this is an HTTPS proxy: forwarded requests and tunnels, inside TLS."""

import hashlib
import random

from tests.builders import python_hello
from tests.integration.programs import LOOPBACK, sandboxed
from tests.integration.third_party import authority
from tests.integration.tls_clients import PROXY_NAME, TlsTestCase, exchange, tls_dial
from tests.integration.tls_origins import HttpOrigin, HttpsOrigin, certificate_of, present, served
from tests.integration.traffic import ALLOWED_NAME, dial, ends, flip, flipping

BODY = random.Random(21).randbytes(3 << 20)
ORIGIN = "origin.test"


class HttpsProxyTests(TlsTestCase):
    """curl verifies the proxy's certificate, and, through a tunnel, the origin's."""

    def setUp(self) -> None:
        sandboxed()
        super().setUp()
        self.secure = HttpsOrigin(self, 0, BODY)
        self.secure.show(present(authority(ORIGIN)))
        self.plain = HttpOrigin(self, 0, BODY)
        self.trust = authority(ORIGIN).trust(self.directory)

    def carry(self, config: str) -> None:
        """Start the proxy; it may go to both origins."""
        ports = f"policy.allow_ports = [{self.plain.port}, {self.secure.port}]\n"
        self.service = self.proxy("--allow", ORIGIN, config=ports + config)

    def by(self, host: str) -> tuple[str, ...]:
        """Return curl's words for this proxy, under one of its names."""
        resolved = f"{PROXY_NAME}:{self.service.port}:{LOOPBACK}"
        return ("--resolve", resolved, "--proxy", f"https://{host}:{self.service.port}")

    def fetch_both(self, *words: str) -> None:
        """Fetch from either origin, twice over one connection; send to either."""
        urls = {
            "http": f"http://{ORIGIN}:{self.plain.port}/x",
            "connect": f"https://{ORIGIN}:{self.secure.port}/x",
        }
        file = self.directory / "upload"
        file.write_bytes(BODY)
        for url in urls.values():
            to = [self.directory / "first", self.directory / "second"]
            made = self.curled(
                *(*words, "--cacert", self.trust, "--fail", "--write-out", "%{num_connects},"),
                *("--output", to[0], url, "--output", to[1], url),
            )
            self.assertRegex(made, r"^[12],0,$")
            for got in to:
                self.assertEqual(BODY, got.read_bytes())
                got.unlink()
            sent = self.curled(
                *(*words, "--cacert", self.trust, "--fail"),
                *("--expect100-timeout", "0.01", "--upload-file", file, url),
            )
            self.assertEqual(hashlib.sha256(BODY).hexdigest(), sent)
        asked = [
            [f"{m} {ORIGIN}:{o.port}/x" for m in ("GET", "GET", "PUT")]
            for o in (self.plain, self.secure)
        ]
        self.assertEqual(asked, [self.plain.requests, self.secure.requests])

    def test_self_signed(self) -> None:
        """The program's own certificate is all that curl trusts, under a name and an address."""
        config = f'tls.dns_names = ["{PROXY_NAME}"]\ntls.ip_addresses = ["{LOOPBACK}"]'
        self.carry(config)
        kept = self.directory / "cache" / "self-signed.pem"
        self.fetch_both(*self.by(PROXY_NAME), "--proxy-cacert", str(kept))
        url = f"https://{ORIGIN}:{self.secure.port}/x"
        words = ("--proxy-cacert", kept, "--cacert", self.trust, "--output", "/dev/null")
        shown = self.curled(*self.by(LOOPBACK), *words, "--write-out", "%{certs}", url)
        self.assertIn(certificate_of(present(authority(ORIGIN))), shown)
        self.assertEqual({"tls": 5}, self.service.kinds())
        for kind, count in {"http": 2, "connect": 3}.items():
            self.assertEqual(
                count, self.service.figure("tls_inner_connections_total", protocol=kind), kind
            )
        self.service.wait_for_orderly_ends(5)
        self.nothing_is_wrong(self.service)

    def test_certificate_of_an_authority(self) -> None:
        identity, config = self.own(PROXY_NAME)
        self.carry(config)
        trust = identity.trust(self.directory / PROXY_NAME)
        self.fetch_both(*self.by(PROXY_NAME), "--proxy-cacert", str(trust))
        # curl fails with 60 where a certificate does not verify: ours is for one name only.
        words = ("--proxy-cacert", trust, f"http://{ORIGIN}:{self.plain.port}/x")
        self.curled(*self.by(LOOPBACK), *words, status=60)

    def test_what_is_not_allowed(self) -> None:
        """It is refused inside TLS as it is outside."""
        self.carry("")
        words = (
            *self.by(LOOPBACK),
            "--proxy-insecure",
            "--write-out",
            "%{http_connect} %{http_code}",
        )
        code = self.curled(*words, "--output", "/dev/null", "http://example.org/")
        self.assertEqual("000 403", code)
        code = self.curled(*words, "--output", "/dev/null", "https://example.org/", status=56)
        self.assertEqual("403 000", code)


class InsideTests(TlsTestCase):
    """What else can be inside TLS."""

    def setUp(self) -> None:
        sandboxed()
        super().setUp()

    def test_tls_inside_tls(self) -> None:
        """It is passed through by its name, and never terminated a second time."""
        served(self, flipping, 443)
        proxy = self.proxy()
        hello = python_hello(ALLOWED_NAME)
        with tls_dial(proxy.port, PROXY_NAME) as connection:
            connection.sendall(hello)
            exchange(connection, flip(hello))
            self.assertEqual(1, proxy.figure("tls_inner_connections_total", protocol="tls"))
            connection.unwrap()
        for name in (PROXY_NAME, None):
            with tls_dial(proxy.port) as connection:
                connection.sendall(python_hello(name))
                exchange(connection, bytes.fromhex("15 03 03 00 02 02 70"))
                self.assertEqual(b"", connection.recv(1))
        self.assertEqual(3, proxy.figure("tls_handshakes_total"))
        proxy.wait_for_ends({"refused_name": 2, "client_closed": 1})

    def test_every_kind(self) -> None:
        """Raw bytes and XMPP go where they go outside; a mere page is answered here."""
        port = served(self, flipping)
        proxy = self.proxy("--chat", f"{LOOPBACK}:{port}")
        for kind, first in {
            "raw": b"\x00\x01raw",
            "xmpp": b"<?xml version='1.0'?><stream:stream to='jabber.test' version='1.0'>",
            "whatsapp": b"WA\x06\x03" + bytes(39),
        }.items():
            with tls_dial(proxy.port, PROXY_NAME) as connection:
                for piece in (first[:1], first[1:]):
                    connection.sendall(piece)
                exchange(connection, flip(first))
                self.assertEqual(1, proxy.figure("tls_inner_connections_total", protocol=kind))
                connection.sendall(BODY[: 1 << 18])
                exchange(connection, flip(BODY[: 1 << 18]))
                connection.unwrap()
        proxy.wait_for_ends({"client_closed": 3})
        self.assertEqual({"tls": 3}, proxy.kinds())
        self.nothing_is_wrong(proxy)

    def test_silence_inside(self) -> None:
        proxy = self.proxy(config="timeouts.sniff = 0.3\ntimeouts.tls_handshake = 0.4")
        with tls_dial(proxy.port) as silent, self.within(5, "the sniffing limit"):
            self.assertEqual(b"", silent.recv(1))
        hello = python_hello(PROXY_NAME)
        with self.within(5, "the limit of a handshake"), dial(proxy.port) as slow:
            slow.sendall(hello)
            self.assertTrue(ends(slow))
        proxy.wait_for_ends({"no_data": 1, "tls_failed": 1})
        self.assertEqual(1, proxy.figure("tls_handshakes_total", result="late"))
