"""Upstreams that fail before their answer, or in it, and who hears of that."""

from typing import Any

from twisted.internet.error import (
    ConnectionLost,
)

from tests.http_peers import HttpCase, HttpClient, head_of
from tests.peers import settled, until
from whatsproxy.reason import Reason

CHUNKED = b"Transfer-Encoding: chunked"
HEAD = head_of(b"HTTP/1.1 200 OK", b"Content-Length: 10")


class AnswerCase(HttpCase):
    def setUp(self) -> None:
        super().setUp()
        self.start()

    async def told(self, client: HttpClient, status: int, *texts: str) -> None:
        """The client gets an answer of ours, and may go on."""
        answer = await client.answer()
        self.assertError(answer, status, *texts)
        self.assertIsNone(answer.field(b"connection"))
        self.assertIsNone(client.peer.lost)
        number = len(self.origins.peers) + 1
        client.ask(self.request())
        origin = await self.origins.accepted(number)
        await origin.request()
        origin.answer(b"next")
        self.assertEqual((await client.answer()).body, b"next")


class NoAnswerTests(AnswerCase):
    """The upstream fails before the head of its answer is there."""

    async def test_it_ends(self) -> None:
        for start, text in (
            (b"", "before it had answered"),
            (b"HTTP/1.1 200 OK\r\nX-Half", "in the middle of its answer"),
        ):
            client, origin, _ = await self.asked()
            origin.write(start)
            origin.end()
            await self.told(client, 502, f"The upstream ended the connection {text}")
            await origin.gone()

    async def test_it_breaks_off(self) -> None:
        for start in (b"", b"HTTP/1.1 200 OK\r\nX-Half"):
            client, origin, _ = await self.asked()
            session = self.session_of(client)
            origin.write(start)
            await settled(lambda s=session: s.holder.exchange.origin.wire.buffered)
            origin.reset()
            await self.told(client, 502, "The upstream broke the connection off")

    def session_of(self, client: HttpClient) -> Any:
        (session,) = [
            s
            for s in self.factory.ledger.live
            if s.holder.transport.getPeer() == client.peer.transport.getHost()
        ]
        return session

    async def test_it_is_not_http(self) -> None:
        """What is wrong is said; nothing of what came is passed on."""
        for answer, text in (
            (b"220 mail.test ESMTP\r\n\r\n", "the status line"),
            (b"HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1"),
            (b"HTTP/1.1 200 OK\nX: evil\n\n", "bare CR or LF"),
            (head_of(b"HTTP/1.1 200 OK", b"X: evil", b" folded"), "obs-fold"),
            (head_of(b"HTTP/1.1 200 OK", b"Content-Length: 4", CHUNKED), "Transfer-Encoding"),
            (head_of(b"HTTP/1.1 200 OK", b"Content-Length: 4", b"Content-Length: 4"), "more than"),
            (head_of(b"HTTP/1.1 200 OK", b"Content-Length: +4"), "Content-Length"),
            (head_of(b"HTTP/1.1 200 OK", b"X: " + b"x" * 65536), "larger than 65536"),
            (head_of(b"HTTP/1.1 200 OK", *[b"X: evil"] * 101), "more than 100"),
            (head_of(b"HTTP/1.1 103 Early Hints", b"Content-Length: 4") + b"evil", "no body"),
        ):
            client, origin, _ = await self.asked()
            origin.write(answer)
            await self.told(client, 502, "not HTTP", text)
            await until(lambda o=origin: o.lost or o.eof, "the origin is still there")

    async def test_to_head(self) -> None:
        """The client may go on; the answer has no body."""
        client, origin, _ = await self.asked(self.request(method=b"HEAD"))
        origin.end()
        self.assertEqual((await client.answer(bodiless=True)).status, 502)
        await settled(lambda: client.peer.received)
        self.assertEqual(client.peer.received, b"")

    async def test_during_the_body_of_the_request(self) -> None:
        """The rest of it may never come: the connection ends."""
        client = await self.connect(self.request(b"/", b"Content-Length: 9", method=b"PUT"), b"x")
        origin = await self.origins.accepted()
        await origin.head()
        await origin.got(b"x")
        origin.reset()
        answer = await client.answer()
        self.assertError(answer, 502)
        self.assertEqual(answer.field(b"connection"), b"close")
        client.ask(b"the rest")
        await self.left(client, Reason.UPSTREAM_RESET)

    async def test_after_the_body_of_the_request(self) -> None:
        """A request that was read whole is no reason to close."""
        client, origin, _ = await self.asked(self.request(method=b"POST", body=b"x"))
        origin.end()
        await self.told(client, 502)


