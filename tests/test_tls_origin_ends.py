"""HTTP in TLS: how the end of an answer, or of everything, is told."""

import select
from typing import Any

import trustme

from tests.peers import Peer, settled, until
from tests.support import FAST
from tests.test_tls_origin_form import HEAD, OK, WEB, HttpCase, get
from tests.tls_peers import TlsPeer
from whatsproxy.protocols import exchange
from whatsproxy.reason import Reason
from whatsproxy.transport import is_silent


class EndTests(HttpCase):
    """An answer that ends with the connection: TLS tells whether it is whole."""

    async def test_whole(self) -> None:
        for number, leave in enumerate((TlsPeer.close, goodbye_and_reset), 1):
            client, origin = await self.asked(get(), number=number)
            origin.write(HEAD + b"z" * 100_000)
            leave(origin)
            await until(lambda c=client: c.received.endswith(b"0\r\n\r\n") or c.eof or c.lost)
            self.assertTrue(
                client.received.endswith(b"\r\n0\r\n\r\n"), bytes(client.received[-80:])
            )
            self.assertGreaterEqual(client.received.count(b"z"), 100_000)

    async def test_truncated(self) -> None:
        """It is not ended for the client either: its last chunk is missing."""
        for number, leave in enumerate((TlsPeer.end, TlsPeer.reset), 1):
            client, origin = await self.asked(get(), number=number)
            origin.write(HEAD + b"half")
            await until(lambda c=client: b"half" in c.received)
            leave(origin)
            await until(lambda c=client: c.notified or c.eof or c.lost)
            self.assertNotIn(b"\r\n0\r\n\r\n", client.received)
            client.close()
        await self.ended_with(*[Reason.UPSTREAM_RESET] * 2)

    async def test_truncated_for_1_0(self) -> None:
        """A client that knows no chunks is told by the end of TLS itself."""
        client = await self.secured(b"GET / HTTP/1.0\r\nHost: web.whatsapp.com\r\n\r\n")
        origin = await self.origins.accepted()
        await until(lambda: b"\r\n\r\n" in origin.received)
        origin.write(HEAD + b"half")
        await until(lambda: b"half" in client.received)
        origin.end()
        await client.truncated()
        await self.ended_with(Reason.UPSTREAM_RESET)

    async def test_whole_for_1_0(self) -> None:
        client = await self.secured(b"GET / HTTP/1.0\r\nHost: web.whatsapp.com\r\n\r\n")
        origin = await self.origins.accepted()
        await until(lambda: b"\r\n\r\n" in origin.received)
        origin.write(HEAD + b"whole")
        origin.close()
        await client.told()
        self.assertTrue(client.received.endswith(b"\r\n\r\nwhole"))
        client.close()
        await self.ended_with(Reason.ANSWERED)

    async def test_many_events_and_goodbye(self) -> None:
        """An answer in many chunks, and close_notify in the same breath: all of it arrives."""
        client, origin = await self.asked(get())
        body = b"1\r\nz\r\n" * 1000 + b"0\r\n\r\n"
        origin.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        origin.close()
        await until(lambda: client.received.endswith(b"\r\n0\r\n\r\n") or client.eof or client.lost)
        self.assertEqual(client.received.count(b"z"), 1000)
        self.assertTrue(client.received.endswith(b"\r\n0\r\n\r\n"))
        client.close()
        await self.ended_with(Reason.CLIENT_CLOSED)

    async def test_a_slow_client_and_goodbye(self) -> None:
        """A client that reads nothing while the origin leaves gets it all the same, later."""
        client, origin = await self.asked(get())
        client.transport.pauseProducing()
        origin.write(HEAD + b"z" * 3_000_000)
        origin.close()
        await settled(lambda: self.session().sent, 100)
        client.transport.resumeProducing()
        await until(lambda: client.received.endswith(b"0\r\n\r\n") or client.eof or client.lost)
        self.assertTrue(client.received.endswith(b"\r\n0\r\n\r\n"))
        self.assertGreaterEqual(client.received.count(b"z"), 3_000_000)

    async def test_no_answer(self) -> None:
        for number, leave in enumerate((TlsPeer.close, TlsPeer.end, TlsPeer.reset), 1):
            post = get(WEB, b"/", b"Content-Length: 1", method=b"POST")
            client, origin = await self.asked(post, b"x", number=number)
            leave(origin)
            answer = await self.answer(client)
            self.assertTrue(answer.startswith(b"HTTP/1.1 502 "), answer)

    async def test_the_client_leaves(self) -> None:
        """Its close_notify, or less than that, ends the origin's request."""
        for number, leave in enumerate((TlsPeer.close, TlsPeer.end, TlsPeer.reset), 1):
            client, origin = await self.asked(get(), number=number)
            leave(client)
            await until(lambda o=origin: o.lost or o.eof)
        await self.ended_with(Reason.CLIENT_CLOSED, *[Reason.CLIENT_RESET] * 2)


