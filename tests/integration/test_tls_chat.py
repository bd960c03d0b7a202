"""Chats inside TLS, beside media that pass through; Jabber over direct TLS."""

import random
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.builders import INTROS
from tests.integration import third_party
from tests.integration.programs import LOOPBACK, ROOT, Program, free_port, sandboxed
from tests.integration.third_party import Curl, Origin, Prosody, authority, microsocks
from tests.integration.tls_clients import (
    PROXY_NAME,
    TlsTestCase,
    certificate_config,
    tls_chat,
    tls_dial,
    write_identity,
)
from tests.integration.traffic import ALLOWED_NAME, ChatServer

BODY = random.Random(41).randbytes(1 << 20)
FRAMES = [b"short", b"l" * 50_000, b"m" * 300]
NAMES = [PROXY_NAME, None, "anna.example.org"]


class WhatsAppTests(TlsTestCase):
    """What a phone does with chat TLS on: one port for chat and media, out by a SOCKS5 server."""

    def setUp(self) -> None:
        sandboxed()
        super().setUp()

    def test_chat_and_media_at_the_same_time(self) -> None:
        server, socks_port = microsocks(self)
        chats = ChatServer(self.background)
        origin = Origin(self, ALLOWED_NAME, BODY)
        proxy = self.proxy(
            *("-s", f"socks5://{LOOPBACK}:{socks_port}"),
            *("--chat", f"g.whatsapp.net:{chats.port}"),
        )
        curl = Curl(self, origin, proxy.port)
        talks = [(name, intro) for name in NAMES for intro in INTROS]
        live = tls_dial(proxy.port, PROXY_NAME)

        def talk(name: str | None, intro: bytes) -> None:
            with tls_dial(proxy.port, name) as connection:
                tls_chat(connection, FRAMES, intro)

        with live, ThreadPoolExecutor(len(talks)) as pool:
            transfers = [curl.start(f"/{i}", "--output", f"got-{i}") for i in range(2)]
            for future in [pool.submit(talk, *words) for words in talks]:
                future.result()
            # This one sees the certificate that is the origin's own.
            curl.get("/media")
            curl.put("/upload")
            for i, transfer in enumerate(transfers):
                curl.finish(transfer)
                self.assertEqual(BODY, (self.directory / f"got-{i}").read_bytes())
            tls_chat(live, FRAMES)
        proxy.wait_for_orderly_ends(len(talks) + 1 + 4)
        self.assertEqual(len(talks) + 1, len(chats.received))
        self.assertEqual(len(talks) + 1, proxy.figure("tls_handshakes_total", result="ok"))
        inner = proxy.figure("tls_inner_connections_total", protocol="whatsapp")
        self.assertEqual(len(talks) + 1, inner)
        self.assertEqual(len(talks) + 5, proxy.kinds()["tls"])
        server.says_it("connected to", len(talks) + 5)
        self.nothing_is_wrong(proxy)


class DirectTlsJabberTests(TlsTestCase):
    """slixmpp verifies the certificate for jabber.test: the proxy's own, which ends the TLS."""

    def setUp(self) -> None:
        sandboxed()
        super().setUp()
        self.direct = free_port()
        more = f"""c2s_direct_tls_ports = {{{{ {self.direct} }}}}
c2s_direct_tls_interfaces = {{{{ "{LOOPBACK}" }}}}
c2s_direct_tls_ssl = {{{{ certificate = "{{chain}}"; key = "{{key}}" }}}}
"""
        config = third_party.PROSODY.replace("c2s_ports", f"{more}c2s_ports")
        self.patch(third_party, "PROSODY", config)

    def talk(self, config: str, prosody: Prosody) -> None:
        files = write_identity(authority("jabber.test", PROXY_NAME), self.directory / "own")
        trust = authority("jabber.test", PROXY_NAME).trust(self.directory / "own")
        proxy = self.proxy(config=config + certificate_config(*files))
        alice, bob = (
            self.jabber(user, other, proxy.port, str(trust))
            for user, other in (("alice", "bob"), ("bob", "alice"))
        )
        for client in (alice, bob):
            self.assertRegex(client.wait_for("^(ready|failed) (.*)")[0], r"^ready TLSv1\.3$")
            client.wait_for("^alpn xmpp-client$")
        for i in range(3):
            alice.say(f"from alice {i}")
            bob.wait_for(f"got from alice {i}")
            bob.say(f"from bob {i}")
            alice.wait_for(f"got from bob {i}")
        for client in (alice, bob):
            client.leave()
            self.assertEqual(0, client.wait(), client.output())
        proxy.wait_for_orderly_ends(2)
        self.assertEqual(2, proxy.figure("tls_inner_connections_total", protocol="xmpp"))
        self.nothing_is_wrong(proxy)

    def jabber(self, user: str, other: str, port: int, trust: str) -> Program:
        script = ROOT / "tests" / "integration" / "tls_jabber_client.py"
        jid, secret = f"{user}@jabber.test", f"{user}-secret"
        return self.start(
            sys.executable, script, jid, secret, f"{other}@jabber.test", str(port), trust
        )

    def test_plain_from_here_on(self) -> None:
        config = third_party.PROSODY.replace(
            "c2s_require_encryption = true", "c2s_require_encryption = false"
        ).replace('"tls", ', "")
        self.patch(third_party, "PROSODY", config)
        prosody = Prosody(self)
        self.talk(f'upstream.xmpp = ["jabber.test:{prosody.port}"]\n', prosody)
        self.assertNotIn("Stream encrypted", prosody.program.output())

    def test_tls_again(self) -> None:
        prosody = Prosody(self)
        config = f'tls.upstream_ca_file = "{prosody.trust}"\n'
        self.talk(f'{config}upstream.xmpp = ["tls://jabber.test:{self.direct}"]\n', prosody)
        prosody.program.says_it("Stream encrypted (TLS", 2)
