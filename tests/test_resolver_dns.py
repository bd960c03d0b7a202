"""Resolver with a name server: answers are good for their TTL, the system's files come first."""

import os
import socket
import struct
import time
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.names import dns
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.name_peer import AAAA, A, NamePeer, record, reply, serve, soa
from tests.peers import LOOPBACK, reactor, settled, until
from tests.test_resolver import Names
from whatsproxy import address_order, name_servers
from whatsproxy.descriptors import NoDescriptorsError
from whatsproxy.name_servers import Asking
from whatsproxy.name_sources import NameSources
from whatsproxy.resolver import (
    ADDRESSES,
    CLIENT_LOOKUPS,
    FAILED,
    KEEP,
    LONGEST,
    LONGEST_NEGATIVE,
    SHORTEST,
    ResolutionError,
    Resolver,
)

V4, OTHER_V4, V6 = "192.0.2.1", "192.0.2.2", "2001:db8::1"


class Reactor(Clock):
    """Time by hand; sockets and threads by the reactor that runs the tests."""

    def __getattr__(self, name: str) -> Any:
        if name not in ("addReader", "removeReader", "callFromThread"):
            raise AttributeError(name)
        return getattr(reactor, name)


class DnsCase(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.peer = NamePeer()
        self.patch(name_servers, "PORT", serve(self, self.peer))
        self.system = Names()
        self.patch(socket, "getaddrinfo", self.system.getaddrinfo)
        self.addCleanup(self.system.released.set)
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        names = ("resolv.conf", "hosts", "nsswitch.conf", "gai.conf")
        self.sources = NameSources(*(os.path.join(self.directory, name) for name in names))
        self.write("resolv.conf", f"nameserver {LOOPBACK}\noptions attempts:1\n")
        self.clock = Reactor()
        self.resolver = Resolver(self.clock, ["chat.test"], self.sources)
        self.addCleanup(self.nothing_is_left)

    def write(self, name: str, text: str) -> None:
        with open(os.path.join(self.directory, "new"), "w", encoding="ascii") as f:
            f.write(text)
        os.rename(f.name, os.path.join(self.directory, name))

    def nothing_is_left(self) -> None:
        self.assertFalse([r for r in reactor.getReaders() if isinstance(r, Asking)])
        self.assertEqual((self.resolver._lookups, self.resolver._queue), ({}, {}))
        self.assertEqual(self.resolver._running, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def unknown(self, *names: str) -> None:
        """Let the system know nothing of these names."""
        for name in names:
            error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            self.system.answers[name] = error

    async def lasts(self, name: str) -> float:
        """Return for how long what is known of a name is kept, in seconds."""
        start = self.clock.seconds()

        def known() -> bool:
            try:
                return self.resolver.cached(name) is not None
            except ResolutionError:
                return True

        assert known()
        while known():
            self.clock.advance(0.25)
        return self.clock.seconds() - start


class TimeTests(DnsCase):
    async def test_ttl(self) -> None:
        for ttl, expected in ((0, SHORTEST), (1, 1), (30, 30), (300, 300), (99999, LONGEST)):
            for name in ("a.test", "chat.test"):
                self.peer.knows(name, V4, ttl=ttl)
                self.assertIsNone(self.resolver.cached(name))
                self.assertEqual(await self.resolver.resolve(name), [V4])
                self.assertEqual(self.resolver.cached(name), [V4])
                self.assertEqual(await self.resolver.resolve(name), [V4])
                self.assertEqual(await self.lasts(name), expected)
                self.assertEqual(self.peer.asked, [(name, A), (name, AAAA)])
                self.peer.asked.clear()
        self.assertEqual(self.system.asked, [])

    async def test_a_new_address_when_the_time_is_over(self) -> None:
        self.peer.knows("a.test", V4, ttl=30)
        await self.resolver.resolve("a.test")
        self.peer.knows("a.test", OTHER_V4, ttl=30)
        self.clock.advance(29)
        self.assertEqual(await self.resolver.resolve("a.test"), [V4])
        self.clock.advance(1)
        self.assertEqual(await self.resolver.resolve("a.test"), [OTHER_V4])

    async def test_nobody_is_asked_unasked(self) -> None:
        self.peer.knows("chat.test", V4, ttl=1)
        await self.resolver.resolve("chat.test")
        self.peer.asked.clear()
        for _ in range(100):
            self.clock.advance(1)
            await settled(lambda: self.peer.asked, 2)
        self.assertEqual((self.peer.asked, self.system.asked), ([], []))

    async def test_no_address(self) -> None:
        """The zone says for how long (RFC 2308), within bounds; the system has been asked too."""
        self.unknown("a.test")
        for code in (dns.OK, dns.ENAME):
            for seconds, expected in ((0, SHORTEST), (20, 20), (99999, LONGEST_NEGATIVE)):
                self.peer.code, self.peer.authority = code, [soa(seconds, seconds)]
                for _ in range(2):
                    with self.assertRaisesRegex(ResolutionError, "a.test has no address"):
                        await self.resolver.resolve("a.test")
                self.assertEqual(await self.lasts("a.test"), expected)
        self.assertEqual((len(self.peer.asked), len(self.system.asked)), (12, 6))

    async def test_failure(self) -> None:
        """Servers that fail: the system is asked too; and not again for a moment (RFC 9520)."""
        self.unknown("a.test")
        self.peer.code = dns.ESERVER
        for _ in range(2):
            with self.assertRaisesRegex(ResolutionError, "a.test has no address: Name or service"):
                await self.resolver.resolve("a.test")
        self.assertEqual(await self.lasts("a.test"), FAILED)
        self.assertEqual(self.system.asked, ["a.test"])

    async def test_silence(self) -> None:
        """The system would hear nothing either."""
        self.peer.replies = lambda question: None
        waiting = self.resolver.resolve("a.test")
        await until(lambda: len(self.peer.asked) == 2)
        self.clock.advance(5)
        with self.assertRaisesRegex(ResolutionError, "a.test has no address: no name server"):
            await waiting
        self.assertEqual(await self.lasts("a.test"), FAILED)
        self.assertEqual(self.system.asked, [])

    async def test_half_an_answer_is_not_for_long(self) -> None:
        self.peer.knows("a.test", V4, ttl=300)

        def half(question: dns.Message) -> dns.Message:
            if question.queries[0].type == AAAA:
                return reply(question, code=dns.ESERVER)
            return reply(question, *self.peer.records["a.test", A])

        self.peer.replies = half
        self.assertEqual(await self.resolver.resolve("a.test"), [V4])
        self.assertEqual(await self.lasts("a.test"), KEEP)


class SystemTests(DnsCase):
    """Who knows better than the name servers."""

    async def test_the_system_knows_names_that_the_servers_do_not(self) -> None:
        """Those of domains that are searched, for one."""
        self.peer.authority, self.peer.code = [soa(60, 60)], dns.ENAME
        self.system.answers["tor.internal"] = [V4]
        self.assertEqual(await self.resolver.resolve("tor.internal"), [V4])
        self.assertEqual(await self.lasts("tor.internal"), KEEP)

    async def test_single_labels(self) -> None:
        self.system.answers["tor-service"] = [V4]
        self.assertEqual(await self.resolver.resolve("tor-service"), [V4])
        self.assertEqual(self.peer.asked, [])

    async def test_the_hosts_file_wins(self) -> None:
        self.write("hosts", f"{OTHER_V4} A.test\n")
        self.peer.knows("a.test", V4)
        self.system.answers["a.test"] = [OTHER_V4]
        self.assertEqual(await self.resolver.resolve("a.test"), [OTHER_V4])
        self.assertEqual(self.peer.asked, [])
        self.assertEqual(await self.lasts("a.test"), KEEP)

    async def test_files_that_change_count_within_a_second(self) -> None:
        """Whatever TTL there was; and what was under way is not kept."""
        for name in ("a.test", "chat.test"):
            self.peer.knows(name, V4, ttl=300)
            self.assertEqual(await self.resolver.resolve(name), [V4])
        held: list[dns.Message] = []
        self.peer.replies = held.append
        waiting = self.resolver.resolve("b.test")
        await until(lambda: len(held) == 2)
        self.write("hosts", f"{OTHER_V4} a.test b.test\n")
        self.system.answers.update({"a.test": [OTHER_V4], "b.test": [OTHER_V4]})
        self.clock.advance(1)
        self.assertIsNone(self.resolver.cached("a.test"))
        self.assertIsNone(self.resolver.cached("chat.test"))
        self.assertEqual(await self.resolver.resolve("a.test"), [OTHER_V4])
        asking = self.resolver._lookups["b.test"].asking
        assert asking is not None
        assert asking._socket is not None
        for question in held:
            kind = question.queries[0].type
            answers = [record("b.test", A, V4)] if kind == A else []
            message = reply(question, *answers).toStr()
            self.peer.transport.write(message, asking._socket.getsockname())
        self.assertEqual(await waiting, [V4])
        self.assertIsNone(self.resolver.cached("b.test"))

    async def test_another_name_server(self) -> None:
        self.write("resolv.conf", "nameserver 127.0.0.9\n")
        self.unknown("a.test")
        with self.assertRaises(ResolutionError):
            await self.resolver.resolve("a.test")
        self.write("resolv.conf", f"nameserver {LOOPBACK}\n")
        self.peer.knows("a.test", V4)
        self.clock.advance(1)
        self.assertEqual(await self.resolver.resolve("a.test"), [V4])

    async def test_no_name_server(self) -> None:
        self.write("resolv.conf", "")
        self.system.answers["a.test"] = [V4]
        self.assertEqual(await self.resolver.resolve("a.test"), [V4])
        self.assertEqual(self.peer.asked, [])


class OrderTests(DnsCase):
    async def test_ipv6_where_there_is_a_way(self) -> None:
        self.peer.knows("a.test", V4, V6)
        ways = {V4: "10.0.0.1", V6: "2001:db8::2"}
        self.patch(address_order, "_source", ways.get)
        self.assertEqual(await self.resolver.resolve("a.test"), [V6, V4])
        del ways[V6]
        self.clock.advance(300)
        self.assertEqual(await self.resolver.resolve("a.test"), [V4, V6])

    async def test_thousands(self) -> None:
        self.peer.knows("a.test", *(f"192.0.2.{n}" for n in range(60)))
        self.assertEqual(len(await self.resolver.resolve("a.test")), ADDRESSES)


class CrowdTests(DnsCase):
    async def test_one_question_for_all_who_ask_meanwhile(self) -> None:
        self.peer.knows("a.test", V4)
        waiting = [self.resolver.resolve("a.test") for _ in range(5)]
        self.assertEqual([await w for w in waiting], [[V4]] * 5)
        self.assertEqual(len(self.peer.asked), 2)

    def silent(self) -> "list[Deferred[list[str]]]":
        """Fill the clients' places with names on which nobody says anything, and some more."""
        self.peer.replies = lambda question: None
        return [self.resolver.resolve(f"r{n}.test") for n in range(2 * CLIENT_LOOKUPS)]

    async def give_up(self, waiting: "list[Deferred[list[str]]]") -> None:
        for one in waiting:
            one.addErrback(lambda f: f.trap(CancelledError))
            one.cancel()

    async def test_the_configured_names_do_not_wait_for_the_clients(self) -> None:
        waiting = self.silent()
        await settled(lambda: len(self.peer.asked))
        self.assertEqual(len(self.peer.asked), 2 * CLIENT_LOOKUPS)
        self.peer.replies = None
        self.peer.knows("chat.test", V4)
        self.assertEqual(await self.resolver.resolve("chat.test"), [V4])
        await self.give_up(waiting)

    async def test_who_gives_up_makes_place(self) -> None:
        waiting = self.silent()
        self.assertEqual(len(self.resolver._queue), CLIENT_LOOKUPS)
        self.peer.replies = None
        self.peer.knows("last.test", V4)
        last = self.resolver.resolve("last.test")
        await self.give_up(waiting)
        self.assertEqual(await last, [V4])

    async def test_one_of_two_gives_up(self) -> None:
        self.peer.knows("a.test", V4)
        gone, stays = self.resolver.resolve("a.test"), self.resolver.resolve("a.test")
        await self.give_up([gone])
        self.assertEqual(await stays, [V4])

    async def test_a_configured_name_is_looked_up_to_the_end(self) -> None:
        """Whoever asks next has the answer, however slow it was."""
        self.peer.knows("chat.test", V4)
        await self.give_up([self.resolver.resolve("chat.test")])
        await until(lambda: self.resolver.cached("chat.test"))

    async def test_no_descriptors(self) -> None:
        """A shortage that passes is held against no name, and takes nobody's place."""

        def none(*_: Any) -> None:
            raise OSError(24, "Too many open files")

        silent = self.silent()
        # More than could be started from within one another.
        queued = [self.resolver.resolve(f"q{n}.test") for n in range(1000)]
        self.peer.replies = None
        self.peer.knows("chat.test", V4)
        with patch.object(name_servers.socket, "socket", none):
            short = [self.resolver.resolve("chat.test")]
            await self.give_up(silent)
            for _ in range(len(queued)):
                self.clock.advance(0)
        for one in (*short, *queued):
            self.failureResultOf(one, NoDescriptorsError)
        self.assertEqual(await self.resolver.resolve("chat.test"), [V4])


#: Records as a server that means no good may send them: owner, kind, class, TTL and data.
_NAMES = st.sampled_from([b"\xc0\x0c", b"\1b\4test\0", b"\0", b"\xc0\xff", b"\x3fa"])
_DATA = st.one_of(st.binary(max_size=20), st.binary(min_size=4, max_size=4), _NAMES)
_RECORDS = st.tuples(
    _NAMES,
    st.sampled_from([A, AAAA, dns.CNAME, dns.SOA, dns.OPT, 255]),
    st.sampled_from([dns.IN, dns.CH]),
    st.sampled_from([0, 30, 1 << 31, (1 << 32) - 1]),
    _DATA,
)


class Still(Clock):
    """No sockets and no threads: what they would do is done by hand."""

    def addReader(self, reader: Any) -> None:
        self.reader = reader

    def removeReader(self, reader: Any) -> None:
        pass

    def callFromThread(self, call: Any, *arguments: Any) -> None:
        self.callLater(0, call, *arguments)


class HostileTests(DnsCase):
    @settings(deadline=None)
    @given(
        st.lists(st.lists(_RECORDS, max_size=4), max_size=4),
        st.sampled_from([0x8000, 0x8180, 0x8200, 0x8182, 0x8183, 0x8185, 0]),
    )
    def test_any_answers(self, answers: list[list[Any]], flags: int) -> None:
        """Of a server that says anything, nothing but addresses or an error comes out."""
        self.unknown("a.test")
        clock = Still()
        names = Resolver(clock, (), self.sources)
        outcome: list[Any] = []
        names.resolve("a.test").addBoth(outcome.append)
        asking = names._lookups["a.test"].asking
        assert asking is not None
        for number, kind in list(asking._kinds.items()):
            message = dns.Message(number)
            message.addQuery(b"a.test", kind)
            for records in answers:
                data = message.toStr()[12:] + b"".join(
                    owner + struct.pack("!HHIH", *head, len(value)) + value
                    for owner, *head, value in records
                )
                header = struct.pack("!6H", number, flags, 1, len(records), 0, 0)
                found = name_servers.answer_to(header + data, "a.test", asking._kinds)
                if found is not None and asking._timer is not None:
                    asking._answered(*found)
        if asking._timer is not None:
            clock.advance(5)
        deadline = time.monotonic() + 10  # for the thread that asks the system
        while not outcome and time.monotonic() < deadline:
            clock.advance(0)
        (result,) = outcome
        if isinstance(result, Failure):
            self.assertIsInstance(result.value, ResolutionError)
            return
        self.assertTrue(result)
        for address in result:
            socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        known = names._others.get("a.test", clock.seconds())
        assert known is not None
        self.assertLessEqual(known.until - known.since, LONGEST)


class CachedTests(DnsCase):
    async def test_the_answer_is_a_callers_to_read(self) -> None:
        """Every caller gets the same list, and an error of its own: tracebacks would pile up."""
        self.peer.knows("a.test", V4)
        await self.resolver.resolve("a.test")
        self.assertIs(self.resolver.cached("a.test"), self.resolver.cached("a.test"))
        self.unknown("b.test")
        errors = []
        for _ in range(2):
            with self.assertRaises(ResolutionError):
                await self.resolver.resolve("b.test")
            try:
                self.resolver.cached("b.test")
            except ResolutionError as e:
                errors.append(e)
        self.assertIsNot(*errors)
        self.assertEqual(*map(str, errors))
