"""Why a message is not forwarded: a class each reason, and a text for whoever sent it."""

from typing import ClassVar

from whatsproxy.reason import Reason


class MessageError(Exception):
    """A message cannot be taken; ``str()`` says what is wrong with it, naming none of its bytes."""

    reason: ClassVar[Reason] = Reason.BAD_REQUEST


class BadMessageError(MessageError):
    """It is not HTTP/1.1, or could be read in two ways (RFC 9112)."""


class HeadTooLargeError(MessageError):
    """Its head, or its trailer section, passes ``http.max_head`` or ``http.max_fields``."""

    reason = Reason.HEAD_TOO_LARGE


class BodyTooLargeError(MessageError):
    """Its body passes ``http.max_body``."""

    reason = Reason.BODY_TOO_LARGE


class NotCarriedError(MessageError):
    """It asks for a part of HTTP that is not carried here."""

    reason = Reason.NOT_IMPLEMENTED


class WrongVersionError(MessageError):
    """It is in another version than HTTP/1.0 or 1.1."""

    reason = Reason.HTTP_VERSION
