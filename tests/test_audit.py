"""The part of make lint that asks for known vulnerabilities: it fails for them, and for no less."""

import http.server
import importlib.util
import json
import threading
from importlib import metadata
from subprocess import CompletedProcess, TimeoutExpired
from typing import Any
from unittest.mock import patch

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.audit import SERVICE, Finding, UnreachedError, ask, audit, finding_of, installed_with
from tests.peers import LOOPBACK

VERSIONS = {"a": "1.0", "b": "2.0"}


class Database(http.server.BaseHTTPRequestHandler):
    """OSV's API, with one entry."""

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        package = question["package"]
        affected = {
            "package": package,
            "versions": ["1.0"],
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}],
        }
        entry = {"id": "TEST-1", "modified": "2026-01-01T00:00:00Z", "affected": [affected]}
        answer = json.dumps({"vulns": [entry]} if package["name"] == "a" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class AskTests(SynchronousTestCase):
    """The real pip-audit, with a database of our own."""

    def test_it(self) -> None:
        if importlib.util.find_spec("pip_audit") is None:
            raise SkipTest("pip-audit is missing")
        server = http.server.ThreadingHTTPServer((LOOPBACK, 0), Database)
        self.addCleanup(server.server_close)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.addCleanup(server.shutdown)
        found = ask("osv", VERSIONS, "--osv-url", f"http://{LOOPBACK}:{server.server_port}/")
        self.assertEqual(found, Finding(2, ["a 1.0: TEST-1, mended in 1.1"]))

    def test_no_answer(self) -> None:
        """Pip-audit then ends with a traceback and the status that it has for findings, too."""
        for outcome, why in (
            (
                {"return_value": CompletedProcess([], 1, "", "Traceback\n  x\nno route\n")},
                "no route",
            ),
            ({"return_value": CompletedProcess([], 1, "", "")}, "no answer"),
            ({"side_effect": TimeoutExpired([], SERVICE)}, "no answer within 30 s"),
        ):
            with patch("subprocess.run", **outcome), self.assertRaises(UnreachedError) as caught:
                ask("osv", VERSIONS)
            self.assertEqual(str(caught.exception), why)


class AuditTests(SynchronousTestCase):
    def check(self, *answers: Finding | Exception) -> tuple[int, str]:
        """Return the status and the text that these services' answers lead to."""
        services = dict(zip("xyz", answers, strict=False))

        def answer(service: str, versions: dict[str, str]) -> Finding:
            self.assertIs(versions, VERSIONS)
            found = services[service]
            if isinstance(found, Exception):
                raise found
            return found

        status, lines = audit(VERSIONS, services, answer)
        return status, "\n".join(lines)

    def test_vulnerable(self) -> None:
        self.assertEqual(
            self.check(UnreachedError("no"), Finding(1, ["b 2.0: X-1"])),
            (1, "known vulnerabilities (y):\nb 2.0: X-1"),
        )

    def test_clean(self) -> None:
        self.assertEqual(
            self.check(Finding(1, []), Finding(2, ["not asked"])),
            (0, "no known vulnerability in 1 of 2 packages (x)"),
        )

    def test_nothing_to_be_had(self) -> None:
        """One line says so; a service that knows no package has checked nothing either."""
        status, text = self.check(Finding(0, []), UnreachedError("timed out"))
        self.assertEqual(status, 0)
        self.assertRegex(text, r"^NOT CHECKED: [^\n]*x: knows none of 2 [^\n]*y: timed out\)$")

    def test_packages_that_were_not_found(self) -> None:
        """Pip-audit calls these clean."""
        answer = {"dependencies": [{"name": "a", "skip_reason": "not found"}]}
        self.assertEqual(finding_of(answer), Finding(0, []))

    def test_what_is_asked_about(self) -> None:
        """What comes with the program, by all its ways, and not what comes with its tools."""
        installed = installed_with("whatsproxy")
        for name in ("twisted", "zope-interface", "cffi", "h11"):
            self.assertEqual(installed.get(name), metadata.version(name))
        for name in ("whatsproxy", "hypothesis", "ruff", "pip"):
            self.assertNotIn(name, installed)
