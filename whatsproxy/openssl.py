"""OpenSSL's own functions, for what each connection of TLS on the hub asks of it several times.

After each call pyOpenSSL's methods look whether one of three helpers has caught something; for each
read they allocate 16 KiB, and they say "not yet" by an exception. On a handshake that is dearer
than what OpenSSL does besides the mathematics. All that is seldom, errors above all, is left to
pyOpenSSL, whose Connection it is. This module is the only one that knows what is private of that.
"""

from typing import Any

from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL
from OpenSSL.SSL import Connection

_ffi: Any = Binding.ffi
_lib: Any = Binding().lib

#: Bytes that are read at a time: the most that a record holds. So nothing that OpenSSL has
#: decrypted is left with it, of which no event would tell.
RECORD = 16 * 1024
_ROOM = _ffi.new("char[]", RECORD)
_READ = _ffi.buffer(_ROOM)

_do_handshake, _get_error = _lib.SSL_do_handshake, _lib.SSL_get_error
_read, _write = _lib.SSL_read, _lib.SSL_write
_session_reused = getattr(_lib, "SSL_session_reused", None)  # nobody else needs it
_WANT_READ, _ENDED = _lib.SSL_ERROR_WANT_READ, _lib.SSL_ERROR_ZERO_RETURN
_WANTS = (_WANT_READ, _lib.SSL_ERROR_WANT_WRITE)
#: Where OpenSSL does something besides data, as its info callback hears of it.
STEP = SSL.SSL_CB_LOOP | SSL.SSL_CB_WRITE_ALERT
#: And of close_notify, either way: level warning, description 0.
_CLOSE_NOTIFY = 0x100


def is_known() -> bool:
    """Tell whether pyOpenSSL has inside what this module takes for granted."""
    private = ("_ssl", "_raise_ssl_error", "_reverse_mapping")
    connection = Connection(SSL.Context(SSL.TLS_METHOD))
    return all(hasattr(connection, name) for name in private)


def shake_hands(connection: Connection) -> bool:
    """Go on with the handshake; the answer is whether it is done. Raises SSL.Error."""
    ssl = connection._ssl
    result = _do_handshake(ssl)
    if result == 1:
        return True
    if _get_error(ssl, result) not in _WANTS:
        _raise(connection, result)
    return False


def read(connection: Connection) -> bytes | None:
    """Return what the next record holds, and nothing (b"") for close_notify.

    None: it has not come. Raises SSL.Error, as pyOpenSSL's ``recv`` does.
    """
    ssl = connection._ssl
    got = _read(ssl, _ROOM, RECORD)
    if got > 0:
        data: bytes = _READ[:got]
        return data
    error = _get_error(ssl, got)
    if error == _WANT_READ:
        return None
    if error == _ENDED:
        return b""
    _raise(connection, got)
    return None


def write(connection: Connection, data: bytes | bytearray) -> int:
    """Return how many bytes are sent. Raises SSL.Error, as pyOpenSSL's ``send`` does."""
    ssl = connection._ssl
    plain = data if type(data) is bytes else _ffi.from_buffer(data)
    sent: int = _write(ssl, plain, len(data))
    if sent <= 0:
        _raise(connection, sent)
    return sent


def forget_errors() -> None:
    """Empty OpenSSL's queue of errors: in 3.x, what is left there becomes another connection's.

    A write to a peer that has just gone leaves something, and pyOpenSSL's SysCallError lets it be.
    """
    _lib.ERR_clear_error()


def _raise(connection: Connection, result: int) -> None:
    try:
        connection._raise_ssl_error(connection._ssl, result)
    finally:
        forget_errors()


def is_resumed(connection: Connection) -> bool | None:
    """Tell whether a ticket has spared the handshake its certificate; None where nobody can."""
    return None if _session_reused is None else bool(_session_reused(connection._ssl))


def count_steps(connection: Connection) -> None:
    """Tell the connection's app data (``stepped``) of each step that belongs to no data.

    It is one callback for all; pyOpenSSL would make one for each connection.
    """
    _lib.SSL_set_info_callback(connection._ssl, _told)


@_ffi.callback("void (*)(const SSL *, int, int)")  # type: ignore[untyped-decorator]  # cffi's
def _told(ssl: Any, where: int, what: int) -> None:
    if where & STEP and what != _CLOSE_NOTIFY:
        owner = Connection._reverse_mapping[ssl].get_app_data()
        if owner is not None:
            owner.stepped()
