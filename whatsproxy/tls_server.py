"""TLS that ends here: contexts, certificates picked by name, and what OpenSSL is told."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocol
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from whatsproxy.certificates import (
    RENEW,
    SELF_SIGNED,
    CertificateError,
    Identity,
    default_directory,
    kept_in,
    load,
    load_or_make,
)
from whatsproxy.files import Stamp, stamp
from whatsproxy.settings import TlsSettings
from whatsproxy.tls_transport import TlsTransport, note_step, write_whole
from whatsproxy.transport import SocketReader, StreamProtocol, hand_over

#: Offered for TLS 1.2: forward secrecy and AEAD only. TLS 1.3 has nothing else.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
#: What we speak, best first (RFC 7301; XEP-0368). Anything else falls back to no ALPN.
PROTOCOLS = (b"http/1.1", b"xmpp-client")
_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}

log = Logger()


@implementer(IOpenSSLServerConnectionCreator)
class TlsServer:
    """Makes the TLS of client connections.

    One context, which holds the ticket keys, lives as long as the process. The certificates have
    contexts of their own, which a connection changes to: so they can be replaced, and neither a
    live connection nor a ticket notices.
    """

    def __init__(self, clock: Any, settings: TlsSettings, names: Sequence[str]) -> None:
        self._settings = settings
        self._names = tuple(names)
        #: Whether there may be any TLS for which we have a certificate.
        self.ends_here = bool(settings.certificate) or settings.auto_generate
        self._context: SSL.Context | None = None  # made by load, which may fail
        self._identities: list[tuple[Identity, SSL.Context]] = []
        self._by_name: dict[str, SSL.Context] = {}
        self._loaded: list[Stamp] = []
        self._factory = TLSMemoryBIOFactory(self, False, Factory(), clock)

    name = "certificates"
    error = CertificateError

    @property
    def identities(self) -> list[Identity]:
        """The certificates in use."""
        return [identity for identity, _ in self._identities]

    @property
    def kept_at(self) -> Path | None:
        """The file in which the certificate of our own making is kept; None where there is none."""
        directory = self._directory()
        own = any(identity.label == SELF_SIGNED for identity in self.identities)
        return kept_in(directory) if own and directory is not None else None

    def load(self) -> None:
        """Read, or make, all certificates anew. Raises CertificateError, and keeps the old ones."""
        if self._context is None:
            self._context = self._new_context()
        self._loaded = self._stamps()  # of now: a file that changes meanwhile is read again
        now = datetime.now(UTC)
        identities = [load(files, now) for files in self._settings.certificate]
        if not identities and self._settings.auto_generate:
            identities = [self._own(now)]
        loaded = []
        for identity in identities:
            context = self._new_context()
            try:
                context.use_certificate(identity.chain[0])
                for certificate in identity.chain[1:]:
                    context.add_extra_chain_cert(certificate)
                context.use_privatekey(identity.key)
                context.check_privatekey()
            except SSL.Error as e:
                raise CertificateError(f"{identity.label}: OpenSSL does not take it: {e}") from None
            loaded.append((identity, context))
        self._identities = loaded
        # Of two certificates for a name the first one counts.
        self._by_name = {n: context for one, context in reversed(loaded) for n in one.names}

    def changed(self) -> bool:
        """Whether load would find something else: other files, or a certificate that ends soon."""
        own = [identity for identity in self.identities if identity.label == SELF_SIGNED]
        ending = any(identity.expires - RENEW <= datetime.now(UTC) for identity in own)
        return ending or self._stamps() != self._loaded

    def announce(self) -> None:
        """Say until when each certificate is good."""
        for identity in self.identities:
            log.info(
                "certificate {label} is valid until {until}",
                label=identity.label,
                until=f"{identity.expires:%Y-%m-%d}",
            )

    def _stamps(self) -> list[Stamp]:
        """Return what tells the files on disk from those that were read."""
        return [
            stamp(path)
            for files in self._settings.certificate
            for path in (files.cert_file, files.key_file)
        ]

    def transport_for(self, server_name: str | None, protocol: Any) -> IProtocol:
        """Return TLS with this protocol inside, to be given a client's transport."""
        return _Beginning(self, server_name, protocol)

    def over(self, transport: Any, server_name: str | None, protocol: Any) -> None:
        """Put TLS with this protocol inside on a transport."""
        if getattr(transport, "showing", False):
            connection = self._connection(server_name, transport.getHandle())
            _on_hub()(transport, protocol).start(connection, accept=True)
            return
        below = StreamProtocol()
        below.transport = transport
        memory = _ServerTransport(self._factory, protocol)
        memory.server_name = server_name
        hand_over(below, memory)

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """Return OpenSSL's side of a connection (called by Twisted)."""
        connection = self._connection(tlsProtocol.server_name, None)
        connection.set_app_data(tlsProtocol)
        connection.set_info_callback(note_step)
        return connection

    def _connection(self, server_name: str | None, socket: Any) -> SSL.Connection:
        assert self._context is not None, "load comes first"
        connection = SSL.Connection(self._context, socket)
        connection.set_context(self._pick(server_name))
        return connection

    def _pick(self, name: str | None) -> SSL.Context:
        """Return the context of the certificate for a name; the first one, where none is."""
        wanted = (name or "").lower().rstrip(".")
        contexts = self._by_name
        return (
            contexts.get(wanted)
            or contexts.get("*." + wanted.partition(".")[2])
            or self._identities[0][1]
        )

    def _own(self, now: datetime) -> Identity:
        settings = self._settings
        identity, remark = load_or_make(
            self._directory(),
            (*settings.dns_names, *self._names),
            settings.ip_addresses,
            settings.validity_days,
            now,
            next((i for i in self.identities if i.label == SELF_SIGNED), None),
        )
        if remark:
            log.info("{remark}", remark=remark)
        return identity

    def _directory(self) -> Path | None:
        return Path(self._settings.cache_dir) if self._settings.cache_dir else default_directory()

    def _new_context(self) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(_VERSIONS[self._settings.min_version])
        ciphers = self._settings.ciphers or CIPHERS
        try:
            context.set_cipher_list(ciphers.encode())
        except SSL.Error:
            raise CertificateError(f"ciphers = {ciphers!r}: OpenSSL knows none of them") from None
        context.set_options(
            SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE
        )
        # Resumption by tickets alone: nothing is to be remembered for anyone.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        write_whole(context)
        context.set_session_id(b"\x01")
        context.set_alpn_select_callback(_choose_protocol)
        return context


class _ServerTransport(TlsTransport):
    server_name: str | None = None


@cache
def _on_hub() -> Any:
    from whatsproxy.hub_tls import HubTls  # it needs epoll to be imported

    return HubTls


class _Beginning(SocketReader):
    """What a transport is given in order to be TLS."""

    __slots__ = ("_protocol", "_server", "_server_name")

    def __init__(self, server: TlsServer, server_name: str | None, protocol: Any) -> None:
        self._server = server
        self._server_name = server_name
        self._protocol = protocol

    def makeConnection(self, transport: Any) -> None:
        """Let it be so."""
        self._server.over(transport, self._server_name, self._protocol)


def _choose_protocol(_: SSL.Connection, offered: list[bytes]) -> Any:
    return next((p for p in PROTOCOLS if p in offered), SSL.NO_OVERLAPPING_PROTOCOLS)
