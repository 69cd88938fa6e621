"""Methods of every kind, for tests of what runs them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from trunkline.methods.context import Context
from trunkline.methods.declaration import method
from trunkline_protocol.errors import ErrorCode, RpcError

began: list[str] = []
ended: list[str] = []


@method("text.upper", idempotent=True)
async def upper(text: str) -> str:
    return text.upper()


@method("text.thread")
def thread(ctx: Context) -> dict[str, Any]:
    ctx.progress({"at": 1})
    return {"main": threading.current_thread() is threading.main_thread(), "worker_id": ctx.worker_id}


@method("text.letters")
async def letters(text: str, ctx: Context) -> AsyncIterator[str]:
    try:
        for letter in text:
            yield letter
            await asyncio.sleep(0)
        ctx.set_result({"letters": len(text)})
    finally:
        ended.append(text)


@method("text.steps")
def steps(n: int) -> Iterator[int]:
    yield from range(n)


@method("text.relay")
async def relay(method: str, ctx: Context, params: dict[str, Any] | None = None) -> Any:
    return await ctx.call(method, params, timeout_ms=60_000)


@method("text.forward")
async def forward(text: str, ctx: Context) -> AsyncIterator[str]:
    async for chunk in ctx.stream("text.letters", {"text": text}):
        yield chunk.data + chunk.data


@method("text.deeper")
async def deeper(ctx: Context) -> int:
    return await ctx.call("text.deeper") if ctx.depth < 100 else ctx.depth


@method("text.deadline")
async def deadline(ctx: Context) -> float:
    return min(ctx.remaining, 1e9)


@method("text.refuse")
async def refuse() -> None:
    raise RpcError(ErrorCode.INSUFFICIENT_RESOURCES, "no", retry_after_ms=7, data={"x": 1})


@method("text.hang")
async def hang() -> None:
    began.append("hang")
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("hang")


def plain() -> None:
    """Not a method."""
