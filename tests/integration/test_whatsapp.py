"""WhatsApp-shaped chats, with the bytes and the segments of the field notes."""

from tests.builders import INTROS
from tests.integration.proxy import ProxyTestCase
from tests.integration.traffic import (
    ChatServer,
    chat,
    client_noise_hello,
    dial,
    edge_routing,
    ends,
    flip,
    frame,
    read_exactly,
)

HELLO = client_noise_hello(bytes(range(32)))
#: Frames of one byte, of a size that needs two bytes of length, and of one that needs three.
FRAMES = [b"x", b"y" * 300, b"z" * 70_000]


class ChatTests(ProxyTestCase):
    """The first bytes arrive exactly as they were sent, however they were cut."""

    def check(self, openings: list[list[bytes]]) -> None:
        server = ChatServer(self.background)
        proxy = self.proxy("--chat", f"127.0.0.1:{server.port}")
        for pieces in openings:
            chat(proxy.port, pieces, FRAMES)
        sent = [b"".join(pieces) + b"".join(map(frame, FRAMES)) for pieces in openings]
        self.assertEqual(sent, server.received)
        proxy.wait_for_ends({"client_closed": len(openings)})
        self.assertEqual({"whatsapp": len(openings)}, proxy.kinds())
        self.assertEqual(sum(map(len, sent)), proxy.figure("bytes_received_total"))

    def test_each_version_in_one_segment(self) -> None:
        self.check([[intro + HELLO] for intro in INTROS])

    def test_four_and_thirty_nine_bytes(self) -> None:
        self.assertEqual(39, len(HELLO))
        self.check([[intro, HELLO] for intro in INTROS])

    def test_byte_by_byte(self) -> None:
        self.check([[bytes([b]) for b in INTROS[2] + HELLO]])

    def test_edge_routing_header_in_four_writes(self) -> None:
        header = edge_routing(b"\x08\x02\x10\x05")
        self.check([[*header, INTROS[0] + HELLO], [b"".join(header) + INTROS[0] + HELLO]])

    def test_edge_routing_header_of_a_thousand_bytes(self) -> None:
        self.check([[*edge_routing(bytes(1000)), INTROS[1], HELLO]])


class SilenceTests(ProxyTestCase):
    """A silent chat lives on where another connection would be cut for being idle."""

    def test_chat_idle_is_not_idle(self) -> None:
        server = ChatServer(self.background)
        proxy = self.proxy(*("--chat", f"127.0.0.1:{server.port}"), config="timeouts.idle = 0.5\n")
        first = INTROS[0] + HELLO
        with dial(proxy.port) as quiet, dial(proxy.port) as raw:
            quiet.sendall(first)
            answer = ChatServer.answer(HELLO[3:])
            self.assertEqual(answer, read_exactly(quiet, len(answer)))
            raw.sendall(b"\x00")
            with self.within(5, "the idle limit of half a second"):
                self.assertTrue(ends(raw))
            proxy.wait_for_ends({"idle": 1})
            quiet.sendall(frame(b"still here"))
            self.assertEqual(frame(flip(b"still here")), read_exactly(quiet, 13))

    def test_chat_idle_is_a_limit(self) -> None:
        server = ChatServer(self.background)
        proxy = self.proxy(
            *("--chat", f"127.0.0.1:{server.port}"), config="timeouts.chat_idle = 0.5\n"
        )
        with dial(proxy.port) as quiet, self.within(5, "the idle limit of half a second"):
            quiet.sendall(INTROS[0] + HELLO)
            self.assertTrue(ends(quiet))
        proxy.wait_for_ends({"idle": 1})

    def test_nothing_at_all(self) -> None:
        proxy = self.proxy(config="timeouts.sniff = 0.3")
        with dial(proxy.port) as silent, dial(proxy.port) as slow:
            slow.sendall(b"W")
            with self.within(5, "the sniffing limit of 0.3 seconds"):
                self.assertTrue(ends(silent))
                self.assertTrue(ends(slow))
        proxy.wait_for_ends({"no_data": 1, "undetected": 1})
        self.assertEqual({"undetected": 2}, proxy.kinds())
