"""The short way into the log: order, levels, limits, and that no line is lost or kept for ever."""

import atexit
import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from threading import Thread
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, LogPublisher, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import Time, ledger_and_time
from tests.support import part_of
from tests.test_tap import FOREGROUND, TapCase
from whatsproxy.ended_lines import DELAY, EndedLines
from whatsproxy.journal import Journal
from whatsproxy.logs import FILE_PIECE, PIECE, LevelObserver
from whatsproxy.networks import number_of
from whatsproxy.reason import Reason
from whatsproxy.service import ProxyService
from whatsproxy.session import Session
from whatsproxy.settings import LoggingSettings
from whatsproxy.tap import makeService

CLIENT = number_of("192.0.2.77")
LEFT_OUT = "lines left out ([logging] rate): "
LOST = "the log could not be written: "


class LinesCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.others: list[LogEvent] = []
        self.path = self.mktemp()
        ledger, _ = ledger_and_time()
        self.session = ledger.open(client=CLIENT)

    def start(self, clients: str = "none", output: str | None = None, **settings: Any) -> None:
        """Begin to log: all that there is goes to our observer."""
        # As twistd has it, and not as trial does.
        self.patch(globalLogPublisher, "_observers", [])
        self.observer = LevelObserver(LoggingSettings(output=output or self.path, **settings))
        self.writer = self.observer.writer
        if self.observer.limit is not None:
            self.time = Time()
            self.observer.limit._now = self.time
        self.addCleanup(self.close)
        globalLogPublisher.addObserver(self.observer)
        self.journal = Journal(clients)
        self.lines = EndedLines(self.clock, self.observer, self.journal)
        self.lines.startService()
        self.addCleanup(self.stop)
        self.log = Logger("whatsproxy.test")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.writer._file.close()

    def stop(self) -> None:
        if self.lines.running:
            self.lines.stopService()

    def end(
        self, target: str = "a.test:1", reason: Reason = Reason.NO_DATA, count: int = 1
    ) -> None:
        session: Session = self.session
        session.target = target
        for _ in range(count):
            self.journal.ended(session, reason, "", 1.0)

    def written(self, path: str | None = None) -> list[str]:
        """Return of each line its target, or all that it says."""
        with open(path or self.path, encoding="utf-8") as f:
            messages = [line.split(" ", 2)[2] for line in f.read().splitlines()]
        return [
            m.split(" to=")[1].split(" ")[0] if m.startswith("connection ended: ") else m
            for m in messages
        ]


