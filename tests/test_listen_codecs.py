"""Endpoints, listeners and networks in the settings: what they mean, and what is local."""

import os
import tomllib

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.protocol import ServerFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.builders import host_names
from whatsproxy.listen_codecs import (
    DOORS,
    ENDPOINT,
    LISTENERS,
    NETWORK_SOURCES,
    NETWORKS,
    Listener,
    at_paths,
    listener_at,
)
from whatsproxy.listeners import endpoint_of
from whatsproxy.networks import is_loopback, number_of
from whatsproxy.route import EVERY_KIND
from whatsproxy.sniff import Kind


class EndpointTests(SynchronousTestCase):
    def test_good(self) -> None:
        for description in (
            *("tcp:0", "tcp:65535", "tcp6:1:interface=\\:\\:1", "tcp:port=80:backlog=5"),
            *("tcp:interface=127.0.0.1:port=80", "unix:/run/x:mode=600"),
            "systemd:domain=INET:index=0",
        ):
            self.assertEqual(ENDPOINT.decode(description), description)
            for door in (description, f"haproxy:{description}"):
                self.assertEqual(DOORS.decode([door, "tcp:1"]), (door, "tcp:1"))
        self.assertEqual(ENDPOINT.decode(""), "")

    def test_bad_ports(self) -> None:
        for port in (
            *("65536", "-1", "+1", "x", "", "1.0", " 1", "\uff11", "port=65536", "interface=x"),
            "9" * 5000,
        ):
            for codec, raw in ((ENDPOINT, f"tcp:{port}"), (DOORS, [f"haproxy:tcp6:{port}"])):
                with self.assertRaisesRegex(ValueError, "no port from 0 to 65535", msg=port):
                    codec.decode(raw)

    def test_no_header_where_there_are_no_clients(self) -> None:
        with self.assertRaisesRegex(ValueError, "'haproxy' is no kind of endpoint"):
            ENDPOINT.decode("haproxy:tcp:8199")


class ShortTests(SynchronousTestCase):
    def test_prefix(self) -> None:
        """It is ours, and taken off: Twisted's own stage would believe anyone."""
        self.assertEqual(listener_at("tcp:1"), Listener("tcp:1", EVERY_KIND, False, ()))
        listener = listener_at("haproxy:tcp6:8443:interface=\\:\\:1")
        self.assertEqual(listener.endpoint, "tcp6:8443:interface=\\:\\:1")
        self.assertTrue(listener.proxy_protocol)
        self.assertEqual(listener.kinds, EVERY_KIND)


class LocalTests(SynchronousTestCase):
    """Where only this host can connect: what ``allow = ["*"]`` depends on."""

    LOCAL = (
        *("unix:/run/x", "unix:x:mode=666", "tcp:1:interface=127.0.0.1"),
        *("tcp:interface=127.0.0.1:port=1", "tcp:port=1:backlog=5:interface=127.0.0.1"),
        *("tcp6:1:interface=\\:\\:1", "tcp6:1:interface=\\:\\:ffff\\:127.0.0.1"),
        *("tcp:1:interface=0.0.0.0:interface=127.0.0.1", "tcp:0:interface=127.9.9.9"),
    )
    OPEN = (
        *("tcp:1", "tcp6:1", "tcp:1:interface=0.0.0.0", "tcp:1:interface=", "tcp:1:backlog=127"),
        *("tcp6:1:interface=\\:\\:", "tcp6:1:interface=\\:\\:2", "tcp:1:interface=192.0.2.1"),
        *("tcp:1:interface=128.0.0.1", "tcp:1:interface=localhost", "tcp:1:interface=127.1"),
        *("tcp:1:interface=127.0.0.1:interface=0.0.0.0", "systemd:domain=INET:index=0"),
        *("systemd:domain=INET:interface=127.0.0.1", "tcp:1:xinterface=127.0.0.1"),
    )

    def test_local(self) -> None:
        for endpoint in self.LOCAL:
            self.assertTrue(Listener(endpoint).is_local, endpoint)

    def test_open(self) -> None:
        for endpoint in self.OPEN:
            self.assertFalse(Listener(endpoint).is_local, endpoint)

    def test_who_speaks_for_others_is_not_local(self) -> None:
        for endpoint in self.LOCAL:
            self.assertFalse(Listener(endpoint, proxy_protocol=True).is_local, endpoint)

    def test_twisted_agrees(self) -> None:
        """What is local for us is bound to loopback."""
        for endpoint in self.LOCAL:
            fake = MemoryReactorClock()
            endpoint_of(fake, endpoint).listen(ServerFactory())
            for _, _, _, interface in fake.tcpServers:
                self.assertTrue(is_loopback(number_of(interface)), endpoint)
            self.assertEqual(len(fake.tcpServers) + len(fake.unixServers), 1)


