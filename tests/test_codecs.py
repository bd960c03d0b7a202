import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import host_names
from whatsproxy.codecs import (
    PROXIES,
    Direct,
    SocksProxy,
    decode_proxy,
    seconds,
    toml,
)
from whatsproxy.config import ConfigError, load
from whatsproxy.destination import Destination
from whatsproxy.reference import effective
from whatsproxy.settings import Settings

#: Two words, so that a password cut at a comma is noticed whichever half is shown.
SECRETS = ("hunter2", "s3cret")
FIRST, SECOND = SECRETS
credentials = st.binary(min_size=1, max_size=255)
servers = st.builds(
    Destination,
    host_names | st.ip_addresses().map(str),
    st.integers(1, 65535),
)


class ProxyUrlTests(SynchronousTestCase):
    def test_good(self) -> None:
        for url, host, port, login in (
            ("socks5://h", "h", 1080, None),
            ("socks5h://H.Example.:1/", "h.example", 1, None),
            ("socks5://[::1]", "::1", 1080, None),
            ("socks5://[2001:DB8::1]:2", "2001:db8::1", 2, None),
            ("socks5://u:p@1.2.3.4:3", "1.2.3.4", 3, (b"u", b"p")),
            ("socks5://u:p@[::1]:3", "::1", 3, (b"u", b"p")),
            ("socks5://u%40x:p%3A%2F%40%25@h", "h", 1080, (b"u@x", b"p:/@%")),
            ("socks5://u:a:b@h", "h", 1080, (b"u", b"a:b")),
            ("socks5://u:%00%ff@h", "h", 1080, (b"u", b"\0\xff")),
            ("socks5://ü:ß@h", "h", 1080, ("ü".encode(), "ß".encode())),
            (f"socks5://{'u' * 255}:{'%41' * 255}@h", "h", 1080, (b"u" * 255, b"A" * 255)),
        ):
            self.assertEqual(decode_proxy(url), SocksProxy(Destination(host, port), login), url)
        self.assertEqual(decode_proxy("direct"), Direct())

    def test_bad(self) -> None:
        for url in (
            *("", "h", "h:1", "SOCKS5://h", "socks5:/h", "socks5://", "socks5://u:p@", "DIRECT"),
            *("socks5://h:", "socks5://h:0", "socks5://h:65536", "socks5://::1", "socks5://[::1"),
            *("socks5://u@h", "socks5://@h", "socks5://:@h", "socks5://u:@h", "socks5://:p@h"),
            *("socks5://u:p@h@i", "socks5://h/x", "socks5://h?x", "socks5://h\n", " socks5://h"),
            *(f"socks5://{'u' * 256}:p@h", f"socks5://u:{'%41' * 256}@h", "socks5://0x7f.1"),
        ):
            with self.assertRaises(ValueError, msg=url):
                decode_proxy(url)

    @given(servers, st.none() | st.tuples(credentials, credentials))
    def test_round_trip(self, server: Destination, login: tuple[bytes, bytes] | None) -> None:
        proxy = SocksProxy(server, login)
        self.assertEqual(decode_proxy(proxy.url()), proxy)

    @settings(max_examples=200)
    @given(
        st.text(max_size=20).map("socks5://".__add__) | st.text("socks5h:/@%[].1a ", max_size=30)
    )
    def test_nothing_but_value_errors(self, url: str) -> None:
        try:
            proxy = decode_proxy(url)
        except ValueError:
            return
        if isinstance(proxy, SocksProxy):
            self.assertEqual(decode_proxy(proxy.url()), proxy)


class MisplacedTests(SynchronousTestCase):
    def test_no_part_of_it_is_shown(self) -> None:
        """A URL with a password where none belongs, in every way in which it can be torn apart."""
        for text in ("me:s3cret@h:1", "socks5://me:s3 cret@h:1", "socks5://me:s3,cret@h:1"):
            for sources in (
                {"environ": {"WHATSPROXY_UPSTREAM_CHAT": text}},
                {"options": {("upstream", "chat"): [text]}},
                {"options": {("server", "listen"): [text]}},
                {"options": {("metrics", "listen"): text}},
            ):
                with self.assertRaises(ConfigError) as caught:
                    load(**sources)
                for part in ("s3", "cret"):
                    self.assertNotIn(part, str(caught.exception))


