"""What holds of every configuration, wherever it comes from."""

import re
from collections.abc import Callable, Mapping

import h11
from twisted.internet.task import Clock

from tests.fuzz.laws import choices, insist, insist_equal
from tests.fuzz.target import scratch
from whatsproxy.checks import check as check_together
from whatsproxy.codecs import toml
from whatsproxy.config import KEYS, SECTIONS, ConfigError, Loaded, load
from whatsproxy.factory import ProxyFactory, rules_of
from whatsproxy.reference import effective
from whatsproxy.settings import Settings

#: A password that no error may show: it stands in a URL, where passwords belong.
SECRET = "hunter2"
_IN_PLACE = re.compile(rf"socks5h?://[^\s\"',]*:{SECRET}@")


def written(name: str, text: bytes) -> str:
    """Write a file; return where it is."""
    path = scratch() / name
    path.write_bytes(text)
    return str(path)


def check_source(source: str, read: Callable[[], Loaded]) -> None:
    """Insist that a source gives settings that stand, or an error for the operator."""
    secret = source.count(SECRET) == len(_IN_PLACE.findall(source)) > 0
    loaded = _checked(read, secret)
    if loaded is not None:
        _check_settings(loaded.settings, secret)
        _checked(lambda: check_together(loaded), secret)


def _checked(take: Callable[[], Loaded | None], secret: bool) -> Loaded | None:
    """Return what is taken; None where it is refused, in a line that tells no secret."""
    try:
        return take()
    except ConfigError as e:
        text = str(e)
        insist(text and "\n" not in text and "\r" not in text and "\x1b" not in text, repr(text))
        insist(not secret or SECRET not in text, "shows the password:", text)
        return None


def _check_settings(settings: Settings, secret: bool) -> None:
    changed = {}
    for (section, name), key in KEYS.items():
        value = getattr(getattr(settings, section), name)
        if value != key.default:
            changed[section, name] = value
            kinds = {type(value), type(key.default), type(None)}
            insist(len(kinds) <= 2, "another type than the default's:", name, value)
    # Where it stands in no URL, a path may be called so.
    if secret and SECRET not in repr({k: v for k, v in changed.items() if k[0] != "socks5"}):
        shown = "".join(KEYS[name].codec.show(value) for name, value in changed.items())
        insist(SECRET not in shown + repr(settings), "shows the password:", shown)
    document = _document(changed)
    chosen = choices(document.encode("utf-8", "surrogateescape"))
    if chosen.random() < 0.1:
        ProxyFactory(Clock(), settings)
        _check_fields(settings)
    try:
        again = load(written("again.toml", document.encode()))
    except UnicodeEncodeError:
        return  # a path in the environment need not be UTF-8, as a file has to be
    insist_equal(again.settings, settings, "other settings when written down")
    if chosen.random() < 0.1:
        shown = effective(settings)
        masked = load(written("effective.toml", shown.encode()))
        insist_equal(effective(masked.settings), shown, "shown otherwise when read again")


def _document(changed: Mapping[tuple[str, str], object]) -> str:
    """Return a file with these settings, secrets and all."""
    lines = []
    for section in SECTIONS:
        lines.append(f"[{section}]")
        for (of, name), value in changed.items():
            if of == section:
                lines.append(f"{name} = {toml(KEYS[of, name].codec.encode(value))}")
    return "\n".join(lines)


def _check_fields(settings: Settings) -> None:
    """What is put into each message can stand there."""
    rules = rules_of(settings.http)
    for changes in (rules.for_requests, rules.for_responses):
        fields = [(b"Host", b"a"), (b"Via", b"1.1 " + (rules.via or b"x")), *changes.added]
        message = h11.Request(method=b"GET", target=b"/", headers=fields)
        insist(h11.Connection(h11.CLIENT).send(message).count(b"\r\n") == len(fields) + 2, fields)
