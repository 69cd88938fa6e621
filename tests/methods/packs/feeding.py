"""Methods that take input, for tests of what runs them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from pydantic import BaseModel, Field

from trunkline.methods.context import Context
from trunkline.methods.declaration import method
from trunkline.methods.inputs import InputStream
from trunkline_protocol.errors import RpcError

seen: list[Any] = []
kept: list[InputStream[Any]] = []


def note(item: Any) -> None:
    seen.append(item)


class Sample(BaseModel):
    """One reading."""

    at: int
    value: float = 0.0


@method("feed.sum")
async def total(numbers: InputStream[int], start: int = 0) -> int:
    """Add what comes."""
    async for number in numbers:
        start += number
    return start


@method("feed.bytes")
async def size(audio: InputStream[bytes], ctx: Context) -> dict[str, Any]:
    pieces = [piece async for piece in audio]
    assert ctx.method == "feed.bytes"
    return {"pieces": len(pieces), "text": b"".join(pieces).decode("latin-1")}


@method("feed.values")
async def values(samples: InputStream[Sample]) -> AsyncIterator[float]:
    """A stream of a stream."""
    async for sample in samples:
        assert isinstance(sample, Sample)
        yield sample.value


@method("feed.any")
async def anything(items: InputStream) -> list[Any]:  # type: ignore[type-arg]  # any JSON
    return [item async for item in items]


@method("feed.small")
async def small(items: InputStream[Annotated[int, Field(le=9)]]) -> int:
    async for item in items:
        note(item)
    return len(seen)


@method("feed.careless")
async def careless(items: InputStream[int]) -> str:
    """Goes on after a bad item."""
    for _ in range(3):
        try:
            async for item in items:
                note(item)
        except RpcError as error:
            seen.append(error.code)
    return "fine"


@method("feed.first")
async def first(items: InputStream[Any]) -> Any:
    """Leaves the rest."""
    kept.append(items)
    return await anext(items)


@method("feed.patient")
async def patient(items: InputStream[Any], ctx: Context) -> int:
    """Waits in its own way, with breaks."""
    count = breaks = 0
    while True:
        try:
            async with asyncio.timeout(0.02):
                await anext(items)
        except TimeoutError:
            breaks += 1
            note("a break")
        except StopAsyncIteration:
            return breaks * 1000 + count
        else:
            count += 1


@method("feed.hang")
async def hang(items: InputStream[Any]) -> None:
    try:
        async for item in items:
            note(item)
    finally:
        seen.append("left")


@method("feed.quarrel")
async def quarrel(items: InputStream[Any]) -> None:
    await asyncio.gather(anext(items), anext(items))


@method("feed.background")
async def background(items: InputStream[Any]) -> str:
    """Leaves a task behind that still reads."""

    async def read() -> None:
        try:
            await anext(items)
        except RpcError as error:
            seen.append(error.code)

    kept.append(items)
    seen.append(asyncio.ensure_future(read()))
    await asyncio.sleep(0)
    return "gone"


@method("feed.relay")
async def relay(method: str, ctx: Context) -> Any:
    return await ctx.call(method)
