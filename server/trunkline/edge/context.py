"""What all connections of one hub share, whichever endpoint they use: limits, access rules, and the list of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from trunkline import defaults
from trunkline.edge.access.rules import AccessRules
from trunkline.edge.pending_connections import PendingConnections
from trunkline.edge.refusal import Refusal
from trunkline.hub.byte_account import ByteAccount
from trunkline.hub.connection import Services, Traffic
from trunkline.hub.outbox import Flusher
from trunkline.hub.principal import PENDING, AnsweredHandshake, Handshake, Principal
from trunkline.hub.shares import Seat
from trunkline_protocol.errors import RpcError, draining_error, limit_error

MAX_CLIENT_CHARS: Final = 120
"""Characters that are kept of a client's name, its User-Agent."""

AT_ONCE: Final = 50
CLOSE_STEP: Final = 0.02
"""Seconds between the portions in which connections are closed, each of :data:`AT_ONCE` or more."""


class Listener(Protocol):
    """The socket of one peer, whatever its transport."""

    @property
    def principal(self) -> Principal:
        """Who is at the other end now."""

    def close(self, code: int, reason: str) -> None:
        """Send what waits, then close the socket with this close code and reason."""

    def traffic(self) -> Traffic:
        """The kind of transport, the client's name, and the bytes received and sent so far."""


@dataclass(slots=True)
class EdgeContext:
    """Limits, rules and connections of one hub.

    Attributes:
        services: what the hub's connections share.
        access: who may come in.
        flusher: writes what waits, once a turn of the loop.
        max_connections, max_message_bytes, outbox_bytes, outbox_event_bytes: limits.
        auth_call: whether a connection may authenticate by a call, after it was opened.
        ping_interval, ping_timeout: seconds.
        refused: called for each peer that is not let in.
        partial: account of the bytes of incomplete messages.
        listeners: the open connections, each with the place that it takes of its principal's, tenant's and address's.
        pending: those of them that have not authenticated yet.
        is_closing: the hub stops, and takes no new ones: a kept-alive HTTP connection could still ask for one.
    """

    services: Services
    access: AccessRules
    flusher: Flusher
    max_connections: int
    max_message_bytes: int
    outbox_bytes: int
    outbox_event_bytes: int
    auth_call: bool
    ping_interval: float = defaults.PING_INTERVAL
    ping_timeout: float = defaults.PING_TIMEOUT
    refused: Callable[[Refusal], None] = lambda _refusal: None
    partial: ByteAccount = field(
        default_factory=lambda: ByteAccount(defaults.PARTIAL_BYTES, defaults.PARTIAL_BYTES_PER_PRINCIPAL)
    )
    listeners: dict[Listener, Seat] = field(default_factory=dict)
    pending: PendingConnections = field(default_factory=PendingConnections)
    is_closing: bool = False

    def enter(self, listener: Listener, peer: str) -> None:
        """Count a connection from now on."""
        shares = self.services.shares
        self.listeners[listener] = Seat(shares.of(listener.principal), shares.of_address(peer))
        if listener.principal is PENDING:
            self.pending.add(listener, peer)

    def authenticated(self, listener: Listener) -> None:
        """Count a connection as its principal's from now on: it had none before."""
        self.pending.remove(listener)
        if (seat := self.listeners.get(listener)) is not None:
            seat.move(self.services.shares.of(listener.principal))

    def leave(self, listener: Listener) -> None:
        """Count a connection no more; without effect on one that is not counted."""
        self.pending.remove(listener)
        if (seat := self.listeners.pop(listener, None)) is not None:
            seat.release()

    async def close_all(self, code: int, reason: str, spread: float) -> None:
        """Close every connection, the oldest first, spread over time, so that not all of them come back at once.

        Args:
            spread: seconds for all; a few are closed without waiting.
        """
        self.is_closing = True
        listeners = tuple(self.listeners)
        step = max(AT_ONCE, round(len(listeners) * CLOSE_STEP / max(spread, CLOSE_STEP)))
        for begin in range(0, len(listeners), step):
            if begin:
                await asyncio.sleep(CLOSE_STEP)
            for listener in listeners[begin : begin + step]:
                listener.close(code, reason)

    def close_where(self, unwanted: Callable[[Principal], bool], code: int, reason: str) -> int:
        """Close the connections whose principal is unwanted, and return how many were closed."""
        chosen = [listener for listener in self.listeners if unwanted(listener.principal)]
        for listener in chosen:
            listener.close(code, reason)
        return len(chosen)

    def check_room(self, peer: str) -> None:
        """Refuse one more connection where there are too many, or too many from its address, or the hub stops.

        Raises:
            RpcError: 2003, ``max_connections`` or ``max_connections_per_address``; 1001, the hub stops.
        """
        if self.is_closing:
            raise draining_error()
        if len(self.listeners) >= self.max_connections:
            error = limit_error("max_connections", f"{len(self.listeners)} connections are open already")
            self.services.shares.refused.count(error)
            raise error
        self.services.shares.require_address(peer)

    def prepare(self, handshake: Handshake) -> Coroutine[Any, Any, AnsweredHandshake] | None:
        """What to await before :meth:`admit`; see :data:`trunkline.hub.principal.Prepare`."""
        if self.auth_call and handshake.token is None:
            return None
        return self.access.prepare(handshake)

    def admit(self, handshake: Handshake) -> Principal:
        """The principal of a new connection; ``PENDING`` where the connection is to authenticate later, by a call.

        Raises:
            RpcError: address, origin or credentials are not right, or the principal, its tenant, or all that have not
                authenticated yet, have too many connections.
        """
        if not self.auth_call or handshake.token is not None:
            principal = self.access.admit(handshake)
            self.services.shares.require_connection(principal)
            return principal
        self.access.check_address(handshake)
        self.require_pending(handshake.peer)
        return PENDING

    def require_pending(self, peer: str) -> None:
        """Make room for one more connection that has not authenticated yet.

        Raises:
            RpcError: 2003, ``auth_call``: there is none (:meth:`PendingConnections.make_room`).
        """
        try:
            self.pending.make_room(peer)
        except RpcError as error:
            self.services.shares.refused.count(error)
            raise
