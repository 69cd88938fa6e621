"""The chunks of a streaming call, as its caller reads them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from trunkline.client.calls import Pending
from trunkline.client.credit import Grants
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import Window


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """One chunk of a stream: its type, its data (any JSON) and its 0-based index, which senders leave out."""

    type: str
    data: Any
    index: int = -1


class StreamCall(Pending):
    """A streaming call: what has come of it and was not read. Its sender is not further ahead than its credit.

    Args:
        granted: told how many chunks were read in total, whenever the hub has to know.
    """

    __slots__ = ("_arrived", "_chunks", "_error", "_expected", "_granted", "_grants", "_is_settled", "result")

    def __init__(
        self,
        request_id: int,
        method: str,
        body: bytes,
        metadata: dict[str, Any],
        window: Window,
        granted: Callable[[int, int], None],
    ) -> None:
        super().__init__(request_id, method, body, metadata)
        self._chunks: deque[tuple[StreamChunk, int]] = deque()
        self._arrived = asyncio.Event()
        self._grants = Grants(window)
        self._granted = granted
        self._expected = 0
        self._is_settled = False
        self._error: Exception | None = None
        self.result: Any = None

    @property
    def queued(self) -> int:
        """How many chunks wait for the reader."""
        return len(self._chunks)

    def chunk(self, params: dict[str, Any], size: int) -> None:
        """See :class:`trunkline.client.calls.Pending`."""
        if params["is_final"] or self._is_settled:
            return
        chunk = StreamChunk(params["chunk_type"], params["data"], params["index"])
        if chunk.index != self._expected:
            self.fail(
                RpcError(
                    ErrorCode.SERIALIZATION_ERROR,
                    f"chunk {self._expected} is missing from the stream",
                    maybe_executed=True,
                )
            )
            return
        self._expected += 1
        self._chunks.append((chunk, size))
        self._arrived.set()

    def settle(self, result: Any) -> None:
        """See :class:`trunkline.client.calls.Pending`."""
        if not self._is_settled:
            self.result = result
            self._is_settled = True
            self._arrived.set()

    def fail(self, error: Exception) -> None:
        """See :class:`trunkline.client.calls.Pending`."""
        if not self._is_settled:
            self._error = error
            self._is_settled = True
            self._arrived.set()

    async def next(self) -> StreamChunk | None:
        """The next chunk; None after the last.

        Raises:
            RpcError, DisconnectedError: how it ended, after all chunks that came before.
        """
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._is_settled:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        chunk, size = self._chunks.popleft()
        if self._grants.consume(size) and not self.is_over:
            self._granted(self.id, self._grants.consumed)
        return chunk


class ResultStream:
    """The chunks of a streaming call: iterate once. Leaving the loop early cancels the call.

    ``result`` is the summary that follows the last chunk; it is set when the iteration has ended.
    """

    def __init__(self, call: StreamCall, release: Callable[[], Awaitable[None]]) -> None:
        self._call = call
        self._release = release
        self.result: Any = None

    @property
    def queued(self) -> int:
        """How many chunks have come and wait to be read: never more than the window."""
        return self._call.queued

    async def __aiter__(self) -> AsyncIterator[StreamChunk]:
        """Yield chunks in order.

        Raises:
            RpcError: the call failed, after all chunks that came before.
            DisconnectedError: the connection was lost, and the session with it.
        """
        try:
            while (chunk := await self._call.next()) is not None:
                yield chunk
            self.result = self._call.result
        finally:
            await self._release()

    async def aclose(self) -> None:
        """Give up a stream that is not iterated over: cancel the call."""
        await self._release()
