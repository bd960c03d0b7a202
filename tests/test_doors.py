"""Listeners that differ: what each takes, and that all else is answered like a stranger."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.builders import python_hello
from tests.http_peers import HttpClient, OriginPeer, head_of
from tests.peers import LOOPBACK, Listener, Peer
from tests.support import RAW, WHATSAPP, XMPP
from tests.tls_peers import OURS
from tests.tls_support import TlsCase
from whatsproxy import listen_codecs
from whatsproxy.destination import Destination
from whatsproxy.reason import Reason
from whatsproxy.sniff import Kind

MEDIA = "media.whatsapp.net"
PUBLIC = (Kind.WHATSAPP, Kind.TLS)
PRIVATE = (Kind.HTTP, Kind.CONNECT)
#: The alert unrecognized_name.
ALERT = bytes.fromhex("15030300020270")
PAGE = head_of(b"GET / HTTP/1.1", b"Host: proxy.example")


class DoorCase(TlsCase):
    """A proxy with two listeners; each test says at whose it knocks."""

    def setUp(self) -> None:
        super().setUp()
        self.origins = self.listen(OriginPeer)
        self.media = self.listen()

    def open_doors(self, **upstream: Any) -> None:
        """Run a proxy whose chat is at the upstreams, and which knows an origin by its name."""
        chat = Destination("chat.test", 5222)
        places = {
            ("chat.test", 5222): self.upstreams,
            (MEDIA, 443): self.media,
            (MEDIA, 80): self.origins,
            (LOOPBACK, 80): self.origins,
        }
        settings = self.settings(upstream={"chat": (chat,), **upstream})
        self.start(settings, places=places)
        self.public, self.private = self.door(*PUBLIC), self.door(*PRIVATE)

    def door(self, *kinds: Kind) -> int:
        """Return the port of another listener."""
        listener = listen_codecs.Listener("tcp:0", frozenset(kinds))
        return self.listen_with(self.factory.door_of(listener))

    async def knock(self, port: int, first: bytes, *, tls: bool = False) -> Peer:
        """Connect to a listener and say something, in TLS or not."""
        self.proxy_port = port
        return await (self.secured(first) if tls else self.client(first))

    async def ask(self, port: int, *first: bytes, tls: bool = False) -> HttpClient:
        client = HttpClient(await self.knock(port, b"", tls=tls))
        client.ask(*first)
        return client

    async def carried(self, port: int, first: bytes, to: Listener, *, tls: bool = False) -> None:
        """Say something at a listener, and see that there is a way to an upstream and back."""
        number = len(to.peers) + 1
        client = await self.knock(port, first, tls=tls)
        await self.answered(client, first, await to.accepted(number))

    async def answered(self, client: Peer, first: bytes, upstream: Any) -> None:
        await upstream.got(first)
        upstream.write(b"back")
        await client.got(b"back")
        client.reset()

    async def silence(self, port: int, first: bytes, *, tls: bool = False) -> None:
        """Say something, and be let go without a word."""
        client = await self.knock(port, first, tls=tls)
        await client.ended()
        self.assertEqual(client.received, b"")
        client.close()

    def assertNothingReached(self) -> None:
        for listener in (self.upstreams, self.media, self.origins):
            self.assertEqual(listener.peers, [])


class OpenTests(DoorCase):
    """What a listener takes is served there as it is at one that takes all."""

    async def test_public(self) -> None:
        self.open_doors()
        for port in (self.public, self.proxy_port):
            for tls in (False, True):
                await self.carried(port, WHATSAPP, self.upstreams, tls=tls)
            await self.carried(port, python_hello(MEDIA), self.media)

    async def test_private(self) -> None:
        self.open_doors()
        for port in (self.private, self.proxy_port):
            number = len(self.origins.peers) + 1
            client = await self.ask(
                port,
                head_of(b"GET http://%s/x HTTP/1.1" % MEDIA.encode(), b"Host: " + MEDIA.encode()),
            )
            origin = await self.origins.accepted(number)
            self.assertEqual((await origin.request()).line, b"GET /x HTTP/1.1")
            origin.answer(b"there")
            self.assertEqual((await client.answer()).body, b"there")
            # The same connection may bring the other kind.
            client.ask(head_of(b"CONNECT chat.test:5222 HTTP/1.1", b"Host: chat.test:5222"))
            self.assertEqual((await client.answer(bodiless=True)).status, 200)
            client.ask(RAW)
            upstream = await self.upstreams.accepted(len(self.upstreams.peers))
            await self.answered(client.peer, RAW, upstream)


class StrangerTests(DoorCase):
    """What it does not take goes nowhere."""

    async def test_http(self) -> None:
        """A web server's answers, in TLS or not: to requests for a proxy as to all others."""
        self.open_doors()
        page = await (await self.ask(self.proxy_port, PAGE)).answer()
        self.assertEqual(page.status, 200)
        media = b"http://" + MEDIA.encode()
        for tls in (False, True):
            client = await self.ask(self.public, tls=tls)
            for line, status in (
                (b"GET / HTTP/1.1", 200),
                (b"GET %s/ HTTP/1.1" % media, 200),
                (b"GET %s HTTP/1.1" % media, 200),
                (b"GET %s/x HTTP/1.1" % media, 404),
                (b"GET /x HTTP/1.1", 404),
                (b"POST %s/ HTTP/1.1" % media, 405),
                (b"OPTIONS * HTTP/1.1", 405),
                (b"TRACE %s/ HTTP/1.1" % media, 405),
            ):
                client.ask(head_of(line, b"Host: " + MEDIA.encode()))
                answer = await client.answer()
                self.assertEqual(answer.status, status, line)
                if status == 200:
                    self.assertEqual((answer.fields, answer.body), (page.fields, page.body))
            client.peer.reset()
        self.assertNothingReached()

    async def test_connect(self) -> None:
        """Even to what is allowed: 405, and the end: what may follow is no request."""
        self.open_doors()
        for tls in (False, True):
            client = await self.ask(
                self.public,
                head_of(b"CONNECT chat.test:5222 HTTP/1.1", b"Host: chat.test:5222"),
                PAGE,
                tls=tls,
            )
            answer = await client.answer()
            self.assertEqual((answer.status, answer.field(b"allow")), (405, b"GET, HEAD"))
            self.assertEqual(answer.field(b"connection"), b"close")
            await client.closed()
        self.assertNothingReached()
        await self.ended_with(Reason.ANSWERED, Reason.ANSWERED)

    async def test_chats(self) -> None:
        self.open_doors()
        for first in (XMPP, RAW):
            await self.silence(self.public, first)
            await self.silence(self.public, first, tls=True)
        for first in (WHATSAPP, XMPP, RAW):
            await self.silence(self.private, first)
        self.assertNothingReached()
        await self.ended_with(*[Reason.REFUSED_KIND] * 7)

    async def test_tls(self) -> None:
        """The alert, whatever the name: ours, an allowed one, any."""
        self.open_doors()
        for name in (OURS, MEDIA, "example.org", None):
            client = await self.knock(self.private, python_hello(name))
            await client.ended()
            self.assertEqual(client.received, ALERT)
            client.close()
        # Nor is there TLS inside of TLS.
        client = await self.knock(self.public, python_hello("example.org"), tls=True)
        await client.ended()
        self.assertEqual(client.received, ALERT)
        client.close()
        self.assertNothingReached()
        reasons = [Reason.REFUSED_KIND] * 4 + [Reason.REFUSED_NAME]
        await self.ended_with(*reasons)


