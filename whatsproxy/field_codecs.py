"""Settings about HTTP fields: names, values, and which of them the operator may not touch."""

import re

from whatsproxy.codecs import Codec, list_of, text_of
from whatsproxy.http1.fields import RESERVED

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?|")


def _decode_name(raw: object) -> str:
    name = text_of(raw)
    if _TOKEN.fullmatch(name) is None:
        raise ValueError("the name of a field is expected, such as X-Name")
    # CGI knows no difference between the two, so that an origin may not.
    real = name.lower().replace("_", "-")
    if real.encode() in RESERVED or real.startswith("proxy-"):
        raise ValueError(f"{name} frames, routes or belongs to one connection: it is not yours")
    return name


def _decode_value(name: str, raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"the value of {name} is to be a string")
    value = raw
    if _VALUE.fullmatch(value) is None:
        raise ValueError(f"the value of {name} is to be visible ASCII, spaces only within")
    return value


def _decode_fields(raw: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(raw, dict):
        raise ValueError('{"X-Name" = "value"} is expected')
    fields = tuple((_decode_name(name), _decode_value(name, value)) for name, value in raw.items())
    if any(name.lower() == "via" for name, _ in fields):
        raise ValueError("Via has a key of its own: [http] via")
    if len({name.lower() for name, _ in fields}) < len(fields):
        raise ValueError("a field stands there twice; names are the same in upper and lower case")
    return fields


def _fields_from_text(text: str) -> object:
    """Read ``X-Name=value,Other=value``; a value with a comma needs the file."""
    pairs = [item.strip().partition("=") for item in text.split(",") if item.strip()]
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    if not all(equals for _, equals, _ in pairs) or len(fields) < len(pairs):
        return text  # which is none, and whose error says what is right
    return fields


def _decode_pseudonym(raw: object) -> str:
    name = text_of(raw)
    if name and _TOKEN.fullmatch(name) is None:
        raise ValueError("a word that is no secret is expected, such as gateway1")
    return name


FIELD_NAMES = list_of("names of fields", _decode_name)
FIELDS = Codec(
    '{"X-Name" = "value"}',
    _decode_fields,
    encode=dict,
    from_text=_fields_from_text,
    encode_masked=lambda value: {name: "***" for name, _ in value},  # a key to somewhere, perhaps
)
PSEUDONYM = Codec("a word, or nothing", _decode_pseudonym)
