import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
#: Imports the modules that it is told to, one after the other, and says which installs a reactor.
PROGRAM = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    if "twisted.internet.reactor" in sys.modules:
        sys.exit(f"{name} installs a reactor")
    print(name)
"""


def modules() -> list[str]:
    """Return every module of the package, and the plugin's."""
    files = [*(ROOT / "whatsproxy").rglob("*.py"), ROOT / "twisted/plugins/whatsproxy_plugin.py"]
    names = (".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files)
    return sorted(name.removesuffix(".__init__") for name in names)


class ImportTests(SynchronousTestCase):
    def imported(self, *names: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *names],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout.split(), list(names))

    def test_no_module_installs_a_reactor(self) -> None:
        names = modules()
        self.assertIn("whatsproxy.protocols.sniffer", names)
        self.imported(*names)

    def test_the_plugin_by_itself(self) -> None:
        # What every twistd and trial on the machine imports, whoever runs it.
        self.imported("twisted.plugins.whatsproxy_plugin")
