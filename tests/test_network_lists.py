"""Networks of the settings and of files: read at the start, and again when a file changes."""

import os

from twisted.trial.unittest import SynchronousTestCase

from tests.support import log_lines
from whatsproxy import network_lists
from whatsproxy.network_lists import ListError, NetworkList
from whatsproxy.networks import number_of

KEY = "[clients] deny"


class ListCase(SynchronousTestCase):
    def file(self, text: str | bytes) -> str:
        path: str = self.mktemp()
        self.write(path, text)
        return path

    def write(self, path: str, text: str | bytes) -> None:
        """Put a file in another's place, as editors do."""
        with open(f"{path}.new", "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())
        os.replace(f"{path}.new", path)

    def loaded(self, *sources: str) -> NetworkList:
        networks = NetworkList(KEY, sources)
        networks.load()
        return networks

    def assertHolds(self, networks: NetworkList, *addresses: str) -> None:
        """Of these addresses, and some others, they are the ones in it."""
        others = ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "::1")
        for address in {*others, *addresses}:
            self.assertEqual(number_of(address) in networks, address in addresses, address)


class LoadTests(ListCase):
    def test_nothing_before(self) -> None:
        self.assertHolds(NetworkList(KEY, ["0.0.0.0/0", "::/0"]))

    def test_all_sources(self) -> None:
        one = self.file("198.51.100.0/24 # one\n")
        two = self.file("# two\r\n2001:db8::/32\r\n\r\n")
        networks = self.loaded("192.0.2.0/24", f"file:{one}", f"file:{two}")
        self.assertHolds(networks, "192.0.2.1", "198.51.100.1", "2001:db8::1")
        self.assertHolds(self.loaded(f"file:{self.file('')}"))
        self.assertHolds(self.loaded())

    def test_announcement(self) -> None:
        lines = log_lines(self)
        self.loaded("192.0.2.0/24", f"file:{self.file('10.0.0.1' + chr(10) + '::1')}").announce()
        self.assertEqual(lines, ["[clients] deny: 3 networks"])
        self.loaded("192.0.2.0/24").announce()  # which the settings show
        self.assertEqual(len(lines), 1)


class ErrorTests(ListCase):
    def refuse(self, path: str, problem: str) -> None:
        networks = NetworkList(KEY, [f"file:{path}"])
        with self.assertRaises(ListError) as caught:
            networks.load()
        said = str(caught.exception)
        self.assertRegex(said, problem)
        self.assertIn(path, said)
        self.assertIn(KEY, said)
        self.assertNotIn("\n", said)
        self.assertIs(networks.error, ListError)

    def test_files(self) -> None:
        self.refuse(self.mktemp(), "cannot be read: No such file or directory")
        self.refuse(self.file(b"192.0.2.1\n\xff\xfe\n"), "is no text")
        self.refuse(self.file("192.0.2.1\n\n192.0.2.300\n"), "line 3: '192.0.2.300' is no network")
        self.refuse(self.file("192.0.2.1/24\n"), "line 1: .*192.0.2.0/24 would be right")
        self.refuse(self.file('{"networks": []}'), "line 1: .* is no network")

    def test_what_is_no_file(self) -> None:
        """A pipe must not stop the service until somebody writes into it."""
        pipe = self.mktemp()
        os.mkfifo(pipe)
        self.refuse(pipe, "is not a file")
        directory = self.mktemp()
        os.mkdir(directory)
        self.refuse(directory, "is not a file|Is a directory")

    def test_size(self) -> None:
        self.patch(network_lists, "SIZE_LIMIT", 20)
        self.assertHolds(self.loaded("file:" + self.file("192.0.2.1".ljust(20))), "192.0.2.1")
        self.refuse(self.file("192.0.2.1".ljust(21)), "more than 20 bytes")

    def test_what_there_was_is_kept(self) -> None:
        path = self.file("192.0.2.0/24\n")
        networks = self.loaded(f"file:{path}")
        for wrong in ("192.0.2.0/33", b"\xff", None):
            if wrong is None:
                os.remove(path)
            else:
                self.write(path, wrong)
            self.assertTrue(networks.changed())
            self.assertRaises(ListError, networks.load)
            self.assertHolds(networks, "192.0.2.1")
            self.assertFalse(networks.changed())  # one error a change

    def test_one_of_two(self) -> None:
        """All of it, or nothing."""
        one, two = self.file("192.0.2.0/24"), self.file("198.51.100.0/24")
        networks = self.loaded(f"file:{one}", f"file:{two}")
        self.write(one, "203.0.113.0/24")
        self.write(two, "nonsense")
        self.assertRaises(ListError, networks.load)
        self.assertHolds(networks, "192.0.2.1", "198.51.100.1")


class ChangeTests(ListCase):
    def test_nothing_changes(self) -> None:
        for sources in ((), ("192.0.2.0/24",), ("file:" + self.file("192.0.2.0/24"),)):
            self.assertFalse(self.loaded(*sources).changed())

    def test_each_file(self) -> None:
        one, two = self.file("192.0.2.0/24"), self.file("198.51.100.0/24")
        networks = self.loaded(f"file:{one}", f"file:{two}", "::1")
        self.write(two, "203.0.113.0/24")
        self.assertTrue(networks.changed())
        self.assertHolds(networks, "192.0.2.1", "198.51.100.1", "::1")
        networks.load()
        self.assertFalse(networks.changed())
        self.assertHolds(networks, "192.0.2.1", "203.0.113.1", "::1")

    def test_a_file_that_comes_back(self) -> None:
        path = self.file("192.0.2.0/24")
        networks = self.loaded(f"file:{path}")
        os.remove(path)
        self.assertRaises(ListError, networks.load)
        self.write(path, "198.51.100.0/24")
        self.assertTrue(networks.changed())
        networks.load()
        self.assertHolds(networks, "198.51.100.1")

    def test_a_change_while_it_is_read(self) -> None:
        """What counts is how the file was before: so none is overlooked."""
        path = self.file("192.0.2.0/24")
        networks = NetworkList(KEY, [f"file:{path}"])
        original = network_lists.read_file

        def read(*arguments: object) -> bytes:
            data = original(*arguments)
            self.write(path, "198.51.100.0/24")
            return data

        self.patch(network_lists, "read_file", read)
        networks.load()
        self.assertHolds(networks, "192.0.2.1")
        self.assertTrue(networks.changed())
