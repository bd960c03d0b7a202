"""What a SOCKS server sends: one outcome in any split, and the stream begins right behind it."""

from collections.abc import Iterator
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from tests.fuzz.laws import check_parser, choices, insist, insist_equal, pieces
from tests.fuzz.target import Plant, Target
from tests.socks5_attempt import ANONYMOUS, BOTH, GRANTED, LOGIN, Attempt
from whatsproxy import socks5
from whatsproxy.socks5_handshake import frame_reply

_METHODS = (ANONYMOUS, LOGIN, BOTH)
_CODES = (
    *(socks5.ServerFailure, socks5.ConnectionNotAllowed, socks5.NetworkUnreachable),
    *(socks5.HostUnreachable, socks5.ConnectionRefused, socks5.TTLExpired),
    *(socks5.CommandNotSupported, socks5.AddressNotSupported),
)
_UNFINISHED = None


def check(data: bytes) -> None:
    """The first byte says which methods are offered; the rest is what the server sends."""
    methods, data = _METHODS[data[0] % 3] if data else ANONYMOUS, data[1:]
    chosen = choices(data)
    check_parser(_frame, data, chosen)
    expected = _read(data, methods)
    insist_equal(_outcome(methods, [data]), expected, "in one piece")
    insist_equal(_outcome(methods, pieces(data, chosen)), expected, "in pieces")
    insist_equal(_outcome(methods, [data[i : i + 1] for i in range(len(data[:600]))]),
                 _read(data[:600], methods), "byte by byte")  # fmt: skip


def _frame(data: bytes) -> Any:
    try:
        return frame_reply(data)
    except socks5.SOCKSError as e:
        insist(str(e), "an error without a text")
        return type(e)


def _outcome(methods: Any, parts: list[bytes]) -> Any:
    """Return what comes of an attempt: the stream's bytes, or an error's type, or nothing yet."""
    attempt = Attempt(methods)
    said = attempt.server.sent()
    for part in parts:
        if attempt.results and isinstance(attempt.results[0], Exception):
            break  # the connection is closed
        if part:
            attempt.server.feed(part)
        said += attempt.server.sent()
    insist(len(attempt.results) <= 1, "more than one result")
    if not attempt.results:
        insist_equal(len(attempt.clock.getDelayedCalls()), 1, "the time limit")
        attempt.server.transport.protocol.connectionLost(Failure(ConnectionDone()))
        insist(attempt.failed() is socks5.ConnectionLostEarly, attempt.results)
        return _UNFINISHED
    if isinstance(attempt.results[0], Exception):
        return attempt.failed()
    insist_equal(attempt.results, [b""], "bytes came before the Deferred fired")
    insist_equal(attempt.clock.getDelayedCalls(), [], "a timer is left")
    insist(not attempt.server.transport.disconnecting, "closed")
    insist(said.startswith(b"\x05") and said.endswith(b"\x0eg.whatsapp.net\x14\x66"), said)
    return attempt.application.received


def _read(data: bytes, methods: Any) -> Any:
    """Read the same by RFC 1928 and 1929, from the beginning to the end."""
    offered = {{"anonymous": 0, "login": 2}[method] for method in methods}
    if data[:1] not in (b"", b"\x05"):
        return socks5.NotSOCKS5
    if len(data) < 2:
        return _UNFINISHED
    if data[1] == 0xFF:
        return socks5.NoAcceptableMethods
    if data[1] not in offered:
        return socks5.NotSOCKS5
    rest = data[2:]
    if data[1] == 2:
        if rest[:1] not in (b"", b"\x01"):
            return socks5.NotSOCKS5
        if len(rest) < 2:
            return _UNFINISHED
        if rest[1] != 0:
            return socks5.LoginAuthenticationFailed
        rest = rest[2:]
    return _read_reply(rest)


def _read_reply(data: bytes) -> Any:
    if data[:1] not in (b"", b"\x05"):
        return socks5.NotSOCKS5
    if len(data) >= 2 and data[1]:
        return _CODES[data[1] - 1] if data[1] <= len(_CODES) else socks5.ConnectionError
    if len(data) < 5:
        return _UNFINISHED
    if data[2] or data[3] not in (1, 3, 4):
        return socks5.NotSOCKS5
    size = 6 + {1: 4, 3: 1 + data[4], 4: 16}[data[3]]
    return data[size:] if len(data) >= size else _UNFINISHED


def seeds() -> Iterator[bytes]:
    name = b"\x05\x00\x00\x03\x09localhost\x04\xd2"
    six = b"\x05\x00\x00\x04" + bytes(15) + b"\x01\x04\xd2"
    for reply in (
        GRANTED,
        name,
        six,
        b"\x05\x05",
        b"\x05\x09\x00",
        b"\x05\x00\x00\x03\x00\x04\xd2",
    ):
        yield b"\x00\x05\x00" + reply + b"stream"
        yield b"\x01\x05\x02\x01\x00" + reply
        yield b"\x02\x05\x02\x01\x01" + reply
    yield from (
        b"\x00HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x05\xff",
        b"\x00\x05\x02",
        b"\x02\x04",
    )


TARGET = Target(
    "socks5",
    check,
    seeds,
    plants=(
        Plant("socks5_handshake.py", "3: 4 + 1 + 2,", "3: 4 + 2,"),
        Plant("socks5_handshake.py", "if method not in self._words.methods:", "if False:"),
        Plant("socks5_handshake.py", "if data[2] != 0 or size is None:", "if size is None:"),
    ),
    words=(b"\x05\x00", b"\x05\x02\x01\x00", GRANTED, b"\x05\x00\x00\x03", b"\x05\x00\x00\x04"),
    longest=600,
)
