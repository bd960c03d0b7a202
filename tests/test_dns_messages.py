"""What an answer of a name server's says, and all that it cannot make us believe."""

import ipaddress
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.names import dns
from twisted.trial.unittest import SynchronousTestCase

from tests.name_peer import AAAA, CNAME, A, record, reply, soa
from whatsproxy.dns_messages import ADDRESSES, ALIASES, Answer, answer_to, question

NAME = "a.test"


def asked(kind: int = A, name: str = NAME, number: int = 7) -> dns.Message:
    message = dns.Message()
    message.fromStr(question(number, name, kind))
    return message


def read(message: dns.Message | bytes, kind: int = A) -> Answer | None:
    """Read what is to be the answer to question 7."""
    data = message if isinstance(message, bytes) else message.toStr()
    found = answer_to(data, NAME, {7: kind})
    if found is None:
        return None
    assert found[0] == kind
    return found[1]


class QuestionTests(SynchronousTestCase):
    def test_question(self) -> None:
        for name in ("a.test", "_a_.test", "aa--b.test", "xn--aaaaa.test"):
            message = asked(AAAA, name)
            self.assertEqual(message.queries[0].name.name, name.encode())
            (query,) = message.queries
            self.assertEqual((query.type, query.cls, message.id), (AAAA, dns.IN, 7))
            self.assertEqual((message.recDes, message.answer), (1, 0))


class AnswerTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        answers = [record("A.Test", A, "192.0.2.2", 60), record(NAME, A, "192.0.2.1", 30)]
        self.assertEqual(read(reply(asked(), *answers)), Answer(("192.0.2.2", "192.0.2.1"), 30))
        answer = record(NAME, AAAA, "2001:db8::1", 60)
        self.assertEqual(read(reply(asked(AAAA), answer), AAAA), Answer(("2001:db8::1",), 60))

    def test_aliases(self) -> None:
        """In whatever order; the least TTL of the way counts (RFC 1034 3.6.2)."""
        records = [
            record("c.test", A, "192.0.2.1", 90),
            record("b.test", CNAME, "c.test", 20),
            record(NAME, CNAME, "B.test", 40),
        ]
        expected = Answer(("192.0.2.1",), 20)
        self.assertEqual(read(reply(asked(), *records)), expected)
        self.assertEqual(read(reply(asked(), *reversed(records))), expected)

    def test_aliases_that_lead_nowhere(self) -> None:
        loop = [record(NAME, CNAME, "b.test"), record("b.test", CNAME, NAME)]
        for records in (loop, [record(NAME, CNAME, NAME)], loop[:1]):
            self.assertEqual(read(reply(asked(), *records)), Answer())
        names = [NAME, *(f"c{n}.test" for n in range(ALIASES + 1))]
        chain = [record(a, CNAME, b) for a, b in pairwise(names)]
        self.assertEqual(read(reply(asked(), *chain, record(names[-1], A, "192.0.2.1"))), Answer())
        enough = [*chain[:-1], record(names[-2], A, "192.0.2.1")]
        self.assertEqual(read(reply(asked(), *enough)), Answer(("192.0.2.1",), 300))

    def test_records_of_others(self) -> None:
        """Other names, classes and kinds are not what was asked for."""
        for other in (
            record("b.test", A, "192.0.2.9"),
            record("a.test.evil.test", A, "192.0.2.9"),
            record(NAME, A, "192.0.2.9", cls=dns.CH),
            record(NAME, AAAA, "2001:db8::9"),
            record(NAME, CNAME, "b.test", cls=dns.CH),
        ):
            mine = record(NAME, A, "192.0.2.1")
            self.assertEqual(read(reply(asked(), other, mine)), Answer(("192.0.2.1",), 300))
        message = reply(asked(), authority=[record(NAME, A, "192.0.2.9")])
        message.additional = [record(NAME, A, "192.0.2.9")]
        self.assertEqual(read(message), Answer())

    def test_an_address_of_another_size(self) -> None:
        data = reply(asked(), record(NAME, A, "192.0.2.1")).toStr()
        self.assertEqual(read(data[:-6] + b"\0\3" + data[-4:]), Answer())

    def test_too_many(self) -> None:
        records = [record(NAME, A, f"192.0.2.{n // 2}") for n in range(200)]
        answer = read(reply(asked(), *records))
        assert answer is not None
        self.assertEqual(answer.addresses, tuple(f"192.0.2.{n}" for n in range(ADDRESSES)))

    def test_nothing(self) -> None:
        """For as long as the SOA record and its MINIMUM say, the lesser of both (RFC 2308 5)."""
        for code in (dns.OK, dns.ENAME):
            for ttl, minimum in ((30, 60), (60, 30)):
                message = reply(asked(), authority=[soa(ttl, minimum)], code=code)
                self.assertEqual(read(message), Answer(ttl=30))
            self.assertEqual(read(reply(asked(), code=code)), Answer())

    def test_times_that_are_none(self) -> None:
        """RFC 2181 8."""
        self.assertEqual(
            read(reply(asked(), record(NAME, A, "192.0.2.1", 1 << 31))), Answer(("192.0.2.1",), 0)
        )
        self.assertEqual(read(reply(asked(), authority=[soa(1 << 31, 5)])), Answer(ttl=0))

    def test_failures(self) -> None:
        for code in (dns.EFORMAT, dns.ESERVER, dns.ENOTIMP, dns.EREFUSED, 9):
            message = reply(asked(), record(NAME, A, "192.0.2.1"), code=code)
            self.assertEqual(read(message), Answer(failed=True))

    def test_cut(self) -> None:
        message = reply(asked(), record(NAME, A, "192.0.2.1"))
        message.trunc = 1
        self.assertEqual(read(message), Answer(cut=True))


