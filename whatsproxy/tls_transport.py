"""TLS as a transport: Twisted's, with the ends of a connection as this program means them."""

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.protocols.tls import BufferingTLSTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.openssl import STEP

#: Bytes that OpenSSL gets to see at a time: a record.
PIECE = 16 * 1024
#: More steps of a handshake than this, once it is done, are an attack: an honest peer changes its
#: keys once in hundreds of gigabytes.
STEPS = 100
#: SSL_MODE_ENABLE_PARTIAL_WRITE of openssl/ssl.h, which pyOpenSSL sets and does not name.
_PARTIAL_WRITE = 1
CONNECTION_DONE = Failure(ConnectionDone())
CONNECTION_ABORTED = Failure(ConnectionAborted())


class Encrypted:
    """A transport that is TLS."""

    __slots__ = ()


@implementer(IHalfCloseableProtocol)
class TlsTransport(BufferingTLSTransport, Encrypted):
    """Ends its direction by close_notify and FIN; knows a truncated stream from an ended one.

    Twisted's own would send the FIN without close_notify, which looks like an attack to the peer,
    and never tell when it is out.
    """

    #: Steps of OpenSSL's that belong to no data, since the handshake.
    steps = 0
    #: Whether the peer, when we have ended our direction, must still end its own by close_notify.
    owes_goodbye = False
    _goodbye = False
    _half_closed = False

    def dataReceived(self, bytes: bytes) -> None:
        """Take what arrived, a piece at a time: it may be thousands of messages about keys."""
        for start in range(0, len(bytes), PIECE):
            if self._tlsConnection is None or self._lostTLSConnection:
                return
            super().dataReceived(bytes[start : start + PIECE])  # type: ignore[no-untyped-call]
            if self.steps > STEPS:
                self.abortConnection()
                return

    def loseWriteConnection(self) -> None:
        """Send what is buffered, then close_notify and FIN; go on reading."""
        below: Any = self.transport
        self._half_closed = True
        self.loseConnection()
        if self.connected and not below.disconnecting:
            below.loseWriteConnection()

    def loseConnection(self) -> None:
        """Send what is buffered, then close_notify; asked again, wait for no answer to that."""
        below: Any = self.transport
        if self.disconnecting and self.connected:
            below.loseConnection()
        else:
            super().loseConnection()

    def stepped(self) -> None:
        """Count a step (called from inside OpenSSL)."""
        self.steps += 1

    @property
    def settled(self) -> bool:
        """Whether the handshake is done."""
        return bool(self._handshakeDone)

    def abortConnection(self) -> None:
        """Break off, if there is still something to be broken off."""
        if self.connected:
            super().abortConnection()  # type: ignore[no-untyped-call]  # Twisted's own

    def connectionLost(self, reason: Failure = CONNECTION_DONE) -> None:
        """Tell the protocol; who has said goodbye may end TCP as it likes."""
        if not hasattr(self, "_tlsConnection"):  # it could not even begin
            self.wrappedProtocol.connectionLost(reason)
            return
        if not reason.check(ConnectionClosed):
            self._reason = reason  # an error of ours, which TLS would take for a broken connection
        elif self._handshakeDone and self._reason is not None and self._reason.check(SSL.Error):
            self._reason = CONNECTION_ABORTED  # what the peer sent was no TLS, or an alert
        super().connectionLost(CONNECTION_DONE if self._goodbye else reason)

    def writeConnectionLost(self) -> None:
        """The kernel has all, FIN too."""
        protocol = IHalfCloseableProtocol(self.wrappedProtocol, None)
        if protocol is not None:
            protocol.writeConnectionLost()

    def readConnectionLost(self) -> None:
        """The peer has ended TCP; whether TLS was ended before, TLS itself knows."""
        below: Any = self.transport
        below.loseConnection()

    def _flushSendBIO(self) -> None:
        # When both directions of TCP have ended, to lose the connection is to have lost it. And
        # Twisted's own takes 32 KiB at the most, which a long chain of certificates passes.
        below: Any = self.transport
        while self._tlsConnection is not None:
            try:
                below.write(self._tlsConnection.bio_read(1 << 16))
            except SSL.WantReadError:
                return

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        # Who has got our close_notify need not answer it (RFC 8446 6.1), if it had no more to say.
        if reason is None:
            self._goodbye = True  # theirs has come
        elif self.disconnecting and not (
            self._aborted or (self._half_closed and self.owes_goodbye)
        ):
            reason = None
        super()._tlsShutdownFinished(reason)  # type: ignore[no-untyped-call]  # Twisted's own


def note_step(connection: SSL.Connection, where: int, _: int) -> None:
    """Watch what OpenSSL does besides data, once there is TLS (its info callback).

    There is little to be done then: who has the keys changed again and again, or asks for
    renegotiation, keeps us busy, and fills the buffer with refusals.
    """
    transport = connection.get_app_data()
    if transport is not None and where & STEP and transport.settled:
        transport.stepped()


def write_whole(context: SSL.Context) -> None:
    """Let a context's connections take all that they are given, where the socket does.

    pyOpenSSL would have them return after each record.
    """
    context.clear_mode(_PARTIAL_WRITE)


def openssl_says(failure: Failure) -> str:
    """Return why TLS, or TCP below it, has ended, in the library's own words."""
    error = failure.value
    if isinstance(error, SSL.Error) and error.args and error.args[0]:
        return ", ".join(reason for _, _, reason in error.args[0])
    return failure.getErrorMessage().rstrip(".")


def is_encrypted(transport: Any) -> bool:
    """Whether a transport is TLS, where breaking off differs from ending for the peer."""
    return isinstance(transport, Encrypted)
