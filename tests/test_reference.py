import json
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.config_examples import EXAMPLES, variable, whole_file
from tests.config_tables import Name
from whatsproxy.config import KEYS, SECTIONS, load
from whatsproxy.reason import Reason
from whatsproxy.reference import (
    BEGIN,
    DOCUMENT,
    END,
    FILE,
    HTTP,
    annotated_file,
    answers,
    effective,
    reasons,
    tables,
    with_tables,
)
from whatsproxy.settings import Settings

#: trial changes the directory; the files are found beside the tests.
ROOT = Path(__file__).parent.parent


def loaded(text: str, environ: dict[str, str] | None = None) -> Settings:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        return load(f.name, environ).settings


class FilesTests(SynchronousTestCase):
    """What is in the repository is what the code says: else run ``make docs``."""

    def test_annotated_file(self) -> None:
        text = (ROOT / FILE).read_text(encoding="utf-8")
        self.assertEqual(text, annotated_file())
        self.assertEqual(load(str(ROOT / FILE)).settings, Settings())

    def test_document(self) -> None:
        text = (ROOT / DOCUMENT).read_text(encoding="utf-8")
        self.assertIn(tables(), text)
        self.assertEqual(with_tables(text), text)

    def test_operations(self) -> None:
        text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
        self.assertEqual(with_tables(text, reasons()), text)
        for reason in Reason:
            self.assertIn(f"| `{reason.value}` | {reason.text} |", text)

    def test_http(self) -> None:
        text = (ROOT / HTTP).read_text(encoding="utf-8")
        self.assertEqual(with_tables(text, answers()), text)


class AnnotatedFileTests(SynchronousTestCase):
    def test_every_key_with_its_default_and_its_comment(self) -> None:
        document = tomllib.loads(annotated_file())
        self.assertEqual(list(document), list(SECTIONS))
        words = " ".join(annotated_file().replace("\n# ", " ").split())
        for (section, name), key in KEYS.items():
            value = key.codec.decode(document[section][name])
            self.assertEqual(value, getattr(getattr(Settings(), section), name))
            self.assertIn(key.doc, words)
        self.assertEqual(sum(map(len, document.values())), len(KEYS))

    def test_lines_fit(self) -> None:
        comments = [line for line in annotated_file().splitlines() if line.startswith("#")]
        self.assertLessEqual(max(map(len, comments)), 100)


class TablesTests(SynchronousTestCase):
    def test_every_key_has_its_row(self) -> None:
        rows = [line for line in tables().splitlines() if line.startswith("| `")]
        self.assertEqual(len(rows), len(KEYS))
        for row, ((section, name), key) in zip(rows, KEYS.items(), strict=True):
            for cell in (f"| `{name}` |", key.doc, key.codec.expects, variable(section, name)):
                self.assertIn(cell, row)

    def test_what_is_around_the_markers_stays(self) -> None:
        document = with_tables(f"before\n{BEGIN}old{END}behind\n")
        self.assertEqual(document, f"before\n{BEGIN}\n{tables()}\n{END}behind\n")
        self.assertEqual(with_tables(document), document)


def masked(settings: Settings) -> Settings:
    """Return settings with the values of fields as they are shown."""
    changes = {
        name: tuple((field, "***") for field, _ in getattr(settings.http, name))
        for name in ("set_request", "set_response")
    }
    return replace(settings, http=replace(settings.http, **changes))


#: A decodable raw value of each key that may be shown in full (no password).
_VALUES: dict[Name, st.SearchStrategy[Any]] = {
    **{key: st.sampled_from(example.decoded[1:]) for key, example in EXAMPLES.items()},
    **{key: st.floats(0.001, 604_800) for key in KEYS if key[0] == "timeouts"},
    ("logging", "output"): st.text(min_size=1).filter(lambda text: "\0" not in text),
    ("server", "max_connections"): st.integers(1, 10_000_000),
    ("policy", "allow_ports"): st.lists(st.integers(1, 65535), max_size=4),
}


class EffectiveTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        self.assertEqual(loaded(effective(Settings())), Settings())

    def test_every_key(self) -> None:
        settings = loaded(whole_file())
        shown = tomllib.loads(effective(settings))
        self.assertEqual(shown["socks5"]["proxies"], ["socks5://us%40er:***@h:99", "direct"])
        # But for the secrets, which are not to be seen, it is the same configuration.
        without = whole_file().replace("us%40er:p%3Aw@", "")
        self.assertEqual(loaded(effective(loaded(without))), masked(loaded(without)))
        self.assertNotEqual(loaded(without), masked(loaded(without)))

    def test_every_source(self) -> None:
        for (section, name), example in EXAMPLES.items():
            settings = loaded("", {variable(section, name): example.environment})
            self.assertEqual(loaded(effective(settings)), masked(settings), (section, name))

    @given(st.fixed_dictionaries({}, optional=_VALUES))
    def test_anything(self, values: dict[Name, Any]) -> None:
        raw = {key: KEYS[key].codec.encode(value) for key, value in values.items()}
        settings = load(options=raw).settings
        shown = effective(settings)
        self.assertEqual(loaded(shown), masked(settings), json.dumps(shown))
