"""An HTTP connection on a hub between two bare peers: the client, and the only upstream."""

from typing import Any

from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.http_peers import TurningClock, head_of
from tests.peers import reactor
from tests.splice_rig import NOISE, RelayCase, Rig
from tests.support import make_settings
from whatsproxy.destination import Destination
from whatsproxy.factory import ProxyFactory
from whatsproxy.protocols.http import HttpConnection
from whatsproxy.reason import Reason
from whatsproxy.sniff import Kind, Sniffed
from whatsproxy.transport import hand_over
from whatsproxy.upstream import Arrival

SITE = Destination("a.test", 80)
GET = head_of(b"GET http://a.test/ HTTP/1.1", b"Host: a.test")
FORWARDED = head_of(b"GET / HTTP/1.1", b"Host: a.test")
#: Pieces in which something is sent, and turns after each.
PIECES = st.lists(
    st.tuples(st.sampled_from([1, 100, 4096, 65536, 300_000]), st.integers(0, 2)), max_size=4
)


def body(size: int, number: int = 0) -> bytes:
    return NOISE[7919 * number : 7919 * number + size]


def put(size: int) -> bytes:
    return head_of(b"PUT http://a.test/ HTTP/1.1", b"Host: a.test", _length(size))


def put_forwarded(size: int) -> bytes:
    return head_of(b"PUT / HTTP/1.1", b"Host: a.test", _length(size))


def answer(size: int, *fields: bytes) -> bytes:
    return head_of(b"HTTP/1.1 200 OK", _length(size), *fields)


def _length(size: int) -> bytes:
    return b"Content-Length: %d" % size


class HttpRig(Rig):
    """An HTTP connection on a hub, which reaches the upstream once."""

    def __init__(self, pipes: int = 16) -> None:
        super().__init__(pipes, relayed=False)
        self.clock = TurningClock()
        upstream: Any = self
        self.factory = ProxyFactory(
            self.clock, make_settings(upstream={"chat": (SITE,)}), upstream=upstream
        )
        self.ledger = self.factory.ledger
        self.session = self.ledger.open()
        self.session.detected(Kind.HTTP)
        self.leg: Any = self.factory.protocol_for(Sniffed(Kind.HTTP), self.session)
        assert isinstance(self.leg, HttpConnection)
        self.reached = 0
        hand_over(self.near[0], self.leg)

    def connect(self, destinations: Any, whose: Any) -> Any:
        """Reach the upstream, once (in Upstream's place)."""
        self.reached += 1
        if self.reached > 1:
            return Deferred(lambda _: None)
        arrival = Arrival(self.near[1].transport, SITE)
        arriving: Deferred[Arrival] = Deferred(lambda _: arrival.transport.abortConnection())
        # In another turn, as it is in life.
        reactor.callLater(0, lambda: arriving.called or arriving.callback(arrival))
        return arriving

    def send(self, end: Any, data: bytes, pieces: list[tuple[int, int]]) -> None:
        """Let an end send in such pieces, and the rest in one."""
        for size, turns in pieces:
            end.send(data[:size])
            data = data[size:]
            self.turn(turns)
        end.send(data)

    def await_end(self) -> None:
        """Let a little time pass, until all is over."""
        self.turn_until(lambda: self._moved_on() and self.is_over() and not self.fast.hub.owners)
        for end in self.ends:
            end.close()

    def _moved_on(self) -> bool:
        self.clock.advance(0.01)  # a farewell looks again from time to time
        return True

    def reasons(self) -> dict[Reason, int]:
        return {reason: count for reason, count in self.ledger.ends.items() if count}


class UnseenCase(RelayCase):
    def accounted(self, rig: HttpRig) -> None:
        counts = rig.session.received, rig.session.sent
        self.assertEqual(counts, (len(rig.client.sent), len(rig.client.received)))
        self.assertEqual((rig.ledger.received, rig.ledger.sent), counts)

    def end(self, rig: HttpRig, reason: Reason) -> None:
        """Wait for the end, for this reason, after which nothing is left."""
        rig.await_end()
        self.assertEqual(rig.reasons(), {reason: 1})
        self.over(rig)

    def served(self, rig: HttpRig) -> None:
        """Ask once more, by both connections: all is as it was."""
        asked, answered = bytes(rig.upstream.received), bytes(rig.client.received)
        rig.client.send(GET)
        rig.turn_until(lambda: rig.upstream.received == asked + FORWARDED)
        rig.upstream.send(answer(2) + b"ok")
        rig.turn_until(lambda: rig.client.received == answered + answer(2) + b"ok")

    def begun_download(self, size: int) -> HttpRig:
        """Return a rig in whose answer half of the body has come."""
        rig = HttpRig()
        rig.client.send(GET)
        rig.turn_until(lambda: rig.upstream.received == FORWARDED)
        rig.upstream.send(answer(size) + body(size // 2))
        rig.turn_until(lambda: len(rig.client.received) == len(answer(size)) + size // 2)
        self.assertGreater(sum(self.filled), size // 4, "it was copied")
        return rig

    def begun_upload(self, size: int) -> HttpRig:
        """Return a rig in whose request half of the body has gone."""
        rig = HttpRig()
        rig.client.send(put(size) + body(size // 2))
        rig.turn_until(lambda: len(rig.upstream.received) == len(put_forwarded(size)) + size // 2)
        self.assertGreater(sum(self.filled), size // 4, "it was copied")
        return rig
