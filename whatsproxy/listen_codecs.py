"""Settings about who may come, and by which door: endpoints, listeners, networks of clients."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from whatsproxy.codecs import Codec, list_of, text_of
from whatsproxy.networks import NetworkError, is_loopback, number_of, parse_network
from whatsproxy.route import EVERY_KIND
from whatsproxy.sniff import Kind

#: In front of an endpoint whose connections begin with a PROXY protocol header.
PROXY_PREFIX = "haproxy:"
#: In front of the path of a list of networks.
FILE_PREFIX = "file:"


@dataclass(frozen=True, slots=True)
class Listener:
    """Where clients connect, and what they may do there.

    ``kinds`` are those that are served; any other is answered like a stranger. ``allow`` are the
    networks of clients, or files of them; empty means everybody.
    """

    endpoint: str
    kinds: frozenset[Kind] = EVERY_KIND
    proxy_protocol: bool = False
    allow: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether only this host can connect to it, and speaks for nobody else."""
        return not self.proxy_protocol and _is_local(self.endpoint)


def _is_local(endpoint: str) -> bool:
    kind, _, rest = endpoint.partition(":")
    if kind == "unix":
        return True
    interfaces = [a.removeprefix("interface=") for a in _arguments(rest) if "interface=" in a]
    try:
        # Of several the last is taken.
        return kind in ("tcp", "tcp6") and any(is_loopback(number_of(i)) for i in interfaces[-1:])
    except ValueError:
        return False


def _arguments(rest: str) -> list[str]:
    r"""Split an endpoint's arguments, in which ``\:`` is a colon."""
    return [part.replace("\0", ":") for part in rest.replace("\\:", "\0").split(":")]


def _decode_endpoint(raw: object) -> str:
    """Check what Twisted does not: that the port of a TCP endpoint is one."""
    text = text_of(raw)
    if not text.strip():
        raise ValueError("an endpoint description such as tcp6:8443 is expected")
    kind, _, rest = text.partition(":")
    if kind not in ("tcp", "tcp6", "unix", "systemd"):
        raise ValueError(f"{kind!r} is no kind of endpoint; there are tcp, tcp6, unix and systemd")
    if kind in ("tcp", "tcp6"):
        arguments = rest.split(":")
        named = [a.removeprefix("port=") for a in arguments if a.startswith("port=")]
        port = (named or arguments)[0]
        if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65535):
            raise ValueError(f"{port!r} is no port from 0 to 65535; {kind}:8443 would be right")
    if kind == "unix" and not rest:
        raise ValueError("a path is expected behind unix:")
    return text


def _decode_door(raw: object) -> str:
    """Check an endpoint for clients, perhaps with ``haproxy:`` in front of it."""
    text = text_of(raw)
    plain = text.removeprefix(PROXY_PREFIX)
    prefix = text[: len(text) - len(plain)]
    return prefix + _decode_endpoint(plain)


def listener_at(description: str) -> Listener:
    """Return the listener that a short description stands for."""
    plain = description.removeprefix(PROXY_PREFIX)
    return Listener(plain, proxy_protocol=plain != description)


_LISTENER_KEYS = ("endpoint", "kinds", "proxy_protocol", "allow")


def _decode_listener(raw: object) -> Listener:
    if not isinstance(raw, dict) or "endpoint" not in raw:
        raise ValueError('{endpoint = "tcp6:8443"} is expected, with kinds, proxy_protocol, allow')
    unknown = ", ".join(repr(key) for key in raw if key not in _LISTENER_KEYS)
    if unknown:
        raise ValueError(f"{unknown} is unknown; there are {', '.join(_LISTENER_KEYS)}")
    short = listener_at(_decode_door(raw["endpoint"]))
    believed = raw.get("proxy_protocol", short.proxy_protocol)
    if not isinstance(believed, bool):
        raise ValueError("proxy_protocol: true or false is expected")
    if short.proxy_protocol and not believed:
        raise ValueError(f"endpoint says {PROXY_PREFIX} and proxy_protocol says false")
    kinds = KINDS.decode(raw.get("kinds", [kind.value for kind in Kind]))
    allow = NETWORK_SOURCES.decode(raw.get("allow", []))
    return Listener(short.endpoint, frozenset(kinds), believed, allow)


def _encode_listener(listener: Listener) -> dict[str, object]:
    return {
        "endpoint": listener.endpoint,
        "kinds": [kind.value for kind in Kind if kind in listener.kinds],
        "proxy_protocol": listener.proxy_protocol,
        "allow": list(listener.allow),
    }


def _decode_kind(raw: object) -> Kind:
    try:
        return Kind(text_of(raw))
    except ValueError:
        raise ValueError(f"one of {', '.join(kind.value for kind in Kind)} is expected") from None


def _decode_network(raw: object) -> str:
    text = text_of(raw).strip().lower()
    try:
        parse_network(text)
    except NetworkError as e:
        raise ValueError(str(e)) from None
    return text


def _decode_source(raw: object) -> str:
    text = text_of(raw)
    if not text.startswith(FILE_PREFIX):
        return _decode_network(raw)
    path = text.removeprefix(FILE_PREFIX)
    if not path.isprintable() or not path:
        raise ValueError(f"a path is expected behind {FILE_PREFIX}")
    return FILE_PREFIX + os.path.expanduser(path)


def at_paths(sources: tuple[str, ...], absolute: Callable[[str], str]) -> tuple[str, ...]:
    """Return sources of networks with the paths of their files made ``absolute``."""
    return tuple(
        FILE_PREFIX + absolute(source.removeprefix(FILE_PREFIX))
        if source.startswith(FILE_PREFIX)
        else source
        for source in sources
    )


KINDS = list_of("kinds of connections", _decode_kind, empty=False)
NETWORKS = list_of("networks such as 192.0.2.0/24", _decode_network)
NETWORK_SOURCES = list_of("networks, or file:PATH with one a line", _decode_source)
ENDPOINT = Codec(
    "an endpoint description, or nothing",
    lambda raw: "" if raw == "" else _decode_endpoint(raw),
)
DOORS = list_of("endpoint descriptions", _decode_door)
_LISTENERS = list_of("[[listener]]", _decode_listener)
LISTENERS = Codec(
    "listeners: endpoint[, kinds, proxy_protocol, allow]",
    _LISTENERS.decode,
    encode=lambda value: [_encode_listener(listener) for listener in value],
    # Short: descriptions alone.
    from_text=lambda text: [{"endpoint": item.strip()} for item in text.split(",") if item.strip()],
)
