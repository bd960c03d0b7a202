"""The command line: every option reaches its setting and is used; every mistake is one line."""

import io
import os
import sys
import tomllib
from typing import Any

from twisted.application.service import Application, IServiceCollection
from twisted.logger import FilteringLogObserver, ILogObserver, LogLevel
from twisted.trial.unittest import SynchronousTestCase

from tests.support import log_lines, part_of
from whatsproxy import settling, tap
from whatsproxy.codecs import SocksProxy
from whatsproxy.config import FILE_VARIABLE
from whatsproxy.descriptors import RESERVE
from whatsproxy.destination import Destination
from whatsproxy.service import ProxyService
from whatsproxy.settings import Settings
from whatsproxy.signals import SignalService
from whatsproxy.tap import Options, make_application, makeService

FOREGROUND = {"nodaemon": True}


class TapCase(SynchronousTestCase):
    def setUp(self) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("WHATSPROXY_")}
        self.patch(os, "environ", clean)
        self.patch(settling, "raise_limit", lambda: None)  # whatever this machine's is
        self.patch(tap, "use_steady_time", lambda _: None)  # of the reactor that runs the tests

    def file(self, text: str) -> str:
        """Write a configuration file and return its path."""
        path = self.mktemp()
        with open(path, "w") as f:
            f.write(text)
        return path

    def parse(self, *arguments: str) -> Options:
        options = Options()
        options.parseOptions(list(arguments))
        return options

    def settings(self, *arguments: str) -> Settings:
        return self.parse(*arguments).settled.settings

    def exit_of(self, *arguments: str) -> Any:
        """Return what the program ends with."""
        with self.assertRaises(SystemExit) as caught:
            self.parse(*arguments)
        return caught.exception.code

    def captured(self, name: str = "stdout") -> io.StringIO:
        stream = io.StringIO()
        self.patch(sys, name, stream)
        return stream


class OptionTests(TapCase):
    def test_each_reaches_its_setting(self) -> None:
        with_login = "socks5://u:p%40@y.test:1"
        y = SocksProxy(Destination("y.test", 1), (b"u", b"p@"))
        both = (SocksProxy(Destination("x.test", 1080)), y)
        for arguments, section, key, value in (
            (["--listen", "tcp:1"], "server", "listen", ("tcp:1",)),
            (["-l", "tcp:1", "-l", "tcp:2"], "server", "listen", ("tcp:1", "tcp:2")),
            (["--socks5", "socks5://x.test", "-s", with_login], "socks5", "proxies", both),
            (["--chat", "c.test:1"], "upstream", "chat", (Destination("c.test", 1),)),
            (
                ["--allow", "a.test", "--allow", "*.B.test"],
                "policy",
                "allow",
                ("a.test", "*.b.test"),
            ),
            (["--metrics", "tcp:1"], "metrics", "listen", "tcp:1"),
            (["-m", ""], "metrics", "listen", ""),
            (["--log-level", "error"], "logging", "level", "error"),
        ):
            settings = self.settings(*arguments)
            self.assertEqual(getattr(getattr(settings, section), key), value, arguments)

    def test_configuration_file(self) -> None:
        path = self.file("[timeouts]\nsniff = 3\n[server]\nlisten = ['tcp:7']\n")
        for option in ("--config", "-c"):
            self.assertEqual(self.settings(option, path).timeouts.sniff, 3.0)
        self.assertEqual(self.settings("-c", path, "-l", "tcp:8").server.listen, ("tcp:8",))

    def test_configuration_file_by_environment(self) -> None:
        """WHATSPROXY_CONFIG names the file where no option does; its order of rank stays."""
        os.environ[FILE_VARIABLE] = self.file("[timeouts]\nsniff = 3\nidle = 4\n")
        os.environ["WHATSPROXY_TIMEOUTS_IDLE"] = "5"
        settings = self.settings()
        self.assertEqual((settings.timeouts.sniff, settings.timeouts.idle), (3.0, 5.0))
        other = self.file("[timeouts]\nsniff = 9\n")
        self.assertEqual(self.settings("-c", other).timeouts.sniff, 9.0)
        os.environ[FILE_VARIABLE] = ""  # as good as none
        self.assertEqual(self.settings().timeouts.sniff, 10.0)

    def test_paths_become_absolute(self) -> None:
        """A daemon changes its directory."""
        path = self.file("[logging]\noutput = 'some.log'\n")
        self.assertEqual(self.settings("-c", path).logging.output, os.path.abspath("some.log"))


