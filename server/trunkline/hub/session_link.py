"""One session on the hub's side: between a connection's outbox and whatever door the client is at now, if any.

Frames are numbered when they are written, after the outbox has put them in order, and kept until the client has them.
While the client is away the outbox is paused: calls go on, and what they answer waits in its lanes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from trunkline.hub.byte_account import ByteAccount, Holding
from trunkline.hub.connection import NOWHERE, Connection, Door
from trunkline.hub.gaps import announcement
from trunkline.hub.sessions import DetachReason, EndReason, SessionEntry, SessionTable
from trunkline_protocol.events import Event
from trunkline_protocol.session import (
    PROTOCOL_ERROR,
    SUPERSEDED,
    ProtocolViolation,
    SessionCore,
    encode_ack,
)

STORE_BYTES: Final = 1024 * 1024
"""With more than this unacknowledged, nothing new is written until the client acknowledges."""

_CLOSE_CODES: Final[dict[EndReason, int]] = {
    "closed": 1000,
    "overflow": 1013,
    "evicted": SUPERSEDED,
    "violation": PROTOCOL_ERROR,
    "unresumable": PROTOCOL_ERROR,
    "revoked": 4501,
    "expired": PROTOCOL_ERROR,
}


class SessionLink:
    """See the file. It is the outbox's :class:`trunkline.hub.outbox.Writer`, and what the session table owns.

    Args:
        connection: the calls and the outbox that outlive each single socket.
        table: where the session is to be found again.
        detached: what may wait for clients that are away.
    """

    def __init__(self, connection: Connection, table: SessionTable[SessionLink], detached: ByteAccount) -> None:
        self._detached = detached
        self._waiting: Holding | None = None
        self.core = SessionCore()
        self.entry: SessionEntry[SessionLink] | None = None
        self.connection = connection
        self._table = table
        self._door: Door | None = connection.door
        self._door_is_full = False
        self._store_is_full = False
        self._ack_timer: asyncio.TimerHandle | None = None

    # --- the outbox's side ---

    def write(self, messages: list[bytes]) -> None:
        """Number what goes out, keep it, and write it."""
        core = self.core
        numbered = [core.number(message) for message in messages]
        if self._door is not None:
            self._door.write(numbered)
        if core.unacknowledged_bytes > STORE_BYTES and not self._store_is_full:
            self._store_is_full = True
            self.connection.outbox.pause()

    def write_event(self, event: Event) -> None:
        """Events are not numbered: after a cut they are subscribed to again."""
        if self._door is not None:
            self._door.write_event(event)

    @property
    def write_payload(self) -> Callable[[bytes], object]:
        """The door's."""
        return _drop if self._door is None else self._door.write_payload

    def overflow(self) -> None:
        """More waits for the client than may."""
        self._end("overflow")

    def pause_reading(self) -> None:
        """See :class:`trunkline.hub.outbox.Writer`.

        Only where the transport does not take more: behind a full store come the acknowledgements that empty it.
        """
        if self._door is not None and self._door_is_full:
            self._door.pause_reading()

    def resume_reading(self) -> None:
        """See :class:`trunkline.hub.outbox.Writer`."""
        if self._door is not None:
            self._door.resume_reading()

    # --- the door's side ---

    def door_full(self) -> None:
        """The transport's buffer is full."""
        self._door_is_full = True
        self.connection.outbox.pause()

    def door_free(self) -> None:
        """The transport has room again."""
        self._door_is_full = False
        if self._door is not None:
            self._door.resume_reading()
        self._go_on()

    def _go_on(self) -> None:
        if self._door is not None and not self._door_is_full and not self._store_is_full:
            self.connection.outbox.resume()

    def receive(self, seq: int, size: int) -> bool:
        """A numbered frame has come. Returns whether it is to be acted on."""
        try:
            is_new = self.core.receive(seq, size)
        except ProtocolViolation as violation:
            self.violated(violation)
            return False
        self._acknowledge_soon()
        return is_new

    def acknowledge(self, received: int) -> None:
        """The client has everything up to this number."""
        try:
            self.core.acknowledge(received)
        except ProtocolViolation as violation:
            self.violated(violation)
            return
        if self._store_is_full and self.core.unacknowledged_bytes < STORE_BYTES // 2:
            self._store_is_full = False
            self._go_on()

    def _acknowledge_soon(self) -> None:
        delay = self.core.ack_delay(time.monotonic())
        if delay == 0.0:
            self._acknowledge_now()
        elif delay is not None and self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(delay, self._acknowledge_now)

    def _acknowledge_now(self) -> None:
        self._stop_timer()
        if self._door is not None:
            self._door.write([encode_ack(self.core.take_ack())])

    def _stop_timer(self) -> None:
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None

    @property
    def is_attached(self) -> bool:
        """Whether the client is there."""
        return self._door is not None

    def send_unnumbered(self, reply: bytes) -> None:
        """A reply that concerns this connection only: of no use to the next one."""
        if self._door is not None:
            self.connection.outbox.replay([announcement(reply)])

    # --- life ---

    def disconnected(self) -> bool:
        """The socket is gone. Returns whether the session waits for its client."""
        entry = self.entry
        if entry is None or not self._table.detached(entry, entry.attachment, time.monotonic()):
            return False
        self._let_go()
        self._waiting = self._detached.holding(self.connection.principal.name, self.overflow)
        self.connection.outbox.when_waiting(self._count)
        self._count()
        return self.entry is not None

    def _count(self) -> None:
        """Account for what waits while the client is away; where that is too much, the session ends."""
        size = self.core.unacknowledged_bytes + self.connection.outbox.waiting_bytes
        if self._waiting is not None and not self._waiting.update(size):
            self._end("overflow")

    def _stop_counting(self) -> None:
        if self._waiting is not None:
            self._waiting.release()
            self._waiting = None
            self.connection.outbox.when_waiting(None)

    def detach(self, _reason: DetachReason) -> None:
        """See :class:`trunkline.hub.sessions.SessionOwner`."""
        door = self._door
        self._let_go()
        if door is not None:
            door.disown()
            door.close(SUPERSEDED, "this session goes on over a newer connection")

    def _let_go(self) -> None:
        self._stop_timer()
        self._door = None
        self._door_is_full = False
        self.connection.outbox.detach()

    def attach(self, door: Door, missing: list[bytes]) -> None:
        """The client is back, at this door: send what it has not got, then go on.

        Args:
            missing: as :meth:`trunkline_protocol.session.SessionCore.resume` gave it.
        """
        self._stop_counting()
        self._door = door
        self._store_is_full = self.core.unacknowledged_bytes > STORE_BYTES
        self.connection.door = door
        self.connection.outbox.write_payload = door.write_payload
        door.adopt(self.connection)
        if missing:
            door.write(missing)
        self._go_on()

    def violated(self, violation: ProtocolViolation) -> None:
        """See :class:`trunkline.hub.connection.Session`."""
        if self._door is not None:
            self._door.close(PROTOCOL_ERROR, str(violation))
        self._end("violation")

    def _end(self, reason: EndReason) -> None:
        if self.entry is not None:
            self._table.end(self.entry, reason)

    def end(self, reason: EndReason) -> None:
        """See :class:`trunkline.hub.sessions.SessionOwner`."""
        self._stop_timer()
        self._stop_counting()
        door, self._door = self._door, None
        self.entry = None  # it has this
        self.connection.session = None
        if door is not None:
            door.close(_CLOSE_CODES[reason], f"the session has ended: {reason}")
        else:
            self.connection.give_up()
            self.connection.door = NOWHERE


def _drop(_payload: bytes) -> None:
    """The client is away."""
