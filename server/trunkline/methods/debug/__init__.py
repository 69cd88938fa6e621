"""The pack ``debug``: methods for trials and for injecting faults, served only if asked for by name.

``trunkline serve --methods trunkline.methods.debug``
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal as signals
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from pydantic import Field

from trunkline import Context, ErrorCode, RpcError, method

Seconds = Annotated[float, Field(ge=0, le=3600)]
_allocated: Final[list[bytearray]] = []


@method("debug.echo", idempotent=True)
async def echo(value: Any = None) -> Any:
    """Return ``value``."""
    return value


@method("debug.sleep", max_timeout_ms=3_600_000)
async def sleep(seconds: Seconds, ctx: Context) -> dict[str, Any]:
    """Sleep on the event loop; a cancel ends the call at once."""
    await asyncio.sleep(seconds)
    return {"slept": seconds, "worker_id": ctx.worker_id}


@method("debug.spin")
def spin(seconds: Seconds) -> dict[str, Any]:
    """Hold the interpreter lock, like native code that hangs: nothing else runs in this executor."""
    libc = ctypes.PyDLL(None)  # unlike CDLL, it keeps the lock during the call
    microseconds = int(seconds * 1e6)
    while microseconds > 0:
        part = min(microseconds, 900_000)  # POSIX allows usleep less than a second
        libc.usleep(part)
        microseconds -= part
    return {"spun": seconds}


@method("debug.count")
async def count(
    n: Annotated[int, Field(ge=0, le=10_000_000)],
    interval_ms: Annotated[float, Field(ge=0)] = 0,
    size: Annotated[int, Field(ge=0, le=10_000_000)] = 0,
    fail_at: int | None = None,
) -> AsyncIterator[dict[str, Any]]:
    """Stream n numbered chunks, each with ``size`` bytes of padding; raise at chunk ``fail_at``."""
    padding = "x" * size
    for index in range(n):
        if index == fail_at:
            raise RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, f"debug.count was told to fail at chunk {index}")
        yield {"index": index, "padding": padding} if size else {"index": index}
        await asyncio.sleep(interval_ms / 1000)


@method("debug.crash")
def crash(signal: str = "SIGKILL") -> None:
    """End this executor by a signal, as a segfault or the out-of-memory killer would."""
    try:
        number = signals.Signals[signal]
    except KeyError:
        raise RpcError(ErrorCode.INVALID_PARAMS, f"debug.crash: signal: no signal {signal!r:.50}") from None
    if number == signals.SIGTERM:
        number = signals.SIGKILL  # executors ignore SIGTERM, which is for the hub
    os.kill(os.getpid(), number)


@method("debug.allocate")
def allocate(mb: Annotated[int, Field(ge=0, le=65_536)]) -> dict[str, Any]:
    """Allocate ``mb`` MiB, which this executor keeps until it ends."""
    block = bytearray(mb << 20)
    block[::4096] = b"\x01" * len(range(0, len(block), 4096))
    _allocated.append(block)
    return {"held_mb": sum(len(held) for held in _allocated) >> 20}


@method("debug.fail", idempotent=True)
async def fail(message: str = "failed as asked") -> None:
    """Raise a RuntimeError, as a method with a bug would."""
    raise RuntimeError(message)


@method("debug.unserializable", idempotent=True)
async def unserializable(kind: str = "object") -> Any:
    """Return something JSON has no form for: ``object``, ``nan``, ``big``."""
    values: dict[str, Any] = {
        "object": object(),
        "nan": {"score": float("nan")},
        "big": 2**60,
    }
    return values.get(kind, complex(1, 1))


@method("debug.pid", idempotent=True)
async def pid(ctx: Context) -> dict[str, Any]:
    """Return the process id and the name of the executor that runs the call."""
    return {"pid": os.getpid(), "worker_id": ctx.worker_id}


@method("debug.call", idempotent=True)
async def call(method: str, ctx: Context, params: dict[str, Any] | None = None) -> Any:
    """Call another method through the hub, and return its result."""
    return await ctx.call(method, params)
