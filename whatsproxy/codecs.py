"""How a setting's value is read, checked and shown: one codec a type of value.

``decode`` takes what TOML or the command line gives and raises ValueError with what would be right;
``from_text`` turns an environment variable into such a value; ``encode`` is the way back to TOML.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from whatsproxy.destination import (
    Destination,
    DestinationError,
    parse_destination,
)
from whatsproxy.policy import normalise_pattern


@dataclass(frozen=True, slots=True)
class SocksProxy:
    """A SOCKS5 server and, perhaps, credentials for it (RFC 1929: 1 to 255 bytes each)."""

    server: Destination
    credentials: tuple[bytes, bytes] | None = None

    def url(self, masked: bool = False) -> str:
        """Return it as it is configured; ``masked`` hides the password."""
        if self.credentials is None:
            return f"socks5://{self.server}"
        user, password = (quote(part, safe="") for part in self.credentials)
        return f"socks5://{user}:{'***' if masked else password}@{self.server}"

    def __repr__(self) -> str:
        return f"SocksProxy({self.url(masked=True)!r})"


@dataclass(frozen=True, slots=True)
class Direct:
    """No proxy: this machine resolves and dials."""


Hop = SocksProxy | Direct
SOCKS_PORT = 1080


@dataclass(frozen=True, slots=True)
class Codec:
    """One type of value. ``expects`` says in words what is right."""

    expects: str
    decode: Callable[[object], Any]
    encode: Callable[[Any], object] = lambda value: value
    from_text: Callable[[str], object] = lambda text: text
    #: The same as encode, with secrets hidden; there is one where a value may hold secrets.
    encode_masked: Callable[[Any], object] | None = None

    def show(self, value: Any) -> str:
        """Return a decoded value as TOML, secrets masked."""
        return toml((self.encode_masked or self.encode)(value))

    def mask(self, raw: object) -> str:
        """Return a value that could not be decoded as TOML: nothing of it, if it may be secret."""
        return "***" if self.encode_masked else toml(raw)


#: Control characters that JSON leaves as they are and TOML does not.
_UNPRINTED = re.compile("[\x7f-\x9f\u2028\u2029]")


def toml(value: object) -> str:
    """Return a value of a configuration file as TOML (JSON's strings are TOML's)."""
    if isinstance(value, dict):
        pairs = [f"{toml(key)} = {toml(item)}" for key, item in value.items()]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(item) for item in value)}]"
    if isinstance(value, str):
        quoted = json.dumps(value, ensure_ascii=False)
        return _UNPRINTED.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, int) and value.bit_length() > 128:
        return "(a huge number)"
    return str(value)


def list_of(
    expects: str,
    one: Callable[[object], Any],
    *,
    empty: bool = True,
    from_item: Callable[[str], object] = str,
) -> Codec:
    """Return the codec of a list, each item of which ``one`` decodes."""

    def decode(raw: object) -> tuple[Any, ...]:
        if not isinstance(raw, list | tuple):
            raise ValueError(f"a list is expected: {expects}")
        if not raw and not empty:
            raise ValueError(f"must not be empty: {expects} is expected")
        values = []
        for number, item in enumerate(raw, 1):
            try:
                values.append(one(item))
            except ValueError as e:
                raise ValueError(f"item {number}: {e}" if len(raw) > 1 else str(e)) from None
        return tuple(values)

    return Codec(
        expects,
        decode,
        encode=lambda value: [_plain(item) for item in value],
        from_text=lambda text: [
            from_item(item.strip()) for item in text.split(",") if item.strip()
        ],
    )


def _plain(item: object) -> object:
    return str(item) if isinstance(item, Destination) else item


def text_of(raw: object) -> str:
    """Insist on a string."""
    if not isinstance(raw, str):
        raise ValueError("a string is expected")
    return raw


def _number_or_text(text: str) -> object:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def integer(low: int, high: int) -> Codec:
    """Return the codec of an integer in a range."""
    expects = f"an integer from {low} to {high}"

    def decode(raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int) or not low <= raw <= high:
            raise ValueError(f"{expects} is expected")
        return raw

    return Codec(expects, decode, from_text=_number_or_text)


def seconds(*, zero: bool = False) -> Codec:
    """Return the codec of a duration of at most a week; ``zero`` allows none at all."""
    expects = f"seconds, {'0 or more' if zero else 'more than 0'}, at most 604800"

    def decode(raw: object) -> float:
        if isinstance(raw, bool) or not isinstance(raw, int | float):
            raise ValueError(f"{expects} are expected")
        if not 0 <= raw <= 604_800 or (raw == 0 and not zero):  # NaN is not, either
            raise ValueError(f"{expects} are expected")
        return float(raw)

    return Codec(expects, decode, from_text=_number_or_text)


def _decode_boolean(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise ValueError("true or false is expected")
    return raw


def choice(*choices: str) -> Codec:
    """Return the codec of one word out of several."""
    named = ", ".join(word or '""' for word in choices)
    expects = f"one of {named}"

    def decode(raw: object) -> str:
        if raw not in choices:
            raise ValueError(f"{expects} is expected")
        return str(raw)

    return Codec(expects, decode)


def _decode_output(raw: object) -> str:
    text = text_of(raw)
    if not text or "\0" in text:
        raise ValueError("stdout, stderr or the path of a file is expected")
    return text


def _decode_address(raw: object, example: str = "g.whatsapp.net:5222") -> Destination:
    text = text_of(raw)
    try:
        plain = parse_destination(text.removeprefix("tls://"))
        return plain.over_tls() if text.startswith("tls://") else plain
    except DestinationError as e:
        raise ValueError(f"{e}; {example} would be right") from None


def _decode_web(raw: object) -> Destination:
    web = _decode_address(raw, "127.0.0.1:8080")
    if web.tls:
        raise ValueError("clients' own TLS goes to it: 127.0.0.1:8080 would be right")
    return web


def _optional(codec: Codec) -> Codec:
    """Add the word ``refuse``, alone in the list, which decodes to None."""

    def decode(raw: object) -> object:
        return None if raw in (["refuse"], ("refuse",)) else codec.decode(raw)

    return Codec(
        f'{codec.expects}, or ["refuse"]',
        decode,
        encode=lambda value: ["refuse"] if value is None else codec.encode(value),
        from_text=codec.from_text,
    )


def _decode_pattern(raw: object) -> str:
    if raw == "*":
        return "*"
    try:
        return normalise_pattern(text_of(raw))
    except DestinationError as e:
        raise ValueError(f"{e}; whatsapp.net or *.whatsapp.net would be right") from None


def _decode_port(raw: object) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or not 1 <= raw <= 65535:
        raise ValueError(f"{toml(raw)} is no port from 1 to 65535")
    return raw


def decode_proxy(raw: object) -> Hop:
    """Parse ``direct`` or ``socks5://[user:password@]host[:port]``; socks5h is the same here."""
    text = text_of(raw)
    if text == "direct":
        return Direct()
    found = re.fullmatch(r"socks5h?://(?:([^@/]*)@)?([^@/]+)/?", text)
    if found is None:
        raise ValueError("socks5://[user:password@]host[:port] is expected")
    try:
        server = parse_destination(found[2], SOCKS_PORT)
    except DestinationError:  # whose text would show a password that stands in the wrong place
        raise ValueError("host[:port] of socks5://[user:password@]host[:port] is wrong") from None
    if found[1] is None:
        return SocksProxy(server)
    user, colon, password = found[1].partition(":")
    credentials = unquote_to_bytes(user), unquote_to_bytes(password)
    if not colon or not all(1 <= len(part) <= 255 for part in credentials):
        raise ValueError("user and password, percent-encoded, have 1 to 255 bytes each (RFC 1929)")
    return SocksProxy(server, credentials)


def _encode_proxies(masked: bool) -> Callable[[Iterable[Hop]], list[str]]:
    return lambda value: [p.url(masked) if isinstance(p, SocksProxy) else "direct" for p in value]


def _proxies() -> Codec:
    plain = list_of("socks5:// URLs or direct", decode_proxy)
    return Codec(
        plain.expects, plain.decode, _encode_proxies(False), plain.from_text, _encode_proxies(True)
    )


BOOLEAN = Codec(
    "true or false",
    _decode_boolean,
    from_text=lambda text: {"true": True, "false": False}.get(text, text),
)
OUTPUT = Codec("stdout, stderr or a path", _decode_output)
ADDRESSES = list_of("host:port", _decode_address, empty=False)
OPTIONAL_ADDRESS = Codec(
    "host:port, or nothing",
    lambda raw: None if raw == "" else _decode_web(raw),
    encode=lambda value: "" if value is None else str(value),
)
OPTIONAL_ADDRESSES = _optional(list_of("host:port", _decode_address))
ALLOW = list_of("names", _decode_pattern)
PORTS = list_of("ports", _decode_port, from_item=_number_or_text)
PROXIES = _proxies()
