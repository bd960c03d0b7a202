"""TLS that begins here: upstream legs whose other end has to prove who it is."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL
from OpenSSL.crypto import X509StoreFlags
from service_identity import CertificateError as IdentityError
from service_identity import VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from whatsproxy.certificates import CertificateError
from whatsproxy.destination import Destination
from whatsproxy.settings import TlsSettings
from whatsproxy.tls_transport import TlsTransport, note_step, openssl_says, write_whole
from whatsproxy.transport import SingleProtocolFactory, StreamProtocol, hand_over, is_bare


class TlsFailedError(Exception):
    """There was no TLS with the upstream; ``str()`` says why."""

    text = "no TLS with {destination}: {why}"

    def __init__(self, destination: Destination, why: str) -> None:
        super().__init__(self.text.format(destination=destination, why=why))


class UntrustedError(TlsFailedError):
    """The upstream did not prove that it is who it was taken for."""

    text = "{destination} did not prove who it is: {why}"


class TlsTimeoutError(TlsFailedError):
    """The handshake took too long."""


#: Where there are lists of revoked certificates beside the authorities, they count.
_CRL = b"-----BEGIN X509 CRL-----"
#: What OpenSSL's verification finds most often (openssl-verification-options(1)), in plain words.
_FINDINGS = {
    3: "there is no list of revoked certificates of its issuer's",
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    18: "its certificate is self-signed",
    19: "its certificate is by an unknown issuer (self-signed)",
    20: "its certificate is by an unknown issuer",
    21: "its certificate is by an unknown issuer",
    23: "its certificate was revoked",
}


@implementer(IOpenSSLClientConnectionCreator)
class TlsClient:
    """Puts TLS on upstream legs. There is no way to leave the verification out.

    Whom a host's pins vouch for needs no authority; all others need one that the system, or
    ``tls.upstream_ca_file``, trusts, and a certificate for their name (RFC 6125, 9525).
    """

    def __init__(self, clock: Any, settings: TlsSettings) -> None:
        self._clock = clock
        self._settings = settings
        self._pins: Mapping[str, tuple[bytes, ...]] = dict(settings.upstream_pins)
        self._verifying: SSL.Context | None = None
        self._pinned: SSL.Context | None = None
        self._factory = TLSMemoryBIOFactory(self, True, Factory(), clock)

    def load(self) -> None:
        """Read whom to trust. Raises CertificateError."""
        verifying = _new_context()
        path = self._settings.upstream_ca_file
        try:
            if path:
                verifying.load_verify_locations(path)
                if _CRL in Path(path).read_bytes():
                    store = verifying.get_cert_store()
                    assert store is not None, "every context has one"
                    store.set_flags(X509StoreFlags.CRL_CHECK)
            else:
                verifying.set_default_verify_paths()
        except (SSL.Error, OSError):
            raise CertificateError(
                f"upstream_ca_file = {path!r}: cannot be read, or holds no certificate in PEM"
            ) from None
        verifying.set_verify(SSL.VERIFY_PEER, _note_finding)
        self._verifying, self._pinned = verifying, _new_context()

    def wrap(
        self, endpoint: IStreamClientEndpoint, destination: Destination, seconds: float
    ) -> IStreamClientEndpoint:
        """Return an endpoint that has connected when the other end has proved its identity."""
        return _TlsEndpoint(self, self._clock, endpoint, destination, seconds)

    def over(self, holder: StreamProtocol, destination: Destination, protocol: Any) -> None:
        """Put TLS, with a protocol inside, on the transport that somebody holds."""
        transport: Any = holder.transport
        if is_bare(transport):
            from whatsproxy.hub_tls import HubTls  # it needs epoll to be imported

            connection = self._connection(destination, transport.getHandle())
            on_socket = HubTls(transport, protocol)
            on_socket.owes_goodbye = _ClientTransport.owes_goodbye
            on_socket.start(connection, accept=False)
            return
        in_memory = _ClientTransport(self._factory, protocol)
        in_memory.destination = destination
        hand_over(holder, in_memory)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """Return OpenSSL's side of a connection (called by Twisted)."""
        connection = self._connection(tlsProtocol.destination, None)
        connection.set_app_data(tlsProtocol)
        connection.set_info_callback(note_step)
        return connection

    def _connection(self, destination: Destination, socket: Any) -> SSL.Connection:
        context = self._pinned if destination.host in self._pins else self._verifying
        assert context is not None, "load comes first"
        connection = SSL.Connection(context, socket)
        if not destination.is_address:
            connection.set_tlsext_host_name(destination.host.encode("ascii"))
        return connection

    def identify(self, connection: SSL.Connection, destination: Destination) -> None:
        """Insist, after the handshake, that the other end is this one. Raises UntrustedError."""
        pins = self._pins.get(destination.host)
        if pins is not None:
            if _fingerprint(connection) not in pins:
                raise UntrustedError(destination, "its public key is none of upstream_pins")
            return
        verify = verify_ip_address if destination.is_address else verify_hostname
        try:
            verify(connection, destination.host)
        except (VerificationError, IdentityError):
            raise UntrustedError(destination, "its certificate is for another name") from None


