"""TLS is passed through untouched to the allowed name in it, and refused like a server would."""

import random

from tests.builders import python_hello
from tests.integration.programs import installed, sandboxed
from tests.integration.proxy import Proxy, ProxyTestCase
from tests.integration.third_party import Curl, Origin
from tests.integration.traffic import (
    ALLOWED_NAME,
    dial,
    flip,
    flipping,
    read_exactly,
    read_to_end,
    serve,
    write_apart,
)

#: The alert unrecognized_name in a plaintext record: fatal (2), 112.
UNRECOGNIZED_NAME = bytes.fromhex("15 03 03 00 02 02 70")
#: With a name of one's own, TLS to any other that is not allowed is refused.
NAMES = 'server.names = ["proxy.test"]'
#: Without a certificate TLS ends nowhere.
NO_CERTIFICATE = "tls.auto_generate = false"


class PassThroughTests(ProxyTestCase):
    """curl against a real TLS origin on port 443."""

    def setUp(self) -> None:
        sandboxed()
        super().setUp()

    def test_down_and_up(self) -> None:
        body = random.Random(1).randbytes(1 << 20)
        origin = Origin(self, ALLOWED_NAME, body)
        proxy = self.proxy()
        curl = Curl(self, origin, proxy.port)
        curl.get("/down")
        curl.put("/up")
        self.assertEqual([f"{ALLOWED_NAME}/down", f"{ALLOWED_NAME}/up"], origin.requests)
        proxy.wait_for_orderly_ends(2)
        self.assertEqual({"tls": 2}, proxy.kinds())
        for name in ("bytes_sent_total", "bytes_received_total"):
            # One body, and less than that again of handshakes and records.
            self.assertTrue(1 << 20 < proxy.figure(name) < 1.1 * (1 << 20), proxy.figure(name))

    def test_allowed_names_are_configured(self) -> None:
        origin = Origin(self, "origin.test", b"here")
        proxy = self.proxy("--allow", "origin.test", config=NAMES)
        Curl(self, origin, proxy.port).get("/")
        self.assertEqual(["origin.test/"], origin.requests)
        with dial(proxy.port) as connection:
            connection.sendall(python_hello(ALLOWED_NAME))
            self.assertEqual(UNRECOGNIZED_NAME, read_to_end(connection))

    def test_hello_in_many_segments(self) -> None:
        self.background.run(serve(flipping, 443))
        proxy = self.proxy()
        hello = python_hello(ALLOWED_NAME)
        sizes = [1, 2, 2, 1, 1, 40, 60, len(hello) - 108, 1]
        pieces = [hello[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
        self.assertEqual(hello, b"".join(pieces))
        with dial(proxy.port) as connection:
            write_apart(connection, pieces)
            self.assertEqual(flip(hello), read_exactly(connection, len(hello)))


class RefusalTests(ProxyTestCase):
    """A name that is not allowed never leaves this machine."""

    def refused(self, proxy: Proxy, name: str | None) -> None:
        with dial(proxy.port) as connection:
            connection.sendall(python_hello(name))
            self.assertEqual(UNRECOGNIZED_NAME, read_to_end(connection), name)

    def test_the_alert_and_the_end(self) -> None:
        self.check(NAMES)

    def test_without_a_certificate(self) -> None:
        self.check(NO_CERTIFICATE, None)

    def check(self, config: str, *more: str | None) -> None:
        proxy = self.proxy(config=config)
        names = ["example.org", "whatsapp.net.example.org", "notwhatsapp.net", "fbcdn.net", *more]
        for name in names:
            self.refused(proxy, name)
        proxy.wait_for_ends({"refused_name": len(names)})
        self.assertEqual({"tls": len(names)}, proxy.kinds())
        self.assertEqual(len(names), proxy.figure("errors_total"))

    def test_openssl_understands(self) -> None:
        proxy = self.proxy(config=NAMES)
        openssl = self.start(
            installed("openssl"),
            *("s_client", "-servername", "example.org", "-connect", f"127.0.0.1:{proxy.port}"),
        )
        self.assertEqual(1, openssl.wait())
        self.assertIn("unrecognized name", openssl.output())
