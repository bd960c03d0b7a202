"""Resolver: one look-up a name, a lane of their own for the operator's names, and no waiting."""

import errno
import socket
import threading
from typing import Any
from unittest.mock import patch

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from tests.peers import until
from whatsproxy import resolver
from whatsproxy.descriptors import NoDescriptorsError
from whatsproxy.resolver import ADDRESSES, CLIENT_LOOKUPS, FAILED, KEEP, ResolutionError, Resolver


class Names:
    """In getaddrinfo's place: knows some names at once, and others when they are released."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.released = threading.Event()
        self.answers: dict[str, Any] = {}

    def getaddrinfo(self, host: bytes, port: None, *, type: int) -> list[Any]:
        name = host.decode("ascii")
        self.asked.append(name)
        answer = self.answers.get(name)
        if answer is None:
            self.released.wait(20)
            answer = ["192.0.2.1"]
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET, type, 6, "", (address, 0)) for address in answer]


class Reactor(Clock):
    """Time by hand, threads by the reactor that runs the tests."""

    def callFromThread(self, call: Any, *arguments: Any) -> None:
        reactor.callFromThread(call, *arguments)


class ResolverTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.names = Names()
        self.patch(resolver.socket, "getaddrinfo", self.names.getaddrinfo)
        self.addCleanup(self.names.released.set)
        self.clock = Reactor()
        self.resolver = Resolver(self.clock, ["chat.test"])

    async def test_addresses_once_each(self) -> None:
        self.names.answers["a.test"] = ["2001:db8::1", "192.0.2.1", "2001:db8::1"]
        self.assertEqual(await self.resolver.resolve("a.test"), ["2001:db8::1", "192.0.2.1"])

    async def test_thousands(self) -> None:
        """The best of them: each costs time later."""
        many = [f"192.0.{n >> 8}.{n & 255}" for n in range(4000)]
        self.names.answers["a.test"] = many
        self.assertEqual(await self.resolver.resolve("a.test"), many[:ADDRESSES])

    async def test_no_descriptors(self) -> None:
        """What the system says then is not what it seems, unless it says so."""
        for error, left in (
            (OSError(errno.EMFILE, "Too many open files"), True),
            (OSError(errno.ENFILE, "Too many open files in system"), True),
            (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), False),
            (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), False),
        ):
            self.names.answers["a.test"] = error
            self.patch(resolver, "short", lambda kept, left=left: not (left or kept))
            with self.assertRaisesRegex(NoDescriptorsError, "look up a.test"):
                await self.resolver.resolve("a.test")

    async def test_no_address(self) -> None:
        self.names.answers["a.test"] = socket.gaierror(-2, "Name or service not known")
        with self.assertRaisesRegex(ResolutionError, "a.test has no address: Name or service"):
            await self.resolver.resolve("a.test")

    async def test_an_unexpected_error_is_an_answer_too(self) -> None:
        self.names.answers["a.test"] = ZeroDivisionError("a bug")
        with self.assertRaisesRegex(ZeroDivisionError, "a bug"):
            await self.resolver.resolve("a.test")

    async def test_names_that_idna_2003_would_refuse_reach_the_system(self) -> None:
        for name in ("_a_.test", "aa--b.test", "xn--aaaaa.test"):
            self.names.answers[name] = ["192.0.2.1"]
            self.assertEqual(await self.resolver.resolve(name), ["192.0.2.1"])

    async def test_one_look_up_for_all_who_ask_meanwhile(self) -> None:
        waiting = [self.resolver.resolve("a.test") for _ in range(5)]
        self.names.released.set()
        self.assertEqual([await w for w in waiting], [["192.0.2.1"]] * 5)
        self.assertEqual(self.names.asked, ["a.test"])

    async def test_cancel_forgets_one(self) -> None:
        gone, stays = self.resolver.resolve("a.test"), self.resolver.resolve("a.test")
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.names.released.set()
        self.assertEqual(await stays, ["192.0.2.1"])

    async def test_the_configured_names_do_not_wait_for_the_clients(self) -> None:
        """However many silent names strangers ask for: a few at a time, and never before chat."""
        others = [self.resolver.resolve(f"r{n}.test") for n in range(10 * CLIENT_LOOKUPS)]
        await until(lambda: len(self.names.asked) == CLIENT_LOOKUPS)
        self.names.answers["chat.test"] = ["192.0.2.7"]
        self.assertEqual(await self.resolver.resolve("chat.test"), ["192.0.2.7"])
        self.assertEqual(len(self.names.asked), CLIENT_LOOKUPS + 1)
        self.names.released.set()
        for other in others:
            await other
        self.assertEqual(len(self.names.asked), 10 * CLIENT_LOOKUPS + 1)

    async def test_nobody_wants_a_name_that_waited(self) -> None:
        others = [self.resolver.resolve(f"r{n}.test") for n in range(CLIENT_LOOKUPS)]
        unwanted = self.resolver.resolve("unwanted.test")
        unwanted.cancel()
        self.failureResultOf(unwanted, CancelledError)
        self.assertFalse(self.resolver._queue)  # a flood of names given up costs no memory
        last = self.resolver.resolve("last.test")
        self.names.released.set()
        for wanted in (*others, last):
            await wanted
        self.assertNotIn("unwanted.test", self.names.asked)

    async def test_no_more_threads(self) -> None:
        """A shortage that passes takes nothing with it: no name, no place in the queue."""
        for name in ("chat.test", "a.test"):
            with patch.object(threading.Thread, "start", side_effect=RuntimeError("no threads")):
                waiting = self.resolver.resolve(name)
            self.clock.advance(0)
            self.failureResultOf(waiting, ResolutionError)
            self.names.answers[name] = ["192.0.2.1"]
            self.assertEqual(await self.resolver.resolve(name), ["192.0.2.1"])
        self.assertEqual(self.resolver._running, 0)

    async def test_answers_are_kept_for_a_while(self) -> None:
        self.names.answers.update({"chat.test": ["192.0.2.1"], "a.test": ["192.0.2.2"]})
        for name in self.names.answers:
            self.assertIsNone(self.resolver.cached(name))
            for _ in range(2):
                await self.resolver.resolve(name)
            self.clock.advance(KEEP * 0.9)
            self.assertEqual(self.resolver.cached(name), self.names.answers[name])
            self.assertEqual(self.names.asked, [name])
            self.clock.advance(KEEP * 0.1)
            self.assertIsNone(self.resolver.cached(name))
            await self.resolver.resolve(name)
            self.assertEqual(self.names.asked, [name, name])
            self.names.asked.clear()

    async def test_failures_are_kept_for_a_moment(self) -> None:
        """What the system says has no time; a crowd costs one look-up all the same (RFC 9520)."""
        self.names.answers["a.test"] = socket.gaierror(-2, "Name or service not known")
        for _ in range(3):
            with self.assertRaisesRegex(ResolutionError, "a.test has no address: Name"):
                await self.resolver.resolve("a.test")
        with self.assertRaisesRegex(ResolutionError, "a.test has no address: Name"):
            self.resolver.cached("a.test")
        self.assertEqual(self.names.asked, ["a.test"])
        self.clock.advance(FAILED)
        self.assertIsNone(self.resolver.cached("a.test"))

    async def test_what_is_not_the_names_fault_is_not_kept(self) -> None:
        for error in (OSError(errno.EMFILE, "Too many open files"), ZeroDivisionError("a bug")):
            self.names.answers["a.test"] = error
            with self.assertRaises((NoDescriptorsError, ZeroDivisionError)):
                await self.resolver.resolve("a.test")
            self.assertIsNone(self.resolver.cached("a.test"))

    async def test_a_crowd_of_names_takes_no_memory_and_no_configured_names_place(self) -> None:
        self.patch(resolver, "NAMES", 4)
        names = Resolver(self.clock, ["chat.test"])
        for name in ("chat.test", *(f"r{n}.test" for n in range(9))):
            self.names.answers[name] = ["192.0.2.1"]
            await names.resolve(name)
        kept = [n for n in range(9) if names.cached(f"r{n}.test")]
        self.assertEqual(kept, [5, 6, 7, 8])
        self.assertEqual(names.cached("chat.test"), ["192.0.2.1"])
