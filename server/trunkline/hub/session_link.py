"""One session on the hub's side: between a connection's outbox and the door of the client's present socket, if any.

Frames are numbered when they are written, after the outbox has put them in order, and kept until they are acknowledged.
While the session is detached the outbox is paused: calls go on, and their replies wait in its lanes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from typing_extensions import override

from trunkline.hub.attached import Session
from trunkline.hub.byte_account import ByteAccount, Holding
from trunkline.hub.connection import NOWHERE, Connection, Door
from trunkline.hub.gaps import announcement
from trunkline.hub.outbox import Writer
from trunkline.hub.sessions import DetachReason, EndReason, SessionEntry, SessionOwner, SessionTable
from trunkline_protocol.events import Event
from trunkline_protocol.session import (
    PROTOCOL_ERROR,
    SUPERSEDED,
    ProtocolViolation,
    SessionCore,
    encode_ack,
    encode_last_ack,
)

STORE_BYTES: Final = 1024 * 1024
"""Unacknowledged bytes above which nothing new is written until the client acknowledges."""

_CLOSE_CODES: Final[dict[EndReason, int]] = {
    "closed": 1000,
    "overflow": 1013,
    "evicted": SUPERSEDED,
    "violation": PROTOCOL_ERROR,
    "unresumable": PROTOCOL_ERROR,
    "revoked": 4501,
    "replaced": SUPERSEDED,
    "expired": PROTOCOL_ERROR,
}


class SessionLink(Session, SessionOwner, Writer):
    """A session, between its connection and its sockets: numbers, keeps, acknowledges and resends frames.

    Args:
        connection: has the calls and the outbox, which outlive each socket.
        table: the table of sessions, which has this one.
        detached: account of the bytes that wait for clients of detached sessions.
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

    @override
    def write(self, messages: list[bytes]) -> None:
        core = self.core
        numbered = [core.number(message) for message in messages]
        if self._door is not None:
            self._door.write(numbered)
        if core.unacknowledged_bytes > STORE_BYTES and not self._store_is_full:
            self._store_is_full = True
            self.connection.outbox.pause()

    @override
    def write_event(self, event: Event) -> None:
        if self._door is not None:  # events are not numbered: after a cut, clients subscribe again
            self._door.write_event(event)

    @property
    @override
    def write_payload(self) -> Callable[[bytes], object]:
        return _drop if self._door is None else self._door.write_payload

    @override
    def overflow(self) -> None:
        self._end("overflow")

    @override
    def pause_reading(self) -> None:
        # Only while the transport is full: where the store is, the peer has to be read for its acknowledgements.
        if self._door is not None and self._door_is_full:
            self._door.pause_reading()

    @override
    def resume_reading(self) -> None:
        if self._door is not None:
            self._door.resume_reading()

    # --- the door's side ---

    @override
    def door_full(self) -> None:
        self._door_is_full = True
        self.connection.outbox.pause()

    @override
    def door_free(self) -> None:
        self._door_is_full = False
        if self._door is not None:
            self._door.resume_reading()
        self._go_on()

    def _go_on(self) -> None:
        if self._door is not None and not self._door_is_full and not self._store_is_full:
            self.connection.outbox.resume()

    @override
    def receive(self, seq: int, size: int) -> bool:
        try:
            is_new = self.core.receive(seq, size)
        except ProtocolViolation as violation:
            self.violated(violation)
            return False
        self._acknowledge_soon()
        return is_new

    @override
    def acknowledge(self, received: int) -> None:
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
    @override
    def is_attached(self) -> bool:
        return self._door is not None

    @override
    def send_unnumbered(self, reply: bytes) -> None:
        if self._door is not None:
            self.connection.outbox.replay([announcement(reply)])

    # --- life ---

    @override
    def disconnected(self) -> bool:
        entry = self.entry
        if entry is None or not self._table.detached(entry, entry.attachment, time.monotonic()):
            return False
        self._let_go()
        self._waiting = self._detached.holding(self.connection.principal.name, self.overflow)
        self.connection.outbox.when_waiting(self._count)
        self._count()
        return self.entry is not None

    def _count(self) -> None:
        """Account for what waits while the session is detached; where that is too much, end the session."""
        size = self.core.unacknowledged_bytes + self.connection.outbox.waiting_bytes
        if self._waiting is not None and not self._waiting.update(size):
            self._end("overflow")

    def _stop_counting(self) -> None:
        if self._waiting is not None:
            self._waiting.release()
            self._waiting = None
            self.connection.outbox.when_waiting(None)

    @override
    def detach(self, reason: DetachReason) -> None:
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
        """Go on over a new socket: send what the client has not received, then what waits.

        Args:
            missing: frames to send again, as returned by :meth:`trunkline_protocol.session.SessionCore.resume`.
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

    @override
    def take_no_more(self) -> None:
        self._stop_timer()
        if self._door is not None:
            self._door.write([encode_last_ack(self.core.take_ack())])

    @override
    def give_way(self) -> None:
        if not self.is_attached:
            self._end("replaced")

    @override
    def violated(self, violation: ProtocolViolation) -> None:
        if self._door is not None:
            self._door.close(PROTOCOL_ERROR, str(violation))
        self._end("violation")

    def _end(self, reason: EndReason) -> None:
        if self.entry is not None:
            self._table.end(self.entry, reason)

    @override
    def end(self, reason: EndReason) -> None:
        self._stop_timer()
        self._stop_counting()
        door, self._door = self._door, None
        self.entry = None  # the entry refers to this object: break the cycle
        self.connection.session = None
        if door is not None:
            door.close(_CLOSE_CODES[reason], f"the session has ended: {reason}")
        else:
            self.connection.give_up()
            self.connection.door = NOWHERE


def _drop(_payload: bytes) -> None:
    """Drop the payload: the session is detached."""
