"""What a server answers directly it answers through the proxy: status, fields, reason and body.

The requests are generated, and sent one after the other on a connection that is kept. What concerns
one hop only may differ; nothing else may, but for Date.
"""

import json
import socket
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.differential_origins import echo, nginx
from tests.integration.differential_requests import Request, to_echo, to_nginx
from tests.integration.programs import sandboxed
from tests.integration.proxy import ProxyTestCase
from tests.integration.strict_http import Fields, Message, answers_in
from tests.integration.traffic import dial

#: Sequences of requests for each server.
EXAMPLES = 250
HOP_BY_HOP = {"connection", "keep-alive", "te", "transfer-encoding", "upgrade", "http2-settings"}


class Client:
    """Sends requests over one connection for as long as that is kept.

    nginx ends some that it said it would keep, after a body that it had no use for. A client that
    is ``patient`` then asks again (RFC 9112, 9.3.1); of the proxy that must not be asked.
    """

    def __init__(self, port: int, *, patient: bool) -> None:
        self._port = port
        self._patient = patient
        self._connection: socket.socket | None = None
        #: The 1xx answers before the last answer.
        self.before: list[Message] = []

    def ask(self, method: str, data: bytes) -> Message:
        """Return the answer."""
        kept = self._connection is not None
        try:
            return self._ask(method, data)
        except ConnectionError:
            if not (kept and self._patient):
                raise
        self.close()
        return self._ask(method, data)

    def _ask(self, method: str, data: bytes) -> Message:
        if self._connection is None:
            self._connection = dial(self._port)
        self._connection.sendall(data)
        received, ended = b"", False
        while True:
            answers, rest = answers_in(received, [method.encode()], ended=ended)
            if answers and answers[-1].status >= 200:
                break
            if ended:
                raise ConnectionError(f"{received!r} is no answer to {data!r}")
            more = self._connection.recv(1 << 16)
            received, ended = received + more, not more
        assert rest == b"", rest
        *self.before, answer = answers
        if ended or b"close" in [value.lower() for value in answer.values(b"connection")]:
            self.close()
        return answer

    def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def end_to_end(found: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the fields that a proxy has no business with."""
    found = list(found)
    gone = HOP_BY_HOP | {
        option.strip(" \t").lower()
        for name, value in found
        if name.lower() == "connection"
        for option in value.split(",")
    }
    return [
        (name, value)
        for name, value in found
        if name.lower() not in gone and not name.lower().startswith("proxy-")
    ]


def lasting(fields: Fields, *without: bytes) -> list[tuple[str, str]]:
    """Return the fields of an answer that are compared; Date tells when, not what."""
    return end_to_end(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in fields
        if name.lower() not in (b"date", *without)
    )


class DifferentialTests(ProxyTestCase):
    """Each sequence of requests, once directly and once through the proxy."""

    def setUp(self) -> None:
        sandboxed()
        super().setUp()

    def carry(self, port: int) -> None:
        """Start the proxy before the server on ``port``."""
        self.origin, self.port = f"origin.test:{port}", port
        self.service = self.proxy(
            "--allow", "origin.test", config=f"[policy]\nallow_ports = [{port}]"
        )

    def both(self, sequence: list[Request]) -> Iterator[tuple[Request, Message, Message]]:
        """Ask both ways; give each request with the direct answer and the one of the proxy."""
        with (
            closing(Client(self.port, patient=True)) as direct,
            closing(Client(self.service.port, patient=False)) as proxied,
        ):
            for request in sequence:
                one = direct.ask(request.method, request.sent(self.origin, through=False))
                other = proxied.ask(request.method, request.sent(self.origin, through=True))
                self.assertEqual(direct.before, proxied.before, request)
                yield request, one, other

    def all_is_well(self) -> None:
        """See that the proxy met nothing that it does not know, and refused nothing."""
        self.assertNotIn("Traceback", self.service.output())
        self.assertEqual(0, self.service.figure("http_requests_total", answered_by="proxy"))

    def test_nginx(self) -> None:
        self.carry(nginx(self))

        @settings(max_examples=EXAMPLES)
        @given(st.lists(to_nginx, min_size=1, max_size=4))
        def compare(sequence: list[Request]) -> None:
            for request, direct, proxied in self.both(sequence):
                self.assertEqual(direct.kind, proxied.kind, request)
                self.assertEqual(direct.reason, proxied.reason, request)
                self.assertEqual(lasting(direct.fields), lasting(proxied.fields), request)
                self.assertEqual(direct.body, proxied.body, request)

        compare()
        self.all_is_well()

    def test_python(self) -> None:
        self.carry(echo(self))

        @settings(max_examples=EXAMPLES)
        @given(st.lists(to_echo, min_size=1, max_size=4))
        def compare(sequence: list[Request]) -> None:
            for request, direct, proxied in self.both(sequence):
                self.assertEqual(direct.kind, proxied.kind, request)
                self.assertEqual(direct.reason, proxied.reason, request)
                # What is told differs in length, and the fields of the hop come back, or do not.
                differing = (b"content-length", b"x-gone", b"x-away")
                self.assertEqual(
                    lasting(direct.fields, *differing), lasting(proxied.fields, *differing), request
                )
                self.assertEqual(direct.trailers, proxied.trailers, request)
                self.assertEqual(bool(direct.body), bool(proxied.body), request)
                if direct.body:
                    self.told_alike(json.loads(direct.body), json.loads(proxied.body))

        compare()
        self.all_is_well()

    def told_alike(self, direct: dict[str, Any], proxied: dict[str, Any]) -> None:
        """See that the server got the same request both ways, but for the fields of the hop."""
        fields = [(name, value) for name, value in direct.pop("fields")]
        got = [(name, value) for name, value in proxied.pop("fields")]
        self.assertEqual(direct, proxied)
        self.assertEqual(end_to_end(fields), [f for f in got if f[0] != "Transfer-Encoding"])
