"""HTTP clients that go, and errors of our own: what is left behind is nothing."""

from typing import Any

from twisted.internet.error import (
    ConnectionLost,
)

from tests.http_peers import HttpCase, HttpClient, OriginPeer, head_of
from tests.peers import until
from tests.support import FakeUpstream
from whatsproxy.http1.wire import Wire
from whatsproxy.protocols import exchange as exchange_module
from whatsproxy.protocols import http as http_module
from whatsproxy.reason import Reason

CHUNKED = b"Transfer-Encoding: chunked"
HEAD = head_of(b"HTTP/1.1 200 OK", b"Content-Length: 10")


class ClientGoneTests(HttpCase):
    """The client breaks off: its upstream is let go at once, and there is one end."""

    async def gone(self, client: HttpClient, origin: OriginPeer | None = None) -> None:
        client.peer.reset()
        await self.ended_with(Reason.CLIENT_RESET)
        if origin is not None:
            self.assertTrue((await origin.gone()).check(ConnectionLost))

    async def test_in_its_request(self) -> None:
        self.start()
        client = await self.connect(self.request()[:-2])
        await self.taken(client)
        await self.gone(client)
        self.assertEqual(self.origins.peers, [])

    async def test_while_connecting(self) -> None:
        """The connect is cancelled."""
        upstream = FakeUpstream()
        self.start(fake=upstream)
        for number, request in enumerate((self.request(), self.request(body=b"x")), 1):
            client = await self.connect(request)
            await until(lambda n=number: len(upstream.asked) == n)
            client.peer.reset()
            await until(lambda: not self.factory.ledger.live)
            self.assertEqual(upstream.cancelled, number)
        await self.ended_with(Reason.CLIENT_RESET, Reason.CLIENT_RESET)

    async def test_before_the_answer(self) -> None:
        self.start()
        client, origin, _ = await self.asked()
        await self.gone(client, origin)

    async def test_in_its_body(self) -> None:
        self.start()
        client = await self.connect(self.request(b"/", b"Content-Length: 9", method=b"PUT"), b"x")
        origin = await self.origins.accepted()
        await origin.head()
        await origin.got(b"x")
        await self.gone(client, origin)

    async def test_in_the_answer(self) -> None:
        self.start()
        client, origin, _ = await self.asked()
        origin.write(HEAD + b"half")
        await until(lambda: client.peer.received.endswith(b"half"))
        await self.gone(client, origin)

    async def test_after_the_answer(self) -> None:
        self.start()
        client, origin, _ = await self.asked()
        origin.answer()
        await client.answer()
        client.peer.reset()
        await self.ended_with(Reason.CLIENT_RESET)
        await origin.ended()

    async def test_it_closes_both_directions(self) -> None:
        """That looks like a half-close until something is written to it."""
        self.start()
        client, origin, _ = await self.asked()
        client.peer.close()
        await until(lambda: self.session().holder.ended)
        origin.answer(b"nobody is there" * 100_000)
        await until(lambda: not self.factory.ledger.live)
        await until(lambda: origin.eof or origin.lost)
        self.assertEqual(sum(self.factory.ledger.ends.values()), 1)

    async def test_the_service_aborts(self) -> None:
        """At every stage: both connections end at once, for the service's reason."""
        self.start()
        first = await self.connect(self.request()[:-2])
        await self.taken(first)
        second, waiting, _ = await self.asked()
        third, answering, _ = await self.asked()
        answering.write(HEAD + b"half")
        await until(lambda: third.peer.received.endswith(b"half"))
        for session in list(self.factory.ledger.live):
            session.holder.abort(Reason.SHUTDOWN)
        for client in (first, second, third):
            self.assertTrue((await client.peer.gone()).check(ConnectionLost))
        for origin in (waiting, answering):
            self.assertTrue((await origin.gone()).check(ConnectionLost))
        await self.ended_with(*[Reason.SHUTDOWN] * 3)

    async def test_the_service_aborts_a_connect(self) -> None:
        upstream = FakeUpstream()
        self.start(fake=upstream)
        client = await self.connect(self.request())
        await until(lambda: upstream.asked)
        self.session().holder.abort(Reason.SHUTDOWN)
        self.assertEqual(upstream.cancelled, 1)
        await client.peer.gone()
        await self.ended_with(Reason.SHUTDOWN)


