"""The settings: what they are, their defaults, and where they may come from.

Defaults < file (TOML) < environment (``WHATSPROXY_<SECTION>_<KEY>``) < command line. A key is
described once, in the dataclasses below: its default, its codec, and the comment that the reference
and the annotated configuration file show. Every error says where the value stands, what it is, and
what would be right.
"""

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

from whatsproxy.codecs import (
    ADDRESSES,
    ALLOW,
    ENDPOINT,
    ENDPOINTS,
    OPTIONAL_ADDRESSES,
    OUTPUT,
    PORTS,
    PROXIES,
    Codec,
    Hop,
    choice,
    integer,
    seconds,
    toml,
)
from whatsproxy.destination import Destination

ENVIRONMENT_PREFIX = "WHATSPROXY_"
#: Names the configuration file where no command line does.
FILE_VARIABLE = "WHATSPROXY_CONFIG"


class ConfigError(Exception):
    """One line for the operator: where, which key, which value, and what would be right."""


def _key(default: Any, codec: Codec, doc: str) -> Any:
    return dataclasses.field(default=default, metadata={"codec": codec, "doc": doc})


@dataclasses.dataclass(frozen=True, slots=True)
class ServerSettings:
    """Who may connect, and where."""

    listen: tuple[str, ...] = _key(
        ("tcp6:8443",),
        ENDPOINTS,
        "Where clients connect: Twisted server endpoint descriptions (tcp: tcp6: unix: systemd:). "
        "tcp6:PORT takes IPv4 too. The default becomes tcp:8443 where there is no IPv6.",
    )
    max_connections: int = _key(
        27500,
        integer(1, 10_000_000),
        "Clients at a time; more are closed at once. The default is lowered, with a warning, "
        "where the descriptor limit (ulimit -n) is too small; another value must fit.",
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
        (Destination("g.whatsapp.net", 5222),), ADDRESSES, "WhatsApp chat goes here: host:port."
    )
    xmpp: tuple[Destination, ...] | None = _key(
        (), OPTIONAL_ADDRESSES, 'XMPP goes here. Empty: as chat. ["refuse"]: nowhere.'
    )
    raw: tuple[Destination, ...] | None = _key(
        (), OPTIONAL_ADDRESSES, 'Anything unknown goes here. Empty: as chat. ["refuse"]: nowhere.'
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
    """What clients may name (by TLS server name). The configured upstreams are always allowed."""

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
        "Names; *.x covers the names below x, not x itself.",
    )
    allow_ports: tuple[int, ...] = _key((80, 443, 5222), PORTS, "Ports of those names.")


@dataclasses.dataclass(frozen=True, slots=True)
class MetricsSettings:
    """What is shown to the operator, over HTTP: /metrics, /health, /ready."""

    listen: str = _key(
        "tcp:8199:interface=127.0.0.1", ENDPOINT, "An endpoint description; empty: off."
    )


@dataclasses.dataclass(frozen=True, slots=True)
class LoggingSettings:
    """What is written down. Never a client's address, never a password."""

    level: str = _key("info", choice("debug", "info", "warn", "error"), "The least level logged.")
    format: str = _key("text", choice("text", "json"), "text or json, a line an event.")
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
    timeouts: TimeoutSettings = TimeoutSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    socks5: Socks5Settings = Socks5Settings()
    policy: PolicySettings = PolicySettings()
    metrics: MetricsSettings = MetricsSettings()
    logging: LoggingSettings = LoggingSettings()


class Key(NamedTuple):
    """One key of one section, and what is known of it."""

    section: str
    name: str
    codec: Codec
    doc: str
    default: Any


