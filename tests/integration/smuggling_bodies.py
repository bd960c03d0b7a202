"""Request smuggling by the length of a body: it is told twice, wrongly, or nearly.

Behind nearly each request stands another, the smuggled one: it must never be asked for.
"""

from collections.abc import Iterator

from tests.integration.smuggling import (
    CHUNKED,
    GET_LINE,
    HOST_LINE,
    INNER,
    LAST,
    POST_LINE,
    SMUGGLED,
    SMUGGLED_TOLD,
    Attack,
    Told,
    cut,
    head,
    length,
    passed,
    refused,
)


def two_lengths() -> Iterator[tuple[str, Attack]]:
    """Content-Length and Transfer-Encoding: one program believes this, the other that."""
    body = LAST + SMUGGLED
    yield "CL.TE", refused(head(length(body), CHUNKED) + body)
    yield "CL.TE, TE first", refused(head(CHUNKED, length(body)) + body)
    short = b"%x\r\n" % len(SMUGGLED)
    yield "TE.CL", refused(head(length(short), CHUNKED) + short + SMUGGLED + b"\r\n" + LAST)
    yield "TE.CL, of nothing", refused(head(b"Content-Length: 0", CHUNKED) + body)
    yield "CL.TE of a GET", refused(head(length(body), CHUNKED, start=GET_LINE) + body)
    old = POST_LINE.replace(b"1.1", b"1.0")
    yield "TE in HTTP/1.0", refused(head(CHUNKED, start=old) + body)
    yield "TE and CL in HTTP/1.0", refused(head(length(body), CHUNKED, start=old) + body)


#: Spellings of Transfer-Encoding: chunked that some take for it, and some do not.
TE_LINES = [
    *(b"Transfer-Encoding: " + value for value in (
        b"xchunked", b"chunkedx", b"x chunked", b"chunked x", b"chunked, identity", b"identity",
        b"identity, chunked", b"chunked, chunked", b"chunked,", b",chunked", b", chunked ,",
        b'"chunked"', b"'chunked'", b"chunked;q=1", b"chunked; a=b", b"chunked, gzip", b"chunked-",
        b"chun\xe2\x84\xaaed", b"\xefchunked", b"chunked\xa0", b"\x85chunked", b"chunked\x0b",
        b"\x0bchunked", b"chunked\x0c", b"chunked\x00", b"\x00chunked", b"\x7fchunked", b"gzip",
        b"chunked\x1f", b"", b"chunked\r\n" + CHUNKED, b"chunked\r\nTransfer-Encoding: x",
        b"x\r\n" + CHUNKED, b"identity\r\n" + CHUNKED, b"chunked\r\n\tx", b"\r\n chunked",
        b"x\rchunked", b"\r\n\tchunked", b"chun\r\n ked", b"gzip\r\n" + CHUNKED,
        b"=?utf-8?q?chunked?=",
    )),
    *(name + b": chunked" for name in (
        b"Transfer_Encoding", b"transfer_encoding", b"Transfer Encoding", b"Transfer-Encoding ",
        b"Transfer-Encoding\t", b" Transfer-Encoding", b"\tTransfer-Encoding",
        b"Transfer-Encoding\x00", b"\x00Transfer-Encoding", b"Transfer-Encoding\x0b",
        b"Transfer-Encodin\xe7", b'"Transfer-Encoding"', b"X: y\r\n Transfer-Encoding",
        b"X: y\rTransfer-Encoding", b"X: y\nTransfer-Encoding", b"X: y\r\n\rTransfer-Encoding",
        b"X: y\r\r\nTransfer-Encoding", b"Transfer-Encoding\r\n", b"Transfer-Encoding\r\n ",
        b"Transfer-Encoding:", b"(Transfer-Encoding)", b"X\r\nTransfer-Encoding",
    )),
    b"Transfer-Encoding chunked", b"Transfer-Encoding= chunked",
]  # fmt: skip


def spellings() -> Iterator[tuple[str, Attack]]:
    """TE.TE: alone, and with a length that covers all or nothing."""
    body = LAST + SMUGGLED
    for line in TE_LINES:
        yield f"TE.TE {line!r}", refused(head(line) + body)
        yield f"CL.TE {line!r}", refused(head(length(body), line) + body)
        yield f"TE.CL {line!r}", refused(head(line, b"Content-Length: 0") + body)
    several = b"Transfer-Encoding: gzip, chunked"
    yield "another coding", refused(head(several) + body, 501)
    yield "another coding, and CL", refused(head(several, length(body)) + body)
    told = (b"POST", b"/x", b"")
    for line in (b"TRANSFER-ENCODING: CHUNKED", b"transfer-encoding:\t chunKed \t"):
        yield f"legal {line!r}", passed(head(line) + body, told, SMUGGLED_TOLD)
    # Names and fields that only resemble it say nothing.
    for line in (b"TE: chunked", b"X-Transfer-Encoding: chunked", b"Content-Encoding: chunked"):
        whole = head(line, length(body)) + body
        yield f"no framing {line!r}", passed(whole, (b"POST", b"/x", body))


