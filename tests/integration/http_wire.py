"""HTTP/1.1 as it is on the wire: strict, small, and not the library that the proxy uses.

Origins read requests with it and clients answers, so that a test sees each field as it was spelled.
What it raises for a message that is not well-formed fails the test.
"""

import asyncio
import re
from dataclasses import dataclass, field

from tests.integration.programs import LOOPBACK

#: Name and value, in the order of their coming, as they were spelled.
Fields = list[tuple[bytes, bytes]]

_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;.*)?\r\n", re.DOTALL)
#: What the hop between two parties concerns, and its framing.
HOP = {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"content-length"}


@dataclass
class Message:
    """A request or an answer."""

    start: bytes
    fields: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    #: The 1xx answers that came before this one.
    before: list["Message"] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The status code of an answer."""
        return int(self.start.split(b" ")[1])

    @property
    def target(self) -> str:
        """What a request is for."""
        return self.start.split(b" ")[1].decode()

    def values(self, name: str) -> list[bytes]:
        """Return the values of the fields called ``name``, which is in lower case."""
        return [value for key, value in self.fields if key.lower() == name.encode()]

    def tokens(self, name: str) -> list[bytes]:
        """Return the list items of the fields called ``name``, in lower case."""
        return [item.strip().lower() for value in self.values(name) for item in value.split(b",")]

    def end_to_end(self) -> Fields:
        """Return the fields that a proxy has no business with."""
        return [(name, value) for name, value in self.fields if name.lower() not in HOP]


async def _section(reader: asyncio.StreamReader) -> Fields:
    """Read lines up to the empty one."""
    fields: Fields = []
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        matched = _FIELD.fullmatch(line[:-2])
        assert matched, line
        fields.append((matched[1], matched[2]))
    return fields


async def read_head(reader: asyncio.StreamReader) -> Message | None:
    """Return a message up to its body; None where the stream ends instead."""
    if reader.at_eof() or not (first := await reader.read(1)):
        return None
    start = first + await reader.readuntil(b"\r\n")
    return Message(start[:-2], await _section(reader))


async def read_body(reader: asyncio.StreamReader, message: Message) -> None:
    """Read the body that belongs to the head of ``message``, and its trailers (RFC 9112, 6.3)."""
    answer = message.start.startswith(b"HTTP/")
    lengths, codings = message.values("content-length"), message.tokens("transfer-encoding")
    assert not (lengths and codings), message.fields
    if answer and message.status in (204, 304):
        return
    if codings:
        assert codings == [b"chunked"], codings
        body = bytearray()
        while size := await _chunk_size(reader):
            body += await reader.readexactly(size)
            assert await reader.readexactly(2) == b"\r\n"
        message.body, message.trailers = bytes(body), await _section(reader)
    elif lengths:
        (length,) = lengths
        message.body = await reader.readexactly(int(length))
    elif answer:
        message.body = await reader.read(-1)


async def _chunk_size(reader: asyncio.StreamReader) -> int:
    line = await reader.readuntil(b"\r\n")
    matched = _CHUNK.fullmatch(line)
    assert matched, line
    return int(matched[1], 16)


async def read_request(reader: asyncio.StreamReader) -> Message | None:
    """Return a whole request; None at the end of the stream."""
    if (request := await read_head(reader)) is not None:
        await read_body(reader, request)
    return request


class Connection:
    """A client's connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> "Connection":
        """Connect to ``port`` of this machine."""
        return cls(*await asyncio.open_connection(LOOPBACK, port))

    def close(self) -> None:
        """Let it go."""
        self.writer.close()

    def ask(self, url: str, *lines: str, method: str = "GET", body: bytes = b"") -> None:
        """Send a request for ``url`` with these field lines, and a Host that agrees."""
        host = url.split("/")[2]
        sized = [f"Content-Length: {len(body)}"] if body else []
        head = [f"{method} {url} HTTP/1.1", f"Host: {host}", *lines, *sized, "", ""]
        self.writer.write("\r\n".join(head).encode("latin-1") + body)

    async def head(self) -> Message:
        """Return the next final answer up to its body, with the 1xx answers before it."""
        before = []
        while True:
            answer = await read_head(self.reader)
            assert answer is not None, f"the end instead of an answer, after {before}"
            assert answer.start.startswith(b"HTTP/1.1 "), answer.start
            if answer.status == 101 or answer.status >= 200:
                answer.before = before
                return answer
            before.append(answer)

    async def answer(self, method: str = "GET") -> Message:
        """Return the next answer, whole."""
        answer = await self.head()
        if method != "HEAD":
            await read_body(self.reader, answer)
        return answer

    async def fetch(self, url: str, *lines: str, method: str = "GET", body: bytes = b"") -> Message:
        """Send a request and return its answer."""
        self.ask(url, *lines, method=method, body=body)
        return await self.answer(method)

    async def at_end(self) -> bool:
        """Tell whether the proxy ends the connection with nothing more on it."""
        return await self.reader.read(1) == b""
