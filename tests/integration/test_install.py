"""``twistd --help`` lists whatsproxy however it was installed, or not."""

import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from tests.integration.programs import ROOT, TWISTD, Program, ProgramTestCase, environment, missing

#: What a source tree needs to be built; copied, because building writes into it.
TREE = ["setup.cfg", "pyproject.toml", "README.md", "LICENSE", "whatsproxy", "twisted"]


class PluginTests(ProgramTestCase):
    """Each in a fresh virtual environment, which borrows nothing but our dependencies."""

    def setUp(self) -> None:
        super().setUp()
        self.environment = self.directory / "venv"
        venv = self.start(sys.executable, "-m", "venv", "--without-pip", self.environment)
        self.assertEqual(0, venv.wait(), venv.output())
        self.python = self.environment / "bin" / "python"
        # A directory named in a .pth file is importable, but its own .pth files, such as that of
        # our editable installation, are not obeyed.
        (packages,) = self.environment.glob("lib/python*/site-packages")
        (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
        self.tree = self.directory / "tree"
        self.tree.mkdir()
        for name in TREE:
            source, target = ROOT / name, self.tree / name
            if source.is_dir():
                shutil.copytree(
                    source, target, ignore=shutil.ignore_patterns("__pycache__", "*.cache")
                )
            elif source.exists():
                shutil.copy(source, target)

    def run_python(self, *argv: str | Path, path: str = "") -> Program:
        """Run the environment's Python to its end; ``path`` is its PYTHONPATH."""
        program = self.start(self.python, *argv, env=environment(PYTHONPATH=path))
        self.assertEqual(0, program.wait(60), program.output())
        return program

    def pip_install(self, *options: str) -> None:
        if find_spec("wheel") is None and not _setuptools_makes_wheels():
            missing("a setuptools that builds wheels by itself (70.1 or newer)")
        self.run_python(
            *("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"),
            *("--no-deps", "--no-build-isolation", "--ignore-installed", *options, self.tree),
        )

    def works(self, path: str = "") -> None:
        """Nothing is missing that only running it would show."""
        shown = self.run_python(TWISTD, "whatsproxy", "--check-config", path=path)
        self.assertIn("[server]", shown.output("stdout"))

    def listed(self, path: str = "") -> bool:
        text = self.run_python(TWISTD, "--help", path=path).output("stdout")
        self.assertIn("web ", text, "twistd lists its own plugins")
        return "whatsproxy " in text

    def test_uninstalled(self) -> None:
        self.assertFalse(self.listed(), "the environment is not as bare as it should be")
        self.assertTrue(self.listed(path=str(self.tree)))
        self.works(path=str(self.tree))

    def test_installed(self) -> None:
        self.pip_install()
        shutil.rmtree(self.tree)
        self.assertTrue(self.listed())
        self.works()

    def test_installed_editable(self) -> None:
        self.pip_install("--editable")
        self.assertTrue(self.listed())
        self.works()
        shutil.rmtree(self.tree)
        self.assertFalse(self.listed(), "it was a copy, not the tree, that was listed")


def _setuptools_makes_wheels() -> bool:
    return find_spec("setuptools.command.bdist_wheel") is not None
