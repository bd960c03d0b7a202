"""Both ends of connections whose TLS ends at the proxy: its clients speak it, the origin not."""

import contextlib
import select
import socket
import ssl

from origin import CHUNK
from pairs import End, Pairs

#: Records that are read at a time; there may be a few bytes in each.
_RECORDS = 8


class TlsPairs(Pairs):
    """As Pairs; clients ask for ``name``, resume nothing, verify nothing and speak TLS 1.3.

    The whole handshake is the server's work all the same, its signature included.
    """

    not_yet = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
    #: On loopback all of a handshake can be sent at once.
    waiting = select.EPOLLIN

    def __init__(
        self, address: tuple[str, int], listening: socket.socket, limit: float, name: str
    ) -> None:
        super().__init__(address, listening, limit)
        self._name = name
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        #: What was agreed on, for the report.
        self.cipher = ""

    def connection(self) -> socket.socket:
        """Return a connected socket: on loopback that takes no time, and TLS wants one."""
        connection = socket.create_connection(self._address)
        connection.setblocking(False)
        return self._context.wrap_socket(
            connection, server_hostname=self._name, do_handshake_on_connect=False
        )

    def say(self, client: End) -> None:
        """Go on with the handshake and, once it is done, say the opening."""
        assert isinstance(client.socket, ssl.SSLSocket)
        client.socket.do_handshake()
        if not self.cipher:
            cipher, version, _ = client.socket.cipher() or ("", "", 0)
            self.cipher = f"{version}, {cipher}"
            if self._name.encode() not in (client.socket.getpeercert(True) or b""):
                raise ConnectionAbortedError("another certificate")
        client.socket.send(client.opening)

    def hang_up(self, client: End) -> None:
        """Say close_notify, await none, and close."""
        assert isinstance(client.socket, ssl.SSLSocket)
        with contextlib.suppress(ssl.SSLError, OSError):
            client.socket.unwrap()
        client.socket.close()

    def read(self, one: End, expected: int) -> None:
        """Compare some records of bulk; the rest of it is as plain as the other origins'."""
        if not isinstance(one.socket, ssl.SSLSocket):
            super().read(one, expected)
            return
        for _ in range(_RECORDS):
            self.compare(one, one.socket.recv(CHUNK), expected)
            if one.received == expected:
                return
