"""Everything at once, over one port and out by a SOCKS5 server: what this program is for."""

import random
import signal
from concurrent.futures import ThreadPoolExecutor

from tests.builders import INTROS
from tests.integration.programs import Program, eventually, sandboxed
from tests.integration.proxy import KINDS, OPENMETRICS, Proxy, ProxyTestCase
from tests.integration.third_party import QUOTED, USER, Curl, Origin, Prosody, microsocks
from tests.integration.traffic import (
    ALLOWED_NAME,
    ChatServer,
    chat,
    client_noise_hello,
    dial,
    flip,
    flipping,
    opening,
    read_exactly,
    serve,
)

CHATS, CURLS, RAWS = 12, 4, 12
BODY = random.Random(7).randbytes(1 << 20)
FRAMES = [b"short", b"l" * 50_000]
HELLO = client_noise_hello(bytes(32))


class TogetherTests(ProxyTestCase):
    """Chats, Jabber sessions, TLS and raw bytes; then the figures; then SIGTERM."""

    def setUp(self) -> None:
        sandboxed()
        super().setUp()

    def raw(self, port: int, seed: int) -> int:
        """Exchange raw bytes; return how many."""
        data = opening("raw", random.Random(seed)) + random.Random(seed).randbytes(40_000)
        with dial(port) as connection:
            connection.sendall(data)
            self.assertEqual(flip(data), read_exactly(connection, len(data)))
        return len(data)

    def jabber(self, prosody: Prosody, port: int) -> list[Program]:
        clients = [prosody.client("alice", "bob", port), prosody.client("bob", "alice", port)]
        for client in clients:
            client.wait_for("^ready TLS")
        return clients

    def test_one_port_carries_all(self) -> None:
        server, socks_port = microsocks(self, login=True)
        prosody, chats = Prosody(self), ChatServer(self.background)
        raw_port = self.background.run(serve(flipping))
        proxy = self.proxy(
            *("-s", f"socks5://{USER}:{QUOTED}@127.0.0.1:{socks_port}"),
            *("--chat", f"g.whatsapp.net:{chats.port}"),
            config=f"""
                upstream.xmpp = ["jabber.test:{prosody.port}"]
                upstream.raw = ["origin.test:{raw_port}"]
            """,
        )
        alice, bob = self.jabber(prosody, proxy.port)
        curl = Curl(self, Origin(self, ALLOWED_NAME, BODY), proxy.port)
        with ThreadPoolExecutor(CHATS + RAWS) as pool:
            openings = [[INTROS[i % len(INTROS)] + HELLO] for i in range(CHATS)]
            talks = [pool.submit(chat, proxy.port, pieces, FRAMES) for pieces in openings]
            raws = [pool.submit(self.raw, proxy.port, seed) for seed in range(RAWS)]
            transfers = [curl.start(f"/{i}", "--output", f"got-{i}") for i in range(CURLS)]
            alice.say("are you there?")
            bob.wait_for(r"got are you there\?")
            for talk in talks:
                talk.result()
            raw_bytes = sum(raw.result() for raw in raws)
        for i, transfer in enumerate(transfers):
            curl.finish(transfer)
            self.assertEqual(BODY, (self.directory / f"got-{i}").read_bytes())
        chat_bytes = sum(map(len, chats.received))
        self.check_figures(proxy, chat_bytes + raw_bytes)
        server.says_it("connected to", CHATS + RAWS + CURLS + 2)
        self.check_drain(proxy, alice, bob)

    def check_figures(self, proxy: Proxy, known: int) -> None:
        """All but the two Jabber sessions have ended; ``known`` bytes were exchanged both ways."""
        eventually(lambda: proxy.figure("connections_active") == 2, "only Jabber is left")
        expected = {"whatsapp": CHATS, "xmpp": 2, "tls": CURLS, "raw": RAWS}
        self.assertEqual(expected, proxy.kinds())
        self.assertEqual(2, proxy.figure("protocol_connections_active", protocol="xmpp"))
        self.assertEqual(0, proxy.figure("errors_total"))
        sent, received = proxy.figure("bytes_sent_total"), proxy.figure("bytes_received_total")
        self.assertTrue(known < received < known + 50_000, (received, known))
        downloads = known + CURLS * len(BODY)
        self.assertTrue(downloads < sent < 1.05 * downloads + 50_000, (sent, downloads))
        for name in ("sniff_seconds_count", "upstream_connect_seconds_count"):
            self.assertEqual(sum(expected.values()), proxy.figure(name), name)
        for accept in (OPENMETRICS, "text/plain"):
            self.check_page(proxy, accept)

    def check_page(self, proxy: Proxy, accept: str) -> None:
        """The page parses, has the promised names, and its protocols add up to its total."""
        self.assertTrue(proxy.get("/metrics", accept)[1].startswith(accept.partition(";")[0]))
        values = {
            (sample.name, *sample.labels.values()): sample.value
            for family in proxy.families(accept).values()
            for sample in family.samples
        }
        total = values["whatsapp_proxy_connections_total",]
        by_kind = [values["whatsapp_proxy_protocol_connections", kind] for kind in KINDS]
        self.assertEqual(CHATS + RAWS + CURLS + 2, total)
        self.assertEqual(total, sum(by_kind))
        for name in ("connections_active", "bytes_sent_total", "bytes_received_total"):
            self.assertGreater(values[f"whatsapp_proxy_{name}",], 0)
        self.assertEqual(0, values["whatsapp_proxy_errors_total",])
        family = proxy.families(accept)["whatsapp_proxy_protocol_connections"]
        self.assertIn(family.type, ("unknown", "untyped"))

    def check_drain(self, proxy: Proxy, alice: Program, bob: Program) -> None:
        """The Jabber sessions outlive SIGTERM until they log out, and then the program ends."""
        proxy.signal(signal.SIGTERM)
        eventually(proxy.draining, "/ready says 503")
        bob.say("good night")
        alice.wait_for("got good night")
        for client in (alice, bob):
            client.leave()
            self.assertEqual(0, client.wait())
        self.assertEqual(0, proxy.wait())
        self.assertRegex(proxy.output(), r"drained: 2 connections finished, 0 cut")
        self.assertNotIn("Traceback", proxy.output())
