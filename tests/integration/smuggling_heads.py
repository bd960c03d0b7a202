"""Request smuggling by the head: where it ends, where it goes, and who is to answer.

Behind nearly each request stands another, the smuggled one: it must never be asked for.
"""

from collections.abc import Iterator

from tests.integration.recording_origin import HOST
from tests.integration.smuggling import (
    CHUNKED,
    GET_LINE,
    HOST_LINE,
    INNER,
    LAST,
    SMUGGLED,
    SMUGGLED_TOLD,
    Attack,
    Told,
    head,
    length,
    passed,
    refused,
)

ASKED: Told = (b"GET", b"/x", b"")


def ends_of_lines() -> Iterator[tuple[str, Attack]]:
    """A bare LF or CR, in each place where a line may end."""
    parts = [GET_LINE, HOST_LINE, b"X: y"]
    for end in (
        b"\n",
        b"\r",
        b"\r\r\n",
        b"\n\r\n",
        b"\r\n\r",
        b"\n\n",
        b"\r\r",
        b"\x85",
        b"\x0b\n",
    ):
        for i in range(4):
            ends = [b"\r\n"] * 4
            ends[i] = end
            sent = b"".join(a + b for a, b in zip([*parts, b""], ends, strict=True))
            if (i, end) != (3, b"\r\n\r"):
                yield f"line {i} ends {end!r}", refused(sent + SMUGGLED)
            else:  # the stray CR is the next request's
                yield "CR behind a head", Attack(sent + SMUGGLED, (200, 400), (ASKED,))
    yield "all lines end with LF", refused(head(start=GET_LINE).replace(b"\r\n", b"\n") + SMUGGLED)
    yield "all lines end with CR", refused(head(start=GET_LINE).replace(b"\r\n", b"\r") + SMUGGLED)
    for value in (b"a\rb", b"a\nb", b"\ra", b"\na", b"a\r", b"a\n", b"a\n" + HOST_LINE):
        yield f"value {value!r}", refused(head(b"X: " + value, start=GET_LINE) + SMUGGLED)
    request = head(start=GET_LINE) + SMUGGLED
    yield "CRLF before the first line", passed(b"\r\n" + request, ASKED, SMUGGLED_TOLD)
    yield "two CRLF", refused(b"\r\n\r\n" + request, unknown=True)
    yield "CR before the first line", refused(b"\r" + request, unknown=True)
    yield "LF before the first line", refused(b"\n" + request, unknown=True)
    # What RFC 9112, 2.2 has clients not do, and servers tolerate, behind a body.
    sent = head(b"Content-Length: 5") + b"hello\r\n" + SMUGGLED
    yield "CRLF behind a body", passed(sent, (b"POST", b"/x", b"hello"), SMUGGLED_TOLD)


def field_lines() -> Iterator[tuple[str, Attack]]:
    """Folded lines, white space, and characters that have no place in a field."""
    for line in (
        b"X: y\r\n z", b"X: y\r\n\tz", b"X:\r\n y", b"X: y\r\n ", b"X: y\r\n \r\n z", b"X : y",
        b"X\t: y", b"X\x0b: y", b": y", b"X", b" X: y", b"\tX: y", b"X(y): z", b"X[0]: z",
        b"X y: z", b"X\x00: y", b"X/y: z", b'"X": y', b"X\xe9: y", b"X;: y", b"X=y: z", b"{X}: y",
        b"X@y: z", b"\xef\xbb\xbfX: y", b"X,Y: z", b"\\: y",
    ):  # fmt: skip
        yield f"field {line!r}", refused(head(line, start=GET_LINE) + SMUGGLED)
    yield "the first line folded", refused(GET_LINE + b"\r\n " + HOST_LINE + b"\r\n\r\n" + SMUGGLED)
    for code in (*range(9), 11, 12, *range(14, 32), 127):
        line = b"X: a" + bytes([code]) + b"b"
        yield f"control {line!r}", refused(head(line, start=GET_LINE) + SMUGGLED)
    for line in (b"X: a\tb", b"X:", b"X: \xff\x80", b"X:y", b"!#$%&'*+-.^_`|~: y", b"x-y: Host: z"):
        sent = head(line, start=GET_LINE) + SMUGGLED
        yield f"legal {line!r}", passed(sent, ASKED, SMUGGLED_TOLD)
    for line in (
        b"Connection: Host", b"Connection: close, Content-Length", b"Connection: transfer-encoding",
        b"Connection: hOsT", b"Connection: x\r\nConnection: content-length", b"Connection:,Host,",
        b"Connection: x,\tHost", b"Connection: keep-alive, Transfer-Encoding, x",
    ):  # fmt: skip
        whole = head(line, length(INNER)) + INNER
        yield f"hop by hop {line!r}", refused(whole)
        yield f"hop by hop, chunked {line!r}", refused(head(line, CHUNKED) + LAST + SMUGGLED)


