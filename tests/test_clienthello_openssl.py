"""Our reading of ClientHellos against OpenSSL's, which terminates what we have looked at."""

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import trustme
from hypothesis import example, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests import builders as b
from tests.test_clienthello_corpus import messages, recorded
from whatsproxy.clienthello import ClientHello, Unreadable, parse_client_hello

CORPUS = recorded()
MESSAGES = [messages(hello.data) for hello in CORPUS]
#: A server's answer: HelloRetryRequest has the type of ServerHello.
SERVER_HELLO = b"\x02"


@dataclass(frozen=True)
class Heard:
    """What OpenSSL made of a ClientHello: whether it answered with a ServerHello, and what it read.

    ``named`` says that it got as far as asking which certificate the name wants.
    """

    accepted: bool
    named: bool
    name: str | None
    alpn: tuple[bytes, ...] | None
    version: str

    def hello(self) -> ClientHello:
        return ClientHello(self.name or None, self.alpn or ())


class Server:
    """An OpenSSL server that takes every client it can, and tells what it heard."""

    def __init__(self) -> None:
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.set_min_proto_version(SSL.TLS1_VERSION)
        self._context.set_cipher_list(b"ALL:@SECLEVEL=0")
        authority = trustme.CA()
        for kind in trustme.KeyType:
            authority.issue_cert("proxy.test", key_type=kind).configure_cert(self._context)
        self._context.set_tlsext_servername_callback(self._on_name)
        self._context.set_alpn_select_callback(self._on_alpn)

    def hear(self, data: bytes) -> Heard:
        """Give a new connection these bytes."""
        self._names: list[bytes | None] = []
        self._alpn: tuple[bytes, ...] | None = None
        connection = SSL.Connection(self._context)
        connection.set_accept_state()
        connection.bio_write(data)
        answer = b""
        with contextlib.suppress(SSL.Error):  # WantReadError is one: the client's turn
            connection.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            answer = connection.bio_read(6)
        name = self._names[-1] if self._names else None
        return Heard(
            answer[:1] == b"\x16" and answer[5:] == SERVER_HELLO,
            bool(self._names),
            name if name is None else name.decode("ascii", "backslashreplace"),
            self._alpn,
            connection.get_protocol_version_name(),
        )

    def _on_name(self, connection: SSL.Connection) -> None:
        self._names.append(connection.get_servername())

    def _on_alpn(self, _connection: SSL.Connection, offered: list[bytes]) -> object:
        self._alpn = tuple(offered)
        return SSL.NO_OVERLAPPING_PROTOCOLS


@functools.cache
def server() -> Server:
    return Server()


# -- Hellos that are nearly real