class SecretTests(SynchronousTestCase):
    def silent(self, text: str) -> None:
        for secret in SECRETS:
            self.assertNotIn(secret, text)

    def refused(self, url: str) -> None:
        """Insist that a list with this URL is refused from every source without its password."""
        path = self.mktemp()
        with open(path, "w", encoding="utf-8") as f:
            f.write(f"[socks5]\nproxies = {toml(['socks5://other', url])}\n")
        for sources in (
            {"path": path},
            {"environ": {"WHATSPROXY_SOCKS5_PROXIES": f"direct,{url}"}},
            {"options": {("socks5", "proxies"): [url]}},
        ):
            with self.assertRaises(ConfigError, msg=url) as caught:
                load(**sources)
            self.silent(str(caught.exception))

    def test_wrong_server(self) -> None:
        for server in ("h:99999", "h:", "a b", "", "h/x", "::1", "[::1", "h@i", "0x7f.1", "h?x#y"):
            self.refused(f"socks5://user:{FIRST}@{server}")

    def test_wrong_scheme(self) -> None:
        for before in (
            "http://",
            "socks4://",
            "socks5:/",
            "socks5:",
            "socks5//",
            "",
            "socks5:\\\\",
        ):
            self.refused(f"{before}user:{FIRST}@h:1080")

    def test_wrong_length(self) -> None:
        self.refused(f"socks5://:{FIRST}@h")
        self.refused(f"socks5://user:{FIRST * 40}@h")

    def test_no_server(self) -> None:
        self.refused(f"socks5://user:{FIRST}")
        self.refused(f"socks5://user:{FIRST}@")
        self.refused(f"socks5://user:{FIRST}%40h:1080")

    def test_not_percent_encoded(self) -> None:
        # What should have been encoded stands in the password as it is, and the rest is wrong too.
        for character in ' /@?#,"\\\t%[]:ß':
            self.refused(f"socks5://user:{FIRST}{character}{SECOND}@h:99999")
            self.refused(f"socks5://user{character}:{SECOND}@h:99999")

    def test_wrong_type(self) -> None:
        url = f"socks5://user:{FIRST}@h"
        for raw in (url, {"url": url}, {url: 1}, [[url]], [{"url": url}], ["direct", 5, url]):
            with self.assertRaises(ConfigError) as caught:
                load(options={("socks5", "proxies"): raw})
            self.silent(str(caught.exception))

    def test_under_another_key(self) -> None:
        url = f"socks5://user:{FIRST}@h"
        for key, raw in (
            (("upstream", "chat"), [url]),
            (("server", "listen"), [""]),
            (("metrics", "listen"), "tcp:x" + url),
            (("logging", "level"), url),
        ):
            with self.assertRaises(ConfigError) as caught:
                load(options={("socks5", "proxies"): [url], key: raw})
            self.silent(str(caught.exception))

    def test_accepted(self) -> None:
        loaded = load(options={("socks5", "proxies"): [f"socks5://user:{FIRST}%2C{SECOND}@h"]})
        for text in (
            effective(loaded.settings),
            repr(loaded.settings),
            str(loaded),
            str(loaded.error("socks5", "proxies", "down")),
            PROXIES.show(loaded.settings.socks5.proxies),
        ):
            self.silent(text)
            self.assertIn("user:***@h", text)


class TomlTests(SynchronousTestCase):
    def test_values(self) -> None:
        for value, text in (
            ("a", '"a"'),
            ('"\\\n\t\0', r'"\"\\\n\t\u0000"'),
            ("faß", '"faß"'),
            ([], "[]"),
            (("a", 1, True), '["a", 1, true]'),
            (10.0, "10"),
            (0.5, "0.5"),
        ):
            self.assertEqual(toml(value), text)

    @given(st.recursive(st.text() | st.integers() | st.booleans(), st.lists, max_leaves=5))
    def test_is_what_a_toml_parser_reads(self, value: object) -> None:
        self.assertEqual(tomllib.loads(f"value = {toml(value)}"), {"value": value})

    def test_delete_is_escaped(self) -> None:
        self.assertEqual(tomllib.loads("value = " + toml("a\x7fb")), {"value": "a\x7fb"})

    @given(st.floats(0, 604_800))
    def test_seconds(self, value: float) -> None:
        codec = seconds(zero=True)
        shown = tomllib.loads(f"value = {codec.show(codec.decode(value))}")
        self.assertEqual(codec.decode(shown["value"]), value)
        self.assertEqual(codec.decode(codec.from_text(str(value))), value)

    def test_the_defaults_can_be_decoded(self) -> None:
        self.assertEqual(load(options={("socks5", "proxies"): []}).settings, Settings())
