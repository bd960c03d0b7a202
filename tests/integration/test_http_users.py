"""Users with passwords, as curl, git and htpasswd know them, through the running service."""

import contextlib
import fcntl
import signal
import socket
import struct
from pathlib import Path

from tests.integration import test_http_tools
from tests.integration.http_clients import HttpTestCase
from tests.integration.http_origins import NAMES, Origin, answer
from tests.integration.programs import LOOPBACK, Program, eventually, free_port, installed
from tests.integration.proxy import ANY_PORT, Proxy
from tests.integration.third_party import authority
from tests.integration.tls_origins import HttpsOrigin, present
from tests.user_support import hash_of

#: An address of this machine that is not loopback; only the sandbox has it.
ELSEWHERE = "192.0.2.77"
SIOCSIFADDR, SIOCSIFNETMASK = 0x8916, 0x891C
BODY = b"carried " * 10_000
PASSWORD = "p@ss:wört"


def add_address(address: str) -> None:
    """Give the loopback interface of this network namespace another address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for request, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, "255.255.255.255")):
            where = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(value))
            fcntl.ioctl(s, request, struct.pack("16s16s8x", b"lo:77", where))


class UsersTestCase(HttpTestCase):
    """A proxy with the user alice, and what may be reached by way of it."""

    def setUp(self) -> None:
        super().setUp()
        self.users = self.write("users", "")
        self.users.write_bytes(b"alice:" + hash_of(PASSWORD.encode()) + b"\n")

    def serve(self, *ports: int, listen: str = ANY_PORT, more: str = "") -> Proxy:
        """Start the proxy; it may go to these ports of the origins' names."""
        names = [word for name in NAMES for word in ("--allow", name)]
        config = (
            f"policy.allow_ports = {list(ports)}\n"
            f'policy.allow_networks = ["127.0.0.0/8"]\n'
            f'http.users_file = "{self.users}"\n{more}'
        )
        file = self.write("whatsproxy.toml", config)
        self.service = self.twistd("-c", file, "-l", listen, "-m", ANY_PORT, *names)
        self.service.ready()
        return self.service

    def code(self, *words: str | Path, status: int = 0, by: str = "") -> str:
        """Return the statuses that curl got: of CONNECT, and of the request."""
        curl = self.curl(
            *(["--proxy", by] if by else []),
            *("--output", "/dev/null", "--write-out", "%{http_connect} %{http_code}", *words),
        )
        curl.leave()
        self.assertEqual(status, curl.wait(), curl.output())
        return curl.output("stdout")

    def no_secret_is_told(self) -> None:
        """Neither a password, nor what a client has written it in, is in the log."""
        told = self.service.output()
        self.assertNotIn("Traceback", told)
        for secret in ("wört", "Basic", "$2y$", "YWxpY2U6"):
            self.assertNotIn(secret, told)


