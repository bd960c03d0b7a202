"""Origin connections used again: only where that is right, and never for somebody else."""

import select
import socket
from typing import Any

from tests.http_cases import ReuseCase
from tests.http_peers import OriginPeer, head_of
from tests.peers import reactor, settled
from whatsproxy.protocols import exchange
from whatsproxy.reason import Reason
from whatsproxy.transport import is_silent


class MayTests(ReuseCase):
    async def test_safe_methods(self) -> None:
        self.start()
        client, origin = await self.kept()
        for method in (b"GET", b"HEAD", b"OPTIONS", b"GET"):
            client.ask(self.request(method=method))
            self.assertTrue((await origin.request()).line.startswith(method))
            origin.write(head_of(b"HTTP/1.1 200 OK", b"Content-Length: 0"))
            await client.answer(bodiless=True)
        self.assertEqual(len(self.origins.peers), 1)

    async def test_other_methods(self) -> None:
        """What must not be sent twice gets a connection of its own; the old one is closed."""
        self.start()
        client, origin = await self.kept()
        methods = (b"POST", b"PUT", b"DELETE", b"PATCH", b"PROPFIND", b"get")
        for number, method in enumerate(methods, 2):
            client.ask(self.request(method=method))
            await origin.ended()
            origin = await self.fresh(number)
            self.assertEqual((await client.answer()).body, b"fresh")
            self.assertEqual(self.open_origins(), 1)

    async def test_a_body(self) -> None:
        """A body is not kept, so it could not be sent twice."""
        self.start()
        client, origin = await self.kept(self.request(body=b"a GET with a body"))
        await self.fresh()
        self.assertEqual((await client.answer()).body, b"fresh")
        self.assertEqual(origin.received, b"")

    async def test_after_a_post(self) -> None:
        """Where an answer came, a GET may follow."""
        self.start()
        client, origin, _ = await self.asked(self.request(method=b"POST", body=b"x"))
        origin.answer()
        await client.answer()
        client.ask(self.request(b"/2"))
        self.assertEqual((await origin.request()).line, b"GET /2 HTTP/1.1")
        self.assertEqual(len(self.origins.peers), 1)

    async def test_another_destination(self) -> None:
        """The old connection is closed, and not remembered; there is one at a time."""
        others = self.listen(OriginPeer)
        self.start(others)
        client, origin = await self.kept(self.request(to=others))
        other = await others.accepted()
        await other.request()
        await origin.ended()
        other.answer()
        await client.answer()
        client.ask(self.request())
        await self.fresh()
        self.assertEqual((await client.answer()).body, b"fresh")
        await other.ended()

    async def test_never_across_clients(self) -> None:
        self.start()
        _, first = await self.kept()
        second = await self.connect(self.request(b"/mine"))
        origin = await self.origins.accepted(2)
        self.assertEqual((await origin.request()).line, b"GET /mine HTTP/1.1")
        origin.answer(b"mine")
        self.assertEqual((await second.answer()).body, b"mine")
        self.assertEqual(first.received, b"")
        self.assertFalse(first.eof or first.lost)

    async def test_not_after_its_client(self) -> None:
        """A client that comes later gets nothing of one that has gone."""
        self.start()
        client, first = await self.kept()
        client.peer.close()
        await first.ended()
        second = await self.connect(self.request())
        await self.fresh()
        self.assertEqual((await second.answer()).body, b"fresh")

    async def test_the_origin_wants_no_more(self) -> None:
        """Connection: close, whatever the origin then does."""
        self.start()
        client, origin, _ = await self.asked()
        origin.answer(b"last", b"Connection: close")
        answer = await client.answer()
        self.assertIsNone(answer.field(b"connection"))
        await origin.ended()
        client.ask(self.request())
        await self.fresh()
        self.assertEqual((await client.answer()).body, b"fresh")

    async def test_answers_of_ours_between(self) -> None:
        """A refusal and a page need no origin, and cost none."""
        self.start()
        client, origin = await self.kept()
        client.ask(head_of(b"GET http://example.com/ HTTP/1.1", b"Host: example.com"))
        self.assertEqual((await client.answer()).status, 403)
        client.ask(head_of(b"GET / HTTP/1.1", b"Host: x"))
        self.assertEqual((await client.answer()).status, 200)
        client.ask(self.request(b"/again"))
        self.assertEqual((await origin.request()).line, b"GET /again HTTP/1.1")
        self.assertEqual(len(self.origins.peers), 1)


