"""TLS on the hub: what is particular to OpenSSL on the socket itself (the rest is test_tls_*)."""

import contextlib
import gc
import os
import select
import socket
import struct
import sys
import weakref
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IHandshakeListener
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.hub_support import HubCase, Planted, Producer
from tests.peers import reactor, settled, turn, until
from tests.tls_records import (
    ALERT,
    CLOSE_NOTIFY,
    DATA,
    HANDSHAKE,
    KEY_UPDATE,
    KEY_UPDATE_REQUESTED,
    ByHand,
)
from tests.tls_support import files_of, own_certificate
from whatsproxy import hub_tls
from whatsproxy.hub_tls import _READ_WAITS, _WRITE_WAITS, HubTls
from whatsproxy.openssl import is_resumed
from whatsproxy.settings import TlsSettings
from whatsproxy.tls_server import TlsServer
from whatsproxy.tls_transport import STEPS, is_encrypted
from whatsproxy.transport import StreamProtocol, hand_over, unsent

RESET = struct.pack("ii", 1, 0)
#: Where that is in the kernel's struct tcp_info.
DATA_SEGMENTS_IN = slice(152, 156)


@implementer(IHandshakeListener)
class Inside(StreamProtocol):
    """What is inside of TLS: it records."""

    def __init__(self) -> None:
        self.received = b""
        self.heard: list[str] = []
        self.says = b""
        self.ends = ""
        self.raises = ""

    def connectionMade(self) -> None:
        if self.says:
            self.transport.write(self.says)
        if self.ends:
            getattr(self.transport, self.ends)()
        if self.raises == "made":
            raise Planted

    def handshakeCompleted(self) -> None:
        self.heard.append("handshake")
        if self.raises == "handshake":
            raise Planted

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def readConnectionLost(self) -> None:
        self.heard.append("end")

    def writeConnectionLost(self) -> None:
        self.heard.append("ended")

    def connectionLost(self, reason: Failure) -> None:
        self.heard.append(reason.type.__name__)


class Outside(StreamProtocol):
    """Begins TLS with the first byte."""

    def __init__(self, server: TlsServer) -> None:
        self._server = server
        self.inside = Inside()

    def connectionMade(self) -> None:
        self.transport.look()

    def seen(self, data: bytes) -> None:
        begin = self._server.transport_for(None, self.inside)
        hand_over(self, begin)


class HubTlsCase(HubCase):
    """A server of TLS on the hub, and clients by hand."""

    def setUp(self) -> None:
        super().setUp()
        settings = TlsSettings(auto_generate=False, certificate=(files_of(own_certificate()),))
        self.server = server = TlsServer(reactor, settings, ())
        server.load()
        self.listener = super().listen(lambda: Outside(server))

    async def connected(self) -> tuple[ByHand, Inside]:
        """Return a client that has said nothing yet, and what it is to talk to."""
        client = ByHand(self.dial(self.listener.port))
        number = len(self.listener.peers) + 1
        outside = await self.listener.accepted(number)
        return client, outside.inside

    async def secured(self) -> tuple[ByHand, Inside, HubTls]:
        """Return both ends of a connection whose handshake is done."""
        client, inside = await self.connected()
        await client.handshake()
        await until(lambda: inside.heard)
        self.assertEqual(inside.heard, ["handshake"])
        transport: Any = inside.transport
        self.assertIsInstance(transport, HubTls)
        return client, inside, transport

    async def read(self, client: ByHand, size: int) -> bytes:
        """Return so many bytes of data."""
        data = bytearray()

        def enough() -> bool:
            for kind, content in client.read():
                self.assertEqual(kind, DATA)
                data.extend(content)
            return len(data) >= size

        await until(enough, f"not {size} bytes")
        self.assertEqual(len(data), size)
        return bytes(data)

    async def rest(self, client: ByHand) -> list[tuple[int, bytes]]:
        """Return what comes until the end, and ``reset`` behind it where that is how it ends."""
        found: list[tuple[int, bytes]] = []

        def ended() -> bool:
            try:
                found.extend(client.read())
                return client.bare.recv(1, socket.MSG_PEEK) == b""
            except BlockingIOError:
                return False
            except ConnectionResetError:
                found.append((0, b"reset"))
                return True

        await until(ended, "no end")
        return found