#: The sections, in the order of the file, and the dataclass of each.
SECTIONS: dict[str, Any] = {f.name: type(f.default) for f in dataclasses.fields(Settings)}
#: Every key there is, in the order of the file: ``KEYS["server", "listen"]``.
KEYS: dict[tuple[str, str], Key] = {
    (name, field.name): Key(
        name, field.name, field.metadata["codec"], field.metadata["doc"], field.default
    )
    for name, section in SECTIONS.items()
    for field in dataclasses.fields(section)
}


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where each value that is no default was found."""

    settings: Settings
    origins: Mapping[tuple[str, str], str]

    def error(self, section: str, name: str, problem: str) -> ConfigError:
        """Return the error about a value that only its user could judge."""
        where = self.origins.get((section, name), "default")
        value = getattr(getattr(self.settings, section), name)
        return _complaint(
            where, KEYS[section, name], KEYS[section, name].codec.show(value), problem
        )


def load(
    path: str | None = None,
    environ: Mapping[str, str] | None = None,
    options: Mapping[tuple[str, str], object] | None = None,
) -> Loaded:
    """Read all sources; a later one replaces a key as a whole. Raises ConfigError.

    ``options`` maps (section, key) to the value given on the command line.
    """
    values: dict[tuple[str, str], Any] = {}
    origins: dict[tuple[str, str], str] = {}

    def take(where: str, section: str, name: str, raw: object) -> None:
        key = KEYS[section, name]
        try:
            values[section, name] = key.codec.decode(raw)
        except ValueError as e:
            raise _complaint(where, key, key.codec.mask(raw), str(e)) from None
        origins[section, name] = where

    if path is not None:
        for section, name, raw in _read_file(path):
            take(path, section, name, raw)
    for variable, section, name, text in _read_environment(environ or {}):
        take(variable, section, name, KEYS[section, name].codec.from_text(text))
    for (section, name), raw in (options or {}).items():
        take("command line", section, name, raw)
    sections = {
        name: make(**{key: value for (of, key), value in values.items() if of == name})
        for name, make in SECTIONS.items()
    }
    return Loaded(Settings(**sections), origins)


def _complaint(where: str, key: Key, shown: str, problem: str) -> ConfigError:
    if key.codec.encode_masked is None and "@" in shown + problem:
        # A URL with a password, perhaps, where none belongs.
        shown, problem = "***", f"{key.codec.expects} expected, without user or password"
    return ConfigError(f"{where}: [{key.section}] {key.name} = {shown}: {problem}")


def _read_file(path: str) -> list[tuple[str, str, object]]:
    try:
        with open(path, "rb") as f:
            document = tomllib.load(f)
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is no TOML: nested too deeply") from None
    except ValueError as e:  # TOMLDecodeError, UnicodeDecodeError, or a number beyond all limits
        raise ConfigError(f"{path}: is no TOML: {e}") from None
    found = []
    for section, table in document.items():
        if section not in SECTIONS:
            raise ConfigError(
                f"{path}: unknown section [{_name(section)}]; there are {', '.join(SECTIONS)}"
            )
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {section} is a section: write [{section}]")
        for name, raw in table.items():
            _insist_known(path, section, name)
            found.append((section, name, raw))
    return found


def _read_environment(environ: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    found = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == FILE_VARIABLE:
            continue
        section, _, name = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
        if section not in SECTIONS:
            raise ConfigError(
                f"{variable}: unknown section; {ENVIRONMENT_PREFIX}<SECTION>_<KEY> is expected, "
                f"with one of {', '.join(SECTIONS).upper()}"
            )
        _insist_known(variable, section, name)
        found.append((variable, section, name, text))
    return found


def _insist_known(where: str, section: str, name: str) -> None:
    if (section, name) not in KEYS:
        known = ", ".join(key for of, key in KEYS if of == section)
        raise ConfigError(f"{where}: unknown key [{section}] {_name(name)}; there are {known}")


def _name(name: str) -> str:
    """Return a name as TOML would have it: quoted where it is no bare key."""
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else toml(name)


def absolute_output(output: str) -> str:
    """Return a log output that survives a change of directory."""
    return output if output in ("stdout", "stderr") else os.path.abspath(output)
