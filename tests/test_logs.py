import errno
import io
import json
import os
import sys
from collections.abc import Callable
from math import inf, nan
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogEvent, Logger, LogLevel, LogPublisher, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from whatsproxy.log_forms import escape
from whatsproxy.logs import LevelObserver, LineObserver, json_line, text_line
from whatsproxy.settings import LoggingSettings

#: 2001-09-09T01:46:40.125Z
TIME = 1_000_000_000.125
#: Surrogates included: they come from file names that are not UTF-8.
_ALPHABET = st.characters() | st.sampled_from("\x00\t\n\r\x0b\x0c\x1b\x7f\x85\x9b\u2028\u2029{}\\")
hostile = st.text(_ALPHABET, max_size=30) | st.text(st.characters(categories=["Cs"]), max_size=2)


def event(format: str = "{what}", **values: Any) -> LogEvent:
    return {
        "log_time": TIME,
        "log_level": LogLevel.info,
        "log_namespace": "whatsproxy.test",
        "log_format": format,
        **values,
    }


def failing(text: str) -> LogEvent:
    """Return the event of a failure with this text."""
    events: list[LogEvent] = []
    publisher = LogPublisher(events.append)
    try:
        raise ValueError(text)
    except ValueError:
        Logger("whatsproxy.test", observer=publisher).failure("it broke")
    return events[0]


class TextTests(SynchronousTestCase):
    def test_line(self) -> None:
        self.assertEqual(
            text_line(event("{what} of {n:d}", what="faß", n=3)),
            "2001-09-09T01:46:40.125Z info faß of 3\n",
        )

    def test_level(self) -> None:
        for level in (LogLevel.debug, LogLevel.warn, LogLevel.error, LogLevel.critical):
            self.assertIn(f"Z {level.name} x\n", text_line(event(what="x", log_level=level)))

    def test_control_characters_are_shown(self) -> None:
        forged = "x\n2001-09-09T01:46:40.125Z info forged\r\x1b[2J\x00\x7f\x85\x9b1m\u2028\u2029"
        self.assertEqual(
            text_line(event(what=forged)),
            "2001-09-09T01:46:40.125Z info x\\n2001-09-09T01:46:40.125Z info forged\\r\\x1b[2J"
            "\\x00\\x7f\\x85\\x9b1m\\u2028\\u2029\n",
        )

    def test_traceback(self) -> None:
        first, *rest = text_line(failing("why\nnot\x1b")).splitlines()
        self.assertIn(" critical it broke", first)
        self.assertIn("    Traceback (most recent call last):", rest[0])
        for line in rest:
            self.assertTrue(line.startswith("    "))
        self.assertIn("ValueError: why", "\n".join(rest))
        self.assertIn("not\\x1b", "\n".join(rest))

    @given(hostile)
    def test_one_line_whatever_comes(self, text: str) -> None:
        for line in (
            text_line(event(what=text)),
            text_line(event(text)),
            text_line(event("{what!r}", what=text)),
        ):
            self.assertEqual(len(line.splitlines()), 1)
            self.assertEqual(line[-1], "\n")
            self.assertTrue(line.startswith("2001-09-09T01:46:40.125Z info "))

    @given(hostile)
    def test_what_is_no_control_character_stays(self, text: str) -> None:
        harmless = "".join(c for c in text if c.isprintable())
        self.assertEqual(escape(harmless), harmless)
        self.assertFalse(any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in escape(text)))


class JsonTests(SynchronousTestCase):
    def test_line(self) -> None:
        values = {"what": "a\nb", "n": 3, "x": None, "y": 0.5, "ok": True}
        line = json_line(event("{what} of {n}", **values, z=[1]))
        self.assertEqual(
            json.loads(line),
            {
                "time": "2001-09-09T01:46:40.125Z",
                "level": "info",
                "logger": "whatsproxy.test",
                "message": "a\nb of 3",
                **values,
            },
        )

    def test_a_value_hides_no_field(self) -> None:
        fields = json.loads(json_line(event(what="x", message="m", time="t", level="l")))
        self.assertEqual(fields["message"], "x")
        self.assertEqual(fields["level"], "info")
        self.assertEqual(fields["time"], "2001-09-09T01:46:40.125Z")

    def test_traceback(self) -> None:
        line = json_line(failing("why\nnot"))
        self.assertEqual(len(line.splitlines()), 1)
        fields = json.loads(line)
        self.assertEqual(fields["message"], "it broke")
        self.assertEqual(fields["level"], "critical")
        self.assertIn("Traceback (most recent call last):", fields["traceback"][0])
        self.assertIn("why", "\n".join(fields["traceback"]))

    @given(hostile, hostile, st.integers() | st.sampled_from([0.5, nan, inf, True, None]))
    def test_one_line_whatever_comes(self, text: str, format: str, value: object) -> None:
        line = json_line(event(format, what=text, value=value))
        self.assertEqual(len(line.splitlines()), 1)
        self.assertEqual(line[-1], "\n")
        self.assertTrue(line.isascii())
        self.assertTrue(line[:-1].isprintable())

        def refuse(constant: str) -> None:
            self.fail(f"{constant} is no JSON (RFC 8259 6)")

        read = json.loads(line, parse_constant=refuse)["what"]
        # Two surrogates by themselves come back as the one character that they stand for.
        self.assertTrue(
            read.encode("utf-16", "surrogatepass") == text.encode("utf-16", "surrogatepass")
        )


class ObserverTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()

    def writer(self, line: Callable[[LogEvent], str] = text_line) -> LineObserver:
        writer = LineObserver(self.path, line)
        self.addCleanup(lambda: writer._file.close())  # noqa: PLW0108  # the file of then, not of now
        return writer

    def messages(self, path: str) -> list[str]:
        with open(path, encoding="utf-8") as f:
            return [line.split(" ", 2)[2] for line in f.read().splitlines()]

    def test_each_event_is_written_at_once(self) -> None:
        writer = self.writer()
        for n in range(3):
            writer(event(what=f"event {n}"))
            self.assertEqual(self.messages(self.path), [f"event {i}" for i in range(n + 1)])

    def test_appends(self) -> None:
        with open(self.path, "w", encoding="utf-8") as f:
            f.write("time level old\n")
        self.writer()(event(what="new"))
        self.assertEqual(self.messages(self.path), ["old", "new"])

    def test_bytes_of_a_name_that_is_no_utf_8(self) -> None:
        self.writer()(event(what=os.fsdecode(b"name\xff")))
        self.assertEqual(self.messages(self.path), ["name\\udcff"])

    def test_cannot_be_opened(self) -> None:
        os.mkdir(self.path)
        self.assertRaises(OSError, LineObserver, self.path, text_line)

    def test_reopen(self) -> None:
        writer = self.writer()
        writer(event(what="before"))
        old = writer._file
        os.rename(self.path, self.path + ".1")
        writer(event(what="moved"))
        writer.reopen()
        writer(event(what="after"))
        self.assertEqual(self.messages(self.path + ".1"), ["before", "moved"])
        self.assertEqual(self.messages(self.path), ["after"])
        self.assertTrue(old.closed)

    def test_reopen_fails(self) -> None:
        writer = self.writer()
        os.rename(self.path, self.path + ".1")
        os.mkdir(self.path)
        seen: list[LogEvent] = []
        globalLogPublisher.addObserver(seen.append)
        try:
            writer.reopen()
        finally:
            globalLogPublisher.removeObserver(seen.append)
        writer(event(what="after"))
        self.assertEqual(self.messages(self.path + ".1"), ["after"])
        (said,) = [e for e in seen if e["log_level"] is LogLevel.error]
        self.assertIn(self.path, text_line(said))
        self.assertIn("Is a directory", text_line(said))

    def test_a_pipe_without_a_reader(self) -> None:
        """It is not waited for."""
        os.mkfifo(self.path)
        with self.assertRaises(OSError) as caught:
            self.writer()
        self.assertEqual(caught.exception.errno, errno.ENXIO)

    def test_a_reader_that_stalls(self) -> None:
        """Nobody waits for it; when it reads again it is told what it has missed."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        with os.fdopen(writing, "w") as stream:
            self.patch(sys, "stdout", stream)
            writer = LineObserver("stdout", text_line)
            for _ in range(3000):
                writer(event(what="x" * 50))
            self.assertGreater(writer._lost, 0)
            lost = writer._lost
            os.read(reading, 1 << 20)
            writer(event(what="again"))
        said = os.read(reading, 1 << 20).decode()
        self.assertIn("again\n", said)
        self.assertIn(f"{lost} lines are late or lost", said)

    def test_streams(self) -> None:
        for name in ("stdout", "stderr"):
            stream = io.StringIO()
            self.patch(sys, name, stream)
            writer = LineObserver(name, text_line)
            writer(event(what="x"))
            writer.reopen()
            writer(event(what="y"))
            self.assertEqual(
                [line[-1] for line in stream.getvalue().splitlines()], ["x", "y"], name
            )
            self.assertFalse(stream.closed)


class SettingsTests(SynchronousTestCase):
    def lines(self, settings: LoggingSettings, use: Callable[[Logger], None]) -> list[str]:
        observer = LevelObserver(settings)
        use(Logger("whatsproxy.test", observer=observer))
        observer.writer._file.close()
        with open(settings.output, encoding="utf-8") as f:
            return f.read().splitlines()

    def test_level(self) -> None:
        levels = ["debug", "info", "warn", "error"]

        def one_of_each(log: Logger) -> None:
            for name in levels:
                getattr(log, name)("said {name}", name=name)

        for n, level in enumerate(levels):
            lines = self.lines(LoggingSettings(level, output=self.mktemp()), one_of_each)
            self.assertEqual([line.split()[-1] for line in lines], levels[n:])

    def test_format(self) -> None:
        for format in ("text", "json"):
            settings = LoggingSettings(format=format, output=self.mktemp())
            (line,) = self.lines(settings, lambda log: log.warn("a {what}", what="b"))
            self.assertEqual(line.startswith("{"), format == "json")
            self.assertIn("a b", line)
