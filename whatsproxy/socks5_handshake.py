"""The SOCKS5 client's side of the conversation (RFC 1928, 1929) and the ways in which it fails.

What we say is made by socksio, once for all connects of an endpoint. The three replies are read
here: where each begins and ends in the stream socksio leaves open, and of what it would read out of
them only one byte each matters. The exceptions have the names that txsocksx gave them.
"""

from collections.abc import Callable
from typing import ClassVar

from twisted.python.failure import Failure

from whatsproxy.incremental import NeedMore
from whatsproxy.transport import StreamProtocol


class SOCKSError(Exception):
    """A connection through a SOCKS server failed; each reason is a subclass with its ``text``."""

    text: ClassVar[str] = "the connection through the SOCKS server failed"

    def __str__(self) -> str:
        return self.text


class ProxyUnreachable(SOCKSError):
    """There is no connection to the SOCKS server itself; the cause tells why."""

    def __str__(self) -> str:
        return f"the SOCKS server cannot be reached: {self.__cause__}"


class NotSOCKS5(SOCKSError):
    """The server answers something else than SOCKS5."""

    text = "the server does not speak SOCKS5"


class ConnectionLostEarly(SOCKSError):
    """The server closed before it had answered."""

    text = "the SOCKS server closed the connection before it had answered"


class NegotiationTimeout(SOCKSError):
    """The server did not answer in time."""

    text = "the SOCKS server did not answer in time"


class NoAcceptableMethods(SOCKSError):
    """The server takes none of the authentication methods offered (RFC 1928 3)."""

    text = "the SOCKS server takes none of the methods offered; does it want a password?"


class LoginAuthenticationFailed(SOCKSError):
    """The server refused the user name or the password (RFC 1929 2)."""

    text = "the SOCKS server refused the user name or the password"


class ConnectionError(SOCKSError):  # the name is txsocksx's
    """The server could not or would not connect (RFC 1928 6); a subclass for each reply code."""

    text = "an unassigned reply code"

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"the SOCKS server answers: {self.text} (reply {self.code})"


class ServerFailure(ConnectionError):
    """Reply 1."""

    text = "general failure"


class ConnectionNotAllowed(ConnectionError):
    """Reply 2."""

    text = "its rules do not allow this connection"


class NetworkUnreachable(ConnectionError):
    """Reply 3."""

    text = "network unreachable"


class HostUnreachable(ConnectionError):
    """Reply 4."""

    text = "host unreachable (or its name is unknown)"


class ConnectionRefused(ConnectionError):
    """Reply 5."""

    text = "connection refused"


class TTLExpired(ConnectionError):
    """Reply 6."""

    text = "TTL expired"


class CommandNotSupported(ConnectionError):
    """Reply 7."""

    text = "command not supported"


class AddressNotSupported(ConnectionError):
    """Reply 8."""

    text = "address type not supported"


_REPLIES: dict[int, type[ConnectionError]] = {
    1: ServerFailure,
    2: ConnectionNotAllowed,
    3: NetworkUnreachable,
    4: HostUnreachable,
    5: ConnectionRefused,
    6: TTLExpired,
    7: CommandNotSupported,
    8: AddressNotSupported,
}


#: Bytes of a reply to CONNECT by its type of address; a name's length comes on top.
_SIZES = {1: 4 + 4 + 2, 3: 4 + 1 + 2, 4: 4 + 16 + 2}
_NAME = 3


def frame_reply(data: bytes) -> int | NeedMore:
    """Return how many bytes of ``data`` are the reply to CONNECT (RFC 1928 6).

    Raises NotSOCKS5, or the error for a reply code, as soon as that code is here: a server that
    refuses need not send the rest.
    """
    if data[:1] not in (b"", b"\x05"):
        raise NotSOCKS5
    if len(data) >= 2 and data[1] != 0:
        raise _REPLIES.get(data[1], ConnectionError)(data[1])
    if len(data) < 5:
        return NeedMore(len(data) + 1)
    size = _SIZES.get(data[3])
    if data[2] != 0 or size is None:
        raise NotSOCKS5
    if data[3] == _NAME:
        size += data[4]
    return size if len(data) >= size else NeedMore(size)


