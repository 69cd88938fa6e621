"""The input of a running call, as its method sees it: an asynchronous iterator over what the caller pushes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Generic, TypeVar

from trunkline_protocol.errors import ErrorCode, RpcError

Item = TypeVar("Item")

CREDIT_ITEMS: Final = 16
"""Items a grant is for: the sender's window is several times this, so it never waits for a grant on its way."""

CREDIT_BYTES: Final = 64 * 1024
"""Bytes a grant is for, where items are large."""


class InputStream(Generic[Item]):
    """Items of type ``Item`` that a caller feeds to a running call by ``stream.push``, in order.

    An ``async`` method declares one parameter of this type; it is not part of the params. Each item is validated like
    a parameter when it is taken. A bad item ends the call with -32602, whatever the method does about it. While the
    method waits for the next item, its slot is free for other calls.

    >>> @method("speech.transcribe")
    ... async def transcribe(audio: InputStream[bytes], ctx: Context) -> AsyncIterator[str]:
    ...     async for piece in audio:
    ...         yield recognize(piece)

    Args:
        read: JSON and index of an item to the item; raises -32602.
        granted: told of how many items were taken in total, every now and then.
        waiting: entered while the method waits.

    Attributes:
        taken: how many items the method has taken so far.
        fault: why there are no more items, where that is not the end the caller sent.
    """

    def __init__(
        self,
        read: Callable[[bytes, int], Item],
        granted: Callable[[int], None],
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._read = read
        self._granted = granted
        self._waiting = waiting
        self._items: deque[bytes] = deque()
        self._ended = False
        self._arrival: asyncio.Future[None] | None = None
        self._due_items = 0
        self._due_bytes = 0
        self.taken = 0
        self.fault: RpcError | None = None

    def __aiter__(self) -> InputStream[Item]:
        return self

    async def __anext__(self) -> Item:
        while not self._items and not self._ended and self.fault is None:
            await self._wait()
        if self.fault is not None:
            raise self.fault
        if not self._items:
            raise StopAsyncIteration
        data = self._items.popleft()
        index = self.taken
        self.taken += 1
        try:
            item = self._read(data, index)
        except RpcError as error:
            self.fault = error
            raise
        self._grant(len(data))
        return item

    async def _wait(self) -> None:
        if self._arrival is not None:
            raise RuntimeError("two tasks wait for the same input; let one of them read it")
        self._arrival = asyncio.get_running_loop().create_future()
        try:
            with self._waiting():
                await self._arrival
        finally:
            self._arrival = None

    def _grant(self, size: int) -> None:
        self._due_items += 1
        self._due_bytes += size
        if self._due_items >= CREDIT_ITEMS or self._due_bytes >= CREDIT_BYTES:
            self._due_items = self._due_bytes = 0
            self._granted(self.taken)

    # --- the runner's side ---

    def push(self, data: bytes, final: bool) -> None:
        """Take one item (JSON), or the end, which carries none."""
        if final:
            self._ended = True
        else:
            self._items.append(data)
        self._wake()

    def close(self, method: str) -> None:
        """End the input with its call: whoever still reads gets CANCELLED."""
        if self.fault is None:
            self.fault = RpcError(ErrorCode.CANCELLED, f"{method} has ended: no more input", maybe_executed=True)
        self._items.clear()
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