class CheckConfigTests(TapCase):
    def test_success(self) -> None:
        """The output is a configuration file, with the password masked."""
        output = self.captured()
        code = self.exit_of("--check-config", "-s", "socks5://me:s3cret@x.test", "-l", "tcp:1")
        self.assertEqual(code, 0)
        self.assertNotIn("s3cret", output.getvalue())
        document = tomllib.loads(output.getvalue())
        self.assertEqual(document["socks5"]["proxies"], ["socks5://me:***@x.test:1080"])
        self.assertEqual(document["server"]["listen"], ["tcp:1"])
        self.assertEqual(document["upstream"]["chat"], ["g.whatsapp.net:5222"])

    def test_failure(self) -> None:
        output = self.captured()
        self.assertIn("[server] listen", self.exit_of("--check-config", "-l", "tcp:99999"))
        self.assertEqual(output.getvalue(), "")

    def test_warnings(self) -> None:
        self.captured()
        errors = self.captured("stderr")
        self.patch(settling, "raise_limit", lambda: 1000)
        self.assertEqual(self.exit_of("--check-config"), 0)
        self.assertIn("max_connections lowered to 436", errors.getvalue())


class MistakeTests(TapCase):
    def assertOneLine(self, arguments: list[str], *parts: str) -> None:
        """It ends with a line on stderr, hence with status 1, and that says where and what."""
        code = self.exit_of(*arguments)
        self.assertIsInstance(code, str)
        self.assertTrue(code.startswith("whatsproxy: "), code)
        self.assertNotIn("\n", code)
        for part in parts:
            self.assertIn(part, code)

    def test_options(self) -> None:
        for arguments, *parts in (
            (["-l", "tcp:99999"], "command line: [server] listen", "99999"),
            (["-l", "nonsense:1"], "command line: [server] listen", "nonsense:1"),
            (["-l", "tcp:1:nonsense=1"], "[server] listen", "tcp:1:nonsense=1"),
            (["-l", "tcp:1", "-l", ""], "[server] listen"),
            (["-m", "nonsense"], "command line: [metrics] listen", "nonsense"),
            (["-s", "http://x.test"], "command line: [socks5] proxies", "socks5://"),
            (["--chat", "g.whatsapp.net"], "command line: [upstream] chat", "port"),
            (["--allow", "*"], "command line: [policy] allow", "open relay"),
            (["--log-level", "loud"], "command line: [logging] level", "debug, info, warn, error"),
        ):
            self.assertOneLine(arguments, *parts)

    def test_files(self) -> None:
        for text, *parts in (
            ("[server]\nlisten = 1\n", "[server] listen"),
            ("[nonsense]\n", "[nonsense]"),
            ("[server]\nnonsense = 1\n", "[server] nonsense"),
            ("[server\n", "TOML"),
            ("[server]\nlisten = ['nonsense:1']\n", "[server] listen", "nonsense:1"),
        ):
            path = self.file(text)
            self.assertOneLine(["-c", path], path, *parts)
        missing = self.mktemp()
        self.assertOneLine(["-c", missing], missing, "No such file")

    def test_environment(self) -> None:
        os.environ["WHATSPROXY_TIMEOUTS_SNIFF"] = "soon"
        self.assertOneLine([], "WHATSPROXY_TIMEOUTS_SNIFF", "[timeouts] sniff", "soon")

    def test_passwords_stay_secret(self) -> None:
        code = self.exit_of("-s", "socks5://me:s3cret@x.test:nonsense")
        self.assertNotIn("s3cret", code)

    def test_log_file(self) -> None:
        """A log that cannot be written is found before anything starts."""
        path = os.path.join(self.mktemp(), "no", "directory.log")
        options = self.parse("-c", self.file(f"[logging]\noutput = '{path}'\n"))
        with self.assertRaises(SystemExit) as caught:
            makeService(options)
        self.assertIn("[logging] output", str(caught.exception.code))
        self.assertIn("No such file or directory", str(caught.exception.code))


