"""OpenSSL without pyOpenSSL's methods: what comes of it is what comes of them."""

import contextlib
import socket
import struct
from typing import Any

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests.peers import reactor
from tests.support import log_lines
from tests.tls_peers import TLS12, client_context, server_context
from tests.tls_support import own_certificate
from whatsproxy import openssl
from whatsproxy.openssl import (
    RECORD,
    count_steps,
    is_known,
    is_resumed,
    read,
    shake_hands,
    write,
)
from whatsproxy.service import fast_reactor
from whatsproxy.session import Ledger

NOT_YET = (SSL.WantReadError, SSL.WantWriteError)


class Owner:
    """Whose connection it is."""

    steps = 0

    def stepped(self) -> None:
        self.steps += 1


class ConnectionCase(SynchronousTestCase):
    """Two ends of TLS on sockets that do not block: ours, and one that pyOpenSSL serves."""

    #: The newest version of the other end.
    newest = 0

    def setUp(self) -> None:
        self.context = server_context(own_certificate())
        self.context.set_session_id(b"x")
        self.theirs = client_context(newest=self.newest)
        self.begin()

    def pair(self) -> tuple[socket.socket, socket.socket]:
        return socket.socketpair()

    def begin(self, session: Any = None) -> None:
        self.sockets = self.pair()
        for end in self.sockets:
            end.setblocking(False)
            self.addCleanup(end.close)
        self.near = SSL.Connection(self.context, self.sockets[0])
        self.far = SSL.Connection(self.theirs, self.sockets[1])
        self.near.set_accept_state()
        self.far.set_connect_state()
        if session is not None:
            self.far.set_session(session)

    def far_shakes(self) -> None:
        with contextlib.suppress(*NOT_YET):
            self.far.do_handshake()

    def secure(self) -> None:
        for _ in range(3):
            self.far_shakes()
            if shake_hands(self.near):
                break
        self.far.do_handshake()


