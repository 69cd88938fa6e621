"""One call on behalf of a peer that speaks another protocol, as a separate connection of the hub."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from typing_extensions import override

from trunkline.edge.http.brief_door import BriefDoor
from trunkline.hub.connection import Traffic
from trunkline_protocol.errors import ErrorCode, RpcError

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
_ID: Final = 0


class LocalExchange(BriefDoor):
    """The :class:`trunkline.hub.connection.Door` of one call: limits, roles, rates and accounting are as for any other.

    Its arguments are those of :class:`trunkline.edge.http.brief_door.BriefDoor`.
    """

    takes_events: Final = True

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
        with self:
            self._connection.receive(_encode(request))
            self._connection.outbox.flush()
            while True:
                for message in await self._next():
                    if "id" in message:
                        return message
                    await on_notification(message)

    async def _next(self) -> list[dict[str, Any]]:
        if not self._waiting:
            self._news.clear()
            await self._news.wait()
        messages = self._taken()
        self._resume()
        return [_decode(message) for message in messages]

    # --- the hub's side ---

    @override
    def write(self, messages: list[bytes]) -> None:
        for message in messages:
            self._add(message)

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