class CurlTests(UsersTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.plain = Origin(self.background, lambda _: answer(BODY))
        self.secure = HttpsOrigin(self, 0, BODY)
        self.secure.show(present(authority(NAMES[0])))
        self.trust = authority(NAMES[0]).trust(self.directory)
        self.urls = (self.plain.url("/x"), f"https://{NAMES[0]}:{self.secure.port}/x")

    def open(self, **more: str) -> Proxy:
        return self.serve(self.plain.port, self.secure.port, **more)

    def test_right(self) -> None:
        """Forwarded and tunnelled; what the origin gets says nothing of it."""
        self.open()
        user = ("--proxy-user", f"alice:{PASSWORD}", "--cacert", self.trust)
        for url in self.urls:
            self.assertEqual(BODY, self.fetched(*user, url))
        (request,) = self.plain.requests
        self.assertEqual(
            [], [name for name, _ in request.fields if b"authorization" in name.lower()]
        )
        self.assertEqual(
            {("GET", "2xx", "upstream"): 1, ("CONNECT", "2xx", "proxy"): 1}, self.requests()
        )
        self.assertEqual(2, self.service.figure("logins_total", result="ok"))
        self.no_secret_is_told()

    def test_asked_first(self) -> None:
        """curl begins without, is told how, and goes on over the same connection."""
        self.open()
        user = ("--proxy-user", f"alice:{PASSWORD}", "--proxy-anyauth", "--cacert", self.trust)
        for url, code in zip(self.urls, ("000 200", "200 200"), strict=True):
            made = self.curled(
                *(*user, "--output", "/dev/null", "--write-out", "%{http_connect} %{http_code}"),
                url,
            )
            self.assertEqual(code, made)
        self.assertEqual(2, self.service.figure("connections_total"))
        requests = self.requests()
        self.assertEqual(
            (1, 1), (requests["GET", "4xx", "proxy"], requests["CONNECT", "4xx", "proxy"])
        )
        self.no_secret_is_told()

    def test_wrong(self) -> None:
        self.open()
        for user in (f"alice:{PASSWORD} ", "alice:", f"bob:{PASSWORD}", ""):
            words = ("--proxy-user", user) if user else ()
            plain, secure = self.urls
            self.assertEqual("000 407", self.code(*words, plain))
            self.assertEqual(
                "407 000", self.code(*words, "--cacert", self.trust, secure, status=56)
            )
        self.assertEqual([], self.plain.requests)
        self.assertEqual(6, self.service.figure("logins_total", result="failed"))
        self.no_secret_is_told()

    def test_upload(self) -> None:
        """A body that waits for 100, and one that comes at once."""
        self.open()
        file = self.directory / "upload"
        file.write_bytes(BODY)
        for more in ((), ("--header", "Expect:"), ("--proxy-anyauth",)):
            words = ("--proxy-user", f"alice:{PASSWORD}", "--upload-file", file, *more)
            self.assertEqual("000 200", self.code(*words, self.plain.url("/put")))
        self.assertEqual([BODY] * 3, [request.body for request in self.plain.requests])

    def test_from_elsewhere(self) -> None:
        """In the clear nothing is taken, whatever is sent; in TLS it is."""
        add_address(ELSEWHERE)
        port = free_port(ELSEWHERE)
        self.open(
            listen=f"tcp:{port}:interface={ELSEWHERE}", more=f'tls.ip_addresses = ["{ELSEWHERE}"]'
        )
        user = ("--proxy-user", f"alice:{PASSWORD}", "--cacert", self.trust)
        plain, secure = self.urls
        by = f"http://{ELSEWHERE}:{port}"
        self.assertEqual("000 403", self.code(*user, plain, by=by))
        self.assertEqual("403 000", self.code(*user, secure, by=by, status=56))
        self.assertEqual(0, self.service.figure("logins_total"))
        self.assertEqual([], self.plain.requests)
        by = f"https://{ELSEWHERE}:{port}"
        trust = ("--proxy-cacert", self.directory / "cache" / "self-signed.pem")
        self.assertEqual("000 200", self.code(*trust, *user, plain, by=by))
        self.assertEqual("200 200", self.code(*trust, *user, secure, by=by))
        self.assertEqual("000 407", self.code(*trust, plain, by=by))
        self.no_secret_is_told()

    def test_from_elsewhere_all_the_same(self) -> None:
        add_address(ELSEWHERE)
        port = free_port(ELSEWHERE)
        self.open(listen=f"tcp:{port}:interface={ELSEWHERE}", more="http.users_in_clear = true")
        by = f"http://{ELSEWHERE}:{port}"
        user = ("--proxy-user", f"alice:{PASSWORD}")
        self.assertEqual("000 200", self.code(*user, self.plain.url("/x"), by=by))
        self.assertEqual("000 407", self.code(self.plain.url("/x"), by=by))

    def test_the_end_in_the_middle_of_a_check(self) -> None:
        """It waits for the hash, and no longer."""
        self.users.write_bytes(b"alice:" + b"$2y$13$" + hash_of(b"x")[7:])
        self.open()
        curl = self.curl("--proxy-user", "alice:word", self.plain.url("/x"))
        eventually(lambda: self.service.figure("connections_active") == 1, "curl is there")
        with self.within(10, "the end"):
            for _ in range(2):
                with contextlib.suppress(ProcessLookupError):
                    self.service.signal(signal.SIGTERM)
            self.assertEqual(0, self.service.wait(), self.service.output())
        self.assertNotIn("FATAL", self.service.output())
        curl.wait()


class HtpasswdTests(UsersTestCase):
    """The file is made by the program that makes such files, beside the running service."""

    def htpasswd(self, *words: str | Path) -> Program:
        program = self.start(installed("htpasswd"), "-b", "-B", "-C", "4", *words)
        self.assertEqual(0, program.wait(), program.output())
        return program

    def test_users_come_and_go(self) -> None:
        origin = Origin(self.background, lambda _: answer(BODY))
        self.htpasswd("-c", self.users, "alice", PASSWORD)
        self.serve(origin.port)

        def gets_in(user: str, password: str, code: str) -> None:
            words = ("--proxy-user", f"{user}:{password}", origin.url("/x"))
            self.assertEqual(f"000 {code}", self.code(*words), user)

        def reloaded(count: int) -> None:
            self.service.signal(signal.SIGHUP)
            labels = {"what": "users", "result": "ok"}
            eventually(lambda: self.service.figure("reloads_total", **labels) == count, "reloaded")

        gets_in("alice", PASSWORD, "200")
        gets_in("bob", "builder", "407")
        self.htpasswd(self.users, "bob", "builder")
        reloaded(1)
        gets_in("bob", "builder", "200")
        self.htpasswd(self.users, "alice", "another")
        program = self.start(installed("htpasswd"), "-D", self.users, "bob")
        self.assertEqual(0, program.wait(), program.output())
        reloaded(2)
        gets_in("bob", "builder", "407")
        gets_in("alice", PASSWORD, "407")
        gets_in("alice", "another", "200")
        self.no_secret_is_told()

    def test_what_else_it_makes(self) -> None:
        """Not with another hash than bcrypt's: one line says what would be right."""
        for option in ("-m", "-2", "-s", "-p"):
            words = (installed("htpasswd"), "-b", option, "-c", self.users, "alice", "secret-word")
            program = self.start(*words)
            self.assertEqual(0, program.wait(), program.output())
            file = self.write("whatsproxy.toml", f'http.users_file = "{self.users}"')
            service = self.twistd("-c", file, "-l", ANY_PORT, "-m", "")
            self.assertEqual(1, service.wait())
            (line,) = service.output("stderr").splitlines()
            self.assertIn(f"no users: {self.users}:1: ", line)
            self.assertIn("htpasswd -B", line)
            self.assertNotIn("secret", line)


class GitWithUsersTests(UsersTestCase, test_http_tools.GitTests):
    """git takes the password from the proxy's URL, and makes many requests with it."""

    @property
    def by_proxy(self) -> str:
        return f"http://alice:p%40ss%3Aw%C3%B6rt@{LOOPBACK}:{self.service.port}"

    def carry(self, *ports: int, **more: object) -> Proxy:
        return self.serve(*ports)

    def test_clone_over_http(self) -> None:
        self.carry(self.nginx.port)
        self.clone(self.nginx.url("/listed/it.git"))
        many = 3 * test_http_tools.COMMITS
        self.assertGreater(self.requests()["GET", "2xx", "upstream"], many)
        self.assertGreater(self.service.figure("logins_total", result="ok"), many)
        self.no_secret_is_told()
        self.no_error_is_logged()

    def test_clone_over_https(self) -> None:
        self.carry(self.nginx.tls_port)
        self.clone(self.nginx.secure_url("/listed/it.git"))
        self.assertGreaterEqual(self.requests()["CONNECT", "2xx", "proxy"], 1)
        self.no_secret_is_told()
        self.no_error_is_logged()
