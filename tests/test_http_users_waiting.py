"""[http] users_file: what happens while a password is being checked, and to bodies."""

from typing import Any

from twisted.internet.defer import Deferred

from tests.http_cases import ESTABLISHED
from tests.http_peers import HttpClient, chunked, head_of
from tests.http_users_case import ALICE, ELSEWHERE, WRONG, UsersCase
from tests.peers import LOOPBACK, reactor, settled, until
from tests.user_support import authorization
from whatsproxy.http1.credentials import Credentials
from whatsproxy.networks import number_of
from whatsproxy.protocols.origin import EVENTS_A_TURN
from whatsproxy.reason import Reason
from whatsproxy.turns import Turns, site_of
from whatsproxy.verifier import THREADS


class BodyTests(UsersCase):
    """A request whose body comes with it, or does not."""

    async def test_it_is_kept_while_the_password_is_checked(self) -> None:
        self.start()
        self.gate.close()
        fields = (ALICE, b"Transfer-Encoding: chunked")
        client = await self.connect(self.request(b"/", *fields, method=b"PUT"), chunked(b"a", b"b"))
        await self.checking(client)
        self.assertEqual(self.origins.peers, [])
        self.gate.open()
        origin = await self.origins.accepted()
        self.assertEqual((await origin.request()).body, b"ab")
        origin.answer(b"thanks")
        self.assertEqual((await client.answer()).body, b"thanks")

    async def test_more_than_is_kept(self) -> None:
        """The client has to wait; all arrives in the end."""
        self.start()
        self.gate.close()
        body = bytes(range(256)) * 20_000
        client = await self.connect(self.request(b"/", ALICE, method=b"PUT", body=body))
        await until(lambda: self.gate.checked)
        received = await settled(lambda: self.factory.ledger.received)
        self.assertLess(received, 1 << 20)
        self.gate.open()
        origin = await self.origins.accepted()
        self.assertEqual((await origin.request()).body, body)
        origin.answer()
        await client.answer()

    async def test_refused(self) -> None:
        """It is read, or the connection ends; nothing of it is taken for a request."""
        self.start()
        request = self.request(b"/", method=b"PUT", body=self.request(b"/smuggled", ALICE))
        client = await self.connect(request, self.request(b"/", ALICE))
        await self.asks(client)
        origin = await self.origins.accepted()
        self.assertIn(b"GET / ", (await origin.request()).line)
        origin.answer()
        self.assertEqual((await client.answer()).status, 200)

    async def test_no_body_is_asked_for(self) -> None:
        """Who waits for 100 Continue is told 407 instead."""
        self.start()
        fields = (b"Content-Length: 5", b"Expect: 100-continue")
        client = await self.connect(self.request(b"/", *fields, method=b"PUT"))
        await self.asks(client, close=True)
        await client.closed()
        client = await self.connect(self.request(b"/", ALICE, *fields, method=b"PUT"))
        origin = await self.origins.accepted()
        self.assertIn(b"Expect: 100-continue", await origin.head())


