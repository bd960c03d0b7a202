import json
import os
import tempfile
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.config_examples import BAD, BAD_TEXT, EXAMPLES, variable, whole_file
from tests.config_tables import Name
from whatsproxy.codecs import toml
from whatsproxy.config import KEYS, SECTIONS, ConfigError, Loaded, absolute_output, load
from whatsproxy.settings import Settings


def value_of(loaded: Loaded, section: str, name: str) -> object:
    return getattr(getattr(loaded.settings, section), name)


class ConfigTestCase(SynchronousTestCase):
    def file(self, text: str | bytes) -> str:
        path: str = self.mktemp()
        with open(path, "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())
        return path

    def refuse(self, *expected: str, **sources: Any) -> str:
        """Insist that loading fails with one line that holds every regular expression."""
        with self.assertRaises(ConfigError) as caught:
            load(**sources)
        text = str(caught.exception)
        self.assertNotIn("\n", text)
        for pattern in expected:
            self.assertRegex(text, pattern)
        return text


class OrderTests(ConfigTestCase):
    def test_the_tables_here_are_complete(self) -> None:
        self.assertEqual(set(EXAMPLES), set(KEYS))
        self.assertEqual(set(BAD), set(KEYS))
        self.assertEqual(set(BAD_TEXT), set(KEYS))

    def test_every_key(self) -> None:
        for (section, name), example in EXAMPLES.items():
            file: dict[str, Any] = {"path": self.file(f"[{section}]\n{example.file}\n")}
            environ = {"environ": {variable(section, name): example.environment, "HOME": "/"}}
            options = {"options": {(section, name): example.command}}
            default = getattr(getattr(Settings(), section), name)
            for sources, expected, origin in (
                ({}, default, None),
                (file, example.decoded[0], file["path"]),
                (environ, example.decoded[1], variable(section, name)),
                (options, example.decoded[2], "command line"),
                (file | environ, example.decoded[1], variable(section, name)),
                (file | options, example.decoded[2], "command line"),
                (file | environ | options, example.decoded[2], "command line"),
            ):
                loaded = load(**sources)
                self.assertEqual(value_of(loaded, section, name), expected, (section, name))
                self.assertEqual(loaded.origins.get((section, name)), origin)
                for other in KEYS.keys() - {(section, name)}:
                    self.assertEqual(value_of(loaded, *other), KEYS[other].default)
            self.assertNotIn(default, example.decoded, (section, name))

    def test_nothing_given(self) -> None:
        self.assertEqual(load().settings, Settings())
        self.assertEqual(load(self.file("")).settings, Settings())

    def test_empty_lists_from_the_environment(self) -> None:
        loaded = load(environ={"WHATSPROXY_POLICY_ALLOW": "", "WHATSPROXY_SOCKS5_PROXIES": " , "})
        self.assertEqual(loaded.settings.policy.allow, ())
        self.assertEqual(loaded.settings.socks5.proxies, ())

    def test_whole_file_at_once(self) -> None:
        loaded = load(self.file(whole_file()))
        for key, example in EXAMPLES.items():
            self.assertEqual(value_of(loaded, *key), example.decoded[0])

    def test_the_variable_of_the_file_is_no_key(self) -> None:
        self.assertEqual(load(environ={"WHATSPROXY_CONFIG": "/x"}).settings, Settings())


class ErrorTests(ConfigTestCase):
    def test_every_key_on_the_command_line(self) -> None:
        for key, wrong in BAD.items():
            for raw, right in wrong:
                start = rf"^command line: \[{key[0]}\] {key[1]} = \S.*: \S"
                self.refuse(start, right, options={key: raw})

    def test_every_key_in_the_file(self) -> None:
        for (section, name), wrong in BAD.items():
            for raw, right in wrong:
                value = json.dumps(raw).replace("NaN", "nan").replace("Infinity", "inf")
                if "{" in value:
                    value = toml(raw)
                path = self.file(f"[{section}]\n{name} = {value}\n")
                self.refuse(rf"^{path}: \[{section}\] {name} = \S.*: \S", right, path=path)

    def test_every_key_in_the_environment(self) -> None:
        for (section, name), wrong in BAD_TEXT.items():
            for text, right in wrong:
                where = variable(section, name)
                start = rf"^{where}: \[{section}\] {name} = \S.*: \S"
                self.refuse(start, right, environ={where: text})

    def test_the_value_is_shown(self) -> None:
        path = self.file('[upstream]\nchat = ["good.example:1", "bad example:2"]\n')
        self.refuse(r'\["good\.example:1", "bad example:2"\]: ', path=path)
        self.refuse(r"idle = -1: ", options={("timeouts", "idle"): -1})

    def test_unknown_in_the_file(self) -> None:
        for text, expected in (
            ("[sever]\nlisten = []\n", r"unknown section .*sever.*server"),
            ("listen = 5\n", r"unknown section .*listen"),
            (
                "[server]\nlistne = []\n",
                r"unknown key .*listne.*; there are listen, listener, proxy_trusted, max_con",
            ),
            ("[server.listen]\nx = 1\n", r"\[server\] listen = "),
            ("server = 5\n", r"server is a section"),
            ("[[server]]\nlisten = []\n", r"server is a section"),
            ('["a\\nb"]\n', r"unknown section"),
            ('[server]\n"a\\nb" = 1\n', r"unknown key"),
        ):
            path = self.file(text)
            self.refuse(f"^{path}: ", expected, path=path)

    def test_unknown_in_the_environment(self) -> None:
        for name, expected in (
            ("WHATSPROXY_SEVER_LISTEN", "unknown section.*SERVER"),
            ("WHATSPROXY_", "unknown section"),
            ("WHATSPROXY_SERVER", "unknown key"),
            ("WHATSPROXY_SERVER_LISTNE", "unknown key.*listen"),
        ):
            self.refuse(f"^{name}: ", expected, environ={name: "1"})

    def test_unreadable(self) -> None:
        missing = self.mktemp()
        self.refuse(f"^{missing}: cannot be read: No such file", path=missing)
        directory = self.mktemp()
        os.mkdir(directory)
        self.refuse(f"^{directory}: cannot be read: Is a directory", path=directory)

    def test_no_toml(self) -> None:
        for text in (
            *("[server", "x", "[server]\nlisten = [\n", "[server]\nidle = 1 2\n"),
            *(
                "[server]\n[server]\n",
                "a = 1\na = 2\n",
                b"\xff\xfe",
                b'[server]\nlisten = ["\xff"]',
            ),
            *("[timeouts]\nidle = 2020-02-31\n", "[timeouts]\nidle = " + "9" * 5000),
            "[server]\nlisten = " + "[" * 5000,
        ):
            path = self.file(text)
            self.refuse(f"^{path}: is no TOML: ", path=path)

    def test_enormous_numbers(self) -> None:
        key = ("timeouts", "idle")
        right = r"\[timeouts\] idle = .*: seconds"
        self.refuse(right, environ={variable(*key): "9" * 400})
        self.refuse(right, environ={variable(*key): "9" * 5000})
        for number in ("9" * 400, "0x" + "9" * 400, "0x" + "9" * 5000):
            path = self.file(f"[timeouts]\nidle = {number}")
            self.refuse(f"^{path}: {right}", path=path)
        path = self.file("[server]\nmax_connections = 0x" + "9" * 5000)
        self.refuse(r"\[server\] max_connections = .*: an integer from 1", path=path)

    def test_what_only_its_user_could_judge(self) -> None:
        key = ("server", "listen")
        loaded = load(options={key: ["tcp:1"]})
        self.assertEqual(
            str(loaded.error(*key, "in use")), 'command line: [server] listen = ["tcp:1"]: in use'
        )
        self.assertRegex(str(load().error(*key, "no")), r'^default: \[server\] listen = \["tcp6:')


class ListenerTests(ConfigTestCase):
    """[[listener]] stands in the file beside the sections, and means [[server.listener]]."""

    def endpoints(self, text: str) -> list[str]:
        """Return the endpoints of the listeners of a file."""
        path = self.file(text)
        loaded = load(path)
        self.assertEqual(loaded.origins["server", "listener"], path)
        return [listener.endpoint for listener in loaded.settings.server.listener]

    def test_both_spellings(self) -> None:
        two = "[[{0}]]\nendpoint = 'tcp:1'\n[[{0}]]\nendpoint = 'tcp:2'\nkinds = ['raw']\n"
        short, in_full = two.format("listener"), two.format("server.listener")
        self.assertEqual(load(self.file(short)).settings, load(self.file(in_full)).settings)
        self.assertEqual(self.endpoints(short), ["tcp:1", "tcp:2"])
        self.assertEqual(self.endpoints("listener = [{endpoint = 'unix:/x'}]\n"), ["unix:/x"])

    def test_beside_the_section(self) -> None:
        for text in (
            "[server]\nmax_connections = 5\n[[listener]]\nendpoint = 'tcp:1'\n",
            "[[listener]]\nendpoint = 'tcp:1'\n[server]\nmax_connections = 5\n",
        ):
            self.assertEqual(self.endpoints(text), ["tcp:1"])
            self.assertEqual(load(self.file(text)).settings.server.max_connections, 5)

    def test_both_at_once(self) -> None:
        """None of them is lost."""
        text = "[[listener]]\nendpoint = 'tcp:1'\n[[server.listener]]\nendpoint = 'tcp:2'\n"
        self.assertEqual(self.endpoints(text), ["tcp:2", "tcp:1"])

    def test_the_environment_replaces_them(self) -> None:
        path = self.file("[[listener]]\nendpoint = 'tcp:1'\n")
        loaded = load(path, {"WHATSPROXY_SERVER_LISTENER": "tcp:2"})
        self.assertEqual([each.endpoint for each in loaded.settings.server.listener], ["tcp:2"])

    def test_mistakes(self) -> None:
        right = r"\[server\] listener = .*: "
        good = "[[listener]]\nendpoint = 'tcp:1'\n"
        for text, expected in (
            ("listener = 5\n", right + "a list is expected"),
            ("[listener]\nendpoint = 'tcp:1'\n", right + "a list is expected"),
            ("listener = 'tcp:1'\n", right + "a list is expected"),
            ("[[listener]]\nkinds = ['raw']\n", right + ".*endpoint = "),
            (good + "[[listener]]\nendpoint = 'tcp:x'\n", right + "item 2: .*no port"),
            (good + "[server]\nlistener = 5\n", right + "a list is expected"),
            (good + "[server]\nlistener = 'tcp:1'\n", right + "a list is expected"),
            (good + "[server.listener]\nendpoint = 'tcp:1'\n", right + "a list is expected"),
            ("listener = 5\n[[server.listener]]\nendpoint = 'tcp:1'\n", right + "a list is"),
            ("server = 5\n" + good, "server is a section"),
            ("[[server]]\n" + good, "server is a section"),
        ):
            path = self.file(text)
            self.refuse(f"^{path}: {expected}", path=path)


# What TOML can say, and strings that are nearly right.
_TOKENS = st.sampled_from(
    [
        *("socks5://", "u", ":", "p", "@", "[", "::1", "]", "/", "tcp:", "port=", "80", "-1", " "),
        *("%41", "refuse", "direct", "*.", ".", "a.b", ",", '"', "\\", "\n", "\x7f", "9" * 400),
    ]
)
strings = st.lists(_TOKENS, max_size=6).map("".join) | st.text(max_size=10)
toml_values = st.recursive(
    strings
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.dates()
    | st.integers(0, 400).map(lambda n: 10**n),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings, inner, max_size=2),
    max_leaves=6,
)


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=400)
    @given(st.sampled_from(sorted(KEYS)), toml_values)
    def test_any_value(self, key: Name, value: object) -> None:
        try:
            load(options={key: value})
        except ConfigError as e:
            self.assertTrue(str(e).startswith(f"command line: [{key[0]}] {key[1]} = "))
            self.assertNotIn("\n", str(e))

    @settings(max_examples=200)
    @given(st.dictionaries(st.sampled_from([variable(*key) for key in KEYS]), strings, max_size=3))
    def test_any_environment(self, environ: dict[str, str]) -> None:
        try:
            load(environ=environ)
        except ConfigError as e:
            self.assertIn(str(e).partition(":")[0], environ)

    @settings(max_examples=100)
    @given(
        st.binary(max_size=60)
        | st.lists(
            st.sampled_from([f"[{s}]" for s in SECTIONS] + ["[[listener]]", "listener = "])
            | st.sampled_from(sorted({f"{name} = " for _, name in KEYS}))
            | strings.map(json.dumps)
            | st.sampled_from(["\n", "1", "1.5", "inf", "true", "[", "]", "{", "}", "2020-01-01"]),
            max_size=10,
        ).map(lambda parts: "".join(parts).encode())
    )
    def test_any_file(self, text: bytes) -> None:
        with tempfile.NamedTemporaryFile() as f:
            f.write(text)
            f.flush()
            try:
                load(f.name)
            except ConfigError as e:
                self.assertTrue(str(e).startswith(f"{f.name}: "))
                self.assertNotIn("\n", str(e))


class OutputTests(SynchronousTestCase):
    def test_absolute(self) -> None:
        self.assertEqual(absolute_output("stdout"), "stdout")
        self.assertEqual(absolute_output("stderr"), "stderr")
        self.assertEqual(absolute_output("x"), os.path.join(os.getcwd(), "x"))
        self.assertEqual(absolute_output("/x"), "/x")
