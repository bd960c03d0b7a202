"""Requests for comparing a server's answers: what a client may send, in all its spellings."""

from dataclasses import dataclass

from hypothesis import strategies as st

from tests.integration.differential_origins import CHANGED, SIZES, TAGS

_TOKEN = "abcXYZ019!#$%&'*+-.^`|~"
_UNRESERVED = "abcXYZ019-._~!$&'()*+,;=:@"


@dataclass(frozen=True)
class Request:
    """A request but for its target's authority, and Host."""

    method: str
    path: str
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    #: The sizes of its chunks; None: it has a length, or no body.
    chunks: tuple[int, ...] | None = None
    trailers: tuple[tuple[str, str], ...] = ()

    def sent(self, origin: str, *, through: bool) -> bytes:
        """Return the bytes, as an origin takes them, or a proxy (``through``)."""
        path = self.path if self.path != "*" or not through else ""
        target = f"http://{origin}{path}" if through else path
        lines = [f"{self.method} {target} HTTP/1.1", f"Host: {origin}", *_lines(self.fields)]
        if self.chunks is not None:
            lines.append("Transfer-Encoding: chunked")
        elif self.body:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self._payload()

    def _payload(self) -> bytes:
        if self.chunks is None:
            return self.body
        pieces, left = [], self.body
        for size in (*self.chunks, len(self.body)):
            if piece := left[:size]:
                pieces.append(b"%x\r\n%b\r\n" % (len(piece), piece))
            left = left[size:]
        trailers = "".join(f"{line}\r\n" for line in _lines(self.trailers)).encode("latin-1")
        return b"".join(pieces) + b"0\r\n" + trailers + b"\r\n"


def _lines(fields: tuple[tuple[str, str], ...]) -> list[str]:
    return [f"{name}: {value}" for name, value in fields]


methods = st.sampled_from(
    ["GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW", "M-SEARCH"]
)
odd_methods = methods | st.text(_TOKEN, min_size=1, max_size=8)
queries = st.text(_UNRESERVED + "/?", max_size=12)
escapes = st.integers(0, 255).map("%{:02x}".format) | st.integers(0, 255).map("%{:02X}".format)
segments = st.lists(escapes | st.text(_UNRESERVED, max_size=5), max_size=4).map("".join)
paths = st.builds(
    lambda parts, query: "/" + "/".join(parts) + query,
    st.lists(segments, max_size=4),
    st.just("") | queries.map("?{}".format),
)
values = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, blacklist_characters="\x7f")
    | st.just("\t"),
    max_size=20,
).map(lambda text: text.strip(" \t"))
odd_names = st.text(_TOKEN, min_size=1, max_size=8).flatmap(
    lambda name: st.sampled_from(["x-", "X-"]).map(lambda x: x + name)
)
known_names = st.sampled_from(
    ["Accept", "accept-encoding", "User-Agent", "Cookie", "COOKIE", "Cache-Control", "Referer"]
) | st.sampled_from(
    ["authorization", "Via", "From", "X-Forwarded-For", "X-Odd", "x-odd", "Content-Type", "Date"]
)
fields = st.lists(st.tuples(odd_names | known_names, values), max_size=5)
#: What concerns the hop between client and proxy.
hops = st.sampled_from(
    [
        (),
        (("Connection", "keep-alive"),),
        (("Connection", "X-Gone, x-away"), ("X-Gone", "1"), ("x-AWAY", ""), ("X-Gone", "2")),
        (("TE", "trailers"), ("Connection", "TE")),
        (("Keep-Alive", "timeout=5"), ("Connection", "Keep-Alive")),
        (("Proxy-Connection", "keep-alive"),),
        (
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AAMAAABk"),
            ("connection", "Upgrade,HTTP2-Settings"),
        ),
    ]
)
RANGES = ["0-9", "5-", "-7", "0-0", "500-99", "99999999-", "0-999999"]
ranges = st.sampled_from([f"bytes={r}" for r in RANGES] + ["lines=1-2", ""]).map(
    lambda value: ("Range", value)
)
conditions = ranges | st.tuples(
    st.sampled_from(
        ["If-None-Match", "if-match", "IF-RANGE", "If-Modified-Since", "If-Unmodified-Since"]
    ),
    st.sampled_from([*TAGS, CHANGED, CHANGED, "*", '"x"', "Sun, 06 Nov 1983 08:49:37 GMT"]),
)
bodies = st.binary(max_size=200) | st.integers(0, 60_000).map(
    lambda size: b"\x00\r\n0\r\n\r\n" * (size // 8)
)
chunk_sizes = st.none() | st.lists(st.integers(1, 3000), max_size=6).map(tuple)


@st.composite
def requests(
    draw: st.DrawFn,
    methods: st.SearchStrategy[str],
    paths: st.SearchStrategy[str],
    more: st.SearchStrategy[tuple[str, str]],
    *,
    with_body: bool = True,
) -> Request:
    """Return a request of these; ``more`` are further fields."""
    found = [*draw(fields), *draw(hops), *draw(st.lists(more, max_size=2))]
    body, chunks, trailers = b"", None, ()
    if with_body and draw(st.booleans()):
        body, chunks = draw(bodies), draw(chunk_sizes)
        if chunks is not None:
            trailers = draw(st.sampled_from([(), (("X-Sum", "1"), ("x-EMPTY", ""))]))
    return Request(draw(methods), draw(paths), tuple(found), body, chunks, trailers)


files = st.sampled_from([*SIZES, *SIZES, 7]).map("/files/{}.txt".format)
pages = st.sampled_from(["/nothing", "/teapot", "/gone", "/moved", "/found?a=b", "/elsewhere", "/"])
echoes = queries.map("/echo?{}".format) | segments.map("/echo/{}".format)
#: Of a path that nginx does not like it says so before it has read a body, and hangs up.
to_nginx = (
    requests(methods, files, conditions)
    | requests(methods, pages, conditions)
    | (requests(methods, echoes | paths, conditions, with_body=False))
)
forms = st.tuples(
    st.sampled_from(["", "form=chunked", "form=length", "form=end"]),
    st.sampled_from(["", "299+Odd+one", "404+", "500+No", "204+None", "304+Same"]),
).map(lambda pair: "/?{}&status={}".format(*pair))
expectations = st.sampled_from(["100-continue", "100-Continue", "more"]).map(
    lambda value: ("Expect", value)
)
to_echo = requests(odd_methods, paths | forms, conditions | expectations)
