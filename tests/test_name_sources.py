"""NameSources: name servers are asked directly only where the C library would do the same."""

import os
import socket
from typing import Any
from unittest.mock import patch

from twisted.trial.unittest import TestCase

from whatsproxy.name_sources import NameSources, Servers, servers_from

ONE = "nameserver 192.0.2.53\n"


class ServersTests(TestCase):
    def setUp(self) -> None:
        environment = patch.dict(os.environ)
        environment.start()
        self.addCleanup(environment.stop)
        for name in ("RES_OPTIONS", "LOCALDOMAIN"):
            os.environ.pop(name, None)

    def servers(self, resolv: str = ONE, nsswitch: str = "", gai: str = "") -> Servers | None:
        return servers_from(resolv.encode(), nsswitch.encode(), gai.encode())

    def test_resolv_conf(self) -> None:
        for text, expected in {
            ONE: Servers(("192.0.2.53",)),
            f"# {ONE}; {ONE}{ONE}": Servers(("192.0.2.53",)),
            "nameserver 192.0.2.1\nnameserver\t::1 # here\nnameserver fe80::1%lo\n"
            "nameserver 192.0.2.4": Servers(("192.0.2.1", "::1", "fe80::1%lo")),
            f"{ONE}search a.test\noptions ndots:5": Servers(("192.0.2.53",), dots=5),
            f"{ONE}domain a.test\noptions ndots:99": Servers(("192.0.2.53",), dots=15),
            # Without domains to search it makes no difference.
            f"{ONE}search .\noptions ndots:5": Servers(("192.0.2.53",)),
            f"{ONE}options timeout:1 attempts:3 edns0 trust-ad": Servers(("192.0.2.53",), 1, 3),
            f"{ONE}options timeout:0 attempts:0 ndots:0": Servers(("192.0.2.53",), 1, 1),
            f"{ONE}options timeout:99 attempts:99": Servers(("192.0.2.53",), 30, 5),
        }.items():
            self.assertEqual(self.servers(text), expected, text)

    def test_what_is_for_the_c_library(self) -> None:
        for text in (
            "",
            "search a.test\n",
            "nameserver ns.test",
            f"{ONE}options use-vc",
            f"{ONE}options no-aaaa",
            f"{ONE}options single-request",
            f"{ONE}options timeout:x",
            f"{ONE}options timeout:\xb2",
            f"{ONE}sortlist 192.0.2.0",
            f"{ONE}family inet6",
        ):
            self.assertIsNone(self.servers(text), text)

    def test_nsswitch(self) -> None:
        for hosts, resolv, directly in (
            ("files dns", ONE, True),
            ("files mymachines mdns4_minimal [NOTFOUND=return] dns myhostname", ONE, True),
            ("dns files", ONE, True),
            ("files myhostname resolve [!UNAVAIL=return] dns", "nameserver 127.0.0.53", True),
            ("files myhostname resolve [!UNAVAIL=return] dns", ONE, False),
            ("files ldap dns", ONE, False),
            ("files mdns4 dns", ONE, False),
            ("files", ONE, False),
            ("", ONE, False),
        ):
            for line in (f"passwd: dns\nhosts:{hosts} # dns\n", f" hosts : {hosts}\nhosts2: x\n"):
                self.assertIs(self.servers(resolv, line) is not None, directly, line)
        self.assertIsNotNone(self.servers(nsswitch="passwd: files"))

    def test_an_order_of_its_own(self) -> None:
        self.assertIsNotNone(self.servers(gai="#precedence ::ffff:0:0/96  100\n\n"))
        self.assertIsNone(self.servers(gai="precedence ::ffff:0:0/96  100\n"))

    def test_the_environment(self) -> None:
        for name in ("RES_OPTIONS", "LOCALDOMAIN"):
            with patch.dict(os.environ, {name: "x"}):
                self.assertIsNone(self.servers())

    def test_other_systems(self) -> None:
        with patch("sys.platform", "darwin"):
            self.assertIsNone(self.servers())


class SourcesCase(TestCase):
    """Files of the test's own."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        names = ("resolv.conf", "hosts", "nsswitch.conf", "gai.conf")
        self.paths = [os.path.join(self.directory, name) for name in names]
        self.write("resolv.conf", ONE)
        self.sources = NameSources(*self.paths)

    def write(self, name: str, text: str) -> None:
        with open(os.path.join(self.directory, "new"), "w", encoding="ascii") as f:
            f.write(text)
        os.rename(f.name, os.path.join(self.directory, name))

    def directly(self, name: str) -> bool:
        self.sources.refresh()
        return self.sources.servers_for(name) is not None


class NamesTests(SourcesCase):
    def test_names(self) -> None:
        self.write("hosts", "192.0.2.1 Here.Test # comment\n")
        for name, directly in {
            "a.test": True,
            "_a_.b-c.test": True,
            "single": False,
            "printer.local": False,
            "a.localhost": False,
            "here.test": False,
            "ere.test": False,  # for the system to see
            "a..test": False,
            "a.test.": False,
            f"{'a' * 64}.test": False,
            f"{'a' * 63}.test": True,
            f"{'a.' * 125}test": False,
            "": False,
        }.items():
            self.assertIs(self.directly(name), directly, name)

    def test_this_host(self) -> None:
        self.patch(socket, "gethostname", lambda: "Host.Test")
        self.assertFalse(self.directly("host.test"))

    def test_domains_that_are_searched_first(self) -> None:
        """So in Kubernetes: ``api.dev`` is a service there before it is somebody's server."""
        self.write("resolv.conf", f"{ONE}search svc.cluster.local\noptions ndots:5\n")
        self.assertFalse(self.directly("api.dev"))
        self.assertTrue(self.directly("a.b.c.d.e.test"))


class RefreshTests(SourcesCase):
    def test_changes(self) -> None:
        self.assertTrue(self.sources.refresh())
        self.assertFalse(self.sources.refresh())
        changes: list[tuple[str, str, Any]] = [
            ("hosts", "192.0.2.1 a.test", None),
            ("hosts", "", Servers(("192.0.2.53",))),
            ("resolv.conf", "nameserver 192.0.2.7", Servers(("192.0.2.7",))),
            ("nsswitch.conf", "hosts: files", None),
            ("nsswitch.conf", "hosts: dns", Servers(("192.0.2.7",))),
            ("gai.conf", "reload yes", None),
        ]
        for name, text, expected in changes:
            self.write(name, text)
            self.assertTrue(self.sources.refresh(), name)
            self.assertEqual(self.sources.servers_for("a.test"), expected, (name, text))

    def test_what_cannot_be_read_is_for_the_c_library(self) -> None:
        os.unlink(self.paths[0])
        self.assertFalse(self.directly("a.test"))
        self.write("resolv.conf", ONE)
        os.mkdir(self.paths[1])
        self.assertFalse(self.directly("a.test"))
        os.rmdir(self.paths[1])
        self.assertTrue(self.directly("a.test"))
