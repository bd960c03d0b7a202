import h11
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from whatsproxy import upstream
from whatsproxy.http1.answers import (
    ANSWERS,
    ESTABLISHED,
    Answer,
    answer_to,
    as_bytes,
    options_answer,
    page_for,
)
from whatsproxy.http1.errors import MessageError
from whatsproxy.http1.heads import find_head
from whatsproxy.reason import Reason
from whatsproxy.upstream import reason_of


class AnswersCase(SynchronousTestCase):
    def fields(self, answer: Answer) -> dict[bytes, bytes]:
        response, _ = answer
        fields = dict(response.headers)
        self.assertEqual(len(fields), len(response.headers))
        return fields

    def check(self, answer: Answer, status: int, *, close: bool, method: bytes = b"GET") -> bytes:
        """Insist that it is an answer that h11 sends and reads; return its body."""
        response, body = answer
        self.assertEqual(response.status_code, status)
        self.assertEqual(self.fields(answer).get(b"connection"), b"close" if close else None)
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("Host", "a.test")]))
        client.send(h11.EndOfMessage())
        client.receive_data(as_bytes(answer))
        told = client.next_event()
        self.assertEqual((told.status_code, told.headers), (status, response.headers))
        self.assertTrue(told.reason)
        event, read = client.next_event(), b""
        while type(event) is h11.Data:
            read += event.data
            event = client.next_event()
        self.assertEqual((type(event), read), (h11.EndOfMessage, body))
        self.assertEqual(client.trailing_data, (b"", False))
        return body


class ErrorTests(AnswersCase):
    def test_every_reason_has_its_answer(self) -> None:
        errors = {kind.reason for kind in [MessageError, *MessageError.__subclasses__()]}
        self.assertEqual(len(errors), 5)
        dials = {reason for _, reason in upstream._REASONS} | {reason_of(RuntimeError())}
        self.assertGreater(len(dials), 10)
        by_http = {r for r in Reason if r.text.startswith("HTTP: ")} - {Reason.ANSWERED}
        self.assertEqual((errors | dials | by_http) - set(ANSWERS), set())

    def test_statuses(self) -> None:
        for reason, status in (
            (Reason.BAD_REQUEST, 400),
            (Reason.REFUSED_NAME, 403),
            (Reason.LOGIN_IN_CLEAR, 403),
            (Reason.LOGIN_MISSING, 407),
            (Reason.LOGIN_FAILED, 407),
            (Reason.LOGIN_BUSY, 503),
            (Reason.REQUEST_TIMEOUT, 408),
            (Reason.BODY_TOO_LARGE, 413),
            (Reason.HEAD_TOO_LARGE, 431),
            (Reason.INTERNAL, 500),
            (Reason.NOT_IMPLEMENTED, 501),
            (Reason.UPSTREAM_UNRESOLVED, 502),
            (Reason.SOCKS_REFUSED, 502),
            (Reason.UPSTREAM_BAD_ANSWER, 502),
            (Reason.DRAINING, 503),
            (Reason.UPSTREAM_TIMEOUT, 504),
            (Reason.UPSTREAM_SILENT, 504),
            (Reason.SOCKS_TIMEOUT, 504),
            (Reason.HTTP_VERSION, 505),
        ):
            self.assertEqual(answer_to(reason, "", close=False)[0].status_code, status)

    def test_texts(self) -> None:
        for reason, (status, remedy) in ANSWERS.items():
            for detail in ("", "the thing went wrong", "It did."):
                for close in (False, True):
                    answer = answer_to(reason, detail, close=close)
                    body = self.check(answer, status, close=close).decode()
                    self.assertEqual(
                        self.fields(answer)[b"content-type"], b"text/plain; charset=utf-8"
                    )
                    happened, what_to_do, end = body.split("\n")
                    self.assertEqual((what_to_do, end), (remedy, ""))
                    self.assertTrue(happened.endswith("."))
                    self.assertFalse(happened.endswith(".."))
                    self.assertTrue(happened[0].isupper())
                    self.assertLessEqual(len(body), 200)
                    expected = detail or reason.text.removeprefix("HTTP: ")
                    self.assertEqual(happened[1:-1], expected.rstrip(".")[1:])
            self.assertRegex(remedy, r"^[A-Z].*[a-z0-9]\.$")
            self.assertNotRegex(remedy, "HTTP: ")

    def test_no_product(self) -> None:
        answers = [answer_to(reason, "", close=True) for reason in ANSWERS]
        answers += [page_for(b"GET", path, close=True) for path in (b"/", b"/x")]
        answers += [page_for(b"PUT", b"/", close=True), options_answer(close=True)]
        for answer in answers:
            said = as_bytes(answer).lower()
            for name in (b"whats", b"twisted", b"h11", b"python", b"server:", b"via:", b"date:"):
                self.assertNotIn(name, said)

    @given(st.sampled_from(sorted(ANSWERS, key=str)), st.text(max_size=40), st.booleans())
    def test_any_detail(self, reason: Reason, detail: str, close: bool) -> None:
        self.check(answer_to(reason, detail, close=close), ANSWERS[reason][0], close=close)

    def test_what_is_no_text(self) -> None:
        _, body = answer_to(Reason.BAD_REQUEST, "a\udcffb", close=False)
        self.assertTrue(body.startswith(b"A\\udcffb."))


class PageTests(AnswersCase):
    def test_page(self) -> None:
        for path in (b"/", b"/?", b"/?x=/y"):
            for close in (False, True):
                answer = page_for(b"GET", path, close=close)
                body = self.check(answer, 200, close=close)
                self.assertIn(b"<html>", body)
                self.assertEqual(self.fields(answer)[b"content-type"], b"text/html; charset=utf-8")

    def test_head_is_told_the_same(self) -> None:
        for path in (b"/", b"/x"):
            self.assertEqual(
                page_for(b"HEAD", path, close=False)[0].headers,
                page_for(b"GET", path, close=False)[0].headers,
            )

    def test_no_page(self) -> None:
        for path in (b"/favicon.ico", b"//", b"*", b"/ ", b"/x?/"):
            for method in (b"GET", b"HEAD"):
                for close in (False, True):
                    answer = page_for(method, path, close=close)
                    self.assertEqual(self.check(answer, 404, close=close), b"Not found.\n")

    def test_method(self) -> None:
        for method in (b"POST", b"OPTIONS", b"get", b"TRACE"):
            for close in (False, True):
                answer = page_for(method, b"/", close=close)
                self.assertEqual(self.check(answer, 405, close=close), b"")
                self.assertEqual(self.fields(answer)[b"allow"], b"GET, HEAD")

    def test_options(self) -> None:
        for close in (False, True):
            self.assertEqual(self.check(options_answer(close=close), 200, close=close), b"")


class EstablishedTests(SynchronousTestCase):
    def test_nothing_that_could_be_taken_for_a_body(self) -> None:
        self.assertEqual(find_head(ESTABLISHED), len(ESTABLISHED))
        client = h11.Connection(h11.CLIENT)
        fields = [("Host", "a.test:443")]
        client.send(h11.Request(method="CONNECT", target="a.test:443", headers=fields))
        client.send(h11.EndOfMessage())
        client.receive_data(ESTABLISHED + b"early")
        told = client.next_event()
        self.assertEqual((told.status_code, list(told.headers)), (200, []))
        self.assertIs(client.next_event(), h11.PAUSED)
        self.assertEqual(client.trailing_data[0], b"early")
