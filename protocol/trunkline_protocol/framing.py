"""Where a frame ends in a stream of bytes, for peers without a WebSocket: pipes and Unix sockets.

- **packet4**: a length, four bytes big-endian, and so many bytes: what Erlang ports do with ``{packet, 4}``.
- **ndjson**: one JSON text a line.

A parser is fed whatever pieces a stream comes in. It keeps one unfinished frame at most, and refuses one that is too
large before it keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, Protocol

FramingName = Literal["packet4", "ndjson"]

_LENGTH: Final = 4
_BLANKS: Final = b" \t\r"


class FramingError(Exception):
    """No frame can be found in what follows: the stream has to end."""


class OversizeError(FramingError):
    """A frame is larger than may be."""


class Framing(Protocol):
    """One direction of reading, and how frames are written. After an error it is of no use any more."""

    @property
    def kept(self) -> int:
        """Bytes of a frame that has not come whole."""

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[bytes]:
        """Take the next bytes.

        Yields:
            The frames that they complete. Iterate to the end: what was not asked for is lost.

        Raises:
            FramingError: after the frames before it.
        """

    def end(self) -> bytes | None:
        """The stream is over. Returns a last frame, if the framing allows one that nothing ends.

        Raises:
            FramingError: it ended in the middle of a frame.
        """

    def encode(self, payload: bytes) -> bytes:
        """A frame, ready to be written."""


class Packet4:
    """See the file.

    Args:
        max_bytes: the largest payload that is taken.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    @property
    def kept(self) -> int:
        """See :class:`Framing`."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[bytes]:
        """See :class:`Framing`."""
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

    def end(self) -> bytes | None:
        """See :class:`Framing`."""
        had = len(self._buffer)
        if not had:
            return None
        size = int.from_bytes(self._buffer[:_LENGTH], "big") if had >= _LENGTH else None
        self._buffer.clear()
        if size is None:
            raise FramingError(f"the stream ended inside the length of a frame, after {had} of {_LENGTH} bytes")
        raise FramingError(f"the stream ended inside a frame, after {had - _LENGTH} of {size} bytes")

    def encode(self, payload: bytes) -> bytes:
        """See :class:`Framing`."""
        return len(payload).to_bytes(_LENGTH, "big") + payload


class Ndjson:
    """See the file. Empty lines are skipped, CR LF is taken for LF, and the last line may lack its end.

    Args:
        max_bytes: how long a line may be.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    @property
    def kept(self) -> int:
        """See :class:`Framing`."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[bytes]:
        """See :class:`Framing`."""
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

    def end(self) -> bytes | None:
        """See :class:`Framing`. A last line without an end is a frame: where it was cut short, it is no JSON."""
        return self._take() or None

    def encode(self, payload: bytes) -> bytes:
        """See :class:`Framing`. In JSON, line breaks stand between tokens only, where a blank means the same."""
        if b"\n" in payload or b"\r" in payload:
            payload = payload.replace(b"\r", b" ").replace(b"\n", b" ")
        return payload + b"\n"


def framing(name: FramingName, max_bytes: int) -> Framing:
    """A new one, for one peer."""
    return Packet4(max_bytes) if name == "packet4" else Ndjson(max_bytes)
