import resource

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from whatsproxy.descriptors import (
    PER_CONNECTION,
    RESERVE,
    DescriptorError,
    arithmetic,
    fit,
    raise_limit,
)


class FitTests(SynchronousTestCase):
    def test_table(self) -> None:
        for connections, limit, fitting in (
            (27500, None, 27500),
            (27500, 1_048_576, 27500),
            (27500, 55064, 27500),
            (27500, 55063, 27499),
            (27500, 1024, 480),
            (1, 66, 1),
            (10, 67, 1),
        ):
            self.assertEqual(fit(connections, limit), fitting)

    def test_not_even_one(self) -> None:
        for limit in (0, 20, RESERVE, RESERVE + 1):
            with self.assertRaisesRegex(DescriptorError, rf"{limit} .*{RESERVE}"):
                fit(1, limit)

    @given(st.integers(1, 10**7), st.integers(0, 10**7))
    def test_as_many_as_fit_and_no_more(self, connections: int, limit: int) -> None:
        try:
            fitting = fit(connections, limit)
        except DescriptorError:
            self.assertLess(limit, PER_CONNECTION + RESERVE)
            return
        self.assertLessEqual(fitting * PER_CONNECTION + RESERVE, limit)
        self.assertLessEqual(fitting, connections)
        if fitting < connections:
            self.assertGreater((fitting + 1) * PER_CONNECTION + RESERVE, limit)

    def test_arithmetic(self) -> None:
        text = arithmetic(27500, 1024)
        for part in ("27500", "x 2 ", "64", "55064", "1024", "ulimit -n"):
            self.assertIn(part, text)
        self.assertNotIn("\n", text)


class RaiseLimitTests(SynchronousTestCase):
    """On an imagined system: the limits of this process stay as they are."""

    def limits(self, soft: int, hard: int, refusal: type[Exception] | None = None) -> list[object]:
        was_set: list[object] = []

        def setrlimit(which: int, limits: tuple[int, int]) -> None:
            self.assertEqual(which, resource.RLIMIT_NOFILE)
            was_set.append(limits)
            if refusal is not None:
                raise refusal

        self.patch(resource, "getrlimit", lambda which: (soft, hard))
        self.patch(resource, "setrlimit", setrlimit)
        return was_set

    def test_raised(self) -> None:
        was_set = self.limits(1024, 4096)
        self.assertEqual(raise_limit(), 4096)
        self.assertEqual(was_set, [(4096, 4096)])

    def test_already_there(self) -> None:
        was_set = self.limits(4096, 4096)
        self.assertEqual(raise_limit(), 4096)
        self.assertEqual(was_set, [])

    def test_capped_by_the_system(self) -> None:
        for refusal in (OSError, ValueError):
            self.limits(1024, 4096, refusal)
            self.assertEqual(raise_limit(), 1024)

    def test_no_limit(self) -> None:
        self.limits(1024, resource.RLIM_INFINITY)
        self.assertIsNone(raise_limit())
        self.limits(resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        self.assertIsNone(raise_limit())
        self.limits(1024, resource.RLIM_INFINITY, OSError)
        self.assertEqual(raise_limit(), 1024)
