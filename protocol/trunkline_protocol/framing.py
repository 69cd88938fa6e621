"""Framing of byte streams, for peers without a WebSocket: pipes and Unix sockets.

- **packet4**: a length, four bytes big-endian, and so many bytes: what Erlang ports do with ``{packet, 4}``.
- **ndjson**: one JSON text a line.

A parser is fed whatever pieces a stream comes in. It keeps one unfinished frame at most, and refuses one that is too
large before it keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, Protocol

from typing_extensions import override

FramingName = Literal["packet4", "ndjson"]
DialectName = Literal["jsonrpc", "command-bus", "dspy-port"]

_LENGTH: Final = 4
_BLANKS: Final = b" \t\r"


class FramingError(Exception):
    """The stream cannot be split into frames any further, and has to be closed."""


class OversizeError(FramingError):
    """A frame is larger than ``max_bytes``."""


class Framing(Protocol):
    """Parses the frames of one peer, and encodes frames to it. After a FramingError it cannot be used any more."""

    @property
    def kept(self) -> int:
        """Bytes of the unfinished frame that is buffered."""

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[bytes]:
        """Parse the next bytes of the stream.

        Yields:
            The frames that these bytes complete. Iterate to the end: frames that are not consumed are lost.

        Raises:
            FramingError: after the frames before the faulty one.
        """

    def end(self) -> bytes | None:
        """Take the end of the stream. Returns the last frame, where the framing allows one without a terminator.

        Raises:
            FramingError: the stream ended inside a frame.
        """

    def encode(self, payload: bytes) -> bytes:
        """The payload as one frame, ready to be written."""


class Packet4(Framing):
    """Frames with their length in front.

    Args:
        max_bytes: the largest payload that is accepted.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    @property
    @override
    def kept(self) -> int:
        return len(self._buffer)

    @override
    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[bytes]:
        buffer = self._buffer
        buffer += data
        begin = 0
        try:
            while len(buffer) - begin >= _LENGTH:
                size = int.from_bytes(buffer[begin : begin + _LENGTH], "big")
                if size > self._max_bytes:
                    buffer.clear()
                    begin = 0
                    raise OversizeError(f"a frame of {size} bytes was announced; it may have {self._max_bytes}")
                end = begin + _LENGTH + size
                if len(buffer) < end:
                    break
                payload = bytes(memoryview(buffer)[begin + _LENGTH : end])
                begin = end
                yield payload
        finally:
            del buffer[:begin]

    @override
    def end(self) -> bytes | None:
        had = len(self._buffer)
        if not had:
            return None
        size = int.from_bytes(self._buffer[:_LENGTH], "big") if had >= _LENGTH else None
        self._buffer.clear()
        if size is None:
            raise FramingError(f"the stream ended inside the length of a frame, after {had} of {_LENGTH} bytes")
        raise FramingError(f"the stream ended inside a frame, after {had - _LENGTH} of {size} bytes")

    @override
    def encode(self, payload: bytes) -> bytes:
        return len(payload).to_bytes(_LENGTH, "big") + payload


class Ndjson(Framing):
    """One JSON text a line. Empty lines are skipped, CR LF is taken for LF, and the last line may lack its end.

    Args:
        max_bytes: how long a line may be.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    @property
    @override
    def kept(self) -> int:
        return len(self._buffer)

    @override
    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[bytes]:
        lines = bytes(data).split(b"\n")
        rest = lines.pop()
        for line in lines:
            self._append(line)
            if frame := self._take():
                yield frame
        self._append(rest)

    def _append(self, part: bytes) -> None:
        size = len(self._buffer) + len(part)
        if size > self._max_bytes:
            self._buffer.clear()
            raise OversizeError(f"a line has {size} bytes or more; it may have {self._max_bytes}")
        self._buffer += part

    def _take(self) -> bytes:
        line = bytes(self._buffer.strip(_BLANKS))
        self._buffer.clear()
        return line

    @override
    def end(self) -> bytes | None:
        return self._take() or None  # where the last line was cut short, it is no JSON: that is found out later

    @override
    def encode(self, payload: bytes) -> bytes:
        # In JSON, line breaks stand between tokens only, where a blank means the same.
        if b"\n" in payload or b"\r" in payload:
            payload = payload.replace(b"\r", b" ").replace(b"\n", b" ")
        return payload + b"\n"


def framing(name: FramingName, max_bytes: int) -> Framing:
    """A new parser and encoder for one peer."""
    return Packet4(max_bytes) if name == "packet4" else Ndjson(max_bytes)
