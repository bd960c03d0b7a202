"""git and pip, which take a proxy's URL like most programs do."""

import hashlib
import os
import sys
import zipfile
from pathlib import Path

from tests.integration.http_clients import HttpTestCase
from tests.integration.http_origins import Nginx
from tests.integration.programs import Program, environment, installed

COMMITS = 12


class GitTests(HttpTestCase):
    """``git clone`` of a repository that nginx serves as files, object by object."""

    def setUp(self) -> None:
        super().setUp()
        self.nginx = Nginx(self)
        self.publish()

    def git(self, *words: str | Path, **extra: str) -> str:
        """Run git with settings of nobody's; return what it says."""
        who = {"NAME": "Alice", "EMAIL": "alice@origin.test"}
        settings = {
            f"GIT_{role}_{key}": who[key] for role in ("AUTHOR", "COMMITTER") for key in who
        }
        git = self.start(
            *(installed("git"), "-c", "gc.auto=0", *words),
            env=environment(
                GIT_CONFIG_NOSYSTEM="1",
                GIT_CONFIG_GLOBAL=os.devnull,
                GIT_TERMINAL_PROMPT="0",
                **settings,
                **extra,
            ),
        )
        self.assertEqual(0, git.wait(), git.output())
        return git.output("stdout")

    def publish(self) -> None:
        """Make a repository with a few commits, for which a dumb server is enough."""
        work = self.directory / "work"
        self.git("init", "--quiet", "--initial-branch=main", work)
        for i in range(COMMITS):
            (work / f"file-{i}").write_text(f"{i}\n" * 1000)
            self.git("-C", work, "add", ".")
            self.git("-C", work, "commit", "--quiet", "--message", f"number {i}")
        self.head = self.git("-C", work, "rev-parse", "HEAD")
        published = self.nginx.site / "listed" / "it.git"
        self.git("clone", "--quiet", "--bare", work, published)
        self.git("-C", published, "update-server-info")

    def clone(self, url: str) -> None:
        copy = self.directory / "copy"
        self.git(
            *("-c", f"http.proxy={self.by_proxy}", "clone", "--quiet", url, copy),
            GIT_SSL_CAINFO=str(self.nginx.trust),
            no_proxy="",
        )
        self.assertEqual(self.head, self.git("-C", copy, "rev-parse", "HEAD"))
        self.git("-C", copy, "fsck", "--strict")
        self.assertEqual(COMMITS, len(list(copy.glob("file-*"))))

    def test_clone_over_http(self) -> None:
        self.carry(self.nginx.port)
        self.clone(self.nginx.url("/listed/it.git"))
        requests = self.requests()
        # Two objects a commit at the least, and nobody but nginx answered.
        self.assertGreater(requests["GET", "2xx", "upstream"], 3 * COMMITS)
        self.assertEqual({"upstream"}, {who for _, _, who in requests})
        self.nginx.seen(sum(requests.values()))
        self.all_is_well(requests)

    def test_clone_over_https(self) -> None:
        self.carry(self.nginx.tls_port)
        self.clone(self.nginx.secure_url("/listed/it.git"))
        requests = self.requests()
        self.assertEqual({("CONNECT", "2xx", "proxy")}, requests.keys())
        self.all_is_well(requests)


class PipTests(HttpTestCase):
    """``pip download`` from an index that nginx serves over HTTPS."""

    NAME, WHEEL = "borrowed-words", "borrowed_words-1.0-py3-none-any.whl"

    def setUp(self) -> None:
        super().setUp()
        self.nginx = Nginx(self)
        wheel = self.directory / self.WHEEL
        information = "borrowed_words-1.0.dist-info"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("borrowed_words.py", "WORDS = []\n")
            about = f"Metadata-Version: 2.1\nName: {self.NAME}\nVersion: 1.0\n"
            archive.writestr(f"{information}/METADATA", about)
            kind = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            archive.writestr(f"{information}/WHEEL", kind)
            archive.writestr(f"{information}/RECORD", "")
        self.wheel = self.nginx.add(f"files/{self.WHEEL}", wheel.read_bytes())
        digest = hashlib.sha256(self.wheel).hexdigest()
        link = f'<a href="/files/{self.WHEEL}#sha256={digest}">{self.WHEEL}</a>'
        page = f"<!DOCTYPE html><html><body>{link}</body></html>"
        self.nginx.add(f"simple/{self.NAME}/index.html", page.encode())

    def download(self, index: str, *options: str | Path) -> Program:
        pip = self.start(
            *(sys.executable, "-m", "pip", "--isolated", "download", "--no-deps"),
            *("--disable-pip-version-check", "--no-cache-dir", "--retries", "0"),
            *("--proxy", self.by_proxy, "--index-url", index, "--dest", self.directory / "got"),
            *(*options, self.NAME),
            # The variables, were they set, would win over --cert.
            env=environment(
                PIP_CONFIG_FILE=os.devnull, REQUESTS_CA_BUNDLE="", CURL_CA_BUNDLE="", no_proxy=""
            ),
        )
        self.assertEqual(0, pip.wait(), pip.output())
        self.assertEqual(self.wheel, (self.directory / "got" / self.WHEEL).read_bytes())
        return pip

    def test_download_over_https(self) -> None:
        self.carry(self.nginx.tls_port)
        self.download(self.nginx.secure_url("/simple/"), "--cert", self.nginx.trust)
        self.assertEqual({"connect"}, self.service.kinds().keys())
        self.all_is_well(self.requests())

    def test_download_over_http(self) -> None:
        self.carry(self.nginx.port)
        self.download(self.nginx.url("/simple/"), "--trusted-host", "origin.test")
        self.all_is_well({("GET", "2xx", "upstream"): 2})


class GitBySocks5Tests(GitTests):
    through_socks5 = True
