"""A peer at the other end of a stream of frames: reads its frames one by one, and ends the stream in order.

Bytes come through :class:`trunkline.edge.pacing.PacedReading`, which calls the methods of a buffered protocol; the
framing finds the frames in them, the dialect makes JSON-RPC of those. Subclasses say where the messages go.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import Final, Literal

from trunkline.edge.fragments import MESSAGE_TOO_BIG, PROTOCOL_ERROR, FrameRefused
from trunkline.edge.pacing import TURN_BYTES, PacedReading
from trunkline_protocol.codecs.dialect import DialectViolation, Frame
from trunkline_protocol.codecs.plain import FramedDialect
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.framing import Framing, FramingError, OversizeError

NORMAL_CLOSURE: Final = 1000

_CLOSE_ERRORS: Final = {
    PROTOCOL_ERROR: ErrorCode.INVALID_REQUEST,
    MESSAGE_TOO_BIG: ErrorCode.INVALID_REQUEST,
    1011: ErrorCode.INTERNAL_ERROR,
    1012: ErrorCode.WORKER_UNAVAILABLE,
    1013: ErrorCode.RESOURCE_EXHAUSTED,
    4001: ErrorCode.UNAUTHENTICATED,
    4500: ErrorCode.INVALID_REQUEST,
    4501: ErrorCode.UNAUTHENTICATED,
    4502: ErrorCode.FORBIDDEN,
}
"""Errors in place of the close codes that a WebSocket would be closed with."""

_buffer: Final = bytearray(TURN_BYTES)
"""The buffer that all peers are read into: a parser has copied the bytes before anything else is read."""
_view: Final = memoryview(_buffer)

logger = logging.getLogger("trunkline.edge")

Cause = Literal["lost", "closed", "broken"]


class FramedStream(ABC):
    """One peer's stream of frames, in both directions.

    Args:
        framing, dialect: of this peer alone; both keep state.
        name: for logs and the audit.

    Attributes:
        ended: how the stream ended: the peer vanished (``lost``), ended it in order (``closed``), or broke the
            rules or did not read (``broken``). None while it is open.
        is_over: whether the transport is gone: nothing written can arrive any more.
    """

    def __init__(self, framing: Framing, dialect: FramedDialect, name: str) -> None:
        self.name = name
        self.ended: Cause | None = None
        self.is_over = False
        self._framing = framing
        self._dialect = dialect
        self._reading: PacedReading | None = None
        self._output: asyncio.WriteTransport | None = None
        self._reasons: set[str] = set()  # why the peer is not read
        self._input_over = False
        self._told_input_over = False
        self._last: list[Frame] | None = None  # the last frames to send, once the stream is to end
        self._broken = False

    def begin(self, reading: PacedReading, output: asyncio.WriteTransport) -> None:
        """Start with a connected transport."""
        self._reading = reading
        self._output = output

    # --- for subclasses ---

    @abstractmethod
    def take(self, frame: Frame) -> None:
        """Act on a frame of the peer.

        Raises:
            DialectViolation, FrameRefused: the stream is to end.
        """

    @abstractmethod
    def has_more_to_take(self) -> bool:
        """Whether messages of frames that have arrived still wait to be acted on."""

    @abstractmethod
    def input_ended(self) -> None:
        """Called once, at most, when the peer sends nothing more and all that it sent was acted on."""

    @abstractmethod
    def flush(self) -> bool:
        """Write what waits; returns whether nothing waits any more."""

    @abstractmethod
    def left(self) -> None:
        """Called once, when the stream has ended."""

    @abstractmethod
    def pause_writing(self) -> None:
        """Called when the transport's buffer is full."""

    @abstractmethod
    def resume_writing(self) -> None:
        """Called when the transport's buffer has room. Implementations end with :meth:`finish_if_done`."""

    @property
    @abstractmethod
    def waiting_bytes(self) -> int:
        """Bytes that wait to be written, without those in the transport's buffer."""

    # --- what the peer sends ---

    def get_buffer(self, _sizehint: int) -> memoryview:
        """The shared buffer to read into, as in :class:`asyncio.BufferedProtocol`."""
        return _view

    def buffer_updated(self, nbytes: int) -> None:
        """Act on the frames that these bytes complete, as in :class:`asyncio.BufferedProtocol`."""
        if self._input_over:
            return
        try:
            for payload in self._framing.feed(_view[:nbytes]):
                if not self._receive(payload):
                    return
        except FramingError as error:
            self._framing_broke(error)

    def _receive(self, payload: bytes) -> bool:
        """Act on a frame; returns whether more may follow."""
        try:
            self.take(Frame(payload))
        except DialectViolation as violation:
            self.send_frames(list(violation.last))
            if violation.code == NORMAL_CLOSURE:
                self._no_more_input()
            else:
                self._broken = True
                self.close(violation.code, violation.reason)
        except FrameRefused as refusal:
            self.close(refusal.code, refusal.reason)
        return not self._input_over

    def eof_received(self) -> bool:
        """Note that the peer sends nothing more; its calls are still answered. True keeps the transport open."""
        if not self._input_over:
            try:
                last = self._framing.end()
                if last is not None:
                    self._receive(last)
                self._no_more_input()
            except FramingError as error:
                self._framing_broke(error)
        return True

    def _no_more_input(self) -> None:
        self._stop_reading()
        self.tell_input_ended()

    def tell_input_ended(self) -> None:
        """Call :meth:`input_ended`, once the input has ended and nothing of it waits."""
        open_still = self._last is None and self.ended is None
        if self._input_over and open_still and not self._told_input_over and not self.has_more_to_take():
            self._told_input_over = True
            self.input_ended()

    def _framing_broke(self, error: FramingError) -> None:
        logger.warning(
            "a peer sent bytes that break the framing; closing the connection",
            extra={"peer": self.name, "reason": str(error)},
        )
        self._broken = True
        if isinstance(error, OversizeError):
            data = {"limit": "TRUNKLINE_MAX_MESSAGE_BYTES"}
            self._end(self._dialect.refuse(RpcError(ErrorCode.INVALID_REQUEST, str(error), data=data)))
        else:
            self._end(self._dialect.refuse(RpcError(ErrorCode.PARSE_ERROR, str(error))))

    def connection_lost(self, _exc: Exception | None) -> None:
        """End the stream: the transport is closed in both directions."""
        self.is_over = True
        self._leave("closed" if self._told_input_over else "lost")
        if self._reading is not None:
            self._reading.detach()

    # --- what the peer is sent ---

    def send_frames(self, frames: list[Frame]) -> None:
        """Send frames, in order; nothing once the stream has ended."""
        if self._output is not None and self.ended is None and frames:
            encode = self._framing.encode
            self._output.write(b"".join([encode(frame.payload) for frame in frames]))

    @property
    def unwritten(self) -> int:
        """Bytes that the peer has not read yet, as far as this process holds them."""
        return self.waiting_bytes + (0 if self._output is None else self._output.get_write_buffer_size())

    # --- the end ---

    @property
    def close_seconds(self) -> float | None:
        """Seconds the peer may take to read its last frames; None where the caller of :meth:`close` limits that."""
        return None

    def close(self, code: int, reason: str) -> None:
        """Send what waits, then an error with the reason unless the peer ended the stream, and end the stream."""
        if code == NORMAL_CLOSURE or self._told_input_over:
            self._end([])
        else:
            error = RpcError(_CLOSE_ERRORS.get(code, ErrorCode.INVALID_REQUEST), reason, data={"close": code})
            self._end(self._dialect.refuse(error))

    def _end(self, last: list[Frame]) -> None:
        if self._last is not None or self.ended is not None:
            return
        self._last = last
        self._stop_reading()
        loop = asyncio.get_running_loop()
        if self.close_seconds is not None:
            loop.call_later(self.close_seconds, self.abort)
        # Not at once: this may be called from the middle of other work.
        loop.call_soon(self.finish_if_done)

    def finish_if_done(self) -> None:
        """Send the last frames and close, if the stream is to end and the transport has taken all that waited."""
        if self._last is None or self.ended is not None or not self.flush():
            return
        self.send_frames(self._last)
        self._leave("closed")
        assert self._output is not None
        self._output.close()

    def break_off(self) -> None:
        """End the stream soon, as broken, and drop what waits: the peer does not read."""
        self._broken = True
        asyncio.get_running_loop().call_soon(self.abort)

    def abort(self) -> None:
        """End the stream at once and drop what waits."""
        self._leave("closed")
        if self._output is not None:
            self._output.abort()

    def _leave(self, cause: Cause) -> None:
        if self.ended is None:
            self.ended = "broken" if self._broken else cause
            self._stop_reading()
            self.left()

    # --- reading, or not ---

    def hold_back(self, reason: str) -> None:
        """Stop reading the peer, for a reason; there may be several at a time."""
        self._reasons.add(reason)
        if self._reading is not None:
            self._reading.hold()

    def go_on(self, reason: str) -> None:
        """Take a reason of :meth:`hold_back` back; without any the peer is read again."""
        self._reasons.discard(reason)
        if not self._reasons and self._reading is not None:
            self._reading.release()

    def _stop_reading(self) -> None:
        self._input_over = True
        self.hold_back("over")


def attach(transport: asyncio.Transport, peer: FramedStream) -> None:
    """Let a peer read and write a connected socket."""
    reading = PacedReading(transport, peer)
    transport.set_protocol(reading)
    peer.begin(reading, transport)