#: Spellings of ``Content-Length: 5``, or nearly.
LENGTHS = [
    b"+5", b"-5", b"5 5", b"5, 5", b"5,5", b"5, 6", b"5,", b",5", b"5;", b"0x5", b"5_0", b"5.0",
    b"5e0", b"\xd9\xa5", b"\xb2", b'"5"', b"", b"5\x0b", b"5\x00", b"\x0b5", b"5\xa0", b"5 \r\n 0",
    b"\r\n 5", b"5\r\nContent-Length: 5", b"5\r\nContent-Length: 6", b"5\r\ncontent-length: 05",
    b"five", b"5 bytes", b"5\r\nContent-Length: +5", b"5\r\nContent-Length:",
    b"18446744073709551621", b"0" * 40 + b"5", b"9" * 30, b"5\rX: y", b"5\nX: y", b"5\r\r\nX: y",
    b"0\r\nContent-Length: 5", b"5/5", b"0b101", b"5L",
]  # fmt: skip
LENGTH_NAMES = [
    b"Content_Length", b"content_LENGTH", b"Content-Length ", b"Content-Length\t",
    b" Content-Length", b"Content Length", b"\x00Content-Length", b"Content-Length\x00",
    b"X: y\nContent-Length", b"X: y\rContent-Length", b"X: y\r\n\tContent-Length",
    b"Content-Length\x0b", b"Content-Length:",
]  # fmt: skip


def lengths() -> Iterator[tuple[str, Attack]]:
    """0.CL and CL.0: a length that one program overlooks."""
    for value in LENGTHS:
        yield f"CL {value!r}", refused(head(b"Content-Length: " + value) + b"hello" + SMUGGLED)
    for name in LENGTH_NAMES:
        line = name + b": %d" % len(SMUGGLED)
        yield f"0.CL {line!r}", refused(head(line, start=GET_LINE) + SMUGGLED)
        yield f"CL.CL {line!r}", refused(head(b"Content-Length: 0", line) + SMUGGLED)
    hello: Told = (b"POST", b"/x", b"hello")
    sent = head(b"Content-Length: 005") + b"hello" + SMUGGLED
    yield "leading zeros", passed(sent, hello, SMUGGLED_TOLD)
    for start, method in ((GET_LINE, b"GET"), (POST_LINE, b"POST")):
        for inner in (SMUGGLED, INNER):
            sent = head(length(inner), start=start) + inner
            yield f"CL.0 {method!r} {inner[:9]!r}", passed(sent, (method, b"/x", inner))
        sent = head(b"Content-Length: 0", start=start) + SMUGGLED
        yield f"0.CL {method!r}", passed(sent, (method, b"/x", b""), SMUGGLED_TOLD)
        yield (
            f"none {method!r}",
            passed(head(start=start) + SMUGGLED, (method, b"/x", b""), SMUGGLED_TOLD),
        )
    for expect in (b"100-continue", b"y 100-continue", b"100-continue, x", b"100-Continue"):
        sent = head(b"Expect: " + expect, length(INNER)) + INNER
        yield f"0.CL by Expect {expect!r}", passed(sent, (b"POST", b"/x", INNER))
    folded = head(b"Expect:\r\n 100-continue", length(INNER)) + INNER
    yield "0.CL by a folded Expect", refused(folded)


