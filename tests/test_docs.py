"""The documentation names what there is: modules, tests, commands."""

import importlib
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


class DocumentTests(SynchronousTestCase):
    def test_architecture_names_every_module(self) -> None:
        text = text_of("docs/architecture.md")
        for path in (ROOT / "whatsproxy").glob("*.py"):
            if path.stem != "__init__":
                self.assertIn(f"`{path.stem}`", text)

    def test_every_promise_names_a_test_that_exists(self) -> None:
        promises = text_of("docs/security.md").split("## What it does not promise")[0]
        rows = [row for row in promises.splitlines() if row.startswith("| ")][1:]
        self.assertGreater(len(rows), 10)
        for row in rows:
            names = re.findall(r"`((?:integration\.)?test_[A-Za-z_.0-9]+)`", row)
            self.assertTrue(names, f"no test is named: {row}")
            for name in names:
                self.assertExists(name)

    def assertExists(self, name: str) -> None:
        parts = name.split(".")
        size = 2 if parts[0] == "integration" else 1
        thing = importlib.import_module(".".join(["tests", *parts[:size]]))
        for part in parts[size:]:
            self.assertTrue(hasattr(thing, part), f"there is no {name}")
            thing = getattr(thing, part)

    def test_links_lead_somewhere(self) -> None:
        for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
            for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
                self.assertTrue((document.parent / target).exists(), f"{document.name}: {target}")

    def test_the_readme_begins_with_the_two_commands(self) -> None:
        start = text_of("README.md")[:300]
        self.assertLess(start.index("make run"), start.index("make test"))
        for target in ("run", "test", "lint", "bench", "docs"):
            self.assertRegex(text_of("Makefile"), rf"(?m)^{target}:")
