"""A proxy for a script: its settings, what stands in the place of the world, and the account."""

import functools
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher

from tests import tls_peers
from tests.fuzz.laws import insist, insist_equal
from tests.fuzz.script import Script
from tests.fuzz.target import scratch
from tests.support import make_settings
from tests.tls_peers import CA, OURS
from tests.tls_support import files_of, own_certificate
from whatsproxy.codecs import SocksProxy
from whatsproxy.destination import Destination
from whatsproxy.factory import ProxyFactory
from whatsproxy.http1.credentials import Credentials
from whatsproxy.listen_codecs import Listener
from whatsproxy.reason import Reason
from whatsproxy.route import EVERY_KIND
from whatsproxy.session import Session
from whatsproxy.settings import Settings
from whatsproxy.sniff import Kind
from whatsproxy.verifier import BusyError

#: Seconds after which whoever does nothing must be gone, by the time limits below.
LONG = 200.0
#: Where names lead that may be asked for; nothing else may be dialled.
ADDRESS, CHAT, SOCKS, WEB = "127.0.0.1", 5222, 1080, 8080
_ME = Credentials(b"me", b"pw")
#: Kinds whose every byte goes to the upstream as it came.
WHOLE = (Kind.WHATSAPP, Kind.XMPP, Kind.RAW, Kind.TLS)


@functools.cache
def _certificate() -> Any:
    return files_of(own_certificate(), scratch())


@functools.cache
def _authority() -> str:
    path = scratch() / "ca.pem"
    path.write_bytes(CA.cert_pem.bytes())
    return str(path)


@functools.cache
def client_context() -> SSL.Context:
    """Return the context of clients."""
    return _forgetful(tls_peers.client_context())


@functools.cache
def server_context() -> SSL.Context:
    """Return the context of upstreams."""
    return _forgetful(tls_peers.server_context(CA.issue_cert("media.whatsapp.net")))


def _forgetful(context: SSL.Context) -> SSL.Context:
    """Keep no sessions: they would look like a leak."""
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


@functools.cache
def settings_of(number: int) -> Settings:
    """Return settings with short times; the bits say whether there is SOCKS, and so on."""
    sections: dict[str, Any] = {
        "server": {"proxy_trusted": ("127.0.0.0/8",), "max_connections": 3},
        "timeouts": {
            "sniff": 2.0,
            "connect": 3.0,
            "idle": 5.0,
            "chat_idle": 9.0,
            "tls_handshake": 2.0,
            "http_head": 2.0,
            "http_answer": 4.0,
        },
        "upstream": {"chat": (Destination(ADDRESS, CHAT), Destination("g.whatsapp.net", CHAT))},
        "http": {"keepalive": 3.0, "max_head": 2048, "max_fields": 20, "max_body": 200_000},
    }
    if number & 1:
        proxy = SocksProxy(Destination(ADDRESS, SOCKS), (b"me", b"pw") if number & 16 else None)
        sections["socks5"] = {"proxies": (proxy,)}
    elif number & 16:
        sections["upstream"]["send_proxy"] = "v1"
    if number & 2:
        sections["upstream"]["web"] = Destination(ADDRESS, WEB)
    sections["tls"] = {"auto_generate": False, "upstream_ca_file": _authority()}
    if number & 4:
        sections["tls"]["certificate"] = (_certificate(),)
        sections["server"]["names"] = (OURS,)
    if number & 32:
        sections["http"]["via"] = "gw"
        sections["upstream"]["xmpp"] = None
    if number & 64:
        sections["server"]["max_buffered"] = 1
    return make_settings(**sections)


