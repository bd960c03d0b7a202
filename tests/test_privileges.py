"""What belongs to the user of ``twistd --uid``: who that is, and what is given away or not."""

import errno
import os
import pwd
import stat
from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.support import log_lines
from whatsproxy import privileges, tap
from whatsproxy.files import why
from whatsproxy.privileges import Inheritance, give, owner_to_be
from whatsproxy.settings import TlsSettings
from whatsproxy.tls_codecs import CertificateFiles
from whatsproxy.tls_server import TlsServer

NOBODY = pwd.getpwnam("nobody")
OTHER = (12345, 54321)


class GivenCase(SynchronousTestCase):
    """What is given away is written down instead: to give away takes root."""

    def setUp(self) -> None:
        self.given: dict[Path, tuple[int, int]] = {}
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.patch(privileges.os, "fchown", self.fchown)

    def fchown(self, descriptor: int, uid: int, gid: int) -> None:
        self.given[Path(os.readlink(f"/proc/self/fd/{descriptor}"))] = (uid, gid)

    def write(self, name: str) -> Path:
        path = self.directory / name
        path.write_text("x")
        return path


class OwnerTests(SynchronousTestCase):
    def test_by_the_options_of_twistd(self) -> None:
        uid, gid = NOBODY.pw_uid, NOBODY.pw_gid
        for options, owner in (
            ({}, None),
            ({"uid": None, "gid": None}, None),
            ({"uid": uid, "gid": None}, (uid, gid)),
            ({"uid": uid, "gid": 7}, (uid, 7)),
            ({"uid": 0, "gid": 0}, (0, 0)),
            ({"gid": 7}, (-1, 7)),
        ):
            self.assertEqual(owner_to_be(options), owner)

    def test_with_a_tac_file(self) -> None:
        """It is not told the options: they are read once more."""
        for words in (["--uid", "nobody", "-g", "7"], ["-u", str(NOBODY.pw_uid), "--gid=7"]):
            options = tap._twistd_options([*words, "-ny", "whatsproxy.tac"])
            self.assertEqual(owner_to_be(options), (NOBODY.pw_uid, 7))
        self.assertIsNone(owner_to_be(tap._twistd_options(["-ny", "whatsproxy.tac"])))


class GiveTests(GivenCase):
    def test_a_file_alone_in_its_directory(self) -> None:
        path = self.write("cert.pem")
        give(self.directory, "cert.pem", OTHER)
        self.assertEqual(self.given, {path: OTHER, self.directory: OTHER})

    def test_among_others(self) -> None:
        """Whoever owns a directory may replace all that is in it: it stays."""
        path = self.write("cert.pem")
        self.write("somebody's.key")
        give(self.directory, "cert.pem", OTHER)
        self.assertEqual(self.given, {path: OTHER})

    def test_what_is_no_file_of_ours(self) -> None:
        """Links, which the user may have put there, and pipes: nothing is given away."""
        target = self.directory.parent / f"{self.directory.name}.target"
        target.write_text("x")
        path = self.directory / "cert.pem"
        for make in (
            lambda: path.symlink_to(target),
            lambda: path.hardlink_to(target),
            lambda: os.mkfifo(path),
            path.mkdir,
        ):
            make()
            with self.assertRaises(OSError):
                give(self.directory, "cert.pem", OTHER)
            self.assertEqual(self.given, {})
            path.rmdir() if path.is_dir() else path.unlink()
        with self.assertRaises(FileNotFoundError):
            give(self.directory, "cert.pem", OTHER)


class InheritanceTests(GivenCase):
    def start(self, **keys: Any) -> list[str]:
        """Load certificates, then give away what there is; return the log."""
        tls = TlsServer(MemoryReactorClock(), TlsSettings(**keys), ())
        tls.load()
        lines = log_lines(self)
        Inheritance(tls, OTHER).privilegedStartService()
        return lines

    def test_the_cache(self) -> None:
        cache = self.directory / "cache"
        self.assertEqual(self.start(cache_dir=str(cache)), [])
        (path,) = cache.iterdir()
        self.assertEqual(self.given, {path: OTHER, cache: OTHER})
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)

    def test_the_operators_own(self) -> None:
        """Their files stay whose they are, and there is nothing else."""
        cache = self.directory / "cache"
        self.start(cache_dir=str(cache))
        (path,) = cache.iterdir()
        self.given.clear()
        own = (CertificateFiles(str(path), str(path)),)
        self.start(cache_dir=str(cache), certificate=own)
        self.assertEqual(self.given, {})

    def test_none(self) -> None:
        self.start(cache_dir=str(self.directory / "cache"), auto_generate=False)
        self.assertEqual(self.given, {})

    def test_what_cannot_be_kept(self) -> None:
        """Whoever made it has said so; nothing more happens."""
        place = self.write("no directory")
        self.assertEqual(self.start(cache_dir=str(place)), [])
        self.assertEqual(self.given, {})

    def test_what_cannot_be_given(self) -> None:
        """One line; the service starts."""

        def refuse(*_: Any) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        self.patch(privileges.os, "fchown", refuse)
        (line,) = self.start(cache_dir=str(self.directory / "cache"))
        self.assertIn("could not renew it: Operation not permitted", line)


class WhyTests(SynchronousTestCase):
    def test_who_is_denied(self) -> None:
        """At the start it was perhaps root who could read it."""
        self.patch(os, "geteuid", lambda: NOBODY.pw_uid)
        denied = PermissionError(errno.EACCES, "Permission denied")
        self.assertEqual(why(denied), "Permission denied to nobody")
        self.assertEqual(why(FileNotFoundError(errno.ENOENT, "No such file")), "No such file")
        self.assertEqual(why(OSError("odd")), "odd")
        self.patch(os, "geteuid", lambda: 4242424)
        self.assertEqual(why(denied), "Permission denied to the user 4242424")
