"""The outbox: messages that wait to be written to one connection, in three lanes.

- **control**: small messages, such as replies and chunks. Those of one turn of the event loop are written together.
- **bulk**: large messages, one write each, so that a small message waits for one large one at most.
  Frames of one call keep their order: while one of them is in bulk, those that follow it queue there, too.
- **events**: written when nothing else waits, replays first. Above the limit events are dropped, the oldest first, and
  announced by ``event.gap``.

Bounded in bytes: a peer that reads too slowly is disconnected when its replies exceed the limit. Chunks are bounded by
the credit of their streams, which ask ``writable`` and wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from trunkline.hub.gaps import Gaps, announcement
from trunkline_protocol.events import Event, Position, is_after

logger = logging.getLogger("trunkline.hub")

STREAM_PAUSE_BYTES: Final = 256 * 1024
"""Waiting bytes above which the connection's streams get no more credit."""

READ_PAUSE_BYTES: Final = 1024 * 1024
"""Waiting bytes above which the peer is not read: replies to further requests would only add to them."""

SMALL_EVENT: Final = 8192
"""Bytes up to which a door copies an event into its own buffer; of larger events it writes the shared frame."""

BULK_BYTES: Final = 64 * 1024
"""Bytes from which on a message is written on its own, after the small ones."""