def _frame_method(data: bytes) -> int | NeedMore:
    """The two replies before that one are two bytes each: a version and a verdict."""
    if data[:1] not in (b"", b"\x05"):
        raise NotSOCKS5
    return 2 if len(data) >= 2 else NeedMore(2)


def _frame_login(data: bytes) -> int | NeedMore:
    if data[:1] not in (b"", b"\x01"):
        raise NotSOCKS5
    return 2 if len(data) >= 2 else NeedMore(2)


#: Methods (RFC 1928 3): of those that were offered, only this one asks for something more.
_LOGIN = 2
_NONE_ACCEPTABLE = 0xFF


class Words:
    """What we have to say, the same for all connects of an endpoint.

    ``greeting`` offers the ``methods``; ``login`` is for the server that wants one, if we have it.
    Without a ``request`` the conversation is over when the server has accepted us.
    """

    __slots__ = ("greeting", "login", "methods", "request")

    def __init__(
        self, greeting: bytes, methods: bytes, login: bytes | None, request: bytes | None
    ) -> None:
        self.greeting = greeting
        self.methods = methods
        self.login = login
        self.request = request


class Handshake(StreamProtocol):
    """The conversation with the server: one method a state, each given one framed message.

    ``done`` is for whoever makes something of it: it is called once.
    """

    __slots__ = ("_buffer", "_frame", "_state", "_words")

    _frame: Callable[[bytes], int | NeedMore]

    def __init__(self, words: Words) -> None:
        self._words = words
        self._buffer = b""
        self._state: Callable[[bytes], None] | None = None

    def done(self, result: bytes | SOCKSError) -> None:
        """Hear what came of it: an error, or the bytes that followed the last reply."""
        raise NotImplementedError

    def connectionMade(self) -> None:
        """Greet."""
        self._frame = _frame_method
        self._state = self._method_chosen
        self.transport.write(self._words.greeting)

    def dataReceived(self, data: bytes) -> None:
        """Take messages off the stream, in any split."""
        if self._buffer:
            data = self._buffer + data
        try:
            while data and self._state is not None:
                size = self._frame(data)
                if isinstance(size, NeedMore):
                    break
                message, data = data[:size], data[size:]
                self._buffer = data
                self._state(message)
        except SOCKSError as e:
            self._finish(e)
            return
        self._buffer = data

    def readConnectionLost(self) -> None:
        """The server has nothing more to say."""
        self._finish(ConnectionLostEarly())

    def connectionLost(self, reason: Failure) -> None:
        """The same, at once."""
        self._finish(ConnectionLostEarly())

    def stop(self) -> None:
        """Hear nothing more, and tell nobody."""
        self._state = None

    def _method_chosen(self, message: bytes) -> None:
        method = message[1]
        if method == _NONE_ACCEPTABLE:
            raise NoAcceptableMethods
        if method not in self._words.methods:
            raise NotSOCKS5
        login = self._words.login
        if login is not None and method == _LOGIN:
            self._frame = _frame_login
            self._state = self._login_answered
            self.transport.write(login)
        else:
            self._authenticated()

    def _login_answered(self, message: bytes) -> None:
        if message[1] != 0:
            raise LoginAuthenticationFailed
        self._authenticated()

    def _authenticated(self) -> None:
        request = self._words.request
        if request is None:
            self._finish(b"")
            return
        self._frame = frame_reply
        self._state = self._connected
        self.transport.write(request)

    def _connected(self, message: bytes) -> None:
        # The message is a success; the address in it, which some servers make up, is of no use.
        self._finish(self._buffer)  # what follows the reply belongs to the stream

    def _finish(self, result: bytes | SOCKSError) -> None:
        if self._state is not None:
            self._state = None
            self._buffer = b""
            self.done(result)
