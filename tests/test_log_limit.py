"""How many lines strangers can cause: so many of a kind, and one about all the others."""

from typing import Any

from twisted.logger import (
    FilteringLogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogPublisher,
    formatEvent,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import Time
from whatsproxy import log_limit
from whatsproxy.log_limit import KINDS, LimitedObserver
from whatsproxy.logs import LevelObserver, json_line, text_line
from whatsproxy.reason import Reason
from whatsproxy.settings import LoggingSettings

ENDED = "connection ended: {reason} to={target}"
LEFT_OUT = "lines left out ([logging] rate): "


class LimitCase(SynchronousTestCase):
    def limited(self, rate: int) -> None:
        """Begin to log with so many lines a second; what is written is in ``lines``."""
        self.time = Time()
        self.events: list[LogEvent] = []
        self.limit = LimitedObserver(self.events.append, rate, self.time)
        self.log = Logger("whatsproxy.test", observer=LogPublisher(self.limit))

    @property
    def lines(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    def ended(self, reason: str, count: int = 1, target: str = "x") -> None:
        for _ in range(count):
            self.log.warn(ENDED, reason=reason, target=target)

    def failed(self, error: Exception, count: int = 1) -> None:
        for _ in range(count):
            try:
                raise error
            except Exception:
                self.log.failure("serving a connection failed")


class RateTests(LimitCase):
    def test_below(self) -> None:
        """Nothing is changed, and nothing added."""
        self.limited(3)
        for second in range(5):
            self.time.seconds = 100.0 + second
            self.ended("undetected", 3)
        self.assertEqual(self.lines, ["connection ended: undetected to=x"] * 15)

    def test_beyond(self) -> None:
        self.limited(3)
        self.ended("undetected", 100)
        self.assertEqual(len(self.lines), 3)
        self.time.seconds += 0.999
        self.ended("undetected")
        self.assertEqual(len(self.lines), 3)
        self.time.seconds += 0.001
        self.ended("undetected", 100)
        line = "connection ended: undetected to=x"
        self.assertEqual(self.lines[3:], [f"{LEFT_OUT}98 of undetected", line, line, line])

    def test_each_reason(self) -> None:
        """A flood of one kind hides no other."""
        self.limited(1)
        self.ended("undetected", 50)
        for reason in Reason:
            if reason is not Reason.UNDETECTED:
                self.ended(reason.value)
        self.log.warn("something else")
        self.log.info(ENDED, reason=None, target="y")
        self.failed(ValueError())
        self.failed(KeyError())
        self.assertEqual(len(self.lines), len(Reason) + 4)
        self.assertEqual(len(set(self.lines)), len(self.lines) - 1)

    def test_each_error(self) -> None:
        """A traceback is told of each kind of error, and of all of a kind only so often."""
        self.limited(2)
        self.failed(ValueError("a"), 5)
        self.failed(KeyError("b"), 1)
        kinds = [event["log_failure"].type for event in self.events]
        self.assertEqual(kinds, [ValueError, ValueError, KeyError])

    def test_told_with_whatever_comes_next(self) -> None:
        self.limited(1)
        self.ended("undetected", 3)
        self.ended("rejected", 2)
        self.failed(ValueError("secret"), 5)
        self.log.info("stopping")
        self.assertEqual(len(self.lines), 4)
        self.time.seconds += 3600
        self.log.info("stopped")
        said = f"{LEFT_OUT}2 of undetected, 1 of rejected, 4 of ValueError"
        self.assertEqual(self.lines[4:], [said, "stopped"])
        self.time.seconds += 3600
        self.log.info("bye")
        self.assertEqual(self.lines[6:], ["bye"])

    def test_the_line_about_them(self) -> None:
        """It is a warning, at the time of the event with which it is told, in both formats."""
        self.limited(1)
        self.ended("undetected", 2)
        self.time.seconds += 1
        self.ended("undetected")
        _, about, cause = self.events
        self.assertEqual(about["log_level"], LogLevel.warn)
        self.assertEqual(about["log_time"], cause["log_time"])
        self.assertRegex(text_line(about), r"Z warn lines left out .*: 1 of undetected\n$")
        self.assertIn('"left_out": "1 of undetected"', json_line(about))


class StrangersTests(LimitCase):
    def test_nothing_of_theirs(self) -> None:
        """What differs in a stranger's words only is one kind, and they are not repeated."""
        self.limited(2)
        for n in range(50):
            self.ended("refused_name", target=f"stranger-{n}.test")
            self.log.warn("odd: {what}", what=f"stranger {n}")
            self.failed(ValueError(f"stranger {n}"))
        self.assertEqual(len(self.lines), 6)
        self.time.seconds += 1
        self.log.info("next")
        said = f"{LEFT_OUT}48 of refused_name, 48 of whatsproxy.test, 48 of ValueError"
        self.assertEqual(self.lines[6:], [said, "next"])

    def test_bounded(self) -> None:
        """Whatever makes up kinds by the thousand: beyond some they are one."""
        self.patch(log_limit, "KINDS", 10)
        self.limited(2)
        for n in range(100):
            self.ended(f"reason {n}")
        self.assertEqual(len(self.lines), 12)
        self.assertEqual(len(self.limit._seen), 11)
        self.ended("reason 3")  # known, and so not among the others
        self.assertEqual(len(self.lines), 13)
        self.time.seconds += 1
        self.ended("another")
        self.assertEqual(len(self.limit._seen), 1)
        self.assertLessEqual(KINDS, 10_000)

    def test_what_others_call_a_reason(self) -> None:
        """Twisted's own events may hold anything by that name."""
        self.limited(1)
        for reason in ([], {}, ValueError("a"), 5, None):
            self.log.warn("lost: {reason!r}", reason=reason)
        self.time.seconds += 1
        self.log.info("next")
        self.assertEqual(self.lines[1:], [f"{LEFT_OUT}4 of whatsproxy.test", "next"])

    def test_bare_events(self) -> None:
        self.limited(1)
        for _ in range(3):
            self.limit({})
        self.time.seconds += 1
        self.limit({"log_format": "next"})
        self.assertEqual(self.lines, ["", f"{LEFT_OUT}2 of ?", "next"])


class InstalledTests(SynchronousTestCase):
    def lines(self, settings: LoggingSettings, send: int) -> list[str]:
        """Return what is written of so many debug and as many info lines."""
        observer: Any = LevelObserver(settings)
        self.assertIsInstance(observer, FilteringLogObserver)
        lines: list[str] = []
        observer.writer._file = type(
            "Lines", (), {"write": lines.append, "flush": lambda _: None}
        )()
        log = Logger("whatsproxy.test", observer=LogPublisher(observer))
        for _ in range(send):
            log.debug("in detail")
            log.info("hello")
        return lines

    def test_rate(self) -> None:
        self.assertEqual(len(self.lines(LoggingSettings(rate=7), 20)), 7)
        self.assertEqual(len(self.lines(LoggingSettings(), 60)), 50)

    def test_no_limit(self) -> None:
        self.assertEqual(len(self.lines(LoggingSettings(rate=0), 500)), 500)
