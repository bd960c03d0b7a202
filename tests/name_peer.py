"""A name server on loopback that says what a test wants, in messages or in bytes."""

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.names import dns

from tests.peers import LOOPBACK, reactor

A, AAAA, CNAME, SOA = dns.A, dns.AAAA, dns.CNAME, dns.SOA
_RECORDS: dict[int, Any] = {A: dns.Record_A, AAAA: dns.Record_AAAA, CNAME: dns.Record_CNAME}
#: Makes the answer to a question; None: there is none.
Reply = Callable[[dns.Message], dns.Message | bytes | None]


def record(name: str, kind: int, value: str, ttl: int = 300, cls: int = dns.IN) -> dns.RRHeader:
    """Make one resource record."""
    return dns.RRHeader(name, kind, cls, ttl, _RECORDS[kind](value))


def soa(ttl: int, minimum: int, zone: str = "test") -> dns.RRHeader:
    """Make the record that says for how long there is nothing."""
    payload = dns.Record_SOA(zone, zone, 1, 1, 1, 1, minimum)
    return dns.RRHeader(zone, SOA, dns.IN, ttl, payload)


def reply(
    question: dns.Message, *answers: dns.RRHeader, authority: Any = (), code: int = dns.OK
) -> dns.Message:
    """Make the message that answers a question with these records."""
    message = dns.Message(question.id, answer=1, recDes=1, recAv=1, rCode=code)
    message.queries = question.queries
    message.answers, message.authority = list(answers), list(authority)
    message.maxSize = 0
    return message


class NamePeer(DatagramProtocol):
    """It knows ``records``, by name and kind; of anything else that there is none."""

    noisy = False
    transport: Any

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.records: dict[tuple[str, int], list[dns.RRHeader]] = {}
        #: What says that there is nothing.
        self.authority: list[dns.RRHeader] = []
        self.code = dns.OK
        #: In the place of all that.
        self.replies: Reply | None = None

    def knows(self, name: str, *addresses: str, ttl: int = 300) -> None:
        """Give a name these addresses, and no others."""
        for kind in (A, AAAA):
            mine = [a for a in addresses if (":" in a) == (kind == AAAA)]
            self.records[name, kind] = [record(name, kind, a, ttl) for a in mine]

    def datagramReceived(self, data: bytes, address: tuple[str, int]) -> None:
        question = dns.Message()
        question.fromStr(data)
        name, kind = question.queries[0].name.name.decode(), question.queries[0].type
        self.asked.append((name, kind))
        answer = self.answer(question, name, kind)
        if isinstance(answer, dns.Message):
            answer = answer.toStr()
        if answer is not None:
            self.transport.write(answer, address)

    def answer(self, question: dns.Message, name: str, kind: int) -> dns.Message | bytes | None:
        if self.replies is not None:
            return self.replies(question)
        answers = self.records.get((name, kind), [])
        return reply(
            question, *answers, authority=() if answers else self.authority, code=self.code
        )


def serve(case: Any, peer: NamePeer, port: int = 0, host: str = LOOPBACK) -> int:
    """Let a peer listen, for the length of a test; return the port."""
    listening = reactor.listenUDP(port, peer, interface=host)
    case.addCleanup(listening.stopListening)
    return int(listening.getHost().port)
