"""Limits how much one connection reads per turn of the event loop, between the socket and its protocol.

picows doubles its buffer for as long as the kernel fills it, and hands over all frames in it at once: a peer that never
stops sending would keep the loop busy for half a second at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from typing_extensions import override

TURN_BYTES: Final = 64 * 1024
"""What one connection may bring in one turn: some 10 ms of small frames."""


class PacedReading(asyncio.BufferedProtocol):
    """Passes everything on to another buffered protocol (picows', or a framed peer), and pauses the socket in between.

    Args:
        picows: the protocol that gets what is read.
        on_lost: called after that protocol was told that the connection is lost.

    Attributes:
        received: bytes read so far.
    """

    __slots__ = (
        "_allowance",
        "_held",
        "_look_at",
        "_loop",
        "_on_excess",
        "_on_lost",
        "_on_turn",
        "_picows",
        "_picows_buffer_updated",
        "_picows_get_buffer",
        "_rest_at",
        "_resting",
        "_transport",
        "received",
    )

    def __init__(self, transport: asyncio.Transport, picows: Any, on_lost: Callable[[], None] | None = None) -> None:
        self._on_lost = on_lost
        self._on_turn: Callable[[], None] | None = None
        self._transport = transport
        self._picows = picows
        self._loop = asyncio.get_running_loop()
        self._resting = False
        self._held = False
        self._allowance: int | None = None
        self._on_excess: Callable[[], None] | None = None
        self._picows_get_buffer = picows.get_buffer
        self._picows_buffer_updated = picows.buffer_updated
        self.received = 0
        self._plan(TURN_BYTES)

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        buffer: memoryview = self._picows_get_buffer(sizehint)
        return buffer if len(buffer) <= TURN_BYTES else buffer[:TURN_BYTES]

    @override
    def buffer_updated(self, nbytes: int) -> None:
        self.received = received = self.received + nbytes
        if received < self._look_at:  # hot path: nearly every read ends here, after one comparison
            self._picows_buffer_updated(nbytes)
        else:
            self._look(nbytes)

    def _look(self, nbytes: int) -> None:
        if self._allowance is not None and self.received > self._allowance and self._on_excess is not None:
            self._on_excess()
        self._picows_buffer_updated(nbytes)
        if self.received >= self._rest_at and not self._resting:
            if self._on_turn is not None:
                self._on_turn()
            self._rest()

    def _rest(self) -> None:
        self._resting = True
        if not self._transport.is_closing():
            self._transport.pause_reading()
            self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._resting = False
        self._plan(self.received + TURN_BYTES)
        self._go_on()

    def _plan(self, rest_at: int) -> None:
        self._rest_at = rest_at
        self._look_at = rest_at if self._allowance is None else min(rest_at, self._allowance)

    def allow(self, nbytes: int | None, on_excess: Callable[[], None] | None = None) -> None:
        """Bound the bytes that may arrive from now on, parts of frames included; None for no bound.

        Args:
            on_excess: called when more arrives.
        """
        self._allowance = None if nbytes is None else self.received + nbytes
        self._on_excess = on_excess
        self._plan(self._rest_at)

    def watch(self, on_turn: Callable[[], None]) -> None:
        """Call a function whenever the connection has read its share of a turn."""
        self._on_turn = on_turn

    def detach(self) -> None:
        """Let go of the protocol, and of all callbacks: the connection is lost."""
        self._picows = self._picows_get_buffer = self._picows_buffer_updated = None
        self._on_excess = self._on_lost = self._on_turn = None

    def hold(self) -> None:
        """Read nothing more until :meth:`release`."""
        self._held = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def release(self) -> None:
        """Resume reading after :meth:`hold`."""
        self._held = False
        self._go_on()

    def _go_on(self) -> None:
        if not self._held and not self._resting and not self._transport.is_closing():
            self._transport.resume_reading()

    @override
    def eof_received(self) -> bool | None:
        answer: bool | None = self._picows.eof_received()
        return answer

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        on_lost = self._on_lost
        self._picows.connection_lost(exc)
        if on_lost is not None:
            on_lost()

    @override
    def pause_writing(self) -> None:
        self._picows.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._picows.resume_writing()
