"""The other end of a conformance script's connection, and what the kernel says of both ends."""

import contextlib
import fcntl
import random
import socket
import struct
import sys
import termios
from typing import Any, NamedTuple

#: What each side sends, from its beginning.
OURS, THEIRS = (random.Random(seed).randbytes(5_000_000) for seed in (1, 2))
#: Segments fit into the smallest of windows: for a larger window the kernel would wait by timers.
SEGMENT = 1000

_STATES = (
    *("", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT"),
    *("CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING"),
)
_HAS_HEARD_FIN = ("CLOSE_WAIT", "LAST_ACK", "CLOSING", "TIME_WAIT", "CLOSE")
_HAS_SAID_FIN = ("FIN_WAIT1", "LAST_ACK", "CLOSING")


class Flow(NamedTuple):
    """A socket's account in the kernel (Linux): its state, and bytes."""

    state: str
    #: Taken from the program, not sent yet.
    unsent: int
    sent: int
    received: int
    #: Received, not read yet.
    waiting: int


def flow_of(bare: Any) -> Flow:
    """Ask the kernel about a socket."""
    info = bare.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 240)
    received, unsent = struct.unpack_from("Q8xI", info, 128)
    sent, again = struct.unpack_from("QQ", info, 200)
    queued = fcntl.ioctl(bare.fileno(), termios.FIONREAD, bytes(4))
    waiting = int.from_bytes(queued, sys.byteorder)
    return Flow(_STATES[info[0]], unsent, sent - again, received, waiting)


class Peer:
    """A bare socket that does what it is told, and sees what becomes of it."""

    def __init__(self) -> None:
        #: Bytes: what the kernel has taken (and may still send), and what was read.
        self.sent = self.received = 0
        #: What ended its reading: "", "end" (FIN) or "reset".
        self.saw = ""
        self.draining = False
        #: What its leaving tells our side: "reset" (unread data makes one too), "end", or "" where
        #: that comes behind data that waits.
        self.left_by = ""
        self.broken: list[str] = []
        self._bare: socket.socket | None = None
        self._wants = 0
        self._was_reset = False

    def take(self, bare: socket.socket) -> None:
        """Be this socket."""
        bare.setblocking(False)
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._bare = bare

    def pump(self) -> None:
        """Send what waits; read, while draining."""
        try:
            while self._bare is not None and self._wants > self.sent:
                self.sent += self._bare.send(
                    THEIRS[self.sent : min(self._wants, self.sent + 65536)]
                )
        except BlockingIOError:
            pass
        except OSError as error:
            self._wants = self.sent
            # Who has been told of a reset by a failing write reads an end.
            self._was_reset |= isinstance(error, ConnectionResetError)
        while self.draining and self.read(1 << 16):
            pass

    def read(self, size: int) -> int:
        """Read, and compare with what our side has written."""
        if self._bare is None:
            return 0
        try:
            data = self._bare.recv(size)
        except BlockingIOError:
            return 0
        except OSError:
            self.saw = self.saw or "reset"
            return 0
        if data != OURS[self.received : self.received + len(data)]:
            self.broken.append("the peer got other bytes than our side's")
        self.received += len(data)
        self.saw = self.saw or ("" if data else "reset" if self._was_reset else "end")
        return len(data)

    def send(self, size: int) -> None:
        """Send so many more bytes, as soon as the kernel takes them."""
        self._wants = min(max(self._wants, self.sent) + size, len(THEIRS))
        self.pump()

    def shut(self) -> None:
        """End this direction (FIN); what waits is not sent."""
        self._wants = self.sent
        if self._bare is not None:
            with contextlib.suppress(OSError):
                self._bare.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        """Leave."""
        bare, self._bare = self._bare, None
        if bare is None:
            return
        flow = flow_of(bare)
        if reset:
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if flow.state != "CLOSE":
            self.left_by = "reset" if reset or flow.waiting else "" if flow.unsent else "end"
            if self.left_by == "reset":
                self.sent -= flow.unsent
        bare.close()

    @property
    def flow(self) -> Flow | None:
        """The kernel's account of it; None, when it has left."""
        return None if self._bare is None else flow_of(self._bare)

    def has_arrived(self, ours: Flow | None, ours_since: int) -> bool:
        """Tell whether nothing is on its way: neither bytes, nor a FIN, nor a reset.

        ``ours`` is our side's account, None where that is closed; ``ours_since`` what our side had
        sent when the peer left.
        """
        theirs = self.flow
        if ours is None:
            return theirs is None or (
                bool(self.saw)
                if self.draining
                else theirs.state in _HAS_HEARD_FIN
                or theirs.waiting > 0  # a FIN may be behind more than the window takes
            )
        if theirs is None:
            if self.left_by == "reset" or (self.left_by == "end" and ours.sent > ours_since):
                return ours.state == "CLOSE"
            return self.left_by != "end" or ours.state in _HAS_HEARD_FIN
        if "CLOSE" in (ours.state, theirs.state):
            return True
        if self.draining and ours.unsent:
            return False
        if not ours.waiting and (theirs.unsent or self._wants > self.sent):
            return False
        return _arrived(ours, theirs) and _arrived(theirs, ours)


def _arrived(sender: Flow, receiver: Flow) -> bool:
    if sender.sent > receiver.received:
        return False
    fin_sent = sender.state in _HAS_SAID_FIN and not sender.unsent
    return not fin_sent or receiver.state in _HAS_HEARD_FIN
