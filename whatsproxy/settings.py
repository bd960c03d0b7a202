"""The settings: what they are and their defaults.

A key is described once: its default, its codec, and the comment that the reference and the
annotated configuration file show.
"""

import dataclasses
from typing import Any

from whatsproxy.codecs import (
    ADDRESSES,
    ALLOW,
    BOOLEAN,
    OPTIONAL_ADDRESS,
    OPTIONAL_ADDRESSES,
    OUTPUT,
    PORTS,
    PROXIES,
    Codec,
    Hop,
    choice,
    integer,
    seconds,
)
from whatsproxy.destination import Destination
from whatsproxy.field_codecs import FIELD_NAMES, FIELDS, PSEUDONYM
from whatsproxy.listen_codecs import (
    DOORS,
    ENDPOINT,
    LISTENERS,
    NETWORK_SOURCES,
    NETWORKS,
    Listener,
)
from whatsproxy.tls_codecs import (
    CERTIFICATES,
    CIPHERS,
    DNS_NAMES,
    IP_ADDRESSES,
    PATH,
    PINS,
    SERVER_NAMES,
    CertificateFiles,
    Pins,
)


def _key(default: Any, codec: Codec, doc: str) -> Any:
    return dataclasses.field(default=default, metadata={"codec": codec, "doc": doc})


