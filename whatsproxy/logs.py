"""Log lines: text or JSON, one a line whatever a stranger sends, to a stream or a file."""

import contextlib
import errno
import json
import math
import os
import select
import stat
import sys
import time
from collections.abc import Callable
from io import TextIOWrapper
from threading import RLock
from typing import Any, TextIO

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from zope.interface import implementer

from whatsproxy.files import why
from whatsproxy.log_forms import EndedForm, ended_json, ended_text, escape, stamp_of
from whatsproxy.log_limit import LimitedObserver
from whatsproxy.settings import LoggingSettings

#: Bytes that go to a pipe at once or not at all, and never wait where it has room (pipe(7)).
PIECE = select.PIPE_BUF
#: Bytes that go to a file at once.
FILE_PIECE = 1 << 14

log = Logger()


def text_line(event: LogEvent) -> str:
    """Format an event as ``time level message``, a traceback behind it, indented."""
    level = event.get("log_level", LogLevel.info).name
    lines = [f"{_time(event)} {level} {escape(formatEvent(event))}"]
    lines += [f"    {escape(line)}" for line in _traceback(event)]
    return "\n".join(lines) + "\n"


def json_line(event: LogEvent) -> str:
    """Format an event as one JSON object, with the plain values that it carries."""
    fields: dict[str, Any] = {
        "time": _time(event),
        "level": event.get("log_level", LogLevel.info).name,
        "logger": event.get("log_namespace", ""),
        "message": formatEvent(event),
    }
    for key, value in event.items():
        if not key.startswith("log_") and isinstance(value, str | int | float | None):
            odd = isinstance(value, float) and not math.isfinite(value)  # JSON has no NaN
            fields.setdefault(key, str(value) if odd else value)
    traceback = _traceback(event)
    if traceback:
        fields["traceback"] = traceback
    return json.dumps(fields) + "\n"


def _time(event: LogEvent) -> str:
    return stamp_of(event.get("log_time", 0.0))


def _traceback(event: LogEvent) -> list[str]:
    failure = event.get("log_failure")
    return failure.getTraceback().splitlines() if failure is not None else []


@implementer(ILogObserver)
class LineObserver:
    """Writes each event as a line to ``stdout``, ``stderr`` or a file (appending).

    Lines that others have made may wait for each other; all are written in their order. Raises
    OSError where the file cannot be opened.
    """

    def __init__(self, output: str, line: Callable[[LogEvent], str]) -> None:
        self._output = output
        self._line = line
        self._lost = 0
        self._use(self._open())
        #: Lines to be written, and how many characters they have.
        self._waiting: list[str] = []
        self._size = 0
        #: Whatever thread logs something: one at a time, and what waits comes first.
        self._lock = RLock()

    def __call__(self, event: LogEvent) -> None:
        """Write one event at once (called by twisted.logger), behind the lines that wait."""
        with self._lock:
            self.flush()
            self._put_out(self._line(event), 1, event.get("log_time", 0.0))

    def put(self, line: str) -> None:
        """Take a line that may wait for others, until ``flush``; they are never many."""
        size = self._size + len(line)
        if size > self._piece:
            self.flush()
            size = len(line)
        self._waiting.append(line)
        self._size = size

    def flush(self) -> None:
        """Write what waits; what cannot be written is not kept."""
        with self._lock:
            lines = self._waiting[:]
            if not lines:
                return
            del self._waiting[: len(lines)]  # another thread may just have added one
            self._size = 0
            text = "".join(lines)
            if text.isascii():
                self._put_out(text, len(lines), time.time())
            else:  # of more bytes than characters: no piece of a known size
                for line in lines:
                    self._put_out(line, 1, time.time())

    def _put_out(self, text: str, count: int, when: float) -> None:
        """Write ``count`` lines; tell, at the time ``when``, of those that could not be written."""
        try:
            self._write(text)
        except (OSError, ValueError):  # ValueError: somebody has closed it
            # Neither a full disk nor a reader that has stalled may end, or hold up, what the lines
            # are about.
            self._lost += count
            return
        if self._lost:
            with contextlib.suppress(OSError, ValueError):  # told with the next line
                self._write(self._line(_about_lost(when, self._lost)))
                self._lost = 0

    def _write(self, text: str) -> None:
        if not would_take(self._file):
            raise BlockingIOError(errno.EAGAIN, "nobody reads the log")
        self._file.write(text)
        self._file.flush()

    def reopen(self) -> None:
        """Open the file anew, after logrotate has moved it; on failure go on with the old one."""
        if self._output in ("stdout", "stderr"):
            return
        self.flush()
        old = self._file
        try:
            self._use(self._open())
        except OSError as e:
            log.error(
                "cannot reopen the log {path}: {why}; the old file goes on",
                path=self._output,
                why=why(e),
            )
        else:
            with contextlib.suppress(OSError):  # a full disk, and something that waited for it
                old.close()
            log.info("log reopened")

    def _open(self) -> TextIO:
        if self._output in ("stdout", "stderr"):
            return tolerant(getattr(sys, self._output))
        # A piece fits into the buffer together with the rest of one for which there was no space.
        return open(
            self._output,
            "a",
            2 * FILE_PIECE,
            encoding="utf-8",
            errors="backslashreplace",
            opener=_open_at_once,
        )

    def _use(self, file: TextIO) -> None:
        self._file = file
        ours = self._output not in ("stdout", "stderr")  # and so is the buffer's size
        self._piece = FILE_PIECE if ours and stat.S_ISREG(_mode_of(file)) else PIECE


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe without a reader is an error, not to be waited for."""
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


def _mode_of(file: TextIO) -> int:
    """Return what kind of file it is (see stat); 0 where there is no descriptor behind it."""
    try:
        return os.fstat(file.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return 0


def would_take(file: TextIO) -> bool:
    """Tell whether a pipe or a socket has room for a line, so that to write does not block."""
    mode = _mode_of(file)
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return True
    poll = select.poll()
    poll.register(file, select.POLLOUT)
    return bool(poll.poll(0))


def _about_lost(when: float, lost: int) -> LogEvent:
    """Return an event about lines that could not be written before."""
    return {
        "log_level": LogLevel.error,
        "log_namespace": __name__,
        "log_time": when,
        "log_format": "the log could not be written: {lost} lines are late or lost",
        "lost": lost,
    }


def tolerant(stream: TextIO) -> TextIO:
    """Let a stream whose encoding lacks a character show its code instead of raising."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


class LevelObserver(FilteringLogObserver):
    """The observer to be installed, as the settings say.

    It passes on what is of some ``level`` at the least, through the ``limit`` if there is one, to
    the ``writer``, which is what is to be reopened. ``form`` is for lines that come by another way
    (see ended_lines). Raises OSError where the log cannot be opened.
    """

    def __init__(self, settings: LoggingSettings) -> None:
        self.level = LogLevel.levelWithName(settings.level)
        self.form: EndedForm = ended_json if settings.format == "json" else ended_text
        line = json_line if settings.format == "json" else text_line
        self.writer = LineObserver(settings.output, line)
        self.limit = LimitedObserver(self.writer, settings.rate) if settings.rate else None
        predicates = [LogLevelFilterPredicate(defaultLogLevel=self.level)]
        super().__init__(self.limit or self.writer, predicates)