class Flusher:
    """Runs all flushes that were scheduled in one turn of the event loop in one callback."""

    __slots__ = ("_dirty", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._dirty: list[Callable[[], None]] = []

    def schedule(self, flush: Callable[[], None]) -> None:
        """Call ``flush`` in the next turn. The caller schedules it once per turn only."""
        if not self._dirty:
            self._loop.call_soon(self._run)
        self._dirty.append(flush)

    def _run(self) -> None:
        dirty, self._dirty = self._dirty, []
        for flush in dirty:
            try:
                flush()
            except Exception:  # the other connections still have to be written to
                logger.exception("a connection could not be written to")


class Writer(Protocol):
    """Writes what an outbox sends, to a door or a session. Not called while the outbox is paused."""

    def write(self, messages: list[bytes]) -> None:
        """Send messages, in order."""

    def write_event(self, event: Event) -> None:
        """Send an event; its ``frame`` may be encoded once and shared by all connections."""

    @property
    def write_payload(self) -> Callable[[bytes], object]:
        """Function that sends an event's payload of at most :data:`SMALL_EVENT` bytes: the hot path of the fan-out."""

    def overflow(self) -> None:
        """Close the connection: too many bytes wait. Called once."""

    def pause_reading(self) -> None:
        """Read nothing more from the peer until :meth:`resume_reading`."""

    def resume_reading(self) -> None:
        """Read the peer again."""


class Nobody:
    """The writer of a connection that is gone."""

    def write(self, messages: list[bytes]) -> None:
        """Drop the messages."""

    def write_event(self, event: Event) -> None:
        """Drop the event."""

    def write_payload(self, payload: bytes) -> None:
        """Drop the payload."""

    def overflow(self) -> None:
        """Do nothing: nothing waits."""

    def pause_reading(self) -> None:
        """Do nothing: nothing is read."""

    def resume_reading(self) -> None:
        """Do nothing: nothing is read."""


NOBODY: Final = Nobody()


class Outbox:
    """The queue between the hub and one connection's door.

    Args:
        flusher: shared by all connections of the loop.
        writer: the connection's door.
        limit: bytes of replies and other messages that may wait, events excepted.
        event_limit: bytes of events that may wait.

    Attributes:
        quiet: nothing waits and the transport has room: a small event may be passed to ``write_payload`` directly.
        write_payload: that of the writer; for the fan-out, which checks ``quiet`` before.
    """

    __slots__ = (
        "_bulk",
        "_bulk_sent",
        "_chunk_bytes",
        "_event_bytes",
        "_event_limit",
        "_events",
        "_flusher",
        "_gaps",
        "_limit",
        "_messages",
        "_paused",
        "_reading",
        "_refused",
        "_replays",
        "_resumed",
        "_scheduled",
        "_waits",
        "_writer",
        "closed",
        "dropped_events",
        "quiet",
        "waiting_bytes",
        "write_payload",
    )

    def __init__(self, flusher: Flusher, writer: Writer, limit: int, event_limit: int) -> None:
        self._flusher = flusher
        self._writer = writer
        self.write_payload = writer.write_payload
        self._limit = limit
        self._event_limit = event_limit
        self._messages: list[bytes] = []
        # Created on first use: most connections never need them.
        self._bulk: deque[tuple[bytes, bool]] | None = None
        self._replays: deque[Event] | None = None
        self._events: deque[Event] | None = None
        self._gaps: Gaps | None = None
        self._bulk_sent = 0
        self._chunk_bytes = 0
        self._event_bytes = 0
        self._paused = False
        self._scheduled = False
        self.quiet = True
        self._reading = True
        self._refused = False
        self._resumed: Callable[[], None] | None = None
        self._waits: Callable[[], None] | None = None
        self.waiting_bytes = 0
        self.dropped_events = 0
        self.closed = False

    @property
    def limit(self) -> int:
        """The limit of bytes of replies that may wait."""
        return self._limit

    @property
    def buffered_bytes(self) -> int:
        """The bytes of all that waits, events included."""
        return self.waiting_bytes + self._event_bytes

    @property
    def oldest_event(self) -> Event | None:
        """The event that has waited longest, or None; its age is the peer's lag."""
        return self._events[0] if self._events else None

    # --- answers ---

    def send(self, message: bytes, after: int = 0, *, chunk: bool = False) -> int:
        """Queue one message; dropped silently only where the connection is closed.

        Args:
            after: what ``send`` returned for the message that this one must not overtake.
            chunk: whether the message is bounded by the credit of its stream, and so not counted for the limit.

        Returns:
            The value to pass as ``after`` with the next message of the same call.
        """
        if self.closed:
            return after
        size = len(message)
        self.waiting_bytes += size
        if chunk:
            self._chunk_bytes += size
        self.quiet = False
        if size >= BULK_BYTES or after > self._bulk_sent:
            after = self._queue_bulk(message, chunk)
        else:
            self._messages.append(message)
        if not self._paused:
            if not self._scheduled:
                self._scheduled = True
                self._flusher.schedule(self.flush)
        elif self.waiting_bytes - self._chunk_bytes > self._limit:
            self._cut_off()
        elif self._waits is not None:
            self._waits()
        elif self.waiting_bytes > READ_PAUSE_BYTES and self._reading:
            self._reading = False
            self._writer.pause_reading()
        return after

    def when_waiting(self, told: Callable[[], None] | None) -> None:
        """Call ``told`` each time more waits while the session is detached; None to stop."""
        self._waits = told

    def _queue_bulk(self, message: bytes, chunk: bool) -> int:
        if self._bulk is None:
            self._bulk = deque()
        self._bulk.append((message, chunk))
        return self._bulk_sent + len(self._bulk)

    def _cut_off(self) -> None:
        writer = self._writer
        self.close()
        writer.overflow()

    # --- events ---

    def send_event(self, event: Event) -> None:
        """Write an event now if nothing waits, else queue it and drop the oldest ones where there is no room."""
        if self.quiet:
            self._writer.write_event(event)
        elif not self.closed:
            if self._events is None:
                self._events = deque()
            self._events.append(event)
            self._event_bytes += len(event.payload)
            if self._event_bytes > self._event_limit:
                self._make_room()
            elif not self._paused and not self._scheduled:
                self._scheduled = True
                self._flusher.schedule(self.flush)

    def replay(self, events: Iterable[Event]) -> None:
        """Queue events of the history before all waiting ones. They are never dropped: the history is bounded."""
        if self.closed:
            return
        if self._replays is None:
            self._replays = deque()
        self._replays.extend(events)
        self.quiet = False
        if not self._paused and not self._scheduled:
            self._scheduled = True
            self._flusher.schedule(self.flush)

    def send_gap(self, gap: bytes) -> None:
        """Queue an ``event.gap`` (encoded) in its place among the events."""
        self.send_event(announcement(gap))

    def _make_room(self) -> None:
        if not self._paused:
            self.flush()  # many events of one turn are no slow peer: the transport may have room for them
        if self._event_bytes > self._event_limit:
            self._drop_events()

    def _drop_events(self) -> None:
        """Drop events until half of the lane is free, so that a slow peer gets one long gap, not many."""
        assert self._events is not None
        if self._gaps is None:
            self._gaps = Gaps()
        while self._event_bytes > self._event_limit // 2:
            event = self._events.popleft()
            self._event_bytes -= len(event.payload)
            self.waiting_bytes += self._gaps.add(event)
            self.dropped_events += 1
        if self.waiting_bytes - self._chunk_bytes > self._limit:
            self._cut_off()

    def forget_events(self, wanted: Callable[[str], bool]) -> None:
        """Remove the waiting events, and the gaps, of topics that are not ``wanted`` any more."""
        if self._replays:
            self._replays = deque(event for event in self._replays if not event.topic or wanted(event.topic))
        if self._gaps is not None:
            self.waiting_bytes -= self._gaps.forget(wanted)
        if self._events:
            self._events = deque(event for event in self._events if not event.topic or wanted(event.topic))
            self._event_bytes = sum(len(event.payload) for event in self._events)

    def withhold(self, topic: str, after: Position) -> None:
        """Remove the waiting events, and gaps, of a topic after a position: a replay has them."""
        if self._gaps is not None:
            self.waiting_bytes -= self._gaps.forget_after(topic, after)
        if self._replays:
            self._replays = deque(event for event in self._replays if not is_after(event, topic, after))
        if self._events:
            self._events = deque(event for event in self._events if not is_after(event, topic, after))
            self._event_bytes = sum(len(event.payload) for event in self._events)

    # --- writing ---

    def flush(self) -> None:
        """Write what waits, until the transport's buffer is full."""
        self._scheduled = False
        if self._paused or self.closed:
            return
        if self._messages:
            messages, self._messages = self._messages, []
            self._writer.write(messages)
        if not (self._bulk or self._replays or self._events or self._gaps is not None):
            self.waiting_bytes = self._chunk_bytes = 0
            self.quiet = not (self._paused or self._messages or self.closed)
        elif not self._flush_lanes():
            return
        if not self._reading:
            self._resume_reading()
        if self._refused:
            self._offer()

    def _flush_lanes(self) -> bool:
        """Write what follows the small messages. Returns False where large ones still wait: streams stay paused."""
        if not self._bulk:
            self.waiting_bytes = self._gaps.bytes if self._gaps is not None else 0
            self._chunk_bytes = 0
        elif self._flush_bulk():
            self._resume_reading()
            return False
        if self._replays:
            self._flush_lane(self._replays)
        if self._gaps is not None or self._events:
            self._flush_events()
        waiting = self._messages or self._bulk or self._replays or self._gaps is not None or self._events
        self.quiet = not (waiting or self._paused or self.closed)
        return True

    def _flush_bulk(self) -> bool:
        """Write large messages until the transport is full. Returns whether some are left."""
        bulk = self._bulk
        assert bulk is not None
        self.waiting_bytes = sum(len(message) for message, _ in bulk) + (self._gaps.bytes if self._gaps else 0)
        self._chunk_bytes = sum(len(message) for message, chunk in bulk if chunk)
        while bulk and not self._paused:
            message, chunk = bulk.popleft()
            self._bulk_sent += 1
            self.waiting_bytes -= len(message)
            if chunk:
                self._chunk_bytes -= len(message)
            self._writer.write([message])
        return bool(bulk)

    def _resume_reading(self) -> None:
        if not self._reading and self.waiting_bytes < READ_PAUSE_BYTES // 2:
            self._reading = True
            self._writer.resume_reading()

    def _flush_events(self) -> None:
        """Write gaps, then events: gaps stand for events older than any that still wait, replays excepted."""
        if self._gaps is not None and not self._paused:
            gaps, self._gaps = self._gaps, None
            self.waiting_bytes -= gaps.bytes
            for gap in gaps.encoded():
                self._writer.write_event(announcement(gap))  # not as a message: a session would number it
        if self._events:
            self._event_bytes -= self._flush_lane(self._events)

    def _flush_lane(self, events: deque[Event]) -> int:
        written = 0
        while events and not self._paused:
            event = events.popleft()
            written += len(event.payload)
            self._writer.write_event(event)
        return written

    # --- where it writes ---

    def redirect(self, writer: Writer) -> None:
        """Write to another writer from now on."""
        self._writer = writer
        self.write_payload = writer.write_payload

    def detach(self) -> None:
        """Pause for a detached session: drop events, for its subscriptions have ended; all else waits."""
        self.pause()
        if self._gaps is not None:
            self.waiting_bytes -= self._gaps.bytes
        self._replays = self._events = self._gaps = None
        self._event_bytes = 0
        self._reading = True

    # --- the transport's side ---

    def writable(self) -> bool:
        """Whether streams of this connection may get more credit."""
        room = not self._paused and self.waiting_bytes < STREAM_PAUSE_BYTES and not self.closed
        self._refused = self._refused or not room
        return room

    def when_resumed(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` each time there is room again after :meth:`writable` returned False."""
        self._resumed = callback

    def pause(self) -> None:
        """Stop writing: the transport's buffer is full."""
        self._paused = True
        self.quiet = False

    def resume(self) -> None:
        """Write on: the transport has room again."""
        self._paused = False
        self.flush()

    def _offer(self) -> None:
        if self._refused and not self._paused and self._resumed is not None:
            self._refused = False
            self._resumed()

    def close(self) -> None:
        """Drop what waits and all that follows; let go of the door, which refers to this outbox, to break the cycle."""
        self.closed = True
        self._writer = NOBODY
        self.write_payload = NOBODY.write_payload
        self._resumed = self._waits = None
        self.quiet = False
        self._messages.clear()
        self._bulk = self._replays = self._events = self._gaps = None
        self.waiting_bytes = self._chunk_bytes = self._event_bytes = 0