class StrangerTests(SynchronousTestCase):
    """What is no answer to the question is heard by nobody (RFC 5452 4)."""

    def test_strangers(self) -> None:
        address = record(NAME, A, "192.0.2.1")
        not_ours: list[Any] = [
            reply(asked(number=8), address),
            reply(asked(name="b.test"), address),
            reply(asked(AAAA), address),
        ]
        for change in ({"answer": 0}, {"opCode": dns.OP_NOTIFY}, {"queries": []}):
            message = reply(asked(), address)
            for attribute, value in change.items():
                setattr(message, attribute, value)
            not_ours.append(message)
        twice = reply(asked(), address)
        twice.queries = twice.queries * 2
        elsewhere = reply(asked(), address)
        elsewhere.queries = [dns.Query(NAME, A, dns.CH)]
        for message in (*not_ours, twice, elsewhere, b"", b"\0" * 11):
            self.assertIsNone(read(message))

    @given(st.binary(max_size=600))
    def test_any_bytes(self, data: bytes) -> None:
        self.harmless(data)
        self.harmless(reply(asked()).toStr()[:12] + data)

    @settings(deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=20),
        st.integers(0, 2000),
    )
    def test_any_damage(self, changes: list[tuple[int, int]], cut: int) -> None:
        records = [
            record(NAME, CNAME, "b.test"),
            *(record("b.test", A, f"192.0.2.{n}") for n in range(5)),
        ]
        data = bytearray(reply(asked(), *records, authority=[soa(1, 1)]).toStr())
        for at, value in changes:
            data[2 + at % (len(data) - 2)] = value
        self.harmless(bytes(data[: 12 + cut % len(data)]))

    def harmless(self, data: bytes) -> None:
        answer = read(data)
        if answer is None:
            return
        self.assertLessEqual(len(answer.addresses), ADDRESSES)
        for address in answer.addresses:
            self.assertEqual(ipaddress.ip_address(address).version, 4)
        if answer.ttl is not None:
            self.assertTrue(0 <= answer.ttl < 1 << 31)
