"""The methods that the examples of SPEC.md call."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

from trunkline import Context, method
from trunkline.methods.inputs import InputStream


@method("text.upper", idempotent=True)
async def upper(text: str) -> str:
    return text.upper()


@method("rag.check", idempotent=True)
async def check(technique: str, config: dict[str, Any]) -> dict[str, Any]:
    """Stands for the pack's."""
    return {"technique": technique, "config": config}


@method("text.words")
async def words(text: str, ctx: Context) -> AsyncIterator[str]:
    """A chunk for each word; the word ``stop`` is an error."""
    count = 0
    for word in text.split():
        if word == "stop":
            raise ValueError("the word stop came")
        yield word
        count += 1
    ctx.set_result({"words": count})


@method("numbers.sum")
async def total(numbers: InputStream[int]) -> int:
    return sum([number async for number in numbers])


@method("report.build")
async def build(pages: int, ctx: Context) -> dict[str, int]:
    """Reports each page."""
    for page in range(1, pages + 1):
        ctx.progress({"page": page})
        await asyncio.sleep(0)
    return {"pages": pages}


@method("clock.wait")
async def wait(ms: int) -> dict[str, int]:
    await asyncio.sleep(ms / 1000)
    return {"waited": ms}


@method("clock.ticks")
async def ticks(ms: int) -> AsyncIterator[int]:
    """A number each so many milliseconds, without end."""
    number = 0
    while True:
        yield number
        number += 1
        await asyncio.sleep(ms / 1000)


@method("process.kill")
async def kill() -> None:
    """Ends its executor."""
    os.kill(os.getpid(), signal.SIGKILL)


@method("report.approve", idempotent=True)
async def approve(ctx: Context) -> bool:
    """Asks a client."""
    return bool(await ctx.call("desk.approve", {}))
