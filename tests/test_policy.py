from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import host_names
from whatsproxy.destination import Destination, DestinationError
from whatsproxy.networks import Networks, parse_network
from whatsproxy.policy import Patterns, Policy, normalise_pattern
from whatsproxy.settings import PolicySettings

POLICY = Policy(["whatsapp.net", "*.Whatsapp.NET.", "*.fbcdn.net", "faß.de"], [443, 5222])


class PolicyTests(SynchronousTestCase):
    def test_allowed(self) -> None:
        for name in (
            *("whatsapp.net", "g.whatsapp.net", "a.b.c.whatsapp.net", "x.fbcdn.net"),
            *("G.WhatsApp.net.", "faß.de", "xn--fa-hia.de", "FAß.DE."),
        ):
            destination = POLICY.permits_name(name, 443)
            assert destination is not None, name
            self.assertTrue(POLICY.permits(destination))

    def test_the_answer_is_in_normal_form(self) -> None:
        self.assertEqual(
            POLICY.permits_name("G.WhatsApp.net.", 5222), Destination("g.whatsapp.net", 5222)
        )
        self.assertEqual(POLICY.permits_name("faß.de", 443), Destination("xn--fa-hia.de", 443))

    def test_refused(self) -> None:
        for name in (
            *("fbcdn.net", "net", "evilwhatsapp.net", "whatsapp.net.evil.org", "whatsapp.netx"),
            *("fass.de", "x.faß.de", "example.org", "localhost", "*.whatsapp.net", ".whatsapp.net"),
            *("", ".", "127.0.0.1", "::1", "[::1]", "2130706433", "0x7f.1", "g.whatsapp.net\0"),
            *("g.whatsapp.net/", "g whatsapp.net", "g.whatsapp.net:443", "x..whatsapp.net"),
        ):
            self.assertIsNone(POLICY.permits_name(name, 443), name)

    def test_ports(self) -> None:
        for port in (0, 80, 442, 444, 65535):
            self.assertIsNone(POLICY.permits_name("whatsapp.net", port))
            self.assertFalse(POLICY.permits(Destination("whatsapp.net", port)))

    def test_an_address_matches_no_name(self) -> None:
        for host in ("127.0.0.1", "::1", "1.1.1.1"):
            self.assertFalse(POLICY.permits(Destination(host, 443)))

    def test_nothing_allowed(self) -> None:
        self.assertIsNone(Policy([], [443]).permits_name("whatsapp.net", 443))
        self.assertIsNone(Policy(["whatsapp.net"], []).permits_name("whatsapp.net", 443))

    def test_defaults(self) -> None:
        settings = PolicySettings()
        policy = Policy(settings.allow, settings.allow_ports)
        for name in (
            *("mmg.whatsapp.net", "media-fra3-1.cdn.whatsapp.net", "web.whatsapp.com"),
            *("whatsapp.com", "static.xx.fbcdn.net", "wa.me"),
        ):
            self.assertIsNotNone(policy.permits_name(name, 443), name)
        for name in ("x.wa.me", "fbcdn.net", "facebook.com", "example.org"):
            self.assertIsNone(policy.permits_name(name, 443), name)

    @given(host_names, host_names)
    def test_a_wildcard_covers_what_is_below(self, name: str, parent: str) -> None:
        policy = Policy([f"*.{parent}"], [443])
        self.assertIsNotNone(policy.permits_name(f"{name}.{parent}", 443))
        self.assertIsNone(policy.permits_name(parent, 443))
        below = name.endswith(f".{parent}")
        self.assertEqual(policy.permits_name(name, 443) is not None, below)

    @given(st.text(max_size=30), st.integers(-1, 70000))
    def test_no_name_raises(self, name: str, port: int) -> None:
        self.assertIsNone(Policy(["*.allowed.example"], [443]).permits_name(name, port))


