"""What a client orders from an origin: so many bytes each way, and what is to go wrong with them.

A client sends its order in a line of its own, or in the path of a URL. Every byte of every transfer
follows from the order's number, so each side knows what the other one has to send.
"""

import hashlib
import json
import random
from dataclasses import asdict, dataclass

from tests.builders import INTROS
from tests.integration.traffic import client_noise_hello

#: All payload is a stretch of this; its length is prime to every buffer size.
_NOISE = random.Random(1928).randbytes(1_000_003)
_TWICE = _NOISE + _NOISE[: 1 << 18]
#: Bytes that are written, and compared, at a time.
PIECE = 1 << 16
#: How the line of an order ends.
END = b"}\n"
#: First bytes that make a connection one of each kind; none of them holds END.
OPENINGS = {
    "whatsapp": INTROS[2] + client_noise_hello(b"\x7f" * 32),
    "xmpp": b"<?xml version='1.0'?><stream:stream to='jabber.test' version='1.0'>",
    "raw": b"\x00\x01raw",
    # A tunnel that HTTP or TLS has made has no opening of its own.
    "none": b"",
}

#: What goes wrong after ``after`` bytes of the answer:
#: the origin breaks off (RST); ends its direction, and goes on reading; says nothing any more;
#: goes on a byte at a time; sends something else; does not even begin to read.
FAULTS = ("reset", "end", "hang", "trickle", "garbage", "unread")


@dataclass(frozen=True)
class Order:
    """One transfer: ``up`` bytes from the client, ``down`` from the origin, at the same time."""

    number: int
    up: int = 0
    down: int = 0
    fault: str = ""
    after: int = 0
    #: In HTTP: whether the bodies are in chunks.
    chunked: bool = False

    def line(self) -> bytes:
        """Return it in a line, its end included."""
        return json.dumps(asdict(self)).encode() + END[1:]

    @classmethod
    def of(cls, line: bytes) -> "Order":
        """Read one from a line, or behind whatever stands before it in the line."""
        return cls(**json.loads(line[line.index(b'{"number"') :]))

    def path(self) -> str:
        """Return it as the path of a URL."""
        chunked = int(self.chunked)
        return f"/{self.number}/{self.up}/{self.down}/{self.fault or '-'}/{self.after}/{chunked}"

    @classmethod
    def at(cls, path: str) -> "Order":
        """Read one from the path of a URL."""
        number, up, down, fault, after, chunked = path.split("/")[1:]
        fault = "" if fault == "-" else fault
        return cls(int(number), int(up), int(down), fault, int(after), chunked == "1")

    def sent_up(self, start: int, size: int) -> bytes:
        """Return a stretch, of at most PIECE bytes, of what the client sends."""
        return _noise(2 * self.number, start, min(size, PIECE, self.up - start))

    def sent_down(self, start: int, size: int) -> bytes:
        """Return a stretch, of at most PIECE bytes, of what the origin sends."""
        return _noise(2 * self.number + 1, start, min(size, PIECE, self.down - start))

    def receipt(self) -> bytes:
        """Return what the origin says when all of ``up`` has come: 32 bytes."""
        return hashlib.sha256(b"received %d %d" % (self.number, self.up)).digest()


def _noise(stream: int, start: int, size: int) -> bytes:
    # An odd stride, far longer than any run of equal bytes: nobody's bytes are another's.
    offset = (stream * 16_411 + start) % len(_NOISE)
    return _TWICE[offset : offset + size]