class LetGoTests(ReuseCase):
    """A kept connection goes when its client does."""

    async def test_the_client_ends(self) -> None:
        self.start()
        client, origin = await self.kept()
        client.peer.end()
        await origin.ended()
        await self.left(client, Reason.CLIENT_CLOSED)

    async def test_the_client_breaks_off(self) -> None:
        self.start()
        client, origin = await self.kept()
        client.peer.reset()
        await origin.ended()
        await self.ended_with(Reason.CLIENT_RESET)

    async def test_the_service_aborts(self) -> None:
        self.start()
        client, origin = await self.kept()
        self.session().holder.abort(Reason.SHUTDOWN)
        await origin.ended()
        await client.peer.gone()
        await self.ended_with(Reason.SHUTDOWN)

    async def test_the_service_aborts_in_that_very_turn(self) -> None:
        """A request that has been read, but not sent on yet, is not sent on any more."""
        self.patch(exchange, "is_silent", lambda _: None)  # so that it has to wait
        self.start()
        for late in (False, True):  # in the second of the turns that it waits
            before = len(self.origins.peers)
            client, origin = await self.kept()
            holder = self.session().holder
            holder.dataReceived(self.request(b"/late"))
            if late:
                reactor.callLater(0, holder.abort, Reason.SHUTDOWN)
            else:
                holder.abort(Reason.SHUTDOWN)
            await client.peer.gone()
            await origin.gone()
            self.assertEqual(await settled(lambda: len(self.origins.peers)), before + 1)
            self.assertEqual(origin.received, b"")
        await self.ended_with(Reason.SHUTDOWN, Reason.SHUTDOWN)

    async def test_a_bad_request(self) -> None:
        self.start()
        client, origin = await self.kept(b"nonsense\r\n\r\n")
        self.assertEqual((await client.answer()).status, 400)
        await origin.ended()
        await self.left(client, Reason.BAD_REQUEST)

    async def test_a_tunnel(self) -> None:
        """CONNECT leaves HTTP, and what HTTP kept."""
        self.start()
        client, origin = await self.kept(
            head_of(b"CONNECT 127.0.0.1:%d HTTP/1.1" % self.origins.port, b"Host: 127.0.0.1")
        )
        await origin.ended()
        await client.answer(bodiless=True)