class MeanwhileTests(UsersCase):
    """What happens while a password is being checked."""

    async def held(self, *first: bytes) -> HttpClient:
        self.start()
        self.gate.close()
        client = await self.connect(*(first or (self.request(b"/", ALICE),)))
        await self.checking(client)
        return client

    def guess(self, number: int) -> bytes:
        return self.request(b"/", authorization("alice", f"word{number}"))

    async def over(self) -> None:
        """Let the check end; nobody hears of it, and nothing is left."""
        self.gate.open()
        verifier: Any = self.factory.verifier
        await until(lambda: not verifier._running)
        self.assertEqual((verifier._checks, len(verifier._turns)), ({}, 0))
        self.assertEqual(self.origins.peers, [])

    async def test_requests_wait(self) -> None:
        """In their order, those that need no password too."""
        page = head_of(b"GET / HTTP/1.1", b"Host: proxy.test")
        client = await self.held(self.request(b"/", ALICE), page, self.request())
        self.assertEqual(client.peer.received, b"")
        self.gate.open()
        origin = await self.origins.accepted()
        await origin.request()
        origin.answer(b"first")
        self.assertEqual((await client.answer()).body, b"first")
        self.assertIn(b"It works", (await client.answer()).body)
        await self.asks(client)

    async def test_at_the_end_of_a_turn(self) -> None:
        """The answer comes before the turn in which the requests behind it were to be served."""
        factory = self.start()
        self.gate.close()
        page = head_of(b"GET / HTTP/1.1", b"Host: proxy.test")

        def check(*_: Any) -> Deferred[bool]:
            checking: Deferred[bool] = Deferred()
            reactor.callFromThread(checking.callback, True)
            return checking

        self.patch(factory.verifier, "check", check)
        before = [page] * (EVENTS_A_TURN - 1)
        client = await self.connect(*before, self.request(b"/", ALICE), page)
        origin = await self.origins.accepted()
        await origin.request()
        origin.answer(b"welcome")
        for _ in before:
            self.assertIn(b"It works", (await client.answer()).body)
        self.assertEqual((await client.answer()).body, b"welcome")
        self.assertIn(b"It works", (await client.answer()).body)

    async def test_others_do_not_wait(self) -> None:
        await self.held()
        client = await self.connect(self.request())
        await self.asks(client)

    async def test_the_client_goes(self) -> None:
        client = await self.held()
        client.peer.reset()
        await self.ended_with(Reason.CLIENT_RESET)
        await self.over()

    async def test_the_client_goes_from_the_queue(self) -> None:
        """What nobody waits for is not checked."""
        self.start()
        self.gate.close()
        clients = [
            await self.connect(self.request(b"/", authorization("alice", f"word{n}")))
            for n in range(5)
        ]
        verifier: Any = self.factory.verifier
        await until(lambda: len(verifier._turns) == 3)
        for client in clients:
            client.peer.reset()
        await self.ended_with(*[Reason.CLIENT_RESET] * 5)
        self.assertEqual(len(verifier._turns), 0)
        await self.over()
        self.assertEqual(len(self.gate.checked), 2)

    async def test_the_client_has_said_all(self) -> None:
        """It still gets its answer."""
        client = await self.held()
        client.peer.end()
        await until(lambda: self.session().holder.ended)
        self.gate.open()
        origin = await self.origins.accepted()
        await origin.request()
        origin.answer(b"late")
        answer = await client.answer()
        self.assertEqual((answer.body, answer.field(b"connection")), (b"late", b"close"))

    async def test_the_service_aborts(self) -> None:
        client = await self.held()
        self.session().holder.abort(Reason.SHUTDOWN)
        await client.peer.gone()
        await self.ended_with(Reason.SHUTDOWN)
        await self.over()

    async def test_the_service_is_stopping(self) -> None:
        """What has begun may end."""
        client = await self.held()
        self.factory.drain()
        self.gate.open()
        origin = await self.origins.accepted()
        await origin.request()
        origin.answer(b"last")
        answer = await client.answer()
        self.assertEqual((answer.body, answer.field(b"connection")), (b"last", b"close"))
        await client.closed()

    async def test_the_service_is_stopping_and_it_was_wrong(self) -> None:
        client = await self.held(self.request(b"/", WRONG))
        self.factory.drain()
        self.gate.open()
        await self.asks(client, close=True)
        await client.closed()

    async def test_time_passes(self) -> None:
        """No timeout of a client's is for this: the queue has an end."""
        client = await self.held()
        self.pass_time(1000)
        self.gate.open()
        origin = await self.origins.accepted()
        await origin.request()
        origin.answer()
        self.assertEqual((await client.answer()).status, 200)

    async def test_a_tunnel_waits(self) -> None:
        """With what the client has sent for it."""
        client = await self.held(self.connect_here(ALICE), b"early ")
        client.ask(b"bird")
        await self.taken(client)
        self.gate.open()
        await client.peer.got(ESTABLISHED)
        await (await self.origins.accepted()).got(b"early bird")

    async def test_the_origin_of_before_goes(self) -> None:
        """The connection that was kept ends meanwhile: then another one serves."""
        self.start()
        client, origin, _ = await self.asked(self.request(b"/", ALICE))
        origin.answer()
        await client.answer()
        self.factory.verifier._right._until.clear()  # so that it is checked anew
        self.gate.close()
        client.ask(self.request(b"/2", ALICE))
        await until(lambda: len(self.gate.checked) == 2)
        origin.close()
        await origin.gone()
        self.gate.open()
        fresh = await self.origins.accepted(2)
        self.assertIn(b"/2 ", (await fresh.request()).line)
        fresh.answer(b"fresh")
        self.assertEqual((await client.answer()).body, b"fresh")

    async def test_what_goes_wrong_behind_it(self) -> None:
        """As if there had been nothing to wait for: an answer, or one end."""
        bad = head_of(b"GET http://nowhere.test/ HTTP/1.1", b"Host: nowhere.test", ALICE)
        client = await self.held(bad)
        self.gate.open()
        self.assertError(await client.answer(), 403, "nowhere.test")

    async def test_an_error_of_ours_behind_it(self) -> None:
        def broken(*_: Any) -> None:
            raise ZeroDivisionError("a bug")

        client = await self.held()
        self.patch(self.factory.router, "route_to", broken)
        self.gate.open()
        await client.peer.ended()
        client.peer.close()
        await self.ended_with(Reason.INTERNAL)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_an_error_of_ours_in_it(self) -> None:
        self.gate.error = ZeroDivisionError("a bug")
        client = await self.held()
        self.gate.open()
        self.assertError(await client.answer(), 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_too_many(self) -> None:
        """Who comes then is told so, and who waits is served."""
        client = await self.held()
        verifier: Any = self.factory.verifier
        self.patch(verifier, "_turns", Turns(3))
        for number in range(THREADS - 1 + 3):
            await self.connect(self.guess(number))
            await until(lambda n=number: len(verifier._checks) == n + 2)
        late = await self.connect(self.request(b"/", authorization("alice", "late")))
        self.assertError(await late.answer(), 503, "Too many passwords", "Try again soon")
        self.gate.open()
        origin = await self.origins.accepted()
        await origin.request()
        origin.answer(b"welcome")
        self.assertEqual((await client.answer()).body, b"welcome")
        late.ask(self.request(b"/", ALICE))
        other = await self.origins.accepted(2)
        await other.request()
        other.answer()
        self.assertEqual((await late.answer()).status, 200)
        self.assertEqual(self.factory.ledger.logins["busy"], 1)

    async def test_a_place_that_others_need(self) -> None:
        """Who had it is told the same; the connection goes on."""
        client = await self.held()
        verifier: Any = self.factory.verifier
        self.patch(verifier, "_turns", Turns(2))
        guesses = [await self.connect(self.guess(number)) for number in range(THREADS - 1)]
        await until(lambda: len(self.gate.checked) == THREADS)
        for number in (8, 9):
            guesses.append(await self.connect(self.guess(number)))
            await until(lambda: len(verifier._checks) == len(guesses) + 1)
        other = verifier.check(Credentials(b"bob", b"builder"), ELSEWHERE)
        self.assertError(await guesses[-1].answer(), 503, "Too many passwords")
        self.gate.open()
        self.assertFalse(await other)
        for each in guesses[:-1]:
            await self.asks(each)
        guesses[-1].ask(self.request())
        await self.asks(guesses[-1])
        await (await self.origins.accepted()).request()
        client.peer.reset()

    async def test_a_tunnel_when_there_are_too_many(self) -> None:
        """Refused, it is not taken for more requests."""
        await self.held()
        turns: Turns[bytes] = Turns(1)
        turns.put(site_of(number_of(LOOPBACK)), b"somebody", 0.0)
        self.patch(self.factory.verifier, "_turns", turns)
        client = await self.connect(self.connect_here(WRONG), self.request(b"/", ALICE))
        self.assertError(await client.answer(), 503)
        await client.closed()
