"""Disks that are full: for the log, and for the certificate that the proxy makes itself."""

import ctypes
import json
import os
import signal
from pathlib import Path

from tests.chaos.case import ChaosTestCase
from tests.integration.programs import LOOPBACK, connects, eventually, free_port
from tests.integration.proxy import Proxy
from tests.integration.tls_clients import serial_of, shown
from tests.integration.traffic import dial, read_to_end
from whatsproxy.logs import FILE_PIECE

MS_NOSUID, MNT_DETACH = 2, 2


#: Lines that are more than wait to be written together: of 100 bytes at the least.
LINES = 2 * FILE_PIECE // 100
REMARK = "the log could not be written: "


class SmallDisk:
    """A file system of its own, in memory, in the sandbox's mount namespace."""

    def __init__(self, test: ChaosTestCase, path: Path, size: int = 1 << 18) -> None:
        path.mkdir()
        libc = ctypes.CDLL(None, use_errno=True)
        target, options = os.fsencode(path), f"size={size}".encode()
        if libc.mount(b"none", target, b"tmpfs", ctypes.c_ulong(MS_NOSUID), options) != 0:
            raise OSError(ctypes.get_errno(), "mount", str(path))
        test.addCleanup(libc.umount2, target, MNT_DETACH)
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Leave no byte free."""
        with open(self._filler, "ab", buffering=0) as f:
            size = 1 << 16
            while size:
                try:
                    f.write(bytes(size))
                except OSError:
                    size //= 2

    def free(self) -> None:
        """Let there be space again."""
        self._filler.unlink()


class LogTests(ChaosTestCase):
    """The service goes on, and so does its log when there is space again."""

    def setUp(self) -> None:
        super().setUp()
        self.disk = SmallDisk(self, self.directory / "disk")
        self.log_file = self.disk.path / "log"

    def nothing_is_wrong(self, proxy: Proxy) -> None:
        """The log says that it could not be written, once for each time; nothing else is wrong."""
        lines = self.log_file.read_text().splitlines()
        self.assertEqual(self.times_full, self.times_told())
        self.log_file.write_text("\n".join(line for line in lines if REMARK not in line))
        super().nothing_is_wrong(proxy)

    times_full = 1

    def start_proxy(self, form: str = "text") -> None:
        self.carry(config=f'logging.format = "{form}"')

    def times_told(self) -> int:
        """Return how often the log says that it could not be written."""
        return self.log_file.read_text().count(REMARK)

    def logged(self) -> int:
        """Return how many connections have been logged."""
        return self.log_file.read_text().count("connection ended: ")

    def fill(self) -> None:
        """Fill the disk, and wait until lines have not fitted on it, which first wait together."""
        before = self.service.figure("connections_total")
        self.disk.fill()
        eventually(
            lambda: self.service.figure("connections_total") > before + LINES,
            "more lines than wait",
        )

    def test_full(self) -> None:
        self.start_proxy()
        with self.honest() as crowd:
            self.fill()
            full = self.log_file.stat().st_size
            crowd.some_more()
            self.assertEqual(full, self.log_file.stat().st_size, "there was space")
            before = self.logged()
            self.disk.free()
            eventually(lambda: self.logged() > before + 10, "the log goes on")
        self.nothing_is_left()

    def test_full_from_the_start(self) -> None:
        """It starts all the same."""
        self.disk.fill()
        self.log_file.touch()
        port, pages = free_port(), free_port()
        file = self.write("whatsproxy.toml", f'logging.output = "{self.log_file}"\n')
        endpoints = [f"tcp:{number}:interface={LOOPBACK}" for number in (port, pages)]
        service = self.twistd("-c", file, "-l", endpoints[0], "-m", endpoints[1])
        eventually(lambda: connects(pages), "it serves its pages")
        with dial(port) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            self.assertTrue(read_to_end(connection).startswith(b"HTTP/1.1 200 "))
        self.assertEqual("", self.log_file.read_text())
        service.signal(signal.SIGTERM)
        self.assertEqual(0, service.wait())

    def test_lines_are_whole(self) -> None:
        """What could be written only in part is completed when there is space again."""
        self.start_proxy("json")
        self.times_full = 3
        with self.honest() as crowd:
            for time in range(self.times_full):
                self.fill()
                self.disk.free()
                eventually(lambda time=time: self.times_told() > time, "the log goes on")
                crowd.some_more()
        eventually(self.whole, "every line is one object")
        self.nothing_is_left()

    def whole(self) -> bool:
        """Tell whether all lines are JSON; the last one may be being written."""
        try:
            return all(map(json.loads, self.log_file.read_text().splitlines()))
        except ValueError:
            return False

    def test_full_when_rotated(self) -> None:
        """The new log cannot even be opened, or not be written."""
        self.start_proxy()
        with self.honest() as crowd:
            self.disk.fill()
            self.log_file.rename(self.log_file.with_suffix(".1"))
            self.service.signal(signal.SIGUSR1)
            crowd.some_more()
            self.disk.free()
            eventually(lambda: self.log_file.exists() and self.logged() > 10, "the new log")
        self.nothing_is_left()


class CertificateTests(ChaosTestCase):
    """TLS is there all the same; and the certificate is kept as soon as it can be."""

    def setUp(self) -> None:
        super().setUp()
        self.disk = SmallDisk(self, self.directory / "disk")
        self.cache = self.disk.path / "cache"
        self.cache.mkdir()
        self.kept = self.cache / "self-signed.pem"

    def test_full(self) -> None:
        self.disk.fill()
        self.carry(config=f'tls.cache_dir = "{self.cache}"')
        self.service.wait_for("it cannot be kept in .*: No space left on device")
        self.assertEqual([], list(self.cache.iterdir()))
        first = shown(self.service.port)
        with self.honest():
            self.hang_up(1)
            self.assertEqual(first, shown(self.service.port), "the old one is still good")
            self.assertEqual([], list(self.cache.iterdir()))
            self.disk.free()
            self.hang_up(2)
        self.assertEqual(serial_of(self.kept), shown(self.service.port))
        self.nothing_is_left()

    def hang_up(self, count: int) -> None:
        self.service.signal(signal.SIGHUP)
        eventually(lambda: self.service.figure("reloads_total", result="ok") == count, "reloaded")
