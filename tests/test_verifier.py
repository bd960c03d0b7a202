"""Verifier: what is checked and what is remembered, a few at a time, in threads of their own."""

import os
import sys
import threading
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import CancelledError, gatherResults
from twisted.trial.unittest import TestCase

from tests.builders import ledger_and_time
from tests.http_peers import TurningClock
from tests.peers import until
from tests.support import log_lines
from tests.user_support import Gate, hash_of, write_users
from whatsproxy import turns as turns_module
from whatsproxy.http1.credentials import Credentials
from whatsproxy.networks import number_of
from whatsproxy.users import UsersError
from whatsproxy.verifier import (
    NICE,
    QUEUE,
    RIGHT_KEPT,
    THREADS,
    WRONG_KEPT,
    BusyError,
    Verifier,
)


def host(n: int) -> int:
    return number_of(f"192.0.2.{n}")


def credentials(user: str, password: str) -> Credentials:
    return Credentials(user.encode(), password.encode())


ALICE, WRONG = credentials("alice", "wonder"), credentials("alice", "other")
NOBODY = credentials("nobody", "wonder")


class VerifierCase(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.clock = TurningClock()
        self.ledger, _ = ledger_and_time()
        self.path = write_users(self.mktemp(), alice="wonder", bob="builder")
        self.verifier = Verifier(self.clock, self.path, self.ledger)
        self.verifier.load()
        self.gate = Gate(self)

    async def asked(self, *asked: Credentials) -> list[bool]:
        """Ask as HTTP does: what is not remembered is checked."""
        found = []
        for each in asked:
            known = self.verifier.remembered(each)
            found.append(await self.verifier.check(each) if known is None else known)
        return found

    def assertLogins(self, **counts: int) -> None:
        self.assertEqual(self.ledger.logins, {"ok": 0, "failed": 0, "busy": 0} | counts)

    def assertNothingIsLeft(self) -> None:
        verifier = self.verifier
        waiting = len(verifier._turns)
        self.assertEqual((verifier._checks, waiting, verifier._running), ({}, 0, 0))


class CheckTests(VerifierCase):
    async def test_right_and_wrong(self) -> None:
        self.assertEqual(await self.asked(ALICE, WRONG, NOBODY), [True, False, False])
        self.assertLogins(ok=1, failed=2)
        self.assertNothingIsLeft()

    async def test_not_in_the_reactors_thread(self) -> None:
        """And not one that Python would unwind at the end of the process, which Rust aborts at."""
        await self.asked(ALICE, NOBODY)
        for thread in self.gate.threads:
            self.assertIsNot(thread, threading.current_thread())
            self.assertFalse(thread.daemon)

    async def test_the_others_go_first(self) -> None:
        if sys.platform != "linux":
            return
        before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        await self.asked(ALICE)
        self.assertEqual(self.gate.priorities, [min(19, max(before, NICE))])
        self.assertEqual(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), before)

    async def test_a_few_at_a_time(self) -> None:
        self.gate.close()
        waiting = [
            self.verifier.check(credentials("alice", f"word{n}"), host(n)) for n in range(10)
        ]
        await until(lambda: len(self.gate.checked) == THREADS)
        self.assertEqual(self.verifier._running, THREADS)
        self.gate.open()
        for each in waiting:
            self.assertFalse(await each)
        self.assertEqual(len(self.gate.checked), 10)
        self.assertNothingIsLeft()

    async def test_too_many(self) -> None:
        """Those that wait already are checked all the same, and then there is room again."""
        self.gate.close()
        most = THREADS + QUEUE
        waiting = [
            self.verifier.check(credentials("alice", f"word{n}"), host(n)) for n in range(most)
        ]
        for _ in range(3):
            self.assertRaises(BusyError, self.verifier.check, ALICE)
        # Who asks for what is under way takes no place.
        waiting.append(self.verifier.check(credentials("alice", "word5")))
        self.gate.open()
        for each in waiting:
            self.assertFalse(await each)
        self.assertEqual(await self.asked(ALICE), [True])
        self.assertLogins(ok=1, failed=most + 1, busy=3)
        self.assertNothingIsLeft()

    async def test_one_check_for_all_who_ask_meanwhile(self) -> None:
        self.gate.close()
        waiting = [self.verifier.check(ALICE) for _ in range(5)]
        self.gate.open()
        self.assertEqual([await each for each in waiting], [True] * 5)
        self.assertEqual(self.gate.checked, [b"wonder"])
        self.assertLogins(ok=5)

    async def test_one_site(self) -> None:
        """It may have all places; but others get theirs, and are told in a later turn who lost."""
        self.gate.close()
        site = number_of("2001:db8:1::1")
        guesses = [
            self.verifier.check(credentials("alice", f"word{n}"), site + (n << 64))
            for n in range(THREADS + QUEUE)
        ]
        self.assertRaises(BusyError, self.verifier.check, WRONG, site)
        others = [
            self.verifier.check(credentials("bob", other), number_of(other))
            for other in ("2001:db8:2::1", "192.0.2.1", "192.0.2.2")
        ]
        lost = guesses[-len(others) :]
        self.assertFalse(any(each.called for each in guesses))
        lost[0].cancel()
        self.failureResultOf(lost[0], CancelledError)
        for each in lost[1:]:
            await self.assertFailure(each, BusyError)
        self.gate.open()
        for each in guesses[: -len(others)] + others:
            self.assertFalse(await each)
        self.assertLogins(failed=THREADS + QUEUE, busy=len(lost))
        words = [word for word in self.gate.checked[: THREADS + 6] if b"word" in word]
        self.assertEqual(len(words), THREADS + 3)  # one of each in turn
        self.assertNothingIsLeft()

    async def test_who_has_guessed_wrong_comes_last(self) -> None:
        """And a crowd of those makes room for others."""
        crowd = [host(n) for n in range(QUEUE)]
        for n, client in enumerate(crowd):
            self.assertFalse(await self.verifier.check(credentials("alice", f"first{n}"), client))
        self.gate.checked.clear()
        self.gate.close()
        clients = [*crowd, *crowd[:THREADS]]
        guesses = [
            self.verifier.check(credentials("alice", f"word{n}"), client)
            for n, client in enumerate(clients)
        ]
        honest = self.verifier.check(ALICE, number_of("198.51.100.1"))
        self.gate.open()
        self.assertTrue(await honest)
        self.assertLess(self.gate.checked.index(b"wonder"), 2 * THREADS)
        await gatherResults([each.addErrback(lambda f: f.trap(BusyError)) for each in guesses])
        self.assertEqual(self.ledger.logins["busy"], 1)
        self.assertNothingIsLeft()

    async def test_who_guesses_and_goes(self) -> None:
        """He has guessed all the same; who has to go in the queue, or was right, has not."""
        self.gate.close()
        asked = (WRONG, host(1)), (ALICE, host(2)), (NOBODY, host(3))
        for each in [self.verifier.check(*each) for each in asked]:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.gate.open()
        await until(lambda: not self.verifier._running)
        turns = self.verifier._turns
        self.assertEqual(list(turns._wrong._until), [host(1)])
        self.assertEqual(list(turns._right._until), [host(2)])

    async def test_names_and_passwords_are_not_mixed_up(self) -> None:
        """Only what is the same in both is one check."""
        self.gate.close()
        pairs = [("a", "b:c"), ("a", "bc"), ("ab", "c"), ("", "abc"), ("abc", "")]
        waiting = [self.verifier.check(credentials(*pair)) for pair in pairs]
        self.gate.open()
        for each in waiting:
            await each
        self.assertEqual(len(self.gate.checked), len(pairs))

    async def test_cancelled(self) -> None:
        """Nobody hears of it; what waits for its turn is not checked at all."""
        self.gate.close()
        running = [self.verifier.check(credentials("alice", f"word{n}")) for n in range(THREADS)]
        queued, stays = self.verifier.check(WRONG), self.verifier.check(ALICE)
        also = self.verifier.check(ALICE)
        for each in (*running, queued, also):
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assertEqual(len(self.verifier._turns), 1)
        self.gate.open()
        self.assertTrue(await stays)
        await until(lambda: not self.verifier._running)
        self.assertEqual(sorted(self.gate.checked), [b"wonder", b"word0", b"word1"])
        self.assertLogins(ok=1)
        self.assertNothingIsLeft()

    async def test_one_answer_ends_another(self) -> None:
        """Who hears it may be the end of who would hear it next."""
        self.gate.close()
        first, second = self.verifier.check(ALICE), self.verifier.check(ALICE)
        first.addCallback(lambda _: second.cancel())
        self.gate.open()
        await first
        await self.assertFailure(second, CancelledError)
        self.assertNothingIsLeft()

    async def test_no_more_threads(self) -> None:
        with patch.object(threading.Thread, "start", side_effect=RuntimeError("no threads")):
            waiting = self.verifier.check(ALICE)
            await self.assertFailure(waiting, BusyError)
        self.assertLogins(busy=1)
        self.assertNothingIsLeft()
        self.assertEqual(await self.asked(ALICE), [True])

    async def test_an_unexpected_error_is_an_answer_too(self) -> None:
        self.gate.error = ZeroDivisionError("a bug")
        await self.assertFailure(self.verifier.check(ALICE), ZeroDivisionError)
        self.assertNothingIsLeft()
        self.gate.error = None
        self.assertEqual(await self.asked(ALICE), [True])


