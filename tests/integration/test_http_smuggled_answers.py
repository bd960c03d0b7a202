"""Response smuggling: a client gets one answer for each of its requests, and none but its own.

What the origin says beyond that, or in a way that has two readings, goes to nobody.
"""

import signal
import threading
from pathlib import Path

from tests.integration.programs import DEADLINE, eventually
from tests.integration.recording_origin import HOST, Recording, plain
from tests.integration.smuggling import GET_LINE, head
from tests.integration.smuggling_answers import EVIL, OK, Trick, all_tricks
from tests.integration.smuggling_client import Client, SmugglingTestCase

TRICKS = all_tricks()
NEXT = head(start=GET_LINE.replace(b"/x", b"/next"))
NEXT_BODY = b"GET /next"


class TrickTests(SmugglingTestCase):
    """Each trick, with another request behind."""

    def setUp(self) -> None:
        super().setUp()
        self.carry()

    def request(self, trick: Trick) -> bytes:
        """Return the request that is answered so."""
        start = trick.method + b" http://" + HOST + b"/x HTTP/1.1"
        return self.origin.put_in(head(*trick.lines, start=start))

    def play(self, trick: Trick, *, apart: bool = False) -> None:
        """Let the origin play ``trick``; what follows on the same connection it answers well."""

        def behaviour(recording: Recording) -> None:
            while (request := recording.next_request()) is not None:
                if request.target == b"/x":
                    raw = trick.raw
                    for piece in [raw[i : i + 1] for i in range(len(raw))] if apart else [raw]:
                        recording.send(piece)
                    if trick.ends:
                        recording.finish()
                else:
                    recording.send(plain(request))

        self.origin.behaviour = behaviour

    def judge(self, trick: Trick, client: Client, *, pipelined: bool) -> None:
        """See what the client gets."""
        expected = [trick.status, 200] if trick.status is not None else []
        if not pipelined and expected:
            client.await_answers([trick.method], 1)
            client.send(self.origin.put_in(NEXT))
        answers = client.answers([trick.method, b"GET"], len(expected) or 1)
        self.assertEqual(expected, [answer.status for answer in answers])
        recordings = self.origin.settled()
        if trick.status is None:
            # It is plain that this is not the whole.
            self.assertTrue(client.rest.startswith(OK), client.rest)
            self.assertNotIn(b"evil", client.received)
            return
        self.assertEqual(b"", client.rest)
        self.assertEqual(NEXT_BODY, answers[1].body)
        if trick.status == 502:
            self.assertNotIn(b"evil", client.received)
        else:
            self.assertEqual(trick.body, answers[0].body)
        if trick.status == 502 or not trick.divisible or trick.ends:
            # The connection on which that came is not used again.
            self.assertEqual([1, 1], [r.received.count(b" HTTP/1.1\r\n") for r in recordings])

    def test_pipelined(self) -> None:
        def attempt(trick: Trick) -> None:
            self.play(trick)
            client = self.by_tcp()
            client.send(self.request(trick) + self.origin.put_in(NEXT))
            self.judge(trick, client, pipelined=True)

        self.each(TRICKS, attempt)

    def test_one_after_the_other(self) -> None:
        def attempt(trick: Trick) -> None:
            self.play(trick)
            client = self.by_tcp()
            client.send(self.request(trick))
            self.judge(trick, client, pipelined=False)

        self.each(TRICKS, attempt)

    def test_in_many_pieces(self) -> None:
        def attempt(trick: Trick) -> None:
            self.play(trick, apart=True)
            client = self.by_tcp()
            client.send(self.request(trick) + self.origin.put_in(NEXT))
            self.judge(trick, client, pipelined=True)

        small = {n: t for n, t in TRICKS.items() if t.divisible and len(t.raw) < 4096}
        self.each(small, attempt)


class UnsolicitedTests(SmugglingTestCase):
    """An origin that goes on talking when it has answered."""

    WORDS = {
        "an answer": EVIL,
        "a farewell": b"HTTP/1.1 408 Timeout\r\nConnection: close\r\nContent-Length: 4\r\n\r\nevil",
        "an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
        "the beginning of one": b"HTTP/1.1 200 OK\r\nX: ",
        "an empty line": b"\r\n",
        "a byte": b"\x00",
    }

    def setUp(self) -> None:
        super().setUp()
        self.carry()
        self.speak, self.spoken = threading.Event(), threading.Event()

    def play(self, words: bytes) -> None:
        """Let the origin answer; then say ``words`` when told to, and await the end."""
        self.speak.clear()
        self.spoken.clear()

        def behaviour(recording: Recording) -> None:
            while (request := recording.next_request()) is not None:
                recording.send(plain(request))
                if request.target == b"/x":
                    assert self.speak.wait(DEADLINE)
                    recording.send(words)
                    recording.arrived()
                    self.spoken.set()

        self.origin.behaviour = behaviour

    def begin(self) -> Client:
        """Return a client that has got the first answer."""
        client = self.by_tcp()
        client.send(self.origin.put_in(head(start=GET_LINE)))
        (first,) = client.await_answers([b"GET"], 1)
        self.assertEqual(b"GET /x", first.body)
        return client

    def end(self, client: Client) -> None:
        """See that the second answer is the one to the second request, on a new connection."""
        answers = client.answers([b"GET", b"GET"], 2)
        self.assertEqual([b"GET /x", NEXT_BODY], [answer.body for answer in answers])
        self.assertNotIn(b"evil", client.received)
        counts = [r.received.count(b" HTTP/1.1\r\n") for r in self.origin.settled()]
        self.assertEqual([1, 1], counts)

    def test_on_an_idle_connection(self) -> None:
        def attempt(words: bytes) -> None:
            self.play(words)
            client = self.begin()
            self.speak.set()
            # The proxy gives that connection up while the client says nothing.
            self.origin.await_end()
            client.send(self.origin.put_in(NEXT))
            self.end(client)

        self.each(self.WORDS, attempt)

    def race(self, words: bytes, *, client_first: bool) -> None:
        """Let the words and the next request be there before the proxy looks at either."""
        self.play(words)
        client = self.begin()
        self.service.signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.service.process.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it has stopped")
        request = self.origin.put_in(NEXT)
        if client_first:
            client.send_apart([request])
        self.speak.set()
        self.assertTrue(self.spoken.wait(DEADLINE))
        if not client_first:
            client.send_apart([request])
        self.service.signal(signal.SIGCONT)
        self.end(client)

    def test_just_before_the_next_request(self) -> None:
        self.each(self.WORDS, lambda words: self.race(words, client_first=False))

    def test_just_before_the_next_request_is_passed_on(self) -> None:
        # RFC 9112, 9.2: what comes while no request is outstanding is no answer.
        self.each(self.WORDS, lambda words: self.race(words, client_first=True))
