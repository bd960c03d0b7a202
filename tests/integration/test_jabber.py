"""Two people log in to a real Prosody through the proxy, with slixmpp, and talk."""

from tests.integration.proxy import Proxy, ProxyTestCase
from tests.integration.third_party import Prosody, microsocks


class JabberTests(ProxyTestCase):
    """STARTTLS runs inside the relayed stream, so the certificate that counts is Prosody's."""

    def talk(self, *options: str) -> Proxy:
        prosody = Prosody(self)
        proxy = self.proxy(*options, config=f'upstream.xmpp = ["127.0.0.1:{prosody.port}"]')
        alice = prosody.client("alice", "bob", proxy.port)
        bob = prosody.client("bob", "alice", proxy.port)
        for client in (alice, bob):
            self.assertRegex(client.wait_for("^(ready|failed) (.*)")[0], r"^ready TLSv1\.[23]$")
        self.assertEqual(2, proxy.figure("protocol_connections_active", protocol="xmpp"))
        for i in range(3):
            alice.say(f"from alice {i}")
            bob.wait_for(f"got from alice {i}")
            bob.say(f"from bob {i}")
            alice.wait_for(f"got from bob {i}")
        for client in (alice, bob):
            client.leave()
            self.assertEqual(0, client.wait(), client.output())
        prosody.program.says_it("Stream encrypted (TLS", 2)
        self.assertEqual({"xmpp": 2}, proxy.kinds())
        return proxy

    def test_messages_both_ways(self) -> None:
        proxy = self.talk()
        # Two TLS handshakes with a certificate, at the least.
        self.assertGreater(proxy.figure("bytes_sent_total"), 2000)
        self.assertGreater(proxy.figure("bytes_received_total"), 1000)

    def test_through_socks5(self) -> None:
        server, port = microsocks(self)
        self.talk("-s", f"socks5://127.0.0.1:{port}")
        server.says_it("connected to 127.0.0.1", 2)
