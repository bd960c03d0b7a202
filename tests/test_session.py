from twisted.trial.unittest import SynchronousTestCase

from tests.builders import ledger_and_time
from whatsproxy.reason import Reason
from whatsproxy.session import TIME_BUCKETS, Histogram, Ledger, Session
from whatsproxy.sniff import Kind


class SessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ledger, self.time = ledger_and_time()

    def test_open(self) -> None:
        session = self.ledger.open()
        self.assertEqual(self.ledger.live, {session})
        self.assertEqual(self.ledger.accepted, 1)
        self.assertIsNone(session.kind)
        self.assertFalse(session.closed)
        self.assertEqual((session.received, session.sent), (0, 0))
        self.assertEqual((self.ledger.received, self.ledger.sent), (0, 0))

    def test_counted_by_its_kind_as_soon_as_that_is_known(self) -> None:
        for kind in Kind:
            self.ledger.open().detected(kind)
            self.assertEqual(self.ledger.kinds[kind], 1)
        self.assertEqual(sum(self.ledger.kinds.values()), len(Kind))
        self.assertEqual(self.ledger.undetected, 0)

    def test_of_one_kind_only(self) -> None:
        session = self.ledger.open()
        session.detected(Kind.TLS)
        self.assertRaises(AssertionError, session.detected, Kind.RAW)
        self.assertEqual(sum(self.ledger.kinds.values()), 1)

    def test_bytes_count_while_it_lives_and_after(self) -> None:
        one, other = self.ledger.open(), self.ledger.open()
        one.received, one.sent = 10, 1
        other.received, other.sent = 20, 2
        self.assertEqual((self.ledger.received, self.ledger.sent), (30, 3))
        one.close(Reason.CLIENT_CLOSED)
        self.assertEqual((self.ledger.received, self.ledger.sent), (30, 3))
        other.received += 5
        self.assertEqual((self.ledger.received, self.ledger.sent), (35, 3))
        other.close(Reason.IDLE)
        self.assertEqual((self.ledger.received, self.ledger.sent), (35, 3))

    def test_close(self) -> None:
        session = self.ledger.open()
        session.holder = object()
        session.close(Reason.IDLE)
        self.assertEqual(self.ledger.live, set())
        self.assertTrue(session.closed)
        self.assertIsNone(session.holder)
        self.assertEqual(self.ledger.ends[Reason.IDLE], 1)
        self.assertEqual(sum(self.ledger.ends.values()), 1)

    def test_closes_once(self) -> None:
        session = self.ledger.open()
        session.close(Reason.IDLE)
        self.assertRaises(AssertionError, session.close, Reason.IDLE)
        self.assertEqual(self.ledger.ends[Reason.IDLE], 1)

    def test_undetected_when_it_closes_without_a_kind(self) -> None:
        self.ledger.open().close(Reason.NO_DATA)
        known = self.ledger.open()
        known.detected(Kind.RAW)
        known.close(Reason.NO_DATA)
        self.assertEqual(self.ledger.undetected, 1)

    def test_every_reason_says_whether_it_is_an_error(self) -> None:
        for reason in Reason:
            before = self.ledger.errors
            self.ledger.open().close(reason)
            self.assertEqual(self.ledger.errors - before, reason.error, reason)
        self.assertEqual(self.ledger.ends, dict.fromkeys(Reason, 1))

    def test_rejected(self) -> None:
        self.ledger.reject(Reason.REJECTED)
        self.assertEqual(
            (self.ledger.accepted, self.ledger.rejected, self.ledger.errors), (1, 1, 1)
        )
        self.assertEqual(self.ledger.ends[Reason.REJECTED], 1)
        self.assertEqual(self.ledger.live, set())
        self.assertEqual(self.ledger.undetected, 0)

    def test_who_is_told_of_an_end(self) -> None:
        told: list[tuple[Session, Reason, str, float]] = []
        ledger = Ledger(self.time, lambda *args: told.append(args))
        session = ledger.open()
        self.time.seconds += 2.5
        session.close(Reason.REFUSED_NAME, "example.org")
        self.assertEqual(told, [(session, Reason.REFUSED_NAME, "example.org", 2.5)])

    def test_time_to_the_kind(self) -> None:
        session = self.ledger.open()
        self.time.seconds += 0.25
        session.detected(Kind.TLS)
        self.assertEqual(self.ledger.sniff_time.total, 0.25)
        self.assertEqual(sum(self.ledger.sniff_time.counts), 1)
        self.assertEqual(sum(self.ledger.connect_time.counts), 0)


class IdleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ledger, _ = ledger_and_time()
        self.calls = 0

    def called(self) -> None:
        self.calls += 1

    def test_at_once(self) -> None:
        self.ledger.when_idle(self.called)
        self.assertEqual(self.calls, 1)
        self.ledger.open().close(Reason.IDLE)
        self.assertEqual(self.calls, 1)

    def test_when_the_last_one_has_closed(self) -> None:
        sessions = [self.ledger.open() for _ in range(3)]
        self.ledger.when_idle(self.called)
        for n, session in enumerate(sessions):
            self.assertEqual(self.calls, 0, n)
            session.close(Reason.IDLE)
        self.assertEqual(self.calls, 1)
        self.ledger.open().close(Reason.IDLE)
        self.assertEqual(self.calls, 1)

    def test_taken_back(self) -> None:
        session = self.ledger.open()
        self.ledger.when_idle(self.called)
        self.ledger.when_idle(None)
        session.close(Reason.IDLE)
        self.assertEqual(self.calls, 0)

    def test_the_end_is_counted_before_the_call(self) -> None:
        session = self.ledger.open()
        self.ledger.when_idle(lambda: self.assertEqual(self.ledger.ends[Reason.SHUTDOWN], 1))
        session.close(Reason.SHUTDOWN)


class HistogramTests(SynchronousTestCase):
    def test_a_bound_belongs_to_its_bucket(self) -> None:
        for n, bound in enumerate(TIME_BUCKETS):
            for seconds, bucket in ((bound, n), (bound * 1.01, n + 1), (bound * 0.99, n)):
                histogram = Histogram()
                histogram.observe(seconds)
                self.assertEqual(histogram.counts.index(1), bucket, seconds)

    def test_sums(self) -> None:
        histogram = Histogram()
        for seconds in (0.0, 0.25, 100.0):
            histogram.observe(seconds)
        self.assertEqual(histogram.total, 100.25)
        self.assertEqual(sum(histogram.counts), 3)
        self.assertEqual((histogram.counts[0], histogram.counts[-1]), (1, 1))
        self.assertEqual(len(histogram.counts), len(TIME_BUCKETS) + 1)
