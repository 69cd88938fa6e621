"""Joins the fragments of one text message. Pure: payloads in, a message or a close code out (RFC 6455, 5.4)."""

from __future__ import annotations

import codecs
from typing import Final

PROTOCOL_ERROR: Final = 1002
UNSUPPORTED_DATA: Final = 1003
INVALID_TEXT: Final = 1007
MESSAGE_TOO_BIG: Final = 1009


class FrameRefused(Exception):
    """The peer broke the framing rules; the connection is to be closed with ``code``."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class TextAssembler:
    """Collects fragments; refuses invalid UTF-8 at the first fragment that shows it.

    Args:
        max_bytes: the largest message, all fragments together.
    """

    __slots__ = ("_decoder", "_max_bytes", "_message", "open")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._message = bytearray()  # not a list: many small fragments must not cost more than their bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.open = False

    def start(self, payload: bytes) -> None:
        """A text frame without FIN."""
        if self.open:
            raise FrameRefused(PROTOCOL_ERROR, "a new message began before the last one ended")
        self.open = True
        self._add(payload, final=False)

    def proceed(self, payload: bytes, *, final: bool) -> bytes | None:
        """A continuation frame. Returns the message when it is whole."""
        if not self.open:
            raise FrameRefused(PROTOCOL_ERROR, "a continuation frame without a message to continue")
        self._add(payload, final=final)
        if not final:
            return None
        message = bytes(self._message)
        self._message.clear()
        self.open = False
        return message

    def _add(self, payload: bytes, *, final: bool) -> None:
        if len(self._message) + len(payload) > self._max_bytes:
            raise FrameRefused(MESSAGE_TOO_BIG, f"a message may have {self._max_bytes} bytes")
        try:
            self._decoder.decode(payload, final)
        except UnicodeDecodeError as error:
            raise FrameRefused(INVALID_TEXT, "a text message must be UTF-8") from error
        self._message += payload


def check_text(payload: bytes) -> None:
    """Refuse a whole text message that is not UTF-8."""
    if not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            raise FrameRefused(INVALID_TEXT, "a text message must be UTF-8") from error
