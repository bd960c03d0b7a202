"""Certificates: kept, renewed under live connections, watched by figures; and what ends a start."""

import os
import signal
import stat
from datetime import UTC, datetime
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.integration.programs import eventually
from tests.integration.proxy import ANY_PORT, Proxy
from tests.integration.tls_clients import (
    PROXY_NAME,
    TlsTestCase,
    certificate_config,
    exchange,
    replace_file,
    serial_of,
    shown,
    tls_dial,
)
from tests.integration.tls_origins import DAY, TODAY, Presented, leaf, served
from tests.integration.traffic import flip, flipping

#: More than the ten seconds between two looks at the files.
LOOK = 15.0


class OwnCertificateTests(TlsTestCase):
    """The operator's own, replaced on disk and read anew."""

    def setUp(self) -> None:
        super().setUp()
        self.ca = trustme.CA()
        self.port = served(self, flipping)
        # As certbot keeps them: live/ is links, and a renewal moves those.
        self.archive = self.directory / "archive"
        self.archive.mkdir()
        self.chain, self.key = self.directory / "fullchain.pem", self.directory / "privkey.pem"
        self.issued = 0

    def issue(self, **dates: datetime) -> Presented:
        return leaf(self.ca.issue_cert(PROXY_NAME, **dates))

    def install(self, presented: Presented) -> None:
        """Put a certificate and its key where the proxy finds them."""
        self.issued += 1
        for path, content in ((self.chain, presented.chain), (self.key, presented.key)):
            target = self.archive / f"{path.stem}{self.issued}.pem"
            target.write_bytes(content)
            link = path.with_suffix(".link")
            link.symlink_to(target)
            link.replace(path)

    def serial(self) -> int:
        """Return the serial number of what was installed last."""
        return serial_of(self.chain)

    def carry(self, *, more: str = "") -> Proxy:
        config = f'upstream.chat = ["127.0.0.1:{self.port}"]\n{more}'
        self.service = self.proxy(config=config + certificate_config(self.chain, self.key))
        return self.service

    def hang_up(self, result: str, count: int) -> None:
        self.service.signal(signal.SIGHUP)
        eventually(lambda: self.service.figure("reloads_total", result=result) == count, result)

    def expiry(self) -> float:
        name = "certificate_expiry_timestamp_seconds"
        return self.service.figure(name, certificate=str(self.chain))

    def test_by_hangup(self) -> None:
        self.install(self.issue(not_after=TODAY + 40 * DAY))
        first = self.serial()
        proxy = self.carry()
        self.assertEqual(int((TODAY + 40 * DAY).timestamp()), int(self.expiry()))
        with tls_dial(proxy.port, PROXY_NAME) as live:
            live.sendall(b"\0before")
            exchange(live, flip(b"\0before"))
            self.install(self.issue(not_after=TODAY + 80 * DAY))
            second = self.serial()
            self.assertEqual(first, shown(proxy.port))
            self.hang_up("ok", 1)
            self.assertEqual(second, shown(proxy.port))
            self.assertEqual(int((TODAY + 80 * DAY).timestamp()), int(self.expiry()))
            # A key that is not the certificate's, and no certificate at all.
            bad = self.issue()
            for number, presented in enumerate(
                (Presented(bad.chain, self.issue().key), Presented(b"no PEM", bad.key)), 1
            ):
                self.install(presented)
                self.hang_up("failed", number)
                self.assertEqual(second, shown(proxy.port))
            self.assertEqual(int((TODAY + 80 * DAY).timestamp()), int(self.expiry()))
            proxy.wait_for(" error .*no certificate in PEM")
            errors = [line for line in proxy.output().splitlines() if " error " in line]
            self.assertEqual(2, len(errors), proxy.output())
            self.assertIn("is not the key of", errors[0])
            self.assertIn("no certificate in PEM", errors[1])
            self.install(self.issue())
            third = self.serial()
            self.hang_up("ok", 2)
            self.assertEqual(third, shown(proxy.port))
            live.sendall(b"after" * 50_000)
            exchange(live, flip(b"after" * 50_000))
        self.assertNotIn("Traceback", proxy.output())

    def test_by_the_files(self) -> None:
        """The files are looked at, and read where they have changed; a bad one changes nothing."""
        self.install(self.issue())
        # Started first, it has looked when the others have.
        untouched, _ = self.carry_another("untouched")
        renewed, files = self.carry_another("renewed")
        halfway = self.carry()
        proxies = (halfway, renewed, untouched)
        before = [shown(proxy.port) for proxy in proxies]
        self.assertEqual(3, len(set(before)))
        # Halfway through a renewal: the certificate is new, and the key is not yet.
        new = self.issue()
        replace_file(self.archive / "fullchain1.pem", new.chain)
        for path, content in zip(files, (new.chain, new.key), strict=True):
            replace_file(path, content)

        def noticed() -> bool:
            failed = halfway.figure("reloads_total", result="failed")
            return failed == 1 and renewed.figure("reloads_total", result="ok") == 1

        eventually(noticed, "the new files are noticed", LOOK)
        after = [shown(proxy.port) for proxy in proxies]
        self.assertEqual([before[0], self.serial(), before[2]], after)
        self.assertEqual(1, halfway.output().count(" error "), halfway.output())
        replace_file(self.archive / "privkey1.pem", new.key)
        self.service = halfway
        self.hang_up("ok", 1)
        self.assertEqual(self.serial(), shown(halfway.port))
        self.assertEqual(0, untouched.figure("reloads_total"))
        self.nothing_is_wrong(renewed)

    def carry_another(self, name: str) -> tuple[Proxy, tuple[Path, Path]]:
        """Start another proxy, with another certificate, in these files."""
        files = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        presented = self.issue()
        for path, content in zip(files, (presented.chain, presented.key), strict=True):
            path.write_bytes(content)
        return self.proxy(config=certificate_config(*files)), files

    def test_encrypted_key(self) -> None:
        presented = self.issue()
        key = load_pem_private_key(presented.key, None)
        secret = key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret-word")
        )
        self.install(Presented(presented.chain, secret))
        serial = self.serial()
        config = certificate_config(self.chain, self.key) + 'passphrase_env = "KEY_WORD"\n'
        proxy = self.proxy(config=config, env={"KEY_WORD": "secret-word"})
        self.assertEqual(serial, shown(proxy.port))
        self.assertNotIn("secret-word", proxy.output())