class StarTests(SynchronousTestCase):
    policy = Policy(["*"], [443])

    def test_every_name(self) -> None:
        for name in ("example.org", "localhost", "a", "G.WhatsApp.net.", "faß.de", "x_y.test"):
            self.assertIsNotNone(self.policy.permits_name(name, 443), name)
        self.assertTrue(self.policy.allows_all)
        self.assertFalse(POLICY.allows_all)

    def test_beside_others(self) -> None:
        for patterns in (["a.b", "*"], ["*", "*.a.b"]):
            self.assertTrue(Policy(patterns, [443]).permits(Destination("example.org", 443)))

    def test_ports(self) -> None:
        for port in (0, 80, 444):
            self.assertIsNone(self.policy.permits_name("example.org", port))

    def test_no_address(self) -> None:
        """Nor what some C library would take for one."""
        for host in ("127.0.0.1", "1.1.1.1", "::1", "2606:4700::1111"):
            self.assertFalse(self.policy.permits(Destination(host, 443)))
        for name in ("127.0.0.1", "::1", "2130706433", "0x7f.1", "0177.1", "", "a b", "*"):
            self.assertIsNone(self.policy.permits_name(name, 443), name)

    @given(host_names)
    def test_any_name(self, name: str) -> None:
        self.assertEqual(self.policy.permits_name(name, 443), Destination(name, 443))


class NetworkTests(SynchronousTestCase):
    """Literal addresses: refused unless a network allows them."""

    networks = Networks(map(parse_network, ["10.0.0.0/8", "2001:db8::/32"]))
    policy = Policy(["*.test"], [443], networks=networks)

    def test_allowed(self) -> None:
        for host in ("10.0.0.0", "10.255.255.255", "2001:db8::1", "::ffff:10.0.0.1"):
            self.assertTrue(self.policy.permits(Destination(host, 443)), host)

    def test_refused(self) -> None:
        for host in ("11.0.0.0", "9.255.255.255", "2001:db9::", "::10.0.0.1", "64:ff9b::a00:1"):
            self.assertFalse(self.policy.permits(Destination(host, 443)), host)

    def test_ports(self) -> None:
        self.assertFalse(self.policy.permits(Destination("10.0.0.1", 80)))

    def test_they_allow_no_name(self) -> None:
        self.assertFalse(self.policy.permits(Destination("example.org", 443)))
        self.assertTrue(self.policy.permits(Destination("a.test", 443)))


class ConfiguredTests(SynchronousTestCase):
    def test_exactly_they(self) -> None:
        """With their port, whatever the rules say; and whether TLS is spoken there or not."""
        upstreams = [Destination("chat.test", 5222, tls=True), Destination("127.0.0.1", 9)]
        policy = Policy([], [], upstreams)
        self.assertTrue(policy.permits(Destination("chat.test", 5222)))
        self.assertTrue(policy.permits(Destination("127.0.0.1", 9)))
        for host, port in (("chat.test", 443), ("127.0.0.1", 10), ("127.0.0.2", 9)):
            self.assertFalse(policy.permits(Destination(host, port)))


class PatternTests(SynchronousTestCase):
    def test_truth(self) -> None:
        for patterns, expected in (([], False), (["a"], True), (["*.a"], True), (["*"], True)):
            self.assertEqual(bool(Patterns(patterns)), expected)

    def test_normal_forms(self) -> None:
        for pattern, normal in {
            "WA.me.": "wa.me",
            "*.FBcdn.net.": "*.fbcdn.net",
            "*.faß.de": "*.xn--fa-hia.de",
        }.items():
            self.assertEqual(normalise_pattern(pattern), normal)
            self.assertEqual(normalise_pattern(normal), normal)

    def test_refused(self) -> None:
        for pattern in (
            *("*", "", "*.", "**", "*x.net", "x.*", "*.*.net", "a.*.net", "*.0x7f.1", "127.0.0.1"),
            *("::1", "*.1.2.3.4", "http://x", "a b"),
        ):
            with self.assertRaises(DestinationError, msg=pattern):
                normalise_pattern(pattern)

    def test_a_star_is_explained(self) -> None:
        with self.assertRaisesRegex(DestinationError, "open relay"):
            normalise_pattern("*")
