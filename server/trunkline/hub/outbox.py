"""What waits to be written to one connection.

Messages of one turn of the event loop are gathered and written together. Bounded in bytes: a peer that does
not read is cut off when its replies overflow. Chunks are bounded by the credit of their streams, which ask
``writable`` and wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

STREAM_PAUSE_BYTES: Final = 256 * 1024
"""With more than this waiting, streams of the connection get no more credit."""


class Flusher:
    """Runs the flushes that were asked for in this turn of the loop, all in one callback."""

    __slots__ = ("_dirty", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._dirty: list[Callable[[], None]] = []

    def schedule(self, flush: Callable[[], None]) -> None:
        """Call ``flush`` soon. The caller makes sure to ask once a turn only."""
        if not self._dirty:
            self._loop.call_soon(self._run)
        self._dirty.append(flush)

    def _run(self) -> None:
        dirty, self._dirty = self._dirty, []
        for flush in dirty:
            flush()


class Outbox:
    """The queue between the hub and one connection's door.

    Args:
        flusher: shared by all connections of the loop.
        write: the door's way to send messages, in order; never called while paused.
        overflow: called once when more than ``limit`` bytes wait; the door closes the connection.
        limit: bytes that may wait.
    """

    __slots__ = (
        "_chunk_bytes",
        "_flusher",
        "_limit",
        "_messages",
        "_overflow",
        "_paused",
        "_refused",
        "_resumed",
        "_write",
        "closed",
        "waiting_bytes",
    )

    def __init__(
        self,
        flusher: Flusher,
        write: Callable[[list[bytes]], None],
        overflow: Callable[[], None],
        limit: int,
    ) -> None:
        self._flusher = flusher
        self._write = write
        self._overflow = overflow
        self._limit = limit
        self._messages: list[bytes] = []
        self._chunk_bytes = 0
        self._paused = False
        self._refused = False
        self._resumed: Callable[[], None] | None = None
        self.waiting_bytes = 0
        self.closed = False

    def send(self, message: bytes) -> None:
        """Queue one message. Dropped silently only once the connection is closed."""
        if self.closed:
            return
        self._append(message)
        if self._paused and self.waiting_bytes - self._chunk_bytes > self._limit:
            self.close()
            self._overflow()

    def send_chunk(self, message: bytes) -> None:
        """Queue one chunk of a stream. Credit bounds those, so they are no reason to cut the peer off."""
        if not self.closed:
            self._chunk_bytes += len(message)
            self._append(message)

    def _append(self, message: bytes) -> None:
        messages = self._messages
        messages.append(message)
        self.waiting_bytes += len(message)
        if len(messages) == 1 and not self._paused:
            self._flusher.schedule(self.flush)

    def flush(self) -> None:
        """Write what waits, unless the transport is paused."""
        if self._messages and not self._paused and not self.closed:
            messages, self._messages = self._messages, []
            self.waiting_bytes = self._chunk_bytes = 0
            self._write(messages)
            self._offer()

    def writable(self) -> bool:
        """Whether streams may produce more for this connection."""
        room = not self._paused and self.waiting_bytes < STREAM_PAUSE_BYTES and not self.closed
        self._refused = self._refused or not room
        return room

    def when_resumed(self, callback: Callable[[], None]) -> None:
        """Call back each time there is room again after ``writable`` said no."""
        self._resumed = callback

    def pause(self) -> None:
        """The transport's buffer is full."""
        self._paused = True

    def resume(self) -> None:
        """The transport has room again."""
        self._paused = False
        self.flush()
        self._offer()

    def _offer(self) -> None:
        if self._refused and not self._paused and self._resumed is not None:
            self._refused = False
            self._resumed()

    def close(self) -> None:
        """Drop what waits and take nothing more."""
        self.closed = True
        self._messages.clear()
        self.waiting_bytes = 0