class StartTests(TlsTestCase):
    """Status 1, and one clear line that names the file and what is wrong with it."""

    def test_what_is_wrong(self) -> None:
        ca = trustme.CA()
        good = leaf(ca.issue_cert(PROXY_NAME))
        other = leaf(ca.issue_cert(PROXY_NAME))
        past = leaf(ca.issue_cert(PROXY_NAME, not_before=TODAY - 9 * DAY, not_after=TODAY - DAY))
        future = leaf(ca.issue_cert(PROXY_NAME, not_before=TODAY + DAY))
        secret = load_pem_private_key(good.key, None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret-word")
        )
        pairs = {
            "is not the key of": Presented(good.chain, other.key),
            "expired": past,
            "not valid before": future,
            "holds no certificate in PEM": Presented(b"no PEM", good.key),
            "holds no private key in PEM": Presented(good.chain, b"no PEM"),
            "needs a passphrase": Presented(good.chain, secret),
            # The last in the file, as some write them.
            "is not the key of ": Presented(ca.cert_pem.bytes() + good.chain, good.key),
        }
        configs = {}
        for number, (why, presented) in enumerate(pairs.items()):
            chain, key = self.directory / f"{number}.crt", self.directory / f"{number}.key"
            chain.write_bytes(presented.chain)
            key.write_bytes(presented.key)
            configs[why] = certificate_config(chain, key)
        absent = self.directory / "absent.pem"
        here = self.directory
        configs["cannot be read"] = certificate_config(absent, absent)
        configs["cannot be read: Is a directory"] = certificate_config(here, here)
        configs["upstream_ca_file"] = f'tls.upstream_ca_file = "{absent}"'
        configs["OpenSSL knows none of them"] = 'tls.ciphers = "NO-SUCH"'
        for why, line in self.starts(configs).items():
            self.assertIn(why.strip(), line)
            self.assertTrue(str(self.directory) in line or "NO-SUCH" in line, line)

    def starts(self, configs: dict[str, str]) -> dict[str, str]:
        """Start with each of these, all at once; return the one line that each says."""
        started: dict[str, Proxy] = {}
        for number, (why, config) in enumerate(configs.items()):
            file = self.write(f"{number}.toml", config)
            started[why] = self.twistd("-c", file, "-l", ANY_PORT, "-m", "")
        lines = {}
        for why, proxy in started.items():
            self.assertEqual(1, proxy.wait(), proxy.output())
            (lines[why],) = proxy.output("stderr").splitlines()
            self.assertNotIn("listening on", proxy.output())
            self.assertNotIn("Traceback", proxy.output())
        return lines


