"""The lines about clients' connections: what they say, and how much of an address."""

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import ledger_and_time
from tests.support import make_settings
from whatsproxy.factory import ProxyFactory
from whatsproxy.journal import REMIND, Journal
from whatsproxy.log_forms import protocol_of
from whatsproxy.networks import number_of
from whatsproxy.reason import Reason
from whatsproxy.session import Session
from whatsproxy.sniff import Kind

V4, V6 = number_of("::ffff:192.0.2.77"), number_of("2001:db8:1:2:3:4:5:6")


class JournalCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    @property
    def lines(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    def session(self, client: int | None = None) -> Session:
        ledger, _ = ledger_and_time()
        return ledger.open(client=client)


class EndedTests(JournalCase):
    def test_line(self) -> None:
        session = self.session(V4)
        session.detected(Kind.TLS)
        session.target, session.received, session.sent = "a.test:443", 12, 3456
        Journal("none").ended(session, Reason.CLIENT_CLOSED, "", 1.23456)
        Journal("none").ended(self.session(), Reason.NO_DATA, "why", 0.0)
        self.assertEqual(
            self.lines,
            [
                "connection ended: client_closed protocol=tls to=a.test:443 seconds=1.235"
                " received=12 sent=3456",
                "connection ended: no_data protocol=undetected to=- seconds=0.000"
                " received=0 sent=0 (why)",
            ],
        )

    def test_level(self) -> None:
        for reason in Reason:
            Journal("none").ended(self.session(), reason, "", 0.0)
            expected = LogLevel.warn if reason.error else LogLevel.info
            self.assertEqual(self.events[-1]["log_level"], expected, reason)

    def test_protocol(self) -> None:
        session = self.session()
        self.assertEqual(protocol_of(session), "undetected")
        session.detected(Kind.TLS)
        self.assertEqual(protocol_of(session), "tls")
        session.detected_inside(Kind.HTTP)
        self.assertEqual(protocol_of(session), "tls/http")

    def test_clients(self) -> None:
        """None of it, its network, or all of it; behind the figures, before the detail."""
        for clients, client, expected in (
            ("none", V4, " sent=0 (why)"),
            ("none", V6, " sent=0 (why)"),
            ("network", V4, " sent=0 client=192.0.2.0/24 (why)"),
            ("network", V6, " sent=0 client=2001:db8:1::/48 (why)"),
            ("full", V4, " sent=0 client=192.0.2.77 (why)"),
            ("full", V6, " sent=0 client=2001:db8:1:2:3:4:5:6 (why)"),
            ("network", None, " sent=0 (why)"),
            ("full", None, " sent=0 (why)"),
        ):
            Journal(clients).ended(self.session(client), Reason.NO_DATA, "why", 0.0)
            self.assertTrue(self.lines[-1].endswith(expected), self.lines[-1])

    def test_no_field_has_it_either(self) -> None:
        """What is not in the line is not in the JSON of it."""
        for clients in ("none", "network"):
            Journal(clients).ended(self.session(V4), Reason.NO_DATA, "", 0.0)
            Journal(clients).rejected(Reason.REJECTED, V4, 1, 0.0)
        for event in self.events:
            for value in event.values():
                self.assertNotIn("192.0.2.77", str(value))
                self.assertNotEqual(value, V4)


class RejectedTests(JournalCase):
    def test_line(self) -> None:
        Journal("none").rejected(Reason.CLIENT_DENIED, V4, 7, 0.0)
        said = f"connections rejected: client_denied: {Reason.CLIENT_DENIED.text}: 7 so far"
        self.assertEqual(self.lines, [said])
        self.assertEqual(self.events[0]["log_level"], LogLevel.warn)

    def test_clients(self) -> None:
        for clients, expected in (
            ("none", "so far"),
            ("network", "so far client=192.0.2.0/24"),
            ("full", "so far client=192.0.2.77"),
        ):
            Journal(clients).rejected(Reason.CLIENT_RATE, V4, 1, 0.0)
            self.assertTrue(self.lines[-1].endswith(expected), self.lines[-1])
        Journal("full").rejected(Reason.CLIENT_RATE, None, 1, 0.0)
        self.assertTrue(self.lines[-1].endswith("so far"))

    def test_once_a_minute(self) -> None:
        """For each reason: a flood of one hides no other."""
        self.assertEqual(REMIND, 60.0)
        journal = Journal("none")
        for n in range(1, 1001):
            journal.rejected(Reason.REJECTED, V4, n, 1000.0 + n / 20)  # 50 seconds
        journal.rejected(Reason.CLIENT_CROWD, V4, 1, 1050.0)
        self.assertEqual(len(self.lines), 2)
        journal.rejected(Reason.REJECTED, V4, 1001, 1000.05 + REMIND - 0.001)
        self.assertEqual(len(self.lines), 2)
        journal.rejected(Reason.REJECTED, V4, 1002, 1000.05 + REMIND)
        self.assertEqual(len(self.lines), 3)
        self.assertIn("rejected: rejected: ", self.lines[2])
        self.assertIn(": 1002 so far", self.lines[2])
        journal.rejected(Reason.CLIENT_CROWD, V4, 2, 1050.0 + 100 * REMIND)
        journal.rejected(Reason.CLIENT_CROWD, V4, 3, 1050.0 + 101 * REMIND - 1)
        self.assertEqual(len(self.lines), 4)


class UsedTests(JournalCase):
    def test_setting(self) -> None:
        for clients, expected in (
            ("none", ""),
            ("network", " client=192.0.2.0/24"),
            ("full", " client=192.0.2.77"),
        ):
            factory = ProxyFactory(Clock(), make_settings(logging={"clients": clients}))
            address = IPv4Address("TCP", "192.0.2.77", 1)
            self.assertIsNotNone(factory.buildProtocol(address))
            (session,) = factory.ledger.live
            session.close(Reason.NO_DATA)
            self.assertTrue(self.lines[-1].endswith(f" sent=0{expected}"), self.lines[-1])