class _ClientTransport(TlsTransport):
    destination: Destination
    #: What it says after our end is an answer, which must not be cut off unseen.
    owes_goodbye = True
    #: The first fault that OpenSSL has found with the certificate.
    finding = 0


@implementer(IStreamClientEndpoint)
class _TlsEndpoint:
    def __init__(
        self,
        client: TlsClient,
        clock: Any,
        endpoint: IStreamClientEndpoint,
        destination: Destination,
        seconds: float,
    ) -> None:
        self._client = client
        self._clock = clock
        self._endpoint = endpoint
        self._destination = destination
        self._seconds = seconds

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[IProtocol]":
        """Return a Deferred of the protocol; cancelling it leaves nothing open."""
        return _Attempt(self._client, self._destination, protocolFactory).start(
            self._endpoint, self._clock, self._seconds
        )


@implementer(IHandshakeListener)
class _Attempt(StreamProtocol):
    """One connect: first the leg, then its TLS, of which this is the inside until that is done."""

    def __init__(
        self, client: TlsClient, destination: Destination, factory: IProtocolFactory
    ) -> None:
        self._client = client
        self._destination = destination
        self._factory = factory
        self._result: Deferred[IProtocol] = Deferred(lambda _: self._fail(CancelledError()))
        self._connecting: Deferred[Any] | None = None
        self._clock: Any = None
        self._seconds = self._deadline = 0.0
        self._timer: Any = None
        self._over = False

    def start(
        self, endpoint: IStreamClientEndpoint, clock: Any, seconds: float
    ) -> "Deferred[IProtocol]":
        self._clock, self._seconds = clock, seconds
        self._deadline = clock.seconds() + seconds
        connecting = endpoint.connect(SingleProtocolFactory(StreamProtocol()))
        self._connecting = connecting
        connecting.addCallbacks(self._reached, self._unreached)
        connecting.addErrback(self._unreached)  # or by an error of ours
        return self._result

    def handshakeCompleted(self) -> None:
        """Take nobody's word for it (called by Twisted)."""
        transport: Any = self.transport
        try:
            self._client.identify(transport.getHandle(), self._destination)
            protocol = self._factory.buildProtocol(transport.getPeer())
        except Exception as e:
            self._fail(e)
            return
        if protocol is None or self._over:
            self._fail(CancelledError())
            return
        self._end()
        hand_over(self, protocol)
        self._result.callback(protocol)

    def connectionLost(self, reason: Failure) -> None:
        """There was no handshake."""
        finding = getattr(self.transport, "finding", 0)
        if finding:
            says = _FINDINGS.get(finding, f"its certificate does not verify ({finding})")
            self._fail(UntrustedError(self._destination, says))
        else:
            self._fail(TlsFailedError(self._destination, openssl_says(reason)))

    def _reached(self, below: Any) -> None:
        self._connecting = None
        # The leg has had a limit of its own, and a reason of its own.
        left = self._deadline - self._clock.seconds()
        self._timer = self._clock.callLater(max(left, 0), self._late)
        try:
            self._client.over(below, self._destination, self)
        except Exception:
            below.transport.abortConnection()  # nobody else knows it yet
            raise

    def _unreached(self, failure: Failure) -> None:
        self._connecting = None
        error = failure.value
        assert isinstance(error, Exception)
        self._fail(error)

    def _late(self) -> None:
        self._fail(TlsTimeoutError(self._destination, f"nothing within {self._seconds:.1f} s"))

    def _fail(self, error: Exception) -> None:
        if self._over:
            return
        self._end()
        if self._connecting is not None:
            self._connecting.cancel()
        transport = getattr(self, "transport", None)
        if transport is not None:
            transport.abortConnection()
        self._result.errback(error)

    def _end(self) -> None:
        self._over = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


def _new_context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    write_whole(context)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    return context


def _note_finding(connection: SSL.Connection, _: object, finding: int, __: int, ok: int) -> bool:
    transport = connection.get_app_data()
    if not ok and not transport.finding:
        transport.finding = finding
    return bool(ok)


def _fingerprint(connection: SSL.Connection) -> bytes:
    """Return the SHA-256 of the other end's SubjectPublicKeyInfo (RFC 7469 2.4)."""
    certificate = connection.get_peer_certificate(as_cryptography=True)
    if certificate is None:
        return b""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()
