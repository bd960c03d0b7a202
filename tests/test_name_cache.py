"""NameCache: what is known holds for its time, and the least used of too many is forgotten."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from whatsproxy.name_cache import NameCache

LIMIT = 4


class NameCacheTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.cache = NameCache(LIMIT)

    def addresses(self, name: str, now: float) -> Any:
        known = self.cache.get(name, now)
        return None if known is None else known.addresses

    def test_for_its_time(self) -> None:
        self.cache.put("a.test", ["192.0.2.1"], 10, 100)
        self.assertEqual(self.addresses("a.test", 109.9), ["192.0.2.1"])
        self.assertIsNone(self.addresses("a.test", 110))
        self.assertEqual(len(self.cache), 0)

    def test_errors(self) -> None:
        self.cache.put("a.test", "no address", 10, 100)
        known = self.cache.get("a.test", 100)
        assert known is not None
        self.assertEqual((known.addresses, known.error), (None, "no address"))

    def test_a_clock_that_was_put_back_lengthens_nothing(self) -> None:
        self.cache.put("a.test", ["192.0.2.1"], 10, 100)
        self.assertIsNone(self.addresses("a.test", 99))

    def test_the_least_used_goes(self) -> None:
        for name in "abcd":
            self.cache.put(name, [name], 10, 0)
        self.addresses("a", 1)
        self.cache.put("b", ["again"], 10, 1)
        for name in "ef":
            self.cache.put(name, [name], 10, 1)
        there = [name for name in "abcdef" if self.addresses(name, 2)]
        self.assertEqual(there, ["a", "b", "e", "f"])

    def test_clear(self) -> None:
        self.cache.put("a.test", ["192.0.2.1"], 10, 100)
        self.cache.clear()
        self.assertIsNone(self.addresses("a.test", 100))

    @settings(deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(("put", "get")),
                st.sampled_from("abcdefgh"),
                st.integers(1, 5),  # seconds to live
                st.integers(0, 2),  # seconds that pass
            ),
            min_size=10,
        )
    )
    def test_law(self, steps: list[tuple[str, str, int, int]]) -> None:
        """It is the model: a list of names in the order of their use, the last LIMIT of them."""
        cache, model, now = NameCache(LIMIT), dict[str, tuple[int, int]](), 0
        for number, (step, name, seconds, passing) in enumerate(steps):
            now += passing
            if step == "put":
                cache.put(name, [str(number)], seconds, now)
                model.pop(name, None)
                model[name] = (number, now + seconds)
                if len(model) > LIMIT:
                    del model[next(iter(model))]
                continue
            known = cache.get(name, now)
            expected = model.pop(name, None)
            if expected is not None and now < expected[1]:
                model[name] = expected
                self.assertEqual(known and known.addresses, [str(expected[0])])
            else:
                self.assertIsNone(known)
            self.assertEqual(len(cache), len(model))
