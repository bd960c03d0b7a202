"""Started as root, running as nobody: what is bound and read before, and what is renewed after."""

import os
import pwd
import signal
import stat
import tempfile
from pathlib import Path

import trustme
from twisted.trial.unittest import SkipTest

from tests.integration.programs import LOOPBACK, TWISTD, environment, eventually, sandboxed
from tests.integration.proxy import ANY_PORT, Proxy
from tests.integration.tls_clients import (
    PROXY_NAME,
    TlsTestCase,
    certificate_config,
    exchange,
    serial_of,
    shown,
    tls_dial,
)
from tests.integration.tls_origins import leaf, served
from tests.integration.traffic import flip, flipping

NOBODY = "nobody"


class PrivilegeTests(TlsTestCase):
    def setUp(self) -> None:
        sandboxed()
        if os.getuid() != 0 or not may_change_user():
            raise SkipTest("needs root, who may become somebody else")
        super().setUp()
        self.nobody = pwd.getpwnam(NOBODY)
        # Nobody may go through all of it; trial's own directory may be anywhere.
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.directory.chmod(0o755)
        self.cache = self.directory / "cache"
        self.port = served(self, flipping)

    def carry(self, config: str, *options: str) -> Proxy:
        """Start it on port 443, as nobody in the end."""
        chat = f'upstream.chat = ["{LOOPBACK}:{self.port}"]\ntls.cache_dir = "{self.cache}"\n'
        file = self.write("whatsproxy.toml", chat + config)
        argv = [str(TWISTD), "--nodaemon", "--pidfile=", "--uid", NOBODY, *options]
        argv += ["whatsproxy", "-c", str(file), "-l", f"tcp:443:interface={LOOPBACK}"]
        proxy = Proxy([*argv, "-m", ANY_PORT], self.directory, environment())
        self.addCleanup(proxy.stop)
        proxy.ready()
        self.assertEqual(443, proxy.port)
        status = Path(f"/proc/{proxy.process.pid}/status").read_text()
        self.assertRegex(status, rf"\nUid:(\t{self.nobody.pw_uid}){{4}}\n")
        self.assertRegex(status, r"\nCapEff:\t0+\n")
        return proxy

    def carries(self) -> None:
        with tls_dial(443, PROXY_NAME) as connection:
            connection.sendall(b"\0raw")
            exchange(connection, flip(b"\0raw"))

    def hang_up(self, proxy: Proxy, result: str) -> None:
        proxy.signal(signal.SIGHUP)

        def reloaded() -> bool:
            name, what = "reloads_total", "certificates"
            return proxy.figure(name, what=what, result=result) == 1

        eventually(reloaded, result, 5)

    def test_a_key_of_roots(self) -> None:
        """It is read before; later it cannot be, which one line says, and the old one stays."""
        chain, key = self.directory / "chain.pem", self.directory / "key.pem"
        ca = trustme.CA()

        def issue() -> int:
            presented = leaf(ca.issue_cert(PROXY_NAME))
            chain.write_bytes(presented.chain)
            key.write_bytes(presented.key)
            key.chmod(0o600)
            return serial_of(chain)

        first = issue()
        proxy = self.carry(certificate_config(chain, key), "--gid", "nogroup")
        self.assertEqual(first, shown(443))
        self.carries()
        issue()
        self.hang_up(proxy, "failed")
        self.assertEqual(first, shown(443))
        self.carries()
        proxy.wait_for(" error .*not reloaded")
        (line,) = [line for line in proxy.output().splitlines() if " error " in line]
        self.assertIn("certificates not reloaded, the old ones stay", line)
        self.assertIn(f"{key}: cannot be read: Permission denied to {NOBODY}", line)
        # Once nobody may read it, it is.
        os.chown(key, self.nobody.pw_uid, -1)
        self.hang_up(proxy, "ok")
        self.assertEqual(serial_of(chain), shown(443))
        self.assertNotIn("Traceback", proxy.output())
        self.assertFalse(self.cache.exists())

    def owners(self) -> tuple[int, int, int, int]:
        """Return the owner and the mode of the cache's directory, and of the file in it."""
        (file,) = self.cache.iterdir()
        of = [path.stat() for path in (self.cache, file)]
        return of[0].st_uid, stat.S_IMODE(of[0].st_mode), of[1].st_uid, stat.S_IMODE(of[1].st_mode)

    def test_the_cache(self) -> None:
        """What root has made belongs to nobody, who can renew it; and so at the next start."""
        proxy = self.carry("")
        nobody = self.nobody.pw_uid
        self.assertEqual((nobody, 0o700, nobody, 0o600), self.owners())
        first = shown(443)
        self.carries()
        # A renewal: here, because there is none any more.
        (file,) = self.cache.iterdir()
        file.unlink()
        self.hang_up(proxy, "ok")
        self.assertEqual((nobody, 0o700, nobody, 0o600), self.owners())
        second = shown(443)
        self.assertNotEqual(first, second)
        self.assertNotRegex(proxy.output(), r"cannot be (kept|given)|Traceback")
        proxy.signal(signal.SIGTERM)
        self.assertEqual(0, proxy.wait(), proxy.output())
        proxy = self.carry("")
        self.assertEqual(second, shown(443))
        self.assertEqual((nobody, 0o700, nobody, 0o600), self.owners())


def may_change_user() -> bool:
    """Whether this user namespace has nobody in it."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