class CallTests(ConnectionCase):
    def test_handshake(self) -> None:
        self.assertFalse(shake_hands(self.near))
        self.assertFalse(shake_hands(self.near))
        self.far_shakes()
        self.assertFalse(shake_hands(self.near))
        self.far_shakes()
        self.assertTrue(shake_hands(self.near))
        self.far.send(b"x")
        self.assertEqual(read(self.near), b"x")

    def test_no_tls(self) -> None:
        self.sockets[1].send(b"GET / HTTP/1.1\r\n\r\n")
        with self.assertRaises(SSL.Error) as caught:
            shake_hands(self.near)
        self.assertIs(type(caught.exception), SSL.Error)
        self.assertEqual(caught.exception.args[0][0][2], "http request")

    def test_an_end_instead_of_a_handshake(self) -> None:
        self.sockets[1].close()
        with self.assertRaises(SSL.SysCallError) as caught:
            shake_hands(self.near)
        self.assertEqual(caught.exception.args, (-1, "Unexpected EOF"))

    def test_read(self) -> None:
        """A record at a time, nothing that has not come, and what is read stays what it is."""
        self.secure()
        self.assertIsNone(read(self.near))
        most = bytes(range(256)) * (RECORD // 256)
        self.far.send(b"first")
        self.far.send(most)
        self.far.send(b"\0")
        first = read(self.near)
        self.assertEqual(read(self.near), most)
        self.assertEqual(read(self.near), b"\0")
        self.assertIsNone(read(self.near))
        self.assertEqual(first, b"first")

    def test_close_notify(self) -> None:
        self.secure()
        self.far.send(b"last")
        self.far.shutdown()
        self.assertEqual([read(self.near) for _ in range(3)], [b"last", b"", b""])

    def test_broken_off(self) -> None:
        self.secure()
        self.sockets[1].shutdown(socket.SHUT_WR)
        with self.assertRaises(SSL.SysCallError) as caught:
            read(self.near)
        self.assertEqual(caught.exception.args[0], -1)

    def test_garbage(self) -> None:
        self.secure()
        self.sockets[1].send(b"\x17\x03\x03\x00\x20" + bytes(32))
        with self.assertRaises(SSL.Error) as caught:
            read(self.near)
        self.assertIs(type(caught.exception), SSL.Error)

    def test_write(self) -> None:
        """Both kinds of bytes, the second of which can be changed again at once."""
        self.secure()
        buffer = bytearray(b"two")
        self.assertEqual([write(self.near, b"one"), write(self.near, buffer)], [3, 3])
        del buffer[:2]
        self.assertEqual([self.far.recv(100), self.far.recv(100)], [b"one", b"two"])

    def test_no_room(self) -> None:
        self.secure()
        with self.assertRaises(SSL.WantWriteError):
            for _ in range(1000):
                write(self.near, bytes(RECORD))

    def test_a_broken_pipe(self) -> None:
        self.secure()
        self.sockets[1].close()
        with self.assertRaises(SSL.SysCallError) as caught:
            write(self.near, b"x")
        self.assertEqual(caught.exception.args[1], "EPIPE")


class HeardTests(ConnectionCase):
    def test_resumed(self) -> None:
        """Not the first one, but that whose client has a ticket."""
        self.secure()
        self.assertFalse(is_resumed(self.near))
        write(self.near, b"behind the tickets")
        self.far.recv(100)
        self.far.shutdown()  # what ends otherwise is not resumed
        self.begin(self.far.get_session())
        self.secure()
        self.assertTrue(is_resumed(self.near))

    def test_goodbye_is_no_step(self) -> None:
        """Nor is data; a client that says both is no attacker."""
        self.secure()
        owner = Owner()
        self.near.set_app_data(owner)
        count_steps(self.near)
        self.far.send(b"data")
        self.assertEqual(read(self.near), b"data")
        write(self.near, b"data")
        self.far.shutdown()
        self.assertEqual(read(self.near), b"")
        self.near.shutdown()
        self.assertEqual(owner.steps, 0)


class ErrorTests(ConnectionCase):
    """OpenSSL's queue of errors is empty afterwards: what is in it is taken for the next one's."""

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Return two ends of TCP, which alone has resets."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            far = socket.create_connection(listener.getsockname())
            return listener.accept()[0], far

    def setUp(self) -> None:
        super().setUp()
        self.secure()
        far = self.sockets[1]
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()

    def test_write(self) -> None:
        self.assertRaises(SSL.SysCallError, write, self.near, b"too late")
        self.assertEqual(openssl._lib.ERR_get_error(), 0)

    def test_read(self) -> None:
        self.assertRaises(SSL.SysCallError, read, self.near)
        self.assertEqual(openssl._lib.ERR_get_error(), 0)

    def test_goodbye(self) -> None:
        """Whose errors pyOpenSSL raises."""
        self.assertRaises(SSL.SysCallError, self.near.shutdown)
        openssl.forget_errors()
        self.assertEqual(openssl._lib.ERR_get_error(), 0)


class StepTests(ConnectionCase):
    """Renegotiation, which is refused, and keeps us busy all the same."""

    newest = TLS12

    def ask_again(self) -> None:
        self.far.renegotiate()
        self.far_shakes()
        self.assertIsNone(read(self.near))

    def test_steps(self) -> None:
        self.secure()
        owner = Owner()
        self.near.set_app_data(owner)
        count_steps(self.near)
        self.assertEqual(owner.steps, 0)
        self.ask_again()
        self.assertGreater(owner.steps, 0)

    def test_nobody_hears_of_steps(self) -> None:
        """Whose owner has left it."""
        self.secure()
        count_steps(self.near)
        self.ask_again()


class LaterVersionTests(ConnectionCase):
    """What is private may change."""

    def test_this_one(self) -> None:
        self.assertTrue(is_known())

    def test_another_one(self) -> None:
        """Then all is on Twisted's transports, and that is said."""
        lines = log_lines(self)
        self.patch(SSL.Connection, "_raise_ssl_error", None)
        del SSL.Connection._raise_ssl_error
        self.assertIs(fast_reactor(reactor), reactor)
        self.assertIn("no fast path here: pyOpenSSL", lines[-1])

    def test_nobody_tells_of_tickets(self) -> None:
        self.patch(openssl, "_session_reused", None)
        self.secure()
        self.assertIsNone(is_resumed(self.near))
        ledger = Ledger(lambda: 0.0)
        ledger.handshake("ok", "TLSv1.3", is_resumed(self.near))
        self.assertEqual(dict(ledger.handshakes), {("ok", "TLSv1.3", "unknown"): 1})
