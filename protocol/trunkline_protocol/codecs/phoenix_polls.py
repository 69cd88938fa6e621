"""Long polling, the other transport of Phoenix Channels: what one peer has not fetched yet, and what the bodies are.

Every answer with messages has a new token, and a poll that shows it says that the answer arrived. Until then the
messages are kept: a poll that shows the token before, because a proxy or a browser sent it again, gets the same ones.
So a message is dropped only once it is known to have arrived, or with all that belongs to the session.

Pure: the door has the clock and the requests.
"""

from __future__ import annotations

import base64
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from trunkline_protocol.codecs.dialect import Frame
from trunkline_protocol.errors import ErrorCode, RpcError

ANSWER_BYTES: Final = 1024 * 1024
"""Bytes of messages in one answer; a larger message is an answer of its own."""

MESSAGES: Final = 200
NOTHING: Final = 204
FORBIDDEN: Final = 403
GONE: Final = 410
FAILED: Final = 500
"""The members ``status`` that phoenix.js knows: with any other it throws and stops."""

_TOKEN: Final = re.compile(r"longpoll\.([A-Za-z0-9_-]{22})\.([0-9]{1,15})")
_encoder: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class PollToken:
    """The token of a poll.

    Attributes:
        secret: names the session: 128 random bits, base64url.
        turn: the number of the last answer with messages that the peer has.
    """

    secret: str
    turn: int

    def encode(self) -> str:
        """The token as text."""
        return f"longpoll.{self.secret}.{self.turn}"


def decode_token(text: str) -> PollToken | None:
    """The token that a text is; None where it is something else, such as a user's token in the same parameter."""
    found = _TOKEN.fullmatch(text)
    return None if found is None else PollToken(found[1], int(found[2]))


class Mailbox:
    """The messages for one peer, in order.

    Args:
        answer_bytes: of the messages in one answer; a larger message is an answer of its own.

    Attributes:
        turn: the number of the last answer with messages, from 0 on.
        waiting_bytes: of the messages that are in no answer yet.
    """

    def __init__(self, answer_bytes: int = ANSWER_BYTES) -> None:
        self._answer_bytes = answer_bytes
        self._waiting: deque[bytes] = deque()
        self._handed: list[bytes] = []
        self.turn = 0
        self.waiting_bytes = 0

    def add(self, message: bytes) -> None:
        """Put a message behind those that wait."""
        self._waiting.append(message)
        self.waiting_bytes += len(message)

    def knows(self, turn: int) -> bool:
        """Whether a poll may show this number: that of the last answer, or the one before while that may be lost."""
        return turn == self.turn or (turn == self.turn - 1 and bool(self._handed))

    def fetch(self, turn: int) -> list[bytes]:
        """The messages of the answer to a poll; empty where none wait.

        Args:
            turn: what the poll shows; :meth:`knows` it.
        """
        if turn != self.turn:
            return self._handed  # the answer is repeated
        self._handed = []
        size = 0
        while self._waiting and (not self._handed or size + len(self._waiting[0]) <= self._answer_bytes):
            message = self._waiting.popleft()
            size += len(message)
            self._handed.append(message)
        self.waiting_bytes -= size
        self.turn += bool(self._handed)
        return self._handed


def encode_answer(status: int, token: PollToken | None = None, messages: list[bytes] | None = None) -> bytes:
    """The body of the answer to a poll, or to messages.

    Args:
        token: to be shown by the next poll; without, that opens a new session.
        messages: texts of frames.
    """
    texts = [message.decode() for message in messages or ()]
    return _encoder.encode({"status": status, "token": None if token is None else token.encode(), "messages": texts})


def encode_refusal(error: RpcError) -> bytes:
    """The body that says why a request was refused, with a status that phoenix.js knows: 500 where it may try again."""
    status = FAILED if error.retryable else FORBIDDEN
    return _encoder.encode({"status": status, "token": None, "messages": [], "error": error.to_wire()})


def frames_of(body: bytes, *, is_lines: bool) -> Iterator[Frame | RpcError]:
    """The frames in the body of a POST, in order; an error (-32600) in place of a line that is none.

    Args:
        body: UTF-8.
        is_lines: each line is a message: text, which is an array, or base64 of a binary one. Else all is one text.
    """
    if not is_lines:
        yield Frame(body)
        return
    begin = 0
    while begin < len(body):
        end = body.find(b"\n", begin)
        end = len(body) if end < 0 else end
        line = body[begin:end].strip()
        begin = end + 1
        if line.startswith(b"["):
            yield Frame(line)
        elif line:
            yield _binary(line)


def _binary(line: bytes) -> Frame | RpcError:
    try:
        return Frame(base64.b64decode(line, validate=True), binary=True)
    except ValueError as error:
        words = f"each line is a message: an array, or base64 of a binary one; a line is neither: {error}"
        return RpcError(ErrorCode.INVALID_REQUEST, words)
