"""The calls ``session.open`` and ``session.close``, and the end of sessions whose client does not come back."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec

from trunkline.hub.byte_account import ByteAccount
from trunkline.hub.connection import ClientCall, Connection
from trunkline.hub.dispatch import Handlers, answering_connection
from trunkline.hub.session_link import SessionLink
from trunkline.hub.sessions import SessionEntry, SessionTable
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_methods import SESSION_CLOSE, SESSION_OPEN
from trunkline_protocol.messages import HubIdentity, HubLimits
from trunkline_protocol.session import CannotResume, ResumeRefusal, SessionClose, SessionOpen, SessionOpened

_encoder: Final = msgspec.json.Encoder()
logger = logging.getLogger("trunkline.hub")


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
        link.entry = self.table.open(session_id, connection.principal.name, link, time.monotonic())
        self._sweep_later()
        self._answer(call, SessionOpened(session_id, False, 0, self._ttl_ms, refusal, *self._about))
        connection.session = link
        connection.outbox.redirect(link)
        connection.door.adopt(connection)

    def _resume(self, call: ClientCall, session_id: str, received: int) -> ResumeRefusal | None:
        newcomer = call.connection
        entry = self.table.resume(session_id, newcomer.principal.name, time.monotonic())
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
