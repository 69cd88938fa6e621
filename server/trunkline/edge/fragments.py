"""Joins the fragments of one message. Pure: payloads in, a message or a close code out (RFC 6455, 5.4 and 8.1)."""

from __future__ import annotations

import codecs
from typing import Final

PROTOCOL_ERROR: Final = 1002
UNSUPPORTED_DATA: Final = 1003
INVALID_TEXT: Final = 1007
MESSAGE_TOO_BIG: Final = 1009
TRY_AGAIN_LATER: Final = 1013

TOO_MUCH_IN_PART: Final = (
    "too many bytes of incomplete messages (TRUNKLINE_PARTIAL_BYTES_PER_PRINCIPAL, TRUNKLINE_PARTIAL_BYTES)"
)


class FrameRefused(Exception):
    """The peer broke the framing rules; the connection is to be closed with ``code``."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Assembler:
    """Collects the fragments of one message after the other, text or binary.

    Text that is not UTF-8 is refused at the first fragment that shows it; binary is taken as it is.

    Args:
        max_bytes: the largest message, all fragments together.

    Attributes:
        open: whether a message has begun and not ended.
        text: whether that message is text.
    """

    __slots__ = ("_decoder", "_max_bytes", "_message", "open", "text")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._message = bytearray()  # not a list: many small fragments must not cost more than their bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.open = False
        self.text = True

    @property
    def size(self) -> int:
        """Bytes of the open message that have arrived."""
        return len(self._message)

    def start(self, payload: bytes, *, text: bool) -> None:
        """Begin a message with its first fragment, a text or binary frame without FIN.

        Raises:
            FrameRefused: a message is open already (1002), the fragment is too large (1009) or no UTF-8 (1007).
        """
        self.require_closed()
        self.open, self.text = True, text
        self._add(payload, final=False)

    def require_closed(self) -> None:
        """Refuse a text or binary frame while a message is open (1002): only continuation frames may follow then."""
        if self.open:
            raise FrameRefused(PROTOCOL_ERROR, "a new message began before the last one ended")

    def proceed(self, payload: bytes, *, final: bool) -> bytes | None:
        """Add a continuation frame; returns the whole message after the last one, else None.

        Raises:
            FrameRefused: no message is open (1002), or the message is too large (1009) or no UTF-8 (1007).
        """
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
        if self.text:
            try:
                self._decoder.decode(payload, final)
            except UnicodeDecodeError as error:
                raise FrameRefused(INVALID_TEXT, "a text message must be UTF-8") from error
        self._message += payload


def check_text(payload: bytes) -> None:
    """Refuse a whole text message that is not UTF-8 (1007)."""
    if not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError as error:
            raise FrameRefused(INVALID_TEXT, "a text message must be UTF-8") from error


def is_sendable(code: int) -> bool:
    """Whether a peer may send this close code (RFC 6455, 7.4): 1004 to 1006 and 1015 never go over a wire.

    1012 to 1014 were registered with IANA later. 3000 to 4999 belong to libraries and applications.
    """
    return code in _REGISTERED or 3000 <= code <= 4999


_REGISTERED: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