class SelfSignedTests(TlsTestCase):
    """The one that the program makes for itself."""

    @property
    def kept(self) -> Path:
        return self.directory / "cache" / "self-signed.pem"

    def run_once(self, config: str = "", env: dict[str, str] | None = None) -> int:
        """Run the proxy; return the serial number of the certificate it shows."""
        proxy = self.proxy(config=config, env=env)
        serial = shown(proxy.port, PROXY_NAME)
        self.expires = proxy.figure(
            "certificate_expiry_timestamp_seconds", certificate="self-signed"
        )
        proxy.signal(signal.SIGTERM)
        self.assertEqual(0, proxy.wait(), proxy.output())
        self.output = proxy.output()
        return serial

    def test_kept_over_a_restart(self) -> None:
        mask = os.umask(0)
        self.addCleanup(os.umask, mask)
        first = self.run_once()
        self.assertIn("made a self-signed certificate, because there was none yet", self.output)
        self.assertEqual(0o600, stat.S_IMODE(self.kept.stat().st_mode))
        self.assertEqual(0o700, stat.S_IMODE(self.kept.parent.stat().st_mode))
        self.assertEqual([self.kept], list(self.kept.parent.iterdir()))
        content = self.kept.read_bytes()
        self.assertEqual(first, serial_of(self.kept))
        self.assertEqual(first, self.run_once())
        self.assertNotIn("made a self-signed", self.output)
        self.assertEqual(content, self.kept.read_bytes())
        certificate = x509.load_pem_x509_certificate(content)
        self.assertEqual(certificate.not_valid_after_utc.timestamp(), self.expires)
        days = (certificate.not_valid_after_utc - datetime.now(UTC)).total_seconds() / 86400
        self.assertTrue(364 < days <= 365, days)
        for part in (certificate.subject, certificate.issuer):
            self.assertRegex(part.rfc4514_string(), r"^CN=[0-9a-f]{16}$")

    def test_made_anew(self) -> None:
        """Where it is damaged, or for other names; and where it cannot be kept it serves."""
        serials = [self.run_once()]
        self.kept.write_bytes(self.kept.read_bytes()[:300])
        serials.append(self.run_once())
        self.assertIn("cannot be used", self.output)
        serials.append(self.run_once(f'server.names = ["{PROXY_NAME}"]'))
        self.assertIn("is for other names", self.output)
        self.assertEqual(serials[-1], serial_of(self.kept))
        file = self.write("file", "")
        serials.append(self.run_once(env={"CACHE_DIRECTORY": str(file / "below")}))
        self.assertIn("cannot be kept", self.output)
        self.assertEqual(4, len(set(serials)))
        self.assertEqual(0o600, stat.S_IMODE(self.kept.stat().st_mode))