def first_lines() -> Iterator[tuple[str, Attack]]:
    """Lines that are nearly a request's."""
    for line in (
        b"GET http://" + HOST + b"/x", b"GET http://" + HOST + b"/x ",
        b"GET http://" + HOST + b"/x HTTP", b"GET http://" + HOST + b"/x http/1.1",
        b"GET http://" + HOST + b"/x HTTP/1.1 ", GET_LINE + b"\t",
        b"GET http://" + HOST + b"/x  HTTP/1.1", GET_LINE + b"x",
        b"GET http://" + HOST + b"/x\tHTTP/1.1", b"GET http://" + HOST + b"/x HTTP/ 1.1",
        GET_LINE + b"1", b"GET http://" + HOST + b"/x HTTP/01.1",
        b"GET http://" + HOST + b"/x HTTP/1,1", GET_LINE + b"\x00",
        b"GET http://" + HOST + b"/x y HTTP/1.1", b"GET http://" + HOST + b"/\x00 HTTP/1.1",
        b"GET http://" + HOST + b"/\xe9 HTTP/1.1", b"GET http://" + HOST + b"/\x7f HTTP/1.1",
        b"GET http://" + HOST + b"/x HTTP/1.1 HTTP/1.1", b"GET http://" + HOST + b"/x\x0bHTTP/1.1",
    ):  # fmt: skip
        yield f"first line {line!r}", refused(head(start=line) + SMUGGLED)
    for line in (
        b"GET " + GET_LINE[3:], b" " + GET_LINE, GET_LINE.replace(b" ", b"\t"),
        b"GET\x00" + GET_LINE[3:], b"G(ET" + GET_LINE[3:], b"\x00" + GET_LINE,
        b"G\xc9T" + GET_LINE[3:], b"\xef\xbb\xbf" + GET_LINE, GET_LINE[3:], b":" + GET_LINE,
    ):  # fmt: skip
        yield f"first line {line!r}", refused(head(start=line) + SMUGGLED, unknown=True)
    for version in (b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/3.0", b"HTTP/9.1"):
        line = GET_LINE.replace(b"HTTP/1.1", version)
        yield f"version {version!r}", refused(head(start=line) + SMUGGLED, 505)
    yield "the preface of HTTP/2", refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED, 505)


def hosts() -> Iterator[tuple[str, Attack]]:
    """Several hosts, none, and a host that is not the target's."""
    for host in (
        b"Host: evil.test", b"Host: origin.test:1", b"Host: origin.test", b"Host:", b"Host: ",
        b"Host: " + HOST + b".evil", HOST_LINE + b"\r\n" + HOST_LINE,
        HOST_LINE + b"\r\nHost: evil.test", b"Host: evil.test\r\n" + HOST_LINE, b"",
        HOST_LINE + b"\r\nhost: " + HOST, HOST_LINE + b", evil.test", HOST_LINE + b" evil.test",
        HOST_LINE + b"/", b"Host: evil.test@" + HOST, b"Host: user:pass@" + HOST,
        HOST_LINE + b"@evil.test", HOST_LINE + b"#evil.test", HOST_LINE + b"\\evil.test",
        HOST_LINE + b"\x00", HOST_LINE + b"\xa0", b"Host : " + HOST, b" " + HOST_LINE,
        b"X: y\r\n " + HOST_LINE, HOST_LINE + b"\r\n Host: evil.test", HOST_LINE + b"?",
        b"Host: http://" + HOST, b"Host: [" + HOST + b"]", HOST_LINE + b":80",
        b"Host: origin.test:+" + HOST[-5:], b'Host: "' + HOST + b'"', HOST_LINE + b"\r\nHost:",
        b"X-" + HOST_LINE, b"H\xf6st: " + HOST, b"\x00" + HOST_LINE, b"Host: *",
        HOST_LINE + b"%00",
    ):  # fmt: skip
        yield f"host {host!r}", refused(head(start=GET_LINE, host=host) + SMUGGLED)
    for target in (
        b"http://evil.test/x", b"http://user@" + HOST + b"/x", b"http://evil.test@" + HOST + b"/x",
        b"http://" + HOST + b"@evil.test/x", b"http://" + HOST + b"\\@evil.test/x",
        b"http://" + HOST + b"#@evil.test/x", b"http://" + HOST + b":80/x", b"http:///x",
        b"http://:80/x", b"http://" + HOST + b",evil.test/x", b"http://*/x",
        b"http://" + HOST + b"/x#y", b"http://%6frigin.test:" + HOST[-5:] + b"/x",
        b"http://" + HOST + b"&evil.test/x", b"http://[" + HOST + b"]/x",
        b"http://" + HOST + b";evil.test/x", b"http://origin.test:/x",
    ):  # fmt: skip
        line = b"GET " + target + b" HTTP/1.1"
        yield f"target {target!r}", refused(head(start=line) + SMUGGLED)
    for target in (b"http:/" + HOST + b"/x", b"http:" + HOST + b"/x"):
        line = b"GET " + target + b" HTTP/1.1"
        yield f"target {target!r}", refused(head(start=line) + SMUGGLED, unknown=True)
    # By the letter that is a path, and ours.
    sent = head(start=b"BREW //" + HOST + b"/x HTTP/1.1") + SMUGGLED
    yield "a path like an authority", Attack(sent, (405, 200), (SMUGGLED_TOLD,))
    for line in (
        b"host: " + HOST,
        b"HOST:" + HOST,
        b"Host:  \t" + HOST + b" \t",
        b"Host: Origin.TEST.:" + HOST[-5:],
    ):
        sent = head(start=GET_LINE, host=line) + SMUGGLED
        yield f"legal {line!r}", passed(sent, ASKED, SMUGGLED_TOLD)
    line = b"GET http://" + HOST + b"//evil.test/x?http://evil.test/ HTTP/1.1"
    reached = (b"GET", b"//evil.test/x?http://evil.test/", b"")
    yield "a path like a URL", passed(head(start=line) + SMUGGLED, reached, SMUGGLED_TOLD)


