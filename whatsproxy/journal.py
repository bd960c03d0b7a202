"""The lines that clients' connections leave in the log."""

from twisted.logger import Logger, LogLevel

from whatsproxy.networks import address_of, neighbourhood
from whatsproxy.reason import Reason
from whatsproxy.session import Session

#: Seconds between two log lines about connections that were rejected for one reason.
REMIND = 60.0

log = Logger()


class Journal:
    """Writes them. ``clients`` is how much of an address: ``none``, ``network`` or ``full``."""

    def __init__(self, clients: str) -> None:
        self._clients = clients
        self._silent_until: dict[Reason, float] = {}

    def ended(self, session: Session, reason: Reason, detail: str, seconds: float) -> None:
        """Write the one line of a connection that has ended."""
        log.emit(
            LogLevel.warn if reason.error else LogLevel.info,
            "connection ended: {reason} protocol={protocol} to={target} seconds={seconds:.3f}"
            " received={received} sent={sent}{log_who}{log_detail}",
            reason=reason.value,
            protocol=protocol_of(session),
            target=session.target or "-",
            seconds=seconds,
            received=session.received,
            sent=session.sent,
            detail=detail,
            log_detail=f" ({detail})" if detail else "",
            **self._who(session.client),
        )

    def rejected(self, reason: Reason, client: int | None, count: int, now: float) -> None:
        """Tell of a connection that was closed at accept; a line a minute tells of all."""
        if now >= self._silent_until.get(reason, 0.0):
            self._silent_until[reason] = now + REMIND
            log.warn(
                "connections rejected: {reason}: {text}: {count} so far{log_who}",
                reason=reason.value,
                text=reason.text,
                count=count,
                **self._who(client),
            )

    def _who(self, client: int | None) -> dict[str, str]:
        """Return the client as a field of its own, and as a part of a text line."""
        if self._clients == "none" or client is None:
            return {"log_who": ""}
        who = (address_of if self._clients == "full" else neighbourhood)(client)
        return {"client": who, "log_who": f" client={who}"}


def protocol_of(session: Session) -> str:
    """Return what a connection was, for the log: ``tls/http`` where TLS ended here."""
    if session.kind is None:
        return "undetected"
    return session.kind.value + (f"/{session.inner.value}" if session.inner else "")
