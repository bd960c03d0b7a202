"""Which addresses may be dialled, however they are dressed, and for whom the rules do not hold."""

import ipaddress
from ipaddress import IPv4Address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from whatsproxy.addresses import Addresses, ForbiddenAddressError, meant_by, special
from whatsproxy.destination import Destination
from whatsproxy.networks import Networks, address_of, number_of, parse_network

NAME = Destination("name.test", 443)
PUBLIC = "198.41.0.4"
OURS = "198.41.0.53"
NAT64 = number_of("64:ff9b::")
#: First and last address of what is not public, and what it is.
RANGES = (
    ("0.0.0.0", "0.255.255.255", "unspecified"),
    ("10.0.0.0", "10.255.255.255", "private"),
    ("100.64.0.0", "100.127.255.255", "carrier-grade NAT"),
    ("127.0.0.0", "127.255.255.255", "loopback"),
    ("169.254.0.0", "169.254.255.255", "link-local"),
    ("172.16.0.0", "172.31.255.255", "private"),
    ("192.0.0.0", "192.0.0.255", "reserved"),
    ("192.0.2.0", "192.0.2.255", "documentation"),
    ("192.88.99.0", "192.88.99.255", "reserved"),
    ("192.168.0.0", "192.168.255.255", "private"),
    ("198.18.0.0", "198.19.255.255", "benchmarking"),
    ("198.51.100.0", "198.51.100.255", "documentation"),
    ("203.0.113.0", "203.0.113.255", "documentation"),
    ("224.0.0.0", "239.255.255.255", "multicast"),
    ("240.0.0.0", "255.255.255.255", "reserved"),
    ("::", "::", "unspecified"),
    ("::1", "::1", "loopback"),
    ("::2", "::fffe:ffff:ffff", "reserved"),
    ("::1:0:0:0", "64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", "reserved"),
    ("64:ff9b::1:0:0", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved"),
    ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "Teredo"),
    ("2001:1::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "documentation"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "6to4"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "documentation"),
    ("4000::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved"),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "private"),
    ("fe00::", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "reserved"),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "link-local"),
    ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "site-local"),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast"),
)
#: Where the ipaddress module (of one version of Python or another) says "global" and we do not.
STRICTER = {
    4: (
        "224.0.0.0/4",  # multicast
        "192.0.0.0/24",  # protocol assignments, of which two or three are anycast
        "192.88.99.0/24",  # relays of 6to4
    ),
    6: (
        "ff00::/8",  # multicast
        "2001::/23",  # protocol assignments
        "2002::/16",  # 6to4: any IPv4 address can be dressed so
        "64:ff9b::/96",  # NAT64: what is inside is judged
        "3fff::/20",  # documentation, since RFC 9637
        "::/3",  # never given out; and ways to dress IPv4 addresses
        "4000::/2",
        "8000::/1",
    ),
}
#: The last number there is.
LAST = number_of("255.255.255.255")
#: Addresses of interest as often as any others.
edges = st.sampled_from([number_of(a) for first, last, _ in RANGES for a in (first, last)]).flatmap(
    lambda edge: st.integers(max(0, edge - 2), min(LAST, edge + 2))
)
anywhere = st.ip_addresses().map(lambda a: number_of(str(a))) | edges


