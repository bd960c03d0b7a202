"""What the writer makes is what h11 would have made of the same."""

from typing import Any

import h11
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import http_builders as b
from whatsproxy.http1.heads import Body, check_response
from whatsproxy.http1.wire import Wire
from whatsproxy.http1.writer import Fields, Writer

_METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"OPTIONS"])
_VERSIONS = st.sampled_from([b"1.0", b"1.1"])
_NAMES = st.sampled_from([b"X", b"x-a", b"Set-Cookie", b"Date", b"connectio"])
_VALUES = st.sampled_from([b"", b"1", b"a, b", b"close", b"\xe9"])
_CONNECTIONS = st.sampled_from(
    [b"close", b"Upgrade", b"x", b"Close", b"keep-alive", b"x, CLOSE", b"upgrade,x"]
)
_fields = st.lists(
    st.tuples(_NAMES, _VALUES) | st.tuples(st.just(b"Connection"), _CONNECTIONS), max_size=4
)
_data = st.lists(st.sampled_from([b"", b"a", b"hello", bytes(70_000)]), max_size=3)
_trailers = st.lists(st.tuples(st.just(b"X-Sum"), _VALUES), max_size=2)


def said(write: Any, events: list[Any]) -> list[Any]:
    """Return what comes of events; an error is the last."""
    told: list[Any] = []
    for event in events:
        try:
            told.append(write(event) or b"")
        except h11.LocalProtocolError:
            told.append(h11.LocalProtocolError)
            break
    return told


class AsH11Tests(SynchronousTestCase):
    @settings(max_examples=300)
    @given(
        *(_METHODS, _VERSIONS, st.booleans(), _fields, _data, _trailers),
        st.sampled_from([200, 204, 304, 404, 426, 500]),
        st.sampled_from([None, 0, 5, 6, -1]),
        st.booleans(),
    )
    def test_answers(
        self,
        method: bytes,
        version: bytes,
        closes: bool,
        fields: Fields,
        pieces: list[bytes],
        trailers: Fields,
        status: int,
        length: int | None,
        interim: bool,
    ) -> None:
        """``length`` is what the head tells; -1: what is right."""
        if length is not None:
            size = sum(map(len, pieces)) if length < 0 else length
            fields = [*fields, (b"Content-length", b"%d" % size)]
        lines = [b"Connection: close"] if closes else []
        asked = b.get(*lines, line=method + b" http://a.test/ HTTP/" + version)
        events: list[Any] = [
            h11.Response(status_code=status, reason=b"Why not", headers=fields),
            *[h11.Data(data=piece) for piece in pieces],
            h11.EndOfMessage(headers=trailers),
        ]
        if interim:
            events.insert(0, h11.InformationalResponse(status_code=103, headers=[(b"A", b"b")]))
        other = h11.Connection(h11.SERVER)
        other.receive_data(asked)
        wire = Wire(h11.SERVER, b.LIMITS)
        wire.receive(asked)
        while type(other.next_event()) is not h11.EndOfMessage:
            pass
        while type(wire.next_event()) is not h11.EndOfMessage:
            pass
        told = said(wire.send, events)
        self.assertEqual(told, said(other.send, events))
        whole = h11.LocalProtocolError not in told
        self.assertEqual(wire.reusable, whole and other.our_state is h11.DONE)
        if whole and status != 204:  # of which nobody may tell a length
            head = b"".join(told)[len(told[0]) if interim else 0 :].partition(b"\r\n\r\n")[0]
            _, framing = check_response(head + b"\r\n\r\n", b.LIMITS, to_head=method == b"HEAD")
            self.assertEqual(framing, wire._writer.framing)

    @settings(max_examples=200)
    @given(
        _METHODS,
        st.lists(st.tuples(_NAMES, _VALUES), max_size=3),
        _data,
        _trailers,
        st.sampled_from([None, 0, 5, -1, Body.CHUNKED]),
    )
    def test_requests(
        self, method: bytes, fields: Fields, pieces: list[bytes], trailers: Fields, how: Any
    ) -> None:
        fields = [(b"Host", b"a.test"), *fields]
        if how is Body.CHUNKED:
            fields.append((b"Transfer-Encoding", b"chunked"))
        elif how is not None:
            size = sum(map(len, pieces)) if how < 0 else how
            fields.append((b"Content-Length", b"%d" % size))
        events: list[Any] = [
            h11.Request(method=method, target=b"/x", headers=fields),
            *[h11.Data(data=piece) for piece in pieces],
            h11.EndOfMessage(headers=trailers),
        ]
        wire = Wire(h11.CLIENT, b.LIMITS)
        told = said(wire.send, events)
        self.assertEqual(told, said(h11.Connection(h11.CLIENT).send, events))
        if h11.LocalProtocolError not in told:
            wire.receive(b.answer(b"Content-Length: 0"))
            kinds = [type(wire.next_event()) for _ in range(2)]
            self.assertEqual(kinds, [h11.Response, h11.EndOfMessage])
            self.assertTrue(wire.reusable)


class PlaceTests(SynchronousTestCase):
    """What has no place is an error, never bytes."""

    def response(self, writer: Writer, *fields: tuple[bytes, bytes]) -> bytes:
        return writer.response(200, b"OK", list(fields), method=b"GET", to_1_1=True, lasting=True)

    def refuse(self, call: Any, *arguments: Any) -> None:
        self.assertRaises(h11.LocalProtocolError, call, *arguments)

    def test_before_the_head(self) -> None:
        writer = Writer()
        self.refuse(writer.data, b"x")
        self.refuse(writer.unseen, 1)
        self.refuse(writer.end, [])

    def test_behind_the_end(self) -> None:
        writer = Writer()
        self.response(writer, (b"Content-Length", b"0"))
        writer.end([])
        self.assertTrue(writer.done)
        self.refuse(writer.data, b"")
        self.refuse(writer.unseen, 0)
        self.refuse(writer.end, [])
        self.refuse(self.response, writer)
        self.refuse(writer.interim, 100, b"", [])
        self.refuse(writer.request, b"GET", b"/", [])
        writer.begin()
        self.assertFalse(writer.done)
        self.assertIn(b"HTTP/1.1 200 OK", self.response(writer))

    def test_a_second_head(self) -> None:
        writer = Writer()
        writer.request(b"GET", b"/", [])
        self.refuse(writer.request, b"GET", b"/", [])

    def test_behind_a_switch(self) -> None:
        writer = Writer()
        writer.interim(101, b"Switching Protocols", [])
        for call in (self.response, writer.data, writer.end):
            self.refuse(call, *((writer,) if call == self.response else ([],)))

    def test_unseen(self) -> None:
        writer = Writer()
        self.response(writer, (b"Content-Length", b"10"))
        writer.unseen(4)
        self.refuse(writer.end, [])
        self.refuse(writer.unseen, 7)
        self.assertEqual(writer.data(b"12345"), b"12345")
        writer.unseen(1)
        self.refuse(writer.data, b"x")
        self.assertEqual(writer.end([]), b"")

    def test_unseen_where_there_is_framing(self) -> None:
        writer = Writer()
        self.response(writer)
        self.refuse(writer.unseen, 1)
        writer = Writer()
        writer.response(200, b"OK", [], method=b"GET", to_1_1=False, lasting=True)
        self.assertIs(writer.framing, Body.UNTIL_CLOSE)
        self.refuse(writer.unseen, 1)
