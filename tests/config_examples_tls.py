"""The tables of config_examples.py for the section tls."""

from tests.config_tables import Example, Name, plain
from whatsproxy.tls_codecs import CertificateFiles as C

TLS_EXAMPLES: dict[Name, Example] = {
    ("tls", "auto_generate"): Example("auto_generate = false", "false", False, (False,) * 3),
    ("tls", "certificate"): Example(
        'certificate = [{cert_file = "a.pem", key_file = "a.key"}, '
        '{cert_file = "b:c", key_file = "b,c", passphrase_env = "WORD"}]',
        "a.pem:a.key,/b.pem:/b.key:WORD",
        [{"cert_file": "a", "key_file": "a"}],
        (
            (C("a.pem", "a.key"), C("b:c", "b,c", "WORD")),
            (C("a.pem", "a.key"), C("/b.pem", "/b.key", "WORD")),
            (C("a", "a"),),
        ),
    ),
    ("tls", "cache_dir"): plain("cache_dir", "/var/cache/x", "y z", "a,b"),
    ("tls", "dns_names"): Example(
        'dns_names = ["A.b.", "*.Faß.de"]',
        "a.b, *.c.d",
        ["x"],
        (("a.b", "*.xn--fa-hia.de"), ("a.b", "*.c.d"), ("x",)),
    ),
    ("tls", "ip_addresses"): Example(
        'ip_addresses = ["192.0.2.1", "2001:DB8::0:1"]',
        "::1",
        ("0.0.0.0",),
        (("192.0.2.1", "2001:db8::1"), ("::1",), ("0.0.0.0",)),
    ),
    ("tls", "validity_days"): plain("validity_days", 31, 3650, 90),
    ("tls", "min_version"): Example('min_version = "1.3"', "1.3", "1.3", ("1.3",) * 3),
    ("tls", "ciphers"): plain("ciphers", "ECDHE+AESGCM:!aNULL", "ALL:@SECLEVEL=0", "HIGH"),
    ("tls", "upstream_ca_file"): plain("upstream_ca_file", "/etc/ca.pem", "ca", "c a.pem"),
    ("tls", "upstream_pins"): Example(
        f'upstream_pins = {{"A.b." = ["sha256/{"A" * 43}="], "::1" = ["sha256/{"/" * 42}8="]}}',
        f"a.b=sha256/{'A' * 43}=, c.d=sha256/{'A' * 43}=,a.b=sha256/{'/' * 42}8=",
        {"1.2.3.4": (f"sha256/{'A' * 43}=",)},
        (
            (("a.b", (bytes(32),)), ("::1", (b"\xff" * 32,))),
            (("a.b", (bytes(32), b"\xff" * 32)), ("c.d", (bytes(32),))),
            (("1.2.3.4", (bytes(32),)),),
        ),
    ),
}
PATHS_BAD: list[tuple[object, str]] = [
    *[(raw, "string") for raw in (5, True, ["/x"], {})],
    ("a\0b", "a path is expected"),
]
_DNS_NAMES: list[tuple[object, str]] = [
    *[(raw, "list.*names") for raw in ("a.b", 5, {}, True)],
    *[([raw], "host name") for raw in ("", "a b", "*.*.a", "a.b:1", "127.0.0.1", "x" * 64)],
    ([5], "string"),
    (["a.b", "*."], "item 2: "),
]
_PIN = f"sha256/{'A' * 43}="
_CERTIFICATE: dict[str, object] = {"cert_file": "a", "key_file": "b"}
TLS_BAD: dict[Name, list[tuple[object, str]]] = {
    ("tls", "auto_generate"): [(raw, "true or false") for raw in ("true", 1, 0, [], {}, "")],
    ("tls", "certificate"): [
        *((raw, r"list.*\[\[tls.certificate\]\]") for raw in ("a:b", 5, True, {"x": 1})),
        *(([raw], 'cert_file = "chain.pem"') for raw in ("a:b", 5, {}, {"cert_file": "a"})),
        *(([_CERTIFICATE | {"key_file": raw}], "cert_file = ") for raw in ("", "a\0b")),
        *(([_CERTIFICATE | {"passphrase_env": raw}], "string") for raw in (5, True, ["X"])),
        ([_CERTIFICATE | {"passphrase": "secret"}], "'passphrase' is unknown"),
        ([_CERTIFICATE, _CERTIFICATE | {"cert_file": 5}], "item 2: .*string"),
        # Each has figures of its own, by the name of its file.
        ([_CERTIFICATE, _CERTIFICATE | {"key_file": "c"}], "twice"),
    ],
    ("tls", "cache_dir"): PATHS_BAD,
    ("tls", "dns_names"): [*_DNS_NAMES, (["*"], "host name")],
    ("tls", "ip_addresses"): [
        *((raw, "list.*addresses") for raw in ("::1", 5, {}, True)),
        *(
            ([raw], "IPv4 or IPv6")
            for raw in ("", "a.b", "127.1", "::1/128", "[::1]", "fe80::1%eth0")
        ),
        *(([raw], "IPv4 or IPv6|string") for raw in (" ::1", 5)),
    ],
    ("tls", "validity_days"): [
        (raw, "an integer from 31 to 3650") for raw in (30, 3651, 0, -1, "365", 90.0, True, [], {})
    ],
    ("tls", "min_version"): [
        (raw, "one of 1.2, 1.3") for raw in ("1.1", "", "TLSv1.2", 1.2, 1.3, True, ["1.2"], {})
    ],
    ("tls", "ciphers"): [
        *((raw, "OpenSSL's words") for raw in ("ECDHE AESGCM", "a,b", "é", "a\n", "'")),
        *((raw, "string") for raw in (5, True, ["ECDHE"], {})),
    ],
    ("tls", "upstream_ca_file"): PATHS_BAD,
    ("tls", "upstream_pins"): [
        *((raw, '"host" = ') for raw in ("a.b=x", 5, True, ["a.b"])),
        *(({raw: [_PIN]}, "host name|IPv6 address") for raw in ("", "a b", "*.a.b", "a.b:1")),
        *(({"a.b": raw}, "a.b: a list of pins") for raw in (_PIN, [], 5, {})),
        *(({"a.b": [_PIN, raw]}, "SHA-256") for raw in ("", "sha256/", _PIN[:-1], f"{_PIN}=")),
        *(({"a.b": [raw]}, "SHA-256") for raw in ("sha1/" + "A" * 27 + "=", _PIN[7:], "x" + _PIN)),
        ({"a.b": [5]}, "string"),
    ],
}
TLS_BAD_TEXT: dict[Name, list[tuple[str, str]]] = {
    ("tls", "auto_generate"): [(text, "true or false") for text in ("", "maybe", "2")],
    ("tls", "certificate"): [
        *((text, "cert_file = ") for text in ("a.pem", "a.pem:", ":a.key", "a:b,c")),
        ("a:b,c:", "item 2: "),
    ],
    ("tls", "dns_names"): [("a.b,*", "host name"), ("a b", "host name")],
    ("tls", "ip_addresses"): [("127.0.0.1,localhost", "item 2: an IPv4 or IPv6")],
    ("tls", "validity_days"): [
        (text, "an integer from 31") for text in ("", "30", "1 year", "1e2")
    ],
    ("tls", "min_version"): [(text, "one of 1.2, 1.3") for text in ("", "1.1", "TLSv1.3", "1.30")],
    ("tls", "cache_dir"): [("a\0b", "a path")],
    ("tls", "ciphers"): [("ECDHE, AESGCM", "OpenSSL's words")],
    ("tls", "upstream_ca_file"): [("a\0b", "a path")],
    ("tls", "upstream_pins"): [
        *((text, "SHA-256") for text in ("a.b", "a.b=", f"a.b={_PIN},c.d=x", "a.b=sha256/A=")),
        (f"a b={_PIN}", "host name"),
    ],
}
