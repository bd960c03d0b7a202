"""Asking name servers for a name's addresses, both families at once, over UDP.

One socket a question, as the C library has it: connected, so that only the server is heard, and
that nobody is there is known at once; its port and two numbers are the kernel's choice (RFC 5452).
Twisted's client does not look at the question in an answer, waits a minute for a port that is
closed, and knows none of resolv.conf's options. What does not fit into a datagram is for the C
library, which can ask over TCP.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.descriptors import EXHAUSTED, NoDescriptorsError
from whatsproxy.dns_messages import AAAA, A, Answer, answer_to, question
from whatsproxy.name_sources import Servers

PORT = 53
#: Seconds that IPv6 addresses get when those of IPv4 are there already (RFC 8305 3).
RESOLUTION_DELAY = 0.05
#: Bytes of a datagram that are read. Without EDNS 512 are permitted; some servers send more.
_DATAGRAM = 1500
#: Datagrams that are read before others have their turn.
_BURST = 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of asking.

    ``addresses``, in no order; ``seconds`` for which they are good, or for which there are none,
    where that was said. ``final``: that there are none need not be asked elsewhere, because
    the servers are silent, and would be so again.
    """

    addresses: tuple[str, ...] = ()
    seconds: int | None = None
    final: bool = False


@implementer(IReadDescriptor)
class Asking:
    """One name that is being asked for; ``done`` is called once, unless ``stop`` was before.

    It gets an Outcome, or a NoDescriptorsError.
    """

    __slots__ = (
        "_answers",
        "_done",
        "_failed",
        "_kinds",
        "_left",
        "_name",
        "_reactor",
        "_seconds",
        "_silent",
        "_socket",
        "_timer",
    )

    def __init__(
        self,
        reactor: Any,
        name: str,
        servers: Servers,
        done: Callable[[Outcome | NoDescriptorsError], None],
    ) -> None:
        self._reactor = reactor
        self._name = name
        self._left = list(servers.addresses) * servers.attempts
        self._seconds = servers.seconds
        self._done = done
        self._answers: dict[int, Answer] = {}
        self._kinds: dict[int, int] = {}
        self._failed: set[int] = set()
        self._silent = False
        self._socket: socket.socket | None = None
        self._timer: Any = None

    def start(self) -> None:
        """Ask the first server."""
        self._next()

    def stop(self) -> None:
        """Leave it: nobody is told."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._socket.close()
            self._socket = None

    def _next(self) -> None:
        """Ask the next server for what is not answered yet."""
        self.stop()
        while self._left:
            server = self._left.pop(0)
            try:
                self._ask(server)
            except OSError as e:
                self.stop()
                if e.errno in EXHAUSTED:
                    error = f"no descriptor to look up {self._name} with"
                    self._done(NoDescriptorsError(error))
                    return
            else:
                self._timer = self._reactor.callLater(self._seconds, self._is_silent)
                return
        self._finish()

    def _ask(self, server: str) -> None:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        asked = socket.socket(family, socket.SOCK_DGRAM)
        self._socket = asked
        asked.setblocking(False)
        where = server.partition("%")
        scope = (0, socket.if_nametoindex(where[2])) if where[2] else ()
        asked.connect((where[0], PORT, *scope))
        self._failed.clear()
        self._kinds.clear()
        self._reactor.addReader(self)
        for kind in (A, AAAA):
            if kind not in self._answers:
                number = int.from_bytes(os.urandom(2))
                while number in self._kinds:
                    number = int.from_bytes(os.urandom(2))
                self._kinds[number] = kind
                asked.send(question(number, self._name, kind))

    def _is_silent(self) -> None:
        self._silent = True
        if any(answer.addresses for answer in self._answers.values()):
            self._finish()
        else:
            self._next()

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 without one."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """Return what the reactor calls this in the log."""
        return "dns"

    def doRead(self) -> None:
        """Read what has come; the reactor calls it."""
        for _ in range(_BURST):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:  # nobody is there, or no way to it
                self._next()
                return
            found = answer_to(data, self._name, self._kinds)
            if found is not None:
                self._answered(*found)

    def _answered(self, kind: int, answer: Answer) -> None:
        if answer.cut:
            self.stop()
            self._done(Outcome())
            return
        if answer.failed:
            self._failed.add(kind)
        else:
            self._answers[kind] = answer
        missing = {A, AAAA} - self._answers.keys()
        if not missing:
            self._finish()
        elif missing <= self._failed:
            # What one family has need not wait for another server's word on the other.
            if any(a.addresses for a in self._answers.values()):
                self._finish()
            else:
                self._next()
        elif answer.addresses and kind == A:
            self._timer.reset(RESOLUTION_DELAY)

    def _finish(self) -> None:
        self.stop()
        answers = self._answers.values()
        addresses = tuple(address for a in answers for address in a.addresses)
        if addresses:
            ttls = [a.ttl or 0 for a in answers if a.addresses]
            # Half of what there may be is not for long.
            self._done(Outcome(addresses, min(ttls) if len(answers) > 1 else None))
        elif len(answers) > 1:
            self._done(Outcome((), min(a.ttl or 0 for a in answers)))
        else:
            self._done(Outcome(final=self._silent))

    def connectionLost(self, reason: Failure) -> None:
        """Go on, or give up; the reactor calls it.

        To the poll and epoll reactors an error that waits to be read, that nobody is there, is the
        end of a connection. Otherwise they end themselves, or reading has raised something.
        """
        if reason.check(ConnectionDone):
            self._next()
            return
        self.stop()
        self._done(Outcome(final=True))
