"""TLS that ends here: the handshake, and then a Sniffer for what is inside."""

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IHandshakeListener
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.openssl import is_resumed
from whatsproxy.protocols.base import ClientProtocol, Proxy
from whatsproxy.protocols.sniffer import Sniffer
from whatsproxy.reason import Reason
from whatsproxy.session import Session
from whatsproxy.tls_transport import openssl_says
from whatsproxy.transport import hand_over, send_at_once

#: Of versions; OpenSSL's own.
_NAMES = {SSL.TLS1_2_VERSION: "TLSv1.2", SSL.TLS1_3_VERSION: "TLSv1.3"}


@implementer(IHandshakeListener)
class TlsHandshake(ClientProtocol):
    """The inside of TLS until there is one: waits for the handshake, and counts it."""

    __slots__ = ("_expired", "_started")

    def __init__(self, proxy: Proxy, session: Session) -> None:
        super().__init__(proxy, session)
        self._started = proxy.clock.seconds()
        self._expired = False

    def connectionMade(self) -> None:
        """Start the clock; the handshake has only begun."""
        super().connectionMade()
        send_at_once(self.transport)
        self.proxy.handshaking.begin(self)

    def handshakeCompleted(self) -> None:
        """Look at what is inside (called by Twisted)."""
        self.proxy.handshaking.end(self)
        ledger = self.proxy.ledger
        ledger.handshake_time.observe(self.proxy.clock.seconds() - self._started)
        ledger.handshake("ok", *_what_was_agreed(self.transport))
        hand_over(self, Sniffer(self.proxy, self.session))

    def connectionLost(self, reason: Failure) -> None:
        """There was no handshake."""
        self.proxy.handshaking.end(self)
        self.proxy.ledger.handshake("late" if self._expired else "failed")
        theirs = reason.check(ConnectionClosed, SSL.Error)
        why = Reason.TLS_FAILED if theirs else Reason.INTERNAL
        self.session.close(self.reason or why, openssl_says(reason) if theirs else "")

    def expire(self) -> None:
        """Give up."""
        self._expired = True
        self.abort(Reason.TLS_FAILED)


def _what_was_agreed(transport: Any) -> tuple[str, bool | None]:
    """Return the version, and whether a ticket spared the whole handshake."""
    connection = transport.getHandle()
    version = connection.get_protocol_version()
    return _NAMES.get(version) or f"{version:#06x}", is_resumed(connection)
