"""TLS on the hub: OpenSSL reads and writes the socket itself, with no buffers in between.

What a protocol sees is what TlsTransport shows it, which is TLS on all other transports.
"""

import socket
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure

from whatsproxy.hub_socket import HubSocket
from whatsproxy.hub_state import (
    ABORTED,
    BROKEN,
    CLOSING,
    CONNECTION_DONE,
    CONNECTION_LOST,
    DEAD,
    ENDED,
    ENDING,
    EOF,
    ERR,
    FOLLOWED,
    GONE,
    LOSING,
    MUTE,
    OVER,
    PAUSED,
    READY,
    RESET,
    STOPPED,
    TO_BE_READ,
    TO_BE_WRITTEN,
)
from whatsproxy.hub_transport import BUDGET, HubTransport
from whatsproxy.openssl import count_steps, forget_errors, read, shake_hands, write
from whatsproxy.tls_transport import STEPS, Encrypted

#: Of a KeyUpdate in TLS 1.3: what its record's header says, without the version. So does that of
#: five bytes of data.
_LIKE_KEYS = (b"\x17", b"\x00\x16")

# More that a state is made of (see hub_transport).
_SHAKING = 1 << 16  # there is no TLS yet
_GOODBYE = 1 << 17  # the peer's close_notify has come
_NOTIFIED = 1 << 18  # ours is out
_ANSWERED = 1 << 21  # of the handshake our first part is out
_SHAKEN = 1 << 22  # there is TLS, and nobody knows it yet
# OpenSSL has messages of its own (to renew keys, say): so it may have to write first in order to
# read, and to read in order to write.
_READ_WAITS = 1 << 19  # to go on reading the socket has to take something
_WRITE_WAITS = 1 << 20  # to go on writing something has to come

# Several at once, put together here and not each time.
_BEGINS = _SHAKING | _SHAKEN
_ENDS = FOLLOWED | OVER
_NOT_READ = PAUSED | EOF | CLOSING
_READ_STUCK = _READ_WAITS | _NOT_READ
_NOT_SENT = MUTE | BROKEN

#: What the peer sent was no TLS, or an alert. (Not the hub's own reason, which closes by a reset:
#: our alert is to be read.)
_BROKEN_OFF = Failure(ConnectionAborted())