class MemoryTests(VerifierCase):
    async def test_right_ones(self) -> None:
        """For so long after they were used last."""
        await self.asked(ALICE)
        for _ in range(5):
            self.clock.advance(RIGHT_KEPT - 1)
            self.assertEqual(await self.asked(ALICE), [True])
        self.assertEqual(len(self.gate.checked), 1)
        self.clock.advance(RIGHT_KEPT)
        await self.asked(ALICE)
        self.assertEqual(len(self.gate.checked), 2)
        self.assertLogins(ok=7)

    async def test_wrong_ones(self) -> None:
        """For so long after they were checked: who asks again and again is not told longer."""
        await self.asked(WRONG, NOBODY)
        self.clock.advance(WRONG_KEPT - 0.1)
        self.assertEqual(await self.asked(WRONG, NOBODY), [False, False])
        self.assertEqual(len(self.gate.checked), 2)
        self.clock.advance(0.1)
        await self.asked(WRONG)
        self.assertEqual(len(self.gate.checked), 3)
        self.assertLogins(failed=5)

    async def test_a_limited_number(self) -> None:
        """And wrong ones, of which there are any number, do not displace right ones."""
        self.patch(turns_module, "MEMORY", 3)
        await self.asked(ALICE)
        wrong = [credentials("alice", f"word{n}") for n in range(5)]
        await self.asked(*wrong)
        self.assertEqual(len(self.verifier._wrong._until), 3)
        known = [self.verifier.remembered(each) for each in (ALICE, *wrong)]
        self.assertEqual(known, [True, None, None, False, False, False])

    async def test_no_password_is_kept(self) -> None:
        """Nor what could be looked up in a table: another process has other digests."""
        other = Verifier(self.clock, self.path, self.ledger)
        await self.asked(ALICE, WRONG)
        kept = [*self.verifier._right._until, *self.verifier._wrong._until]
        self.assertEqual(len(kept), 2)
        for digest in kept:
            self.assertEqual(len(digest), 32)
            for word in (b"alice", b"wonder", b"other"):
                self.assertNotIn(word, digest)
        self.assertNotEqual(other._digest(ALICE), self.verifier._digest(ALICE))


