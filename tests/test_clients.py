"""Who may come, how many connections one client may have, and how many new ones a second."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from whatsproxy import clients as clients_module
from whatsproxy.clients import REMEMBERED, Clients, Rate
from whatsproxy.networks import Networks, host_of, number_of, parse_network
from whatsproxy.reason import Reason

HOST, OTHER = 1, 2
A = number_of("192.0.2.1")
B = number_of("192.0.2.2")
#: A few addresses of a few hosts.
CLIENTS = (
    *("192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1", "198.51.100.1"),
    *("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"),
)


def networks(*texts: str) -> Networks:
    return Networks(map(parse_network, texts))


class RateTests(SynchronousTestCase):
    def taken(self, rate: Rate, now: float, host: int = HOST) -> int:
        """Return how many may be taken at once."""
        count = 0
        while count < 1000 and rate.take(host, now):
            count += 1
        return count

    def test_burst(self) -> None:
        self.assertEqual(self.taken(Rate(1, 5), 100.0), 5)
        self.assertEqual(self.taken(Rate(1, 5), 0.0), 5)

    def test_refill(self) -> None:
        """So many a second, by parts of a second, and none too early."""
        rate = Rate(4, 8)
        self.taken(rate, 100.0)
        self.assertFalse(rate.take(HOST, 100.2))
        self.assertTrue(rate.take(HOST, 100.25))
        self.assertFalse(rate.take(HOST, 100.25))
        self.assertEqual(self.taken(rate, 101.25), 4)

    def test_never_more_than_the_burst(self) -> None:
        rate = Rate(100, 3)
        self.taken(rate, 100.0)
        self.assertEqual(self.taken(rate, 1e9), 3)

    def test_who_asks_too_often_loses_nothing(self) -> None:
        """A refusal costs nothing: who has to wait gets the rate all the same."""
        rate = Rate(1, 1)
        got = sum(rate.take(HOST, 100 + n / 8) for n in range(8 * 60))
        self.assertEqual(got, 60)

    def test_hosts_apart(self) -> None:
        rate = Rate(1, 2)
        self.assertEqual(self.taken(rate, 100.0), 2)
        self.assertEqual(self.taken(rate, 100.0, OTHER), 2)

    @given(
        st.integers(1, 50),
        st.integers(1, 20),
        st.lists(st.integers(0, 300), min_size=1, max_size=60),
    )
    def test_the_law(self, per_second: int, burst: int, waits: list[int]) -> None:
        """In any time no more than the burst and what that time brings; and no less at once."""
        rate = Rate(per_second, burst)
        now, got = 1000.0, []
        for wait in waits:
            now += wait / 128  # exact
            if rate.take(HOST, now):
                got.append(now)
        for n, first in enumerate(got):
            for m, last in enumerate(got[n:], 1):
                self.assertLessEqual(m, burst + (last - first) * per_second + 1e-6)
        self.assertGreaterEqual(len(got), min(burst, len(waits)))

    def test_bounded(self) -> None:
        """The oldest are forgotten, and may begin anew; who came lately is not."""
        self.patch(clients_module, "REMEMBERED", 100)
        rate = Rate(1, 1)
        self.assertTrue(rate.take(HOST, 0.0))
        for host in range(1000, 1050):
            rate.take(host, 0.0)
        self.assertFalse(rate.take(HOST, 0.0))  # remembered, and now a young one
        for host in range(2000, 2049):
            rate.take(host, 0.0)
        self.assertFalse(rate.take(HOST, 0.0))
        most = 0
        for host in range(10_000):
            rate.take(3000 + host, 0.0)
            most = max(most, len(rate._young) + len(rate._old))
        self.assertEqual(most, 101)
        self.assertTrue(rate.take(HOST, 0.0))

    def test_what_is_remembered_is_the_latest(self) -> None:
        self.patch(clients_module, "REMEMBERED", 100)
        rate = Rate(1, 2)
        self.assertTrue(rate.take(HOST, 0.0))
        for host in range(1000, 1050):
            rate.take(host, 0.0)
        self.assertIn(HOST, rate._old)
        self.assertEqual(self.taken(rate, 0.0), 1)

    def test_the_bound(self) -> None:
        """Some megabytes at most (see the comment of REMEMBERED)."""
        self.assertLessEqual(REMEMBERED, 1 << 17)


class RuleTests(SynchronousTestCase):
    def reason(self, clients: Clients, client: str, allow: Networks | None = None) -> Reason | None:
        return clients.admit(number_of(client), allow, 0.0)

    def test_everybody(self) -> None:
        for client in CLIENTS:
            self.assertIsNone(self.reason(Clients(), client))

    def test_allow(self) -> None:
        clients = Clients(networks("192.0.2.0/24", "2001:db8::/48"))
        for client in ("192.0.2.1", "::ffff:192.0.2.255", "2001:db8::1"):
            self.assertIsNone(self.reason(clients, client))
        for client in ("192.0.3.0", "::ffff:192.0.1.255", "2001:db8:1::", "::192.0.2.1"):
            self.assertIs(self.reason(clients, client), Reason.CLIENT_DENIED)

    def test_deny(self) -> None:
        """It wins over allow."""
        for allow in (None, networks("0.0.0.0/0", "::/0")):
            clients = Clients(allow, networks("192.0.2.1", "2001:db8::/64"))
            for client in ("192.0.2.1", "::ffff:192.0.2.1", "2001:db8::7"):
                self.assertIs(self.reason(clients, client), Reason.CLIENT_DENIED)
            for client in ("192.0.2.2", "2001:db8:0:1::"):
                self.assertIsNone(self.reason(clients, client))

    def test_empty_lists(self) -> None:
        """A list in which nothing stands (a file's, say) lets nobody in, or keeps nobody out."""
        self.assertIs(self.reason(Clients(networks()), "192.0.2.1"), Reason.CLIENT_DENIED)
        self.assertIsNone(self.reason(Clients(None, networks()), "192.0.2.1"))

    def test_the_listeners_own(self) -> None:
        """Both have to allow; deny is for all listeners."""
        own = networks("192.0.2.0/30")
        for clients, client, expected in (
            (Clients(), "192.0.2.1", None),
            (Clients(), "192.0.2.4", Reason.CLIENT_DENIED),
            (Clients(networks("192.0.2.0/24")), "192.0.2.1", None),
            (Clients(networks("192.0.2.0/24")), "192.0.2.4", Reason.CLIENT_DENIED),
            (Clients(networks("192.0.2.2")), "192.0.2.1", Reason.CLIENT_DENIED),
            (Clients(None, networks("192.0.2.1")), "192.0.2.1", Reason.CLIENT_DENIED),
        ):
            self.assertIs(self.reason(clients, client, own), expected, client)
        self.assertIs(self.reason(Clients(), "192.0.2.1", networks()), Reason.CLIENT_DENIED)

    def test_who_has_no_address(self) -> None:
        """A unix socket's client: its mode is the rule."""
        clients = Clients(networks(), networks("0.0.0.0/0"), most=1, rate=1, burst=1)
        for _ in range(5):
            self.assertIsNone(clients.admit(None, networks(), 0.0))
        # Where somebody should have named one, it is none of those that may come.
        self.assertIs(clients.admit(None, None, 0.0, named=True), Reason.CLIENT_DENIED)
        self.assertIsNone(Clients().admit(None, None, 0.0, named=True))
        clients.leave(None)
        self.assertEqual(clients._live, {})


class CrowdTests(SynchronousTestCase):
    def test_most(self) -> None:
        clients = Clients(most=2)
        self.assertEqual([clients.admit(A, None, 0.0) for _ in range(2)], [None, None])
        self.assertIs(clients.admit(A, None, 0.0), Reason.CLIENT_CROWD)
        self.assertIsNone(clients.admit(B, None, 0.0))
        clients.leave(A)
        self.assertIsNone(clients.admit(A, None, 0.0))
        self.assertIs(clients.admit(A, None, 1e9), Reason.CLIENT_CROWD)

    def test_no_limits(self) -> None:
        clients = Clients(most=0, rate=0)
        for _ in range(2000):
            self.assertIsNone(clients.admit(A, None, 0.0))

    def test_one_host(self) -> None:
        """A /64 is one client, and so is an IPv4 address in both of its spellings."""
        for one, two, same in (
            ("192.0.2.1", "::ffff:192.0.2.1", True),
            ("192.0.2.1", "192.0.2.0", False),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
            ("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", True),
            ("2001:db8::", "2001:db8:0:1::", False),
        ):
            for limits, reason in (
                ({"most": 1}, Reason.CLIENT_CROWD),
                ({"rate": 1.0, "burst": 1}, Reason.CLIENT_RATE),
            ):
                clients = Clients(**limits)
                self.assertIsNone(clients.admit(number_of(one), None, 0.0))
                refused = clients.admit(number_of(two), None, 0.0)
                self.assertIs(refused, reason if same else None, (one, two))

    def test_rate(self) -> None:
        clients = Clients(rate=2.0, burst=3)
        answers = [clients.admit(A, None, 10.0) for _ in range(4)]
        self.assertEqual(answers, [None, None, None, Reason.CLIENT_RATE])
        self.assertIsNone(clients.admit(B, None, 10.0))
        self.assertIsNone(clients.admit(A, None, 10.5))
        self.assertIs(clients.admit(A, None, 10.5), Reason.CLIENT_RATE)

    def test_who_is_refused_takes_nothing(self) -> None:
        """Neither of the rate, for who is denied or one too many; nor of the places."""
        clients = Clients(deny=networks("192.0.2.2"), most=1, rate=1.0, burst=2)
        for _ in range(5):
            self.assertIs(clients.admit(B, None, 0.0), Reason.CLIENT_DENIED)
        clients.deny = None
        self.assertIsNone(clients.admit(B, None, 0.0))
        for _ in range(5):
            self.assertIs(clients.admit(B, None, 0.0), Reason.CLIENT_CROWD)
        clients.leave(B)
        self.assertIsNone(clients.admit(B, None, 0.0))
        clients.leave(B)
        self.assertIs(clients.admit(B, None, 0.0), Reason.CLIENT_RATE)
        self.assertEqual(clients._live, {})

    @settings(max_examples=100)
    @given(
        st.integers(0, 3),
        st.integers(0, 3),
        st.lists(st.tuples(st.sampled_from(CLIENTS), st.integers(0, 2)), max_size=60),
    )
    def test_balance(self, most: int, rate: int, steps: list[tuple[str, int]]) -> None:
        """Whatever comes and goes: each is counted once, and after the last nothing is left."""
        clients = Clients(deny=networks("198.51.100.0/24"), most=most, rate=rate, burst=4)
        inside: list[int] = []
        now = 0.0
        for client, choice in steps:
            number = number_of(client)
            if choice == 0 and number in inside:
                inside.remove(number)
                clients.leave(number)
            else:
                now += choice
                refusal = clients.admit(number, None, now)
                here = sum(host_of(n) == host_of(number) for n in inside)
                if client == "198.51.100.1":
                    self.assertIs(refusal, Reason.CLIENT_DENIED)
                elif most and here >= most:
                    self.assertIs(refusal, Reason.CLIENT_CROWD)
                elif not rate:
                    self.assertIsNone(refusal)
                else:
                    self.assertIn(refusal, (None, Reason.CLIENT_RATE))
                if refusal is None:
                    inside.append(number)
            self.assertEqual(sum(clients._live.values()), len(inside))
            self.assertEqual(len(clients._live), len({host_of(n) for n in inside}))
        for number in inside:
            clients.leave(number)
        self.assertEqual(clients._live, {})
