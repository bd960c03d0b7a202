"""Passwords checked beside the reactor: a few at a time, and not the same one again and again."""

import contextlib
import hashlib
import os
import sys
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from whatsproxy.files import Stamp, stamp
from whatsproxy.http1.credentials import Credentials
from whatsproxy.session import Ledger
from whatsproxy.turns import Memory, Turns, site_of
from whatsproxy.users import Users, UsersError, read_users, users_of

#: Checks at a time, each with a processor of its own.
THREADS = 2
#: Checks that wait for their turn; beyond them it is busy.
QUEUE = 64
#: Seconds for which a right password is remembered, from its last use on; and a wrong one.
RIGHT_KEPT, WRONG_KEPT = 60.0, 5.0
#: How much less of a processor than the rest of the process a check gets (nice(2)).
NICE = 10

log = Logger()


class BusyError(Exception):
    """Too many passwords wait to be checked."""


class Verifier:
    """Checks credentials by a file of users.

    What was found is remembered by a digest with a key that nobody else has, never by the password,
    for as long as the file has the same hash for that user. A check that is under way serves all
    who ask for the same meanwhile.

    Who guesses keeps nobody out: each site (an IPv4 address, a /48 in IPv6) has its turns, and
    whoever has guessed wrong comes behind all that have not. Nobody is refused for what came of
    guesses before: that would let one stranger keep out all who share an address with him.
    """

    name = "users"
    error = UsersError

    def __init__(self, reactor: Any, path: str, ledger: Ledger) -> None:
        self._reactor = reactor
        self._path = path
        self._logins = ledger.logins
        self._key = os.urandom(32)
        self._stamp: Stamp = None
        self._checks: dict[bytes, _Check] = {}
        self._turns: Turns[bytes] = Turns(QUEUE)
        self._right: Memory[bytes] = Memory(RIGHT_KEPT)
        self._wrong: Memory[bytes] = Memory(WRONG_KEPT)
        self._running = 0
        self._use(users_of({}))

    # -- The file (see files.Loadable)

    def load(self) -> None:
        """Read the users anew. Raises UsersError, and keeps the old ones."""
        self._stamp = stamp(self._path)  # of now: if it changes meanwhile it is read again
        self._use(read_users(self._path))

    def changed(self) -> bool:
        """Whether load would find something else."""
        return stamp(self._path) != self._stamp

    def announce(self) -> None:
        """Say how many there are."""
        costs = sorted(self._users.costs)
        log.info(
            "users of the HTTP proxy: {count} in {path}",
            count=len(self._users.hashes),
            path=self._path,
        )
        if len(costs) > 1:
            log.warn(
                "{path} has hashes of different costs ({costs}): by the time that a wrong password"
                " takes, a stranger can tell some names that are there",
                path=self._path,
                costs=", ".join(map(str, costs)),
            )

    def _use(self, users: Users) -> None:
        self._users = users

    # -- Clients

    def remembered(self, credentials: Credentials) -> bool | None:
        """Tell whether they are right, if that is known already."""
        digest, now = self._digest(credentials), self._reactor.seconds()
        if self._right.has(digest, now):
            self._right.add(digest, now)
            self._count(True)
            return True
        if self._wrong.has(digest, now):
            self._count(False)
            return False
        return None

    def check(self, credentials: Credentials, client: int | None = None) -> "Deferred[bool]":
        """Return a Deferred of whether they are right, which comes in a later turn.

        ``client`` is the number of who asks (see networks); None is one client, too.
        Cancelling it forgets the answer. It fails with BusyError where there are no threads, or
        others had to have the place; raises that where too many wait.
        """
        digest = self._digest(credentials)
        check = self._checks.get(digest)
        if check is None:
            site = site_of(client)
            goes = self._turns.put(site, digest, self._reactor.seconds())
            if goes == digest:
                self._logins["busy"] += 1
                raise BusyError
            if goes is not None:
                # In a later turn: this is in the middle of somebody else's request.
                self._reactor.callLater(0, self._tell, self._checks.pop(goes), BusyError())
            check = self._checks[digest] = _Check(credentials, site)
        waiting: Deferred[bool] = Deferred(partial(self._forget, digest))
        check.waiting.append(waiting)
        self._start_queued()
        return waiting

    def _digest(self, credentials: Credentials) -> bytes:
        # There is no colon in a name, nor in a hash: no two of them are one. All hashes have the
        # same length: it is the same work whether there is such a user or not.
        hashed = self._users.hashes.get(credentials.user, self._users.nobodys)
        pair = b":".join((hashed, credentials.user, credentials.password))
        return hashlib.blake2b(pair, key=self._key, digest_size=32).digest()

    def _start_queued(self) -> None:
        while self._turns and self._running < THREADS:
            self._start(self._turns.take(self._reactor.seconds()))

    def _start(self, digest: bytes) -> None:
        self._running += 1
        users, credentials = self._users, self._checks[digest].credentials
        # No daemon: Python would end such a thread at the end of the process by unwinding it,
        # which bcrypt, being in Rust, answers with an abort. So the end waits for it.
        thread = threading.Thread(
            target=self._work, args=(digest, users, credentials), name="verifier", daemon=False
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads, for now
            self._reactor.callLater(0, self._checked, digest, users, BusyError())

    def _work(self, digest: bytes, users: Users, credentials: Credentials) -> None:
        """Check (in a thread)."""
        found: bool | Exception
        try:
            _step_back()
            found = users.check(credentials.user, credentials.password)
        except Exception as e:  # whatever it is, somebody waits for an answer
            found = e
        self._reactor.callFromThread(self._checked, digest, users, found)

    def _checked(self, digest: bytes, users: Users, found: bool | Exception) -> None:
        self._running -= 1
        check = self._checks[digest]
        if users is not self._users and check.waiting:
            self._start(digest)  # again at once, by those of now
        else:
            del self._checks[digest]
            if isinstance(found, bool) and users is self._users:
                # Even if nobody waits any more: who guesses and goes has guessed.
                now = self._reactor.seconds()
                self._turns.note(check.site, now, right=found)
                memory = self._right if found else self._wrong
                memory.add(self._digest(check.credentials), now)  # with the hash of now
            self._tell(check, found)
        self._start_queued()

    def _tell(self, check: "_Check", found: bool | Exception) -> None:
        for waiting in check.waiting:
            if not waiting.called:  # one that was answered may have ended another
                self._answer(waiting, found)

    def _answer(self, waiting: "Deferred[bool]", found: bool | Exception) -> None:
        if isinstance(found, bool):
            self._count(found)
            waiting.callback(found)
        else:
            self._logins["busy"] += isinstance(found, BusyError)
            waiting.errback(found)

    def _count(self, right: bool) -> None:
        self._logins["ok" if right else "failed"] += 1

    def _forget(self, digest: bytes, waiting: "Deferred[bool]") -> None:
        check = self._checks.get(digest)
        if check is None or waiting not in check.waiting:
            return  # it is just being answered
        check.waiting.remove(waiting)
        if not check.waiting and self._turns.remove(check.site, digest):
            del self._checks[digest]


@dataclass(slots=True)
class _Check:
    """Credentials that are being checked, or are going to be, and who wants to know."""

    credentials: Credentials
    site: int
    waiting: "list[Deferred[bool]]" = field(default_factory=list)


def _step_back() -> None:
    """Let the others of this process go first: those who relay. On Linux a thread is nice alone."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
