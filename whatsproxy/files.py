"""Files that are read at the start, and again when they change."""

import errno
import os
import pwd
import stat
from typing import Protocol


class Loadable(Protocol):
    """What is made from files, and can be made anew while the service runs."""

    @property
    def name(self) -> str:
        """What it is, in the plural: for the log and the metrics."""

    @property
    def error(self) -> type[Exception]:
        """What ``load`` raises; its text is for the operator."""

    def load(self) -> None:
        """Read the files; where that fails, keep what there was."""

    def changed(self) -> bool:
        """Whether ``load`` would find something else than it did."""

    def announce(self) -> None:
        """Say in the log what is now in use."""


#: What tells a file on disk from one that was read; None: it is not there.
Stamp = tuple[int, ...] | None


def stamp(path: str) -> Stamp:
    """Return what tells the file at a path from any other that was, or will be, there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def read_file(path: str, limit: int) -> bytes:
    """Return what is in a file, at most ``limit`` bytes.

    Raises OSError, or ValueError where it is too large, or no file: a pipe would be waited for.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a file")
        with open(descriptor, "rb", closefd=False) as f:
            data = f.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise ValueError(f"has more than {limit} bytes")
    return data


def why(error: OSError) -> str:
    """Return what the system says; and to whom, where it denies: at the start that was root."""
    text = error.strerror or str(error)
    if error.errno not in (errno.EACCES, errno.EPERM):
        return text
    try:
        return f"{text} to {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"{text} to the user {os.geteuid()}"
