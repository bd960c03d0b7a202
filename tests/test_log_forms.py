"""The line about a connection's end: by the short way it is what it would be as an event."""

import json
import math
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import ledger_and_time
from tests.test_logs import hostile
from whatsproxy.journal import Journal
from whatsproxy.log_forms import Stamps, ended_json, ended_text, stamp_of
from whatsproxy.logs import json_line, text_line
from whatsproxy.networks import number_of
from whatsproxy.reason import Reason
from whatsproxy.session import Session
from whatsproxy.sniff import Kind

#: Microseconds since the epoch, until the year 2100.
moments = st.integers(0, 4_102_444_800_000_000).map(lambda microseconds: microseconds / 1e6)
counts = st.integers(0, 1 << 60)
clients = st.none() | st.ip_addresses().map(str).map(number_of)


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    ledger, _ = ledger_and_time()
    session = ledger.open(client=draw(clients))
    session.kind = draw(st.none() | st.sampled_from(Kind))
    if session.kind is not None:
        session.inner = draw(st.none() | st.sampled_from(Kind))
    session.target = draw(st.sampled_from(["", "g.whatsapp.net:5222"]) | hostile)
    session.received, session.sent = draw(counts), draw(counts)
    return session


def event_of(session: Session, reason: Reason, detail: str, seconds: float, much: str) -> LogEvent:
    """Return the event that a journal logs when it has no other way."""
    events: list[LogEvent] = []
    # trial's observers, which are of an older kind, would add to the event.
    with mock.patch.object(globalLogPublisher, "_observers", [events.append]):
        Journal(much).ended(session, reason, detail, seconds)
    return events[0]


class EndedTests(SynchronousTestCase):
    @given(
        sessions(),
        st.sampled_from(Reason),
        st.just("") | hostile,
        st.floats(0, 1e9) | st.integers(0, 100),
        st.sampled_from(["none", "network", "full"]),
        moments,
    )
    def test_to_the_letter(
        self,
        session: Session,
        reason: Reason,
        detail: str,
        seconds: float,
        much: str,
        moment: float,
    ) -> None:
        event = event_of(session, reason, detail, seconds, much)
        event["log_time"] = moment
        level = "warn" if reason.error else "info"
        client = Journal(much)._who(session.client)
        for form, ordinary in ((ended_text, text_line), (ended_json, json_line)):
            line = form(Stamps()(moment), level, session, reason, detail, seconds, client)
            self.assertEqual(line, ordinary(event))
            self.assertEqual(len(line.splitlines()), 1)

    def test_lines(self) -> None:
        """They are what docs/operations.md shows."""
        ledger, _ = ledger_and_time()
        session = ledger.open()
        session.detected(Kind.WHATSAPP)
        session.target, session.received, session.sent = "g.whatsapp.net:5222", 912, 20311
        values = ("2026-11-22T20:23:04.985Z", "info", session, Reason.CLIENT_CLOSED, "", 12.004, "")
        message = (
            "connection ended: client_closed protocol=whatsapp to=g.whatsapp.net:5222"
            " seconds=12.004 received=912 sent=20311"
        )
        self.assertEqual(ended_text(*values), f"2026-11-22T20:23:04.985Z info {message}\n")
        self.assertEqual(
            json.loads(ended_json(*values)),
            {
                "time": "2026-11-22T20:23:04.985Z",
                "level": "info",
                "logger": "whatsproxy.journal",
                "message": message,
                "reason": "client_closed",
                "protocol": "whatsapp",
                "target": "g.whatsapp.net:5222",
                "seconds": 12.004,
                "received": 912,
                "sent": 20311,
                "detail": "",
            },
        )


class StampTests(SynchronousTestCase):
    @given(st.lists(moments, min_size=1, max_size=20))
    @example([1.0, 0.999999, 1.000999, 1.001, 1.0, 0.0])
    def test_remembered(self, times: list[float]) -> None:
        """What was before, and how long ago, makes no difference."""
        stamps = Stamps()
        for moment in times:
            for near in (moment, moment + 0.0004, math.floor(moment), moment):
                self.assertEqual(stamps(round(near, 6)), stamp_of(round(near, 6)))