def taken_apart(message: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Return what comes before a ClientHello's extensions, without its header, and these."""
    at = 4 + 2 + 32
    at += 1 + message[at]
    at += 2 + int.from_bytes(message[at : at + 2], "big")
    at += 1 + message[at]
    head, rest = message[4:at], message[at + 2 :]
    extensions = []
    while rest:
        size = int.from_bytes(rest[2:4], "big")
        extensions.append((int.from_bytes(rest[:2], "big"), rest[4 : 4 + size]))
        rest = rest[4 + size :]
    return head, extensions


def put_together(head: bytes, extensions: Sequence[tuple[int, bytes]]) -> bytes:
    parts = b"".join(b.extension(kind, content) for kind, content in extensions)
    return b.handshake(head + b.vector(2, parts))


def lengths(message: bytes) -> list[int]:
    """Return where in a message the lengths, the extensions' types and what is near them are."""
    head, extensions = taken_apart(message)
    session = 4 + 2 + 32
    suites = session + 1 + message[session]
    places = [*range(6), session, suites, suites + 1, *range(4 + len(head) - 2, 6 + len(head))]
    at = 6 + len(head)
    for kind, content in extensions:
        near = min(len(content), 7) if kind in (b.SERVER_NAME, b.ALPN) else 0
        places += range(at, at + 4 + near)
        at += 4 + len(content)
    return places


def broken(draw: st.DrawFn, data: bytes, places: Sequence[int] = ()) -> bytes:
    """Change, take out or put in a few bytes, most often at one of the places."""
    anywhere = st.integers(0, len(data))
    at = draw(st.sampled_from(places) | anywhere if places else anywhere)
    put = draw(st.binary(max_size=2) | st.sampled_from([b"\0", b"\xff", data[at : at + 4]]))
    return data[:at] + put + data[at + draw(st.integers(0, 2)) :]


_NAMES = st.one_of(
    b.host_names.map(str.encode),
    st.binary(max_size=12),
    st.text(max_size=12).map(str.encode),
    st.integers(250, 260).map(lambda size: b"a" * size),
    st.sampled_from([b"", b".", b"a.b.", b"A.B", b"127.0.0.1", b"[::1]", b"*.a.b", b"a\0.b"]),
)
_LISTS = st.lists(_NAMES, min_size=1, max_size=2)


@st.composite
def changed_extensions(
    draw: st.DrawFn, extensions: list[tuple[int, bytes]]
) -> list[tuple[int, bytes]]:
    """Return the extensions with one thing about them changed."""
    changed = list(extensions)
    # The two that are read come up as often as all the others.
    read = [i for i, (kind, _) in enumerate(changed) if kind in (b.SERVER_NAME, b.ALPN)]
    anything = st.integers(0, len(changed) - 1)
    at = draw(st.sampled_from(read) | anything if read else anything)
    kind, content = changed[at]
    what = draw(st.sampled_from(["twice", "moved", "gone", "empty", "new", "name", "alpn", "kind"]))
    if what == "twice":
        changed.insert(draw(st.integers(0, len(changed))), (kind, content))
    elif what == "moved":
        changed.insert(draw(st.integers(0, len(changed) - 1)), changed.pop(at))
    elif what == "gone":
        del changed[at]
    elif what == "empty":
        changed[at] = kind, b""
    elif what == "new":
        changed[at] = kind, broken(draw, content, range(min(len(content), 6)))
    elif what == "name":
        names = b.server_names(*draw(_LISTS), kind=draw(st.sampled_from([0, 0, 0, 1])))
        changed = [pair for pair in changed if pair[0] != b.SERVER_NAME]
        changed.insert(draw(st.integers(0, len(changed))), (b.SERVER_NAME, names[4:]))
    elif what == "alpn":
        protocols = b.alpn(*(name[:255] for name in draw(_LISTS)))
        changed = [pair for pair in changed if pair[0] != b.ALPN]
        changed.insert(draw(st.integers(0, len(changed))), (b.ALPN, protocols[4:]))
    else:
        changed[at] = draw(st.integers(0, 60) | st.integers(0, 0xFFFF)), content
    return changed or extensions


@st.composite
def nearly_real(draw: st.DrawFn) -> bytes:
    """Return a recorded hello that has been changed: its extensions, bytes of it, its records."""
    message = draw(st.sampled_from(MESSAGES))
    head, extensions = taken_apart(message)
    for _ in range(draw(st.integers(0, 3))):
        extensions = draw(changed_extensions(extensions))
    message = put_together(head, extensions)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        if message[:1] == b"\x01":
            message = broken(draw, message, lengths(put_together(head, extensions)))
    version = draw(st.sampled_from([1, 1, 1, 3, 0, 2, 4]))
    data = b.records(message, draw(st.just([]) | b.record_sizes))
    data = data[:2] + bytes([version]) + data[3:]
    if draw(st.integers(0, 9)) == 9:
        data = broken(draw, data, range(6))
    return data + draw(st.just(b"") | st.binary(max_size=20))


# -- What OpenSSL takes and we do not

_OLD = next(messages(hello.data) for hello in CORPUS if hello.file == "openssl-tls12.bin")
_HEAD, _EXTENSIONS = taken_apart(_OLD)
UNKNOWN_TWICE = b.record(put_together(_HEAD, [*_EXTENSIONS, (0x0A0A, b""), (0x0A0A, b"")]))
EMPTY_NAME = b.record(
    put_together(
        _HEAD,
        [(kind, b"\0\x03\0\0\0" if kind == b.SERVER_NAME else c) for kind, c in _EXTENSIONS],
    )
)
LATER_RECORD_VERSION = b.record(_OLD, version=5)
EMPTY_RECORD_FIRST = b.record(b"") + b.record(_OLD)
EMPTY_RECORD_BETWEEN = b.record(_OLD[:9]) + b.record(b"") + b.record(_OLD[9:])


class OpenSSLTests(SynchronousTestCase):
    def test_recorded(self) -> None:
        for hello in CORPUS:
            for data in (hello.data, b.records(messages(hello.data), [50, 1, 7])):
                heard = server().hear(data)
                self.assertTrue(heard.accepted, hello.file)
                self.assertEqual(heard.hello(), hello.asked, hello.file)
                self.assertEqual(heard.version, f"TLSv{hello.tls}", hello.file)

    @settings(max_examples=500)
    @given(nearly_real())
    def test_never_another_name(self, data: bytes) -> None:
        # Whatever becomes of the hello later: where both have read a name, it is the same one.
        heard = server().hear(data)
        hello = parse_client_hello(data)
        if isinstance(hello, ClientHello):
            if heard.named:
                self.assertEqual(hello.server_name, heard.name or None)
            if heard.alpn is not None:
                self.assertEqual(hello.alpn, heard.alpn)

    @settings(max_examples=500)
    @given(nearly_real())
    @example(UNKNOWN_TWICE)
    @example(EMPTY_NAME)
    @example(LATER_RECORD_VERSION)
    def test_what_it_accepts(self, data: bytes) -> None:
        heard = server().hear(data)
        hello = parse_client_hello(data)
        if heard.accepted:
            self.assertEqual(hello, heard.hello())

    def test_empty_records(self) -> None:
        """OpenSSL takes some; they must not be sent (RFC 8446 5.1), and nobody sends them."""
        for data in (EMPTY_RECORD_FIRST, EMPTY_RECORD_BETWEEN):
            self.assertTrue(server().hear(data).accepted)
            self.assertIsInstance(parse_client_hello(data), Unreadable)
