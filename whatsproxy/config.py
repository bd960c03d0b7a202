"""Where the settings may come from: defaults < file < environment < command line.

The file is TOML, a variable of the environment is ``WHATSPROXY_<SECTION>_<KEY>``. Every error says
where the value stands, what it is, and what would be right.
"""

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

from whatsproxy.codecs import Codec, toml
from whatsproxy.settings import Settings

ENVIRONMENT_PREFIX = "WHATSPROXY_"
#: Names the configuration file where no command line does.
FILE_VARIABLE = "WHATSPROXY_CONFIG"


class ConfigError(Exception):
    """One line for the operator: where, which key, which value, and what would be right."""


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
    for section, table in _in_full(document).items():
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


def _in_full(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document in which [[listener]] is [[server.listener]], for which it is short."""
    listeners = document.pop("listener", None)
    server = document.get("server", {})
    if listeners is None or not isinstance(server, dict):
        return document
    in_full = server.get("listener", [])
    if not isinstance(in_full, list):
        listeners = in_full  # wrong, and to be told so
    elif isinstance(listeners, list):
        listeners = [*in_full, *listeners]
    return {**document, "server": {**server, "listener": listeners}}


def _read_environment(environ: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    found = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == FILE_VARIABLE:
            continue
        section, _, name = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
        if section not in SECTIONS:
            raise ConfigError(
                f"{_name(variable)}: unknown section; {ENVIRONMENT_PREFIX}<SECTION>_<KEY> is "
                f"expected, with one of {', '.join(SECTIONS).upper()}"
            )
        _insist_known(_name(variable), section, name)
        found.append((variable, section, name, text))
    return found


def _insist_known(where: str, section: str, name: str) -> None:
    if (section, name) not in KEYS:
        known = ", ".join(key for of, key in KEYS if of == section)
        shown = "***" if "@" in name else _name(name)  # a URL with a password, perhaps
        raise ConfigError(f"{where}: unknown key [{section}] {shown}; there are {known}")


def _name(name: str) -> str:
    """Return a name as TOML would have it: quoted where it is no bare key."""
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else toml(name)


def absolute_output(output: str) -> str:
    """Return a log output that survives a change of directory."""
    return output if output in ("stdout", "stderr") else os.path.abspath(output)
