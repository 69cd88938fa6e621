"""What a stream of client frames means: RFC 6455, read a second time and without regard to segments.

``close`` is a set where several rules are broken at once, by one frame or by the next, which the parser sees first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.fuzz.fragments import may_be_text
from tests.support.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, masked

STAYS_OPEN: Final = None
SENDABLE: Final = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}


@dataclass
class Expected:
    messages: list[bytes] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    close: set[int | None] = field(default_factory=lambda: {STAYS_OPEN})


class Refused(Exception):
    def __init__(self, *codes: int | None) -> None:
        super().__init__(codes)
        self.codes = set(codes)


@dataclass(frozen=True)
class ClientFrame:
    opcode: int
    fin: bool
    rsv: int
    payload: bytes


def read(stream: bytes, max_message_bytes: int) -> Expected:
    """Judge all that a client sent after the upgrade, in whatever segments."""
    expected = Expected()
    message: bytearray | None = None
    frames = _frames(stream, max_message_bytes)
    try:
        for frame in frames:
            _check(frame)
            if frame.opcode == PING:
                expected.pongs.append(frame.payload)
            elif frame.opcode == CLOSE:
                raise Refused(*_close_codes(frame.payload))
            elif frame.opcode in (TEXT, CONTINUATION):
                message = _join(message, frame, max_message_bytes)
                if frame.fin:
                    expected.messages.append(bytes(message))
                    message = None
    except Refused as refusal:
        expected.close = refusal.codes | _faults_of_next(frames)
    return expected


def _frames(stream: bytes, max_frame_bytes: int) -> Iterator[ClientFrame]:
    """Cut the stream into frames; what is incomplete at its end is judged as far as it goes."""
    at = 0
    while len(stream) - at >= 2:
        first, second = stream[at], stream[at + 1]
        opcode, fin, size = first & 0x0F, bool(first & 0x80), second & 0x7F
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG) or not second & 0x80:
            raise Refused(1002)
        if opcode >= CLOSE and (not fin or size > 125):
            raise Refused(1002)
        width = {126: 2, 127: 8}.get(size, 0)
        start = at + 2 + width
        if start > len(stream):
            return
        if width:
            size = int.from_bytes(stream[at + 2 : start], "big")
            if size < (126 if width == 2 else 1 << 16) or size >= 1 << 63:
                raise Refused(1002)
        if size > max_frame_bytes:
            raise Refused(1009)
        if start + 4 + size > len(stream):
            return
        payload = masked(stream[start + 4 : start + 4 + size], stream[start : start + 4])
        at = start + 4 + size
        yield ClientFrame(opcode, fin, first >> 4 & 7, payload)


def _faults_of_next(frames: Iterator[ClientFrame]) -> set[int | None]:
    """The parser is one frame ahead of the reader; where both find a fault, its is told first."""
    try:
        frame = next(frames, None)
    except Refused as refusal:
        return refusal.codes
    return set() if frame is None or frame.opcode != CLOSE else {1002, 1007}


def _check(frame: ClientFrame) -> None:
    if frame.rsv:
        raise Refused(1002, *(_close_codes(frame.payload) & {1007} if frame.opcode == CLOSE else ()))
    if frame.opcode == BINARY:
        raise Refused(1003)


def _join(message: bytearray | None, frame: ClientFrame, max_bytes: int) -> bytearray:
    if (message is None) == (frame.opcode == CONTINUATION):
        raise Refused(1002)
    joined = (message or bytearray()) + frame.payload
    invalid, too_big = not may_be_text(bytes(joined), final=frame.fin), len(joined) > max_bytes
    if invalid or too_big:
        raise Refused(*[1007] * invalid, *[1009] * too_big)
    return joined


def _close_codes(payload: bytes) -> set[int]:
    """The code of the close frame that answers this one: the same, or what is wrong with it."""
    if not payload:
        return {1000}
    code, faults = int.from_bytes(payload[:2], "big"), set()
    if len(payload) < 2 or code not in SENDABLE:
        faults.add(1002)
    if not may_be_text(payload[2:], final=True):
        faults.add(1007)
    return faults or {code}
