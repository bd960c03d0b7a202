"""Tunnels whose client speaks HTTP, and is answered in it when there is no way."""

from whatsproxy.http1.answers import ANSWERS, ESTABLISHED, answer_to, as_bytes
from whatsproxy.protocols.tunnel import Tunnel
from whatsproxy.reason import Reason
from whatsproxy.session import AnsweredBy


class HttpTunnel(Tunnel):
    """To the web server that answers for us; it needs no word of ours, unless it is not there."""

    __slots__ = ()

    #: Of the request that asked for it, for the metrics: here nobody has read it.
    method = b""

    def last_word(self, reason: Reason, detail: str) -> bytes:
        """Say why there is none. Close: what the client has sent behind is not for us."""
        answer = as_bytes(answer_to(reason, detail, close=True))
        self.answered(ANSWERS[reason][0], answer)
        return answer

    def answered(self, status: int, answer: bytes) -> None:
        """Count an answer of ours."""
        self.proxy.ledger.answered(self.method, status, AnsweredBy.PROXY)
        self.session.sent += len(answer)


class ConnectTunnel(HttpTunnel):
    """A tunnel that the client has asked for, and that says when it is there (RFC 9110 9.3.6)."""

    __slots__ = ()

    method = b"CONNECT"

    def connected(self) -> None:
        """Say that the tunnel is there."""
        self.answered(200, ESTABLISHED)
        self.transport.write(ESTABLISHED)