class KeptTests(HttpCase):
    """Nobody can tell that TLS has no more to tell; that there is more, Twisted's socket can."""

    async def again(self, *, spoken: bool) -> tuple[list[bool | None], TlsPeer]:
        """Ask for the second time; return what was told of the origin's silence, and the origin."""
        client, origin = await self.asked(get())
        origin.write(OK)
        await client.got(OK)
        client.received.clear()
        origin.received.clear()
        told = []

        def asked(transport: Any) -> bool | None:
            if spoken and not told:  # a record, past the reactor
                origin.transport.getHandle().send(b"\x17\x03\x03\x00\x20" + bytes(32))
                handle = (transport if FAST else transport.transport).getHandle()
                self.assertTrue(select.select([handle], [], [], 5)[0])
            told.append(is_silent(transport))
            return told[-1]

        self.patch(exchange, "is_silent", asked)
        client.write(get())
        newest: TlsPeer = await self.origins.accepted(2 if spoken else 1)
        await until(lambda: b"\r\n\r\n" in newest.received)
        newest.write(OK)
        await client.got(OK)
        return told, origin

    async def test_silence(self) -> None:
        told, _ = await self.again(spoken=False)
        self.assertEqual(told, [None, None])
        self.assertEqual(len(self.origins.peers), 1)

    async def test_something_was_said(self) -> None:
        told, origin = await self.again(spoken=True)
        self.assertEqual(told, [None if FAST else False])
        self.assertEqual(origin.received, b"")


class UpgradeTests(HttpCase):
    async def test_web_socket(self) -> None:
        """101, and then whatever: what is sent at once on both sides, and both ends."""
        upgrade = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x")
        client, origin = await self.asked(get(WEB, b"/chat", *upgrade))
        self.assertIn(b"Upgrade: websocket", origin.received)
        origin.received.clear()
        switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket"
        origin.write(switch + b"\r\n\r\n" + b"\x81\x05hello")
        await until(lambda: b"hello" in client.received)
        self.assertTrue(client.received.startswith(b"HTTP/1.1 101 "))
        client.write(b"\x81\x85frame")
        await origin.got(b"\x81\x85frame")
        client.received.clear()
        origin.write(b"frames" * 100_000)
        await client.got(b"frames" * 100_000)
        origin.close()
        await client.told()
        client.close()
        await self.ended_with(Reason.UPSTREAM_CLOSED)

    async def test_broken_off(self) -> None:
        upgrade = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x")
        client, origin = await self.asked(get(WEB, b"/chat", *upgrade))
        origin.write(b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await until(lambda: b"\r\n\r\n" in client.received)
        (session,) = self.factory.ledger.live
        origin.end()
        await until(lambda: session.closed or session.holder._upstream.gone)
        await until(lambda: self.a_moment_passes() and client.lost)
        await client.truncated()
        await self.ended_with(Reason.UPSTREAM_RESET)


class UntrustedOriginTests(HttpCase):
    certificate = trustme.CA().issue_cert("web.whatsapp.com")

    async def test_502(self) -> None:
        """With the reason, and before a byte of the request is sent."""
        for number, connect in enumerate((self.secured, self.client), 1):
            client = await connect(get(WEB, b"https://web.whatsapp.com/"))
            answer = await self.answer(client)
            self.assertTrue(answer.startswith(b"HTTP/1.1 502 "), answer)
            self.assertIn(b"did not prove who it is", answer)
            self.assertIn(b"unknown issuer", answer)
            self.assertEqual(self.origins.peers[number - 1].received, b"")

    async def test_no_tls(self) -> None:
        self.origins.build = Peer
        client = await self.secured(get())
        (await self.origins.accepted()).write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        answer = await self.answer(client)
        self.assertTrue(answer.startswith(b"HTTP/1.1 502 "), answer)
        self.assertIn(b"o TLS with tls://web.whatsapp.com:443", answer)


def goodbye_and_reset(peer: TlsPeer) -> None:
    peer.notify()
    peer.transport.doWrite()
    peer.reset()