class ListenerTests(SynchronousTestCase):
    def test_what_is_not_said(self) -> None:
        (listener,) = LISTENERS.decode([{"endpoint": "tcp:1"}])
        self.assertEqual(listener, Listener("tcp:1", EVERY_KIND, False, ()))
        self.assertEqual(EVERY_KIND, frozenset(Kind))

    def test_every_key(self) -> None:
        raw = {
            "endpoint": "tcp:1",
            "kinds": ["whatsapp", "xmpp", "raw", "xmpp"],
            "proxy_protocol": True,
            "allow": ["192.0.2.0/24"],
        }
        (listener,) = LISTENERS.decode([raw])
        kinds = frozenset({Kind.WHATSAPP, Kind.XMPP, Kind.RAW})
        self.assertEqual(listener, Listener("tcp:1", kinds, True, ("192.0.2.0/24",)))

    def test_header(self) -> None:
        """Said twice is no mistake, unless it is a contradiction."""
        for raw, expected in (
            ({"endpoint": "haproxy:tcp:1"}, True),
            ({"endpoint": "haproxy:tcp:1", "proxy_protocol": True}, True),
            ({"endpoint": "tcp:1", "proxy_protocol": True}, True),
            ({"endpoint": "tcp:1", "proxy_protocol": False}, False),
        ):
            (listener,) = LISTENERS.decode([raw])
            self.assertEqual((listener.endpoint, listener.proxy_protocol), ("tcp:1", expected))

    @given(
        st.lists(
            st.builds(
                Listener,
                st.integers(0, 65535).map(lambda port: f"tcp6:{port}"),
                st.frozensets(st.sampled_from(Kind), min_size=1),
                st.booleans(),
                st.lists(
                    st.ip_addresses().map(str) | host_names.map(lambda name: f"file:/{name}"),
                    max_size=3,
                ).map(tuple),
            ),
            max_size=3,
        ).map(tuple)
    )
    def test_round_trip(self, listeners: tuple[Listener, ...]) -> None:
        """What --check-config prints is a file that means the same."""
        shown = tomllib.loads(f"listener = {LISTENERS.show(listeners)}")
        self.assertEqual(LISTENERS.decode(shown["listener"]), listeners)


class NetworkTests(SynchronousTestCase):
    def test_networks(self) -> None:
        self.assertEqual(
            NETWORKS.decode([" 10.0.0.0/8 ", "2001:DB8::1"]), ("10.0.0.0/8", "2001:db8::1")
        )
        self.assertEqual(NETWORKS.decode([]), ())

    def test_files(self) -> None:
        """A path is as it is written; ~ is the user's home."""
        self.patch(os, "environ", {"HOME": "/home/me"})
        sources = ("file:/A/b c", "file:x", "file:~/x", "file:./10.0.0.0/8", "10.0.0.1")
        self.assertEqual(
            NETWORK_SOURCES.decode(sources),
            ("file:/A/b c", "file:x", "file:/home/me/x", "file:./10.0.0.0/8", "10.0.0.1"),
        )

    def test_at_paths(self) -> None:
        sources = ("10.0.0.0/8", "file:x", "file:/y", "::1")
        self.assertEqual(
            at_paths(sources, lambda path: f"<{path}>"),
            ("10.0.0.0/8", "file:<x>", "file:</y>", "::1"),
        )
        self.assertEqual(at_paths((), os.path.abspath), ())