@dataclasses.dataclass(frozen=True, slots=True)
class ServerSettings:
    """Who may connect, and where."""

    listen: tuple[str, ...] = _key(
        ("tcp6:8443",),
        DOORS,
        "Where clients connect: Twisted server endpoint descriptions (tcp: tcp6: unix: systemd:). "
        "tcp6:PORT takes IPv4 too. The default becomes tcp:8443 where there is no IPv6, and is "
        "nothing where there is a [[listener]]. With haproxy: in front, connections begin with a "
        "PROXY protocol header.",
    )
    listener: tuple[Listener, ...] = _key(
        (),
        LISTENERS,
        "Further ones with rules of their own, also written [[listener]]: endpoint; kinds, those "
        "that are served there (http connect tls xmpp whatsapp raw; all); proxy_protocol (false); "
        "allow, the networks of its clients (all).",
    )
    proxy_trusted: tuple[str, ...] = _key(
        (),
        NETWORKS,
        "Networks of the load balancers whose PROXY protocol headers are believed.",
    )
    max_connections: int = _key(
        27500,
        integer(1, 10_000_000),
        "Clients at a time; more are closed at once. The default is lowered, with a warning, "
        "where the descriptor limit (ulimit -n) is too small; another value must fit.",
    )
    max_buffered: int = _key(
        256 << 20,
        integer(1 << 20, 1 << 50),
        "Bytes that may wait in memory for slow readers, in all. Beyond them each connection has "
        "to get rid of what it has before more is read for it.",
    )
    fast: bool = _key(
        True,
        BOOLEAN,
        "On Linux, carry TCP by an epoll and transports of our own, and bulk by splice. Elsewhere, "
        "and with false, Twisted's are used: the same service, at a higher cost.",
    )
    names: tuple[str, ...] = _key(
        (),
        SERVER_NAMES,
        "Our own names, exact or *.x: TLS to them ends here. Empty: TLS to any name that is not "
        "allowed does. With names, TLS to others goes to upstream.web, or is refused.",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class ClientSettings:
    """Who may come, and how much of it: by address, in IPv6 by /64."""

    allow: tuple[str, ...] = _key(
        (),
        NETWORK_SOURCES,
        "Networks of the clients that may come, or file:PATH, a file with one a line that is read "
        "anew when it changes. Empty: everybody.",
    )
    deny: tuple[str, ...] = _key(
        (), NETWORK_SOURCES, "Those that may not, even if they are allowed above."
    )
    max_per_client: int = _key(
        1000, integer(0, 10_000_000), "Connections of one client at a time. 0: no limit."
    )
    rate_per_client: int = _key(
        100, integer(0, 1_000_000), "New connections of one client a second. 0: no limit."
    )
    burst_per_client: int = _key(
        1000, integer(1, 10_000_000), "So many at once before the rate counts."
    )


@dataclasses.dataclass(frozen=True, slots=True)
class TlsSettings:
    """TLS that ends here, and TLS that begins here."""

    auto_generate: bool = _key(
        True,
        BOOLEAN,
        "Make a self-signed certificate where none is named below. false: TLS is not terminated.",
    )
    certificate: tuple[CertificateFiles, ...] = _key(
        (), CERTIFICATES, "Your own: cert_file (the chain), key_file; picked by the server name."
    )
    cache_dir: str = _key(
        "",
        PATH,
        "Where the self-signed one is kept. Empty: $CACHE_DIRECTORY, or whatsproxy in the user's "
        "cache.",
    )
    dns_names: tuple[str, ...] = _key((), DNS_NAMES, "More names for the self-signed one.")
    ip_addresses: tuple[str, ...] = _key((), IP_ADDRESSES, "Addresses for the self-signed one.")
    validity_days: int = _key(365, integer(31, 3650), "Of the self-signed one.")
    min_version: str = _key("1.2", choice("1.2", "1.3"), "The oldest version taken.")
    ciphers: str = _key("", CIPHERS, "For TLS 1.2, in OpenSSL's words. Empty: ECDHE with AEAD.")
    upstream_ca_file: str = _key(
        "",
        PATH,
        "Who vouches for upstreams, in PEM, with lists of revoked certificates if there are any. "
        "Empty: whom the system trusts.",
    )
    upstream_pins: Pins = _key(
        (), PINS, "Public keys that vouch for a host in place of those: for servers without a CA."
    )


@dataclasses.dataclass(frozen=True, slots=True)
class TimeoutSettings:
    """How long things may take, in seconds."""

    sniff: float = _key(10.0, seconds(), "For a client to show what it speaks, in all.")
    connect: float = _key(
        10.0, seconds(), "To reach an upstream, in all: names, SOCKS and further upstreams."
    )
    idle: float = _key(300.0, seconds(), "A connection on which nothing moves is closed.")
    chat_idle: float = _key(3600.0, seconds(), "The same for WhatsApp chats and XMPP.")
    tls_handshake: float = _key(10.0, seconds(), "For a TLS handshake, in all.")
    http_head: float = _key(
        10.0, seconds(), "For the whole head of an HTTP request, from its first byte on."
    )
    http_answer: float = _key(
        120.0, seconds(), "For an upstream to begin its answer to a complete HTTP request."
    )
    shutdown: float = _key(
        30.0, seconds(zero=True), "Given to live connections when the service stops."
    )
    lame_duck: float = _key(
        0.0, seconds(zero=True), "Goes on accepting for so long after /ready has said no."
    )


@dataclasses.dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """Where traffic goes. Several are tried in order, sharing timeouts.connect."""

    chat: tuple[Destination, ...] = _key(
        (Destination("g.whatsapp.net", 5222),),
        ADDRESSES,
        "WhatsApp chat goes here: host:port, or tls://host:port for a leg in TLS.",
    )
    xmpp: tuple[Destination, ...] | None = _key(
        (), OPTIONAL_ADDRESSES, 'XMPP goes here. Empty: as chat. ["refuse"]: nowhere.'
    )
    raw: tuple[Destination, ...] | None = _key(
        (), OPTIONAL_ADDRESSES, 'Anything unknown goes here. Empty: as chat. ["refuse"]: nowhere.'
    )
    web: Destination | None = _key(
        None,
        OPTIONAL_ADDRESS,
        "HTTP requests that are not meant for a proxy (a browser that opens the port), and TLS to "
        "names that are not ours, are answered by this web server: host:port. Empty: by a plain "
        "page, and by an alert.",
    )
    send_proxy: str = _key(
        "",
        choice("", "v1", "v2"),
        "Tell the chat upstream each client's address, by a PROXY protocol header of this version. "
        "Empty: no. Not together with SOCKS5 proxies.",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Socks5Settings:
    """The way out. With a proxy listed this machine resolves and dials nothing but that server."""

    proxies: tuple[Hop, ...] = _key(
        (),
        PROXIES,
        "socks5://[user:password@]host[:port], percent-encoded; tried in order. "
        'Empty: directly. "direct" may stand in the list, too.',
    )


@dataclasses.dataclass(frozen=True, slots=True)
class PolicySettings:
    """What clients may name (by TLS server name, by HTTP). Configured upstreams are allowed."""

    allow: tuple[str, ...] = _key(
        (
            "whatsapp.net",
            "*.whatsapp.net",
            "whatsapp.com",
            "*.whatsapp.com",
            "*.fbcdn.net",
            "wa.me",
        ),
        ALLOW,
        "Names; *.x covers the names below x, not x itself. * covers all, which needs a rule about "
        "clients ([clients] allow), or listeners on loopback only.",
    )
    allow_ports: tuple[int, ...] = _key((80, 443, 5222), PORTS, "Ports of those names.")
    allow_networks: tuple[str, ...] = _key(
        (),
        NETWORKS,
        "Networks that names may lead to although they are not public, such as 10.0.0.0/8, and in "
        "which literal addresses may be named.",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class HttpSettings:
    """The HTTP proxy: its limits, and what it changes in messages (nothing, by default)."""

    keepalive: float = _key(60.0, seconds(), "Between two requests on a client's connection.")
    max_head: int = _key(
        65536,
        integer(1024, 1 << 20),
        "Bytes of a head; a larger request gets 431, a larger answer 502.",
    )
    max_fields: int = _key(100, integer(1, 10_000), "Fields of a head, likewise.")
    max_body: int = _key(
        0, integer(0, 10**15), "Bytes of a request's body; more get 413. 0: as many as there are."
    )
    via: str = _key(
        "", PSEUDONYM, "Named in the field Via of both ways (RFC 9110 7.6.3). Empty: no Via."
    )
    set_request: tuple[tuple[str, str], ...] = _key(
        (), FIELDS, "Fields put into each request, in place of those of the same name."
    )
    remove_request: tuple[str, ...] = _key((), FIELD_NAMES, "Fields taken out of each request.")
    set_response: tuple[tuple[str, str], ...] = _key(
        (), FIELDS, "Fields put into each answer of an upstream, likewise."
    )
    remove_response: tuple[str, ...] = _key((), FIELD_NAMES, "Fields taken out of each answer.")
    users_file: str = _key(
        "",
        PATH,
        "Who may use the proxy: NAME:HASH, one a line, as htpasswd -B writes it; read anew when it "
        "changes. Empty: nobody is asked for a name and a password.",
    )
    users_in_clear: bool = _key(
        False,
        BOOLEAN,
        "Take passwords on connections that are neither in TLS nor from this machine, too: whoever "
        "is on the way can read them.",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class MetricsSettings:
    """What is shown to the operator, over HTTP: /metrics, /health, /ready."""

    listen: str = _key(
        "tcp:8199:interface=127.0.0.1", ENDPOINT, "An endpoint description; empty: off."
    )


@dataclasses.dataclass(frozen=True, slots=True)
class LoggingSettings:
    """What is written down. Never a password, and no client's address unless asked for."""

    level: str = _key("info", choice("debug", "info", "warn", "error"), "The least level logged.")
    format: str = _key("text", choice("text", "json"), "text or json, a line an event.")
    clients: str = _key(
        "none",
        choice("none", "network", "full"),
        "What is told of a client's address: nothing, its network (/24, /48), or all of it.",
    )
    rate: int = _key(
        50,
        integer(0, 1_000_000),
        "Lines a second of one kind (of one reason, that is); what is beyond is counted in one "
        "line. 0: no limit.",
    )
    output: str = _key(
        "stdout",
        OUTPUT,
        "stdout, stderr or a file, which is reopened on SIGUSR1. "
        "twistd's own --logfile and --syslog win.",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """All settings; the attributes are the sections of the file."""

    server: ServerSettings = ServerSettings()
    clients: ClientSettings = ClientSettings()
    tls: TlsSettings = TlsSettings()
    timeouts: TimeoutSettings = TimeoutSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    socks5: Socks5Settings = Socks5Settings()
    policy: PolicySettings = PolicySettings()
    http: HttpSettings = HttpSettings()
    metrics: MetricsSettings = MetricsSettings()
    logging: LoggingSettings = LoggingSettings()
