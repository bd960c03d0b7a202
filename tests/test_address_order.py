"""in_order: RFC 6724, by what this host would send from."""

import socket

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from whatsproxy import address_order
from whatsproxy.address_order import best, in_order

V4, V6 = "192.0.2.1", "2001:db8::1"


class OrderTests(SynchronousTestCase):
    def order(self, sources: dict[str, str], *addresses: str) -> list[str]:
        """Order addresses for a host that would send from these sources; from none elsewhere."""
        self.patch(address_order, "_source", sources.get)
        return in_order(list(addresses))

    def test_both_families(self) -> None:
        self.assertEqual(self.order({V4: "10.0.0.1", V6: "2001:db8::2"}, V4, V6), [V6, V4])

    def test_a_family_without_a_way(self) -> None:
        self.assertEqual(self.order({V4: "10.0.0.1"}, V6, V4), [V4, V6])
        self.assertEqual(self.order({V6: "2001:db8::2"}, V4, V6), [V6, V4])

    def test_nothing_is_to_be_reached(self) -> None:
        self.assertEqual(self.order({}, V4, V6), [V6, V4])

    def test_a_source_of_its_kind(self) -> None:
        """Rules 2 and 5: a host with private or tunnelled IPv6 only takes IPv4."""
        for source in ("fd00::2", "fe80::2", "2001:0:1::2", "2002:c000:201::1"):
            self.assertEqual(self.order({V4: "10.0.0.1", V6: source}, V6, V4), [V4, V6], source)
        self.assertEqual(
            self.order({V4: "169.254.0.2", V6: "2001:db8::2"}, V4, V6, V4), [V6, V4, V4]
        )

    def test_a_tunnel_to_a_tunnel(self) -> None:
        """Rule 6: then IPv4 comes first (RFC 6724 10.3)."""
        six_to_four = "2002:c000:201::1"
        sources = {V4: "192.0.2.2", six_to_four: "2002:c000:202::1"}
        self.assertEqual(self.order(sources, six_to_four, V4), [V4, six_to_four])

    def test_local_addresses_first(self) -> None:
        """Rule 8."""
        sources = {"fe80::1": "fe80::2", V6: V6}
        self.assertEqual(self.order(sources, V6, "fe80::1"), ["fe80::1", V6])

    def test_equals_stay_as_the_name_server_has_them(self) -> None:
        addresses = [f"192.0.2.{n}" for n in (7, 3, 9, 1)]
        self.assertEqual(self.order(dict.fromkeys(addresses, "10.0.0.1"), *addresses), addresses)

    def test_mapped_addresses_are_those_of_ipv4(self) -> None:
        mapped = f"::ffff:{V4}"
        self.assertEqual(self.order({V6: V6, mapped: "::ffff:10.0.0.1"}, mapped, V6), [V6, mapped])

    def test_this_host(self) -> None:
        """What has no route here comes last (in the sandbox: all but loopback)."""
        self.assertEqual(in_order(["127.0.0.2", "127.0.0.1"]), ["127.0.0.2", "127.0.0.1"])
        # Multicast on a link that is not named, port or not: no way, on any system.
        self.assertEqual(in_order(["fe80::1", "127.0.0.1"]), ["127.0.0.1", "fe80::1"])

    def test_no_descriptors(self) -> None:
        def none(*_: object) -> None:
            raise OSError(24, "Too many open files")

        self.patch(socket, "socket", none)
        self.assertEqual(in_order([V4, V6]), [V6, V4])


class BestTests(SynchronousTestCase):
    def test_half_of_each(self) -> None:
        """A name with many addresses of a family that turns out not to work has others yet."""
        v4 = [f"192.0.2.{n}" for n in range(20)]
        v6 = [f"2001:db8::{n + 1:x}" for n in range(20)]
        self.patch(address_order, "_source", lambda a: V6 if ":" in a else V4)
        self.assertEqual(best(v4 + v6, 16), v6[:8] + v4[:8])
        self.assertEqual(best(v4 + v6[:2], 16), v6[:2] + v4[:14])
        self.assertEqual(best(v4[:2] + v6, 16), v6[:14] + v4[:2])
        self.assertEqual(best(v4, 16), v4[:16])

    @given(st.lists(st.ip_addresses().map(str), unique=True))
    def test_law(self, addresses: list[str]) -> None:
        """Nothing is added or doubled, and as many as may be are there."""
        found = best(addresses, 16)
        self.assertEqual(len(found), min(16, len(addresses)))
        self.assertLessEqual(set(found), set(addresses))
        self.assertEqual(len(set(found)), len(found))
