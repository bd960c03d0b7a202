"""The settings written down from the code: the annotated file, the reference, ``--check-config``.

``python -m whatsproxy.reference`` writes etc/whatsproxy.toml and the tables of
docs/configuration.md, docs/http.md and docs/operations.md below the current directory; a test
compares them all with the code.
"""

import textwrap
from pathlib import Path

from whatsproxy.codecs import toml
from whatsproxy.config import ENVIRONMENT_PREFIX, KEYS, SECTIONS
from whatsproxy.http1.answers import ANSWERS
from whatsproxy.reason import Reason
from whatsproxy.settings import Settings

FILE = Path("etc/whatsproxy.toml")
DOCUMENT = Path("docs/configuration.md")
OPERATIONS = Path("docs/operations.md")
HTTP = Path("docs/http.md")
BEGIN, END = "<!-- written by make docs: begin -->\n", "<!-- written by make docs: end -->\n"
_HEADER = """\
# whatsproxy: every setting with its default. Delete what you do not change.
# Environment variables (WHATSPROXY_<SECTION>_<KEY>) and the command line win over this file.
"""


def annotated_file() -> str:
    """Return etc/whatsproxy.toml: every key, its default, its comment."""
    settings = Settings()
    lines = [_HEADER]
    for section, of in SECTIONS.items():
        lines.append(f"# {of.__doc__}\n[{section}]")
        for (owner, name), key in KEYS.items():
            if owner == section:
                lines += [f"# {line}" for line in textwrap.wrap(key.doc, 96)]
                lines.append(_assignment(settings, section, name))
        lines.append("")
    return "\n".join(lines)


def effective(settings: Settings) -> str:
    """Return settings as a configuration file, passwords masked."""
    lines = []
    for section in SECTIONS:
        lines.append(f"[{section}]")
        lines += [_assignment(settings, of, name) for of, name in KEYS if of == section]
        lines.append("")
    return "\n".join(lines)


def tables() -> str:
    """Return the reference as Markdown: a table a section."""
    lines = []
    for section, of in SECTIONS.items():
        lines += [f"### [{section}]", "", str(of.__doc__), ""]
        lines += ["| key | default | | environment |", "|---|---|---|---|"]
        for (owner, name), key in KEYS.items():
            if owner == section:
                default = toml(key.codec.encode(key.default))
                variable = f"{ENVIRONMENT_PREFIX}{section}_{name}".upper()
                text = f"{key.doc} ({key.codec.expects})".replace("|", "\\|")
                lines.append(f"| `{name}` | `{default}` | {text} | `{variable}` |")
        lines.append("")
    return "\n".join(lines)


def reasons() -> str:
    """Return every reason for which a connection ends, as a Markdown table."""
    rows = [
        f"| `{reason.value}` | {reason.text} | {'warn' if reason.error else 'info'} |"
        for reason in Reason
    ]
    return "\n".join(["| reason | | logged as |", "|---|---|---|", *rows, ""])


def answers() -> str:
    """Return every answer of the proxy to an HTTP request that fails, as a Markdown table."""
    rows = [
        f"| {status} | `{reason.value}` | {reason.text.removeprefix('HTTP: ')} | {remedy} |"
        for reason, (status, remedy) in ANSWERS.items()
    ]
    return "\n".join(["| status | reason | | what would help |", "|---|---|---|---|", *rows, ""])


def with_tables(document: str, written: str | None = None) -> str:
    """Return a document with the tables, or what else is ``written``, between the two markers."""
    before, rest = document.split(BEGIN)
    return before + BEGIN + "\n" + (written or tables()) + "\n" + END + rest.split(END)[1]


def _assignment(settings: Settings, section: str, name: str) -> str:
    value = getattr(getattr(settings, section), name)
    return f"{name} = {KEYS[section, name].codec.show(value)}"


if __name__ == "__main__":
    FILE.write_text(annotated_file(), encoding="utf-8")
    http = with_tables(HTTP.read_text(encoding="utf-8"), answers())
    HTTP.write_text(http, encoding="utf-8")
    operations = with_tables(OPERATIONS.read_text(encoding="utf-8"), reasons())
    OPERATIONS.write_text(operations, encoding="utf-8")
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
