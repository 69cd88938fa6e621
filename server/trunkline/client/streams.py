"""The chunks of a streaming call, as its caller reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from trunkline_protocol.errors import ErrorCode, RpcError


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """One chunk of a stream: its type, its data (any JSON) and its 0-based index."""

    type: str
    data: Any
    index: int


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """What follows the last chunk of a stream that succeeded: the summary (any JSON)."""

    result: Any


class ResultStream:
    """The chunks of a streaming call: iterate once. Leaving the loop early cancels the call.

    ``result`` is the summary that follows the last chunk; it is set when the iteration has ended.
    """

    def __init__(
        self, cancel: Callable[[], Awaitable[None]], queue: asyncio.Queue[StreamChunk | StreamEnd | Exception]
    ) -> None:
        self._cancel = cancel
        self._queue = queue
        self.result: Any = None

    async def __aiter__(self) -> AsyncIterator[StreamChunk]:
        """Yield chunks in order.

        Raises:
            RpcError: the call failed, after all chunks that came before.
            DisconnectedError: the connection was lost.
        """
        ended, expected = False, 0
        try:
            while True:
                item = await self._queue.get()
                if isinstance(item, StreamChunk):
                    if item.index != expected:
                        raise RpcError(ErrorCode.SERIALIZATION_ERROR, f"chunk {expected} is missing from the stream")
                    expected += 1
                    yield item
                    continue
                ended = True
                if isinstance(item, Exception):
                    raise item
                self.result = item.result
                return
        finally:
            if not ended:
                await self._cancel()
