"""The input of a call on its way to the hub: as far ahead of the method as it may be, and no further."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable
from typing import Any

from trunkline.background import start_task
from trunkline.client.calls import Pending
from trunkline.client.outgoing import Outgoing, encode_exactly
from trunkline_protocol.depth import CARRIED_DEPTH
from trunkline_protocol.flow import SendWindow

Input = AsyncIterable[Any] | Iterable[Any]

logger = logging.getLogger("trunkline.client")


class _Push(Outgoing):
    """One item; it is worth something as long as its call is."""

    __slots__ = ("_call",)

    def __init__(self, call: Pending, members: bytes) -> None:
        super().__init__(b'{"jsonrpc":"2.0","method":"stream.push","params":{"request_id":%d,%b}}' % (call.id, members))
        self._call = call

    @property
    def survives(self) -> bool:
        """See :class:`trunkline.client.outgoing.Outgoing`."""
        return not self._call.is_over


class Feeder:
    """Takes items from what the caller gave, one at a time, and pushes them. Starts at once; :meth:`stop` it.

    Args:
        call: that was sent already.
        source: of items, any JSON.
        send: where frames go.
        failed: told if the source raises, or yields what JSON cannot carry.
    """

    def __init__(
        self, call: Pending, source: Input, send: Callable[[Outgoing], None], failed: Callable[[Exception], None]
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
        """The method has taken so many items in total."""
        self._window.grant(taken)
        self._room.set()

    async def stop(self) -> None:
        """Nothing more is wanted: close the source."""
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
