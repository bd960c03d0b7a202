"""Log lines: text or JSON, one a line whatever a stranger sends, to a stream or a file."""

import contextlib
import errno
import json
import math
import os
import re
import select
import stat
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from io import TextIOWrapper
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
from whatsproxy.log_limit import LimitedObserver
from whatsproxy.settings import LoggingSettings

#: C0, DEL, C1 and the two line separators of Unicode.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

log = Logger()


def escape(text: str) -> str:
    """Return the text with control characters visible, so that none can forge a line."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


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
    when = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _traceback(event: LogEvent) -> list[str]:
    failure = event.get("log_failure")
    return failure.getTraceback().splitlines() if failure is not None else []


@implementer(ILogObserver)
class LineObserver:
    """Writes each event as a line to ``stdout``, ``stderr`` or a file (appending).

    Raises OSError where the file cannot be opened.
    """

    def __init__(self, output: str, line: Callable[[LogEvent], str]) -> None:
        self._output = output
        self._line = line
        self._file = self._open()
        self._lost = 0

    def __call__(self, event: LogEvent) -> None:
        """Write one event (called by twisted.logger); tell of those that could not be written."""
        try:
            self._write(event)
            if self._lost:
                lost, self._lost = self._lost, 0
                self._write(_about_lost(event, lost))
        except OSError:
            # Neither a full disk nor a reader that has stalled may end, or hold up, what the event
            # is about.
            self._lost += 1

    def _write(self, event: LogEvent) -> None:
        if not would_take(self._file):
            raise BlockingIOError(errno.EAGAIN, "nobody reads the log")
        self._file.write(self._line(event))
        self._file.flush()

    def reopen(self) -> None:
        """Open the file anew, after logrotate has moved it; on failure go on with the old one."""
        if self._output in ("stdout", "stderr"):
            return
        old = self._file
        try:
            self._file = self._open()
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
        return open(
            self._output, "a", encoding="utf-8", errors="backslashreplace", opener=_open_at_once
        )


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe without a reader is an error, not to be waited for."""
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


def would_take(file: TextIO) -> bool:
    """Tell whether a pipe or a socket has room for a line, so that to write does not block."""
    try:
        mode = os.fstat(file.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return True  # no descriptor behind it
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return True
    poll = select.poll()
    poll.register(file, select.POLLOUT)
    return bool(poll.poll(0))


def _about_lost(event: LogEvent, lost: int) -> LogEvent:
    """Return an event, at the time of another one, about those before it."""
    return {
        "log_level": LogLevel.error,
        "log_namespace": __name__,
        "log_time": event.get("log_time", 0.0),
        "log_format": "the log could not be written: {lost} lines are late or lost",
        "lost": lost,
    }


def tolerant(stream: TextIO) -> TextIO:
    """Let a stream whose encoding lacks a character show its code instead of raising."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def observer_of(settings: LoggingSettings) -> tuple[ILogObserver, LineObserver]:
    """Return the observer to be installed, and the one behind its level filter, to be reopened."""
    writer = LineObserver(settings.output, json_line if settings.format == "json" else text_line)
    level = LogLevel.levelWithName(settings.level)
    predicates = [LogLevelFilterPredicate(defaultLogLevel=level)]
    limited = LimitedObserver(writer, settings.rate) if settings.rate else writer
    return FilteringLogObserver(limited, predicates), writer
