"""The stage before the Sniffer where a load balancer says whose connection it is."""

from collections.abc import Callable

from whatsproxy.incremental import NeedMore
from whatsproxy.protocols.base import Proxy
from whatsproxy.protocols.looking import Looking
from whatsproxy.protocols.sniffer import Sniffer
from whatsproxy.proxy_protocol import V2_LIMIT, ProxyHeader, parse_proxy_header
from whatsproxy.reason import Reason
from whatsproxy.session import Session

#: Lets the client of a session in, or says why not.
Admit = Callable[[Session], Reason | None]


class ProxyHeaderReader(Looking[ProxyHeader | None]):
    """Takes the header off, whatever segments it comes in, and lets the client in, or not.

    The sender is trusted: see ``server.proxy_trusted``. Where the header names nobody the sender
    itself is the client.
    """

    __slots__ = ("_admit",)

    most = V2_LIMIT
    too_little = Reason.PROXY_HEADER

    def __init__(self, proxy: Proxy, session: Session, admit: Admit) -> None:
        super().__init__(proxy, session)
        self._admit = admit

    def look(self, data: bytes) -> ProxyHeader | NeedMore | None:
        """Read the header."""
        return parse_proxy_header(data)

    def found(self, what: ProxyHeader | None) -> None:
        """Let the client in."""
        if what is None:
            self.give_up(Reason.PROXY_HEADER)
            return
        session = self.session
        if what.ends is not None:
            session.client, session.ends = what.ends.client, what.ends
        refusal = self._admit(session)
        if refusal is not None:
            self.abort(refusal)  # at once, as at other listeners
        else:
            self.leave_to(Sniffer(self.proxy, session), what.size)
