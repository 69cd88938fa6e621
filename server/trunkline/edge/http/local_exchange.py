"""One call on behalf of a peer that speaks another protocol, as a separate connection of the hub."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from typing_extensions import override

from trunkline.edge.context import EdgeContext
from trunkline.edge.http.brief_door import BriefDoor
from trunkline.hub.client_connection import ClientConnection
from trunkline.hub.connection import Services, Traffic
from trunkline.hub.outbox import Outbox
from trunkline.hub.principal import Principal
from trunkline_protocol.errors import ErrorCode, RpcError

PAUSE_BYTES: Final = 64 * 1024
"""With more bytes than this unread, the hub pauses the stream until its reader has caught up."""

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
_ID: Final = 0


class LocalExchange(BriefDoor):
    """The :class:`trunkline.hub.connection.Door` of one call: limits, roles, rates and accounting are as for any other.

    Args:
        context: what all connections of the hub share.
        services: see :func:`trunkline.edge.http.exchange.exchange_services`.
        principal: on whose behalf the call is made.
        peer: the address of that peer.
    """

    takes_events: Final = True

    def __init__(self, context: EdgeContext, services: Services, principal: Principal, peer: str) -> None:
        self._context = context
        self._services = services
        self._news = asyncio.Event()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._paused = False
        outbox = Outbox(context.flusher, self, context.outbox_bytes, context.outbox_event_bytes)
        self._connection = ClientConnection(services, outbox, principal, peer, self)

    async def call(
        self,
        method: str,
        params: dict[str, Any],
        metadata: dict[str, Any],
        on_notification: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> dict[str, Any]:
        """Make the call and return its response; cancelling this coroutine cancels the call.

        Args:
            on_notification: awaited for each chunk and progress report, in order; the stream waits for it.

        Returns:
            The JSON-RPC response, with ``result`` or ``error``.
        """
        request = {"jsonrpc": "2.0", "id": _ID, "method": method, "params": params, "metadata": metadata}
        connection = self._connection
        self._context.listeners[self] = None
        self._services.opened(connection)
        try:
            connection.receive(_encode(request))
            connection.outbox.flush()
            while True:
                for message in await self._next():
                    if "id" in message:
                        return message
                    await on_notification(message)
        finally:
            del self._context.listeners[self]
            connection.disconnected()

    async def _next(self) -> list[dict[str, Any]]:
        if not self._waiting:
            self._news.clear()
            await self._news.wait()
        messages, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if self._paused:
            self._paused = False
            self._connection.writing_resumed()
        return [_decode(message) for message in messages]

    # --- the hub's side ---

    @property
    def principal(self) -> Principal:
        """On whose behalf the call is made."""
        return self._connection.principal

    @override
    def write(self, messages: list[bytes]) -> None:
        self._waiting += messages
        self._waiting_bytes += sum(map(len, messages))
        if self._waiting_bytes > PAUSE_BYTES and not self._paused:
            self._paused = True
            self._connection.writing_paused()
        self._news.set()

    @override
    def close(self, _code: int, reason: str) -> None:
        # The reason becomes the error of the call.
        for call in tuple(self._connection.calls.values()):
            started = call.maybe_executed
            call.settle_error(RpcError(ErrorCode.WORKER_UNAVAILABLE, reason, maybe_executed=started))
            call.cancel_execution()

    @override
    def traffic(self) -> Traffic:
        return Traffic("mcp")

    @override
    def overflow(self) -> None:
        pass
