"""Whose turn it is: one each of those that wait, the suspect last, and nobody is kept out."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from whatsproxy import turns as turns_module
from whatsproxy.networks import number_of
from whatsproxy.turns import RIGHT, WRONG, Memory, Turns, site_of

NOW = 1000.0
A, B, C = 1, 2, 3


class TurnsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.turns: Turns[str] = Turns(6)

    def put(self, *items: str, now: float = NOW) -> list[str | None]:
        """Let items wait, named by their site, as in "1a"; return what has to go for each."""
        return [self.turns.put(int(item[0]), item, now) for item in items]

    def rest(self, now: float = NOW) -> list[str]:
        """Return all that wait, in their order."""
        return [self.turns.take(now) for _ in range(len(self.turns))]


class OrderTests(TurnsCase):
    def test_one_site(self) -> None:
        self.put("1a", "1b", "1c")
        self.assertEqual(self.rest(), ["1a", "1b", "1c"])

    def test_one_of_each_in_turn(self) -> None:
        self.put("1a", "1b", "1c", "2a", "2b", "3a")
        self.assertEqual(self.rest(), ["1a", "2a", "3a", "1b", "2b", "1c"])

    def test_who_comes_again_stands_behind_the_others(self) -> None:
        self.put("1a", "2a", "2b")
        self.turns.take(NOW)
        self.put("1b")
        self.assertEqual(self.rest(), ["2a", "1b", "2b"])

    def test_by_what_came_of_it_before(self) -> None:
        """Wrong ones last, whatever they wait for already; right ones first; for so long."""
        self.put("1a", "1b", "2a", "3a")
        self.turns.note(A, NOW, right=False)
        self.turns.note(C, NOW, right=True)
        self.assertEqual(self.rest(), ["3a", "2a", "1a", "1b"])
        for now, order in (
            (NOW + WRONG - 1, ["3a", "2a", "1a"]),
            (NOW + WRONG, ["3a", "1a", "2a"]),
            (NOW + RIGHT - 1, ["3a", "1a", "2a"]),
            (NOW + RIGHT, ["1a", "2a", "3a"]),
        ):
            self.put("1a", "2a", "3a")
            self.assertEqual(self.rest(now), order, now)

    def test_right_ones_do_not_make_up_for_wrong_ones(self) -> None:
        """Else one account would do to come before everybody with guesses at another."""
        for right in (False, True):
            self.turns.note(A, NOW, right=right)
        self.put("1a", "2a")
        self.assertEqual(self.rest(), ["2a", "1a"])


class FullTests(TurnsCase):
    def test_one_site_may_have_all(self) -> None:
        """But no more."""
        self.assertEqual(self.put(*[f"1{n}" for n in range(6)]), [None] * 6)
        self.assertEqual(self.put("1x"), ["1x"])
        self.assertEqual(self.rest(), [f"1{n}" for n in range(6)])

    def test_others_get_their_part_of_it(self) -> None:
        """Of who has the most the last has to go; who has as many goes away himself."""
        self.put(*[f"1{n}" for n in range(6)])
        gone = self.put("2a", "2b", "2c", "2d", "3a", "3b", "3c")
        self.assertEqual(gone, ["15", "14", "13", "2d", "2c", "12", "3c"])
        self.assertEqual(self.rest(), ["10", "2a", "3a", "11", "2b", "3b"])

    def test_as_many_sites_as_places(self) -> None:
        self.put(*[f"{n}a" for n in range(1, 7)])
        self.assertEqual(self.put("7a", "1b"), ["7a", "1b"])

    def test_the_suspect_make_room(self) -> None:
        """First those, however few each has; and not for one of their own kind."""
        self.put("1a", "2a", "3a", "3b", "3c", "3d")
        for site in (A, B, 5, 6):
            self.turns.note(site, NOW, right=False)
        self.assertEqual(self.put("5a"), ["5a"])
        self.assertEqual(self.put("4a", "4b"), ["2a", "1a"])
        self.assertEqual(self.put("6a"), ["6a"])
        self.turns.note(7, NOW, right=True)
        self.assertEqual(self.put("7a"), ["3d"])

    def test_taken_out(self) -> None:
        self.put("1a", "1b", "2a")
        for site, item, there in ((A, "1a", True), (A, "1a", False), (B, "1b", False)):
            self.assertIs(self.turns.remove(site, item), there)
        self.assertTrue(self.turns.remove(B, "2a"))
        self.assertEqual(len(self.turns), 1)
        self.assertEqual((self.rest(), self.turns._sites), (["1b"], {}))

    @given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from("pptnwr"))))
    def test_laws(self, steps: list[tuple[int, str]]) -> None:
        """Nothing is lost or there twice; never too many; who has least waits, if not suspect."""
        turns: Turns[int] = Turns(4)
        inside: dict[int, int] = {}
        suspect: set[int] = set()
        for item, (site, step) in enumerate(steps):
            if step == "p":
                mine = list(inside.values()).count(site)
                goes = turns.put(site, item, NOW)
                inside[item] = site
                if goes is not None:
                    self.assertEqual(len(inside), 5)
                    del inside[goes]
                if not mine and not suspect & {site} and len(set(inside.values())) < 4:
                    self.assertIn(item, inside)
            elif step == "t" and inside:
                del inside[turns.take(NOW)]
            elif step == "n":
                turns.note(site, NOW, right=False)
                suspect.add(site)
            elif inside:
                one = next(iter(inside))
                self.assertTrue(turns.remove(inside.pop(one), one))
            self.assertEqual(len(turns), len(inside))
        self.assertEqual({turns.take(NOW) for _ in range(len(turns))}, set(inside))
        self.assertEqual(turns._sites, {})


class CrowdTests(SynchronousTestCase):
    def test_a_thousand_sites(self) -> None:
        """All guess, always, eight turns a second: who was right before never waits for them, and
        newcomers no longer than until each of them has guessed once."""
        turns: Turns[tuple[int, int]] = Turns(64)
        turns.note(-1, NOW, right=True)
        for second in range(630):  # some are not suspect any more then
            now = NOW + second
            for site in range(second * 137, second * 137 + 80):
                turns.put(site % 1000, (site % 1000, second), now)
            honest = {(-1, second)} if second < 160 else {(-1, second), (-2 - second, second)}
            for item in honest:
                self.assertNotEqual(turns.put(item[0], item, now), item, second)
            taken = [turns.take(now) for _ in range(8)]
            self.assertLessEqual(honest, set(taken))
            for site, _ in taken:
                turns.note(site, now, right=site < 0)


class MemoryTests(SynchronousTestCase):
    def test_bounded(self) -> None:
        """The oldest goes; who comes again is not the oldest."""
        self.patch(turns_module, "MEMORY", 3)
        memory: Memory[int] = Memory(10.0)
        for key in (1, 2, 3, 1, 4):
            memory.add(key, NOW)
        self.assertEqual([memory.has(key, NOW) for key in (1, 2, 3, 4)], [True, False, True, True])
        self.assertEqual([memory.has(1, NOW + 9.9), memory.has(1, NOW + 10)], [True, False])


class SiteTests(SynchronousTestCase):
    def test_sites(self) -> None:
        """An address in IPv4, a /48 in IPv6, and one for who has no address."""
        sites = (
            ("192.0.2.1", "::ffff:192.0.2.1"),
            ("192.0.2.2",),
            ("2001:db8:1::1", "2001:db8:1:ffff:ffff::1"),
            ("2001:db8:2::1",),
            ("::1",),
        )
        found = [{site_of(number_of(address)) for address in site} for site in sites]
        found.append({site_of(None)})
        self.assertEqual([len(each) for each in found], [1] * 6)
        self.assertEqual(len(set().union(*found)), 6)
