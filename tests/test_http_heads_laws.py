import string

import h11
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import http_builders as b
from tests.builders import check_prefix_law
from whatsproxy.http1.errors import BadMessageError, MessageError
from whatsproxy.http1.heads import (
    Body,
    Framing,
    Limits,
    check_request,
    check_response,
    check_trailers,
    find_head,
)
from whatsproxy.incremental import NeedMore


class FindTests(SynchronousTestCase):
    def decide(self, data: bytes) -> int | NeedMore | str:
        try:
            return find_head(data)
        except BadMessageError as e:
            return str(e)

    def test_size(self) -> None:
        for head in (b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\nx\r\n\r\n"):
            for behind in (b"", b"x", b"\n", b"\r\r\n\n", head):
                answer = check_prefix_law(self, self.decide, head + behind)
                self.assertEqual(answer, len(head))
            for size in range(len(head)):
                self.assertEqual(find_head(head[:size]), NeedMore(size + 1))
                self.assertEqual(find_head(bytearray(head[:size])), NeedMore(size + 1))

    def test_bare(self) -> None:
        for data, size in (
            (b"GET /\n", 6),
            (b"\n", 1),
            (b"\r\r", 2),
            (b"GET /\rx", 7),
            (b"a\r\nb\n\r\n", 5),
            (b"a\r\n\n", 4),
            (b"a\r\n\r\r\n", 5),
            (b"a\r\r\n", 3),
        ):
            answer = check_prefix_law(self, self.decide, data + b"x\r\n\r\n")
            self.assertEqual(answer, "a line ends with a bare CR or LF", data)
            self.assertEqual(self.decide(data[:size]), answer, data)
            self.assertEqual(self.decide(data[: size - 1]), NeedMore(size), data)

    @settings(max_examples=150)
    @given(
        b.mutated(b.requests().map(lambda m: m.raw))
        | st.text("\r\n :x", max_size=30).map(str.encode)
        | st.binary(max_size=30),
        b.cuts,
    )
    def test_law(self, data: bytes, cuts: list[int]) -> None:
        answer = check_prefix_law(self, self.decide, data)
        if isinstance(answer, int):
            head = data[:answer]
            self.assertTrue(head.endswith(b"\r\n\r\n"))
            self.assertEqual(head.find(b"\r\n\r\n"), answer - 4)
        # What was looked at before need not be again.
        looked, size = 0, 0
        for piece in b.cut(data, cuts):
            size += len(piece)
            try:
                found: int | NeedMore | str = find_head(data[:size], looked)
            except BadMessageError as e:
                found = str(e)
            self.assertEqual(found, self.decide(data[:size]), (looked, size))
            if not isinstance(found, NeedMore):
                break
            looked = size


# -- Properties, and a second opinion


def strictly(head: bytes, *, request: bool) -> tuple[int, list[tuple[str, str]]]:
    """Read a head in the one way that RFC 9112 leaves; AssertionError where there are more.

    It is written otherwise than what it checks: no regular expression, no byte strings.
    """
    text = head.decode("latin-1")
    assert text.endswith("\r\n\r\n")
    assert text.index("\r\n\r\n") == len(text) - 4
    first, *lines = text[:-4].split("\r\n")
    for character in "".join([first, *lines]):
        assert character == "\t" or " " <= character <= "~" or character >= "\x80", ascii(character)
    if request:
        method, target, version = first.split(" ")
        assert method
        assert set(method) <= set(b.TCHAR)
        assert target
        assert target.isascii()
        assert "\t" not in target
    else:
        version, status = first.split(" ")[:2]
        assert len(status) == 3
        assert set(status) <= set(string.digits)
    assert version in ("HTTP/1.0", "HTTP/1.1")
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        assert colon
        assert name
        assert set(name) <= set(b.TCHAR)
        fields.append((name.lower(), value.strip(" \t")))
    # As a lenient origin might see the names, too.
    names = [name.replace("_", "-") for name, _ in fields]
    decisive = [name for name in names if name in ("content-length", "transfer-encoding")]
    assert len(decisive) <= 1
    named = dict(fields)
    assert all(name in named for name in decisive)
    if "content-length" in named:
        assert set(named["content-length"]) <= set(string.digits)
        assert 1 <= len(named["content-length"]) <= 18
    if "transfer-encoding" in named:
        assert named["transfer-encoding"].lower() == "chunked"
        assert version == "HTTP/1.1"
    if request:
        hosts = sum(name == "host" for name, _ in fields)
        assert hosts == 1 or (hosts == 0 and version == "HTTP/1.0")
    for name, value in fields:
        if name == "connection":
            named_there = {token.strip(" \t").lower() for token in value.split(",")}
            assert not named_there & {"host", "content-length", "transfer-encoding"}
    return int(version[-1]), fields


class PropertyTests(SynchronousTestCase):
    def told_by_h11(self, head: bytes, method: bytes = b"") -> h11.Connection:
        connection = h11.Connection(h11.CLIENT if method else h11.SERVER)
        if method:
            connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
            connection.send(h11.EndOfMessage())
        connection.receive_data(head)
        return connection

    def check_body(self, connection: h11.Connection, framing: Framing) -> None:
        """Insist that h11 waits for the same body."""
        if framing is Body.CHUNKED:
            self.assertIs(connection.next_event(), h11.NEED_DATA)
            connection.receive_data(b"0\r\n\r\n")
        elif framing is Body.UNTIL_CLOSE:
            connection.receive_data(b"0\r\n\r\n")
            self.assertEqual(connection.next_event(), h11.Data(data=b"0\r\n\r\n"))
            connection.receive_data(b"")
        elif framing:
            if framing > 1:  # no bytes would be the end
                connection.receive_data(bytes(framing - 1))
                self.assertEqual(connection.next_event().data, bytes(framing - 1))
            self.assertIs(connection.next_event(), h11.NEED_DATA)
            connection.receive_data(b"x")
            self.assertEqual(connection.next_event().data, b"x")
        self.assertEqual(connection.next_event(), h11.EndOfMessage())

    @settings(max_examples=60)
    @given(b.requests())
    def test_requests(self, message: b.Message) -> None:
        self.assertEqual(check_request(message.head, Limits()), message.framing)
        strictly(message.head, request=True)
        connection = self.told_by_h11(message.head)
        event = connection.next_event()
        self.assertEqual(event.method, message.method)
        self.assertEqual([name for name, _ in event.headers.raw_items()], names_of(message))
        self.check_body(connection, message.framing)

    @settings(max_examples=60)
    @given(b.responses())
    def test_responses(self, message: b.Message) -> None:
        checked = check_response(message.head, Limits(), to_head=message.method == b"HEAD")
        self.assertEqual(checked, (message.status, message.framing))
        strictly(message.head, request=False)
        connection = self.told_by_h11(message.head, message.method)
        event = connection.next_event()
        self.assertEqual(event.status_code, message.status)
        self.assertEqual([name for name, _ in event.headers.raw_items()], names_of(message))
        self.check_body(connection, message.framing)

    @settings(max_examples=250)
    @given(b.mutated(b.requests().map(lambda m: m.head)))
    def test_what_is_accepted_has_one_meaning(self, data: bytes) -> None:
        try:
            size = find_head(data)
            if isinstance(size, NeedMore):
                return
            framing = check_request(data[:size], Limits())
        except MessageError:
            return
        _, fields = strictly(data[:size], request=True)
        named = dict(fields)
        if "transfer-encoding" in named:
            self.assertIs(framing, Body.CHUNKED)
        else:
            self.assertEqual(framing, int(named.get("content-length", "0")))

    @settings(max_examples=250)
    @given(b.mutated(b.responses().map(lambda m: m.head)), st.booleans())
    def test_what_is_accepted_of_an_answer_too(self, data: bytes, to_head: bool) -> None:
        try:
            size = find_head(data)
            if isinstance(size, NeedMore):
                return
            status, framing = check_response(data[:size], Limits(), to_head=to_head)
        except MessageError:
            return
        _, fields = strictly(data[:size], request=False)
        named = dict(fields)
        if to_head or status < 200 or status in (204, 304):
            self.assertEqual(framing, 0)
        elif "transfer-encoding" in named:
            self.assertIs(framing, Body.CHUNKED)
        elif "content-length" in named:
            self.assertEqual(framing, int(named["content-length"]))
        else:
            self.assertIs(framing, Body.UNTIL_CLOSE)

    @settings(max_examples=200)
    @given(st.binary(max_size=60) | b.mutated(b.requests().map(lambda m: m.raw)), st.booleans())
    def test_nothing_but_message_errors(self, data: bytes, to_head: bool) -> None:
        for check in (
            lambda: check_request(data, Limits()),
            lambda: check_request(data + b"\r\n\r\n", Limits()),
            lambda: check_response(data + b"\r\n\r\n", Limits(), to_head=to_head),
            lambda: check_response(b"HTTP/1.1 200 OK" + data, Limits(), to_head=to_head),
            lambda: check_trailers(data + b"\r\n\r\n", Limits()),
        ):
            try:
                check()
            except MessageError as e:
                self.assertTrue(str(e).isascii())
                self.assertLessEqual(len(str(e)), 80)


def names_of(message: b.Message) -> list[bytes]:
    return [name for name, _ in message.fields]
