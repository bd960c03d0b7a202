"""The file of users: what is read of it, what is wrong with it, and whom it lets in."""

import os
import time
from pathlib import Path
from typing import Any

import bcrypt
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.user_support import COST, hash_of
from whatsproxy import users as users_module
from whatsproxy.users import LONGEST, SIZE_LIMIT, UsersError, read_users, users_of

ALICE, BOB = hash_of(b"wonder"), hash_of(b"builder")


class FileCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()

    def read(self, data: bytes) -> Any:
        Path(self.path).write_bytes(data)
        return read_users(self.path)


class ReadTests(FileCase):
    def test_lines(self) -> None:
        data = b"# ours\n\n alice:%s \r\n\t# bob\nbob builder:%s" % (ALICE, BOB)
        users = self.read(data)
        self.assertEqual(users.hashes, {b"alice": ALICE, b"bob builder": BOB})
        self.assertEqual(users.costs, {COST})

    def test_utf_8(self) -> None:
        """With the mark that some editors put first, too."""
        for mark in (b"", b"\xef\xbb\xbf"):
            users = self.read(mark + "zoë:".encode() + ALICE)
            self.assertEqual(list(users.hashes), ["zoë".encode()])

    def test_kinds(self) -> None:
        for kind in (b"2a", b"2b", b"2y"):
            users = self.read(b"a:" + hash_of(b"word", kind=kind))
            self.assertTrue(users.check(b"a", b"word"))

    def test_what_bcrypt_makes(self) -> None:
        """Salts and digests of all kinds, so that no good line is refused."""
        lines = [b"u%d:%s\n" % (n, hash_of(b"%d" % n)) for n in range(64)]
        self.assertEqual(len(self.read(b"".join(lines)).hashes), 64)

    def test_nobody(self) -> None:
        """To take everybody out is not a mistake."""
        for data in (b"", b"\n\n", b"# nobody\n"):
            self.assertEqual(self.read(data).hashes, {})

    def test_many(self) -> None:
        """A full file is read in a moment, in which nothing else happens."""
        size = SIZE_LIMIT // (len(ALICE) + 9)
        data = b"".join(b"u%06d:%s\n" % (n, ALICE) for n in range(size))
        began = time.perf_counter()
        self.assertEqual(len(self.read(data).hashes), size)
        self.assertLess(time.perf_counter() - began, 1.0)


class WrongTests(FileCase):
    def wrong(self, data: bytes, *texts: str) -> None:
        with self.assertRaises(UsersError) as caught:
            self.read(data)
        for text in (self.path, *texts):
            self.assertIn(text, str(caught.exception))
        for secret in (b"secret", ALICE[7:], ALICE[7:29]):
            self.assertNotIn(secret.decode(), str(caught.exception))

    def test_other_lines(self) -> None:
        for line in (
            *(b"alice", b"alice:", b":" + ALICE, b"alice " + ALICE, ALICE, b"alice:secret"),
            *(b"alice:$apr1$secret$secret", b"alice:$6$secret$secret", b"alice:{SHA}secret="),
            b"alice:$argon2id$v=19$m=65536,t=3,p=4$secret$secret",
            *(b"alice:" + ALICE + b":secret", b"alice:" + ALICE + b" secret", b"a\0b:" + ALICE),
            *(b"alice:$2x" + ALICE[3:], b"alice:$2$" + ALICE[4:], b"a" * 256 + b":" + ALICE),
        ):
            self.wrong(b"# first\n%s\n" % line, f"{self.path}:2: ", "htpasswd -B")

    def test_no_hash_of_bcrypts(self) -> None:
        """What bcrypt itself would refuse, or could never find, is refused when it is read."""
        for line in (
            *(ALICE[:-1], ALICE + b"a", ALICE[:-1] + b"!", ALICE[:-1] + b"A"),
            *(ALICE[:28] + b"P" + ALICE[29:], ALICE[:7] + b"-" + ALICE[8:]),
            ALICE.replace(b"$04$", b"$4$"),
        ):
            self.wrong(b"alice:" + line, ":1: ", "htpasswd -B")

    def test_costs(self) -> None:
        for cost in (0, 3, 17, 31, 99):
            line = b"alice:" + ALICE.replace(b"$04$", b"$%02d$" % cost)
            self.wrong(line, "cost from 4 to 16", "htpasswd -B -C 12")

    def test_names(self) -> None:
        self.wrong(b"alice:%s\nbob:%s\n\nalice:%s" % (ALICE, BOB, BOB), ":4: ", "before")
        self.wrong(b"zo\xeb:" + ALICE, ":1: ", "UTF-8")

    def test_no_file(self) -> None:
        for make, text in (
            (lambda path: None, "No such file"),
            (os.mkdir, "not a file"),
            (os.mkfifo, "not a file"),  # and nobody waits for who writes to it
            (lambda path: os.symlink(os.path.basename(path), path), "Too many levels"),
        ):
            self.path = self.mktemp()
            make(self.path)
            with self.assertRaisesRegex(UsersError, f"{self.path}: .*{text}"):
                read_users(self.path)

    def test_too_large(self) -> None:
        self.read(b"#" * SIZE_LIMIT)
        self.wrong(b"#" * (SIZE_LIMIT + 1), f"more than {SIZE_LIMIT} bytes")

    @given(st.binary(max_size=120))
    def test_whatever_is_there(self, data: bytes) -> None:
        """It is read, or one error says what is wrong."""
        for line in (data, b"alice:" + data, b"alice:$2y$04$" + data):
            try:
                users = self.read(line)
            except UsersError as e:
                self.assertTrue(str(e).startswith(self.path))
            else:
                self.assertFalse(users.check(b"alice", b"word"))


class CheckTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.looked: list[tuple[bytes, bytes]] = []
        real = bcrypt.checkpw

        def checkpw(password: bytes, hashed: bytes) -> bool:
            self.looked.append((password, hashed))
            return real(password, hashed)

        self.patch(users_module.bcrypt, "checkpw", checkpw)
        self.users = users_of({b"alice": ALICE, b"empty": hash_of(b"")})

    def test_right_and_wrong(self) -> None:
        for user, password, right in (
            (b"alice", b"wonder", True),
            *[(b"alice", word, False) for word in (b"Wonder", b"wonder ", b"", b"wonder\0")],
            *[(b"alice", word, False) for word in (b"wonder\0wonder", b"builder")],
            *[(user, b"wonder", False) for user in (b"Alice", b"bob", b"", b"alice ")],
            (b"empty", b"", True),
            *[(b"empty", word, False) for word in (b"\0", b"x" * (LONGEST + 1), b"x")],
        ):
            self.assertIs(self.users.check(user, password), right, (user, password))

    def test_the_length_of_a_password(self) -> None:
        """What bcrypt would cut off is not ignored."""
        longest = bytes(range(1, LONGEST + 1))
        users = users_of({b"alice": hash_of(longest)})
        self.assertTrue(users.check(b"alice", longest))
        for other in (longest + b"x", longest[:-1], longest[:-1] + b"x"):
            self.assertFalse(users.check(b"alice", other))

    def test_the_same_work_for_all(self) -> None:
        """One hash of the same cost each time: who is there, who is not, and any password."""
        for user in (b"alice", b"nobody"):
            for password in (b"wonder", b"", b"\0", b"x" * 5000):
                self.looked.clear()
                self.users.check(user, password)
                ((_, hashed),) = self.looked
                self.assertEqual(hashed[4:6], b"%02d" % COST)

    def test_nobodys_hash(self) -> None:
        """It is of the greatest cost there is, and another one each time."""
        costs = [COST, COST + 2]
        hashes = {b"u%d" % cost: hash_of(b"x", cost) for cost in costs}
        first, second = users_of(hashes), users_of(hashes)
        self.assertEqual(first.costs, set(costs))
        self.assertTrue(first.nobodys.startswith(b"$2b$%02d$" % max(costs)))
        self.assertNotEqual(first.nobodys, second.nobodys)
        self.assertEqual(len(first.nobodys), len(ALICE))  # it goes into digests, too
        self.assertFalse(users_of({}).check(b"", b""))

    def test_no_text_shows_a_hash(self) -> None:
        for text in (repr(self.users), str(self.users)):
            self.assertNotIn("$", text)