class UnexpectedTests(HttpCase):
    """An error of ours ends one connection, is logged once, and is called what it is."""

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def breaks(self, module: Any, name: str, marker: bytes = b"/break") -> None:
        """Let a function raise for a request or an answer that has the marker."""
        original = getattr(module, name)

        def broken(*arguments: Any, **more: Any) -> Any:
            if any(marker in repr(a).encode() for a in arguments):
                raise RuntimeError("a bug")
            return original(*arguments, **more)

        self.patch(module, name, broken)

    async def check(self, client: HttpClient, origin: OriginPeer | None, bystander: Any) -> None:
        await client.peer.ended()
        client.peer.close()
        if origin is not None:
            await until(lambda: origin.eof or origin.lost)
        other, its_origin = bystander
        its_origin.answer(b"fine")
        self.assertEqual((await other.answer()).body, b"fine")
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        other.peer.end()
        await other.closed()
        await self.ended_with(Reason.INTERNAL, Reason.CLIENT_CLOSED)

    async def bystander(self) -> tuple[HttpClient, OriginPeer]:
        client, origin, _ = await self.asked()
        return client, origin

    async def test_in_a_request(self) -> None:
        bystander = await self.bystander()
        self.breaks(http_module, "request_fields")
        client = await self.connect(self.request(b"/break"))
        await self.check(client, None, bystander)

    async def test_in_what_a_client_sends(self) -> None:
        bystander = await self.bystander()
        self.breaks(Wire, "receive")
        client = await self.connect(head_of(b"GET / HTTP/1.1", b"Host: x"))
        await client.answer()
        client.ask(self.request(b"/break"))
        await self.check(client, None, bystander)

    async def test_in_a_pipelined_request(self) -> None:
        """It begins when the origin's answer to the one before is read."""
        bystander = await self.bystander()
        self.breaks(http_module, "request_fields")
        client, origin, _ = await self.asked(self.request(), self.request(b"/break"))
        origin.answer(b"first")
        await self.check(client, origin, bystander)

    async def test_when_a_kept_connection_is_used(self) -> None:
        """The client must not wait for ever."""
        bystander = await self.bystander()
        client, origin, _ = await self.asked()
        origin.answer()
        await client.answer()
        self.breaks(Wire, "send_request")
        client.ask(self.request(b"/break"))
        await until(lambda: client.peer.received or client.peer.eof)
        if client.peer.received:
            self.assertEqual((await client.answer()).status, 500)
        await until(lambda: origin.eof or origin.lost)
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        other, its_origin = bystander
        its_origin.answer(b"fine")
        self.assertEqual((await other.answer()).body, b"fine")

    async def test_in_the_head_of_an_answer(self) -> None:
        """Nothing has gone out yet: the client can be told, and may go on."""
        other, its_origin = await self.bystander()
        self.breaks(http_module, "response_fields", b"x-break")
        client, origin, _ = await self.asked()
        origin.answer(b"answer", b"X-Break: 1")
        self.assertEqual((await client.answer()).status, 500)
        await until(lambda: origin.eof or origin.lost)
        its_origin.answer(b"fine")
        self.assertEqual((await other.answer()).body, b"fine")
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    async def test_in_the_body_of_an_answer(self) -> None:
        bystander = await self.bystander()

        def broken(connection: Any, event: Any) -> None:
            raise RuntimeError("a bug")

        client, origin, _ = await self.asked()
        origin.write(HEAD)
        await until(lambda: client.peer.received)
        original = http_module.HttpConnection.take_body
        self.patch(http_module.HttpConnection, "take_body", broken)
        origin.write(b"half")
        await client.peer.ended()
        self.patch(http_module.HttpConnection, "take_body", original)
        self.assertFalse((await client.answer()).complete)
        await self.check(client, origin, bystander)

    async def test_when_the_upstream_is_there(self) -> None:
        """Then there is somebody who can be told."""
        bystander = await self.bystander()
        original = exchange_module.send_at_once

        def broken(*_: Any, **__: Any) -> None:
            raise RuntimeError("a bug")

        self.patch(exchange_module, "send_at_once", broken)
        client = await self.connect(self.request(method=b"PUT", body=b"x"))
        self.assertEqual((await client.answer()).status, 500)
        self.patch(exchange_module, "send_at_once", original)
        origin = await self.origins.accepted(2)
        self.assertEqual(origin.received, b"")
        await until(lambda: origin.eof or origin.lost, "the connection was lost sight of")
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        other, its_origin = bystander
        its_origin.answer(b"fine")
        self.assertEqual((await other.answer()).body, b"fine")
