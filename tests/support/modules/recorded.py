"""Methods whose executions are written down: see ``tests/faults/recorder``. Served with ``--methods recorded``.

``RECORDER_LEDGER`` is the file, ``RECORDER_LIFE`` which life of the hub this is. A line is written when the work
begins, by one system call, so that an executor that is killed leaves whole lines.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from functools import cache
from typing import Any, Final

from trunkline import Context, ErrorCode, RpcError, method
from trunkline.methods.inputs import InputStream


@cache
def _ledger() -> int:
    return os.open(os.environ["RECORDER_LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def _to_file(work: str) -> None:
    life = int(os.environ["RECORDER_LIFE"])
    line = {"time": time.monotonic(), "work": work, "life": life, "by": str(os.getpid())}
    os.write(_ledger(), json.dumps(line).encode() + b"\n")


WRITER: Final[ContextVar[Callable[[str], None]]] = ContextVar("writer", default=_to_file)
"""Writes down that a work begins."""


def executed(work: str) -> None:
    """The work begins, here and now."""
    WRITER.get()(work)


async def _echo(work: str, value: Any, seconds: float) -> Any:
    executed(work)
    if seconds:
        await asyncio.sleep(seconds)
    return value


async def _count(work: str, n: int, interval: float, ctx: Context) -> AsyncIterator[dict[str, Any]]:
    executed(work)
    for index in range(n):
        yield {"work": work, "index": index}
        await asyncio.sleep(interval)
    ctx.set_result({"work": work, "chunks": n})


async def _sum(work: str, numbers: InputStream[int]) -> int:
    executed(work)
    total = 0
    async for number in numbers:
        total += number
    return total


@method("recorded.echo")
async def echo(work: str, value: Any, seconds: float = 0) -> Any:
    """Return the value, after a while."""
    return await _echo(work, value, seconds)


@method("recorded.echo.again", idempotent=True)
async def echo_again(work: str, value: Any, seconds: float = 0) -> Any:
    """The same, declared idempotent."""
    return await _echo(work, value, seconds)


@method("recorded.count")
async def count(work: str, n: int, ctx: Context, interval: float = 0) -> AsyncIterator[dict[str, Any]]:
    """Stream n chunks."""
    async for chunk in _count(work, n, interval, ctx):
        yield chunk


@method("recorded.count.again", idempotent=True)
async def count_again(work: str, n: int, ctx: Context, interval: float = 0) -> AsyncIterator[dict[str, Any]]:
    """The same, declared idempotent."""
    async for chunk in _count(work, n, interval, ctx):
        yield chunk


@method("recorded.sum")
async def total(work: str, numbers: InputStream[int]) -> int:
    """Add what the caller pushes."""
    return await _sum(work, numbers)


@method("recorded.sum.again", idempotent=True)
async def total_again(work: str, numbers: InputStream[int]) -> int:
    """The same, declared idempotent."""
    return await _sum(work, numbers)


@method("recorded.refuse.again", idempotent=True)
async def refuse_again(work: str, seconds: float = 0) -> Any:
    """Fail, after a while, so that trying again is of no use; declared idempotent."""
    await _echo(work, None, seconds)
    raise RpcError(ErrorCode.INVALID_CONFIGURATION, "it was asked to fail")
