"""CONNECT: a tunnel that says when it is there (RFC 9110 9.3.6)."""

from whatsproxy.http1.answers import ANSWERS, ESTABLISHED, answer_to, as_bytes
from whatsproxy.protocols.tunnel import Tunnel
from whatsproxy.reason import Reason
from whatsproxy.session import AnsweredBy


class ConnectTunnel(Tunnel):
    """The tunnel behind an HTTP request; its client waits for an answer."""

    __slots__ = ()

    def connected(self) -> None:
        """Say that the tunnel is there."""
        self._answer(200, ESTABLISHED)
        self.transport.write(ESTABLISHED)

    def last_word(self, reason: Reason, detail: str) -> bytes:
        """Say why there is none. Close: what the client has sent for the tunnel is no request."""
        answer = as_bytes(answer_to(reason, detail, close=True))
        self._answer(ANSWERS[reason][0], answer)
        return answer

    def _answer(self, status: int, answer: bytes) -> None:
        self.proxy.ledger.answered(b"CONNECT", status, AnsweredBy.PROXY)
        self.session.sent += len(answer)