class WebTests(DoorCase):
    """With ``upstream.web`` that server answers whom a web server would."""

    async def test_public(self) -> None:
        self.open_doors(web=Destination(LOOPBACK, 80))
        number = 0
        for tls in (False, True):
            for line in (
                b"GET / HTTP/1.1",
                b"GET http://media.whatsapp.net/x HTTP/1.1",
                b"CONNECT chat.test:5222 HTTP/1.1",
            ):
                number += 1
                first = head_of(line, b"Host: media.whatsapp.net")
                client = await self.knock(self.public, first, tls=tls)
                origin = await self.origins.accepted(number)
                await origin.got(first)
                origin.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                await client.got(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                client.reset()
            for chat in (XMPP, RAW):
                await self.silence(self.public, chat, tls=tls)
        self.assertEqual((self.upstreams.peers, self.media.peers), ([], []))

    async def test_private(self) -> None:
        """TLS is the web server's, too; a chat is nobody's."""
        self.open_doors(web=Destination(LOOPBACK, 80))
        for number, name in enumerate((OURS, MEDIA), 1):
            hello = python_hello(name)
            client = await self.knock(self.private, hello)
            origin = await self.origins.accepted(number)
            await origin.got(hello)
            client.reset()
        await self.silence(self.private, WHATSAPP)
        self.assertEqual((self.upstreams.peers, self.media.peers), ([], []))


class KeepAliveTests(DoorCase):
    """One connection may bring both kinds of requests; the listener takes one."""

    async def test_no_connect(self) -> None:
        self.open_doors()
        media = MEDIA.encode()
        client = await self.ask(
            self.door(Kind.HTTP), head_of(b"GET http://%s/ HTTP/1.1" % media, b"Host: " + media)
        )
        origin = await self.origins.accepted()
        await origin.request()
        origin.answer(b"one")
        self.assertEqual((await client.answer()).body, b"one")
        client.ask(head_of(b"CONNECT chat.test:5222 HTTP/1.1", b"Host: chat.test:5222"), RAW)
        self.assertEqual((await client.answer()).status, 405)
        await client.closed()
        self.assertEqual(self.upstreams.peers, [])

    async def test_no_http(self) -> None:
        self.open_doors()
        media = MEDIA.encode()
        client = await self.ask(
            self.door(Kind.CONNECT), head_of(b"GET http://%s/ HTTP/1.1" % media, b"Host: " + media)
        )
        self.assertIn(b"<html>", (await client.answer()).body)
        client.ask(head_of(b"CONNECT chat.test:5222 HTTP/1.1", b"Host: chat.test:5222"))
        self.assertEqual((await client.answer(bodiless=True)).status, 200)
        client.ask(RAW)
        await self.answered(client.peer, RAW, await self.upstreams.accepted())
        self.assertEqual(self.origins.peers, [])

    async def test_no_web_server_in_front(self) -> None:
        """With ``upstream.web`` that server gets the CONNECT, as any other."""
        self.open_doors(web=Destination(LOOPBACK, 80))
        media = MEDIA.encode()
        client = await self.ask(
            self.door(Kind.HTTP), head_of(b"GET http://%s/ HTTP/1.1" % media, b"Host: " + media)
        )
        origin = await self.origins.accepted()
        await origin.request()
        origin.answer(b"one")
        self.assertEqual((await client.answer()).body, b"one")
        connect = head_of(b"CONNECT chat.test:5222 HTTP/1.1", b"Host: chat.test:5222")
        client.ask(connect)
        web = await self.origins.accepted(2)
        await web.got(connect)
        self.assertEqual(self.upstreams.peers, [])


class LocalTests(SynchronousTestCase):
    """Whether nobody but this machine can come to a listener, and nobody else by way of it."""

    def test_endpoints(self) -> None:
        for endpoint, local in (
            ("tcp:8443:interface=127.0.0.1", True),
            ("tcp:interface=127.1.2.3:port=8443:backlog=5", True),
            (r"tcp6:8443:interface=\:\:1", True),
            (r"tcp6:8443:interface=\:\:ffff\:127.0.0.1", True),
            ("unix:/run/whatsproxy.sock", True),
            ("unix:/run/whatsproxy.sock:mode=666", True),
            ("haproxy:tcp:8443:interface=127.0.0.1", False),
            ("haproxy:unix:/run/whatsproxy.sock", False),
            ("tcp:8443", False),
            ("tcp6:8443", False),
            ("tcp:8443:interface=0.0.0.0", False),
            ("tcp:8443:interface=192.0.2.1", False),
            ("tcp:8443:interface=localhost", False),
            (r"tcp6:8443:interface=\:\:", False),
            # Twisted takes the last.
            ("tcp:8443:interface=127.0.0.1:interface=0.0.0.0", False),
            ("systemd:domain=INET:index=0", False),
        ):
            self.assertEqual(listen_codecs.listener_at(endpoint).is_local, local, endpoint)
