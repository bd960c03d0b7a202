"""openssl s_client: versions, names, ALPN, resumption; what is refused, and how."""

import signal
from pathlib import Path

from tests.builders import python_hello
from tests.integration.programs import eventually
from tests.integration.proxy import Proxy
from tests.integration.third_party import authority
from tests.integration.tls_clients import (
    PROXY_NAME,
    TlsTestCase,
    certificates_in,
    shown,
    tls_dial,
    trusting,
)
from tests.integration.tls_origins import HttpsOrigin, present
from tests.integration.traffic import dial, read_to_end

#: The alert unrecognized_name in a plaintext record: fatal (2), 112.
UNRECOGNIZED_NAME = bytes.fromhex("15 03 03 00 02 02 70")
VERSIONS = {"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}
#: What openssl itself no longer offers unless it is told to.
OLD = ("-cipher", "ALL:@SECLEVEL=0")


class DefaultTests(TlsTestCase):
    """A proxy as it comes: every name that is nobody else's is its own."""

    def test_versions_and_names(self) -> None:
        proxy = self.proxy()
        serials = set()
        for option, version in VERSIONS.items():
            for name in (
                None,
                PROXY_NAME,
                "example.org",
                "203.0.113.5",
                "a..b",
                "\u00e9",
                "x" * 200,
            ):
                naming = ("-noservername",) if name is None else ("-servername", name)
                said = self.accepted(proxy.port, option, *naming)
                self.assertRegex(said, rf"New, {version.replace('.2', '..')}, Cipher is \S*GCM")
                self.assertRegex(said, r"Server Temp Key: (X25519|ECDH)")
                self.assertIn("Compression: NONE", said)
                serials.add(certificates_in(said)[0].serial_number)
        self.assertEqual(1, len(serials))
        for version in VERSIONS.values():
            labels = {"result": "ok", "version": version, "resumed": "no"}
            self.assertEqual(7, proxy.figure("tls_handshakes_total", **labels))
        self.assertEqual(14, proxy.figure("tls_inner_connections_total", protocol="http"))
        self.assertEqual(14, proxy.figure("tls_handshake_seconds_count"))
        self.assertEqual({"tls": 14}, proxy.kinds())
        proxy.wait_for_ends({"answered": 14})
        self.nothing_is_wrong(proxy)

    def test_what_is_too_weak(self) -> None:
        proxy = self.proxy()
        for version in ("-tls1", "-tls1_1"):
            self.refused(proxy.port, "alert protocol version", version, *OLD)
        for cipher in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "AECDH-AES128-SHA"):
            words = ("-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
            self.refused(proxy.port, "alert handshake failure", *words)
        self.assertEqual(5, proxy.figure("tls_handshakes_total", result="failed"))
        proxy.wait_for_ends({"tls_failed": 5})
        self.assertEqual(5, proxy.figure("errors_total"))
        self.nothing_is_wrong(proxy)

    def test_configured_version_and_ciphers(self) -> None:
        proxy = self.proxy(config='tls.min_version = "1.3"')
        self.refused(proxy.port, "alert protocol version", "-tls1_2")
        self.assertIn("TLSv1.3", self.accepted(proxy.port))
        proxy = self.proxy(config='tls.ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305"')
        said = self.accepted(proxy.port, "-tls1_2")
        self.assertIn("Cipher is ECDHE-ECDSA-CHACHA20-POLY1305", said)

    def test_alpn(self) -> None:
        proxy = self.proxy()
        for version in VERSIONS:
            for offer, chosen in {
                "http/1.1": "http/1.1",
                "xmpp-client": "xmpp-client",
                "h2,http/1.1": "http/1.1",
                "h2": None,
                "x,xmpp-server": None,
            }.items():
                said = self.accepted(proxy.port, version, "-alpn", offer)
                expected = f"ALPN protocol: {chosen}" if chosen else "No ALPN negotiated"
                self.assertIn(expected, said, offer)
        self.nothing_is_wrong(proxy)

    def test_no_renegotiation(self) -> None:
        proxy = self.proxy()
        client = self.start("openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{proxy.port}")
        client.wait_for("Session-ID")
        client.say("R")
        client.wait_for("no renegotiation|unexpected message|RENEGOTIATING(?s:.*)error")
        client.leave()
        self.assertNotEqual(0, client.wait(), client.output())

    def test_resumption(self) -> None:
        """By tickets, in either version; a reload of the certificates does not void them."""
        proxy = self.proxy()
        for option, version in VERSIONS.items():
            session = self.directory / version
            self.accepted(proxy.port, option, "-sess_out", session)
            self.resumes(proxy, option, session)
        proxy.signal(signal.SIGHUP)
        eventually(lambda: proxy.figure("reloads_total", result="ok") == 1, "certificates reloaded")
        for option, version in VERSIONS.items():
            self.resumes(proxy, option, self.directory / version)
            for resumed, count in {"no": 1, "yes": 2}.items():
                labels = {"result": "ok", "version": version, "resumed": resumed}
                self.assertEqual(count, proxy.figure("tls_handshakes_total", **labels), labels)
        self.nothing_is_wrong(proxy)

    def resumes(self, proxy: Proxy, option: str, session: Path) -> None:
        # A ticket of TLS 1.3 is good for once, as clients see it; openssl sends it again.
        said = self.accepted(proxy.port, option, "-sess_in", session)
        self.assertRegex(said, rf"(?m)^Reused, {VERSIONS[option]}")


class NamesTests(TlsTestCase):
    """With ``[server] names`` there are names that are not ours."""

    NAMES = f'server.names = ["{PROXY_NAME}", "*.friends.test"]\n'

    def test_ours_and_others(self) -> None:
        proxy = self.proxy(config=self.NAMES)
        for name in (
            PROXY_NAME,
            PROXY_NAME.upper(),
            "a.friends.test",
            "b.a.friends.test",
            "127.0.0.1",
        ):
            self.accepted(proxy.port, "-servername", name)
        self.accepted(proxy.port, "-noservername")
        for version in VERSIONS:
            self.refused(proxy.port, "unrecognized name", version, "-servername", "example.org")
        # The certificate that the program made is for its names.
        kept = self.directory / "cache" / "self-signed.pem"
        with tls_dial(proxy.port, PROXY_NAME, trusting(kept)) as connection:
            names = connection.getpeercert()["subjectAltName"]
        self.assertEqual({("DNS", PROXY_NAME), ("DNS", "*.friends.test")}, set(names))

    def test_refusals_are_alike(self) -> None:
        proxy = self.proxy(config=self.NAMES)
        names = [
            *("example.org", "friends.test", "notfriends.test", f"x.{PROXY_NAME}"),
            *("whatsapp.net.example.org", "fbcdn.net", "a..b", "-", "x" * 60, "jabber.test"),
        ]
        answers = set()
        for name in names:
            with dial(proxy.port) as connection:
                connection.sendall(python_hello(name) if ".." not in name else strange(name))
                answers.add(read_to_end(connection))
        self.assertEqual({UNRECOGNIZED_NAME}, answers)
        proxy.wait_for_ends({"refused_name": len(names)})
        self.assertEqual(0, proxy.figure("tls_handshakes_total"))
        # A stranger's word is in no label.
        page = proxy.get("/metrics")[2]
        self.assertFalse([name for name in names if len(name) > 4 and name in page])

    def test_upstream_web(self) -> None:
        """A prober sees that web server alone, its certificate first of all."""
        origin = HttpsOrigin(self, port=0)
        site = authority("site.test")
        origin.show(present(site))
        proxy = self.proxy(config=f'{self.NAMES}upstream.web = "127.0.0.1:{origin.port}"')
        site_serial = certificates_in(present(site).chain.decode())[0].serial_number
        trust = site.trust(self.directory)
        with tls_dial(proxy.port, "site.test", trusting(trust)) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\nHost: site.test\r\n\r\n")
            self.assertTrue(connection.recv(100).startswith(b"HTTP/1.1 200 "))
        for name in ("example.org", "x" * 60):
            self.assertEqual(site_serial, shown(proxy.port, name))
        for name in (PROXY_NAME, None):
            self.assertNotEqual(site_serial, shown(proxy.port, name))
        self.assertEqual(["GET site.test/"], origin.requests)

    def test_several_certificates(self) -> None:
        """The server name picks one; the first is for everybody else."""
        _, first = self.own("first.test")
        _, second = self.own("second.test", "*.second.test")
        proxy = self.proxy(config=first + second)
        serials = {
            name: certificates_in((self.directory / name / "chain.pem").read_text())[
                0
            ].serial_number
            for name in ("first.test", "second.test")
        }
        expected = {
            "first.test": "first.test",
            "second.test": "second.test",
            "Deep.Second.test": "second.test",
            "a.deep.second.test": "first.test",
            "example.org": "first.test",
            None: "first.test",
        }
        for name, owner in expected.items():
            self.assertEqual(serials[owner], shown(proxy.port, name), name)
        # Its whole chain is sent.
        said = self.accepted(proxy.port, "-servername", "second.test", "-showcerts")
        self.assertEqual(1, len(set(certificates_in(said))))


def strange(name: str) -> bytes:
    """Return a ClientHello with a name that Python would not send."""
    stand_in = "q" * len(name)
    hello = python_hello(stand_in)
    assert hello.count(stand_in.encode()) == 1
    return hello.replace(stand_in.encode(), name.encode())
