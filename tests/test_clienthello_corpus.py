"""ClientHellos as real clients sent them; tests/record_clienthellos.py has recorded them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import builders as b
from whatsproxy.clienthello import RECORD_COUNT_LIMIT, ClientHello, parse_client_hello
from whatsproxy.incremental import NeedMore
from whatsproxy.sniff import Kind, Sniffed, sniff

HELLOS = Path(__file__).parent / "data" / "clienthellos"


@dataclass(frozen=True)
class Recorded:
    """One hello: who sent it, what it was told to ask for, and the bytes."""

    file: str
    stack: str
    client: str
    version: str
    imitates: str | None
    name: str | None
    alpn: tuple[bytes, ...]
    tls: str
    size: int
    data: bytes

    @property
    def asked(self) -> ClientHello:
        return ClientHello(self.name, self.alpn)


def recorded() -> list[Recorded]:
    """Return the corpus, as its index lists it."""
    entries = json.loads((HELLOS / "index.json").read_text(encoding="utf-8"))
    return [
        Recorded(
            **{
                **entry,
                "alpn": tuple(protocol.encode() for protocol in entry["alpn"]),
                "data": (HELLOS / entry["file"]).read_bytes(),
            }
        )
        for entry in entries
    ]


def messages(data: bytes) -> bytes:
    """Return the handshake message out of its records."""
    message = b""
    while data:
        size = int.from_bytes(data[3:5], "big")
        message += data[5 : 5 + size]
        data = data[5 + size :]
    return message


def cuts(message: bytes) -> Iterator[bytes]:
    """Yield the message in several records, cut in several ways."""
    yield b.records(message, [1] * 9)
    yield b.records(message, [len(message) // 2])
    yield b.records(message, [len(message) - 1])
    for size in (40, 512):
        yield b.records(message, [size] * min(len(message) // size, RECORD_COUNT_LIMIT - 1))


def splits(data: bytes) -> list[int]:
    """Return where to split: everywhere at both ends and around the records' borders."""
    sizes = {*range(200), *range(len(data) - 200, len(data) + 1)}
    border = 0
    while border < len(data):
        sizes.update(range(border - 2, border + 8))
        border += 5 + int.from_bytes(data[border + 3 : border + 5], "big")
    return sorted(size for size in sizes if 0 <= size <= len(data))


class CorpusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.corpus = recorded()

    def test_index(self) -> None:
        files = [hello.file for hello in self.corpus]
        self.assertEqual(files, sorted(file.name for file in HELLOS.glob("*.bin")))
        for hello in self.corpus:
            self.assertEqual(len(hello.data), hello.size, hello.file)
            message = messages(hello.data)
            self.assertEqual(message[:1], b"\x01", hello.file)
            self.assertEqual(len(message), 4 + int.from_bytes(message[1:4], "big"), hello.file)

    def test_what_is_in_it(self) -> None:
        real = [hello for hello in self.corpus if hello.imitates is None]
        for tls in ("1.2", "1.3"):
            for named in (True, False):
                stacks = {h.stack for h in real if h.tls == tls and (h.name is not None) == named}
                self.assertGreaterEqual(len(stacks), 3, (tls, named))
        self.assertGreaterEqual(len({hello.stack for hello in real}), 8)
        self.assertGreaterEqual(len({hello.stack for hello in real if hello.size > 1500}), 4)
        self.assertTrue(any(hello.size > 1500 and hello.name is None for hello in real))

    def test_every_split(self) -> None:
        for hello in self.corpus:
            answer = b.check_prefix_law(self, parse_client_hello, hello.data)
            self.assertEqual(answer, hello.asked, hello.file)
            self.assertIsInstance(parse_client_hello(hello.data[:-1]), NeedMore, hello.file)

    def test_sniffed_in_every_split(self) -> None:
        for hello in self.corpus:
            answer = b.check_prefix_law(self, sniff, hello.data)
            self.assertEqual(answer, Sniffed(Kind.TLS, hello.asked), hello.file)
            self.assertIsInstance(sniff(hello.data[:-1]), NeedMore, hello.file)

    def test_other_records(self) -> None:
        for hello in self.corpus:
            for data in cuts(messages(hello.data)):
                answer = b.check_prefix_law(self, parse_client_hello, data, splits(data))
                self.assertEqual(answer, hello.asked, hello.file)
                self.assertIsInstance(parse_client_hello(data[:-1]), NeedMore, hello.file)

    def test_bytes_behind(self) -> None:
        early_data = b.record(bytes(300), kind=23)
        for hello in self.corpus:
            for behind in (b"\x14\x03\x03\0\x01\x01" + early_data, b"\0", hello.data, b"GET / "):
                for data in (hello.data, b.records(messages(hello.data), [100, 60])):
                    sizes = range(len(data) - 20, len(data) + len(behind) + 1)
                    answer = b.check_prefix_law(self, parse_client_hello, data + behind, sizes)
                    self.assertEqual(answer, hello.asked, hello.file)
                    self.assertEqual(sniff(data + behind), Sniffed(Kind.TLS, hello.asked))

    def test_nothing_but_the_hello(self) -> None:
        # A recording says nothing of where it was made.
        for hello in self.corpus:
            for trace in (b"127.0.0.1", b"localhost", b"/home", b"/root", b"/tmp"):
                self.assertNotIn(trace, hello.data, hello.file)
