"""New certificates while the service runs: when they are read, what is said, and who notices."""

import contextlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.task import Clock

from tests.peers import until
from tests.support import WHATSAPP, log_lines
from tests.tls_peers import CA, OURS, TlsPeer, client_side
from tests.tls_support import TlsCase, files_of
from whatsproxy.protocols.tls import TlsHandshake
from whatsproxy.reload import Reloader
from whatsproxy.tls_codecs import CertificateFiles


class ReloadCase(TlsCase):
    """A proxy with certificates of its own, and the Reloader that looks after them."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.files = self.renew()
        self.proxy = self.start(tls={"certificate": (self.files,)})
        self.watch()

    def watch(self) -> None:
        self.clock = Clock()
        self.reloader = Reloader(self.clock, [self.proxy.tls], self.proxy.ledger)
        self.reloader.startService()
        self.lines = log_lines(self)

    async def tearDown(self) -> None:
        self.reloader.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        await super().tearDown()

    def renew(self, name: str = "own", **more: Any) -> CertificateFiles:
        """Put another certificate where one is, as certbot does; the time of the files moves."""
        files = files_of(CA.issue_cert(OURS, **more), self.directory, name)
        self.touch(files.cert_file, files.key_file)
        return files

    def touch(self, *paths: str) -> None:
        """Let a file be of another time than before, though the test is quicker than that."""
        self.times = getattr(self, "times", 10**18) + 10**9
        for path in paths:
            os.utime(path, ns=(self.times, self.times))

    def serial(self) -> int:
        (identity,) = self.proxy.tls.identities
        return identity.chain[0].serial_number

    async def seen(self) -> int:
        """Return what a client gets to see."""
        peer = await self.secured(trust=None)
        certificate = peer.tls.get_peer_certificate(as_cryptography=True)
        peer.reset()
        return int(certificate.serial_number)

    def assertReloads(self, ok: int, failed: int) -> None:
        counted = {("certificates", "ok"): ok, ("certificates", "failed"): failed}
        self.assertEqual(self.proxy.ledger.reloads, counted)


class CalledTests(ReloadCase):
    """By SIGHUP: test_signals has who calls."""

    async def test_new_files(self) -> None:
        before = self.serial()
        self.renew()
        self.assertEqual(await self.seen(), before)
        self.reloader.reload()
        self.assertNotEqual(self.serial(), before)
        self.assertEqual(await self.seen(), self.serial())
        self.assertReloads(1, 0)
        (line,) = [line for line in self.lines if line.startswith("certificate ")]
        expires = self.proxy.tls.identities[0].expires
        self.assertEqual(
            line, f"certificate {self.files.cert_file} is valid until {expires:%Y-%m-%d}"
        )

    async def test_the_same_files(self) -> None:
        before = self.serial()
        self.reloader.reload()
        self.assertEqual(self.serial(), before)
        self.assertReloads(1, 0)

    async def test_bad_files(self) -> None:
        """Of any kind: the old ones stay, in one line that names the file, and counted."""
        before = self.serial()
        chain, key = Path(self.files.cert_file), Path(self.files.key_file)
        good_chain, good_key = chain.read_bytes(), key.read_bytes()
        past = datetime.now(UTC) - timedelta(days=2)
        other = files_of(CA.issue_cert(OURS), self.directory, "other")
        expired = files_of(
            CA.issue_cert(OURS, not_before=past, not_after=past + timedelta(days=1)),
            self.directory,
            "expired",
        )
        for number, (new_chain, new_key) in enumerate(
            (
                (b"", good_key),
                (good_chain, b""),
                (good_chain[: len(good_chain) // 2], good_key),
                (Path(other.cert_file).read_bytes(), good_key),
                (good_chain, Path(other.key_file).read_bytes()),
                (Path(expired.cert_file).read_bytes(), Path(expired.key_file).read_bytes()),
            ),
            1,
        ):
            chain.write_bytes(new_chain)
            key.write_bytes(new_key)
            self.lines.clear()
            self.reloader.reload()
            self.assertEqual(self.serial(), before)
            self.assertReloads(0, number)
            (line,) = self.lines
            self.assertTrue(line.startswith("certificates not reloaded, the old ones stay: "))
            self.assertTrue(str(chain) in line or str(key) in line, line)
        self.assertEqual(await self.seen(), before)

    async def test_one_of_two_is_bad(self) -> None:
        """Then none is taken: it is all of them, or none."""
        second = files_of(CA.issue_cert("second.test"), self.directory, "second")
        self.proxy = self.start(tls={"certificate": (self.files, second)})
        reloader = Reloader(Clock(), [self.proxy.tls], self.proxy.ledger)
        before = self.proxy.tls.identities
        self.renew()
        Path(second.key_file).unlink()
        reloader.reload()
        self.assertEqual(self.proxy.tls.identities, before)
        self.assertReloads(0, 1)


class LiveTests(ReloadCase):
    async def test_live_connections_are_not_touched(self) -> None:
        client, upstream = await self.joined_tls(WHATSAPP)
        old = self.serial()
        for _ in range(3):
            self.renew()
            self.reloader.reload()
        self.assertNotEqual(self.serial(), old)
        client.write(b"still")
        upstream.write(b"here")
        await upstream.got(WHATSAPP + b"still")
        await client.got(b"here")

    async def test_in_the_middle_of_a_handshake(self) -> None:
        """Begun with the old certificate, it ends with the old one."""
        old = self.serial()
        peer = await self.dial_tls(client_side(), starts=False)
        with contextlib.suppress(SSL.WantReadError):
            peer.tls.do_handshake()
        peer.transport.write(peer.outgoing())
        peer.transport.pauseProducing()
        await until(lambda: self.proxy.ledger.live)
        await until(lambda: isinstance(self.session().holder, TlsHandshake))
        self.renew()
        self.reloader.reload()
        peer.transport.resumeProducing()
        await peer.handshaken()
        seen = peer.tls.get_peer_certificate(as_cryptography=True)
        self.assertEqual(seen.serial_number, old)
        peer.write(WHATSAPP)
        await (await self.upstreams.accepted()).got(WHATSAPP)

    async def test_connections_of_both_certificates(self) -> None:
        pairs: list[tuple[TlsPeer, Any]] = []
        for _ in range(4):
            pairs.append(await self.joined_tls(WHATSAPP))
            self.renew()
            self.reloader.reload()
        serials = {
            client.tls.get_peer_certificate(as_cryptography=True).serial_number
            for client, _ in pairs
        }
        self.assertEqual(len(serials), 4)
        for client, upstream in pairs:
            upstream.write(b"here")
            await client.got(b"here")
