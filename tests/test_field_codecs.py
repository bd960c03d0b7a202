import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.http_builders import TCHAR
from whatsproxy.config import ConfigError, load
from whatsproxy.field_codecs import FIELD_NAMES, FIELDS, PSEUDONYM
from whatsproxy.reference import effective

GOOD_NAMES = (
    "X-Name",
    "x",
    "DNT",
    "!#$%&'*+-.^_`|~09aZ",
    "Via",
    "Cookie",
    "Proxy",
    "Hosts",
    "Date",
)
BAD_NAMES = ("", " ", "X Name", "X:", "X-Name ", " X", "X=", "é", "X\n", "X\0", 'X"', "X,Y", "(x)")
RESERVED = (
    *("Host", "content-length", "Transfer-ENCODING", "Connection", "Keep-Alive", "TE", "Upgrade"),
    *("HTTP2-Settings", "Trailer", "expect", "Max-Forwards", "Proxy-Authorization", "PROXY-x"),
    # What CGI would take for one of them.
    *("Content_Length", "transfer_encoding", "Proxy_Connection", "max_forwards"),
)
GOOD_VALUES = ("", "x", "!", "a b", "a\tb", 'a, b; c="d"', "~" * 500, ":", "=")
BAD_VALUES = (
    " ",
    " x",
    "x ",
    "\tx",
    "x\t",
    "a\nb",
    "a\rb",
    "a\r\nX: y",
    "a\0b",
    "é",
    "a\x7fb",
    "x\n",
)


class NamesTests(SynchronousTestCase):
    def test_via_has_its_own_key(self) -> None:
        for name in ("Via", "via"):
            with self.assertRaisesRegex(ValueError, r"\[http\] via"):
                FIELDS.decode({name: "x"})

    def refuse(self, name: Any, text: str) -> None:
        with self.assertRaisesRegex(ValueError, text, msg=name):
            FIELD_NAMES.decode([name])
        with self.assertRaisesRegex(ValueError, text, msg=name):
            FIELDS.decode({name: "x"})

    def test_good(self) -> None:
        self.assertEqual(FIELD_NAMES.decode(list(GOOD_NAMES)), GOOD_NAMES)
        fields = dict.fromkeys([name for name in GOOD_NAMES if name != "Via"], "x")
        self.assertEqual(FIELDS.decode(fields), tuple(fields.items()))
        self.assertEqual((FIELD_NAMES.decode([]), FIELDS.decode({})), ((), ()))

    def test_bad(self) -> None:
        for name in BAD_NAMES:
            self.refuse(name, "the name of a field is expected, such as X-Name")
        self.refuse(5, "string")

    def test_reserved(self) -> None:
        for name in RESERVED:
            self.refuse(name, f"^{name} frames, routes or belongs to one connection")

    def test_list(self) -> None:
        for raw in ("X", 5, {"X": "y"}, None, True):
            with self.assertRaisesRegex(ValueError, "a list is expected: names of fields"):
                FIELD_NAMES.decode(raw)
        with self.assertRaisesRegex(ValueError, "^item 2: Host "):
            FIELD_NAMES.decode(["X", "Host"])

    def test_from_text(self) -> None:
        self.assertEqual(FIELD_NAMES.from_text(" X-Name,, y "), ["X-Name", "y"])
        self.assertEqual(FIELD_NAMES.from_text(""), [])


class FieldsTests(SynchronousTestCase):
    def test_values(self) -> None:
        for value in GOOD_VALUES:
            self.assertEqual(FIELDS.decode({"X": value}), (("X", value),), value)
        for value in BAD_VALUES:
            with self.assertRaisesRegex(ValueError, "the value of X is to be visible", msg=value):
                FIELDS.decode({"X": value})
        for other in (5, True, ["x"], {"x": "y"}, None):
            with self.assertRaisesRegex(ValueError, "string"):
                FIELDS.decode({"X": other})

    def test_order_is_kept(self) -> None:
        raw = {"b": "1", "A": "2", "c": "3"}
        self.assertEqual(FIELDS.decode(raw), (("b", "1"), ("A", "2"), ("c", "3")))
        self.assertEqual(FIELDS.encode(FIELDS.decode(raw)), raw)

    def test_twice(self) -> None:
        with self.assertRaisesRegex(ValueError, "twice"):
            FIELDS.decode({"X-A": "1", "Y": "2", "x-a": "1"})

    def test_no_table(self) -> None:
        for raw in ("X", 5, ["X"], [["X", "y"]], None, True):
            with self.assertRaisesRegex(ValueError, r'\{"X-Name" = "value"\} is expected'):
                FIELDS.decode(raw)

    def test_from_text(self) -> None:
        for text, fields in (
            ("", {}),
            (" , ", {}),
            ("X=y", {"X": "y"}),
            (" X = y z , A=", {"X": "y z", "A": ""}),
            ("X=a=b,Y==", {"X": "a=b", "Y": "="}),
        ):
            self.assertEqual(FIELDS.from_text(text), fields, text)
        for text in ("X", "X=1,Y", "a, b", "X=1,X=2", "X=1,Y=2,X=1"):
            with self.assertRaises(ValueError, msg=text):
                FIELDS.decode(FIELDS.from_text(text))


