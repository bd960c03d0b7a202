"""What the clients of the benchmarks say: first bytes of every kind, and random payload."""

import contextlib
import random
import ssl
from collections.abc import Iterator

#: The kinds, and whether their connections exchange messages (chats) or bulk.
CHATS = ("whatsapp", "xmpp")
BULKY = ("tls", "raw")
#: A name that the default policy allows and tests/sandbox resolves to this machine.
ALLOWED_NAME = "media.whatsapp.net"
#: Bytes that one exchange of bulk may take from PATTERN.
BULK_LIMIT = 4 << 20
#: Bytes between the places at which two connections begin to read PATTERN. It is odd and far longer
#: than a run of equal random bytes, so a byte of another connection is never taken for one's own.
STRIDE = 163
_PLACES = 20_000
_SEED = 20_240

_noise = random.Random(_SEED)
#: All payload is a slice of this: random, so that no equal stretches hide a mistake, and shared, so
#: that it costs the load generator neither memory nor time.
PATTERN = _noise.randbytes(BULK_LIMIT + _PLACES * STRIDE)


def place(number: int) -> int:
    """Return where in PATTERN the connection of this number begins to read."""
    return number % _PLACES * STRIDE


def openings(kinds: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield kind and first bytes of one connection after the other, without end."""
    hello = _client_hello()
    while True:
        for kind in kinds:
            yield kind, _opening(kind, hello)


def _opening(kind: str, hello: bytes) -> bytes:
    if kind == "whatsapp":
        # The intro and the first Noise frame, as seen on the wire; half of the clients have an
        # edge-routing header before them.
        intro = b"WA\x06\x03\x00\x00\x24\x12\x22\x0a\x20" + _noise.randbytes(32)
        routing = b"ED\x00\x01\x00\x00\x0c" + _noise.randbytes(12)
        return intro if _noise.getrandbits(1) else routing + intro
    if kind == "xmpp":
        return b"<?xml version='1.0'?><stream:stream to='jabber.test' id='%s'>" % (
            _noise.randbytes(8).hex().encode()
        )
    if kind == "tls":
        # Its own 32 random bytes behind the record header (5), handshake header (4), version (2).
        return hello[:11] + _noise.randbytes(32) + hello[43:]
    return b"\x00\x01raw" + _noise.randbytes(40)


def _client_hello() -> bytes:
    """Return a ClientHello as OpenSSL writes it."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=ALLOWED_NAME)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()