class KeyTests(HubTlsCase):
    """New keys: messages of OpenSSL's own in the middle of everything."""

    async def test_on_request(self) -> None:
        client, inside, transport = await self.secured()
        for number in range(5):
            client.renew()
            client.send(DATA, b"%d" % number)
        await until(lambda: inside.received == b"01234")
        transport.write(b"five")
        self.assertEqual(await self.read(client, 4), b"five")
        self.assertEqual(client.renewed, 5)
        client.renew(KEY_UPDATE)
        client.send(DATA, b"!")
        await until(lambda: inside.received == b"01234!")

    async def test_while_both_buffers_are_full(self) -> None:
        """Ours is, and so is the kernel's that holds what we do not read."""
        client, inside, transport = await self.secured()
        size = 1 << 16
        client.bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        transport.pauseProducing()
        ours, theirs = os.urandom(8 << 20), os.urandom(8 << 20)
        transport.write(ours)
        self.assertGreater(unsent(transport), 0)
        outgoing = bytearray()
        for start in range(0, len(theirs), 1 << 14):
            outgoing += client.ours.seal(DATA, theirs[start : start + (1 << 14)])
            if not start % (1 << 19):
                outgoing += client.ours.seal(HANDSHAKE, KEY_UPDATE_REQUESTED)
                client.ours.renew()
        sent = await self.stuff(client.bare, outgoing)
        self.assertLess(sent, len(outgoing))
        transport.resumeProducing()
        got = bytearray()

        def all_there() -> bool:
            nonlocal sent
            with contextlib.suppress(BlockingIOError):
                sent += client.bare.send(outgoing[sent:])
            got.extend(b"".join(content for _, content in client.read()))
            return len(got) == len(ours) and len(inside.received) == len(theirs)

        await until(all_there, "not all of it")
        self.assertEqual(inside.received, theirs)
        self.assertEqual(bytes(got), ours)
        self.assertGreater(client.renewed, 0)
        self.assertEqual(inside.heard, ["handshake"])

    async def test_a_reset_behind_what_is_held_back(self) -> None:
        """While a record of ours is halfway out, what may be a KeyUpdate waits; an end does not."""
        for held in (b"\x17\x03", b"\x17\x03\x03\x00\x16"):
            client, inside, transport = await self.secured()
            client.bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            transport.write(bytes(8 << 20))
            self.assertGreater(unsent(transport), 0)
            client.bare.send(held)
            await until(lambda t=transport: t._state & _READ_WAITS)
            client.bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.bare.close()
            await until(lambda i=inside: len(i.heard) > 1, "it does not hear of the end")
            self.assertEqual(inside.heard, ["handshake", "ConnectionLost"])

    async def stuff(self, bare: socket.socket, data: bytearray) -> int:
        """Send until the kernels take no more; return how much that was."""
        sent = 0

        def full() -> int:
            nonlocal sent
            with contextlib.suppress(BlockingIOError):
                sent += bare.send(data[sent:])
            return sent

        await settled(full)
        return sent

    async def test_to_read_it_has_to_write(self) -> None:
        """That is how OpenSSL asks for room in the socket, here played: nothing else will tell."""
        client, inside, transport = await self.secured()
        reluctant = self.patch(hub_tls, "read", refuse(SSL.WantWriteError))
        client.send(DATA, b"data")
        await until(lambda: transport._state & _READ_WAITS)
        reluctant.restore()
        await settled(lambda: inside.received)
        self.assertEqual(inside.received, b"")
        transport.happened(select.EPOLLOUT)
        self.assertEqual(inside.received, b"data")
        self.assertFalse(transport._state & _READ_WAITS)

    async def test_to_write_it_has_to_read(self) -> None:
        """No peer makes OpenSSL do that here: so it is OpenSSL that is played."""
        client, inside, transport = await self.secured()
        reluctant = self.patch(hub_tls, "write", refuse(SSL.WantReadError))
        transport.write(b"must wait")
        self.assertTrue(transport._state & _WRITE_WAITS)
        self.assertEqual(unsent(transport), 9)
        reluctant.restore()
        transport.happened(select.EPOLLIN)  # and not a word of room in the socket
        self.assertFalse(transport._state & _WRITE_WAITS)
        self.assertEqual(unsent(transport), 0)
        self.assertEqual(await self.read(client, 9), b"must wait")
        self.assertEqual(inside.heard, ["handshake"])

    async def test_a_flood(self) -> None:
        """Thousands at once are not even read."""
        client, inside, transport = await self.secured()
        self.assertEqual(transport.steps, 0)
        flood = bytearray()
        for _ in range(5000):
            flood += client.ours.seal(HANDSHAKE, KEY_UPDATE)
            client.ours.renew()
        transport.pauseProducing()
        sent = await self.stuff(client.bare, flood[: 1 << 16])
        self.assertGreater(sent, 30 * STEPS)
        transport.resumeProducing()
        await until(lambda: len(inside.heard) > 1)
        self.assertEqual(inside.heard, ["handshake", "ConnectionAborted"])
        self.assertLess(transport.steps, STEPS + 10)


