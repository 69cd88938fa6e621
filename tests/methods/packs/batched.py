"""Methods whose calls are batched, and what came together."""

from __future__ import annotations

import asyncio
import threading

from tests.support.timing import PATIENCE
from trunkline import Batch, Context, ErrorCode, RpcError, method

batches: list[list[str]] = []
gate = threading.Event()


@method("batched.upper", batch=Batch(max_items=4))
def upper(text: list[str], times: list[int]) -> list[str]:
    """On the thread; the first batch waits for the gate."""
    batches.append(list(text))
    gate.wait(PATIENCE)
    return [one.upper() * n for one, n in zip(text, times, strict=True)]


@method("batched.each", batch=Batch(max_items=8), idempotent=True)
async def each(number: list[int], ctx: list[Context]) -> list[int | RpcError]:
    """Coroutines, too, with the context of each call; some fail alone, some with all others."""
    batches.append([str(one) for one in number])
    await asyncio.sleep(0)
    if 13 in number:
        raise ValueError("thirteen")
    fault = RpcError(ErrorCode.PIPELINE_NOT_FOUND, "no such number")
    return [one * len(found.method) if one >= 0 else fault for one, found in zip(number, ctx, strict=True)]


@method("batched.once", batch=Batch(max_items=8))
async def once(number: list[int]) -> list[int]:
    """Not idempotent: what failed is not run again."""
    batches.append([str(one) for one in number])
    await asyncio.sleep(0)
    if 13 in number:
        raise ValueError("thirteen")
    return number


@method("batched.few", batch=Batch(max_items=8))
async def few(number: list[int]) -> list[int]:
    return number[1:]


@method("batched.patient", batch=Batch(max_items=3, max_wait_ms=30_000))
async def patient(number: list[int]) -> list[int]:
    batches.append([str(one) for one in number])
    return number


@method("batched.typed", batch=Batch())
async def typed(number: list[int]) -> list[int]:
    return ["no number"] * len(number)  # type: ignore[list-item]  # what its signature does not promise


@method("batched.hangs", batch=Batch())
async def hangs(number: list[int]) -> list[int]:
    batches.append([str(one) for one in number])
    try:
        await asyncio.Event().wait()
    finally:
        batches.append(["ended"])
    return number


@method("batched.exits", batch=Batch())
def exits(number: list[int]) -> list[int]:
    raise SystemExit(2)
