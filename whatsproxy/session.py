"""The account: one Session a connection, one Ledger a service.

A session is opened at accept and closed exactly once, when nothing of the connection is left. The
ledger keeps integers only, so that the hot paths pay an addition; who wants to know (the metrics,
the drain) reads it.
"""

import enum
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import attrs

from whatsproxy.proxy_protocol import Ends
from whatsproxy.reason import Reason
from whatsproxy.route import EVERY_KIND
from whatsproxy.sniff import Kind

#: Seconds; the upper bounds of both histograms, +Inf implied.
TIME_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


#: The methods that have a label of their own in the metrics.
HTTP_METHODS = frozenset(
    {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"CONNECT"}
)
OTHER = "other"
_METHOD_LABELS = {method: method.decode("ascii") for method in HTTP_METHODS}
_RESUMED = {True: "yes", False: "no", None: "unknown"}
_STATUS_LABELS = {number: f"{number}xx" for number in range(1, 6)}


class AnsweredBy(enum.Enum):
    """Whose answer an HTTP request got."""

    UPSTREAM = "upstream"
    PROXY = "proxy"

    def __init__(self, label: str) -> None:
        #: The value, at the cost of an attribute.
        self.label = label


class Holder(Protocol):
    """Whatever owns a session's transports at the moment: sniffer, tunnel, relay, last words."""

    def abort(self, reason: Reason) -> None:
        """Give both transports up at once; the session closes when they are gone."""

    def drain(self) -> None:
        """Finish what is under way and then end; where no end is to be seen, do nothing."""

    def held(self) -> int:
        """Return how many bytes wait for somebody, here and in the transports."""

    def limit(self, size: int) -> None:
        """Read so many bytes at a time, and no more while as many wait for somebody."""


class Histogram:
    """Counts of times in TIME_BUCKETS, not cumulated, and their sum in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(TIME_BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(TIME_BUCKETS, seconds)] += 1
        self.total += seconds


@attrs.define(eq=False)
class Session:
    """One client connection from accept to close.

    ``received`` and ``sent`` are payload bytes from and to the client; ``kind`` is None until the
    sniffer has decided, ``inner`` is what was found inside TLS that ends here; ``target`` is for
    the log. ``kinds`` are those that its listener takes. ``client`` is the number of the client's
    address (see networks), None where it has none; ``ends`` is what a load balancer has said;
    ``admitted``: the client's limits count it; ``relayed``: it comes by way of one.
    ``buffered`` bytes waited for somebody at the last look, when so many had ``moved``.
    """

    ledger: "Ledger"
    started: float
    kinds: frozenset[Kind] = EVERY_KIND
    client: int | None = None
    ends: Ends | None = None
    admitted: bool = False
    relayed: bool = False
    holder: Holder | None = None
    kind: Kind | None = None
    inner: Kind | None = None
    target: str = ""
    received: int = 0
    sent: int = 0
    closed: bool = False
    buffered: int = 0
    moved: int = -1

    def detected(self, kind: Kind) -> None:
        """Count the connection by what it is on the wire: once, whatever comes of it."""
        assert self.kind is None, "a connection is of one kind"
        self.kind = kind
        self.ledger.detected(self)

    def detected_inside(self, kind: Kind) -> None:
        """Count what a connection carries inside TLS."""
        assert self.inner is None, "a connection carries one kind"
        self.inner = kind
        self.ledger.inner_kinds[kind] += 1

    @property
    def carried(self) -> Kind | None:
        """What the connection is about, in TLS or not."""
        return self.inner or self.kind

    def close(self, reason: Reason, detail: str = "") -> None:
        """End the account; to be called once, when no transport is left."""
        assert not self.closed, "a session closes once"
        self.closed = True
        self.holder = None
        self.ledger.closed(self, reason, detail)


class Ledger:
    """All that is counted. ``now`` returns seconds that never go back."""

    def __init__(
        self,
        now: Callable[[], float],
        on_close: Callable[[Session, Reason, str, float], None] = lambda *_: None,
    ) -> None:
        self._now = now
        self._on_close = on_close
        self._waiting: Callable[[], None] | None = None
        self.live: set[Session] = set()
        self.accepted = 0
        self.rejected = 0
        self.undetected = 0
        self.errors = 0
        self.kinds = dict.fromkeys(Kind, 0)
        self.inner_kinds = dict.fromkeys(Kind, 0)
        self.ends = dict.fromkeys(Reason, 0)
        #: TLS handshakes of clients by result, version, and whether a ticket resumed them.
        self.handshakes: Counter[tuple[str, str, str]] = Counter()
        self.handshake_time = Histogram()
        #: Attempts to read something anew, by what it is and the result.
        self.reloads = Counter({("certificates", "ok"): 0, ("certificates", "failed"): 0})
        #: Names and passwords of HTTP requests, by what was found of them.
        self.logins = {"ok": 0, "failed": 0, "busy": 0}
        #: Whether listeners wait for descriptors, and how often that has begun.
        self.accept_paused = False
        self.accept_pauses = 0
        self.sniff_time = Histogram()
        self.connect_time = Histogram()
        #: HTTP requests by method, class of status and who answered.
        self.http_requests: Counter[tuple[str, str, str]] = Counter()
        # Bytes of the sessions that have closed; those of live ones are added when asked for.
        self._received = 0
        self._sent = 0

    def open(self, kinds: frozenset[Kind] = EVERY_KIND, client: int | None = None) -> Session:
        """Count an accepted connection and return its session."""
        self.accepted += 1
        session = Session(self, self._now(), kinds, client)
        self.live.add(session)
        return session

    def reject(self, reason: Reason) -> None:
        """Count a connection that was closed at accept."""
        self.accepted += 1
        self.rejected += 1
        self._count_end(reason)

    def detected(self, session: Session) -> None:
        """Count the session's kind (called by the session)."""
        assert session.kind is not None
        self.kinds[session.kind] += 1
        self.sniff_time.observe(self._now() - session.started)

    def closed(self, session: Session, reason: Reason, detail: str) -> None:
        """Move a session's figures to the totals (called by the session)."""
        self.live.remove(session)
        self._received += session.received
        self._sent += session.sent
        if session.kind is None:
            self.undetected += 1
        self._count_end(reason)
        self._on_close(session, reason, detail, self._now() - session.started)
        if not self.live and self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting()

    def handshake(self, result: str, version: str = "none", resumed: bool | None = False) -> None:
        """Count a client's TLS handshake; ``result`` and ``version`` are ours, not a stranger's."""
        self.handshakes[result, version, _RESUMED[resumed]] += 1

    def answered(self, method: bytes, status: int, by: "AnsweredBy") -> None:
        """Count an HTTP request by its answer; what a stranger makes up is ``other``."""
        known = _METHOD_LABELS.get(method, OTHER)
        status_class = _STATUS_LABELS.get(status // 100, OTHER)
        self.http_requests[known, status_class, by.label] += 1

    def when_idle(self, call: Callable[[], None] | None) -> None:
        """Call once, as soon as no session is live; None takes the call back."""
        self._waiting = call
        if call is not None and not self.live:
            self._waiting = None
            call()

    @property
    def received(self) -> int:
        """Bytes from clients, those of live sessions included."""
        return self._received + sum([session.received for session in self.live])

    @property
    def sent(self) -> int:
        """Bytes to clients, those of live sessions included."""
        return self._sent + sum([session.sent for session in self.live])

    def _count_end(self, reason: Reason) -> None:
        self.ends[reason] += 1
        if reason.error:
            self.errors += 1
