"""Start real programs for a test, wait for what they say, and make sure that they end.

Nothing here sleeps: every wait is for a line of output, an exit, or a condition of the outside
world (a port, a figure on a page), and all of them have a deadline.
"""

import asyncio
import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from twisted.trial.unittest import SkipTest, SynchronousTestCase

T = TypeVar("T")

#: Seconds that anything here may take before the test fails: far more than it should take.
DEADLINE = 20.0
#: The top of this source tree: what is tested is this, whatever else is installed.
ROOT = Path(__file__).resolve().parents[2]
TWISTD = Path(sys.executable).with_name("twistd")
LOOPBACK = "127.0.0.1"


def sandboxed() -> None:
    """Skip the calling test unless the test names are this machine and port 443 can be bound."""
    if os.environ.get("TEST_SANDBOX") != "1":
        raise SkipTest("needs the namespaces of tests/sandbox (TEST_SANDBOX is not 1)")


def missing(what: str) -> None:
    """Skip the calling test for want of ``what``; under CI that is a failure instead."""
    if os.environ.get("CI"):
        raise AssertionError(f"{what} is missing, and CI must run every test")
    raise SkipTest(f"{what} is missing")


def installed(name: str) -> str:
    """Return the path of the Debian program ``name``, or skip the calling test."""
    path = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"]))
    if path is None:
        missing(f"the program {name}")
    return str(path)


def eventually(check: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """Return the first true answer of ``check``, asking again until ``deadline`` seconds are over.

    For conditions that announce themselves to nobody, such as a port that begins to listen.
    """
    end = time.monotonic() + deadline
    pause = threading.Event()
    while not (answer := check()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what}; at last {answer!r}")
        pause.wait(0.02)
    return answer


def free_port(address: str = LOOPBACK) -> int:
    """Return a TCP port that nothing listens on."""
    with socket.socket() as s:
        s.bind((address, 0))
        return int(s.getsockname()[1])


def connects(port: int, address: str = LOOPBACK) -> bool:
    """Tell whether something accepts connections on ``port``."""
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True


def environment(**extra: str) -> dict[str, str]:
    """Return this process's environment for a child: this tree's package, no settings of ours.

    A certificate that the proxy makes is kept below the directory that it runs in.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WHATSPROXY_")}
    own = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "CACHE_DIRECTORY": "cache"}
    if os.environ.get("TEST_FAST") == "0":
        own["WHATSPROXY_SERVER_FAST"] = "false"
    return {**kept, **own, **extra}


class Program:
    """A child process, with its output collected line by line."""

    def __init__(self, argv: list[str], cwd: Path, env: dict[str, str] | None = None) -> None:
        self.argv = argv
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=env or environment(),
            text=True,
            errors="backslashreplace",
            # Its own process group, so that stop() reaches what it forked.
            start_new_session=True,
        )
        self._changed = threading.Condition()
        self._lines: list[tuple[str, str]] = []
        self._readers: list[threading.Thread] = []
        self._reading = 2
        for name in ("stdout", "stderr"):
            reader = threading.Thread(
                target=self._read, args=(name, getattr(self.process, name)), daemon=True
            )
            self._readers.append(reader)
            reader.start()

    def _read(self, name: str, stream: IO[str]) -> None:
        for line in stream:
            with self._changed:
                self._lines.append((name, line))
                self._changed.notify_all()
        with self._changed:
            self._reading -= 1
            self._changed.notify_all()

    def output(self, name: str | None = None) -> str:
        """Return what came so far on stdout and stderr, or on the one that is named."""
        with self._changed:
            return "".join(line for source, line in self._lines if name in (None, source))

    def wait_for(self, pattern: str, deadline: float = DEADLINE) -> re.Match[str]:
        """Return the first match of ``pattern`` in the output; fail early when the output ends."""
        found: re.Match[str] | None = None

        def settled() -> bool:
            nonlocal found
            text = "".join(line for _, line in self._lines)
            found = re.search(pattern, text, re.MULTILINE)
            return found is not None or self._reading == 0

        with self._changed:
            self._changed.wait_for(settled, deadline)
        if found is None:
            raise AssertionError(f"{self.argv[0]} never said {pattern!r}:\n{self.output()}")
        return found

    def says_it(self, text: str, times: int) -> None:
        """See that a text is in the output so often; its last lines may still be on their way."""

        def settled() -> bool:
            return sum(line.count(text) for _, line in self._lines) >= times or self._reading == 0

        with self._changed:
            self._changed.wait_for(settled, DEADLINE)
        if self.output().count(text) != times:
            raise AssertionError(f"not {times} x {text!r} from {self.argv[0]}:\n{self.output()}")

    def say(self, line: str) -> None:
        """Write one line to the standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def leave(self) -> None:
        """End the standard input."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, deadline: float = DEADLINE) -> int:
        """Return the exit status, with all output read."""
        try:
            status = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.argv[0]} did not end within {deadline:g} s:\n{self.output()}"
            ) from None
        for reader in self._readers:
            reader.join(deadline)
        return status

    def kill(self) -> None:
        """End it and everything in its process group, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE)

    def stop(self) -> None:
        """Kill it if it still runs, and release everything."""
        self.kill()
        for reader in self._readers:
            reader.join(DEADLINE)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class Background:
    """An asyncio loop in a thread: servers and clients that run beside a blocking test."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], deadline: float = DEADLINE) -> T:
        """Return the result of ``work``, within ``deadline`` seconds."""
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, deadline), self.loop).result(
            deadline + 1
        )

    def stop(self) -> None:
        """Cancel what still runs and end the thread."""

        async def cancel() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel(), self.loop).result(DEADLINE)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(DEADLINE)
        self.loop.close()


class ProgramTestCase(SynchronousTestCase):
    """A test that starts programs; all of them are gone when it ends."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir(parents=True)
        self._background: Background | None = None

    @property
    def background(self) -> Background:
        """The test's asyncio loop, made when first asked for."""
        if self._background is None:
            self._background = Background()
            self.addCleanup(self._background.stop)
        return self._background

    def start(self, *argv: str | Path, env: dict[str, str] | None = None) -> Program:
        """Start a program in the test's own directory."""
        program = Program([str(word) for word in argv], self.directory, env)
        self.addCleanup(program.stop)
        return program

    def start_server(
        self, port: int, *argv: str | Path, env: dict[str, str] | None = None
    ) -> Program:
        """Start a program and wait until it accepts connections on ``port``."""
        program = self.start(*argv, env=env)

        def ready() -> bool:
            if program.process.poll() is not None:
                program.wait()
                self.fail(f"{argv[0]} ended instead of listening:\n{program.output()}")
            return connects(port)

        eventually(ready, f"{argv[0]} listens on port {port}")
        return program

    def write(self, name: str, text: str) -> Path:
        """Write a file into the test's own directory."""
        path = self.directory / name
        path.write_text(text)
        return path

    def need_descriptors(self, count: int) -> None:
        """Raise this process's limit of descriptors so far for the test, or skip it."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < count:
            missing(f"a descriptor limit of {count}")
        if soft != resource.RLIM_INFINITY and soft < count:
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))

    @contextlib.contextmanager
    def within(self, seconds: float, what: str) -> Iterator[None]:
        """Fail when the block takes longer than ``seconds``."""
        began = time.monotonic()
        yield
        self.assertLess(time.monotonic() - began, seconds, what)
