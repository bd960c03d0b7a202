"""What tests of [http] users_file begin with: a proxy with one user."""

from typing import Any

from tests.http_cases import connect_to
from tests.http_peers import HttpCase, HttpClient, Message
from tests.peers import until
from tests.user_support import Gate, authorization, write_users
from whatsproxy.factory import ProxyFactory
from whatsproxy.networks import number_of
from whatsproxy.protocols.admission import Checking

ALICE, WRONG = authorization("alice", "wonder"), authorization("alice", "secret-word")
NOBODY = authorization("nobody", "wonder")
ELSEWHERE = number_of("192.0.2.1")
CHALLENGE = b'Basic realm="proxy", charset="UTF-8"'


class UsersCase(HttpCase):
    """A proxy with one user; the hash may take as long as a test wants."""

    def setUp(self) -> None:
        super().setUp()
        self.users = write_users(self.mktemp(), alice="wonder")
        self.gate = Gate(self)

    def start(self, *arguments: Any, **sections: Any) -> ProxyFactory:
        sections["http"] = {"users_file": self.users, **sections.get("http", {})}
        factory = super().start(*arguments, **sections)
        assert factory.verifier is not None
        factory.verifier.load()
        return factory

    def connect_here(self, *fields: bytes) -> bytes:
        head = connect_to(b"127.0.0.1:%d" % self.origins.port)
        return head[:-2] + b"".join(field + b"\r\n" for field in fields) + b"\r\n"

    async def asks(self, client: HttpClient, *, close: bool = False) -> Message:
        """The client is asked who it is."""
        answer = await client.answer()
        self.assertError(answer, 407)
        self.assertEqual(answer.field(b"proxy-authenticate"), CHALLENGE)
        self.assertEqual(answer.field(b"connection"), b"close" if close else None)
        return answer

    async def checking(self, client: HttpClient) -> None:
        """Wait until a password is being checked."""
        await until(lambda: self.gate.checked, "nothing is checked")
        await self.taken(client)
        self.assertIsInstance(self.session().holder.exchange, Checking)
