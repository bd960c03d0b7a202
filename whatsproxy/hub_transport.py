"""A connected TCP socket on the hub: Twisted's transport, as far as this program needs one.

What a protocol sees is what Twisted's own transport shows it (tests/test_conformance.py compares
them), but that data is sent at once, not in the reactor's next turn.
"""

import socket
from _socket import socket as Socket  # noqa: N812  # see hub_socket
from typing import Any

from twisted.python.failure import Failure

from whatsproxy.hub import Hub, Hubbed
from whatsproxy.hub_socket import HubSocket
from whatsproxy.hub_state import (
    BROKEN,
    BULK,
    DEAF,
    ERR,
    GONE,
    LOOKING,
    MORE_BEHIND,
    MUTE,
    NO_MORE_TO_COME,
    NOT_BULK,
    OVER,
    PAUSED,
    PRI,
    READY,
    RESET,
    TO_BE_READ,
    TO_BE_WRITTEN,
    UNREAD,
)
from whatsproxy.transport import AMPLE, StreamProtocol

#: Bytes read at first: a message. Whoever fills that gets the larger amounts.
SMALL = 4096
#: Bytes that one socket may move in a turn before the others have theirs.
BUDGET = 256 * 1024
#: Bytes that may be looked at before they are read.
LOOK = 17 * 1024  # a PROXY header, and as much as is ever sniffed


class HubTransport(HubSocket):
    """Reads its socket, shows what is in it, or lets it pass to another one in the kernel."""

    __slots__ = ()

    # -- what happens

    def happened(self, events: int) -> None:
        """Look at the socket (called by the hub)."""
        # First what has come: a peer that breaks off an upload may have said why.
        if events & TO_BE_READ:
            state = self._state
            if not state & UNREAD:
                self._read(events)
            elif state & PAUSED:
                self._state = state | READY
            elif not state & DEAF:
                self._look(events)
            if events & ERR and not self._state & OVER and self._is_broken():
                self._broken()
        if events & TO_BE_WRITTEN and (self._out is not None or self._pipe is not None):
            self._flush()

    def _read(self, events: int) -> None:
        budget = BUDGET
        limit = self._limit
        size = limit if self._state & BULK or limit < SMALL else SMALL
        while True:
            if size > SMALL:
                # More than a message: perhaps it need not come up here at all.
                sink = self.protocol.sink() if isinstance(self.protocol, StreamProtocol) else None
                if sink is not None and self._splice(*sink, events):
                    return
            try:
                data = self._socket.recv(size)
            except BlockingIOError:
                if self._state & BROKEN:  # and there is no end to be read that would tell
                    self._die(RESET)
                return
            except OSError:
                self._die(RESET)
                return
            if not data:
                self._peer_ended(events)
                return
            self.protocol.dataReceived(data)
            got = len(data)
            if got < size:
                # The queue is empty, then; unless there is an end to be found behind it.
                if not events & MORE_BEHIND:
                    self._state &= NOT_BULK
                    return
            else:
                self._state |= BULK
            if not self._may_read_on():
                return
            budget -= got
            if budget <= 0:
                self._rearm()
                return
            limit = self._limit
            size = limit

    def _look(self, events: int) -> None:
        try:
            data = self._socket.recv(LOOK, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            self._die(RESET)
            return
        ending = events & NO_MORE_TO_COME
        if data:
            self.protocol.seen(data)
            state = self._state
            if not state & LOOKING and (ending or events & PRI or len(data) == LOOK):
                self._find_rest()  # which may have gone unseen
            if not ending or state & (LOOKING | DEAF) != LOOKING:
                return
        self._peer_ended(events)

    def _find_rest(self) -> None:
        self._state |= READY
        if not self._state & DEAF:
            self._rearm()

    def _splice(self, sink: Any, most: int, events: int) -> bool:
        """Move what there is by way of a pipe, if there is one and nothing else is in its way.

        Not a byte beyond ``most`` is touched. The answer is whether nothing is to be read for now.
        """
        if (
            type(sink) is not HubTransport
            or events & PRI  # splice(2) does not get past urgent data
            or sink._state & MUTE
            or sink._producer is None  # who would be told to go on?
            or sink._out is not None
            or sink._pipe is not None
            or sink._limit < AMPLE
        ):
            return False
        pools = self._hub.pipes
        pipe = pools.borrow()
        if pipe is None:
            return False
        number, sink_number = self._socket.fileno(), sink._socket.fileno()
        moved = 0
        broken = False
        unsure = False  # whether it is the end, which only a read can tell
        try:
            while moved < BUDGET:
                try:
                    got = pipe.fill(number, most - moved)
                except BlockingIOError:
                    break
                except OSError as e:
                    if moved or not pools.is_refusal(e):
                        self._die(RESET)
                    else:
                        unsure = True
                    break
                if not got:
                    unsure = True
                    break
                moved += got
                if not pipe.empty(sink_number):
                    if pools.scarce:
                        sink._out = pipe.rest()
                    else:
                        sink._pipe, pipe = pipe, None
                    break
                if moved == most:
                    break
        except OSError:
            broken = True
            sink._unsendable()
        if pipe is not None:
            pools.give_back(pipe)
        # Behind all that may pass there is something to be read, a message.
        bulk = SMALL < moved < most
        self._state = self._state | BULK if bulk else self._state & NOT_BULK
        full = sink._pipe is not None or sink._out is not None
        if full:
            self._state |= READY
            sink._stop_producer()
        self.protocol.moved(moved)
        if full:
            pass  # who is paused now is resumed
        elif broken or moved >= BUDGET:
            self._rearm()
        elif unsure or moved == most:
            return not self._may_read_on()
        return True

    def _may_read_on(self) -> bool:
        """Tell whether what may be there is wanted; note it where it is not."""
        state = self._state
        if not state & UNREAD:
            return True
        self._state = state | READY
        if state & LOOKING:
            self._rearm()
        return False

    # -- what this program asks for besides

    def look(self) -> None:
        """Show the protocol what arrives (``seen``), all of it each time, and leave it unread."""
        self._state |= LOOKING

    @property
    def showing(self) -> bool:
        """Whether what arrives is left unread."""
        return bool(self._state & LOOKING)

    def take(self, size: int, *, rest: bool = True) -> None:
        """Read what was shown, so many bytes of it, and look no more.

        ``rest`` says that there is more of it, which is to come as data.
        """
        self._state &= ~LOOKING
        try:
            while size > 0:
                got = len(self._socket.recv(size))
                size -= got or size
        except OSError:
            self._die(RESET)
        if rest:
            self._find_rest()

    def surrender(self, heir: Hubbed) -> tuple[Hub, Socket, int]:
        """Leave the socket, and all that is unread in it, to another owner.

        The answer is what that needs: the hub, the socket, and the size of buffers. Nothing may be
        unsent. This transport is no more; what still comes by it is the heir's.
        """
        self._state |= GONE
        self.protocol = heir
        self._hub.replace(self._socket.fileno(), heir)
        return self._hub, self._socket, self._limit

    def is_silent(self) -> bool:
        """Tell whether nothing has arrived that was not read, not even an end."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:  # of which an event will tell
            self._state |= BROKEN
        return False

    def fail(self, failure: Failure) -> None:
        """End for an error of ours (called by the hub)."""
        if self._state & GONE and self.protocol is not None:
            self.protocol.fail(failure)  # see surrender
        else:
            self._close(failure)