class HubTls(HubSocket, Encrypted):
    """Owns a socket in the place of another transport, and ends as TlsTransport does."""

    __slots__ = ("_tls", "_why", "finding", "owes_goodbye", "steps")

    def __init__(self, below: HubTransport, protocol: Any) -> None:
        """Take the socket away from a transport that has nothing unsent."""
        hub, connected, limit = below.surrender(self)
        super().__init__(hub, connected, protocol)
        self._limit = limit
        self._state = _SHAKING
        self._tls: Any = None
        self._why: Failure | None = None
        #: As in TlsTransport.
        self.steps = 0
        self.owes_goodbye = False
        #: As in TlsClient's.
        self.finding = 0

    def start(self, connection: SSL.Connection, *, accept: bool) -> None:
        """Begin the handshake, with what may have come of it."""
        self._tls = connection
        connection.set_app_data(self)
        (connection.set_accept_state if accept else connection.set_connect_state)()
        self.protocol.makeConnection(self)
        self._hub.settle_last(self)

    # -- what happens

    def happened(self, events: int) -> None:
        """Look at the socket (called by the hub)."""
        state = self._state
        if state & _SHAKING:
            self._hub.settle_last(self)
            return
        if events & TO_BE_READ:
            if state & _WRITE_WAITS:
                self._flush()
                state = self._state
            if state & PAUSED:
                self._state |= READY
            elif not state & _NOT_READ:
                self._read(events)
            if events & ERR and not self._state & OVER and self._is_broken():
                self._broken()
                if not self._state & _NOT_READ:
                    self._read(events)  # what a stalled record of ours has kept from being read
        elif state & _READ_STUCK == _READ_WAITS:
            self._read(events)
        if events & TO_BE_WRITTEN:
            if self._out is not None:
                self._flush()
                state = self._state
                if not self.unsent and state & _READ_STUCK == _READ_WAITS:
                    self._read(events)
            elif self._state & FOLLOWED:
                self.settle()  # close_notify had to wait

    def dataReceived(self, data: bytes) -> None:
        """There was something before TLS, and nobody to make sense of it."""
        self.abortConnection()

    def _shake(self) -> None:
        try:
            done = self._go_on()
        except SSL.Error as e:
            self._failed(e)
            return
        if not done:
            self._state |= _ANSWERED
            return
        self._state = self._state & ~_SHAKING | _SHAKEN
        count_steps(self._tls)
        # When the others' handshakes have got so far, too (see settle_last).
        self._hub.settle_later(self)

    def _begin(self) -> None:
        """There is TLS: tell the protocol, and look for data."""
        self._state &= ~_SHAKEN
        completed = getattr(self.protocol, "handshakeCompleted", None)  # IHandshakeListener's
        if completed is not None:
            completed()
        if self._out is not None:
            self._flush()
        state = self._state
        if state & PAUSED:
            self._state |= READY
        elif not state & _NOT_READ:
            self._read(0)  # it may have come together with the last of the handshake

    def _go_on(self) -> bool:
        """Go on with the handshake; the answer is whether it is done."""
        if not self._state & _ANSWERED:
            return shake_hands(self._tls)
        # OpenSSL writes tickets one by one: they are to be one packet. That goes at once, because
        # a client may hold back its first data until its handshake is acknowledged (Nagle).
        set_option = self._socket.setsockopt
        set_option(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        try:
            return shake_hands(self._tls)
        finally:
            set_option(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    def _read(self, events: int) -> None:
        tls = self._tls
        budget = BUDGET
        while True:
            if self._out is not None and self._may_be_keys():
                self._state |= _READ_WAITS | READY
                return
            try:
                data = read(tls)
            except SSL.WantWriteError:
                self._state |= _READ_WAITS | READY
                return
            except SSL.Error as e:
                self._failed(e)
                return
            if data is None:
                self._state &= ~_READ_WAITS
                return
            if not data:
                self._told_goodbye()
                return
            self.protocol.dataReceived(data)
            if self.steps > STEPS:
                self.abortConnection()
                return
            if self._state & _NOT_READ:
                self._state |= READY
                return
            budget -= len(data)
            if budget <= 0:
                self._rearm()
                return

    def _may_be_keys(self) -> bool:
        """Tell whether the next record is as long as a KeyUpdate, or too little of it is there.

        OpenSSL would answer at once, in the middle of the record of ours that the socket has not
        taken yet, and fail with "bad length". All other records are read meanwhile: the peer may
        have to send them before it can read.
        """
        try:
            header = self._socket.recv(5, socket.MSG_PEEK)
        except OSError:
            return False
        return 0 < len(header) < 5 or (header[:1], header[3:]) == _LIKE_KEYS

    def _told_goodbye(self) -> None:
        if self.steps > STEPS:  # see stepped
            self.abortConnection()
            return
        # It is answered behind what is still to be sent; nothing can be left unread behind it.
        self._state |= _GOODBYE | EOF | LOSING
        if not self.unsent:
            self._hub.settle_later(self)

    def _failed(self, error: SSL.Error) -> None:
        """TLS, or TCP below it, has ended otherwise."""
        state = self._state
        if isinstance(error, SSL.SysCallError):
            if error.args[0] != -1:  # the peer has broken off
                self._die(RESET)
                return
            self._state |= EOF
            # FIN without close_notify. Who has got our close_notify need not answer it
            # (RFC 8446 6.1), if it had no more to say.
            halfway = state & (ENDING | ENDED) and self.owes_goodbye
            orderly = state & (ENDING | ENDED | LOSING) and not halfway
            self._why = CONNECTION_DONE if orderly else CONNECTION_LOST
        elif state & _SHAKING:
            self._why = Failure(error.with_traceback(None))  # whose frames would hold us
        else:
            self._why = _BROKEN_OFF
        self._die(0)

    def stepped(self) -> None:
        """Count a step of OpenSSL's that belongs to no data (called from inside it).

        Where there are too many it gets to read no more of what may be megabytes of them.
        """
        self.steps += 1
        if self.steps > STEPS:
            self._tls.set_shutdown(SSL.RECEIVED_SHUTDOWN)

    def _flush(self) -> None:
        """Send what waits, as far as the kernel takes it."""
        out = self._out
        if out is None or self._state & _SHAKING:
            return
        sent = self._send(out)
        if sent < len(out):
            if self._out is out:
                del out[:sent]
            return
        self._out = None
        state = self._state
        if state & STOPPED:
            self._state = state & ~STOPPED
            self._producer.resumeProducing()
        if self._state & FOLLOWED and not self.unsent:
            self.settle()

    def _send(self, data: bytes | bytearray) -> int:
        """Return how much is sent; nothing at all of the rest may be changed by who calls again."""
        self._state &= ~_WRITE_WAITS
        try:
            return write(self._tls, data)
        except SSL.WantWriteError:
            return 0
        except SSL.WantReadError:
            self._state |= _WRITE_WAITS
            return 0
        except SSL.Error:
            self._unsendable()
            return 0

    # -- what the protocol asks for

    def write(self, data: bytes) -> None:
        """Send, or buffer and pause the registered producer."""
        state = self._state
        if state & _NOT_SENT or not data:
            return
        if self._out is not None:
            self._out += data
        else:
            sent = 0 if state & _SHAKING else self._send(data)
            if sent == len(data) or self._state & (DEAD | BROKEN):
                return
            self._out = bytearray(memoryview(data)[sent:])
        if len(self._out) > self._limit:
            self._stop_producer()

    @property
    def settled(self) -> bool:
        """Whether the handshake is done."""
        return not self._state & _SHAKING

    def getHandle(self) -> Any:
        """Return OpenSSL's side of the connection, which is also the socket's."""
        return self._tls

    # -- the end

    def settle(self) -> None:
        """Do what was put off until nobody is in the middle of anything (called by the hub)."""
        state = self._state
        # Who ends may have written before: for the sake of that the handshake goes on.
        begins = state & _BEGINS and not state & OVER and self._out is not None
        if begins or not state & _ENDS:
            if state & _SHAKING:
                self._shake()
            elif state & _SHAKEN:
                self._begin()
            return
        if state & OVER:
            if state & GONE:
                return
            if self._why is not None:
                self._close(self._why)
                return
        elif not state & _NOTIFIED and not self.unsent:
            if state & _SHAKING:
                self._die(ABORTED)  # there is nothing to say goodbye to
                return
            if not self._notify():
                return
        super().settle()

    def _notify(self) -> bool:
        """Send close_notify; the answer is whether that is done."""
        if not self._state & BROKEN:
            try:
                self._tls.shutdown()
            except (SSL.WantWriteError, SSL.WantReadError):
                return False
            except SSL.Error:
                forget_errors()
                self._state |= BROKEN
        self._state |= _NOTIFIED
        return True

    def _close(self, why: Failure) -> None:
        if why is CONNECTION_LOST and self._state & _GOODBYE:
            why = CONNECTION_DONE  # who has said goodbye may end TCP as it likes
        connection, self._tls = self._tls, None
        if connection is not None:
            connection.set_app_data(None)  # they hold each other
        super()._close(why)
