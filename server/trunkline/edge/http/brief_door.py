"""The half of a door that all exchanges share: one connection of the hub for one request, and what waits for its peer.

Such a connection has no sessions and nothing more to read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Self

from typing_extensions import override

from trunkline.edge.context import EdgeContext
from trunkline.hub.client_connection import ClientConnection
from trunkline.hub.connection import Connection, Door, Services
from trunkline.hub.outbox import Outbox
from trunkline.hub.principal import Principal
from trunkline_protocol.events import Event

PAUSE_BYTES: Final = 64 * 1024
"""With more bytes than this waiting for the peer, the hub pauses the streams."""


class BriefDoor(Door):
    """A :class:`trunkline.hub.connection.Door` without events, sessions and more to read; subclasses add the rest.

    A context, in which the hub has the connection.

    Args:
        context: what all connections of the hub share.
        services: see :func:`trunkline.edge.http.exchange.exchange_services`.
        principal: on whose behalf calls are made.
        peer: the address of that peer.
    """

    def __init__(self, context: EdgeContext, services: Services, principal: Principal, peer: str) -> None:
        self._context = context
        self._services = services
        self._news = asyncio.Event()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._paused = False
        outbox = Outbox(context.flusher, self, context.outbox_bytes, context.outbox_event_bytes)
        self._connection = ClientConnection(services, outbox, principal, peer, self)

    def __enter__(self) -> Self:
        self._context.listeners[self] = None
        self._services.opened(self._connection)
        return self

    def __exit__(self, *_error: object) -> None:
        del self._context.listeners[self]
        self._connection.disconnected()

    @property
    def principal(self) -> Principal:
        """On whose behalf calls are made."""
        return self._connection.principal

    def _add(self, message: bytes) -> None:
        """Put a message behind those that wait for the peer; pauses the connection where they are too many."""
        self._waiting.append(message)
        self._waiting_bytes += len(message)
        if self._waiting_bytes > PAUSE_BYTES and not self._paused:
            self._paused = True
            self._connection.writing_paused()
        self._news.set()

    def _taken(self) -> list[bytes]:
        """The messages that wait, which do not from now on."""
        messages, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return messages

    def _resume(self) -> None:
        """Let the streams go on, where they were paused."""
        if self._paused:
            self._paused = False
            self._connection.writing_resumed()

    @override
    def write_event(self, event: Event) -> None:
        pass

    @property
    @override
    def write_payload(self) -> Callable[[bytes], object]:
        return _ignore

    @override
    def pause_reading(self) -> None:
        pass

    @override
    def resume_reading(self) -> None:
        pass

    @override
    def adopt(self, connection: Connection) -> None:
        pass

    @override
    def disown(self) -> None:
        pass


def _ignore(_payload: bytes) -> None:
    """Drop an event's payload: there are no subscriptions."""
