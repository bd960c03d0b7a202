"""[http] users_file at the start and later: read, found bad, read anew, beside the certificates."""

import os
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import ledger_and_time
from tests.peers import LOOPBACK
from tests.support import keep_signal_handlers, log_lines, make_settings, part_of
from tests.test_reload import ReloadCase
from tests.user_support import write_users
from whatsproxy import settling, tap
from whatsproxy.config import load
from whatsproxy.http1.credentials import Credentials
from whatsproxy.reload import WATCH, Reloader
from whatsproxy.service import ProxyService, StartupError
from whatsproxy.verifier import Verifier

ANY_PORT = f"tcp:0:interface={LOOPBACK}"


class StartTests(SynchronousTestCase):
    def start(self, path: str) -> list[str]:
        settings = make_settings(
            http={"users_file": path},
            server={"listen": (ANY_PORT,)},
            metrics={"listen": ""},
        )
        service = ProxyService(Clock(), settings)
        lines = log_lines(self)
        service.privilegedStartService()
        return lines

    def test_bad_files(self) -> None:
        """One line, which names the key; nothing listens, which a Clock could not do anyway."""
        for path, text in (
            ("nowhere", "nowhere: cannot be read: No such file or directory"),
            (write_users(self.mktemp(), b"alice:secret"), ":1: NAME:HASH is expected"),
        ):
            with self.assertRaises(StartupError) as caught:
                self.start(path)
            said = str(caught.exception)
            self.assertTrue(said.startswith("no users: "), said)
            self.assertTrue(said.endswith(" ([http] users_file)"), said)
            self.assertIn(text, said)
            self.assertNotIn("secret", said)

    def test_no_users_no_file(self) -> None:
        """By default there is nobody who would look."""
        service = ProxyService(Clock(), make_settings())
        self.assertIsNone(service.factory.verifier)
        self.assertEqual(service.factory.loadables, [service.factory.tls])

    def test_a_relative_path(self) -> None:
        """It means the directory that twistd is started in, not the one that it changes to."""
        self.patch(settling, "raise_limit", lambda: None)
        for given, path in (("users", f"{os.getcwd()}/users"), ("/a/users", "/a/users"), ("", "")):
            options: dict[tuple[str, str], Any] = {("http", "users_file"): given}
            settled = settling.settle(load(options=options))
            self.assertEqual(settled.settings.http.users_file, path)

    def test_the_service_reloads_them(self) -> None:
        """What SIGHUP calls knows the users of the service."""
        keep_signal_handlers(self)
        self.patch(tap, "use_steady_time", lambda _: None)
        path = write_users(self.mktemp(), alice="wonder")
        settings = make_settings(http={"users_file": path}, metrics={"listen": ""})
        service = tap.build(settling.Settled(settings, []), {"nodaemon": True, "logfile": "-"})
        verifier = part_of(service, ProxyService).factory.verifier
        assert verifier is not None
        self.assertIn(verifier, part_of(service, Reloader)._loadables)
        part_of(service, tap.SignalService)._reload()
        self.assertEqual(list(verifier._users.hashes), [b"alice"])


class WatchTests(ReloadCase):
    """Both are looked after by one Reloader, and neither minds the other."""

    def setUp(self) -> None:
        super().setUp()
        self.reloader.stopService()
        self.path = write_users(str(self.directory / "users"), alice="wonder")
        self.ledger, _ = ledger_and_time()
        self.verifier = Verifier(self.clock, self.path, self.ledger)
        self.verifier.load()
        self.reloader = Reloader(self.clock, [self.proxy.tls, self.verifier], self.ledger)
        self.reloader.startService()

    def counted(self) -> dict[str, int]:
        return {f"{what} {result}": n for (what, result), n in self.ledger.reloads.items() if n}

    def names(self) -> list[bytes]:
        return list(self.verifier._users.hashes)

    async def test_they_change(self) -> None:
        write_users(self.path, alice="wonder", bob="builder")
        before = self.serial()
        self.clock.advance(WATCH)
        self.assertEqual(self.names(), [b"alice", b"bob"])
        self.assertEqual(self.counted(), {"users ok": 1})
        self.assertEqual(self.lines, [f"users of the HTTP proxy: 2 in {self.path}"])
        self.assertEqual(self.serial(), before)
        self.clock.advance(WATCH)
        self.assertEqual(self.counted(), {"users ok": 1})

    async def test_a_bad_file(self) -> None:
        """One line; the old ones stay, until it is good."""
        write_users(self.path, b"alice:secret")
        for _ in range(5):
            self.clock.advance(WATCH)
        (line,) = self.lines
        self.assertIn(f"users not reloaded, the old ones stay: {self.path}:1: NAME:HASH", line)
        self.assertNotIn("secret", line)
        self.assertEqual((self.counted(), self.names()), ({"users failed": 1}, [b"alice"]))
        write_users(self.path, bob="builder")
        self.clock.advance(WATCH)
        self.assertEqual(self.names(), [b"bob"])
        self.assertEqual(self.counted(), {"users failed": 1, "users ok": 1})

    async def test_all_at_once(self) -> None:
        """As SIGHUP does it: one that is bad does not keep the other."""
        Path(self.path).unlink()
        self.renew()
        before = self.serial()
        self.reloader.reload()
        self.assertNotEqual(self.serial(), before)
        self.assertEqual(self.counted(), {"certificates ok": 1, "users failed": 1})
        write_users(self.path, bob="builder")
        Path(self.files.key_file).unlink()
        self.reloader.reload()
        self.assertEqual(self.names(), [b"bob"])
        counted = {"certificates ok": 1, "certificates failed": 1}
        self.assertEqual(self.counted(), {**counted, "users failed": 1, "users ok": 1})

    async def test_an_error_of_ours(self) -> None:
        """In the one that is looked at first, by either way."""

        def broken(*_: Any) -> Any:
            raise ZeroDivisionError("a bug")

        self.patch(self.proxy.tls, "changed", broken)
        write_users(self.path, bob="builder")
        self.clock.advance(WATCH)
        self.assertEqual(self.names(), [b"bob"])
        self.patch(self.proxy.tls, "load", broken)
        write_users(self.path, eve="dropper")
        self.reloader.reload()
        self.assertEqual(self.names(), [b"eve"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    async def test_what_was_remembered(self) -> None:
        """Who is taken out of the file is out, however often he was let in before."""
        alice = Credentials(b"alice", b"wonder")
        self.assertTrue(self.verifier._users.check(alice.user, alice.password))
        self.verifier._right.add(self.verifier._digest(alice), self.clock.seconds())
        self.assertTrue(self.verifier.remembered(alice))
        write_users(self.path, bob="builder")
        self.clock.advance(WATCH)
        self.assertIsNone(self.verifier.remembered(alice))