class FileTests(VerifierCase):
    async def test_read_anew(self) -> None:
        """What was remembered is forgotten."""
        self.assertEqual(await self.asked(ALICE, WRONG), [True, False])
        self.assertFalse(self.verifier.changed())
        write_users(self.path, alice="other")
        self.assertTrue(self.verifier.changed())
        self.assertEqual(await self.asked(ALICE, WRONG), [True, False])
        self.verifier.load()
        self.assertFalse(self.verifier.changed())
        self.assertEqual(await self.asked(ALICE, WRONG), [False, True])

    async def test_a_bad_file(self) -> None:
        """The old one stays."""
        write_users(self.path, b"nonsense")
        self.assertRaises(UsersError, self.verifier.load)
        self.assertFalse(self.verifier.changed())
        self.assertEqual(await self.asked(ALICE), [True])
        os.unlink(self.path)
        self.assertTrue(self.verifier.changed())
        self.assertRaises(UsersError, self.verifier.load)
        self.assertEqual(await self.asked(ALICE), [True])

    async def test_read_anew_in_the_middle_of_a_check(self) -> None:
        """The answer is that of the new file, and nothing else is remembered."""
        self.gate.close()
        waiting = [self.verifier.check(each) for each in (ALICE, WRONG)]
        gone = self.verifier.check(credentials("bob", "builder"))
        await until(lambda: len(self.gate.checked) == THREADS)
        write_users(self.path, alice="other")
        self.verifier.load()
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.gate.open()
        self.assertEqual([await each for each in waiting], [False, True])
        self.assertEqual([self.verifier.remembered(each) for each in (ALICE, WRONG)], [False, True])
        self.assertNothingIsLeft()

    async def test_remembered_over_a_new_file(self) -> None:
        """Whose hash is the same need not come again; whose is not must."""
        self.assertEqual(await self.asked(ALICE, credentials("bob", "builder")), [True, True])
        lines = Path(self.path).read_text().splitlines()
        (alices,) = [line for line in lines if line.startswith("alice:")]
        write_users(self.path, bob="builder")
        with open(self.path, "a") as file:
            file.write(f"{alices}\n")
        self.verifier.load()
        self.assertTrue(self.verifier.remembered(ALICE))
        self.assertIsNone(self.verifier.remembered(credentials("bob", "builder")))

    async def test_of_the_old_file_nothing_is_remembered(self) -> None:
        self.gate.close()
        gone = self.verifier.check(ALICE)
        await until(lambda: self.gate.checked)
        self.verifier.load()
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.gate.open()
        await until(lambda: not self.verifier._running)
        self.assertIsNone(self.verifier.remembered(ALICE))
        self.assertNothingIsLeft()

    def said(self, *more: bytes) -> list[str]:
        write_users(self.path, *more, alice="wonder")
        self.verifier.load()
        lines = log_lines(self)
        self.verifier.announce()
        return lines

    def test_what_is_said(self) -> None:
        self.assertEqual(self.said(), [f"users of the HTTP proxy: 1 in {self.path}"])

    def test_different_costs(self) -> None:
        """They can be told apart by the time that they take."""
        told, warned = self.said(b"bob:" + hash_of(b"x", 6), b"eve:" + hash_of(b"x", 5))
        self.assertIn(": 3 in", told)
        self.assertIn("different costs (4, 5, 6)", warned)
        for secret in ("alice", "$"):
            self.assertNotIn(secret, told + warned)

    def test_before_it_was_read(self) -> None:
        """There is nobody."""
        verifier: Any = Verifier(self.clock, self.path, self.ledger)
        self.assertEqual(verifier._users.hashes, {})
        self.assertTrue(verifier.changed())
