"""The account of a soak: what was carried, what was broken, and whether that is explained."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.chaos.orders import Order
from tests.chaos.transfers import HTTP, WAYS, Outcome

#: Ways on which only a whole transfer ends in good order, whatever happens on the way.
SELF_CONTAINED = frozenset({*HTTP, "through"})
#: Seconds after an event in which what it has broken is still being noticed.
ECHO = 2.0


@dataclass
class Line:
    """What is known of one way through one proxy."""

    connections: int = 0
    complete: int = 0
    #: Payload bytes of complete transfers, both directions.
    carried: int = 0
    #: Broken by a fault that was ordered, or by an event that was going on.
    broken: int = 0
    lost: int = 0
    unexplained: int = 0


@dataclass
class Event:
    """Something that breaks what it meets, such as the death of a SOCKS server."""

    #: Through which proxy, and with which outcomes.
    proxy: str
    hows: frozenset[str]
    #: Whether it keeps newcomers out and touches nobody else.
    at_the_door: bool
    began: float
    ended: float | None = None

    def explains(self, proxy: str, how: str, got: int, since: float, until: float) -> bool:
        """Tell whether a transfer during this time may have ended so because of it."""
        over = self.ended is not None and self.ended + ECHO < since
        here = proxy == self.proxy and how in self.hows and self.began <= until and not over
        return here and not (self.at_the_door and (got or since < self.began - ECHO))


@dataclass
class Account:
    """All that has happened."""

    lines: dict[tuple[str, str], Line] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    #: What must not be: in words, the first of them.
    wrong: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def line(self, proxy: str, way: str) -> Line:
        """Return the line of a way through a proxy."""
        return self.lines.setdefault((proxy, way), Line())

    @contextmanager
    def event(self, name: str, proxy: str, *hows: str, at_the_door: bool = False) -> Iterator[None]:
        """Note that something goes on that explains these outcomes."""
        self.faults[name] += 1
        event = Event(proxy, frozenset(hows), at_the_door, time.monotonic())
        self.events.append(event)
        try:
            yield
        finally:
            event.ended = time.monotonic()

    def connection(
        self, proxy: str, way: str, orders: Sequence[Order], outcomes: list[Outcome], began: float
    ) -> None:
        """Enter the transfers of one connection, which began at this time (monotonic)."""
        line = self.line(proxy, way)
        line.connections += 1
        for order, outcome in zip(orders, outcomes, strict=False):
            if order.fault:
                self.faults[f"upstream: {order.fault}"] += 1
            verdict = self.judge(proxy, way, order, outcome, began)
            self.enter(verdict, proxy, way, f"{outcome}, of {order}")
            if verdict == "complete":
                line.carried += order.up + outcome.got

    def judge(self, proxy: str, way: str, order: Order, outcome: Outcome, began: float) -> str:
        """Return complete, broken (for a reason that is known), lost or unexplained."""
        how = outcome.how
        if how == "wrong" or (how == "complete" and order.fault in ("reset", "hang", "unread")):
            return "lost"
        if how == "complete":
            return "complete"
        all_of_it = order.fault != "end" or how != "short" or outcome.got == order.after
        if all_of_it and how in expected(order, way, by_socks=proxy != "direct"):
            return "broken"
        if how == "short" and way in SELF_CONTAINED:
            return "lost"
        if self.excused(proxy, how, outcome.got, began):
            return "broken"
        # In good order, too early, and nothing has happened: bytes have been lost on the way.
        return "lost" if how == "short" else "unexplained"

    def excused(self, proxy: str, how: str, got: int, began: float) -> bool:
        """Tell whether an event explains what has become of something since then."""
        now = time.monotonic()
        return any(event.explains(proxy, how, got, began, now) for event in self.events)

    def enter(self, verdict: str, proxy: str, way: str, what: str = "") -> None:
        """Count one; what must not be is kept in words."""
        line = self.line(proxy, way)
        setattr(line, verdict, getattr(line, verdict) + 1)
        if verdict in ("lost", "unexplained"):
            self.wrong.append(f"{verdict}: {proxy}: {way}: {what}")


def expected(order: Order, way: str, *, by_socks: bool) -> set[str]:
    """Return how a transfer may end whose order asks for a fault; not: completely."""
    if order.fault == "end":
        # microsocks ends both directions when one has ended; an origin in TLS cannot end one.
        vague = by_socks or way == "through"
        return {"broken"} if way in HTTP else {"short", "broken"} if vague else {"short"}
    if order.fault == "reset":
        refused = {"refused"} if way in HTTP and not order.after else set()
        # A SOCKS server may make an end of it.
        vague = by_socks and way not in SELF_CONTAINED
        return {"broken"} | refused | ({"short"} if vague else set())
    if order.fault in ("hang", "unread"):
        # What ends these is our own time limit.
        return {"broken", "refused"} if way in HTTP else {"broken"}
    if order.fault == "garbage" and way in HTTP:
        return {"refused", "broken"}
    return set()


def table(account: Account) -> str:
    """Return the account as a table in Markdown."""
    rows = ["| through | way in | connections | transfers | GB | broken by faults | lost | odd |"]
    rows.append("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    total = Line()
    for proxy, way in sorted(account.lines, key=lambda key: (key[0], WAYS.index(key[1]))):
        line = account.lines[proxy, way]
        rows.append(row(proxy, way, line))
        for name in vars(line):
            setattr(total, name, getattr(total, name) + getattr(line, name))
    rows.append(row("**all**", "", total))
    return "\n".join(rows)


def row(proxy: str, way: str, line: Line) -> str:
    return (
        f"| {proxy} | {way} | {line.connections:,} | {line.complete:,} | {line.carried / 1e9:.2f} "
        f"| {line.broken:,} | {line.lost:,} | {line.unexplained:,} |"
    )