class DescriptorTests(TapCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(settling, "raise_limit", lambda: 1000)

    def test_default(self) -> None:
        """Lowered to what fits, with one warning that shows the arithmetic, and it is used."""
        options = self.parse()
        (warning,) = options.settled.warnings
        for part in ("436", "27500 connections x 2 descriptors + 128", "55128", "1000"):
            self.assertIn(part, warning)
        lines = log_lines(self)
        options.parent = FOREGROUND
        proxy = part_of(makeService(options), ProxyService)
        self.assertEqual(proxy.factory.settings.server.max_connections, 436)
        self.assertEqual(len([line for line in lines if "lowered to 436" in line]), 1)

    def test_explicit(self) -> None:
        path = self.file("[server]\nmax_connections = 500\n")
        code = self.exit_of("-c", path)
        for part in (path, "[server] max_connections = 500", "1128", "1000", "436"):
            self.assertIn(part, code)

    def test_explicit_that_fits(self) -> None:
        settled = self.parse("-c", self.file("[server]\nmax_connections = 436\n")).settled
        self.assertEqual((settled.settings.server.max_connections, settled.warnings), (436, []))

    def test_extremes(self) -> None:
        self.patch(settling, "raise_limit", lambda: RESERVE + 1)
        self.assertIn("[server] max_connections", self.exit_of())
        self.patch(settling, "raise_limit", lambda: None)
        self.assertEqual(self.settings().server.max_connections, 27500)


class ObserverTests(TapCase):
    def installed(self, twistd: dict[str, Any], *arguments: str) -> Any:
        """Return the observer that a service gives to its application."""
        self.lines = log_lines(self)
        options = self.parse(*arguments)
        options.parent = twistd
        application = Application("whatsproxy")
        makeService(options).setServiceParent(application)
        return application.getComponent(ILogObserver, None)

    def event(self, level: Any, text: str) -> dict[str, Any]:
        return {"log_level": level, "log_format": text, "log_namespace": "x", "log_time": 0.0}

    def test_foreground(self) -> None:
        """Ours, at the level asked for."""
        output = self.captured()
        observer = self.installed(FOREGROUND, "--log-level", "warn")
        self.assertIsInstance(observer, FilteringLogObserver)
        for level in (LogLevel.info, LogLevel.warn):
            observer(self.event(level, f"said {level.name}"))
        self.assertIn("said warn", output.getvalue())
        self.assertNotIn("said info", output.getvalue())

    def test_twistds_own_wins(self) -> None:
        """With a remark, whichever of its options it is."""
        for option in ("logfile", "syslog", "logger"):
            self.assertIsNone(self.installed({"nodaemon": True, option: "x"}))
            self.assertEqual(len([line for line in self.lines if f"--{option} wins" in line]), 1)

    def test_daemon(self) -> None:
        """It has no stdout; but a file is ours."""
        self.assertIsNone(self.installed({"nodaemon": False}))
        self.assertEqual(len([line for line in self.lines if "a daemon has no stdout" in line]), 1)
        log_file = self.mktemp()
        path = self.file(f"[logging]\noutput = '{log_file}'\nformat = 'json'\n")
        observer = self.installed({"nodaemon": False}, "-c", path)
        observer(self.event(LogLevel.info, "hello"))
        with open(log_file) as f:
            self.assertIn('"message": "hello"', f.read())

    def test_reopen(self) -> None:
        """SIGUSR1 reopens our log, and is left to twistd where the log is twistd's."""
        for twistd, ours in ((FOREGROUND, True), ({"logfile": "x", **FOREGROUND}, False)):
            options = self.parse()
            options.parent = twistd
            signals = part_of(makeService(options), SignalService)
            self.assertEqual(signals._reopen_log is not None, ours)


class ApplicationTests(TapCase):
    """The .tac file's way."""

    def application(self, text: str, *twistd: str) -> Any:
        self.patch(sys, "argv", ["twistd", *twistd])
        return make_application(self.file(text))

    def test_settings(self) -> None:
        application = self.application("[server]\nlisten = ['tcp:7']\n", "-ny", "x.tac")
        (whole,) = IServiceCollection(application).services
        self.assertEqual(part_of(whole, ProxyService).factory.settings.server.listen, ("tcp:7",))

    def test_observer(self) -> None:
        """twistd's own options are heeded here, too, in each spelling."""
        for twistd, ours in (
            (["-ny", "x.tac"], True),
            (["--nodaemon", "--python", "x.tac"], True),
            (["-noy", "x.tac"], True),
            (["-y", "x.tac"], False),
            (["-n", "-l", "x.log", "-y", "x.tac"], False),
            (["-n", "--logfile=x.log", "-y", "x.tac"], False),
            (["-n", "--syslog", "-y", "x.tac"], False),
            (["--no-such-option"], True),
        ):
            observer = self.application("", *twistd).getComponent(ILogObserver, None)
            self.assertEqual(observer is not None, ours, twistd)

    def test_mistake(self) -> None:
        with self.assertRaises(SystemExit) as caught:
            self.application("[nonsense]\n")
        self.assertIn("whatsproxy: ", str(caught.exception.code))
