"""What tests of the client share where connections are cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, overload

from tests.support.proxy import Proxy
from tests.support.timing import PATIENCE
from trunkline.client import ConnectionState, Hub, Reconnect, Reconnecting, connect

QUICK = Reconnect(min_delay=0.02, max_delay=0.1)
"""So that tests of a hundred cuts end today."""


class Changes:
    """The states a client went through."""

    def __init__(self, client: Hub) -> None:
        self.seen: list[ConnectionState] = []
        self._changed = asyncio.Event()
        client.on_connection_state(self._add)

    def _add(self, change: ConnectionState) -> None:
        self.seen.append(change)
        self._changed.set()

    def words(self) -> list[str]:
        return [change.state for change in self.seen]

    def reconnecting(self, first: int = 0) -> list[Reconnecting]:
        """The attempts, from the change of that index on."""
        return [change for change in self.seen[first:] if isinstance(change, Reconnecting)]

    @overload
    async def wait_for(self, state: Literal["reconnecting"], number: int = 1) -> Reconnecting: ...
    @overload
    async def wait_for(self, state: str, number: int = 1) -> ConnectionState: ...
    async def wait_for(self, state: str, number: int = 1) -> ConnectionState:
        """Wait until that state was reached so many times; returns the last of them."""
        async with asyncio.timeout(PATIENCE):
            while len(found := [change for change in self.seen if change.state == state]) < number:
                self._changed.clear()
                await self._changed.wait()
        return found[number - 1]


@asynccontextmanager
async def through_proxy(port: int, **options: Any) -> AsyncIterator[tuple[Proxy, Hub]]:
    """A client whose connection can be harmed."""
    options = {"reconnect": QUICK} | options
    async with Proxy(port) as proxy, connect(proxy.url, **options) as client:
        yield proxy, client


@asynccontextmanager
async def cutting(proxy: Proxy, seed: int, *, mean: float = 0.05) -> AsyncIterator[Callable[[], int]]:
    """Cut again and again, at random times and in the middle of frames, for the length of a block.

    Yields what tells how many connections were cut.
    """
    chance = random.Random(seed)
    cuts = 0

    async def cut() -> None:
        nonlocal cuts
        while True:
            await asyncio.sleep(chance.expovariate(1 / mean))
            if chance.random() < 0.5:
                proxy.cut_after(chance.randint(1, 400), chance.choice(("to_hub", "to_client")))
            else:
                cuts += proxy.cut()

    before = proxy.accepted
    task = asyncio.create_task(cut())
    try:
        yield lambda: max(cuts, proxy.accepted - before)
    finally:
        task.cancel()
        await asyncio.wait([task])
        proxy.calm()
