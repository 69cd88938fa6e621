"""Sessions on the hub's side: the frames of one, between a connection's outbox and the door of the client's present
socket, if any; and the calls ``session.open`` and ``session.close``.

Frames are numbered when they are written, after the outbox has put them in order, and kept until they are acknowledged.
While a session is detached its outbox is paused: calls go on, and their replies wait in its lanes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec
from typing_extensions import override

from trunkline.hub.attached import Session
from trunkline.hub.byte_account import ByteAccount, Holding
from trunkline.hub.connection import NOWHERE, ClientCall, Connection, Door
from trunkline.hub.dispatch import Handlers, answering_connection
from trunkline.hub.gaps import announcement
from trunkline.hub.outbox import Writer
from trunkline.hub.sessions import DetachReason, EndReason, SessionEntry, SessionOwner, SessionTable
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.events import Event
from trunkline_protocol.hub_methods import SESSION_CLOSE, SESSION_OPEN
from trunkline_protocol.messages import HubIdentity, HubLimits
from trunkline_protocol.session import (
    PROTOCOL_ERROR,
    SUPERSEDED,
    CannotResume,
    ProtocolViolation,
    ResumeRefusal,
    SessionClose,
    SessionCore,
    SessionOpen,
    SessionOpened,
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

_encoder: Final = msgspec.json.Encoder()
logger = logging.getLogger("trunkline.hub")


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
    def label(self) -> str | None:
        return None if self.entry is None else self.entry.label

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
        self._waiting = self._detached.holding(self.connection.principal.owner, self.overflow)
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


class Resumption:
    """Opens, resumes and ends the sessions of a hub.

    Args:
        table: the sessions.
        moved: called when a session is resumed, with the connection that was made for the new socket and is not
            needed any more, and the session's own.
        detached: account of the bytes that wait for clients of detached sessions.
        limits, hub, idempotency_epoch: sent to each client in the reply.
    """

    def __init__(
        self,
        table: SessionTable[SessionLink],
        moved: Callable[[Connection, Connection], None],
        detached: ByteAccount,
        limits: HubLimits,
        hub: HubIdentity,
        idempotency_epoch: str,
    ) -> None:
        self._detached = detached
        self._about = (limits, hub, idempotency_epoch)
        self.table = table
        self._moved = moved
        self._sweeper: asyncio.TimerHandle | None = None

    def methods(self) -> Handlers:
        """Handlers of ``session.open`` and ``session.close``."""
        opening = answering_connection(SESSION_OPEN, self._open)
        return opening | answering_connection(SESSION_CLOSE, self._close)

    def _open(self, call: ClientCall, params: SessionOpen) -> None:
        if not call.connection.may_open_session:
            raise RpcError(
                ErrorCode.INVALID_REQUEST, "session.open has to be the first call of a connection, after auth if any"
            )
        refusal: ResumeRefusal | None = None
        if params.resume is not None:
            refusal = self._resume(call, params.resume.session, params.resume.received)
            if refusal is None:
                return
        self._begin(call, refusal)

    def _begin(self, call: ClientCall, refusal: ResumeRefusal | None) -> None:
        connection = call.connection
        session_id = secrets.token_urlsafe(16)
        link = SessionLink(connection, self.table, self._detached)
        link.entry = self.table.open(session_id, connection.principal.owner, link, time.monotonic())
        self._sweep_later()
        self._answer(call, SessionOpened(session_id, False, 0, self._ttl_ms, refusal, *self._about))
        connection.session = link
        connection.outbox.redirect(link)
        connection.door.adopt(connection)

    def _resume(self, call: ClientCall, session_id: str, received: int) -> ResumeRefusal | None:
        newcomer = call.connection
        entry = self.table.resume(session_id, newcomer.principal.owner, time.monotonic())
        if not isinstance(entry, SessionEntry):
            return entry
        link = entry.owner
        try:
            missing = link.core.resume(received)
        except CannotResume as cannot:
            self.table.end(entry, "unresumable")
            return cannot.reason
        self._answer(call, SessionOpened(session_id, True, link.core.take_ack(), self._ttl_ms, None, *self._about))
        logger.info("session resumed", extra={"session": entry.label, "connection": newcomer.number})
        door, own = newcomer.door, link.connection
        own.become(newcomer.principal)
        own.peer = newcomer.peer
        self._moved(newcomer, own)
        link.attach(door, missing)
        newcomer.outbox.close()
        return None

    @property
    def _ttl_ms(self) -> int:
        return int(self.table.ttl * 1000)

    @staticmethod
    def _answer(call: ClientCall, opened: SessionOpened) -> None:
        # Flushed at once: this reply is not numbered, and has to precede the first frame that is.
        call.settle_result(_encoder.encode(opened))
        call.connection.outbox.flush()

    def _close(self, call: ClientCall, _params: SessionClose) -> None:
        if call.connection.session is None:
            raise RpcError(ErrorCode.INVALID_REQUEST, "this connection has no session to close")
        connection = call.connection
        link = connection.session
        assert isinstance(link, SessionLink)
        call.settle_result(b"{}")
        connection.outbox.flush()
        if link.entry is not None:
            self.table.end(link.entry, "closed")

    # --- expiry ---

    def detached(self) -> None:
        """Schedule the expiry of sessions: one may have been detached."""
        self._sweep_later()

    def _sweep_later(self) -> None:
        due = self.table.next_expiry
        if self._sweeper is None and due is not None:
            delay = max(0.01, due - time.monotonic())
            self._sweeper = asyncio.get_running_loop().call_later(delay, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        for entry in self.table.expire(time.monotonic()):
            logger.info("session expired", extra={"session": entry.label})
        self._sweep_later()

    def stop(self) -> None:
        """Stop expiring sessions: the hub is stopping, and no client will resume one."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
