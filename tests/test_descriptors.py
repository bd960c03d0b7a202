import errno
import os
import resource
from typing import Any
from unittest.mock import Mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from whatsproxy import descriptors, resolver, web
from whatsproxy.descriptors import (
    EXHAUSTED,
    FILES,
    KEPT,
    PER_CONNECTION,
    RESERVE,
    USES,
    DescriptorError,
    arithmetic,
    below,
    fit,
    low,
    raise_limit,
    room,
    short,
)


class FitTests(SynchronousTestCase):
    def test_table(self) -> None:
        for connections, limit, fitting in (
            (27500, None, 27500),
            (27500, 1_048_576, 27500),
            (27500, 55128, 27500),
            (27500, 55127, 27499),
            (27500, 1024, 448),
            (1, 130, 1),
            (10, 131, 1),
        ):
            self.assertEqual(fit(connections, limit), fitting)

    def test_not_even_one(self) -> None:
        for limit in (0, 20, 100, RESERVE, RESERVE + 1):
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
        for part in ("27500", "x 2 ", "128", "55128", "1024", "ulimit -n"):
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


class BelowTests(SynchronousTestCase):
    def test_below(self) -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        for number, kept, expected in (
            (0, 10, True),
            (limit - 11, 10, True),
            (limit - 10, 10, False),
            (limit, 0, False),
        ):
            with self.subTest(number=number, kept=kept):
                self.assertIs(below(number, kept), expected)

    def test_a_limit_that_is_lowered(self) -> None:
        """It is seen before as many descriptors are taken as are kept."""
        self.assertLess(USES, KEPT)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(descriptors._known.look)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        number = limits[0] - 100
        self.assertTrue(below(number, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, limits[1]))
        self.assertIn(False, [below(number, 0) for _ in range(USES)])


class RoomTests(SynchronousTestCase):
    """What is left, by opening it for a moment."""

    def setUp(self) -> None:
        self.limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        # All free numbers are above this one, as they are after a start.
        self.held = [os.open("/", os.O_RDONLY)]
        while self.held[-1] < 100:
            self.held.append(os.open("/", os.O_RDONLY))
        for number in self.held:
            self.addCleanup(os.close, number)
        self.lowest = self.held[-1] + 1

    def leave(self, count: int) -> None:
        """Let this process have so many more."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.lowest + count, self.limits[1]))
        self.addCleanup(descriptors._known.look)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, self.limits)
        descriptors._known.uses = 0  # it is read again before long anyway

    def test_what_is_kept(self) -> None:
        """Look-ups and readers of the metrics fit in, and the arithmetic leaves place for all."""
        self.assertLessEqual(FILES + web.CONNECTIONS + resolver.CLIENT_LOOKUPS, KEPT)
        self.assertLess(KEPT, RESERVE)

    def test_room(self) -> None:
        self.leave(20)
        for wanted, kept, found in (
            (1, 0, 1),
            (30, 0, 20),
            (20, 0, 20),
            (30, 8, 12),
            (12, 8, 12),
            (1, 19, 1),
            (1, 20, 0),
            (1, 1000, 0),
        ):
            self.assertEqual(room(wanted, kept), found, (wanted, kept))
            self.assertEqual(room(30, 0), 20, "something stays open")
        for ask in (short, low):
            self.assertEqual([ask(kept) for kept in (0, 19, 20)], [False, False, True])
            self.assertTrue(ask())
        self.assertEqual(room(30, 0), 20, "something stays open")

    def test_a_hole(self) -> None:
        """Numbers that have come free below the others count, too."""
        self.leave(10)
        os.close(self.held[-3])
        try:
            self.assertEqual((room(30, 0), room(30, 10), short(10)), (11, 1, False))
        finally:
            self.assertEqual(os.open("/", os.O_RDONLY), self.held[-3])

    def test_none(self) -> None:
        self.leave(0)
        self.assertEqual((room(3, 0), short(0), low(0)), (0, True, True))

    def test_without_standard_input(self) -> None:
        """Then the answer takes longer."""
        self.leave(20)
        self.patch(os, "dup", Mock(side_effect=OSError(errno.EBADF, "no such descriptor")))
        self.assertEqual([low(kept) for kept in (19, 20)], [False, True])

    def test_no_limit(self) -> None:
        self.patch(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
        self.assertEqual(room(10), 10)

    def test_what_the_system_says(self) -> None:
        """The whole system's being short counts; what else may be wrong with a probe does not."""

        def refuse(*_: Any) -> int:
            raise OSError(number, os.strerror(number))

        self.patch(os, "open", refuse)
        for number in (*EXHAUSTED, errno.EACCES):
            self.assertEqual(short(), number != errno.EACCES)
        self.assertLessEqual({errno.EMFILE, errno.ENFILE}, EXHAUSTED)
