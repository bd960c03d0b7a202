"""[http] users_file: who may use the HTTP proxy, and what the others are told."""

from tests.builders import ledger_and_time
from tests.http_cases import ESTABLISHED
from tests.http_peers import HttpCase, head_of
from tests.http_users_case import ALICE, CHALLENGE, ELSEWHERE, NOBODY, WRONG, UsersCase
from tests.peers import LOOPBACK, Peer, settled, until
from tests.support import CONNECT, FakeUpstream, log_lines
from tests.tls_support import TlsCase
from tests.user_support import authorization, write_users
from whatsproxy import factory as factory_module
from whatsproxy.destination import Destination
from whatsproxy.networks import number_of
from whatsproxy.protocols.admission import ATTEMPTS, is_private
from whatsproxy.proxy_protocol import Ends
from whatsproxy.reason import Reason
from whatsproxy.sniff import Kind


class AskedTests(UsersCase):
    async def test_first_without_and_then_with(self) -> None:
        """As curl and browsers do, on one connection; that is no error."""
        factory = self.start()
        lines = log_lines(self)
        client = await self.connect(self.request())
        answer = await self.asks(client)
        self.assertIn(b"No name and password", answer.body)
        self.assertEqual(self.origins.peers, [])
        client.ask(self.request(b"/", ALICE))
        origin = await self.origins.accepted()
        asked = await origin.request()
        origin.answer(b"welcome")
        self.assertEqual((await client.answer()).body, b"welcome")
        self.assertNotIn(b"authorization", b"".join(asked.fields).lower())
        client.ask(self.connect_here(ALICE))
        await client.peer.got(ESTABLISHED)
        self.assertEqual(len(self.gate.checked), 1)
        self.assertEqual([line for line in lines if "failed" in line], [])
        self.assertEqual(factory.ledger.logins, {"ok": 2, "failed": 0, "busy": 0})

    async def test_a_tunnel(self) -> None:
        self.start()
        client = await self.connect(self.connect_here())
        await self.asks(client)
        client.ask(self.connect_here(ALICE))
        await client.peer.got(ESTABLISHED)
        client.ask(b"to you")
        origin = await self.origins.accepted()
        await origin.got(b"to you")  # and nothing before it

    async def test_what_stands_behind_a_tunnel_that_is_refused(self) -> None:
        """It is not taken for a request."""
        self.start()
        for fields in ((), (WRONG,)):
            client = await self.connect(self.connect_here(*fields), self.request(b"/", ALICE))
            await self.asks(client, close=True)
            await client.closed()
        self.assertEqual(self.origins.peers, [])

    async def test_wrong(self) -> None:
        """The name, the password, or what they are written in: a few times."""
        self.start()
        lines = log_lines(self)
        wrong = [NOBODY, WRONG, ALICE.replace(b"Basic", b"Bearer")]
        self.assertEqual(len(wrong), ATTEMPTS)
        client = await self.connect()
        for number, field in enumerate(wrong, 1):
            client.ask(self.request(b"/", field))
            answer = await self.asks(client, close=number == ATTEMPTS)
            self.assertIn(b"The name or the password is wrong", answer.body)
        await self.left(client, Reason.LOGIN_FAILED)
        self.assertEqual(self.origins.peers, [])
        self.assertEqual(self.factory.ledger.errors, 1)
        failed = [line for line in lines if "request failed: login_failed" in line]
        self.assertEqual(len(failed), ATTEMPTS - 1)  # the last one is in the line of the end
        self.assertIn(f"to={LOOPBACK}:{self.origins.port}", failed[0])

    async def test_a_few_in_all(self) -> None:
        """Right ones in between do not give more attempts."""
        self.start()
        client, origin, _ = await self.asked(self.request(b"/", ALICE))
        origin.answer()
        await client.answer()
        for number in range(1, ATTEMPTS + 1):
            client.ask(self.request(b"/", authorization("alice", f"guess{number}")))
            await self.asks(client, close=number == ATTEMPTS)
            if number < ATTEMPTS:
                client.ask(self.request(b"/", ALICE))
                await origin.request()
                origin.answer()
                self.assertEqual((await client.answer()).status, 200)
        await client.closed()

    async def test_two_fields(self) -> None:
        """Two programs could take two of them."""
        self.start()
        client = await self.connect(self.request(b"/", ALICE, ALICE))
        self.assertError(await client.answer(), 400, "more than one Proxy-Authorization")
        await self.left(client, Reason.BAD_REQUEST)

    async def test_before_the_policy(self) -> None:
        """A stranger does not learn what is allowed."""
        self.start()
        for request in (CONNECT.replace(b"g.whatsapp.net", b"elsewhere.test"), CONNECT):
            client = await self.connect(request)
            await self.asks(client)
        other = head_of(b"GET http://elsewhere.test/ HTTP/1.1", b"Host: elsewhere.test", ALICE)
        client = await self.connect(other)
        self.assertError(await client.answer(), 403, "does not allow elsewhere.test")

    async def test_what_we_answer_ourselves(self) -> None:
        """The page that tells nothing asks for nothing."""
        self.start()
        client = await self.connect(head_of(b"GET / HTTP/1.1", b"Host: proxy.test"))
        answer = await client.answer()
        self.assertEqual(answer.status, 200)
        self.assertIsNone(answer.field(b"proxy-authenticate"))

    async def test_the_operators_web_server(self) -> None:
        site = self.listen(Peer)
        self.start(site, upstream={"web": Destination(LOOPBACK, site.port)})
        head = head_of(b"GET / HTTP/1.1", b"Host: proxy.test")
        await self.connect(head)
        await (await site.accepted()).got(head)

    async def test_old_clients(self) -> None:
        self.start()
        client = await self.connect(self.request(version=b"1.0"))
        await self.asks(client, close=True)
        await self.left(client, Reason.LOGIN_MISSING)
        self.assertEqual(self.factory.ledger.errors, 0)

    async def test_nobody_is_asked_by_default(self) -> None:
        HttpCase.start(self)
        client, origin, asked = await self.asked(self.request(b"/", WRONG, WRONG))
        self.assertNotIn(b"authorization", b"".join(asked.fields).lower())
        origin.answer()
        self.assertEqual((await client.answer()).status, 200)
        self.assertEqual(self.gate.checked, [])

    async def test_nothing_of_it_is_written_down(self) -> None:
        """Neither in the log, at any level, nor in an answer, nor at an origin."""
        lines = log_lines(self)
        self.start()
        seen = b""
        for fields in ((WRONG,), (NOBODY,), (b"Proxy-Authorization: wonder",), (WRONG, ALICE)):
            for request in (self.request(b"/", *fields), self.connect_here(*fields)):
                client = await self.connect(request)
                message = await client.answer()
                seen += b"".join(message.fields) + message.body
        self.gate.error = ZeroDivisionError("a bug")
        client = await self.connect(self.request(b"/", ALICE))
        seen += (await client.answer()).body
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.gate.error = None
        client, origin, asked = await self.asked(self.request(b"/", ALICE))
        seen += b"".join(asked.fields)
        origin.answer()
        await client.answer()
        told = "".join(lines)
        self.assertIn("login_failed", told)
        pairs = [field.rpartition(b" ")[2].decode() for field in (ALICE, WRONG, NOBODY)]
        for secret in ("secret-word", "wonder", "nobody", *pairs):
            self.assertNotIn(secret, told)
            self.assertNotIn(secret.encode(), seen)


