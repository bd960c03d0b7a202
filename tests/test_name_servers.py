"""Asking: one socket a question, one server after another, and no word of a stranger's."""

import errno
import os
import socket
from typing import Any

from twisted.internet.task import Clock
from twisted.names import dns
from twisted.trial.unittest import TestCase

from tests.name_peer import AAAA, A, NamePeer, record, reply, serve, soa
from tests.peers import LOOPBACK, reactor, settled, until
from whatsproxy import name_servers
from whatsproxy.descriptors import NoDescriptorsError
from whatsproxy.name_servers import RESOLUTION_DELAY, Asking, Outcome
from whatsproxy.name_sources import Servers

NAME = "a.test"
V4, V6 = "192.0.2.1", "2001:db8::1"
#: This machine too, so that two servers can have one port.
OTHER = "127.0.0.2"


class Reactor(Clock):
    """Time by hand, sockets by the reactor that runs the tests."""

    def addReader(self, reader: Any) -> None:
        reactor.addReader(reader)

    def removeReader(self, reader: Any) -> None:
        reactor.removeReader(reader)


class AskingCase(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.clock = Reactor()
        self.peer = NamePeer()
        self.port = serve(self, self.peer)
        self.patch(name_servers, "PORT", self.port)
        self.outcomes: list[Any] = []

    def ask(self, *servers: str, attempts: int = 1) -> Asking:
        asking = Asking(
            self.clock, NAME, Servers(servers or (LOOPBACK,), 5.0, attempts), self.outcomes.append
        )
        asking.start()
        self.addCleanup(asking.stop)
        return asking

    async def outcome(self) -> Any:
        """Return what came of it, and see that nothing is left."""
        await until(lambda: self.outcomes, "there is an outcome")
        (outcome,) = self.outcomes
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse([r for r in reactor.getReaders() if isinstance(r, Asking)])
        return outcome

    def other(self) -> NamePeer:
        """Start a second server."""
        peer = NamePeer()
        serve(self, peer, self.port, OTHER)
        return peer


class AnswerTests(AskingCase):
    async def test_both_families(self) -> None:
        self.peer.records = {
            (NAME, A): [record(NAME, A, V4, 60)],
            (NAME, AAAA): [record(NAME, AAAA, V6, 30)],
        }
        self.ask()
        outcome = await self.outcome()
        self.assertEqual((set(outcome.addresses), outcome.seconds), ({V4, V6}, 30))
        self.assertEqual(self.peer.asked, [(NAME, A), (NAME, AAAA)])

    async def test_one_family(self) -> None:
        self.peer.authority = [soa(5, 5)]
        for address in (V4, V6):
            self.outcomes.clear()
            self.peer.knows(NAME, address, ttl=60)
            self.ask()
            self.assertEqual(await self.outcome(), Outcome((address,), 60))

    async def test_none(self) -> None:
        for code in (dns.OK, dns.ENAME):
            self.outcomes.clear()
            self.peer.authority, self.peer.code = [soa(40, 50)], code
            self.ask()
            self.assertEqual(await self.outcome(), Outcome((), 40))

    async def test_none_and_no_word_on_how_long(self) -> None:
        self.ask()
        self.assertEqual(await self.outcome(), Outcome((), 0))

    async def test_what_does_not_fit_is_not_known(self) -> None:
        def cut(question: dns.Message) -> dns.Message:
            message = reply(question, record(NAME, A, V4))
            message.trunc = 1
            return message

        self.peer.replies = cut
        self.ask()
        self.assertEqual(await self.outcome(), Outcome())

    async def test_over_ipv6(self) -> None:
        peer = NamePeer()
        serve(self, peer, self.port, "::1")
        peer.knows(NAME, V4)
        self.ask("::1")
        self.assertEqual((await self.outcome()).addresses, (V4,))


class HalfTests(AskingCase):
    """One family is answered, the other is not."""

    def without(self, missing: int, code: int | None = None) -> None:
        """Let the server fail, or be silent, about a kind."""
        self.peer.knows(NAME, V4, V6, ttl=60)

        def half(question: dns.Message) -> dns.Message | None:
            kind = question.queries[0].type
            if kind != missing:
                return reply(question, *self.peer.records[NAME, kind])
            return None if code is None else reply(question, code=code)

        self.peer.replies = half

    async def test_failure(self) -> None:
        """That of the one does not take the other with it, and no other server is asked."""
        other = self.other()
        for missing, address in ((AAAA, V4), (A, V6)):
            self.outcomes.clear()
            self.without(missing, dns.ESERVER)
            self.ask(LOOPBACK, OTHER)
            self.assertEqual(await self.outcome(), Outcome((address,)))
        self.assertEqual(other.asked, [])

    async def test_ipv4_does_not_wait_for_ipv6(self) -> None:
        self.without(AAAA)
        asking = self.ask()
        await until(lambda: asking._answers)
        self.clock.advance(RESOLUTION_DELAY * 0.9)
        self.assertEqual(self.outcomes, [])
        self.clock.advance(RESOLUTION_DELAY)
        self.assertEqual(await self.outcome(), Outcome((V4,)))

    async def test_ipv6_waits_for_ipv4(self) -> None:
        """For its way may turn out to be none."""
        self.without(A)
        asking = self.ask()
        await until(lambda: asking._answers)
        self.clock.advance(4.9)
        self.assertEqual(self.outcomes, [])
        self.clock.advance(0.2)
        self.assertEqual(await self.outcome(), Outcome((V6,)))

    async def test_the_next_server_is_asked_for_the_rest_only(self) -> None:
        """No IPv4 says the first one, and nothing on IPv6."""
        other = self.other()
        other.knows(NAME, V6, ttl=60)
        self.without(AAAA)
        self.peer.records[NAME, A] = []
        asking = self.ask(LOOPBACK, OTHER)
        await until(lambda: asking._answers)
        self.clock.advance(5)
        self.assertEqual(await self.outcome(), Outcome((V6,), 60))
        self.assertEqual(other.asked, [(NAME, AAAA)])


class ServersTests(AskingCase):
    async def test_silence(self) -> None:
        """Each server has its time, in turn, as often as the system's files say."""
        self.peer.replies = lambda question: None
        other = self.other()
        other.replies = self.peer.replies
        self.ask(LOOPBACK, OTHER, attempts=2)
        asked = self.peer.asked, other.asked
        for expected in ((2, 0), (2, 2), (4, 2), (4, 4)):
            await until(lambda e=expected: tuple(map(len, asked)) == e)
            self.assertEqual(self.outcomes, [])
            self.clock.advance(5)
        self.assertEqual(await self.outcome(), Outcome(final=True))

    async def test_nobody_is_there(self) -> None:
        """Which is known at once, and the next one is asked."""
        other = self.other()
        other.knows(NAME, V4)
        self.ask("127.0.0.3", OTHER)
        self.assertEqual((await self.outcome()).addresses, (V4,))

    async def test_nobody_is_anywhere(self) -> None:
        self.ask("127.0.0.3", "127.0.0.4", attempts=2)
        self.assertEqual(await self.outcome(), Outcome())

    async def test_nobody_is_there_for_the_rest(self) -> None:
        """One question left makes one datagram: that it was refused is heard by reading."""
        self.peer.replies = lambda question: (
            reply(question) if question.queries[0].type == A else None
        )
        other = self.other()
        other.knows(NAME, V6, ttl=60)
        asking = self.ask(LOOPBACK, "127.0.0.3", OTHER)
        await until(lambda: asking._answers)
        self.clock.advance(5)
        self.assertEqual(await self.outcome(), Outcome((V6,), 60))

    async def test_no_way(self) -> None:
        """The socket cannot be connected: a link that is not there."""
        self.peer.knows(NAME, V4)
        self.ask("fe80::1%gone", "fe80::1", LOOPBACK)
        self.assertEqual((await self.outcome()).addresses, (V4,))

    async def test_failures(self) -> None:
        other = self.other()
        for code in (dns.ESERVER, dns.EREFUSED):
            self.outcomes.clear()
            self.peer.code, other.code = code, dns.OK
            other.knows(NAME, V4, V6, ttl=60)
            self.ask(LOOPBACK, OTHER)
            outcome = await self.outcome()
            self.assertEqual((set(outcome.addresses), outcome.seconds), ({V4, V6}, 60))
            self.outcomes.clear()
            other.code = code
            self.ask(LOOPBACK, OTHER)
            self.assertEqual(await self.outcome(), Outcome())


class StrangersTests(AskingCase):
    async def test_strangers(self) -> None:
        """Whoever guesses the port and the number of a question has to be the server too."""
        held: list[dns.Message] = []
        self.peer.replies = held.append
        asking = self.ask()
        await until(lambda: len(held) == 2)
        assert asking._socket is not None
        victim = asking._socket.getsockname()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind((OTHER, 0))
            for question in held:
                kind = question.queries[0].type
                lie = record(NAME, kind, V4 if kind == A else V6)
                stranger.sendto(reply(question, lie).toStr(), victim)
        await settled(lambda: (self.outcomes, asking._answers))
        self.assertEqual((self.outcomes, asking._answers), ([], {}))

    async def test_numbers_are_good_for_one_server(self) -> None:
        """What the first one was asked with is nothing that the second one may answer to."""
        held: list[dns.Message] = []
        self.peer.replies = held.append
        other = self.other()
        other.replies = lambda question: reply(
            next(old for old in held if old.queries == question.queries),
            record(NAME, A, V4),
        )
        asking = self.ask(LOOPBACK, OTHER)
        await until(lambda: len(held) == 2)
        self.clock.advance(5)
        await until(lambda: len(other.asked) == 2)
        await settled(lambda: (self.outcomes, asking._answers))
        self.assertEqual((self.outcomes, asking._answers), ([], {}))

    async def test_babble(self) -> None:
        """More datagrams that are no answers than are read at a time; the one behind counts."""
        self.peer.knows(NAME, V4)

        def babble(question: dns.Message) -> dns.Message:
            asked = question.queries[0]
            wrong = reply(question, record(NAME, A, "192.0.2.9"))
            wrong.id ^= 1
            address = asking._socket.getsockname()
            for data in (b"", b"\xff" * 40, question.toStr(), wrong.toStr(), bytes(2000)) * 5:
                self.peer.transport.write(data, address)
            return reply(question, *self.peer.records[NAME, asked.type])

        self.peer.replies = babble
        asking = self.ask()
        self.assertEqual((await self.outcome()).addresses, (V4,))

    async def test_numbers_and_ports_differ(self) -> None:
        """Each question is a new guess: other numbers, another port."""
        seen: list[tuple[int, int]] = []

        def note(question: dns.Message) -> dns.Message:
            seen.append((question.id, asking._socket.getsockname()[1]))
            return reply(question)

        self.peer.replies = note
        for _ in range(16):
            self.outcomes.clear()
            asking = self.ask()
            await self.outcome()
        self.assertGreater(len({number for number, _ in seen}), 28)
        self.assertGreater(len({port for _, port in seen}), 8)


class EndTests(AskingCase):
    async def test_stop(self) -> None:
        """Nothing is left, and nobody is told."""
        before = sorted(os.listdir("/proc/self/fd"))
        self.peer.replies = lambda question: None
        asking = self.ask()
        self.assertGreater(len(os.listdir("/proc/self/fd")), len(before))
        asking.stop()
        self.assertEqual(sorted(os.listdir("/proc/self/fd")), before)
        self.assertEqual((self.clock.getDelayedCalls(), self.outcomes), ([], []))

    async def test_no_descriptors(self) -> None:
        for number in (errno.EMFILE, errno.ENFILE):

            def none(*_: Any, number: int = number) -> None:
                raise OSError(number, "Too many open files")

            self.outcomes.clear()
            with self.subTest(number):
                original = socket.socket
                socket.socket = none
                try:
                    self.ask()
                finally:
                    socket.socket = original
                self.assertIsInstance(await self.outcome(), NoDescriptorsError)

    async def test_an_error_of_ours(self) -> None:
        """The reactor takes leave of it, and whoever waits hears of it."""
        self.patch(name_servers, "answer_to", lambda *_: 1 / 0)
        self.peer.knows(NAME, V4)
        self.ask()
        self.assertEqual(await self.outcome(), Outcome(final=True))
        self.flushLoggedErrors(ZeroDivisionError)
