"""Methods that bound how many of their calls run at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from trunkline import method

running = {"now": 0, "most": 0}
gate = asyncio.Event()


async def work() -> None:
    running["now"] += 1
    running["most"] = max(running["most"], running["now"])
    try:
        await gate.wait()
    finally:
        running["now"] -= 1


@method("bounded.call", max_concurrency=2)
async def call() -> int:
    await work()
    return 1


@method("bounded.stream", max_concurrency=1)
async def stream() -> AsyncIterator[int]:
    await work()
    yield 1


@method("bounded.free")
async def free() -> int:
    return 7
