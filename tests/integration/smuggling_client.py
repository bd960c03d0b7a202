"""The client's side of request smuggling, and the proxy between it and a recording origin."""

import contextlib
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from tests.integration.programs import DEADLINE, LOOPBACK, free_port, sandboxed
from tests.integration.proxy import ProxyTestCase
from tests.integration.recording_origin import RecordingOrigin, wait_until_taken
from tests.integration.strict_http import Fault, Message, answers_in, requests_in

T = TypeVar("T")

#: Failures that are told.
FEW = 10

#: What a client is answered within, and far more than that takes: a hang is a failure.
PATIENCE = 5.0


class Client:
    """A connection to the proxy; what came is kept."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(PATIENCE)
        self.received = b""
        self.ended = False

    def send(self, data: bytes) -> None:
        """Send; a proxy that has ended the connection need not take it."""
        try:
            self._socket.sendall(data)
        except ConnectionError:
            self.ended = True

    def send_apart(self, pieces: Iterable[bytes]) -> None:
        """Send each piece when the one before was read."""
        for piece in pieces:
            self.send(piece)
            if self.ended:
                return
            wait_until_taken(self._socket)

    def more(self) -> bool:
        """Wait for more bytes; say whether there were any."""
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionError:
            data = b""
        self.received += data
        self.ended = not data
        return not self.ended

    def answers(self, methods: list[bytes], count: int) -> list[Message]:
        """Return all the final answers, having left as soon as there were ``count``."""
        self.await_answers(methods, count)
        self.leave()
        return self._final(methods)

    def await_answers(self, methods: list[bytes], count: int) -> list[Message]:
        """Return the final answers as soon as there are ``count``, or no more to come."""
        while not self.ended and len(self._final(methods)) < count and self.more():
            pass
        return self._final(methods)

    def finish(self) -> None:
        """End our direction, unless the connection is gone anyway."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def leave(self) -> None:
        """End our direction, and wait for the proxy's end."""
        self.finish()
        while self.more():
            pass
        self.close()

    def close(self) -> None:
        """Let go."""
        self._socket.close()

    def _final(self, methods: list[bytes]) -> list[Message]:
        # Any answer beyond those would be one to a GET.
        more = [*methods, *([b"GET"] * 5)]
        found, self.rest = answers_in(self.received, more, ended=self.ended)
        return [answer for answer in found if answer.status >= 200]


class SmugglingTestCase(ProxyTestCase):
    """A proxy before a recording origin."""

    def setUp(self) -> None:
        sandboxed()
        super().setUp()
        self.origin = RecordingOrigin(self)
        # The path of a unix socket must be short.
        sockets = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, sockets)
        self.path = f"{sockets}/s"
        self._clients: list[Client] = []
        self.addCleanup(self._leave)

    def _leave(self) -> None:
        """Close what clients there are."""
        while self._clients:
            self._clients.pop().close()

    def carry(self, http: str = "") -> None:
        """Start the proxy. What is not HTTP goes nowhere; to ``closed`` it may go, in vain."""
        self.closed = free_port()
        self.service = self.proxy(
            *("--allow", "origin.test", "-l", f"unix:{self.path}"),
            config=f"""
                [upstream]
                raw = ["refuse"]
                [policy]
                allow_ports = [{self.origin.port}, {self.closed}]
                [http]
                {http}
            """,
        )

    def by_tcp(self) -> Client:
        """Return a new client; the system may join what it sends."""
        self._clients.append(
            Client(socket.create_connection((LOOPBACK, self.service.port), DEADLINE))
        )
        return self._clients[-1]

    def by_unix(self) -> Client:
        """Return a new client; the proxy reads each piece of what it sends on its own."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.path)
        self._clients.append(Client(connection))
        return self._clients[-1]

    def reached(self) -> tuple[list[Message], list[bytes]]:
        """Return the whole requests that reached the origin, and the beginnings of others."""
        requests: list[Message] = []
        beginnings = []
        for recording in self.origin.settled():
            found, rest = requests_in(recording.received)
            requests += found
            beginnings += [rest] if rest else []
        for request in requests:
            self.assertEqual([], hop_by_hop(request), request)
        return requests, beginnings

    def each(self, cases: Mapping[str, T], attempt: Callable[[T], None]) -> None:
        """Make all the attempts; fail with what is wrong about the first few."""
        failures = []
        for name, case in cases.items():
            try:
                attempt(case)
                self._clients.clear()
            except (self.failureException, Fault, TimeoutError) as e:
                failures.append(f"{name}: {type(e).__name__}: {e}")
                if len(failures) == FEW:
                    break
                self._leave()
                self.origin.settled()
        if failures:
            self.fail("\n".join(failures))
        self.assertNotIn("Traceback", self.service.output())
        self.assertEqual(0, self.service.figure("connections_ended_total", reason="internal"))


def hop_by_hop(request: Message) -> list[bytes]:
    """Return the names of what must not be passed on; Upgrade may be, but not to HTTP/2."""
    wrong = {b"keep-alive", b"te", b"http2-settings", b"proxy-connection"}
    offers = request.values(b"upgrade")
    if not offers or request.body or b"h2c" in offers[0].lower():
        wrong |= {b"connection", b"upgrade"}
    names = [name.lower() for name, _ in (*request.fields, *request.trailers)]
    return [name for name in names if name in wrong]
