"""TLS on both sides of the proxy: peers that a test controls alert by alert, and whom they trust.

The peers speak TLS by pyOpenSSL's memory BIOs on a plain TCP connection, so that a test decides
what is sent when: a close_notify without FIN, a FIN without close_notify, half a ClientHello.
"""

import contextlib
from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from tests.flood import PIECE, pattern
from tests.peers import Peer, until

#: Whom everyone trusts here.
CA = trustme.CA()
#: The proxy's own name.
OURS = "proxy.example"
TLS12, TLS13 = SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION


class TlsPeer(Peer):
    """One end of TLS. ``received`` is plaintext; what is written before TLS is there waits."""

    def __init__(self, connection: SSL.Connection, *, starts: bool = True) -> None:
        super().__init__()
        self.tls = connection
        #: TLS is there; the other side's close_notify has come; what OpenSSL says has gone wrong.
        self.secured = False
        self.notified = False
        self.error: SSL.Error | None = None
        self.count = 0
        self._starts = starts
        self._waiting = bytearray()
        self._counts = False

    def connectionMade(self) -> None:
        super().connectionMade()
        if self._starts:
            self.go()

    def go(self) -> None:
        """Begin, or go on with, the handshake."""
        try:
            self.tls.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error as e:
            self.error = e
        else:
            self.secured = True
        self.flush()
        if self.secured and self._waiting:
            waiting, self._waiting = bytes(self._waiting), bytearray()
            self.write(waiting)

    def flush(self) -> None:
        """Send what OpenSSL wants to be sent."""
        data = self.outgoing()
        if data and self.lost is None:
            self.transport.write(data)

    def outgoing(self) -> bytes:
        """Return what OpenSSL wants to be sent, for the test to do with as it likes."""
        pieces = []
        with contextlib.suppress(SSL.WantReadError):
            while True:
                pieces.append(self.tls.bio_read(1 << 16))
        return b"".join(pieces)

    def dataReceived(self, data: bytes) -> None:
        while data:
            size = self.tls.bio_write(data)
            data = data[size:]
            if not self.secured and self.error is None:
                self.go()
            if self.secured:
                self._read()

    def _read(self) -> None:
        try:
            while True:
                self.plain(self.tls.recv(1 << 16))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.notified = True
        except SSL.Error as e:
            self.error = e
        self.flush()

    def plain(self, data: bytes) -> None:
        if self._counts:
            if data != pattern(self.count, len(data)):
                raise AssertionError(f"other bytes than those sent, from {self.count} on")
            self.count += len(data)
        else:
            self.received += data

    def count_pattern(self) -> None:
        """Compare with the flood's pattern instead of keeping what comes from now on."""
        self._counts = True

    async def counted(self, size: int) -> None:
        """Wait until so many bytes, all of them right, have arrived."""
        await until(lambda: self.count >= size or self.lost, f"not {size} bytes", 20)
        if self.count != size:
            raise AssertionError(f"{self.count} bytes arrived of {size}")

    def write(self, data: bytes) -> None:
        if not self.secured:
            self._waiting += data
            return
        for start in range(0, len(data), 16384):
            self.tls.send(data[start : start + 16384])
            self.flush()

    def notify(self) -> None:
        """Send close_notify, and no FIN."""
        with contextlib.suppress(SSL.Error):
            self.tls.shutdown()
        self.flush()

    def close(self) -> None:
        """End in good order: close_notify and FIN."""
        if self.secured:
            self.notify()
        super().close()

    async def handshaken(self) -> None:
        """Wait for the end of the handshake, and insist that it went well."""
        await until(lambda: self.secured or self.error or self.lost, "no handshake")
        if not self.secured:
            raise AssertionError(f"no handshake: {self.error or self.lost}")

    async def failed(self) -> str:
        """Wait for the handshake to fail; return OpenSSL's reason, or ``lost``."""
        await until(lambda: self.secured or self.error or self.lost or self.eof, "no end")
        if self.secured:
            raise AssertionError("a handshake")
        return reason_in(self.error)

    async def told(self) -> None:
        """Wait for close_notify."""
        await until(lambda: self.notified or self.lost or self.eof, "no close_notify")
        if not self.notified:
            raise AssertionError("an end without close_notify")

    async def truncated(self) -> None:
        """Wait for the end of the connection, and insist that no close_notify came before."""
        await until(lambda: self.lost or self.eof, "no end")
        if self.notified:
            raise AssertionError("close_notify where the stream was broken off")


@implementer(IPushProducer)
class TlsFlood:
    """Sends so many bytes of the pattern in TLS as fast as TCP takes them, then close_notify."""

    def __init__(self, peer: TlsPeer, size: int, *, close: bool = False) -> None:
        self.sent = 0
        self._peer, self._size, self._close = peer, size, close
        self._paused = False
        peer.transport.registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        while not self._paused and self.sent < self._size:
            piece = pattern(self.sent, min(PIECE, self._size - self.sent))
            self.sent += len(piece)
            self._peer.write(piece)
        if self.sent == self._size:
            self._peer.transport.unregisterProducer()
            if self._close:
                self._peer.close()

    def stopProducing(self) -> None:
        self._size = self.sent


def reason_in(error: SSL.Error | None) -> str:
    """Return OpenSSL's words."""
    if error is None:
        return "lost"
    return ", ".join(str(part[-1]) for part in error.args[0]) if error.args else repr(error)


def client_context(
    *,
    trust: trustme.CA | None = CA,
    protocols: tuple[bytes, ...] = (),
    oldest: int = 0,
    newest: int = 0,
    ciphers: bytes = b"",
    options: int = 0,
) -> SSL.Context:
    """Return the context of a client; ``trust=None`` verifies nothing."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_session_cache_mode(SSL.SESS_CACHE_CLIENT)
    if trust is not None:
        trust.configure_trust(context)
        context.set_verify(SSL.VERIFY_PEER, lambda *arguments: bool(arguments[-1]))
    if protocols:
        context.set_alpn_protos(list(protocols))
    context.set_min_proto_version(oldest)
    context.set_max_proto_version(newest)
    if ciphers:
        context.set_cipher_list(ciphers)
    if options:
        context.set_options(options)
    return context


def client_side(
    name: str | None = OURS, *, session: Any = None, context: SSL.Context | None = None, **more: Any
) -> SSL.Connection:
    """Return the client's side of TLS, by a context or by what one is made from."""
    connection = SSL.Connection(context or client_context(**more), None)
    if name is not None:
        connection.set_tlsext_host_name(name.encode())
    if session is not None:
        connection.set_session(session)
    connection.set_connect_state()
    return connection


def server_context(certificate: trustme.LeafCert, newest: int = 0, oldest: int = 0) -> SSL.Context:
    """Return the context of an upstream."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    certificate.configure_cert(context)
    context.set_min_proto_version(oldest)
    context.set_max_proto_version(newest)
    return context


def server_side(context: SSL.Context) -> SSL.Connection:
    connection = SSL.Connection(context, None)
    connection.set_accept_state()
    return connection
