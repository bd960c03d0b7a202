"""Starting: what runs, what is wrong with the settings or the ports, and how that is said."""

import contextlib
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

from tests.builders import INTROS
from tests.integration.programs import (
    LOOPBACK,
    ROOT,
    TWISTD,
    Program,
    connects,
    environment,
    eventually,
    sandboxed,
)
from tests.integration.proxy import ANY_PORT, Proxy, ProxyTestCase
from tests.integration.traffic import ChatServer, client_noise_hello

ACTIVATE = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="chat", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])
"""


class RunningTests(ProxyTestCase):
    """The ways to start it."""

    def ends_well(self, proxy: Program) -> None:
        proxy.signal(signal.SIGTERM)
        self.assertEqual(0, proxy.wait(), proxy.output())

    def test_alone(self) -> None:
        sandboxed()
        proxy = self.twistd()
        proxy.ready()
        self.assertEqual((8443, 8199), (proxy.port, proxy.pages))
        self.assertTrue(connects(8443))
        if socket.has_ipv6 and Path("/proc/net/if_inet6").exists():
            self.assertTrue(connects(8443, "::1"))
        self.assertEqual(200, proxy.get("/ready")[0])
        self.ends_well(proxy)

    def tac(self, **env: str) -> Proxy:
        argv = [str(TWISTD), "--pidfile=", "-ny", str(ROOT / "etc" / "whatsproxy.tac")]
        proxy = Proxy(argv, self.directory, environment(**env))
        self.addCleanup(proxy.stop)
        return proxy

    def test_tac(self) -> None:
        file = self.write("own.toml", f'server.listen = ["{ANY_PORT}"]\nmetrics.listen = ""')
        proxy = self.tac(WHATSPROXY_CONFIG=str(file), WHATSPROXY_METRICS_LISTEN=ANY_PORT)
        proxy.ready()
        self.assertTrue(connects(proxy.port))
        self.assertEqual(200, proxy.get("/ready")[0])
        self.ends_well(proxy)

    def test_tac_with_the_file_beside_it(self) -> None:
        sandboxed()
        proxy = self.tac()
        proxy.ready()
        self.assertEqual((8443, 8199), (proxy.port, proxy.pages))
        self.ends_well(proxy)

    def test_several_listeners(self) -> None:
        # A unix socket's path has to be short.
        path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "socket"
        proxy = self.proxy("-l", f"unix:{path}")
        proxy.wait_for(rf"listening on {path} \(unix:")
        self.assertTrue(connects(proxy.port))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
        self.ends_well(proxy)

    def test_unix_socket(self) -> None:
        """It carries a chat, and nothing of it is left behind, whatever else ends with it."""
        server = ChatServer(self.background)
        for lame_duck in (0, 0.2):
            path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "socket"
            file = self.write("unix.toml", f"timeouts.lame_duck = {lame_duck}")
            proxy = self.twistd(
                *("-c", file, "-l", f"unix:{path}", "-m", ""),
                *("--chat", f"{LOOPBACK}:{server.port}"),
            )
            proxy.wait_for("listening on")
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect(str(path))
                connection.sendall(INTROS[0] + client_noise_hello(bytes(32)))
                self.assertTrue(connection.recv(1))
            self.ends_well(proxy)
            self.assertEqual([], list(path.parent.iterdir()))

    def test_systemd_socket(self) -> None:
        """What systemd does for a socket unit: bind, and start the service with descriptor 3."""
        argv = [TWISTD, "-n", "--pidfile=", "whatsproxy", "-m", ANY_PORT]
        argv += ["-l", "systemd:domain=INET:name=chat"]
        proxy = Proxy([sys.executable, "-c", ACTIVATE, *argv], self.directory)
        self.addCleanup(proxy.stop)
        proxy.ready()
        self.assertTrue(connects(proxy.port))
        self.ends_well(proxy)

    def test_daemon(self) -> None:
        log, pid = self.directory / "daemon.log", self.directory / "daemon.pid"
        launcher = self.daemonise(log, pid, ANY_PORT)
        self.assertEqual(0, launcher.wait(), launcher.output())
        daemon = int(pid.read_text())
        self.addCleanup(self.kill, daemon)
        eventually(lambda: "listening on" in log.read_text(), "the daemon listens")
        os.kill(daemon, signal.SIGTERM)
        eventually(lambda: not pid.exists(), "the daemon has ended")
        self.assertIn("drained: 0 connections finished, 0 cut", log.read_text())

    def test_daemon_that_cannot_bind(self) -> None:
        with socket.create_server((LOOPBACK, 0)) as taken:
            port = taken.getsockname()[1]
            log, pid = self.directory / "daemon.log", self.directory / "daemon.pid"
            launcher = self.daemonise(log, pid, f"tcp:{port}:interface={LOOPBACK}")
            with self.within(10, "an end instead of a daemon"):
                self.assertNotEqual(0, launcher.wait())
        self.assertIn(str(port), launcher.output())

    def daemonise(self, log: Path, pid: Path, listen: str) -> Program:
        file = self.write("daemon.toml", f'logging.output = "{log}"')
        return self.start(
            *(TWISTD, f"--pidfile={pid}", "whatsproxy"), *("-c", file, "-l", listen, "-m", "")
        )

    @staticmethod
    def kill(pid: int) -> None:
        """Kill a process that may have ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class RefusingTests(ProxyTestCase):
    """Status 1 and one clear line on stderr; no traceback, no usage."""

    def one_line(self, proxy: Program, *parts: str) -> None:
        self.assertEqual(1, proxy.wait())
        lines = proxy.output("stderr").splitlines()
        self.assertEqual(1, len(lines), proxy.output())
        for part in parts:
            self.assertIn(part, lines[0])
        self.assertNotIn("Traceback", proxy.output())
        self.assertNotIn("Usage", proxy.output())

    def test_port_in_use(self) -> None:
        with socket.create_server((LOOPBACK, 0)) as taken:
            port = taken.getsockname()[1]
            proxy = self.twistd("-l", f"tcp:{port}:interface={LOOPBACK}", "-m", "")
            self.one_line(proxy, str(port), "in use")

    def test_metrics_port_in_use(self) -> None:
        with socket.create_server((LOOPBACK, 0)) as taken:
            port = taken.getsockname()[1]
            proxy = self.twistd("-l", ANY_PORT, "-m", f"tcp:{port}:interface={LOOPBACK}")
            self.one_line(proxy, str(port), "in use")

    def test_values_of_the_file(self) -> None:
        wrong = {
            "timeouts.idle = -1": ("[timeouts] idle", "-1"),
            'upstream.chat = ["g.whatsapp.net:99999"]': ("[upstream] chat", "99999"),
            "server.colour = 'red'": ("[server] colour",),
            "this is no TOML": ("TOML",),
        }
        programs = {}
        for number, text in enumerate(wrong):
            file = self.write(f"wrong-{number}.toml", text)
            programs[file] = self.twistd("-c", file, "-l", ANY_PORT, "-m", "")
        for (file, program), parts in zip(programs.items(), wrong.values(), strict=True):
            self.one_line(program, str(file), *parts)

    def test_values_from_elsewhere(self) -> None:
        programs = [
            self.twistd("-l", "carrier-pigeon:8443"),
            self.twistd("-s", "socks5://user:secret-word@:0"),
            self.twistd("-c", self.directory / "absent.toml"),
            self.twistd(env={"WHATSPROXY_TIMEOUTS_IDLE": "never"}),
        ]
        expected = [
            ("command line", "[server] listen", "carrier-pigeon"),
            ("command line", "[socks5] proxies"),
            (str(self.directory / "absent.toml"),),
            ("WHATSPROXY_TIMEOUTS_IDLE", "[timeouts] idle", "never"),
        ]
        for program, parts in zip(programs, expected, strict=True):
            self.one_line(program, *parts)
            self.assertNotIn("secret-word", program.output())


class CheckConfigTests(ProxyTestCase):
    """``--check-config`` tells what would be, and starts nothing."""

    def test_good(self) -> None:
        file = self.write(
            "good.toml", 'timeouts.idle = 7\nsocks5.proxies = ["socks5://proxy.test"]'
        )
        proxy = self.twistd(
            *("--check-config", "-c", file, "-s", "socks5://me:secret-word@proxy.test:9"),
            env={"WHATSPROXY_TIMEOUTS_CONNECT": "3"},
        )
        self.assertEqual(0, proxy.wait())
        shown = proxy.output("stdout")
        self.assertRegex(shown, r"(?m)^idle = 7\b")
        self.assertRegex(shown, r"(?m)^connect = 3\b")
        self.assertIn("socks5://me:***@proxy.test:9", shown)
        self.assertNotIn("secret-word", proxy.output())
        self.assertNotIn("listening on", proxy.output())

    def test_bad(self) -> None:
        file = self.write("bad.toml", "timeouts.idle = 'x'")
        proxy = self.twistd("--check-config", "-c", file)
        self.assertEqual(1, proxy.wait())
        self.assertIn("[timeouts] idle", proxy.output("stderr"))
        self.assertNotIn("Traceback", proxy.output())
