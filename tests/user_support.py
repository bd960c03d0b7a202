"""Users for tests: files of them, and a hash that takes as long as a test wants."""

import base64
import os
import threading
from pathlib import Path
from typing import Any

import bcrypt

from whatsproxy import users as users_module

#: A cost that is over in a millisecond.
COST = 4


def hash_of(password: bytes, cost: int = COST, kind: bytes = b"2y") -> bytes:
    return b"$" + kind + bcrypt.hashpw(password, bcrypt.gensalt(cost))[3:]


def write_users(path: str, *more: bytes, **passwords: str) -> str:
    """Write a file of users; return its path. The time of the file moves with each writing."""
    before = os.stat(path).st_mtime_ns if os.path.exists(path) else 10**18
    lines = [b"%s:%s" % (n.encode(), hash_of(p.encode())) for n, p in passwords.items()]
    Path(path).write_bytes(b"\n".join([*lines, *more, b""]))
    os.utime(path, ns=(before + 10**9, before + 10**9))
    return path


def authorization(user: str, password: str) -> bytes:
    """Return the field by which a client says who it is."""
    pair = f"{user}:{password}".encode()
    return b"Proxy-Authorization: Basic " + base64.b64encode(pair)


class Gate:
    """In the place of bcrypt's hash: counts what is checked, and holds it back while closed."""

    def __init__(self, case: Any) -> None:
        self.checked: list[bytes] = []
        self.threads: list[threading.Thread] = []
        self.priorities: list[int] = []
        self.error: Exception | None = None
        self._open = threading.Event()
        self._open.set()
        self._real = bcrypt.checkpw
        case.patch(users_module.bcrypt, "checkpw", self._checkpw)
        case.addCleanup(self.open)

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def _checkpw(self, password: bytes, hashed: bytes) -> bool:
        self.threads.append(threading.current_thread())
        self.priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        self.checked.append(password)
        if not self._open.wait(20):
            raise AssertionError("nobody has opened the gate")
        if self.error is not None:
            raise self.error
        return self._real(password, hashed)