class SpecialTests(SynchronousTestCase):
    def test_each_range(self) -> None:
        """From its first address to its last; its neighbours are what their own range says."""
        for first, last, what in RANGES:
            low, high = number_of(first), number_of(last)
            for number in (low, (low + high) // 2, high):
                self.assertEqual(special(number), what, address_of(number))

    def test_neighbours(self) -> None:
        """What lies beside a range, and in none, is public."""
        bounds = [(number_of(first), number_of(last)) for first, last, _ in RANGES]
        whole = Networks([*bounds, (NAT64, NAT64 + 2**32 - 1)])
        neighbours = 0
        for first, last in bounds:
            for number in (first - 1, last + 1):
                if 0 <= number <= LAST and number not in whole and number >> 32 != 0xFFFF:
                    self.assertEqual(special(number), "", address_of(number))
                    neighbours += 1
        self.assertEqual(neighbours, 36)

    def test_public(self) -> None:
        for address in (
            *("1.1.1.1", "8.8.8.8", "157.240.0.1", PUBLIC, "192.0.1.1", "100.63.255.255"),
            *("2001:200::1", "2606:4700::1111", "2a03:2880::1", "2000::", "3ffe::1"),
        ):
            self.assertEqual(special(number_of(address)), "", address)

    def test_metadata_services(self) -> None:
        for address in ("169.254.169.254", "169.254.170.2", "fd00:ec2::254", "fd20:ce::254"):
            self.assertNotEqual(special(number_of(address)), "", address)

    @given(anywhere)
    def test_as_the_ipaddress_module_says(self, number: int) -> None:
        """Nothing is public for us that is not for it; and the other way round but for STRICTER."""
        address: Any = ipaddress.ip_address(address_of(number))
        if special(number) == "" and not NAT64 <= number < NAT64 + 2**32:
            self.assertTrue(address.is_global and not address.is_multicast, address)
        elif address.is_global:
            stricter = map(ipaddress.ip_network, STRICTER[address.version])
            self.assertTrue(any(address in network for network in stricter), address)


class DressedTests(SynchronousTestCase):
    """An address of IPv4 within one of IPv6: no way past what holds for IPv4."""

    @given(st.ip_addresses(v=4))
    def test_mapped(self, address: IPv4Address) -> None:
        self.assertEqual(special(number_of(f"::ffff:{address}")), special(number_of(str(address))))

    @given(st.ip_addresses(v=4))
    def test_nat64(self, address: IPv4Address) -> None:
        """The translator reaches what is inside (RFC 6052): that is judged."""
        inside = number_of(str(address))
        dressed = NAT64 | int(address)
        self.assertEqual(meant_by(dressed), inside)
        self.assertEqual(special(dressed), special(inside))

    @given(st.ip_addresses(v=4))
    def test_others(self, address: IPv4Address) -> None:
        """Compatible, 6to4, Teredo, translated, and a network's own NAT64: none is public."""
        n = int(address)
        for dressed in (
            n,
            0x2002 << 112 | n << 80,
            0x2001 << 112 | n << 64,
            0x2001 << 112 | n ^ 0xFFFFFFFF,
            0xFFFF << 48 | n,
            number_of("fe80::5efe:0:0") | n,
            number_of("64:ff9b:1::") | n,
            number_of("64:ff9b:1:ffff:ffff:ffff::") | n,
        ):
            self.assertNotEqual(special(dressed), "", address_of(dressed))
            self.assertEqual(meant_by(dressed), dressed)

    def test_bounds_of_nat64(self) -> None:
        for address in ("64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", "64:ff9b::1:0:0"):
            self.assertEqual(meant_by(number_of(address)), number_of(address))
        self.assertEqual(special(number_of("64:ff9b::a00:1")), "private")
        self.assertEqual(special(number_of("64:ff9b::7f00:1")), "loopback")
        self.assertEqual(special(number_of("64:ff9b::")), "unspecified")
        self.assertEqual(special(number_of("64:ff9b::ffff:ffff")), "reserved")
        self.assertEqual(special(number_of("64:ff9b::101:101")), "")


class JudgeCase(SynchronousTestCase):
    def judge(self, *allow: str, configured: tuple[tuple[str, int], ...] = ()) -> Addresses:
        """Return a judge on a host whose own public address is OURS, and who listens at 8443."""
        self.asked: list[str] = []

        def is_own(address: str) -> bool:
            self.asked.append(address)
            return address in (OURS, "2a00::53") or address.startswith("127.")

        networks = Networks(map(parse_network, allow))
        addresses = Addresses(networks, is_own, frozenset(configured))
        addresses.listeners.add(8443)
        return addresses

    def refused(self, judge: Addresses, *found: str, port: int = 443) -> str:
        """Insist that none of the addresses may be dialled; return what is said of them."""
        with self.assertRaises(ForbiddenAddressError) as caught:
            judge.permitted(Destination(NAME.host, port), list(found))
        said = str(caught.exception)
        for address in found:
            self.assertNotIn(address, said)
            self.assertNotIn(address_of(number_of(address)), said)
        self.assertIn("the address behind name.test is not for clients: ", said)
        return said.partition("for clients: ")[2]


class PermittedTests(JudgeCase):
    def test_public(self) -> None:
        found = [PUBLIC, "2606:4700::1111", f"::ffff:{PUBLIC}", "64:ff9b::101:101"]
        self.assertEqual(self.judge().permitted(NAME, found), found)

    def test_none_of_the_special_ones(self) -> None:
        judge = self.judge()
        for first, last, what in RANGES:
            for address in (first, last):
                self.assertEqual(self.refused(judge, address), what)

    def test_some(self) -> None:
        """Those that may are dialled, in their order, and no other."""
        found = ["10.0.0.1", "2606:4700::1111", "::1", PUBLIC, "169.254.169.254"]
        self.assertEqual(self.judge().permitted(NAME, found), ["2606:4700::1111", PUBLIC])

    def test_all_kinds_are_named_once(self) -> None:
        found = ("10.0.0.1", "127.0.0.1", "10.0.0.2", "fe80::1", "::1")
        self.assertEqual(self.refused(self.judge(), *found), "private, loopback, link-local")

    def test_no_address_at_all(self) -> None:
        """Nothing was refused: whoever resolves says that there is none."""
        self.assertEqual(self.judge().permitted(NAME, []), [])

    def test_allow_networks(self) -> None:
        judge = self.judge("10.1.0.0/16", "fd00:1::/32", "127.0.0.1", "::ffff:192.168.0.0/112")
        for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00:1::1"):
            self.assertEqual(judge.permitted(NAME, [address]), [address])
        for address in ("127.0.0.1", "192.168.255.255"):
            self.assertEqual(judge.permitted(NAME, [address]), [address])
        for address in ("10.2.0.1", "fd00:2::1", "127.0.0.2", "::1", "64:ff9b::a02:1"):
            self.refused(judge, address)

    def test_a_translator_may_be_allowed_as_a_whole(self) -> None:
        judge = self.judge("64:ff9b::/96")
        self.assertEqual(judge.permitted(NAME, ["64:ff9b::a00:1"]), ["64:ff9b::a00:1"])
        self.refused(judge, "10.0.0.1")

    def test_a_zone(self) -> None:
        self.assertEqual(self.judge("fe80::/10").permitted(NAME, ["fe80::1%lo"]), ["fe80::1%lo"])
        with self.assertRaisesRegex(ForbiddenAddressError, "link-local"):
            self.judge().permitted(NAME, ["fe80::1%lo"])


class OwnTests(JudgeCase):
    def test_own_addresses(self) -> None:
        """Public or not, whoever dials them from here passes no firewall."""
        for address in (OURS, "2a00::53", f"::ffff:{OURS}", "64:ff9b::c629:35"):
            self.assertEqual(self.refused(self.judge(), address), "this host itself")
        self.assertEqual(self.judge().permitted(NAME, [PUBLIC]), [PUBLIC])

    def test_the_system_is_asked_of_what_is_meant(self) -> None:
        self.judge().permitted(NAME, [f"::ffff:{PUBLIC}", "64:ff9b::101:101"])
        self.assertEqual(self.asked, [PUBLIC, "1.1.1.1"])

    def test_the_system_is_asked_only_where_it_matters(self) -> None:
        """It takes a socket or two: not for what may be dialled, or may not, whoever's it is."""
        judge = self.judge("10.1.0.0/16")
        self.refused(judge, "192.168.1.1", "169.254.169.254")
        judge.permitted(NAME, ["10.1.2.3"])
        self.assertEqual(self.asked, [])
        judge.permitted(Destination("x", 8443), ["10.1.2.3"])
        self.assertEqual(self.asked, ["10.1.2.3"])

    def test_own_addresses_may_be_allowed(self) -> None:
        judge = self.judge(OURS, "127.0.0.0/8", "::1", "0.0.0.0")
        for address in (OURS, "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0"):
            self.assertEqual(judge.permitted(NAME, [address]), [address])

    def test_never_this_proxy(self) -> None:
        """A loop takes descriptors until there are none, whatever is allowed."""
        judge = self.judge("0.0.0.0/0", "::/0")
        for address in (
            *(OURS, "2a00::53", "127.0.0.1", "127.0.0.2", "::1", "0.0.0.0", "::", "0.1.2.3"),
            *(f"::ffff:{OURS}", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::c629:35"),
        ):
            self.assertEqual(self.refused(judge, address, port=8443), "this proxy itself")
            self.assertEqual(judge.permitted(NAME, [address]), [address])
        self.assertEqual(judge.permitted(Destination("x", 8443), [PUBLIC]), [PUBLIC])

    def test_listeners(self) -> None:
        judge = self.judge("127.0.0.0/8")
        judge.listeners.add(443)
        self.assertEqual(self.refused(judge, "127.0.0.1"), "this proxy itself")
        judge.listeners.discard(443)
        self.assertEqual(judge.permitted(NAME, ["127.0.0.1"]), ["127.0.0.1"])

    def test_who_cannot_ask_says_nothing(self) -> None:
        """What the system says when it is asked is not for us to swallow."""

        def is_own(_: str) -> bool:
            raise OSError(24, "Too many open files")

        with self.assertRaises(OSError):
            Addresses(Networks(), is_own).permitted(NAME, [PUBLIC])


class ConfiguredTests(JudgeCase):
    def test_no_rule_for_them(self) -> None:
        judge = self.judge(configured=(("name.test", 443), ("127.0.0.1", 5222)))
        found = ["127.0.0.1", OURS, "169.254.1.1"]
        self.assertEqual(judge.permitted(NAME, found), found)
        self.assertEqual(self.asked, [])
        local = Destination("127.0.0.1", 5222)
        self.assertEqual(judge.permitted(local, ["127.0.0.1"]), ["127.0.0.1"])

    def test_host_and_port(self) -> None:
        """Another port of the same host is another place."""
        judge = self.judge(configured=(("name.test", 5222),))
        self.assertEqual(self.refused(judge, "127.0.0.1"), "loopback")
        with self.assertRaises(ForbiddenAddressError):
            judge.permitted(Destination("other.test", 5222), ["10.0.0.1"])
