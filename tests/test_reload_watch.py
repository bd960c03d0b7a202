"""Certificates whose files change while the service runs, or that come near their end."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

from tests.peers import turn
from tests.support import log_lines
from tests.test_reload import ReloadCase
from tests.tls_peers import CA, OURS
from tests.tls_support import files_of
from whatsproxy import certificates, tls_server
from whatsproxy.certificates import RENEW, SELF_SIGNED, CertificateError
from whatsproxy.reload import WATCH


class WatchTests(ReloadCase):
    """What certbot and lego do: the files change, and nobody says so."""

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.advance(WATCH)

    async def test_nothing_changes(self) -> None:
        self.look(100)
        self.assertReloads(0, 0)
        self.assertEqual(self.lines, [])

    async def test_new_files(self) -> None:
        before = self.serial()
        self.renew()
        self.clock.advance(WATCH - 0.1)
        self.assertEqual(self.serial(), before)
        self.clock.advance(0.1)
        self.assertNotEqual(self.serial(), before)
        self.assertEqual(await self.seen(), self.serial())
        self.look(10)
        self.assertReloads(1, 0)

    async def test_a_failure_that_passes(self) -> None:
        """It is told once, and tried again, at longer intervals, until the new one is there."""
        before = self.serial()
        self.renew()

        def out_of_descriptors(*_: Any) -> None:
            raise CertificateError("own.pem: cannot be read: Too many open files")

        tries = self.patch(tls_server, "load", Mock(side_effect=out_of_descriptors))
        self.look(7)
        self.assertReloads(0, 1)
        self.assertEqual(tls_server.load.call_count, 4)  # at 0, 1, 2 and 4 looks after the change
        tries.restore()
        self.assertEqual(self.serial(), before)
        self.look(2)
        self.assertReloads(1, 1)
        self.assertNotEqual(self.serial(), before)

    async def test_a_new_link(self) -> None:
        """As certbot's live/ has it: what is pointed at is another file."""
        new = files_of(CA.issue_cert(OURS), self.directory, "new")
        for old_path, new_path in (
            (self.files.cert_file, new.cert_file),
            (self.files.key_file, new.key_file),
        ):
            os.utime(new_path, ns=(self.times, self.times))  # by time and size it is the same
            link = self.directory / "link"
            link.symlink_to(Path(new_path).name)
            os.replace(link, old_path)
        before = self.serial()
        self.look()
        self.assertNotEqual(self.serial(), before)

    async def test_one_after_the_other(self) -> None:
        """First the chain, a moment later the key: one error, then the new certificate."""
        before = self.serial()
        key = Path(self.files.key_file).read_bytes()
        self.renew()
        new_key = Path(self.files.key_file).read_bytes()
        Path(self.files.key_file).write_bytes(key)
        self.touch(self.files.key_file)
        self.look(5)
        self.assertEqual(self.serial(), before)
        self.assertReloads(0, 1)
        Path(self.files.key_file).write_bytes(new_key)
        self.touch(self.files.key_file)
        self.look()
        self.assertNotEqual(self.serial(), before)
        self.assertReloads(1, 1)

    async def test_a_bad_file_is_told_of_once(self) -> None:
        """Once a change, not each time that somebody looks."""
        before = self.serial()
        for number in range(1, 4):
            Path(self.files.cert_file).write_bytes(b"x" * number)
            self.touch(self.files.cert_file)
            self.look(50)
            self.assertReloads(0, number)
            self.assertEqual(len(self.lines), number)
        self.assertEqual(self.serial(), before)

    async def test_files_that_vanish(self) -> None:
        before = self.serial()
        Path(self.files.cert_file).unlink()
        self.look(50)
        self.assertReloads(0, 1)
        self.assertEqual(self.serial(), before)
        self.renew()
        self.look(50)
        self.assertReloads(1, 1)
        self.assertNotEqual(self.serial(), before)

    async def test_an_error_of_ours(self) -> None:
        """It is logged, and the watch goes on."""

        def broken() -> bool:
            raise RuntimeError("a bug")

        patched = self.patch(self.proxy.tls, "changed", broken)
        self.look()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        patched.restore()
        before = self.serial()
        self.renew()
        self.look()
        self.assertNotEqual(self.serial(), before)

    async def test_stopped(self) -> None:
        self.reloader.stopService()
        self.renew()
        self.clock.advance(WATCH * 10)
        self.assertReloads(0, 0)
        self.reloader.startService()
        self.look()
        self.assertReloads(1, 0)


class SelfSignedTests(ReloadCase):
    def setUp(self) -> None:
        super().setUp()
        self.now = datetime.now(UTC)
        case = self

        class Now(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return case.now

        self.patch(tls_server, "datetime", Now)
        self.made(str(self.directory / "cache"))

    def made(self, cache: str) -> None:
        self.reloader.stopService()
        tls = {"certificate": (), "auto_generate": True, "cache_dir": cache, "validity_days": 90}
        self.proxy = self.start(tls=tls, server={"names": (OURS,)})
        self.watch()

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.advance(WATCH)

    async def test_made_anew_before_it_ends(self) -> None:
        before = self.serial()
        self.now += timedelta(days=90) - RENEW - timedelta(minutes=1)
        self.look(10)
        self.assertEqual(self.serial(), before)
        self.now += timedelta(minutes=2)
        self.look(10)
        self.assertNotEqual(self.serial(), before)
        self.assertReloads(1, 0)
        self.assertEqual(await self.seen(), self.serial())
        self.assertEqual(self.proxy.tls.identities[0].label, SELF_SIGNED)

    async def test_reload_keeps_it(self) -> None:
        before = self.serial()
        self.reloader.reload()
        self.assertEqual(self.serial(), before)

    async def test_it_cannot_be_kept(self) -> None:
        """It serves, says so, and does not make another one every ten seconds."""
        (self.directory / "file").write_bytes(b"")
        lines = log_lines(self)
        self.made(str(self.directory / "file"))
        self.assertIn("cannot be kept in", "".join(lines))
        before = self.serial()
        self.look(50)
        self.assertEqual(self.serial(), before)
        self.assertEqual(await self.seen(), before)
        self.now += timedelta(days=90) - RENEW
        self.look(50)
        self.assertNotEqual(self.serial(), before)
        self.assertReloads(1, 0)

    async def test_a_directory_that_is_full_later(self) -> None:
        """The old one is about to end: the new one serves, though only the old one is kept."""
        before = self.serial()

        def full(*_: Any, **__: Any) -> Any:
            raise OSError(28, "No space left on device")

        self.patch(certificates.tempfile, "mkstemp", full)
        self.now += timedelta(days=90) - RENEW
        self.look(20)
        self.assertNotEqual(self.serial(), before)
        self.assertReloads(1, 0)
        await turn()