class PseudonymTests(SynchronousTestCase):
    def test_good(self) -> None:
        for name in ("", "gateway1", "a.b-c", TCHAR):
            self.assertEqual(PSEUDONYM.decode(name), name)

    def test_bad(self) -> None:
        for name in (" ", "a b", "a,b", "a/b", "a:1", "é", "(a)", "a\n", "a\r\nX: y"):
            with self.assertRaisesRegex(ValueError, "a word that is no secret", msg=name):
                PSEUDONYM.decode(name)
        for other in (5, None, ["a"], {}):
            with self.assertRaisesRegex(ValueError, "string"):
                PSEUDONYM.decode(other)


class SecretTests(SynchronousTestCase):
    """The value of a field may be a key to somewhere: it is never shown."""

    KEYS = (("http", "set_request"), ("http", "set_response"))

    def test_accepted(self) -> None:
        for key in self.KEYS:
            loaded = load(options={key: {"Authorization": "hunter2", "X": ""}})
            for text in (effective(loaded.settings), str(loaded.error(*key, "no"))):
                self.assertNotIn("hunter2", text)
                self.assertIn('{"Authorization" = "***", "X" = "***"}', text)

    def test_refused(self) -> None:
        for key in self.KEYS:
            for raw in (
                *(
                    {"Authorization": "hunter2 "},
                    {"Authorization": "hunter2\n"},
                    {"Host": "hunter2"},
                ),
                *({"X": "hunter2", "x": "hunter2"}, {"X": ["hunter2"]}, {"X Y": "hunter2"}),
                *("hunter2", ["X=hunter2"], [{"X": "hunter2"}], {"X": {"Y": "hunter2"}}),
            ):
                with self.assertRaises(ConfigError, msg=raw) as caught:
                    load(options={key: raw})
                self.assertNotIn("hunter2", str(caught.exception))
            variable = "_".join(("WHATSPROXY", *key)).upper()
            for text in ("hunter2", "X=hunter2,hunter2", "X=hunter2,X=hunter2", "Host=hunter2"):
                with self.assertRaises(ConfigError, msg=text) as caught:
                    load(environ={variable: text})
                self.assertNotIn("hunter2", str(caught.exception))


names = st.text(TCHAR, min_size=1, max_size=8).filter(
    lambda name: not name.lower().replace("_", "-").startswith("proxy-") and len(name) != 2
)
values = st.text([chr(code) for code in range(0x20, 0x7F)], max_size=10).map(str.strip)


class PropertyTests(SynchronousTestCase):
    @given(st.dictionaries(names, values, max_size=4))
    def test_round_trip(self, raw: dict[str, str]) -> None:
        try:
            fields = FIELDS.decode(raw)
        except ValueError:
            low = [name.lower().replace("_", "-") for name in raw]
            reserved = {name.lower().replace("_", "-") for name in RESERVED}
            self.assertTrue(len({n.lower() for n in raw}) < len(raw) or set(low) & reserved)
            return
        self.assertEqual(FIELDS.decode(FIELDS.encode(fields)), fields)
        # A masked value can be read again, too: what effective() shows is a configuration.
        shown = tomllib.loads(f"value = {FIELDS.show(fields)}")["value"]
        self.assertEqual(FIELDS.decode(shown), tuple((name, "***") for name in raw))

    @settings(max_examples=150)
    @given(st.text("X=, Yé\n:-", max_size=12) | st.text(max_size=8))
    def test_nothing_but_value_errors(self, text: str) -> None:
        for codec in (FIELDS, FIELD_NAMES, PSEUDONYM):
            try:
                decoded = codec.decode(codec.from_text(text))
            except ValueError as e:
                self.assertTrue(str(e))
            else:
                self.assertEqual(codec.decode(codec.encode(decoded)), decoded)
