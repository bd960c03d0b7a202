"""For every key of the configuration: what is good, what is bad, and what the error has to say."""

from tests.config_examples_clients import (
    CLIENT_BAD,
    CLIENT_BAD_TEXT,
    CLIENT_EXAMPLES,
    ENDPOINT_BAD,
)
from tests.config_examples_tls import PATHS_BAD, TLS_BAD, TLS_BAD_TEXT, TLS_EXAMPLES
from tests.config_tables import Example, Name, plain
from whatsproxy.codecs import Direct, SocksProxy
from whatsproxy.destination import Destination as D

EXAMPLES: dict[Name, Example] = {
    ("server", "listen"): Example(
        'listen = ["tcp:1"]',
        "tcp:port=2:interface=127.0.0.1, unix:/run/x",
        ["systemd:domain=INET:index=0", "haproxy:tcp:2"],
        (
            ("tcp:1",),
            ("tcp:port=2:interface=127.0.0.1", "unix:/run/x"),
            ("systemd:domain=INET:index=0", "haproxy:tcp:2"),
        ),
    ),
    ("server", "max_connections"): plain("max_connections", 1, 10_000_000, 3),
    ("server", "fast"): Example("fast = false", "false", False, (False,) * 3),
    ("server", "names"): Example(
        'names = ["Proxy.Example.", "*.Faß.de"]',
        "a.b,*.c.d.",
        ("x.y",),
        (("proxy.example", "*.xn--fa-hia.de"), ("a.b", "*.c.d"), ("x.y",)),
    ),
    **TLS_EXAMPLES,
    **CLIENT_EXAMPLES,
    ("timeouts", "sniff"): plain("sniff", 0.5, 2.5, 604_800),
    ("timeouts", "connect"): plain("connect", 1, 2, 3.5),
    ("timeouts", "idle"): plain("idle", 1, 2, 3),
    ("timeouts", "chat_idle"): plain("chat_idle", 1, 2, 3),
    ("timeouts", "tls_handshake"): plain("tls_handshake", 0.5, 2, 604_800),
    ("timeouts", "http_head"): plain("http_head", 1, 2, 3),
    ("timeouts", "http_answer"): plain("http_answer", 1, 2, 604_800),
    ("timeouts", "shutdown"): plain("shutdown", 0, 2, 3),
    ("timeouts", "lame_duck"): plain("lame_duck", 1, 2, 3),
    ("upstream", "chat"): Example(
        'chat = ["G.whatsapp.net.:443", "tls://faß.de:80"]',
        "tls://a.b:1,[2001:DB8::1]:2",
        ["tls://127.0.0.1:3"],
        (
            (D("g.whatsapp.net", 443), D("xn--fa-hia.de", 80, tls=True)),
            (D("a.b", 1, tls=True), D("2001:db8::1", 2)),
            (D("127.0.0.1", 3, tls=True),),
        ),
    ),
    ("upstream", "xmpp"): Example(
        'xmpp = ["a.b:1"]',
        "refuse",
        ["tls://[::1]:2"],
        ((D("a.b", 1),), None, (D("::1", 2, tls=True),)),
    ),
    ("upstream", "raw"): Example(
        'raw = ["refuse"]',
        "a.b:1, tls://c.d:2",
        ("refuse",),
        (None, (D("a.b", 1), D("c.d", 2, tls=True)), None),
    ),
    ("upstream", "web"): Example(
        'web = "A.b.:80"',
        "[2001:DB8::1]:8080",
        "127.0.0.1:1",
        (D("a.b", 80), D("2001:db8::1", 8080), D("127.0.0.1", 1)),
    ),
    ("socks5", "proxies"): Example(
        'proxies = ["socks5://us%40er:p%3Aw@h:99", "direct"]',
        "socks5://h,socks5h://[::1]:2",
        ["socks5://1.2.3.4"],
        (
            (SocksProxy(D("h", 99), (b"us@er", b"p:w")), Direct()),
            (SocksProxy(D("h", 1080)), SocksProxy(D("::1", 2))),
            (SocksProxy(D("1.2.3.4", 1080)),),
        ),
    ),
    ("policy", "allow"): Example(
        'allow = ["*.Faß.de", "*"]',
        "A.b,*.c.d.",
        [],
        (("*.xn--fa-hia.de", "*"), ("a.b", "*.c.d"), ()),
    ),
    ("policy", "allow_ports"): Example(
        "allow_ports = [1, 65535]", "443, 5222", [], ((1, 65535), (443, 5222), ())
    ),
    ("http", "keepalive"): plain("keepalive", 0.5, 2, 604_800),
    ("http", "max_head"): plain("max_head", 1024, 1 << 20, 2000),
    ("http", "max_fields"): plain("max_fields", 1, 10_000, 7),
    ("http", "max_body"): plain("max_body", 1, 10**15, 5),
    ("http", "via"): plain("via", "gateway1", "a.b!", "x"),
    ("http", "set_request"): Example(
        'set_request = {"X-Name" = "a, b"}',
        "X-Name=a=b, other=",
        {"x": "y z"},
        ((("X-Name", "a, b"),), (("X-Name", "a=b"), ("other", "")), (("x", "y z"),)),
    ),
    ("http", "remove_request"): Example(
        'remove_request = ["Cookie", "x-y"]',
        "DNT, Via",
        ["!"],
        (("Cookie", "x-y"), ("DNT", "Via"), ("!",)),
    ),
    ("http", "set_response"): Example(
        "set_response = {Server = ''}",
        "Server=x",
        {"A": "1", "B": "2"},
        ((("Server", ""),), (("Server", "x"),), (("A", "1"), ("B", "2"))),
    ),
    ("http", "remove_response"): Example(
        'remove_response = ["Server"]',
        "Server",
        ("X-Powered-By",),
        (("Server",),) * 2 + (("X-Powered-By",),),
    ),
    ("http", "users_file"): plain("users_file", "/etc/users", "a b", "users,1"),
    ("http", "users_in_clear"): Example("users_in_clear = true", "true", True, (True,) * 3),
    ("metrics", "listen"): plain("listen", "unix:/run/m", "tcp6:9", ""),
    ("logging", "level"): plain("level", "debug", "error", "warn"),
    ("logging", "format"): Example('format = "json"', "json", "json", ("json",) * 3),
    ("logging", "output"): plain("output", "stderr", "/var/log/x", "a file"),
}
_SECONDS: list[tuple[object, str]] = [
    *[(raw, "seconds.*604800") for raw in ("5", True, [5], {}, -1, -0.001, 604_801)],
    *[(raw, "seconds.*604800") for raw in (float("inf"), float("nan"), 1e300)],
]
_ADDRESSES: list[tuple[object, str]] = [
    *[(raw, "list.*host:port") for raw in ("a.b:1", 5, {}, True)],
    *[([raw], "g.whatsapp.net:5222") for raw in ("a.b", "a.b:0", "a b:1", "::1:5", "0x7f.1:1")],
    *[([raw], "would be") for raw in ("tls://a.b", "tls:a.b:1", "TLS://a.b:1", "http://a.b:1")],
    *[([raw], "would be") for raw in ("tls://tls://a.b:1", "tls://", "tls://refuse")],
    ([5], "string"),
]
_CHOICE: list[tuple[object, str]] = [
    (raw, "one of .*{}") for raw in ("", "INFO", "loud", 5, True, ["info"], {"a": 1})
]
_FIELD_NAMES: list[tuple[object, str]] = [
    *[(raw, "list.*names of fields") for raw in ("Cookie", 5, {"X": "y"}, True)],
    *[([raw], "name of a field.*X-Name") for raw in ("", "a b", "X:", "é", "X\n")],
    *[([raw], "not yours") for raw in ("Host", "content-length", "Proxy-X", "Content_Length")],
    ([5], "string"),
    (["X", "Host"], "item 2: Host"),
]
_FIELDS: list[tuple[object, str]] = [
    *[(raw, '"X-Name" = "value"') for raw in ("X=y", 5, ["X"], True)],
    *[({raw: "x"}, "name of a field.*X-Name") for raw in ("", "a b", "X:", "é")],
    *[({raw: "x"}, "not yours") for raw in ("Host", "connection", "PROXY-X", "Content_Length")],
    *[({"X": raw}, "visible ASCII") for raw in (" x", "x ", "a\nb", "é", "a\x00b")],
    *[({"X": raw}, "string") for raw in (5, True, ["x"], {"x": "y"})],
    ({"X-A": "1", "x-a": "2"}, "twice"),
]
#: What is wrong with each key, and what its error must say would be right.
BAD: dict[Name, list[tuple[object, str]]] = {
    ("server", "listen"): [
        ("tcp:1", "list.*endpoint"),
        (5, "list"),
        *(([raw], right) for raw, right in ENDPOINT_BAD),
        *(([f"haproxy:{raw}"], right) for raw, right in ENDPOINT_BAD if raw != 5),
        (["haproxy:haproxy:tcp:1"], "'haproxy' is no kind of endpoint"),
        (["tcp:1", "tcp6:"], "tcp6:8443"),
    ],
    ("server", "max_connections"): [
        (raw, "integer from 1 to 10000000")
        for raw in ("5", 0, -1, 10_000_001, 1.0, True, [1], {}, 2**70)
    ],
    ("server", "names"): [
        *((raw, "list.*names") for raw in ("a.b", 5, {}, True)),
        (["*"], "open relay|name the domains"),
        *(([raw], r"proxy.example or \*") for raw in ("", "a b", "127.0.0.1", "*.*.a", "a.b:1")),
        ([5], "string"),
    ],
    **TLS_BAD,
    **CLIENT_BAD,
    **{("timeouts", n): [*_SECONDS, (0, "more than 0")] for n in ("sniff", "connect", "idle")},
    **{
        key: [*_SECONDS, (0, "more than 0")]
        for key in (
            ("timeouts", "chat_idle"),
            ("timeouts", "tls_handshake"),
            ("timeouts", "http_head"),
            ("timeouts", "http_answer"),
            ("http", "keepalive"),
        )
    },
    ("timeouts", "shutdown"): _SECONDS,
    ("timeouts", "lame_duck"): _SECONDS,
    ("upstream", "chat"): [*_ADDRESSES, ([], "host:port"), (["refuse"], "host:port")],
    ("upstream", "xmpp"): [*_ADDRESSES, ("refuse", "list"), (["a.b:1", "refuse"], "host:port")],
    ("upstream", "raw"): [*_ADDRESSES, (["refuse", "refuse"], "host:port")],
    ("upstream", "web"): [
        *((raw, "string") for raw in (5, True, ["a.b:1"], {}, [])),
        ("tls://a.b:80", "own TLS"),
        *((raw, "127.0.0.1:8080") for raw in ("a.b", "a.b:0", "refuse", " ", "::1:5", ":80")),
    ],
    ("socks5", "proxies"): [
        ("socks5://h", "list.*socks5://"),
        ([5], "string"),
        *(
            ([raw], r"socks5://\[user:password@\]host\[:port\]")
            for raw in ("http://h", "socks4://h", "socks5://", "socks5://h:0", "socks5://h/x", "h")
        ),
        *(([f"socks5://{u}@h"], "1 to 255 bytes") for u in ("", "u", "u:", ":p", "u:" + "p" * 256)),
    ],
    ("policy", "allow"): [
        ("a.b", "list.*names"),
        *(([raw], "whatsapp.net or") for raw in ("", "a b", "127.0.0.1", "*.*.a", "a.b:1", "**")),
        ([5], "string"),
    ],
    ("policy", "allow_ports"): [
        (80, "list.*ports"),
        *(([raw], "1 to 65535") for raw in (0, 65536, -1, 1.0, True, "80", [1])),
    ],
    **{
        ("http", name): [
            (raw, f"integer from {low} to {high} is")
            for raw in (low - 1, high + 1, -1, "5", 5.0, True, [5], {}, 2**70)
        ]
        for name, low, high in (
            ("max_head", 1024, 1 << 20),
            ("max_fields", 1, 10_000),
            ("max_body", 0, 10**15),
        )
    },
    ("http", "via"): [
        *((raw, "a word that is no secret") for raw in (" ", "a b", "a,b", "é", "x\n")),
        *((raw, "string") for raw in (5, True, ["x"], {})),
    ],
    ("http", "set_request"): _FIELDS,
    ("http", "set_response"): _FIELDS,
    ("http", "remove_request"): _FIELD_NAMES,
    ("http", "remove_response"): _FIELD_NAMES,
    ("http", "users_file"): PATHS_BAD,
    ("http", "users_in_clear"): TLS_BAD["tls", "auto_generate"],
    ("server", "fast"): TLS_BAD["tls", "auto_generate"],
    ("metrics", "listen"): [
        *((" ", right) for _, right in ENDPOINT_BAD[:1]),
        *ENDPOINT_BAD[1:],
        ("haproxy:tcp:1", "no kind of endpoint"),
    ],
    ("logging", "level"): [(raw, right.format("debug")) for raw, right in _CHOICE],
    ("logging", "format"): [(raw, right.format("text, json")) for raw, right in _CHOICE],
    ("logging", "output"): [
        *((raw, "stdout, stderr or the path") for raw in ("", "a\0b")),
        *((raw, "string") for raw in (5, True, ["stdout"])),
    ],
}
#: What is wrong as the text of an environment variable.
BAD_TEXT: dict[Name, list[tuple[str, str]]] = {
    ("server", "listen"): [("udp:1", "no kind"), ("tcp:1,tcp:" + "9" * 5000, "no port from 0 to")],
    ("server", "max_connections"): [
        (text, "integer from 1") for text in ("many", "", "0", "1.5", "9" * 5000, "0x10")
    ],
    ("server", "names"): [("a.b,*", "name the domains"), ("a_b c", "proxy.example or")],
    **TLS_BAD_TEXT,
    **CLIENT_BAD_TEXT,
    **{
        ("timeouts", name): [(text, "seconds") for text in ("", "5 minutes", "nan", "inf", "-1")]
        for name in (
            *("sniff", "connect", "idle", "chat_idle", "tls_handshake", "http_head", "http_answer"),
            *("shutdown", "lame_duck"),
        )
    },
    ("upstream", "chat"): [("", "host:port"), ("refuse", "host:port"), ("a.b:1 c.d:2", "would be")],
    ("upstream", "xmpp"): [("a.b", "host:port"), ("refuse,a.b:1", "host:port")],
    ("upstream", "raw"): [("a.b:http", "1 to 65535"), ("[::1]", "host:port")],
    ("upstream", "web"): [("a.b", "host:port|would be"), ("refuse", "would be"), (" ", "would be")],
    ("socks5", "proxies"): [("127.0.0.1:1080", "socks5://"), ("direct,none", "socks5://")],
    ("policy", "allow"): [("a.b,**", "whatsapp.net or"), ("a_b c", "whatsapp.net or")],
    ("policy", "allow_ports"): [(text, "1 to 65535") for text in ("80,http", "0x50", "0", "1.0")],
    ("http", "keepalive"): [(text, "seconds") for text in ("", "0", "1 minute", "nan")],
    **{
        ("http", name): [(text, "an integer from") for text in ("many", "", "-1", "64K", "1.5")]
        for name in ("max_head", "max_fields", "max_body")
    },
    ("http", "via"): [("a b", "a word that is no secret"), ("é", "a word")],
    **{
        ("http", name): [
            *((text, '"X-Name" = "value"') for text in ("X", "X=1,Y", "a, b", "X=1,X=2")),
            *((text, "name of a field") for text in ("=x", "a b=x", "X:y=z")),
            *((text, "not yours") for text in ("Host=x", "te=x", "Content_Length=5")),
            *((text, "visible ASCII") for text in ("X=é", "X=a\nb")),
            ("X=1,x=2", "twice"),
        ]
        for name in ("set_request", "set_response")
    },
    **{
        ("http", name): [("X=y", "name of a field"), ("Cookie,Host", "item 2: Host"), ("TE", "not")]
        for name in ("remove_request", "remove_response")
    },
    ("http", "users_file"): TLS_BAD_TEXT["tls", "cache_dir"],
    ("http", "users_in_clear"): TLS_BAD_TEXT["tls", "auto_generate"],
    ("server", "fast"): TLS_BAD_TEXT["tls", "auto_generate"],
    ("metrics", "listen"): [("tcp:metrics", "65535"), ("tcp6:65536", "65535"), (" ", "endpoint")],
    ("logging", "level"): [("Info", "debug, info, warn, error"), ("", "debug")],
    ("logging", "format"): [("JSON", "text, json")],
    ("logging", "output"): [("", "stdout, stderr or the path")],
}


def variable(section: str, name: str) -> str:
    """Return the name of a key's environment variable."""
    return f"WHATSPROXY_{section}_{name}".upper()


def whole_file() -> str:
    """Return a file that sets every key to its first example."""
    sections = dict.fromkeys(section for section, _ in EXAMPLES)
    return "".join(
        f"[{section}]\n"
        + "".join(f"{e.file}\n" for (of, _), e in EXAMPLES.items() if of == section)
        for section in sections
    )