def bodies() -> Iterator[tuple[str, Attack]]:
    """Chunk sizes, extensions, ends of chunks, and trailers."""
    for line in (
        b"0x5", b"+5", b"-5", b"5_0", b" 5", b"\t5", b"5g", b"g", b"", b"5 5", b"5,", b"5\x00",
        b"5.", b"\xb2", b"5;a\x00", b"5;\x7f", b"5;a\rb", b"5;a\nb", b"5\r", b"5;\r", b"5\n",
        b"5;a=\"\n\"", b"x5", b"#5", b"10000000000000005", b"F" * 16, b"0" * 20 + b"5",
        b"5;" + b"a" * 1100, b"5\x0b;a", b"5:a", b"0x0",
    ):  # fmt: skip
        yield f"chunk size {line[:20]!r}", cut(line + b"\r\nhello\r\n" + LAST)
    for body in (
        b"5\nhello\r\n" + LAST, b"5\rhello\r\n" + LAST, b"5\r\nhello\n" + LAST,
        b"5\r\nhello\r0\r\n\r\n", b"5\r\nhello" + LAST, b"5\r\nhelloXX" + LAST,
        b"5\r\nhello\r\r\n" + LAST, b"5;a=\"\r\nhello\r\n\"", b"5;\nhello\r\n" + LAST,
        b"5\r\nhello\n\n" + LAST, b"5\r\nhello\r\n\r\n" + LAST, b"6\r\nhello\r\n" + LAST,
        b"5;x\n0\r\n\r\n", b"0\n\n", b"0\r\r", b"0\n\r\n", b"0\r\n\n", b"0\r\n\r\r\n", b"0\r\n",
        b"0;\n\r\n", b"0\r\nX: y\n\r\n", b"0\r\nX: y\r\r\n\r\n", b"0\r\nX: y\r\n\n",
        b"0\r\nX: y\n\n", b"0\r\nX: y\rz\r\n\r\n",
    ):  # fmt: skip
        yield f"chunks {body!r}", cut(body)
    for line in (
        b"Content-Length: 5", CHUNKED, HOST_LINE, b"Host: evil.test", b"Connection: close",
        b"X : y", b"X", b"Content_Length: 5", b"Transfer_Encoding: chunked",
        b"Proxy-Authorization: x", b" X: y", b": y", b"X: y\r\n z", b"X: \x00", b"X\x00: y",
        b"TE: trailers", b"Upgrade: h2c", b"Expect: 100-continue", b"Trailer: X",
        b"\tContent-Length: 5", b"Content-Length : 5",
    ):  # fmt: skip
        yield f"trailer {line!r}", cut(b"5\r\nhello\r\n0\r\n" + line + b"\r\n\r\n", b"Trailer: X")
    hello: Told = (b"POST", b"/x", b"hello")
    for body in (
        b"5\r\nhello\r\n" + LAST, b"0005;a=b\r\nhello\r\n000;c\r\n\r\n",
        b'5 ; a="b;c\\""\r\nhello\r\n' + LAST, b"2;x=5\r\nhe\r\n3\r\nllo\r\n" + LAST,
        b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    ):  # fmt: skip
        yield f"legal {body!r}", passed(head(CHUNKED) + body + SMUGGLED, hello, SMUGGLED_TOLD)
    # Not by the letter (RFC 9112, 7.1.1), but there is one reading, and it goes on without.
    for line in (b"5 ", b"5\t", b"5;", b"5 ;a"):
        sent = head(CHUNKED) + line + b"\r\nhello\r\n" + LAST + SMUGGLED
        yield f"tolerated {line!r}", passed(sent, hello, SMUGGLED_TOLD)
    inner = b"%X\r\n%b\r\n" % (len(INNER), INNER) + LAST
    yield "a request in a chunk", passed(head(CHUNKED) + inner, (b"POST", b"/x", INNER))


def all_bodies() -> dict[str, Attack]:
    """Return what is about the length of a body, by name."""
    return dict([*two_lengths(), *spellings(), *lengths(), *bodies()])


def cut_off() -> dict[str, Attack]:
    """Return what lacks its end, by name: the client has ended its direction instead."""
    hidden = b"%X\r\n" % len(SMUGGLED) + SMUGGLED
    bodies = {
        "a length": head(length(SMUGGLED + b"x")) + SMUGGLED,
        "a length of a GET": head(length(SMUGGLED + b"x"), start=GET_LINE) + SMUGGLED,
        "a chunk": head(CHUNKED) + hidden[:-1],
        "the end of a chunk": head(CHUNKED) + hidden,
        "the last chunk": head(CHUNKED) + hidden + b"\r\n",
        "the end of the last chunk": head(CHUNKED) + hidden + b"\r\n0",
        "the last line": head(CHUNKED) + hidden + b"\r\n0\r\n",
        "the end of the trailers": head(CHUNKED) + hidden + b"\r\n0\r\nX: y\r\n",
    }
    heads = {f"all but {size} bytes of a head": SMUGGLED[:size] for size in (30, -4, -3, -2, -1)}
    return {
        **{name: Attack(sent, begun=True) for name, sent in bodies.items()},
        **{name: Attack(sent) for name, sent in heads.items()},
    }