class FromElsewhereTests(UsersCase):
    """Clients that are neither on this machine nor in TLS."""

    def from_elsewhere(self) -> None:
        """Let whoever comes have come from another machine."""
        self.patch(factory_module, "number_at", lambda _: ELSEWHERE)

    async def test_refused(self) -> None:
        """Whatever they bring: they are not asked for it, and it is not looked at."""
        self.start()
        self.from_elsewhere()
        for request in (self.request(), self.request(b"/", ALICE)):
            client = await self.connect(request)
            answer = await client.answer()
            self.assertError(answer, 403, "neither TLS", "https://", "users_in_clear")
            self.assertIsNone(answer.field(b"proxy-authenticate"))
        for fields in ((), (ALICE,)):
            client = await self.connect(self.connect_here(*fields))
            self.assertError(await client.answer(), 403, "users_in_clear")
            await client.closed()
        self.assertEqual((self.gate.checked, self.origins.peers), ([], []))
        await until(lambda: self.factory.ledger.ends[Reason.LOGIN_IN_CLEAR] == 2)

    async def test_the_operator_insists(self) -> None:
        self.start(http={"users_in_clear": True})
        self.from_elsewhere()
        client = await self.connect(self.request())
        await self.asks(client)
        client.ask(self.request(b"/", ALICE))
        origin = await self.origins.accepted()
        await origin.request()
        origin.answer(b"welcome")
        self.assertEqual((await client.answer()).body, b"welcome")

    async def test_without_users(self) -> None:
        HttpCase.start(self)
        self.from_elsewhere()
        _, origin, _ = await self.asked()
        origin.answer()

    def test_who_is_private(self) -> None:
        ledger, _ = ledger_and_time()
        for address, private in (
            *[(address, True) for address in ("127.0.0.1", "127.9.9.9", "::1")],
            *[(address, True) for address in ("::ffff:127.0.0.1", None)],  # None: a unix socket
            *[(address, False) for address in ("10.0.0.1", "192.0.2.1", "128.0.0.1", "0.0.0.0")],
            *[(address, False) for address in ("::2", "::ffff:128.0.0.1", "::7f00:1", "fe80::1")],
        ):
            client = None if address is None else number_of(address)
            session = ledger.open(client=client)
            self.assertIs(is_private(session), private, address)
            session.kind = Kind.TLS  # passed through, as far as that goes
            self.assertIs(is_private(session), private, address)
            session.inner = Kind.HTTP
            self.assertIs(is_private(session), True)

    def test_who_is_private_behind_a_load_balancer(self) -> None:
        """Who is named is where he is; who is not is nowhere near, whoever has sent the header."""
        ledger, _ = ledger_and_time()
        for sender in ("127.0.0.1", None, "192.0.2.1"):
            session = ledger.open(client=None if sender is None else number_of(sender))
            session.relayed = True
            self.assertIs(is_private(session), False, sender)
            session.inner = Kind.HTTP
            self.assertIs(is_private(session), True, sender)
            session.inner = None
            for client, private in (("127.0.0.1", True), ("::1", True), ("192.0.2.1", False)):
                session.client = number_of(client)
                session.ends = Ends(session.client, 1, session.client, 2)
                self.assertIs(is_private(session), private, (sender, client))


