"""The settings of TLS: what is read and shown, beyond the tables of config_examples_tls.py."""

import base64
import os
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import host_names
from whatsproxy import settling
from whatsproxy.codecs import Codec
from whatsproxy.config import load
from whatsproxy.tls_codecs import (
    CERTIFICATES,
    CIPHERS,
    DNS_NAMES,
    IP_ADDRESSES,
    PATH,
    PINS,
    SERVER_NAMES,
    CertificateFiles,
)

digests = st.binary(min_size=32, max_size=32)
words = st.text(st.characters(codec="utf-8", exclude_characters="\0~"), min_size=1, max_size=20)
plain_words = st.text("abcXYZ_0./-", min_size=1, max_size=20)
files = st.builds(CertificateFiles, words, words, st.just("") | words)


class RoundTripTests(SynchronousTestCase):
    """What is shown is read as what it was."""

    def check(self, codec: Codec, value: Any) -> None:
        self.assertEqual(codec.decode(codec.encode(value)), value)

    @given(
        st.lists(files, max_size=3, unique_by=lambda each: os.path.abspath(each.cert_file)).map(
            tuple
        )
    )
    def test_certificates(self, value: tuple[CertificateFiles, ...]) -> None:
        self.check(CERTIFICATES, value)

    @given(st.dictionaries(host_names, st.lists(digests, min_size=1, max_size=3).map(tuple)))
    def test_pins(self, value: dict[str, tuple[bytes, ...]]) -> None:
        self.check(PINS, tuple(value.items()))

    @given(st.lists(host_names | host_names.map("*.{}".format), max_size=3).map(tuple))
    def test_names(self, value: tuple[str, ...]) -> None:
        self.check(SERVER_NAMES, value)
        self.check(DNS_NAMES, value)

    @given(st.lists(st.ip_addresses().map(str), max_size=3).map(tuple))
    def test_addresses(self, value: tuple[str, ...]) -> None:
        self.check(IP_ADDRESSES, value)


class TextTests(SynchronousTestCase):
    """As a variable of the environment has it."""

    def read(self, codec: Codec, text: str) -> Any:
        return codec.decode(codec.from_text(text))

    @given(
        st.lists(
            st.tuples(plain_words, plain_words, st.just("") | plain_words),
            max_size=3,
            unique_by=lambda part: os.path.abspath(part[0]),
        )
    )
    def test_certificates(self, parts: list[tuple[str, str, str]]) -> None:
        text = " , ".join(":".join(part if part[2] else part[:2]) for part in parts)
        self.assertEqual(
            self.read(CERTIFICATES, text), tuple(CertificateFiles(*part) for part in parts)
        )

    @given(st.lists(st.tuples(host_names, digests), max_size=4))
    def test_pins(self, pairs: list[tuple[str, bytes]]) -> None:
        """The base64 has equals signs, too; a host that is there twice has both pins."""
        text = ", ".join(f"{h}=sha256/{base64.b64encode(d).decode()}" for h, d in pairs)
        expected: dict[str, tuple[bytes, ...]] = {}
        for host, digest in pairs:
            expected[host] = (*expected.get(host, ()), digest)
        self.assertEqual(dict(self.read(PINS, text)), expected)

    def test_nothing(self) -> None:
        for codec in (CERTIFICATES, PINS, SERVER_NAMES, DNS_NAMES, IP_ADDRESSES):
            for text in ("", " ", " , "):
                self.assertEqual(self.read(codec, text), ())
        self.assertEqual(self.read(PATH, ""), "")
        self.assertEqual(self.read(CIPHERS, ""), "")


class PinTests(SynchronousTestCase):
    def test_what_it_is(self) -> None:
        """As ``openssl dgst -sha256 -binary | base64`` writes it."""
        self.assertEqual(
            PINS.decode({"A.b.": ["sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]}),
            (("a.b", (bytes.fromhex("e3b0c442 98fc1c14 9afbf4c8 996fb924 27ae41e4 649b934c"
                                    "a495991b 7852b855"),)),),
        )  # fmt: skip

    def test_one_host_in_two_spellings(self) -> None:
        """Whatever comes of it, no pin that was given may be dropped in silence."""
        one, two = (f"sha256/{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
        try:
            pins = dict(PINS.decode({"a.b": [one], "A.B": [two]}))
        except ValueError:
            return
        self.assertEqual(set(pins["a.b"]), {b"\x01" * 32, b"\x02" * 32})

    @given(st.text(max_size=60))
    def test_anything(self, text: str) -> None:
        for pin in (text, "sha256/" + text):
            try:
                ((_, (digest,)),) = PINS.decode({"a.b": [pin]})
            except ValueError as e:
                self.assertIn("sha256/", str(e))
            else:
                self.assertEqual(len(digest), 32)


class PathTests(SynchronousTestCase):
    def test_home(self) -> None:
        self.patch(os, "environ", {"HOME": "/home/x"})
        self.assertEqual(PATH.decode("~/a"), "/home/x/a")
        self.assertEqual(PATH.decode("a~"), "a~")

    def test_home_of_certificates(self) -> None:
        """The same for the other paths of the section."""
        self.patch(os, "environ", {"HOME": "/home/x"})
        raw = [{"cert_file": "~/a.pem", "key_file": "~/a.key"}]
        (files,) = CERTIFICATES.decode(raw)
        self.assertEqual((files.cert_file, files.key_file), ("/home/x/a.pem", "/home/x/a.key"))

    def test_relative_ones(self) -> None:
        """They mean the directory that twistd is started in, not the one that it changes to."""
        self.patch(settling, "raise_limit", lambda: None)
        options: dict[tuple[str, str], Any] = {
            ("tls", "cache_dir"): "cache",
            ("tls", "upstream_ca_file"): "/ca.pem",
            ("tls", "certificate"): [{"cert_file": "a.pem", "key_file": "b/a.key"}],
        }
        here = os.getcwd()
        tls = settling.settle(load(options=options)).settings.tls
        self.assertEqual((tls.cache_dir, tls.upstream_ca_file), (f"{here}/cache", "/ca.pem"))
        self.assertEqual(tls.certificate, (CertificateFiles(f"{here}/a.pem", f"{here}/b/a.key"),))
        self.assertEqual(settling.settle(load()).settings.tls, load().settings.tls)
