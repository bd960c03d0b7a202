"""A connection that goes nowhere: a last word in the client's own language, and a clean end."""

from whatsproxy.protocols.base import ClientProtocol, Proxy
from whatsproxy.reason import Reason
from whatsproxy.session import Session

#: TLS's fatal alert unrecognized_name (RFC 8446 6, RFC 6066 3) as a plaintext record.
UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"


class Refused(ClientProtocol):
    """Says why, where the client's protocol has words for it, and lets the client go.

    ``detail`` is for the log; ``peer_ended`` says that the client has ended its direction already.
    """

    __slots__ = ("_detail", "_last_word", "_peer_ended")

    def __init__(
        self,
        proxy: Proxy,
        session: Session,
        reason: Reason,
        detail: str = "",
        *,
        last_word: bytes = b"",
        peer_ended: bool = False,
    ) -> None:
        super().__init__(proxy, session)
        self.reason: Reason = reason
        self._detail = detail
        self._last_word = last_word
        self._peer_ended = peer_ended

    def connectionMade(self) -> None:
        """Speak, and go."""
        super().connectionMade()
        if self._last_word:
            self.transport.write(self._last_word)
        self.part(self.reason, self._detail, peer_ended=self._peer_ended)
