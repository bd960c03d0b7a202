"""The tables of config_examples.py for what is about clients: by which door, who, how much."""

from tests.config_tables import Example, Name, plain
from whatsproxy.listen_codecs import Listener
from whatsproxy.sniff import Kind

CLIENT_EXAMPLES: dict[Name, Example] = {
    ("server", "listener"): Example(
        'listener = [{endpoint = "tcp:1", kinds = ["tls", "whatsapp"]}, '
        '{endpoint = "unix:/x", proxy_protocol = true, allow = ["file:y", "2001:DB8::/32"]}]',
        "tcp6:2, haproxy:tcp:3",
        ({"endpoint": "haproxy:tcp:4", "allow": (), "kinds": ("raw",), "proxy_protocol": True},),
        (
            (
                Listener("tcp:1", frozenset({Kind.TLS, Kind.WHATSAPP})),
                Listener("unix:/x", proxy_protocol=True, allow=("file:y", "2001:db8::/32")),
            ),
            (Listener("tcp6:2"), Listener("tcp:3", proxy_protocol=True)),
            (Listener("tcp:4", frozenset({Kind.RAW}), proxy_protocol=True),),
        ),
    ),
    ("server", "proxy_trusted"): Example(
        'proxy_trusted = ["192.0.2.10/32", "2001:DB8::1"]',
        "10.0.0.0/8",
        ["::/0"],
        (("192.0.2.10/32", "2001:db8::1"), ("10.0.0.0/8",), ("::/0",)),
    ),
    ("server", "max_buffered"): plain("max_buffered", 1 << 20, 1 << 50, 10_000_000),
    ("clients", "allow"): Example(
        'allow = ["192.0.2.0/24", "file:/etc/networks"]',
        "file:a b/c, 2001:DB8::/32,",
        ("0.0.0.0/0", "file:x"),
        (
            ("192.0.2.0/24", "file:/etc/networks"),
            ("file:a b/c", "2001:db8::/32"),
            ("0.0.0.0/0", "file:x"),
        ),
    ),
    ("clients", "deny"): Example(
        'deny = ["file:Bad.TXT"]',
        "198.51.100.1",
        [" ::1 "],
        (("file:Bad.TXT",), ("198.51.100.1",), ("::1",)),
    ),
    ("clients", "max_per_client"): plain("max_per_client", 0, 10_000_000, 7),
    ("clients", "rate_per_client"): plain("rate_per_client", 0, 1_000_000, 7),
    ("clients", "burst_per_client"): plain("burst_per_client", 1, 10_000_000, 7),
    ("upstream", "send_proxy"): plain("send_proxy", "v1", "v2", "v2"),
    ("policy", "allow_networks"): Example(
        'allow_networks = ["10.0.0.0/8", "127.0.0.1"]',
        "fd00::/8,64:FF9B::/96",
        ["fe80::/10"],
        (("10.0.0.0/8", "127.0.0.1"), ("fd00::/8", "64:ff9b::/96"), ("fe80::/10",)),
    ),
    ("logging", "clients"): plain("clients", "network", "full", "network"),
    ("logging", "rate"): plain("rate", 0, 1_000_000, 7),
}
#: What is wrong with an endpoint.
ENDPOINT_BAD: list[tuple[object, str]] = [
    ("", "endpoint"),
    (5, "string"),
    ("tcp:65536", "65535"),
    ("tcp:x", "65535"),
]
_NETWORKS: list[tuple[object, str]] = [
    *[(raw, "list.*networks") for raw in ("10.0.0.0/8", 5, {}, True)],
    *[([raw], "192.0.2.0/24 or 2001:db8::/32") for raw in ("", "a.b", "127.1", "*", "fe80::%1")],
    *[([raw], "10.0.0.0/8 would be right") for raw in ("10.0.0.1/8", "10.1.0.0/8")],
    *[([f"10.0.0.0/{raw}"], "0 to 32") for raw in ("", "33", "-1", "255.0.0.0")],
    ([5], "string"),
    (["10.0.0.0/8", "::1/0"], "item 2: .*::/0 would be right"),
]
_ONLY_NETWORKS: list[tuple[object, str]] = [*_NETWORKS, (["file:x"], "is no network")]
_SOURCES: list[tuple[object, str]] = [
    *_NETWORKS,
    *[([raw], "path is expected behind file:") for raw in ("file:", "file:a\0b")],
    (["FILE:x"], "is no network"),
]
_ONE = {"endpoint": "tcp:1"}
CLIENT_BAD: dict[Name, list[tuple[object, str]]] = {
    ("server", "listener"): [
        *((raw, r"list.*\[\[listener\]\]") for raw in ("tcp:1", 5, {"endpoint": "tcp:1"}, True)),
        *(
            ([raw], '{endpoint = "tcp6:8443"} is expected')
            for raw in ("tcp:1", 5, {}, {"kinds": ["raw"]}, [])
        ),
        *(([{"endpoint": raw}], right) for raw, right in ENDPOINT_BAD),
        *(([{"endpoint": f"haproxy:{raw}"}], right) for raw, right in ENDPOINT_BAD if raw != 5),
        ([{"endpoint": "haproxy:haproxy:tcp:1"}], "'haproxy' is no kind of endpoint"),
        ([_ONE | {"kind": ["raw"]}], "'kind' is unknown; there are endpoint, kinds, proxy_pro"),
        ([_ONE | {"a\nb": 1}], "is unknown"),
        *(([_ONE | {"proxy_protocol": raw}], "true or false") for raw in ("true", 1, [], {})),
        (
            [{"endpoint": "haproxy:tcp:1", "proxy_protocol": False}],
            "endpoint says haproxy: and proxy_protocol says false",
        ),
        *(([_ONE | {"kinds": raw}], "list.*kinds of connections") for raw in ("raw", 5, {})),
        ([_ONE | {"kinds": []}], "not be empty: kinds of connections"),
        *(
            ([_ONE | {"kinds": [raw]}], "one of http, connect, .*is expected")
            for raw in ("", "HTTP", "https", "all", 5)
        ),
        *(([_ONE | {"allow": raw}], right) for raw, right in _SOURCES),
        ([_ONE, {"endpoint": "udp:1"}], "item 2: 'udp' is no kind of endpoint"),
    ],
    ("server", "proxy_trusted"): _ONLY_NETWORKS,
    ("clients", "allow"): _SOURCES,
    ("clients", "deny"): _SOURCES,
    ("policy", "allow_networks"): _ONLY_NETWORKS,
    **{
        (section, name): [
            (raw, f"integer from {low} to {high} is expected$")
            for raw in (low - 1, high + 1, -1, "5", 5.5, True, [5], {}, 2**70)
        ]
        for section, name, low, high in (
            ("server", "max_buffered", 1 << 20, 1 << 50),
            ("clients", "max_per_client", 0, 10_000_000),
            ("clients", "rate_per_client", 0, 1_000_000),
            ("clients", "burst_per_client", 1, 10_000_000),
            ("logging", "rate", 0, 1_000_000),
        )
    },
    ("upstream", "send_proxy"): [
        (raw, 'one of "", v1, v2') for raw in ("V1", "1", "v3", "none", 1, True, ["v1"], {"v1": 1})
    ],
    ("logging", "clients"): [
        (raw, "one of none, network, full") for raw in ("", "None", "all", 0, False, ["full"], {})
    ],
}
_NETWORKS_TEXT = [
    ("10.0.0.1/8", "10.0.0.0/8 would be right"),
    ("10.0.0.0/8,a.b", "item 2: .*192.0.2.0/24 or"),
    ("10.0.0.0/8 10.1.0.0/16", "0 to 32"),
]
CLIENT_BAD_TEXT: dict[Name, list[tuple[str, str]]] = {
    ("server", "listener"): [
        ("tcp:x", "65535"),
        ("tcp:1,haproxy:udp:1", "item 2: 'udp' is no kind"),
        ("[{endpoint='tcp:1'}]", "is no kind of endpoint"),
    ],
    ("server", "proxy_trusted"): [*_NETWORKS_TEXT, ("file:x", "is no network")],
    ("clients", "allow"): [*_NETWORKS_TEXT, ("file:", "a path is expected")],
    ("clients", "deny"): [*_NETWORKS_TEXT, ("10.0.0.1,file:", "item 2: a path is expected")],
    ("policy", "allow_networks"): [*_NETWORKS_TEXT, ("file:x", "is no network")],
    **{
        (section, name): [(text, "an integer from") for text in ("", "many", "-1", "1.5", "64K")]
        for section, name in (
            ("server", "max_buffered"),
            ("clients", "max_per_client"),
            ("clients", "rate_per_client"),
            ("clients", "burst_per_client"),
            ("logging", "rate"),
        )
    },
    ("upstream", "send_proxy"): [("V2", 'one of "", v1, v2'), ("yes", "one of")],
    ("logging", "clients"): [("", "one of none"), ("Full", "one of none, network, full")],
}
