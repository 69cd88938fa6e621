"""What all connections of one hub share, whichever endpoint they use: limits, access rules, and the list of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from trunkline import defaults
from trunkline.edge.access.rules import AccessRules
from trunkline.edge.refusal import Refusal
from trunkline.hub.byte_account import ByteAccount
from trunkline.hub.connection import Services, Traffic
from trunkline.hub.outbox import Flusher
from trunkline.hub.principal import PENDING, Handshake, Principal
from trunkline_protocol.errors import limit_error

MAX_CLIENT_CHARS: Final = 120
"""Characters that are kept of a client's name, its User-Agent."""

MAX_PENDING: Final = 256
"""Connections that may be open without having authenticated."""
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
        listeners: the open connections.
        pending: how many of them have not authenticated yet.
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
    listeners: dict[Listener, None] = field(default_factory=dict)
    pending: int = 0

    async def close_all(self, code: int, reason: str, spread: float) -> None:
        """Close every connection, the oldest first, spread over time, so that not all of them come back at once.

        Args:
            spread: seconds for all; a few are closed without waiting.
        """
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

    def check_room(self) -> None:
        """Raise RESOURCE_EXHAUSTED (2003, limit ``max_connections``) where one more connection would be too many."""
        if len(self.listeners) >= self.max_connections:
            raise limit_error("max_connections", f"{len(self.listeners)} connections are open already")

    def admit(self, handshake: Handshake) -> Principal:
        """The principal of a new connection; ``PENDING`` where the connection is to authenticate later, by a call.

        Raises:
            RpcError: address, origin or credentials are not right, or too many connections have not authenticated yet.
        """
        if not self.auth_call or handshake.token is not None:
            return self.access.admit(handshake)
        self.access.check_address(handshake)
        if self.pending >= MAX_PENDING:
            raise limit_error(
                "auth_call", f"{MAX_PENDING} connections have not authenticated yet; send the token with the upgrade"
            )
        return PENDING