def refuse(why: type[SSL.Error]) -> Callable[..., Any]:
    """Return OpenSSL, when it has to write before it can read, or the other way round."""

    def call(*_: object) -> Any:
        raise why

    return call


class HandshakeTests(HubTlsCase):
    async def test_every_split(self) -> None:
        """Of the ClientHello: TLS has begun with its first byte."""
        sizes = len((await self.connected())[0].go())
        for at in range(1, sizes, 7):
            client, inside = await self.connected()
            hello = client.go()
            client.bare.sendall(hello[:at])
            await settled(lambda: None, 2)
            client.bare.sendall(hello[at:])
            await client.handshake()
            client.send(DATA, b"!")
            await until(lambda i=inside: i.received == b"!")
            client.bare.close()

    async def test_byte_by_byte(self) -> None:
        """The client's part, and data behind it."""
        client, inside = await self.connected()
        while True:
            for byte in client.go():
                client.bare.sendall(bytes([byte]))
                await turn()
            if client.is_done():
                break
            await until(client.take)
        for byte in client.ours.seal(DATA, b"data"):
            client.bare.sendall(bytes([byte]))
            await turn()
        await until(lambda: inside.received == b"data")

    async def test_all_at_once(self) -> None:
        """What is sent with the last of the handshake is read, without another event."""
        client, inside = await self.connected()
        client.bare.sendall(client.go())
        await until(client.take)
        last = client.go()
        self.assertTrue(client.is_done())
        data = client.ours.seal(DATA, b"data") + client.ours.seal(ALERT, CLOSE_NOTIFY)
        client.bare.sendall(last + data)
        client.bare.shutdown(socket.SHUT_WR)
        await until(lambda: "ConnectionDone" in inside.heard)
        self.assertEqual(inside.received, b"data")

    async def test_packets(self) -> None:
        """The handshake takes one of ours, all tickets together another, and then there is data."""
        client, _, transport = await self.secured()
        transport.write(b"data")
        self.assertEqual(await self.read(client, 4), b"data")
        info = client.bare.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
        self.assertEqual(int.from_bytes(info[DATA_SEGMENTS_IN], sys.byteorder), 3)

    async def test_what_is_quick_does_not_wait(self) -> None:
        """A handshake takes long: data that came at the same time, and behind it, goes first."""
        client, inside = await self.connected()
        other, heard, _ = await self.secured()
        inside.heard = heard.heard
        took = heard.dataReceived

        def take(data: bytes) -> None:
            took(data)
            heard.heard.append("data")

        heard.dataReceived = take  # type: ignore[method-assign]  # it notes when that was
        client.bare.sendall(client.go())
        await until(client.take)
        last = client.go()
        client.is_done()
        client.bare.sendall(last)
        other.send(DATA, b"!")
        await until(lambda: len(heard.heard) > 2)
        self.assertEqual(heard.heard, ["handshake", "data", "handshake"])

    async def test_the_client_disappears(self) -> None:
        for far in range(3):
            for reset in (False, True):
                client, inside = await self.connected()
                hello = client.go()
                client.bare.sendall(hello[: (1, len(hello) // 2, len(hello))[far]])
                await settled(lambda: None, 5)
                if reset:
                    client.bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                client.bare.close()
                await until(lambda i=inside: i.heard)
                self.assertEqual(inside.heard, ["ConnectionLost"])

    async def test_no_tls(self) -> None:
        """The reason is OpenSSL's own, and the client is told where there is an alert for that."""
        empty_hello = b"\x16\x03\x01\x00\x04\x01\x00\x00\x00"
        decode_error = b"\x15\x03\x03\x00\x02\x02\x32"
        for first, answer in ((b"GET / HTTP/1.1\r\n\r\n", b""), (empty_hello, decode_error)):
            client, inside = await self.connected()
            client.bare.sendall(first)
            await until(lambda i=inside: i.heard)
            self.assertEqual(inside.heard, ["Error"])
            self.assertEqual(await self.raw(client.bare), answer)

    async def raw(self, bare: socket.socket) -> bytes:
        """Return all that comes until the end."""
        came = bytearray()

        def ended() -> bool:
            with contextlib.suppress(BlockingIOError):
                piece = bare.recv(1000)
                came.extend(piece)
                return not piece
            return False

        await until(ended, "no end")
        return bytes(came)

    async def test_what_is_written_before(self) -> None:
        client, inside = await self.connected()
        inside.says = b"welcome" * 10_000
        await client.handshake()
        self.assertEqual(await self.read(client, 70_000), inside.says)

    async def test_lost_before(self) -> None:
        """There is nothing to be said goodbye to."""
        client, inside = await self.connected()
        client.bare.sendall(client.go()[:50])
        await until(lambda: hasattr(inside, "transport"))
        inside.transport.loseConnection()
        await until(lambda: inside.heard)
        self.assertEqual(inside.heard, ["ConnectionAborted"])

    async def test_an_error_at_once(self) -> None:
        """The hub has called the owner before, who has nothing any more."""
        client, inside = await self.connected()
        inside.raises = "made"
        client.bare.sendall(client.go())
        await until(lambda: inside.heard)
        self.assertEqual(inside.heard, ["Planted"])
        self.assertEqual(len(self.flushLoggedErrors(Planted)), 1)

    async def test_an_error_of_ours(self) -> None:
        """It ends this connection, whoever owned the socket before."""
        client, inside = await self.connected()
        inside.raises = "handshake"
        await client.handshake()
        await until(lambda: len(inside.heard) > 1)
        self.assertEqual(inside.heard, ["handshake", "Planted"])
        self.assertEqual(len(self.flushLoggedErrors(Planted)), 1)
        found = await self.rest(client)
        self.assertNotIn((ALERT, CLOSE_NOTIFY), found)


class EarlyEndTests(HubTlsCase):
    """What was said before there was TLS is still sent; then comes the end."""

    async def check(self, how: str) -> None:
        client, inside = await self.connected()
        inside.says = b"welcome"
        inside.ends = how
        await client.handshake()
        found: list[tuple[int, bytes]] = []

        def all_is_there() -> bool:
            found.extend(client.read())
            return len(found) > 1

        await until(all_is_there)
        self.assertEqual(found, [(DATA, b"welcome"), (ALERT, CLOSE_NOTIFY)])

    async def test_closed(self) -> None:
        await self.check("loseConnection")

    async def test_half_closed(self) -> None:
        await self.check("loseWriteConnection")


class BystanderTests(HubTlsCase):
    async def test_a_peer_that_breaks_off(self) -> None:
        """While we write to it; those who are served behind it do not notice."""
        guilty, _, breaking = await self.secured()
        others = [await self.secured() for _ in range(3)]

        def go(data: bytes) -> None:
            guilty.bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            guilty.bare.close()
            breaking.write(data)

        others[0][1].dataReceived = go  # type: ignore[method-assign]  # in mid-batch, that is
        for client, _, _ in others:
            client.send(DATA, b"x")
        await until(lambda: all(inside.received for _, inside, _ in others[1:]))
        await settled(lambda: [inside.heard for _, inside, _ in others])
        for _, inside, _ in others:
            self.assertEqual(inside.heard, ["handshake"])


class EndTests(HubTlsCase):
    async def test_goodbye(self) -> None:
        """It is answered, behind what is still to be sent, and then there is nothing."""
        client, inside, transport = await self.secured()
        client.send(DATA, b"last words")
        transport.write(b"z" * (8 << 20))
        client.send(ALERT, CLOSE_NOTIFY)
        found = await self.rest(client)
        self.assertEqual(sum(len(content) for kind, content in found if kind == DATA), 8 << 20)
        self.assertEqual(found[-1], (ALERT, CLOSE_NOTIFY))
        await until(lambda: len(inside.heard) > 1)
        self.assertEqual(inside.heard, ["handshake", "ConnectionDone"])
        self.assertEqual(inside.received, b"last words")

    async def test_goodbye_and_reset(self) -> None:
        client, inside, transport = await self.secured()
        transport.write(b"z" * (8 << 20))
        client.send(ALERT, CLOSE_NOTIFY)
        await settled(lambda: unsent(transport))
        client.bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.bare.close()
        await until(lambda: len(inside.heard) > 1)
        self.assertEqual(inside.heard, ["handshake", "ConnectionDone"])

    async def test_broken_off(self) -> None:
        """FIN alone, or a reset: both are no end of what there was to say."""
        for reset in (False, True):
            client, inside, _ = await self.secured()
            client.send(DATA, b"half")
            await until(lambda i=inside: i.received)
            if reset:
                client.bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.bare.close()
            await until(lambda i=inside: len(i.heard) > 1)
            self.assertEqual(inside.heard, ["handshake", "ConnectionLost"])

    async def test_garbage(self) -> None:
        """It is answered by an alert, which is not overtaken by a reset."""
        client, inside, _ = await self.secured()
        client.bare.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        found = await self.rest(client)
        self.assertEqual(found, [(ALERT, b"\x02\x14")])  # bad_record_mac
        self.assertEqual(inside.heard, ["handshake", "ConnectionAborted"])

    async def test_our_end(self) -> None:
        """close_notify and FIN; what still comes is read, and the client need not say goodbye."""
        for owes, reason in ((False, "ConnectionDone"), (True, "ConnectionLost")):
            client, inside, transport = await self.secured()
            transport.owes_goodbye = owes
            transport.write(b"an answer")
            transport.loseWriteConnection()
            found = await self.rest(client)
            self.assertEqual(found, [(DATA, b"an answer"), (ALERT, CLOSE_NOTIFY)])
            self.assertEqual(inside.heard, ["handshake", "ended"])
            transport.write(b"too late")
            client.send(DATA, b"still heard")
            await until(lambda i=inside: i.received == b"still heard")
            client.bare.close()
            await until(lambda i=inside: len(i.heard) > 2)
            self.assertEqual(inside.heard[-1], reason)

    async def test_new_keys_after_our_end(self) -> None:
        """There is no answer to that any more, and what is behind it is still read."""
        client, inside, transport = await self.secured()
        transport.loseWriteConnection()
        await until(lambda: "ended" in inside.heard)
        client.renew()
        client.send(DATA, b"still heard")
        client.send(ALERT, CLOSE_NOTIFY)
        await until(lambda: len(inside.heard) > 2)
        self.assertEqual(inside.received, b"still heard")
        self.assertEqual(inside.heard[-1], "ConnectionDone")

    async def test_lost(self) -> None:
        """Behind what is buffered: close_notify, FIN."""
        client, inside, transport = await self.secured()
        transport.write(b"z" * (8 << 20))
        transport.loseConnection()
        self.assertGreater(unsent(transport), 0)
        found = await self.rest(client)
        self.assertEqual(sum(len(content) for kind, content in found if kind == DATA), 8 << 20)
        self.assertEqual(found[-1], (ALERT, CLOSE_NOTIFY))
        await until(lambda: len(inside.heard) > 1)
        self.assertEqual(inside.heard, ["handshake", "ConnectionDone"])
        self.assertIsNone(transport.getHandle())

    async def test_goodbye_has_to_wait(self) -> None:
        """The socket takes nothing when it is due."""
        client, inside, transport = await self.secured()
        transport._tls = Stuffed(transport._tls)
        transport.loseWriteConnection()
        await settled(lambda: inside.heard)
        self.assertEqual(inside.heard, ["handshake"])
        transport._tls = transport._tls.real
        self.fast.hub.rearm(transport._socket.fileno())
        await until(lambda: "ended" in inside.heard)
        self.assertEqual(await self.rest(client), [(ALERT, CLOSE_NOTIFY)])

    async def test_aborted(self) -> None:
        client, inside, transport = await self.secured()
        transport.abortConnection()
        self.assertEqual(await self.rest(client), [(0, b"reset")])
        self.assertEqual(inside.heard, ["handshake", "ConnectionAborted"])


class Stuffed:
    """OpenSSL, when the socket takes nothing."""

    def __init__(self, real: SSL.Connection) -> None:
        self.real = real
        self._ssl = real._ssl

    def shutdown(self) -> bool:
        raise SSL.WantWriteError


class FlowTests(HubTlsCase):
    async def test_it_is_tls(self) -> None:
        _, _, transport = await self.secured()
        self.assertTrue(is_encrypted(transport))
        self.assertFalse(is_resumed(transport.getHandle()))
        self.assertEqual(transport.getHandle().get_protocol_version_name(), "TLSv1.3")
        transport.setTcpKeepAlive(True)
        self.assertTrue(transport.getTcpKeepAlive())

    async def test_a_producer(self) -> None:
        """Paused when a lot waits, and resumed when nothing does."""
        client, inside, transport = await self.secured()
        producer = Producer(inside.heard)
        transport.registerProducer(producer, True)
        transport.write(b"z" * (8 << 20))
        self.assertEqual(inside.heard, ["handshake", "pause"])
        await self.read(client, 8 << 20)
        await until(lambda: inside.heard == ["handshake", "pause", "resume"])

    async def test_paused(self) -> None:
        """Nothing is read, and then all of it, without another event."""
        client, inside, transport = await self.secured()
        transport.pauseProducing()
        for number in range(100):
            client.send(DATA, bytes([number]) * 1000)
        await settled(lambda: inside.received)
        self.assertEqual(inside.received, b"")
        transport.resumeProducing()
        await until(lambda: len(inside.received) == 100_000)

    async def test_paused_in_the_middle(self) -> None:
        """By what it is given: the next record has to wait."""
        client, inside, transport = await self.secured()
        outgoing = b"".join(client.ours.seal(DATA, b"%d" % number) for number in range(9))
        took = inside.dataReceived

        def take(data: bytes) -> None:
            took(data)
            transport.pauseProducing()

        inside.dataReceived = take  # type: ignore[method-assign]
        client.bare.sendall(outgoing)
        for number in range(9):
            await settled(lambda: inside.received)
            self.assertEqual(len(inside.received), number + 1)
            transport.resumeProducing()
        self.assertEqual(inside.received, b"012345678")

    async def test_a_turn_is_bounded(self) -> None:
        """The others have theirs in between; what is left comes without another event."""
        self.patch(hub_tls, "BUDGET", 10_000)
        client, inside, transport = await self.secured()
        transport.pauseProducing()
        for number in range(50):
            client.send(DATA, bytes([number]) * 1000)
        await settled(lambda: None)
        transport.resumeProducing()
        transport.happened(select.EPOLLIN)
        self.assertEqual(len(inside.received), 10_000)
        await until(lambda: len(inside.received) == 50_000)

    async def test_nothing_is_left(self) -> None:
        """OpenSSL's part goes with the connection, and waits for no collector of garbage."""
        gc.disable()
        self.addCleanup(gc.enable)
        for leave in (socket.socket.close, lambda bare: bare.send(bytes(100))):
            client, inside, transport = await self.secured()
            handle = weakref.ref(transport.getHandle())
            del transport
            leave(client.bare)
            await until(lambda i=inside: len(i.heard) > 1)
            del inside.transport
            await turn()
            self.assertIsNone(handle())

    async def test_bytes_from_before(self) -> None:
        """What came before TLS could begin is nobody's: nothing good can follow."""
        _, inside, transport = await self.secured()
        transport.dataReceived(b"surplus")
        await until(lambda: len(inside.heard) > 1)
        self.assertEqual(inside.heard, ["handshake", "ConnectionAborted"])
