"""HTTP requests whose origin cannot be reached."""

import errno
from typing import Any

from twisted.internet import tcp
from twisted.internet.defer import fail
from twisted.internet.error import (
    ConnectError,
    ConnectionRefusedError,
    NoRouteError,
    TCPTimedOutError,
)

from tests.http_peers import HttpCase, head_of
from tests.peers import FakeSocks, turn, until
from tests.support import FAST, FakeUpstream, through_socks
from whatsproxy import hub_connector, socks5
from whatsproxy.descriptors import NoDescriptorsError
from whatsproxy.destination import Destination
from whatsproxy.dial import DialTimeoutError
from whatsproxy.reason import Reason
from whatsproxy.resolver import ResolutionError

NOWHERE = Destination("127.0.0.1", 9)


class UnreachedTests(HttpCase):
    """There is no connection to the origin."""

    #: What a connect fails with, the status, and what the client reads.
    FAILURES = (
        (ResolutionError("x.test has no address"), 502, "X.test has no address.\n"),
        (ConnectionRefusedError(), 502, "refused"),
        (NoRouteError(), 502, "route"),
        (ConnectError(), 502, "Its operator can find the reason in the log."),
        (TCPTimedOutError(), 504, "[timeouts] connect"),
        (DialTimeoutError(NOWHERE, 10.0), 504, "No connection to 127.0.0.1:9 within 10.0 s.\n"),
        (socks5.ProxyUnreachable("no"), 502, "[socks5] proxies"),
        (socks5.NotSOCKS5("no"), 502, "[socks5] proxies"),
        (socks5.ConnectionLostEarly("no"), 502, "[socks5] proxies"),
        (socks5.LoginAuthenticationFailed("no"), 502, "[socks5] proxies"),
        (NoDescriptorsError("no descriptor"), 503, "No descriptor.\nTry again soon."),
        (socks5.NegotiationTimeout("no"), 504, "[socks5] proxies"),
    )

    def setUp(self) -> None:
        super().setUp()
        self.upstream = FakeUpstream()
        self.start(fake=self.upstream)

    async def test_each_reason(self) -> None:
        """The client is told what happened and what would help; its connection goes on."""
        client = await self.connect()
        for count, (error, status, text) in enumerate(self.FAILURES, 1):
            client.ask(self.request())
            await until(lambda n=count: len(self.upstream.asked) == n)
            self.upstream.last.errback(error)
            answer = await client.answer()
            self.assertError(answer, status, text)
            self.assertIsNone(answer.field(b"connection"))
        self.assertRequests(("GET", "5xx", "proxy", len(self.FAILURES)))
        client.peer.end()
        await self.left(client, Reason.CLIENT_CLOSED)

    async def test_before_connect_returns(self) -> None:
        """The same where the failure is there at once, in the middle of many requests."""
        self.upstream.answer = lambda: fail(ConnectionRefusedError())
        client = await self.connect(*[self.request()] * 50)
        for _ in range(50):
            self.assertError(await client.answer(), 502)
        self.assertRequests(("GET", "5xx", "proxy", 50))

    async def test_a_body_that_is_here(self) -> None:
        """It is read, and the next request with it."""
        client = await self.connect(self.request(method=b"POST", body=b"x"), self.request(b"/2"))
        await until(lambda: self.upstream.asked)
        self.upstream.last.errback(ConnectionRefusedError())
        answer = await client.answer()
        self.assertError(answer, 502)
        self.assertIsNone(answer.field(b"connection"))
        await until(lambda: len(self.upstream.asked) == 2)
        self.upstream.last.errback(ConnectionRefusedError())
        self.assertError(await client.answer(), 502)

    async def test_a_body_that_is_still_to_come(self) -> None:
        """It may never come: the connection ends, and the client gets to read why."""
        client = await self.connect(self.request(b"/", b"Content-Length: 9", method=b"PUT"), b"x")
        await until(lambda: self.upstream.asked)
        self.upstream.last.errback(ConnectionRefusedError())
        answer = await client.answer()
        self.assertError(answer, 502)
        self.assertEqual(answer.field(b"connection"), b"close")
        client.ask(b"the rest")
        await self.left(client, Reason.UPSTREAM_REFUSED)

    async def test_head(self) -> None:
        """An answer to HEAD has no body, ours neither."""
        self.upstream.answer = lambda: fail(ConnectionRefusedError())
        client = await self.connect(self.request(method=b"HEAD"), self.request())
        answer = await client.answer(bodiless=True)
        self.assertGreater(int(answer.field(b"content-length") or 0), 0)
        self.assertError(await client.answer(), 502)

    async def test_an_unknown_failure(self) -> None:
        """A bug of ours: 500, a traceback in the log, and nothing of it for the client."""
        client = await self.connect(self.request())
        await until(lambda: self.upstream.asked)
        self.upstream.last.errback(RuntimeError("a secret"))
        answer = await client.answer()
        self.assertEqual(answer.status, 500)
        self.assertNotIn(b"Traceback", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class ReallyUnreachedTests(HttpCase):
    """The same with sockets."""

    async def test_refused(self) -> None:
        closed = self.listen()
        self.start(closed)
        await self._close(closed.port)
        client = await self.connect(self.request(to=closed))
        self.assertError(await client.answer(), 502, "Nothing listens there")

    async def test_no_descriptors(self) -> None:
        """The origin is there, and comes once the system has a socket again."""
        origin = self.listen()
        self.start(origin)
        original = tcp.Client.createInternetSocket

        def out_of_files(client: tcp.Client) -> Any:
            if client.addr[1] == origin.port:
                raise OSError(errno.ENFILE, "Too many open files in system")
            return original(client)

        if FAST:
            scarcity = self.patch(hub_connector, "below", lambda *_: False)
        else:
            scarcity = self.patch(tcp.Client, "createInternetSocket", out_of_files)
        client = await self.connect(self.request(to=origin))
        self.assertError(await client.answer(), 503, "No descriptor to reach", "ulimit -n")
        scarcity.restore()
        client.ask(self.request(to=origin))
        await origin.accepted()

    async def _close(self, port: int) -> None:
        """Stop listening at a port, and wait for that."""
        for call, *_ in self._cleanups:
            listening = getattr(call, "__self__", None)
            if listening is not None and listening.getHost().port == port:
                await call()

    async def test_unresolved(self) -> None:
        self.start(policy={"allow": ("nowhere.invalid",), "allow_ports": (80,)})
        client = await self.connect(
            head_of(b"GET http://nowhere.invalid/ HTTP/1.1", b"Host: nowhere.invalid")
        )
        self.assertError(await client.answer(), 502, "owhere.invalid has no address", "DNS")

    async def test_a_socks_server_that_refuses(self) -> None:
        """The reply's code is in the text."""

        class Refusing(FakeSocks):
            reply = b"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"

        server = self.listen(Refusing)
        settings = through_socks(server.port, policy={"allow": ("origin.test",)})
        self.start_proxy(settings, clock=self.clock)
        client = await self.connect(
            head_of(b"GET http://origin.test/ HTTP/1.1", b"Host: origin.test")
        )
        self.assertError(await client.answer(), 502, "rules do not allow", "(reply 2)")


class ConnectTimeTests(HttpCase):
    """timeouts.connect is the upstream's own; no other limit comes before it."""

    async def test_it_is_long(self) -> None:
        upstream = FakeUpstream()
        self.start(fake=upstream)
        for body in (None, b"x"):
            upstream.asked.clear()
            client = await self.connect(self.request(body=body))
            await until(lambda: upstream.asked)
            self.pass_time(1000)
            for _ in range(5):
                await turn()
            self.assertEqual(client.peer.received, b"")
            self.assertFalse(client.peer.eof or client.peer.lost)
            client.peer.reset()
            await until(lambda: not self.factory.ledger.live)

    async def test_it_passes(self) -> None:
        """Really: a SOCKS server that does not answer."""
        server = self.listen()
        settings = through_socks(
            server.port, timeouts={"connect": 0.05}, policy={"allow": ("origin.test",)}
        )
        self.start_proxy(settings, clock=self.clock)
        client = await self.connect(
            head_of(b"GET http://origin.test/ HTTP/1.1", b"Host: origin.test")
        )
        self.assertError(await client.answer(), 504, "SOCKS", "[socks5] proxies")
        await (await server.accepted()).gone()
