"""One answer as it comes in pieces, compared with what it should be."""

from functools import lru_cache

from http_traffic import PLAIN, Request


class WrongAnswerError(Exception):
    """An answer is not what the origin sent; says in what."""


class Response:
    """The answer to one request. Framed by its length, by chunks, or by the connection's end."""

    __slots__ = ("_buffer", "_chunk", "_expected", "_got", "_left", "_place", "closing", "framing")

    def __init__(self, request: Request) -> None:
        self._expected = request.expected
        self._place = request.at
        #: What has come and could not be read yet.
        self._buffer = b""
        #: Bytes of the body so far; bytes to come of the chunk, with its line end.
        self._got = 0
        self._chunk = 0
        self._left = request.expected
        #: Empty until the head has come.
        self.framing = ""
        #: Whether the connection is not for another request.
        self.closing = False

    @property
    def begun(self) -> bool:
        """Whether anything has come."""
        return bool(self.framing or self._buffer)

    def feed(self, data: bytes) -> bool:
        """Take bytes; return whether the answer is complete."""
        if not self.framing:
            self._buffer += data
            head, end, data = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return False
            self._buffer = b""
            status, self.framing, length, self.closing = _read(head)
            if status != 200:
                raise WrongAnswerError(f"status {status}")
            if self.framing == "length" and length != self._expected:
                raise WrongAnswerError("wrong length")
        if self.framing == "chunks":
            return self._chunks(data)
        if data:
            self._compare(data)
        return self.framing == "length" and self._got == self._expected

    def end(self) -> bool:
        """Take the end of the connection; return whether the answer is complete."""
        return self.framing == "end" and self._got == self._expected

    def _chunks(self, data: bytes) -> bool:
        data = self._buffer + data
        at = 0
        while at < len(data):
            if self._chunk > 2:
                piece = data[at : at + self._chunk - 2]
                self._compare(piece)
                self._chunk -= len(piece)
                at += len(piece)
            elif self._chunk:
                self._chunk -= 1
                at += 1
            else:
                end = data.find(b"\r\n", at)
                if end < 0:
                    break
                size = int(data[at:end].partition(b";")[0], 16)
                if size:
                    self._chunk = size + 2
                    at = end + 2
                else:
                    # No trailers are sent.
                    if len(data) < end + 4:
                        break
                    if data[end:] != b"\r\n\r\n" or self._got != self._expected:
                        raise WrongAnswerError("wrong length")
                    return True
        self._buffer = data[at:]
        return False

    def _compare(self, data: bytes) -> None:
        if self._got + len(data) > self._expected:
            raise WrongAnswerError("wrong length")
        if not PLAIN.matches(data, self._place + self._got):
            raise WrongAnswerError("wrong bytes")
        self._got += len(data)


@lru_cache(1000)
def _read(head: bytes) -> tuple[int, str, int, bool]:
    """Return status, framing, length, and whether the connection ends behind this answer."""
    line, *lines = head.decode("latin-1").split("\r\n")
    version, status = line.split(" ")[:2]
    fields = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    options = f"{fields.get('connection', '')},{fields.get('proxy-connection', '')}".lower()
    closing = "close" in options or (version == "HTTP/1.0" and "keep-alive" not in options)
    if "chunked" in fields.get("transfer-encoding", "").lower():
        return int(status), "chunks", 0, closing
    if "content-length" in fields:
        return int(status), "length", int(fields["content-length"]), closing
    return int(status), "end", 0, True
