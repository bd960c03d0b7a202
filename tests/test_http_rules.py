import h11

from tests import http_builders as b
from tests.http_reading import HOST, RequestCase, nominated, read_answer, response_fields
from whatsproxy.http1.fields import Changes, Rules, trailers_of
from whatsproxy.http1.wire import Wire


class RulesTests(RequestCase):
    def test_set(self) -> None:
        added = ((b"X-A", b"new"), (b"Empty", b""))
        rules = Rules(for_requests=Changes(added=added))
        self.check([], [*added], rules)
        lines = [b"x-a: 1", b"B: 2", b"X-A: 3", b"eMPTY: 4", b"X-Ab: 5"]
        self.check(lines, [(b"B", b"2"), (b"X-Ab", b"5"), *added], rules)
        # A client cannot undo it.
        self.check([b"Connection: X-A, Empty"], [*added], rules)

    def test_remove(self) -> None:
        rules = Rules(for_requests=Changes(frozenset({b"cookie", b"via"}), ((b"A", b"1"),)))
        lines = [b"COOKIE: 1", b"B: 2", b"Cookie: 3", b"Via: 4"]
        self.check(lines, [(b"B", b"2"), (b"A", b"1")], rules)

    def test_set_what_is_removed(self) -> None:
        changes = Changes(frozenset({b"x-a"}), ((b"X-A", b"new"),))
        self.check([b"X-A: 1"], [(b"X-A", b"new")], Rules(for_requests=changes))

    def test_nothing_of_the_other_direction(self) -> None:
        changes = Changes(frozenset({b"a"}), ((b"X", b"y"),))
        self.check([b"A: 1"], [(b"A", b"1")], Rules(for_responses=changes))
        fields = response_fields(read_answer(b.answer(b"A: 1")), Rules(for_requests=changes))
        self.assertEqual(fields, [(b"A", b"1")])

    def test_answers(self) -> None:
        changes = Changes(frozenset({b"x-powered-by"}), ((b"Server", b"x"),))
        answer = read_answer(b.answer(b"SERVER: y", b"X-Powered-BY: z", b"A: 1"))
        expected = [(b"A", b"1"), (b"Server", b"x")]
        self.assertEqual(response_fields(answer, Rules(for_responses=changes)), expected)

    def test_trailers(self) -> None:
        section = b"0\r\nX-A: 1\r\nb: 2\r\nX-a:3\r\nKeep-Alive: x\r\nX-Hop: 5\r\nB: 4\r\n\r\n"
        wire = Wire(h11.SERVER, b.LIMITS)
        wire.receive(b.get(b"Transfer-Encoding: chunked", b"Connection: x-hop, y") + section)
        hop = nominated(wire.next_event())
        self.assertEqual(hop, {b"x-hop", b"y"})
        end = wire.next_event()
        rest = [(b"b", b"2"), (b"B", b"4")]
        self.assertEqual(trailers_of(end, hop, Changes(frozenset({b"x-a"}))), rest)
        self.assertEqual(trailers_of(end, hop, Changes(added=((b"x-A", b"new"),))), rest)
        told = [(b"X-A", b"1"), (b"b", b"2"), (b"X-a", b"3"), (b"B", b"4")]
        self.assertEqual(trailers_of(end, hop, Changes()), told)
        told.insert(3, (b"X-Hop", b"5"))
        self.assertEqual(trailers_of(end, frozenset(), Changes()), told)

    def test_via(self) -> None:
        rules = Rules(via=b"gate")
        self.check(
            [b"Via: 1.0 x", b"A: 1"],
            [(b"Via", b"1.0 x"), (b"A", b"1"), (b"Via", b"1.1 gate")],
            rules,
        )
        old = self.outgoing(b.get(line=b"GET http://a.test/ HTTP/1.0"), rules)
        self.assertEqual(old.headers.raw_items(), [HOST, (b"Via", b"1.0 gate")])
        for version in (b"1.0", b"1.1"):
            answer = read_answer(b.answer(b"VIA: 1.1 x", line=b"HTTP/%b 200 OK" % version))
            expected = [(b"VIA", b"1.1 x"), (b"Via", version + b" gate")]
            self.assertEqual(response_fields(answer, rules), expected)
