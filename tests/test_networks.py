"""Addresses and networks as numbers: the same answers as the ipaddress module gives."""

import ipaddress
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from whatsproxy.networks import (
    NetworkError,
    Networks,
    address_of,
    host_of,
    is_loopback,
    is_v4,
    neighbourhood,
    number_from,
    number_of,
    packed,
    parse_list,
    parse_network,
)

MAPPED = 0xFFFF << 32
#: The number of the first IPv4 address: behind all of IPv6.
V4 = 1 << 128
#: An address of either family. Close together, too, so that networks and addresses often meet.
v4 = st.ip_addresses(v=4) | st.integers(0x0A000000, 0x0A0000FF).map(IPv4Address)
v6 = st.ip_addresses(v=6) | st.integers(0x2001_0DB8 << 96, (0x2001_0DB8 << 96) + 255).map(
    IPv6Address
)
addresses = v4 | v6 | v4.map(lambda a: IPv6Address(MAPPED | int(a)))


@st.composite
def _networks(draw: st.DrawFn) -> IPv4Network | IPv6Network:
    address = draw(v4 | v6)
    length = draw(
        st.integers(0, address.max_prefixlen)
        | st.integers(address.max_prefixlen - 8, address.max_prefixlen)
    )
    return ipaddress.ip_network((address, length), strict=False)


networks = _networks()


