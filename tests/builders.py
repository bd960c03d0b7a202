"""What several tests build: ClientHellos, openings of every kind, and the law of all parsers."""

import contextlib
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from unittest import TestCase

from hypothesis import strategies as st
from OpenSSL import SSL

from whatsproxy.incremental import NeedMore
from whatsproxy.session import Ledger
from whatsproxy.sniff import Kind

BOM = b"\xef\xbb\xbf"
#: "WA" and two version bytes, as several generations of the application send them.
INTROS = [b"WA\x04\x00", b"WA\x06\x02", b"WA\x06\x03", b"WA\x05\x02"]
SERVER_NAME, ALPN = 0, 16


# -- ClientHellos


def vector(size: int, content: bytes) -> bytes:
    """Return a vector of TLS: a length of ``size`` bytes and the content."""
    return len(content).to_bytes(size, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, content)


def server_names(*names: bytes, kind: int = 0) -> bytes:
    """Return a server_name extension with a list of these names, usually one."""
    entries = b"".join(bytes([kind]) + vector(2, name) for name in names)
    return extension(SERVER_NAME, vector(2, entries))


def alpn(*protocols: bytes) -> bytes:
    return extension(ALPN, vector(2, b"".join(vector(1, p) for p in protocols)))


def message(*extensions: bytes, session: bytes = b"", padding: int = 0) -> bytes:
    """Return a ClientHello message, ``padding`` bytes of a padding extension in it."""
    if padding:
        extensions = (*extensions, extension(21, bytes(padding - 4)))
    body = b"\x03\x03" + bytes(range(32)) + vector(1, session) + vector(2, b"\x13\x01")
    body += vector(1, b"\0") + vector(2, b"".join(extensions))
    return handshake(body)


def handshake(body: bytes) -> bytes:
    return b"\x01" + vector(3, body)


def message_of(size: int, *extensions: bytes) -> bytes:
    """Return a ClientHello message of exactly ``size`` bytes, its header included."""
    whole = message(*extensions, padding=size - len(message(*extensions)))
    assert len(whole) == size
    return whole


def record(fragment: bytes, version: int = 1, kind: int = 22) -> bytes:
    return bytes([kind, 3, version]) + vector(2, fragment)


def records(whole: bytes, sizes: Iterable[int] = ()) -> bytes:
    """Return a message in records of these sizes; what is left over goes into a last one."""
    pieces = []
    for size in sizes:
        pieces.append(whole[:size])
        whole = whole[size:]
    return b"".join(record(piece) for piece in [*pieces, whole] if piece)


def python_hello(
    name: str | None,
    protocols: Sequence[str] = (),
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> bytes:
    """Return the ClientHello that Python's ssl module sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = newest
    if protocols:
        context.set_alpn_protocols(protocols)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def pyopenssl_hello(name: str | None, protocols: Sequence[bytes] = ()) -> bytes:
    """Return the ClientHello that pyOpenSSL, and so Twisted, sends."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if protocols:
        context.set_alpn_protos(list(protocols))
    client = SSL.Connection(context, None)
    if name is not None:
        client.set_tlsext_host_name(name.encode())
    client.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        client.do_handshake()
    return client.bio_read(1 << 16)


# -- What strangers send

host_names = st.from_regex(
    r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z][a-z0-9]{0,8}){1,3}", fullmatch=True
)
record_sizes = st.lists(st.integers(1, 200), max_size=12)


@st.composite
def hellos(draw: st.DrawFn) -> tuple[bytes, str | None, tuple[bytes, ...]]:
    """Return the bytes of a ClientHello in records, its server name and its ALPN list."""
    name = draw(st.none() | host_names)
    protocols = draw(st.lists(st.binary(min_size=1, max_size=8), max_size=3))
    parts = [extension(0x3374, draw(st.binary(max_size=40)))]
    if name is not None:
        parts.append(server_names(name.encode()))
    if protocols:
        parts.append(alpn(*protocols))
    whole = message(*draw(st.permutations(parts)), session=draw(st.binary(max_size=32)))
    return records(whole, draw(record_sizes)), name, tuple(protocols)


@st.composite
def _whatsapp(draw: st.DrawFn) -> bytes:
    version = bytes(draw(st.lists(st.integers(0, 0x1F), min_size=2, max_size=2)))
    intro = draw(st.sampled_from(INTROS) | st.just(b"WA" + version))
    header = st.binary(max_size=64).map(lambda blob: b"ED\x00\x01" + vector(3, blob))
    return draw(st.just(b"") | header) + intro


_SPACE = st.text(" \t\r\n", max_size=20).map(str.encode)
_XMPP = st.tuples(
    st.sampled_from([b"", BOM]), _SPACE, st.sampled_from([b"<?xml", b"<stream:stream", b"<stream"])
).map(b"".join)
_METHOD = st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}", fullmatch=True)
_URL = st.from_regex(rb"[a-z][a-z0-9+.-]{0,10}://", fullmatch=True)
_AUTHORITY = st.from_regex(rb"CONNECT [a-z0-9\[][a-z0-9.:]*:443 ", fullmatch=True)
_HTTP = st.tuples(
    _METHOD | st.sampled_from([b"GET", b"WATCH", b"PROPFIND", b"EDIT", b"WA", b"ED"]),
    st.just(b" "),
    st.just(b"/") | st.just(b"* ") | _URL,
).map(b"".join)
#: For each kind that is known by its bytes, openings of it with nothing behind them.
OPENINGS: dict[Kind, st.SearchStrategy[bytes]] = {
    Kind.WHATSAPP: _whatsapp(),
    Kind.XMPP: _XMPP,
    Kind.TLS: hellos().map(lambda hello: hello[0]),
    Kind.HTTP: _HTTP.filter(lambda data: not data.startswith(b"CONNECT ") or data[8:9] in b"/*"),
    Kind.CONNECT: _AUTHORITY,
}
any_opening = st.one_of(*OPENINGS.values())


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """Return an opening with a few bytes changed, taken out or put in, and others behind it."""
    data = bytearray(draw(any_opening))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data) + draw(st.binary(max_size=40))


def check_prefix_law(
    case: TestCase,
    parse: Callable[[bytes], Any],
    data: bytes,
    sizes: Iterable[int] | None = None,
) -> Any:
    """Insist on the two laws of whatsproxy.incremental; return the answer to all of the data.

    Every prefix is looked at, or, of much data, those of the given sizes.
    """
    decision: Any = None
    promised = 0
    start = data[:60]
    for size in sizes or range(len(data) + 1):
        answer = parse(data[:size])
        if isinstance(answer, NeedMore):
            case.assertIsNone(decision, f"taken back at {size} of {start!r}: {answer}")
            case.assertGreater(answer.at_least, size, f"of {start!r}")
            promised = max(promised, answer.at_least)
        elif decision is None:
            case.assertGreaterEqual(size, promised, f"{answer} earlier than promised of {start!r}")
            decision = answer
        else:
            case.assertEqual(answer, decision, f"changed at {size} of {start!r}")
    return parse(data) if decision is None else decision


def decided_at(parse: Callable[[bytes], Any], data: bytes) -> int | None:
    """Return how many bytes are needed for a decision; None where all of them are too few."""
    for size in range(len(data) + 1):
        if not isinstance(parse(data[:size]), NeedMore):
            return size
    return None


# -- The account


class Time:
    """A ledger's clock, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def ledger_and_time() -> tuple[Ledger, Time]:
    time = Time()
    return Ledger(time), time
