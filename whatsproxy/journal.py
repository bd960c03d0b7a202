"""The lines that clients' connections leave in the log."""

from typing import Protocol

from twisted.logger import Logger, LogLevel

from whatsproxy.log_forms import protocol_of
from whatsproxy.networks import address_of, neighbourhood
from whatsproxy.reason import Reason
from whatsproxy.session import Session

#: Seconds between two log lines about connections that were rejected for one reason.
REMIND = 60.0
#: The format of the event about a connection's end.
ENDED = (
    "connection ended: {reason} protocol={protocol} to={target} seconds={seconds:.3f}"
    " received={received} sent={sent}{log_who}{log_detail}"
)

log = Logger()


class Lines(Protocol):
    """A way into the log that is shorter than twisted.logger's (see ended_lines)."""

    def ended(
        self, session: Session, reason: Reason, detail: str, seconds: float, client: str
    ) -> None:
        """Write the line about a connection's end, soon, if it is wanted."""


class Journal:
    """Writes them. ``clients`` is how much of an address: ``none``, ``network`` or ``full``."""

    def __init__(self, clients: str) -> None:
        self._clients = clients
        self._silent_until: dict[Reason, float] = {}
        self._lines: Lines | None = None

    def write_to(self, lines: Lines | None) -> None:
        """Let the lines about ends take the short way, or again (None) that of all events."""
        self._lines = lines

    def ended(self, session: Session, reason: Reason, detail: str, seconds: float) -> None:
        """Write the one line of a connection that has ended."""
        if self._lines is None:
            self._emit_ended(session, reason, detail, seconds)
        else:
            self._lines.ended(session, reason, detail, seconds, self._who(session.client))

    def _emit_ended(self, session: Session, reason: Reason, detail: str, seconds: float) -> None:
        log.emit(
            LogLevel.warn if reason.error else LogLevel.info,
            ENDED,
            reason=reason.value,
            protocol=protocol_of(session),
            target=session.target or "-",
            seconds=seconds,
            received=session.received,
            sent=session.sent,
            detail=detail,
            log_detail=f" ({detail})" if detail else "",
            **self._who_fields(session.client),
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
                **self._who_fields(client),
            )

    def _who_fields(self, client: int | None) -> dict[str, str]:
        """Return the client as a field of its own, and as a part of a text line."""
        who = self._who(client)
        return {"client": who, "log_who": f" client={who}"} if who else {"log_who": ""}

    def _who(self, client: int | None) -> str:
        """Return what is told of a client: nothing (an empty text), its network, its address."""
        if client is None or self._clients == "none":
            return ""
        return address_of(client) if self._clients == "full" else neighbourhood(client)
