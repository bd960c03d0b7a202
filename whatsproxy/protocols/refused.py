"""A connection that goes nowhere: a last word in the client's own language, and a clean end."""

from whatsproxy.lingering import LingeringClose
from whatsproxy.protocols.base import ClientProtocol, Proxy
from whatsproxy.reason import Reason
from whatsproxy.session import Session
from whatsproxy.sniff import Kind
from whatsproxy.transport import hand_over

#: TLS's fatal alert unrecognized_name (RFC 8446 6, RFC 6066 3) as a plaintext record.
UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"
_NO_HTTP = b"This proxy does not carry HTTP. It carries WhatsApp, XMPP and TLS.\n"
_NOT_IMPLEMENTED = (
    b"HTTP/1.1 501 Not Implemented\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n"
    b"Connection: close\r\n"
    b"\r\n%s" % (len(_NO_HTTP), _NO_HTTP)
)
_LAST_WORDS = {
    Kind.TLS: UNRECOGNIZED_NAME,
    Kind.HTTP: _NOT_IMPLEMENTED,
    Kind.CONNECT: _NOT_IMPLEMENTED,
}


class Refused(ClientProtocol):
    """Says why, where the client's protocol has words for it, and lets the client go.

    ``detail`` is for the log; ``peer_ended`` says that the client has ended its direction already.
    """

    __slots__ = ("_detail", "_peer_ended")

    def __init__(
        self,
        proxy: Proxy,
        session: Session,
        reason: Reason,
        detail: str = "",
        *,
        peer_ended: bool = False,
    ) -> None:
        super().__init__(proxy, session)
        self.reason: Reason = reason
        self._detail = detail
        self._peer_ended = peer_ended

    def connectionMade(self) -> None:
        """Speak, and go."""
        super().connectionMade()
        last_word = _LAST_WORDS.get(self.session.kind) if self.session.kind else None
        if last_word and self.reason in (Reason.REFUSED_NAME, Reason.NOT_IMPLEMENTED):
            self.transport.write(last_word)
        hand_over(
            self,
            LingeringClose(self.proxy.clock, self._gone, peer_ended=self._peer_ended),
        )

    def _gone(self) -> None:
        self.session.close(self.reason, self._detail)
