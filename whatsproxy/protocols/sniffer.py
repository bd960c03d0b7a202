"""The first protocol of every connection: buffer, decide, hand over, be gone."""

from whatsproxy.incremental import NeedMore
from whatsproxy.protocols.looking import Looking
from whatsproxy.reason import Reason
from whatsproxy.sniff import SNIFF_LIMIT, Sniffed, sniff


class Sniffer(Looking[Sniffed]):
    """Waits for the kind. The same outside of TLS and, once more, inside."""

    __slots__ = ()

    most = SNIFF_LIMIT
    too_little = Reason.UNDETECTED

    def look(self, data: bytes) -> Sniffed | NeedMore:
        """Ask for the kind."""
        return sniff(data)

    def found(self, what: Sniffed) -> None:
        """Count the kind, and leave the connection to who serves it."""
        if self.session.kind is None:
            self.session.detected(what.kind)
        else:
            self.session.detected_inside(what.kind)
        self.leave_to(self.proxy.protocol_for(what, self.session))