class InsideTlsTests(TlsCase):
    async def test_from_elsewhere(self) -> None:
        """TLS that ends here is enough, wherever the client is."""
        path = write_users(self.mktemp(), alice="wonder")
        factory = self.start(http={"users_file": path})
        assert factory.verifier is not None
        factory.verifier.load()
        self.patch(factory_module, "number_at", lambda _: ELSEWHERE)
        where = b"127.0.0.1:%d" % self.upstreams.port
        head = b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n" % (where, where)
        client = await self.secured(head + b"\r\n")
        await until(lambda: b"Proxy-Authenticate: " + CHALLENGE in client.received)
        self.assertIn(b"HTTP/1.1 407 ", client.received)
        client.received.clear()
        client.write(head + ALICE + b"\r\n\r\n")
        await client.got(ESTABLISHED)

    async def test_an_origin_by_its_host(self) -> None:
        """The request that TLS brings to us for somebody else needs a password, too.

        It is not asked for, and what the name gets does not show whether it is allowed.
        """
        path = write_users(self.mktemp(), alice="wonder")
        upstream = FakeUpstream()
        factory = self.start(fake=upstream, http={"users_file": path})
        assert factory.verifier is not None
        factory.verifier.load()
        allowed, other = (
            b"GET / HTTP/1.1\r\nHost: %s\r\n" % name for name in (b"web.whatsapp.com", b"a.test")
        )
        client = await self.secured()
        for field, said in ((b"", b"It works"), (WRONG + b"\r\n", b" 407 Proxy Auth")):
            answers = []
            for head in (allowed, other):
                client.write(head + field + b"\r\n")
                await until(lambda said=said: said in client.received)
                answers.append(await settled(lambda: bytes(client.received)))
                client.received.clear()
            self.assertEqual(*answers)
        client.write(other + ALICE + b"\r\n\r\n")
        await until(lambda: b"does not allow tls://a.test:443" in client.received)
        self.assertEqual(upstream.asked, [])
        client.write(allowed + ALICE + b"\r\n\r\n")
        await until(lambda: upstream.asked)
