"""Settings that are right one by one, and wrong together: each mistake ends the start."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from whatsproxy.checks import check
from whatsproxy.config import ConfigError, load

LOCAL = "tcp:1:interface=127.0.0.1"
OPEN = "tcp6:8443"


class ChecksCase(SynchronousTestCase):
    def fine(self, **keys: Any) -> None:
        """Insist that these settings (``section__key``) go together."""
        check(load(options={tuple(key.split("__")): raw for key, raw in keys.items()}))

    def refused(self, key: str, **keys: Any) -> str:
        """Insist that they do not; return the one line, which begins with the key to be changed."""
        with self.assertRaises(ConfigError) as caught:
            self.fine(**keys)
        said = str(caught.exception)
        section, _, name = key.partition("__")
        where = "command line" if key in keys else "default"
        self.assertTrue(said.startswith(f"{where}: [{section}] {name} = "), said)
        self.assertNotIn("\n", said)
        return said


class StarTests(ChecksCase):
    """``allow = ["*"]`` only with a rule about clients: otherwise it is an open relay."""

    def test_refused(self) -> None:
        for keys in (
            {},
            {"server__listen": [OPEN]},
            {"server__listen": [LOCAL, "tcp:9"]},
            {"server__listen": [LOCAL], "server__listener": [{"endpoint": "tcp:9"}]},
            {"server__listen": [LOCAL], "server__listener": [{"endpoint": OPEN, "kinds": ["tls"]}]},
            {"server__listen": ["systemd:domain=INET:index=0"]},
            {"server__listen": [OPEN], "clients__deny": ["10.0.0.0/8"]},
            {"server__listen": [OPEN], "clients__max_per_client": 1},
            {"server__listen": [f"haproxy:{LOCAL}"], "server__proxy_trusted": ["127.0.0.1"]},
            {"server__listen": ["haproxy:unix:/x"]},
        ):
            said = self.refused("policy__allow", policy__allow=["a.b", "*"], **keys)
            for part in ('= ["a.b", "*"]: ', "open relay", "[clients] allow", "loopback"):
                self.assertIn(part, said)

    def test_the_listener_is_named(self) -> None:
        said = self.refused("policy__allow", policy__allow=["*"], server__listen=[LOCAL, "tcp:9"])
        self.assertIn("(tcp:9 does not)", said)

    def test_with_a_rule_about_clients(self) -> None:
        for keys in (
            {"clients__allow": ["192.0.2.0/24"]},
            {"clients__allow": ["file:/etc/networks"], "server__listen": [OPEN]},
            {"server__listen": [LOCAL]},
            {"server__listen": [LOCAL, "unix:/x", "tcp6:2:interface=\\:\\:1"]},
            {
                "server__listen": [LOCAL],
                "server__listener": [{"endpoint": OPEN, "allow": ["10.0.0.0/8"]}],
            },
            {
                "server__listen": [f"haproxy:{OPEN}"],
                "server__proxy_trusted": ["10.0.0.1"],
                "clients__allow": ["10.0.0.0/8"],
            },
        ):
            self.fine(policy__allow=["*"], **keys)

    def test_without_a_star(self) -> None:
        for allow in (["a.b"], ["*.b"], []):
            self.fine(policy__allow=allow, server__listen=[OPEN])
        self.fine()


class ListenTests(ChecksCase):
    def test_nowhere(self) -> None:
        said = self.refused("server__listen", server__listen=[])
        for part in ("= []: ", "tcp6:8443", "[[listener]]"):
            self.assertIn(part, said)

    def test_somewhere(self) -> None:
        self.fine(server__listen=[], server__listener=[{"endpoint": "tcp:1"}])
        self.fine(server__listen=["tcp:1"], server__listener=[])


class UnixTests(ChecksCase):
    def test_allow(self) -> None:
        """Nobody who comes by a unix socket has an address, unless a balancer names one."""
        networks = {"allow": ["10.0.0.0/8"]}
        said = self.refused(
            "server__listener", server__listener=[{"endpoint": "unix:/x", **networks}]
        )
        self.assertIn("unix:/x", said)
        self.fine(server__listener=[{"endpoint": "haproxy:unix:/x", **networks}])


class TrustTests(ChecksCase):
    def test_nobody_is_believed(self) -> None:
        """A listener whose every connection would be refused is a mistake."""
        for keys in (
            {"server__listen": ["haproxy:tcp:9"]},
            {"server__listen": ["tcp:1", "haproxy:tcp:9"]},
            {"server__listener": [{"endpoint": "tcp:9", "proxy_protocol": True}]},
            {"server__listen": ["haproxy:unix:/x", "haproxy:tcp:9"]},
        ):
            said = self.refused("server__proxy_trusted", **keys)
            self.assertIn("tcp:9 takes PROXY protocol headers", said)
            self.assertIn('such as ["192.0.2.10/32"]', said)
        said = self.refused("server__proxy_trusted", server__listen=["haproxy:systemd:domain=INET"])
        self.assertIn("systemd:domain=INET takes", said)

    def test_somebody_is(self) -> None:
        self.fine(server__listen=["haproxy:tcp:9"], server__proxy_trusted=["192.0.2.1"])
        self.fine(server__listen=["haproxy:unix:/x"])  # its mode says who
        self.fine(server__listen=["tcp:9"])
        self.fine(server__proxy_trusted=["192.0.2.1"])


class SendProxyTests(ChecksCase):
    def test_not_past_who_hides_us(self) -> None:
        for proxies in (["socks5://h"], ["direct", "socks5://u:s3cret@h"]):
            for version in ("v1", "v2"):
                said = self.refused(
                    "upstream__send_proxy", upstream__send_proxy=version, socks5__proxies=proxies
                )
                self.assertIn("SOCKS5", said)
                self.assertIn('"" would be right', said)
                self.assertNotIn("s3cret", said)

    def test_directly(self) -> None:
        self.fine(upstream__send_proxy="v2")
        self.fine(upstream__send_proxy="v1", socks5__proxies=["direct"])
        self.fine(upstream__send_proxy="", socks5__proxies=["socks5://h"])
