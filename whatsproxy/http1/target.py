"""Where a request wants to go: its target, and the Host that must say the same (RFC 9112 3)."""

import re
from dataclasses import dataclass
from functools import lru_cache

from whatsproxy.destination import Destination, DestinationError, parse_destination
from whatsproxy.http1.errors import BadMessageError, NotCarriedError

_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)(.*)")
#: RFC 3986 3.2.3: nothing behind the colon is the default port, too.
_EMPTY_PORT = re.compile(r"(?:\[[^\[\]]*\]|[^:]*):")
#: Some WebSocket clients ask a proxy for ws:, which is http: with an Upgrade (RFC 6455 3).
_PORTS = {b"http": 80, b"ws": 80, b"https": 443, b"wss": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """An absolute-form target: where it is, and what is asked for there.

    ``authority`` is as the client spelled it, which the Host field has to be; ``path`` is the
    origin-form, query included.
    """

    destination: Destination
    authority: bytes
    path: bytes


def parse_absolute(method: bytes, target: bytes) -> Target:
    """Parse an absolute-form target (RFC 9112 3.2.2). Raises MessageError."""
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise BadMessageError("the target is no absolute URL; this is a proxy")
    scheme, authority, path = found[1].lower(), found[2], found[3]
    if scheme not in _PORTS:
        raise NotCarriedError("no scheme but http and https is carried")
    if b"#" in path:
        raise BadMessageError("the target has a fragment")
    if not path:
        path = b"*" if method == b"OPTIONS" else b"/"
    elif path.startswith(b"?"):
        path = b"/" + path
    destination = _parse(authority, _PORTS[scheme])
    if _PORTS[scheme] == _PORTS[b"https"]:
        destination = destination.over_tls()
    return Target(destination, authority, path)


def parse_host(value: bytes, path: bytes) -> Target:
    """Return what an origin-form request means that came in TLS: the same, at its Host, in TLS.

    Raises BadMessageError.
    """
    return Target(_parse(value, _PORTS[b"https"]).over_tls(), value, path)


def parse_authority(target: bytes) -> Destination:
    """Parse the target of CONNECT: a host and a port (RFC 9112 3.2.3). Raises BadMessageError."""
    return _parse(target, None)


def check_host(
    values: list[bytes], destination: Destination, default_port: int | None = None
) -> None:
    """Insist that the Host field, if there is one, names the target. Raises BadMessageError."""
    if default_port is None:
        default_port = _PORTS[b"https" if destination.tls else b"http"]
    for value in values:
        named = _parse(value, default_port)
        if (named.host, named.port) != (destination.host, destination.port):
            raise BadMessageError("the Host field and the target disagree")


@lru_cache(maxsize=1024)  # clients ask for the same again and again; what fails is not kept
def _parse(authority: bytes, default_port: int | None) -> Destination:
    try:
        text = authority.decode("ascii")
        if default_port is not None and _EMPTY_PORT.fullmatch(text):
            text = text[:-1]
        return parse_destination(text, default_port)
    except (DestinationError, UnicodeDecodeError):
        raise BadMessageError("the target, or the Host field, is no HOST:PORT") from None