def no_tunnels() -> Iterator[tuple[str, Attack]]:
    """CONNECT and Upgrade that come to nothing: what was meant for the tunnel is no request."""
    for body in (SMUGGLED, INNER):
        for target, status in (
            (b"evil.test:80", 403),
            (b"origin.test:1", 403),
            (b"127.0.0.1:80", 403),
            (HOST + b"/", 400),
            (b"origin.test", 400),
            (b"user@" + HOST, 400),
            (b"http://" + HOST, 400),
        ):
            start = b"CONNECT " + target + b" HTTP/1.1"
            sent = head(start=start, host=b"Host: " + target) + body
            yield f"CONNECT {target!r} {body[:9]!r}", refused(sent, status)
        start = b"CONNECT " + HOST + b" HTTP/1.1"
        yield (
            f"CONNECT elsewhere {body[:9]!r}",
            refused(head(start=start, host=b"Host: evil.test") + body),
        )
        yield f"CONNECT with CL {body[:9]!r}", refused(head(length(body), start=start) + body)
        yield f"CONNECT with TE {body[:9]!r}", refused(head(CHUNKED, start=start) + LAST + body)
    # An open tunnel has no requests in it that would be ours.
    sent = head(start=b"CONNECT " + HOST + b" HTTP/1.1") + INNER
    yield "CONNECT", Attack(sent, (200, 200), (SMUGGLED_TOLD,))
    # What is answered here, unread: the body is no request.
    for start, host, status in (
        (b"POST http://evil.test/x HTTP/1.1", b"Host: evil.test", 403),
        (b"POST / HTTP/1.1", HOST_LINE, 405),
        (b"TRACE http://" + HOST + b"/x HTTP/1.1", HOST_LINE, 501),
        (b"POST ftp://" + HOST + b"/x HTTP/1.1", HOST_LINE, 501),
    ):
        for line, body in ((length(SMUGGLED * 9), SMUGGLED), (CHUNKED, b"FF\r\n" + SMUGGLED)):
            yield (
                f"{status} to {start!r}, {line!r}",
                refused(head(line, start=start, host=host) + body, status),
            )
    sent = head(
        b"Max-Forwards: 0", length(SMUGGLED * 9), start=b"OPTIONS http://" + HOST + b"/x HTTP/1.1"
    )
    yield "OPTIONS that ends here", Attack(sent + SMUGGLED, (200,), ends=True)
    # Upgrade is an offer: a client that is not answered 101 goes on with HTTP.
    for protocol in (b"websocket", b"h2c", b"websocket, h2c", b"H2C", b"x/1"):
        lines = (
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: " + protocol,
            b"HTTP2-Settings: AAMAAABk",
        )
        sent = head(*lines, start=GET_LINE) + SMUGGLED
        yield f"Upgrade {protocol!r}", passed(sent, ASKED, SMUGGLED_TOLD)
        sent = head(*lines, length(INNER)) + INNER + SMUGGLED
        yield (
            f"Upgrade {protocol!r} with a body",
            passed(sent, (b"POST", b"/x", INNER), SMUGGLED_TOLD),
        )


def all_heads() -> dict[str, Attack]:
    """Return what is about the head, by name."""
    return dict([*ends_of_lines(), *field_lines(), *first_lines(), *hosts(), *no_tunnels()])


def large() -> dict[str, Attack]:
    """Return what is too large, with a smuggled request behind the limit."""
    many = head(*[b"X-%d: y" % i for i in range(100)], start=GET_LINE)
    return {
        "101 fields": refused(many + SMUGGLED, 431),
        "a head of more than 64 KiB": refused(
            head(b"X: " + b"y" * 65536, start=GET_LINE) + SMUGGLED, 431
        ),
        "a target of more than 64 KiB": refused(
            head(start=GET_LINE.replace(b"/x", b"/" + b"x" * 65536)) + SMUGGLED, 431
        ),
        "a trailer section of more than 64 KiB": Attack(
            head(CHUNKED) + b"0\r\nX: " + b"y" * 65536 + b"\r\n\r\n" + SMUGGLED, (431,), begun=True
        ),
        "a body beyond the limit": refused(head(length(SMUGGLED * 999)) + SMUGGLED * 999, 413),
        "a chunk beyond the limit": Attack(
            head(CHUNKED) + b"FFFFFFFF\r\n" + SMUGGLED, (413,), begun=True
        ),
    }