def plain_form(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return what a v4-mapped address maps, and any other as it is."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def expected_number(address: IPv4Address | IPv6Address) -> int:
    """Return an address's number, told by ipaddress."""
    plain = plain_form(address)
    return int(plain) | (V4 if isinstance(plain, IPv4Address) else 0)


def expected_bounds(network: IPv4Network | IPv6Network) -> tuple[int, int]:
    """Return a network's first and last number. (None of IPv6's holds but a part of IPv4's.)"""
    first, last = int(network.network_address), int(network.broadcast_address)
    if (first >> 32 == 0xFFFF and last >> 32 == 0xFFFF) or isinstance(network, IPv4Network):
        return V4 | first & 0xFFFFFFFF, V4 | last & 0xFFFFFFFF
    return first, last


def mapped(network: IPv4Network | IPv6Network) -> IPv6Network:
    """Return a network as IPv6 sees it."""
    if isinstance(network, IPv6Network):
        return network
    return IPv6Network((MAPPED | int(network.network_address), 96 + network.prefixlen))


class AddressTests(SynchronousTestCase):
    @given(addresses)
    def test_number(self, address: IPv4Address | IPv6Address) -> None:
        number = number_of(str(address))
        self.assertEqual(number, expected_number(address))
        plain = plain_form(address)
        self.assertEqual(is_v4(number), plain.version == 4)
        self.assertEqual(address_of(number), str(plain))
        self.assertEqual(number_of(address_of(number)), number)
        self.assertEqual(is_loopback(number), plain.is_loopback)

    def test_shortest_form(self) -> None:
        """Wherever in an IPv6 address zeros are."""
        for pattern in range(1 << 8):
            number = sum(0x102 << 16 * n for n in range(8) if pattern >> n & 1)
            self.assertEqual(address_of(number), str(IPv6Address(number)))

    @given(addresses)
    def test_packed(self, address: IPv4Address | IPv6Address) -> None:
        """As sockets and headers have them: in both lengths of IPv4."""
        plain = plain_form(address)
        as_v6 = IPv6Address(MAPPED | int(plain)) if plain.version == 4 else plain
        number = expected_number(address)
        self.assertEqual(packed(number), plain.packed)
        self.assertEqual(packed(number, as_v6=True), as_v6.packed)
        for data in (plain.packed, as_v6.packed, address.packed):
            self.assertEqual(number_from(data), number)

    @given(v6)
    def test_long_spelling(self, address: IPv6Address) -> None:
        for spelled in (address.exploded, address.exploded.upper()):
            self.assertEqual(number_of(spelled), number_of(address.compressed))

    def test_both_spellings_of_ipv4(self) -> None:
        for spelled in ("::ffff:192.0.2.1", "::FFFF:c000:201", "0:0:0:0:0:ffff:192.0.2.1"):
            self.assertEqual(number_of(spelled), number_of("192.0.2.1"))
        for other in ("::192.0.2.1", "::fffe:192.0.2.1", "::ffff:0:192.0.2.1", "::1:ffff:c000:201"):
            self.assertNotEqual(number_of(other), number_of("192.0.2.1"))
            self.assertFalse(is_v4(number_of(other)), other)

    def test_a_zone_is_left_out(self) -> None:
        for zone in ("%eth0", "%1", "%"):
            self.assertEqual(number_of("fe80::1" + zone), number_of("fe80::1"))

    def test_no_addresses(self) -> None:
        """Not the odd spellings of IPv4, by which some programs reach 127.0.0.1, either."""
        for text in (
            *("", " ", "localhost", "127.1", "0177.0.0.1", "0x7f.0.0.1", "2130706433"),
            *("127.0.0.01", "127.0.0.1.", "127.0.0.1 ", " 127.0.0.1", "127.0.0.256", "1.2.3"),
            *("127.0.0.1%eth0", ":", ":::", "::1 ", "[::1]", "1::2::3", "12345::", "::g"),
            *("::ffff:127.1", "fe80::1/64", "127.0.0.1\0", "::1\0", "\uff11.2.3.4", "::\uff11"),
            *("\ud800", "::\ud800"),
        ):
            with self.assertRaises(ValueError, msg=text):
                number_of(text)

    @given(st.text(max_size=20) | st.text("0123456789abcdef:.%/x ", max_size=20))
    def test_whatever_comes(self, text: str) -> None:
        """It is an address for us if it is one for the ipaddress module, and means the same."""
        try:
            expected = expected_number(ipaddress.ip_address(text.partition("%")[0]))
        except ValueError:
            expected = -1
        if "%" in text and ":" not in text:
            expected = -1
        try:
            found = number_of(text)
        except ValueError:
            found = -1
        self.assertEqual(found, expected)

    def test_loopback(self) -> None:
        for address in ("127.0.0.0", "127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"):
            self.assertTrue(is_loopback(number_of(address)), address)
        for address in ("126.255.255.255", "128.0.0.0", "::", "::2", "::127.0.0.1", "1::1"):
            self.assertFalse(is_loopback(number_of(address)), address)


class HostTests(SynchronousTestCase):
    @given(addresses, addresses)
    def test_one_host(self, one: IPv4Address | IPv6Address, two: IPv4Address | IPv6Address) -> None:
        """Two addresses are one host's if they are the same, or share the /64, in IPv6."""

        def of(address: IPv4Address | IPv6Address) -> object:
            plain = plain_form(address)
            return plain if plain.version == 4 else IPv6Network((plain, 64), strict=False)

        same = host_of(number_of(str(one))) == host_of(number_of(str(two)))
        self.assertEqual(same, of(one) == of(two))

    def test_ipv6(self) -> None:
        host = host_of(number_of("2001:db8:1:2::1"))
        self.assertEqual(address_of(host), "2001:db8:1:2::")
        self.assertEqual(host_of(number_of("2001:db8:1:2:ffff:ffff:ffff:ffff")), host)
        for other in ("2001:db8:1:1:ffff:ffff:ffff:ffff", "2001:db8:1:3::"):
            self.assertNotEqual(host_of(number_of(other)), host)

    def test_neighbourhood(self) -> None:
        for address, network in (
            ("192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
            ("0.0.0.1", "0.0.0.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
            ("::1", "::/48"),
        ):
            self.assertEqual(neighbourhood(number_of(address)), network)

    @given(addresses)
    def test_a_neighbourhood_is_a_network_with_the_address_in_it(
        self, address: IPv4Address | IPv6Address
    ) -> None:
        number = number_of(str(address))
        self.assertIn(number, Networks([parse_network(neighbourhood(number))]))


class ParseTests(SynchronousTestCase):
    @given(networks)
    def test_network(self, network: IPv4Network | IPv6Network) -> None:
        bounds = expected_bounds(network)
        self.assertEqual(parse_network(str(network)), bounds)
        self.assertEqual(parse_network(str(mapped(network))), bounds)
        self.assertEqual(
            parse_network(f"{network.network_address.exploded}/{network.prefixlen}"), bounds
        )

    @given(addresses)
    def test_address(self, address: IPv4Address | IPv6Address) -> None:
        number = number_of(str(address))
        self.assertEqual(parse_network(str(address)), (number, number))

    def test_bounds(self) -> None:
        self.assertEqual(parse_network("0.0.0.0/0"), (V4, V4 | 0xFFFFFFFF))
        self.assertEqual(parse_network("0.0.0.0/0"), parse_network("::ffff:0.0.0.0/96"))
        self.assertEqual(parse_network("::/0"), (0, V4 - 1))  # and nothing of IPv4

    def check(self, text: str, right: str) -> None:
        """It is refused in one line that shows it and says what would be right."""
        with self.assertRaisesRegex(NetworkError, right) as caught:
            parse_network(text)
        self.assertIn(repr(text), str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    def test_no_network(self) -> None:
        for text in (
            *("", "/", "/24", "whatsapp.net", "127.1", "10.0.0/8", "0x0a.0.0.0/8", "010.0.0.0/8"),
            *("10.0.0.0.0", "10.*", "10.0.0.0-10.0.0.9", "fe80::1%eth0", "fe80::%eth0/64", "::g/1"),
            *("10.0.0.0 /8", "10.0.0.0,10.0.0.1", "[::1]/128", "10.0.0.0\n", "\0"),
        ):
            self.check(text, r"is no network; 192\.0\.2\.0/24 or 2001:db8::/32 would be right")

    def test_prefix(self) -> None:
        wrong = ("", "-1", "+8", "8.0", " 8", "8 ", "x", "0x8", "1e1", "8/8", "\uff18", "9" * 5000)
        for prefix in (*wrong, "33", "128", "255.0.0.0"):
            self.check(f"10.0.0.0/{prefix}", "behind the slash 0 to 32 is expected")
        for prefix in (*wrong, "129", "999"):
            self.check(f"2001:db8::/{prefix}", "behind the slash 0 to 128 is expected")

    def test_an_address_within_a_network(self) -> None:
        for text, right in (
            ("10.0.0.1/8", "10.0.0.0/8"),
            ("192.0.2.129/25", "192.0.2.128/25"),
            ("0.0.0.1/0", "0.0.0.0/0"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::1/0", "::/0"),
            ("::ffff:10.0.0.1/104", "::ffff:"),
            ("::ffff:0.0.0.0/95", "::fffe:0:0/95"),  # half of which is IPv4
        ):
            self.check(text, f"an address within a network; {re.escape(right)}.* would be right")

    @given(networks, st.integers(1))
    def test_what_would_be_right_is(self, network: IPv4Network | IPv6Network, more: int) -> None:
        address = network[more % network.num_addresses]
        text = f"{address}/{network.prefixlen}"
        if address == network.network_address:
            self.assertEqual(parse_network(text), parse_network(str(network)))
            return
        with self.assertRaises(NetworkError) as caught:
            parse_network(text)
        found = re.search(r"; (\S+) would be right", str(caught.exception))
        assert found is not None
        self.assertEqual(parse_network(found[1]), parse_network(str(network)))

    @given(st.text(max_size=20) | st.text("0123456789abcdef:./", max_size=24))
    def test_whatever_comes(self, text: str) -> None:
        try:
            first, last = parse_network(text)
        except NetworkError as e:
            self.assertNotIn("\n", str(e))
        else:
            self.assertEqual((first, last), expected_bounds(ipaddress.ip_network(text)))


class SetTests(SynchronousTestCase):
    @given(st.lists(networks, max_size=12), st.lists(addresses, max_size=12))
    def test_membership(
        self,
        given_networks: list[IPv4Network | IPv6Network],
        others: list[IPv4Address | IPv6Address],
    ) -> None:
        """As if each network were asked; at the edges of each, inside and outside, too."""
        found = Networks(parse_network(str(network)) for network in given_networks)
        self.assertEqual(bool(found), bool(given_networks))
        asked = [plain_form(address) for address in others]
        for network in given_networks:
            first, last = int(network.network_address), int(network.broadcast_address)
            make = type(network.network_address)
            numbers = (first - 1, first, (first + last) // 2, last, last + 1)
            asked += [plain_form(make(n)) for n in numbers if 0 <= n < 2**network.max_prefixlen]
        bounds = [expected_bounds(network) for network in given_networks]
        for number in map(expected_number, asked):
            expected = any(first <= number <= last for first, last in bounds)
            self.assertEqual(number in found, expected, address_of(number))

    def test_neighbours_and_overlaps(self) -> None:
        nested = Networks(map(parse_network, ["10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/24"]))
        self.assertIn(number_of("10.255.255.255"), nested)
        self.assertNotIn(number_of("11.0.0.0"), nested)
        side_by_side = Networks(map(parse_network, ["192.0.2.128/25", "192.0.2.0/25"]))
        self.assertIn(number_of("192.0.2.127"), side_by_side)
        self.assertIn(number_of("192.0.2.128"), side_by_side)
        self.assertNotIn(number_of("192.0.3.0"), side_by_side)
        apart = Networks(map(parse_network, ["192.0.2.0", "192.0.2.2"]))
        self.assertEqual([number_of(f"192.0.2.{n}") in apart for n in range(4)], [1, 0, 1, 0])

    def test_empty(self) -> None:
        for number in (0, 1, V4, V4 - 1):
            self.assertNotIn(number, Networks())
        self.assertFalse(Networks())

    def test_families_apart(self) -> None:
        """Whoever allows all of one family has said nothing about the other."""
        ipv6 = Networks(map(parse_network, ["::/0"]))
        ipv4 = Networks(map(parse_network, ["0.0.0.0/0"]))
        for text, is_ipv4 in (
            *(("::", False), ("ffff:" * 7 + "ffff", False), ("::192.0.2.1", False)),
            *(("0.0.0.0", True), ("255.255.255.255", True), ("::ffff:192.0.2.1", True)),
        ):
            self.assertEqual(number_of(text) in ipv4, is_ipv4, text)
            self.assertEqual(number_of(text) in ipv6, not is_ipv4, text)


class ListTests(SynchronousTestCase):
    def test_list(self) -> None:
        text = "# ours\n192.0.2.0/24 # the office\n\n\t2001:DB8::/32\r\n  10.0.0.1  \n#10.0.0.2\n"
        wanted = [parse_network(n) for n in ("192.0.2.0/24", "2001:db8::/32", "10.0.0.1")]
        self.assertEqual(parse_list(text), wanted)
        self.assertEqual(parse_list(""), [])
        self.assertEqual(parse_list("\n \n# nothing"), [])
        self.assertEqual(parse_list("10.0.0.1#x"), wanted[2:])

    def test_the_line_is_named(self) -> None:
        for text, line in (("x", 1), ("10.0.0.1\n# fine\n10.0.0.1/8\n", 3), ("\n\n\n1.2.3\n", 4)):
            with self.assertRaisesRegex(NetworkError, rf"^line {line}: .* would be right$"):
                parse_list(text)

    def test_a_hundred_thousand(self) -> None:
        """Every second one of the /24 from 11.0.0.0 on (how fast: bench/networks.py)."""
        count = 100_000
        text = "\n".join(
            f"{11 + (n >> 15)}.{n >> 7 & 255}.{n << 1 & 254}.0/24" for n in range(count)
        )
        found = Networks(parse_list(text))
        for n in (0, 1, 2, 4711, count // 2, count - 1):
            first = V4 | (11 << 24) + (n << 9)
            for number, inside in (
                (first - 1, False),
                (first, True),
                (first + 255, True),
                (first + 256, False),
            ):
                self.assertEqual(number in found, inside, address_of(number))
