"""A name server of the test's: it answers, or fails in the way that it is told to (RFC 1035)."""

import asyncio
import socket
from collections import Counter

from tests.integration.programs import LOOPBACK

#: Response codes (RFC 1035 4.1.1).
_CODES = {"answer": 0, "garbled": 0, "failure": 2, "nothing": 3, "refusal": 5}
_A = 1
#: Query and response, recursion available.
_FLAGS = 0x8180


class NameServer(asyncio.DatagramProtocol):
    """Says that every name is this machine; or, by ``mood``, something else.

    ``answer``; ``failure`` (SERVFAIL), ``nothing`` (NXDOMAIN), ``refusal`` (REFUSED); ``garbled``
    (bytes that are no message, behind a header that is right); ``silence``; ``deafness`` (as if
    nobody listened there is done by not starting one).
    """

    def __init__(self) -> None:
        self.mood = "answer"
        #: Seconds for which an answer is good.
        self.ttl = 0
        #: How often each name was asked for.
        self.asked: Counter[str] = Counter()

    async def start(self) -> None:
        """Listen on the port that the sandbox's resolv.conf means."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(LOOPBACK, 53)
        )

    async def stop(self) -> None:
        """Listen no more."""
        self._transport.close()

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        """Answer one query."""
        name, kind, question = _question(data)
        self.asked[name] += 1
        if self.mood == "silence":
            return
        found = self.mood == "answer" and kind == _A
        flags = _FLAGS | _CODES[self.mood]
        head = data[:2] + flags.to_bytes(2, "big") + bytes([0, 1, 0, found, 0, 0, 0, 0])
        answer = head + question
        if found:
            # The name again, by a pointer to the question.
            answer += b"\xc0\x0c" + question[-4:] + self.ttl.to_bytes(4)
            answer += b"\0\4" + socket.inet_aton(LOOPBACK)
        if self.mood == "garbled":
            answer = head + b"\xff" * 40
        self._transport.sendto(answer, address)


def _question(data: bytes) -> tuple[str, int, bytes]:
    """Return the name and the type that are asked for, and the question as it stands."""
    labels, at = [], 12
    while size := data[at]:
        labels.append(data[at + 1 : at + 1 + size].decode("ascii"))
        at += 1 + size
    return ".".join(labels), int.from_bytes(data[at + 1 : at + 3], "big"), data[12 : at + 5]