class NobodyAskedTests(ReuseCase):
    """Bytes that answer no request."""

    UNASKED = head_of(b"HTTP/1.1 200 OK", b"Content-Length: 4") + b"evil"

    async def test_an_unsolicited_answer(self) -> None:
        """It is not the answer to the next request; the connection is dropped at once."""
        self.start()
        client, origin = await self.kept()
        origin.write(self.UNASKED)
        await origin.gone()
        client.ask(self.request())
        await self.fresh()
        self.assertEqual((await client.answer()).body, b"fresh")
        self.assertEqual(client.peer.received, b"")

    async def test_at_the_moment_of_the_next_request(self) -> None:
        """It was there before the request was sent on: that takes another connection."""
        self.start()
        for origin_first in (True, False):
            before = len(self.origins.peers)
            client, origin = await self.kept()
            # Past the reactor: both have arrived, in this order, before the proxy looks again.
            sends = [
                (origin.transport.getHandle(), self.UNASKED),
                (client.peer.transport.getHandle(), self.request()),
            ]
            for handle, data in sends if origin_first else sends[::-1]:
                handle.send(data)
            await self.fresh(before + 2)
            self.assertEqual((await client.answer()).body, b"fresh")

    def speaks(self, origin: OriginPeer, transport: Any) -> None:
        """Let an origin say goodbye past the reactor, and wait until it is there, unread."""
        handle = origin.transport.getHandle()
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handle.send(head_of(b"HTTP/1.1 408 Request Timeout", b"Content-Length: 0"))
        self.assertTrue(select.select([transport.getHandle()], [], [], 5)[0])

    async def test_just_before_the_request_is_sent(self) -> None:
        """No turn of the reactor's lies between: the socket itself has to be asked."""
        self.start()
        client, origin = await self.kept()
        told = []

        def asked(transport: Any) -> bool | None:
            self.speaks(origin, transport)
            told.append(is_silent(transport))
            return told[-1]

        self.patch(exchange, "is_silent", asked)
        client.ask(self.request())
        await self.fresh()
        self.assertEqual((await client.answer()).body, b"fresh")
        self.assertEqual((told, origin.received), ([False], b""))
        await origin.ended()

    async def test_where_nobody_can_tell(self) -> None:
        """The request waits until all sockets have been looked at, and asks once more."""
        self.start()
        for seen in (True, False):
            before = len(self.origins.peers)
            client, origin = await self.kept()
            told = [None, None if seen else False]

            def asked(
                transport: Any, origin: Any = origin, told: Any = told, seen: Any = seen
            ) -> bool | None:
                if seen:
                    self.speaks(origin, transport)
                answer: bool | None = told.pop(0)
                return answer

            self.patch(exchange, "is_silent", asked)
            client.ask(self.request())
            await self.fresh(before + 2)
            self.assertEqual((await client.answer()).body, b"fresh")
            self.assertEqual(origin.received, b"")
            await origin.ended()

    async def test_nobody_can_tell_and_nothing_was_said(self) -> None:
        """Then the kept connection gets the request, two turns later."""
        self.patch(exchange, "is_silent", lambda _: None)
        self.start()
        client, origin = await self.kept(self.request(b"/again"))
        self.assertEqual((await origin.request()).line, b"GET /again HTTP/1.1")
        origin.answer(b"again")
        self.assertEqual((await client.answer()).body, b"again")
        self.assertEqual(len(self.origins.peers), 1)

    async def test_a_farewell(self) -> None:
        """Servers that let an idle connection go may say 408 before."""
        self.start()
        client, origin = await self.kept()
        origin.answer(status=b"408 Request Timeout")
        origin.close()
        await origin.gone()
        self.assertEqual(await settled(lambda: bytes(client.peer.received), 5), b"")
        client.ask(self.request())
        await self.fresh()
        self.assertEqual((await client.answer()).status, 200)

    async def test_behind_an_answer(self) -> None:
        """In the same segment: the answer is right, and the connection is not used again."""
        self.start()
        for framing in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
            before = len(self.origins.peers)
            client, origin, _ = await self.asked()
            body = b"hello" if b"Length" in framing else b"5\r\nhello\r\n0\r\n\r\n"
            origin.write(head_of(b"HTTP/1.1 200 OK", framing) + body + self.UNASKED)
            self.assertEqual((await client.answer()).body, b"hello")
            await origin.ended()
            client.ask(self.request())
            await self.fresh(before + 2)
            self.assertEqual((await client.answer()).body, b"fresh")

    async def test_a_body_where_none_may_be(self) -> None:
        """HEAD, 204 and 304 have none, whatever the origin sends."""
        self.start()
        for method, status in ((b"HEAD", b"200 OK"), (b"GET", b"204 No"), (b"GET", b"304 No")):
            before = len(self.origins.peers)
            client, origin, _ = await self.asked(self.request(method=method))
            origin.write(head_of(b"HTTP/1.1 " + status) + self.UNASKED)
            await client.answer(bodiless=True)
            client.ask(self.request())
            await self.fresh(before + 2)
            self.assertEqual((await client.answer()).body, b"fresh")

    async def test_pipelined_behind_it(self) -> None:
        """A request that waits already must not get what came behind the answer before."""
        self.start()
        client, origin, _ = await self.asked(self.request(b"/1"), self.request(b"/2"))
        origin.write(head_of(b"HTTP/1.1 200 OK", b"Content-Length: 1") + b"1" + self.UNASKED)
        self.assertEqual((await client.answer()).body, b"1")
        await self.fresh()
        self.assertEqual((await client.answer()).body, b"fresh")
