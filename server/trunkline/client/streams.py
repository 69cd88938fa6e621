"""The streams of a call: chunks for the caller to read, and input sent to the hub.

Neither side sends more than its credit allows; :mod:`trunkline_protocol.flow` has the sender's part of that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Final

from typing_extensions import override

from trunkline.background import start_task
from trunkline.client.connection_state import UsageError
from trunkline.client.outgoing import Outgoing, encode_exactly
from trunkline.client.pending import PendingRequest, located
from trunkline_protocol.depth import CARRIED_DEPTH
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.flow import SendWindow
from trunkline_protocol.messages import Window

MAX_ITEMS: Final = 1024
MAX_BYTES: Final = 4 * 2**20
"""The hub's own limits of what it sends ahead, whatever window is requested (SPEC.md, Streams)."""

Input = AsyncIterable[Any] | Iterable[Any]

logger = logging.getLogger("trunkline.client")


class ReceiveWindow:
    """Counts what a reader consumes, and decides when to grant the sender new credit.

    Credit is granted after half a window, in items or in bytes. The bytes counted here are those of whole messages,
    which is more than the sender counts, so a sender that waits is always owed a grant.

    Args:
        window: the window that was requested.

    Attributes:
        consumed: items read, in total.
    """

    __slots__ = ("_bytes", "_due_bytes", "_due_items", "_items", "consumed")

    def __init__(self, window: Window) -> None:
        self._items = max(1, min(window.items, MAX_ITEMS) // 2)
        self._bytes = max(1, min(window.bytes, MAX_BYTES) // 2)
        self._due_items = 0
        self._due_bytes = 0
        self.consumed = 0

    def consume(self, size: int) -> bool:
        """Count one item, from a message of ``size`` bytes, as read; returns whether credit is to be granted now."""
        self.consumed += 1
        self._due_items += 1
        self._due_bytes += size
        if self._due_items < self._items and self._due_bytes < self._bytes:
            return False
        self._due_items = self._due_bytes = 0
        return True


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """One chunk of a stream: its type, its data (any JSON) and its 0-based index, which senders leave out."""

    type: str
    data: Any
    index: int = -1


class StreamCall(PendingRequest):
    """A streaming call, with the chunks that have arrived and were not read: never more than its credit allows.

    Args:
        granted: called with the call's id and the chunks read in total, whenever credit is to be granted.
    """

    __slots__ = (
        "_arrived",
        "_chunks",
        "_error",
        "_expected",
        "_granted",
        "_is_complete",
        "_is_settled",
        "_window",
        "result",
    )

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
        self._window = ReceiveWindow(window)
        self._granted = granted
        self._expected = 0
        self._is_complete = False
        self._is_settled = False
        self._error: Exception | None = None
        self.result: Any = None

    @property
    def queued(self) -> int:
        """How many chunks wait to be read."""
        return len(self._chunks)

    @override
    def chunk(self, params: dict[str, Any], size: int) -> None:
        if params["is_final"] or self._is_settled:
            self._is_complete = True
            return
        chunk = StreamChunk(params["chunk_type"], params["data"], params["index"])
        if chunk.index != self._expected:
            self.fail(_broken(f"chunk {self._expected} is missing from the stream"))
            return
        self._expected += 1
        self._chunks.append((chunk, size))
        self._arrived.set()

    @override
    def settle(self, result: Any) -> None:
        if self._is_settled:
            return
        if not self._is_complete:
            if self._expected:
                self.fail(_broken(f"the stream ended after {self._expected} chunks, none of them final"))
            else:
                self.fail(UsageError(f"{self.method} is no stream: use call()", result))
        else:
            self.result = result
            self._is_settled = True
            self._arrived.set()

    @override
    def fail(self, error: Exception) -> None:
        if not self._is_settled:
            self._error = error
            self._is_settled = True
            self._arrived.set()

    async def next(self) -> StreamChunk | None:
        """The next chunk; None after the last.

        Raises:
            RpcError, DisconnectedError: the call failed; raised after all chunks that arrived before.
        """
        while not self._chunks:
            if self._error is not None:
                raise located(self._error, self)
            if self._is_settled:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        chunk, size = self._chunks.popleft()
        if self._window.consume(size) and not self.is_over:
            self._granted(self.id, self._window.consumed)
        return chunk


def _broken(words: str) -> RpcError:
    return RpcError(ErrorCode.SERIALIZATION_ERROR, words, maybe_executed=True)


class ResultStream:
    """The chunks of a streaming call, to iterate over once. Leaving the loop early cancels the call.

    It has begun when :meth:`Hub.stream` returns; awaiting it first returns the same object.
    """

    def __init__(self, call: StreamCall, release: Callable[[], Awaitable[None]]) -> None:
        self._call = call
        self._release = release
        self._has_ended = False

    def __await__(self) -> Generator[Any, None, ResultStream]:
        return self._itself().__await__()

    async def _itself(self) -> ResultStream:
        return self

    @property
    def result(self) -> Any:
        """The call's result, which follows the last chunk.

        Raises:
            UsageError: the chunks were not read to their end; :meth:`wait` does.
        """
        if not self._has_ended:
            raise UsageError(f"{self._call.method}: the result follows the last chunk: read all, or use wait()")
        return self._call.result

    async def wait(self) -> Any:
        """The call's result, once it is there; chunks that nobody has read are dropped.

        Raises:
            RpcError, DisconnectedError, UsageError: the call failed.
        """
        async for _ in self:
            pass
        return self.result

    @property
    def queued(self) -> int:
        """How many chunks wait to be read: never more than the window."""
        return self._call.queued

    async def __aiter__(self) -> AsyncIterator[StreamChunk]:
        """Yield chunks in order.

        Raises:
            RpcError: the call failed; raised after all chunks that arrived before.
            DisconnectedError: the connection was lost, and the session with it.
        """
        try:
            while (chunk := await self._call.next()) is not None:
                yield chunk
            self._has_ended = True
        finally:
            await self._release()

    async def aclose(self) -> None:
        """Cancel the call of a stream that is not iterated over."""
        await self._release()


class _Push(Outgoing):
    """One item of a call's input; dropped once the call is over."""

    __slots__ = ("_call",)

    def __init__(self, call: PendingRequest, members: bytes) -> None:
        super().__init__(b'{"jsonrpc":"2.0","method":"stream.push","params":{"request_id":%d,%b}}' % (call.id, members))
        self._call = call

    @property
    @override
    def survives(self) -> bool:
        return not self._call.is_over


class Feeder:
    """Sends a call's input: takes items from the caller's source, one at a time. Runs from creation to :meth:`stop`.

    Args:
        call: the call, which was sent already.
        source: the caller's items, any JSON.
        send: sends a message.
        failed: called if the source raises, or yields what JSON cannot represent.
    """

    def __init__(
        self, call: PendingRequest, source: Input, send: Callable[[Outgoing], None], failed: Callable[[Exception], None]
    ) -> None:
        self._call = call
        self._source = source
        self._send = send
        self._failed = failed
        self._window = SendWindow()
        self._room = asyncio.Event()
        call.feeder = self
        self._task = start_task(self._feed(), f"trunkline-input-{call.id}")

    def grant(self, taken: int) -> None:
        """Note how many items the method has taken in total."""
        self._window.grant(taken)
        self._room.set()

    async def stop(self) -> None:
        """Stop sending and close the source."""
        self._call.feeder = None
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            logger.warning("closing the input of %s failed", self._call.method, exc_info=error)

    async def _feed(self) -> None:
        items = _iterator(self._source)
        try:
            await self._push_all(items)
        except Exception as error:
            self._failed(error)
        finally:
            if (close := getattr(items, "aclose", None)) is not None:
                await close()

    async def _push_all(self, items: AsyncIterator[Any]) -> None:
        index = 0
        while True:
            await self._wait_for_room()
            try:
                item = await anext(items)
            except StopAsyncIteration:
                break
            data = encode_exactly(item, f"item {index} of the input of {self._call.method}", CARRIED_DEPTH)
            self._window.spend(len(data))
            self._send(_Push(self._call, b'"index":%d,"data":%b' % (index, data)))
            index += 1
        self._send(_Push(self._call, b'"index":%d,"is_final":true' % index))

    async def _wait_for_room(self) -> None:
        while self._window.exhausted:
            self._room.clear()
            await self._room.wait()


def _iterator(source: Input) -> AsyncIterator[Any]:
    return aiter(source) if isinstance(source, AsyncIterable) else _plain(source)


async def _plain(source: Iterable[Any]) -> AsyncIterator[Any]:
    items = iter(source)
    try:
        for item in items:
            yield item
    finally:
        if isinstance(items, Generator):
            items.close()