class WrittenTests(LinesCase):
    def test_soon(self) -> None:
        """Together, when the first one has waited long enough; and so the next ones."""
        self.start()
        for first in (0, 2):
            self.end(f"{first}")
            self.clock.advance(DELAY * 0.75)
            self.end(f"{first + 1}")
            self.assertEqual(len(self.written()), first)
            self.clock.advance(DELAY * 0.25)
            self.assertEqual(self.written(), [str(n) for n in range(first + 2)])
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_call_a_line(self) -> None:
        self.start()
        self.end(count=40)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_order(self) -> None:
        """An event comes behind the lines that were before it, and before those after it."""
        self.start()
        for n in range(3):
            self.end(f"{n}")
            self.end(f"{n}b")
            self.log.warn("event {n}", n=n)
            self.assertEqual(
                self.written()[n * 3 :], [f"{n}", f"{n}b", f"event {n}"], "written at once"
            )

    def test_many(self) -> None:
        """They do not wait for their time, nor in memory."""
        self.start(rate=0)
        self.assertGreaterEqual(FILE_PIECE, PIECE)
        targets = [f"{n}.test:1" for n in range(1000)]
        for target in targets:
            self.end(target)
            self.assertLessEqual(sum(map(len, self.writer._waiting)), FILE_PIECE)
        written = self.written()
        self.assertGreater(len(written), 500)
        self.assertEqual(written, targets[: len(written)])
        self.clock.advance(DELAY)
        self.assertEqual(self.written(), targets)

    def test_more_than_a_piece(self) -> None:
        self.start()
        self.end("a")
        self.end("b" * FILE_PIECE)
        self.end("c")
        self.clock.advance(DELAY)
        self.assertEqual([target[0] for target in self.written()], ["a", "b", "c"])

    def test_size_of_a_piece(self) -> None:
        """As much as a pipe takes at once, or as fits into the buffer of a file of ours."""
        self.start()
        self.assertEqual(self.writer._piece, FILE_PIECE)
        with open(self.mktemp(), "w") as stream:
            self.patch(sys, "stdout", stream)
            self.start(output="stdout")
            self.assertEqual(self.writer._piece, PIECE)
        fifo = self.mktemp()
        os.mkfifo(fifo)
        self.addCleanup(os.close, os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
        self.start(output=fifo)
        self.assertEqual(self.writer._piece, PIECE)

    def test_a_line_meanwhile(self) -> None:
        """What comes in the very moment of writing is written next."""

        class Busy(list[str]):
            def __getitem__(self, key: Any) -> Any:
                found = super().__getitem__(key)
                self.append("time level late\n")
                return found

        self.start()
        self.writer._waiting = Busy(["time level first\n"])
        self.writer.flush()
        self.writer._waiting = list(self.writer._waiting)
        self.writer.flush()
        self.assertEqual(self.written(), ["first", "late"])

    def test_what_is_no_ascii(self) -> None:
        self.start()
        for target in ("faß\n", "b", "\udcff"):
            self.end(target)
        self.clock.advance(DELAY)
        self.assertEqual(self.written(), ["faß\\n", "b", "\\udcff"])

    def test_format(self) -> None:
        self.start(format="json", clients="network")
        self.end("x\ny")
        self.clock.advance(DELAY)
        with open(self.path) as f:
            (line,) = f.read().splitlines()
        fields = json.loads(line)
        self.assertEqual(fields["target"], "x\ny")
        self.assertEqual(fields["client"], "192.0.2.0/24")
        self.assertEqual(fields["level"], "info")

    def test_clients(self) -> None:
        for clients, expected in (
            ("none", ""),
            ("network", "192.0.2.0/24"),
            ("full", "192.0.2.77"),
        ):
            self.path = self.mktemp()
            self.start(clients=clients)
            self.end("x")
            self.stop()
            with open(self.path) as f:
                _, client, told = f.read().partition(" client=")
            self.assertEqual((bool(client), told.strip()), (bool(expected), expected))

    def test_threads(self) -> None:
        """Each line once, in the order of its thread, whoever writes it."""
        self.start(rate=0)
        said = [f"event {n}" for n in range(500)]
        thread = Thread(target=lambda: [self.log.info("{what}", what=what) for what in said])
        thread.start()
        ended = [f"{n}.test" for n in range(2000)]
        for target in ended:
            self.end(target)
        thread.join()
        self.stop()
        written = self.written()
        self.assertEqual([line for line in written if line in said], said)
        self.assertEqual([line for line in written if line not in said], ended)


class LevelTests(LinesCase):
    def test_levels(self) -> None:
        for level, expected in (
            ("debug", ["no_data", "undetected"]),
            ("info", ["no_data", "undetected"]),
            ("warn", ["undetected"]),
            ("error", []),
        ):
            self.path = self.mktemp()
            self.start(level=level)
            self.end("no_data", Reason.NO_DATA)
            self.end("undetected", Reason.UNDETECTED)
            self.assertEqual(bool(self.clock.getDelayedCalls()), bool(expected))
            self.stop()
            self.assertEqual(self.written(), expected, level)


class LimitTests(LinesCase):
    def test_each_reason(self) -> None:
        """A flood of one hides no other; it is told with whatever comes next, and before it."""
        self.start(rate=3)
        self.end("flood", Reason.UNDETECTED, 100)
        self.end("other", Reason.NO_DATA, 4)
        self.assertEqual(Counter(self.writer._waiting).total(), 6)
        self.time.seconds += 1
        self.end("next")
        self.clock.advance(DELAY)
        self.assertEqual(
            self.written(),
            [*["flood"] * 3, *["other"] * 3, f"{LEFT_OUT}97 of undetected, 1 of no_data", "next"],
        )

    def test_told_with_an_event(self) -> None:
        self.start(rate=1)
        self.end("flood", count=3)
        self.time.seconds += 1
        self.log.info("next")
        self.assertEqual(self.written(), ["flood", f"{LEFT_OUT}2 of no_data", "next"])

    def test_one_account(self) -> None:
        """A reason's lines are of one kind, whichever way they come."""
        self.start(rate=5)
        self.end("short", count=3)
        self.stop()
        self.end("ordinary", count=3)
        self.assertEqual(self.written(), ["short"] * 3 + ["ordinary"] * 2)
        self.assertEqual(len(self.observer.limit._seen), 1)

    def test_no_limit(self) -> None:
        self.start(rate=0)
        self.end(count=5000)
        self.stop()
        self.assertEqual(len(self.written()), 5000)


class UnwritableTests(LinesCase):
    def test_full_disk(self) -> None:
        """Each line that could not be written counts, none is kept, and it is told once."""
        self.start(output="/dev/full", rate=0)
        self.end(count=70)
        self.clock.advance(DELAY)
        self.assertEqual(self.writer._waiting, [])
        self.assertEqual(self.writer._lost, 70)
        self.log.info("not this either")
        self.end(count=3)
        self.clock.advance(DELAY)
        self.writer._use(open(self.path, "a", encoding="utf-8"))
        self.end("again")
        self.end("more")
        self.clock.advance(DELAY)
        self.end("last")
        self.clock.advance(DELAY)
        said = f"{LOST}74 lines are late or lost"
        self.assertEqual(self.written(), ["again", "more", said, "last"])

    def test_a_reader_that_stalls(self) -> None:
        """Nobody waits for it, nothing piles up, and what it reads has no torn line."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        with os.fdopen(writing, "w") as stream:
            self.patch(sys, "stdout", stream)
            self.start(output="stdout", rate=0)
            for n in range(3000):
                self.end(f"{n}.test")
                self.assertLessEqual(sum(map(len, self.writer._waiting)), PIECE)
            self.clock.advance(DELAY)
            read = os.read(reading, 1 << 20).decode()
            lines = read.splitlines(keepends=True)
            self.assertEqual(self.writer._lost, 3000 - len(lines))
            self.end("again")
            self.clock.advance(DELAY)
            after = os.read(reading, 1 << 20).decode()
            self.stop()
        for n, line in enumerate(lines):
            self.assertIn(f" to={n}.test seconds=1.000 received=0 sent=0\n", line)
        again, told = after.splitlines()
        self.assertIn(" to=again ", again)
        self.assertIn(f"{LOST}{3000 - len(lines)} lines are late or lost", told)

    def test_no_room_for_that_line(self) -> None:
        """Then the number is told later; it is not forgotten."""
        self.start(output="/dev/full")
        self.end(count=7)
        self.clock.advance(DELAY)
        room = [True, False, True, True]
        wrote: list[str] = []

        def write(text: str) -> None:
            if not room.pop(0):
                raise BlockingIOError
            wrote.append(text)

        self.patch(self.writer, "_write", write)
        self.log.info("one")
        self.log.info("two")
        self.assertEqual([line.split(" ", 2)[2] for line in wrote[:2]], ["one\n", "two\n"])
        self.assertIn(f"{LOST}7 lines", wrote[2])
        self.assertEqual(self.writer._lost, 0)

    def test_closed_by_somebody(self) -> None:
        """To end a connection is no error even then."""
        self.start(rate=0)
        self.writer._file.close()
        self.end(count=1000)
        self.clock.advance(DELAY)
        self.assertEqual(self.writer._lost, 1000)


class RotationTests(LinesCase):
    def test_reopen(self) -> None:
        """What was before the rotation is in the old file."""
        self.start()
        self.end("before")
        os.rename(self.path, self.path + ".1")
        self.end("moved")
        self.writer.reopen()
        self.end("after")
        self.clock.advance(DELAY)
        self.assertEqual(self.written(self.path + ".1"), ["before", "moved"])
        self.assertEqual(self.written(), ["log reopened", "after"])


class OthersTests(LinesCase):
    """Whoever else observes what is logged misses nothing."""

    def other(self) -> None:
        globalLogPublisher.addObserver(self.others.append)

    def test_from_the_start(self) -> None:
        self.start()
        self.stop()
        self.other()
        self.lines.startService()
        self.end("x")
        self.assertEqual([event["target"] for event in self.others], ["x"])
        self.assertEqual(self.written(), ["x"])

    def test_later(self) -> None:
        self.start()
        self.end("x")
        self.other()
        self.clock.advance(DELAY)
        self.end("y")
        self.assertEqual([event["target"] for event in self.others], ["y"])
        self.assertEqual(self.written(), ["x", "y"])

    def test_not_installed(self) -> None:
        """Ours is not the one: then the log is somebody else's."""
        self.start()
        self.stop()
        globalLogPublisher.removeObserver(self.observer)
        self.other()
        self.lines.startService()
        self.end("x")
        self.assertEqual([event["target"] for event in self.others], ["x"])
        self.assertEqual(self.written(), [])

    def test_a_publisher_that_cannot_be_asked(self) -> None:
        self.start()
        self.stop()
        publisher: Any = type("Publisher", (), {})()
        lines = EndedLines(self.clock, self.observer, self.journal, publisher)
        lines.startService()
        self.assertIsNone(self.journal._lines)
        lines.stopService()
        alone = EndedLines(self.clock, self.observer, self.journal, LogPublisher(self.observer))
        alone.startService()
        self.assertIs(self.journal._lines, alone)
        alone.stopService()


class EndTests(LinesCase):
    def test_stopped(self) -> None:
        """What waits is written; later lines, of connections that are cut, at once."""
        self.start()
        self.end("x")
        self.lines.stopService()
        self.assertEqual(self.written(), ["x"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.end("y")
        self.assertEqual(self.written(), ["x", "y"])

    def test_nothing_stays_registered(self) -> None:
        calls: set[Any] = set()
        self.patch(atexit, "register", calls.add)
        self.patch(atexit, "unregister", calls.discard)
        self.start()
        self.assertEqual(len(calls), 1)
        self.stop()
        self.assertEqual(calls, set())

    def test_the_program_dies(self) -> None:
        """However it ends, short of being killed: what waits is written, also of warnings alone."""
        for death in ("raise SystemExit(3)", "1 / 0", "import threading"):
            path = self.mktemp()
            program = (
                "from twisted.internet.task import Clock\n"
                "from twisted.logger import globalLogPublisher, globalLogBeginner\n"
                "from tests.builders import ledger_and_time\n"
                "from whatsproxy.ended_lines import EndedLines\n"
                "from whatsproxy.journal import Journal\n"
                "from whatsproxy.logs import LevelObserver\n"
                "from whatsproxy.reason import Reason\n"
                "from whatsproxy.settings import LoggingSettings\n"
                f"observer = LevelObserver(LoggingSettings('warn', output={path!r}))\n"
                "globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)\n"
                "journal = Journal('none')\n"
                "EndedLines(Clock(), observer, journal).startService()\n"
                "session = ledger_and_time()[0].open()\n"
                "journal.ended(session, Reason.UNDETECTED, '', 0.0)\n"
                f"assert open({path!r}).read() == ''\n"
                f"{death}\n"
            )
            subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment())
            self.assertEqual(self.written(path), ["-"], death)


class UsedTests(TapCase):
    def test_ours(self) -> None:
        """The factory's journal writes by the short way while the service runs."""
        path = self.mktemp()
        file = self.file(
            f"[logging]\noutput = '{path}'\nclients = 'full'\nlevel = 'warn'\nformat = 'json'\n"
        )
        options = self.parse("-c", file)
        options.parent = FOREGROUND
        service = makeService(options)
        lines, factory = part_of(service, EndedLines), part_of(service, ProxyService).factory
        self.patch(lines, "_reactor", Clock())
        self.patch(globalLogPublisher, "_observers", [service._observer])
        lines.startService()
        self.assertIs(factory.journal._lines, lines)
        for reason in (Reason.UNDETECTED, Reason.NO_DATA):
            factory.ledger.open(client=CLIENT).close(reason)
        self.assertEqual(os.path.getsize(path), 0)
        lines.stopService()
        self.assertIsNone(factory.journal._lines)
        self.addCleanup(service._observer.writer._file.close)
        with open(path) as f:
            (line,) = map(json.loads, f.read().splitlines())
        self.assertEqual((line["reason"], line["client"]), ("undetected", "192.0.2.77"))

    def test_twistds_own(self) -> None:
        options = self.parse()
        options.parent = {"logfile": "x", **FOREGROUND}
        service = makeService(options)
        self.assertEqual([s for s in service.services if isinstance(s, EndedLines)], [])


def environment() -> dict[str, str]:
    """Return what lets another interpreter import what this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class BoundedTests(LinesCase):
    def test_strangers(self) -> None:
        """Neither their names nor their networks pile up, nor are they kinds of their own."""
        self.start(clients="network", rate=5000)
        for n in range(3000):
            self.session.client = CLIENT + 256 * n
            self.end(f"{n}.test")
        self.clock.advance(DELAY)
        self.assertEqual(len(set(self.written())), 3000)
        self.assertEqual(self.writer._waiting, [])
        self.assertEqual(len(self.observer.limit._seen), 1)
