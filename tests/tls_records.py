"""TLS 1.3 whose records a test makes by hand once the handshake is done (RFC 8446 5, 7).

So it can send what no library lets it: a thousand KeyUpdates, half a record, garbage in good order.
"""

import contextlib
import socket
from collections.abc import Iterator

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL

from tests.peers import turn
from tests.tls_peers import OURS, client_context, client_side

ALERT, HANDSHAKE, DATA = 21, 22, 23
CLOSE_NOTIFY = b"\x01\x00"
#: The sender has new keys; and: the other side is to have new ones, too (RFC 8446 4.6.3).
KEY_UPDATE, KEY_UPDATE_REQUESTED = b"\x18\x00\x00\x01\x00", b"\x18\x00\x00\x01\x01"
_KEY_UPDATE = 24


class Direction:
    """The keys of one direction, and how many records they have protected."""

    def __init__(self, secret: bytes) -> None:
        self._use(secret)

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._aead = AESGCM(_expand(secret, b"key", 16))
        self._iv = int.from_bytes(_expand(secret, b"iv", 12), "big")
        self._sequence = 0

    def renew(self) -> None:
        """Go over to the next keys."""
        self._use(_expand(self._secret, b"traffic upd", 32))

    def _nonce(self) -> bytes:
        nonce = (self._iv ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        return nonce

    def seal(self, kind: int, content: bytes) -> bytes:
        """Return a record."""
        header = b"\x17\x03\x03" + (len(content) + 17).to_bytes(2, "big")
        return header + self._aead.encrypt(self._nonce(), content + bytes([kind]), header)

    def open(self, record: bytes) -> tuple[int, bytes]:
        """Return what is in a record: its kind, and its content."""
        inner = self._aead.decrypt(self._nonce(), record[5:], record[:5]).rstrip(b"\0")
        return inner[-1], inner[:-1]


def _expand(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label with no context (RFC 8446 7.1)."""
    label = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
    return HKDFExpand(SHA256(), size, info).derive(secret)


class ByHand:
    """A client on a bare socket that does not block."""

    def __init__(self, bare: socket.socket) -> None:
        self.bare = bare
        self.ours: Direction
        self.theirs: Direction
        self._secrets: dict[bytes, bytes] = {}
        context = client_context(oldest=SSL.TLS1_3_VERSION)
        context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256")
        context.set_keylog_callback(self._keep)
        self._tls = client_side(OURS, context=context)
        self._raw = b""
        #: How often the other side has renewed its keys.
        self.renewed = 0

    def _keep(self, _: object, line: bytes) -> None:
        name, _, secret = line.split()
        self._secrets[name] = bytes.fromhex(secret.decode())

    def go(self) -> bytes:
        """Go on with the handshake; return what is to be sent."""
        with contextlib.suppress(SSL.WantReadError):
            self._tls.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            return self._tls.bio_read(1 << 16)
        return b""

    def take(self) -> bool:
        """Read what there is of the other side's handshake; False: nothing yet."""
        try:
            data = self.bare.recv(1 << 16)
        except BlockingIOError:
            return False
        if not data:
            raise AssertionError("an end in the handshake")
        self._tls.bio_write(data)
        return True

    def is_done(self) -> bool:
        """Tell whether the handshake is; from then on it is all by hand."""
        if b"SERVER_TRAFFIC_SECRET_0" not in self._secrets:
            return False
        self.ours = Direction(self._secrets[b"CLIENT_TRAFFIC_SECRET_0"])
        self.theirs = Direction(self._secrets[b"SERVER_TRAFFIC_SECRET_0"])
        return True

    async def handshake(self) -> None:
        """Do all of it."""
        while True:
            data = self.go()
            self.bare.sendall(data)
            if self.is_done():
                return
            while not self.take():
                await turn()

    def send(self, kind: int, content: bytes) -> None:
        """Send a record."""
        self.bare.sendall(self.ours.seal(kind, content))

    def renew(self, message: bytes = KEY_UPDATE_REQUESTED) -> None:
        """Send a KeyUpdate, and use the next keys."""
        self.send(HANDSHAKE, message)
        self.ours.renew()

    def read(self) -> Iterator[tuple[int, bytes]]:
        """Yield the records that have arrived; tickets are left out. An end yields nothing."""
        with contextlib.suppress(BlockingIOError):
            while data := self.bare.recv(1 << 16):
                self._raw += data
        while len(self._raw) >= 5:
            size = 5 + int.from_bytes(self._raw[3:5], "big")
            if len(self._raw) < size:
                return
            record, self._raw = self._raw[:size], self._raw[size:]
            kind, content = self.theirs.open(record)
            if kind == HANDSHAKE and content[0] == _KEY_UPDATE:
                self.theirs.renew()
                self.renewed += 1
            elif kind != HANDSHAKE:
                yield kind, content
