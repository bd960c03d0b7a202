from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import host_names
from whatsproxy.destination import (
    Destination,
    DestinationError,
    is_address,
    normalise_host,
    normalise_name,
    parse_destination,
    parse_port,
)

#: Text that is more often nearly a host than st.text() is.
_PARTS = st.sampled_from(
    [
        *("a", "B-c", "_x", "faß", "ẞ", "xn--", "xn--fa-hia", "日本", "0x7f", "0177", "1"),
        *("\u0661", "\uff11", "\u3002", "\u212a", "\xad", "\ud800", ".", ":", "::", "[", "]"),
        *("%", "/", "@", " ", "-", "\n", "\0"),
    ]
)
hostish = st.lists(_PARTS, max_size=8).map("".join) | st.text(max_size=20) | host_names
addresses = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)


class NameTests(SynchronousTestCase):
    def test_equal_names_are_equal(self) -> None:
        for normal, spellings in {
            "g.whatsapp.net": ["G.WhatsApp.NET", "g.whatsapp.net.", "G.WHATSAPP.NET."],
            # IDNA 2008; by IDNA 2003 this would be fass.de, which is somebody else's.
            "xn--fa-hia.de": ["faß.de", "FAß.DE", "faß.de.", "XN--FA-HIA.de", "faß\u3002de"],
            "xn--wgv71a119e.example": ["日本語.example", "日本語.EXAMPLE."],
            "k.example": ["\u212a.example"],
            "_dmarc.example.org": ["_dmarc.Example.org"],
            "localhost": ["localhost", "LOCALHOST."],
            "1.2.3.4.in-addr.arpa": ["1.2.3.4.in-addr.ARPA"],
        }.items():
            for spelling in spellings:
                self.assertEqual(normalise_name(spelling), normal)
                self.assertEqual(normalise_host(spelling), normal)

    def test_what_is_no_name(self) -> None:
        for text in (
            *("", ".", "..", "a..b", ".a", "a.b..", "-a.b", "a-.b", "a b", "a/b", "a\nb", "a.b\n"),
            *("a\0.b", "*.a.b", "user@host", "a:80", "[::1]", "::1", "fa\\xc3\\x9f.de"),
            *("a" * 64 + ".b", ".".join(["a" * 49] * 6), "☃️\u200d.de", "\ud800.de", "a\u200bb..de"),
        ):
            with self.assertRaises(DestinationError, msg=repr(text)):
                normalise_name(text)

    def test_longest(self) -> None:
        longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
        self.assertEqual(normalise_name(longest), longest)
        self.assertEqual(normalise_name(longest + "."), longest)
        self.assertRaises(DestinationError, normalise_name, longest + "d")

    def test_addresses_in_disguise_are_no_names(self) -> None:
        for text in (
            *("0177.1", "2130706433", "0x7f.1", "0x7f000001", "017700000001", "127.1", "0x"),
            *("127.0.0.01", "127.0.0.1.", "1.2.3.4.5", "256.1.1.1", "1.2.3", "a.1", "example.0X1F"),
            *("\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "2130706433.", "ä.0x7f"),
        ):
            for normalise in (normalise_name, normalise_host):
                with self.assertRaises(DestinationError, msg=text):
                    normalise(text)

    def test_an_address_is_no_name(self) -> None:
        for text in ("127.0.0.1", "::1", "1.1.1.1"):
            self.assertRaises(DestinationError, normalise_name, text)


class AddressTests(SynchronousTestCase):
    def test_normal_forms(self) -> None:
        for text, normal in {
            "127.0.0.1": "127.0.0.1",
            "::1": "::1",
            "2001:DB8:0:0:0:0:0:1": "2001:db8::1",
            "0:0:0:0:0:0:0:0": "::",
            "2001:db8::0.0.0.1": "2001:db8::1",
        }.items():
            self.assertEqual(normalise_host(text), normal)
            self.assertTrue(is_address(normal))

    def test_refused(self) -> None:
        for text in ("fe80::1%eth0", "fe80::1%", ":::", "1:2", "::g", "::1.", "1::2::3", "::1/64"):
            self.assertRaises(DestinationError, normalise_host, text)

    def test_names_are_not_addresses(self) -> None:
        for name in ("g.whatsapp.net", "a1", "1a", "1.2.3.4.a", "face.b00c"):
            self.assertFalse(is_address(normalise_host(name)), name)


class DestinationTests(SynchronousTestCase):
    def test_parse(self) -> None:
        for text, host, port in (
            ("G.whatsapp.net.:5222", "g.whatsapp.net", 5222),
            ("127.0.0.1:1", "127.0.0.1", 1),
            ("[2001:DB8::1]:65535", "2001:db8::1", 65535),
            ("faß.de:443", "xn--fa-hia.de", 443),
        ):
            self.assertEqual(parse_destination(text), Destination(host, port))
            self.assertEqual(parse_destination(text, 99), Destination(host, port))

    def test_default_port(self) -> None:
        for text in ("a.b", "[::1]", "1.2.3.4"):
            self.assertEqual(parse_destination(text, 1080).port, 1080)
            with self.assertRaisesRegex(DestinationError, "port"):
                parse_destination(text)

    def test_is_address(self) -> None:
        self.assertTrue(parse_destination("[::1]:1").is_address)
        self.assertTrue(parse_destination("1.2.3.4:1").is_address)
        self.assertFalse(parse_destination("a.b:1").is_address)

    def test_refused(self) -> None:
        for text in (
            *("", ":", ":80", "a:", "a:0", "a:65536", "a:-1", "a:+1", "a: 1", "a:1 ", "a:1e2"),
            *(
                "a:\uff11",
                "a:1:2",
                "::1:80",
                "[::1",
                "::1]:80",
                "[::1]80",
                "[::1]:",
                "[a]:80",
                "[]:80",
            ),
            *("[1.2.3.4]:80", "[::1]:80\n", "a:80\n", "[fe80::1%1]:80", "u@h:1", "a:" + "9" * 5000),
            *("0x7f.1:80", "2130706433:80", "http://a:80", "[[::1]]:80"),
        ):
            with self.assertRaises(DestinationError, msg=text[:20]):
                parse_destination(text)

    def test_ports(self) -> None:
        self.assertEqual([parse_port(p) for p in ("1", "80", "65535")], [1, 80, 65535])

    def test_the_error_names_the_text(self) -> None:
        for text, named in (("a b:1", "a b"), ("a:99999", "99999"), ("0x7f.1:1", "0x7f.1")):
            with self.assertRaisesRegex(DestinationError, named):
                parse_destination(text)


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=300)
    @given(hostish)
    def test_normalise_is_idempotent(self, text: str) -> None:
        for normalise in (normalise_host, normalise_name):
            try:
                normal = normalise(text)
            except DestinationError as e:
                self.assertTrue(str(e))
            else:
                self.assertEqual(normalise(normal), normal)
                self.assertEqual(normal, normal.lower())
                self.assertTrue(normal.isascii())

    @settings(max_examples=300)
    @given(hostish | st.tuples(hostish, hostish | st.integers().map(str)).map(":".join))
    def test_only_destination_errors(self, text: str) -> None:
        try:
            destination = parse_destination(text, 443)
        except DestinationError:
            return
        self.assertEqual(parse_destination(str(destination)), destination)
        self.assertIn(destination.port, range(1, 65536))

    @given(host_names, addresses, st.integers(1, 65535))
    def test_round_trip(self, name: str, address: str, port: int) -> None:
        for host in (name, address):
            destination = Destination(normalise_host(host), port)
            self.assertEqual(parse_destination(str(destination)), destination)
            self.assertEqual(destination.is_address, host is address)

    @given(st.text(max_size=8) | st.integers().map(str))
    def test_ports(self, text: str) -> None:
        try:
            port = parse_port(text)
        except DestinationError:
            return
        self.assertIn(port, range(1, 65536))
        self.assertEqual(port, int(text))