class Names:
    """In the Resolver's place: it answers when the script says so, with the one address."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Deferred[list[str]]]] = []

    def cached(self, name: str) -> list[str] | None:
        return None

    def resolve(self, name: str) -> "Deferred[list[str]]":
        resolving: Deferred[list[str]] = Deferred()
        self.asked.append((name, resolving))
        return resolving

    @property
    def waiting(self) -> "list[Deferred[list[str]]]":
        return [resolving for _, resolving in self.asked if not resolving.called]


class Passwords:
    """In the Verifier's place: it takes a moment to know the one password."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._known = False

    def remembered(self, credentials: Credentials) -> bool | None:
        return True if self._known and credentials == _ME else None

    def check(self, credentials: Credentials, client: int | None = None) -> "Deferred[bool]":
        if credentials.user == b"busy":
            raise BusyError
        checking: Deferred[bool] = Deferred(lambda _: call.cancel())
        call = self._reactor.callLater(0.2, self._answer, checking, credentials == _ME)
        return checking

    def _answer(self, checking: "Deferred[bool]", right: bool) -> None:
        self._known = self._known or right
        checking.callback(right)


class Stage:
    """A proxy on which a script is played; it listens to what is logged."""

    def __init__(self, script: Script, reactor: Any, settings: Settings) -> None:
        self.script = script
        self.number = script.settings
        self.failures: list[LogEvent] = []
        self.factory = ProxyFactory(reactor, settings)
        self._carried: list[tuple[int, int]] = []
        self._told = self.factory.ledger._on_close
        self.factory.ledger._on_close = self._note_end
        _load_once(self.factory)
        if self.has_users:
            passwords: Any = Passwords(reactor)
            self.factory.verifier = passwords

    @property
    def has_users(self) -> bool:
        """Whether clients of HTTP are asked who they are."""
        return bool(self.script.finish & 128)

    @property
    def listener(self) -> Listener:
        """Where clients come in: perhaps by a load balancer, perhaps with two kinds only."""
        kinds = frozenset({Kind.WHATSAPP, Kind.HTTP}) if self.script.finish & 64 else EVERY_KIND
        return Listener("tcp:1", kinds, proxy_protocol=bool(self.number & 8))

    def __enter__(self) -> None:
        globalLogPublisher.addObserver(self._observe)

    def __exit__(self, *_: object) -> None:
        globalLogPublisher.removeObserver(self._observe)

    def _observe(self, event: LogEvent) -> None:
        if "log_failure" in event or event.get("isError"):
            self.failures.append(event)

    def _note_end(self, session: Session, reason: Reason, detail: str, seconds: float) -> None:
        self._carried.append((session.received, session.sent))
        self._told(session, reason, detail, seconds)

    def abort(self, _: Any) -> None:
        for session in list(self.factory.ledger.live):
            if session.holder is not None:
                session.holder.abort(Reason.SHUTDOWN)

    def drain(self, _: Any) -> None:
        self.factory.drain()

    def check_account(self) -> None:
        """Nothing has raised, every session has ended, and the account balances."""
        ledger = self.factory.ledger
        for event in self.failures:
            failure = event.get("log_failure")
            insist(False, "an error was logged:", failure.getTraceback() if failure else str(event))
        insist_equal(ledger.ends[Reason.INTERNAL], 0, "sessions ended by an error of ours")
        insist(not ledger.live, "a session is live:", ledger.live)
        insist_equal(ledger.accepted, sum(ledger.ends.values()), "the account")
        kinds = sum(ledger.kinds.values()) + ledger.undetected + ledger.rejected
        insist_equal(ledger.accepted, kinds, "the kinds")
        insist_equal(len(self._carried), ledger.accepted - ledger.rejected, "the ends")
        insist_equal(ledger.received, sum(received for received, _ in self._carried), "received")
        insist_equal(ledger.sent, sum(sent for _, sent in self._carried), "sent")


_LOADED: dict[Settings, Any] = {}


def _load_once(factory: ProxyFactory) -> None:
    """Give a factory its certificates, without reading them again each time."""
    tls, client = factory.tls, factory.tls_client
    if factory.settings not in _LOADED:
        tls.load()
        client.load()
        _LOADED[factory.settings] = (tls._context, tls._identities, client._verifying)
    tls._context, tls._identities, client._verifying = _LOADED[factory.settings]