class HalfAnAnswerTests(AnswerCase):
    """The upstream fails in the body: that must not look like the end."""

    #: What has come when it fails, how it fails, and what of the body the client gets.
    CASES = (
        (HEAD + b"half", b"half"),
        (HEAD, b""),
        (head_of(b"HTTP/1.1 200 OK", CHUNKED), b""),
        (head_of(b"HTTP/1.1 200 OK", CHUNKED) + b"4\r\nhalf\r\n", b"half"),
        (head_of(b"HTTP/1.1 200 OK", CHUNKED) + b"8\r\nhalf", b"half"),
        (head_of(b"HTTP/1.1 200 OK", CHUNKED) + b"4\r\nhalf\r\n0\r\n", b"half"),
        (head_of(b"HTTP/1.1 200 OK", CHUNKED) + b"4\r\nhalf\r\n0\r\nX-Sum: 1\r\n", b"half"),
    )
    UNTIL_CLOSE = ((head_of(b"HTTP/1.1 200 OK") + b"half", b"half"),)
    #: These fail by themselves.
    MALFORMED = (
        (head_of(b"HTTP/1.1 200 OK", CHUNKED) + b"4\r\nhalf\r\nzz\r\n", b"half"),
        (head_of(b"HTTP/1.1 200 OK", CHUNKED) + b"4\r\nhalfevil\r\n0\r\n\r\n", b"half"),
        (head_of(b"HTTP/1.1 200 OK", CHUNKED) + b"4\r\nhalf\r\n0\r\nHost: x\r\n\r\n", b"half"),
    )

    async def answered(self, version: bytes, part: bytes, body: bytes) -> Any:
        client, origin, _ = await self.asked(self.request(version=version), self.request(b"/2"))
        origin.write(part)
        await until(lambda: b"\r\n\r\n" in client.peer.received and body in client.peer.received)
        await settled(lambda: len(client.peer.received), 3)
        return client, origin

    async def truncated(self, client: HttpClient, body: bytes) -> None:
        """HTTP/1.1: bytes are missing; then the end, and no reset before it was read."""
        answer = await client.answer()
        self.assertEqual((answer.status, answer.body, answer.complete), (200, body, False))
        await client.closed()

    async def assertReset(self, client: HttpClient) -> None:
        """HTTP/1.0: nothing but a reset tells that this is not the end."""
        self.assertTrue((await client.peer.gone()).check(ConnectionLost))
        self.assertFalse(client.peer.eof)

    async def test_it_ends(self) -> None:
        for part, body in self.CASES:
            client, origin = await self.answered(b"1.1", part, body)
            origin.end()
            await self.truncated(client, body)
        await self.ended_with(*[Reason.UPSTREAM_RESET] * len(self.CASES))

    async def test_it_breaks_off(self) -> None:
        cases = self.CASES + self.UNTIL_CLOSE
        for part, body in cases:
            client, origin = await self.answered(b"1.1", part, body)
            origin.reset()
            await self.truncated(client, body)
        await self.ended_with(*[Reason.UPSTREAM_RESET] * len(cases))

    async def test_it_is_malformed(self) -> None:
        for part, body in self.MALFORMED:
            client, origin = await self.answered(b"1.1", part, body)
            await self.truncated(client, body)
            await until(lambda o=origin: o.lost or o.eof, "the origin is still there")
        await self.ended_with(*[Reason.UPSTREAM_BAD_ANSWER] * len(self.MALFORMED))

    async def test_it_ends_and_the_client_is_old(self) -> None:
        for part, body in self.CASES:
            client, origin = await self.answered(b"1.0", part, body)
            origin.end()
            await self.assertReset(client)
        await self.ended_with(*[Reason.UPSTREAM_RESET] * len(self.CASES))

    async def test_it_breaks_off_and_the_client_is_old(self) -> None:
        cases = self.CASES + self.UNTIL_CLOSE
        for part, body in cases:
            client, origin = await self.answered(b"1.0", part, body)
            origin.reset()
            await self.assertReset(client)
        await self.ended_with(*[Reason.UPSTREAM_RESET] * len(cases))

    async def test_it_is_malformed_and_the_client_is_old(self) -> None:
        for part, _ in self.MALFORMED:
            client, origin, _ = await self.asked(self.request(version=b"1.0"))
            origin.write(part)
            await self.assertReset(client)
        await self.ended_with(*[Reason.UPSTREAM_BAD_ANSWER] * len(self.MALFORMED))
