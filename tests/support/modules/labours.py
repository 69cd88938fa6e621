"""Methods that jobs are made of: idempotent, and each step they take is a line in a file."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from trunkline import Context, ErrorCode, RpcError, method


def done(folder: str) -> set[str]:
    """The steps that are done, in whatever process."""
    path = Path(folder, "steps")
    return set(path.read_text().split()) if path.exists() else set()


def note(folder: str, name: str, text: str) -> None:
    """One more word in a file."""
    with open(Path(folder, name), "a") as file:
        file.write(text)


def exists(folder: str, name: str) -> bool:
    """Whether the test has made it."""
    return Path(folder, name).exists()


def size(folder: str, name: str) -> int:
    """Of a file; 0 where there is none."""
    path = Path(folder, name)
    return path.stat().st_size if path.exists() else 0


@method("labours.steps", idempotent=True)
async def steps(folder: str, count: int, ctx: Context, hold_at: int | None = None) -> dict[str, Any]:
    """Do what is not done yet. Before step ``hold_at`` it waits for the file ``go``."""
    note(folder, "starts", f"{os.getpid()}\n")
    for step in range(count):
        if str(step) in done(folder):
            continue
        while step == hold_at and not exists(folder, "go"):
            await asyncio.sleep(0.01)
        note(folder, "steps", f"{step}\n")
        ctx.progress({"done": step + 1, "total": count})
    return {"steps": count, "pid": os.getpid()}


@method("labours.work", idempotent=True)
def work(marker: str, ctx: Context) -> str:
    """A plain function, until it is cancelled, or the file ``<marker>.go`` is there."""
    Path(marker + ".started").write_text(str(os.getpid()))
    while not Path(marker + ".go").exists():
        if ctx.cancelled:
            Path(marker).write_text("cancelled")
            ctx.raise_if_cancelled()
    return "done"


@method("labours.fail", idempotent=True)
async def fail(folder: str, code: int, times: int) -> str:
    """Fail so often, then succeed."""
    count = size(folder, "failures")
    if count < times:
        note(folder, "failures", "x")
        raise RpcError(code, f"as asked, {count + 1}")
    return "at last"


@method("labours.deadly", idempotent=True)
async def deadly(folder: str) -> None:
    """Kill whoever runs it."""
    note(folder, "deaths", "x")
    os.kill(os.getpid(), signal.SIGKILL)


@method("labours.large", idempotent=True)
async def large(length: int) -> str:
    return "x" * length


@method("labours.where", idempotent=True)
async def where(ctx: Context) -> dict[str, Any]:
    return {"metadata": ctx.metadata, "remaining": ctx.remaining, "depth": ctx.depth}


@method("labours.once")
async def once() -> None:
    """Not idempotent."""


@method("labours.later", idempotent=True)
async def later(method: str, params: Any, ctx: Context) -> Any:
    """Make a job of something, as a method that offers to be asynchronous does."""
    return await ctx.call("jobs.create", {"method": method, "params": params})


@method("labours.ask", idempotent=True)
async def ask(method: str, params: Any, ctx: Context) -> Any:
    """Call something of the hub."""
    try:
        return await ctx.call(method, params)
    except RpcError as error:
        if error.code == ErrorCode.INVALID_PARAMS:
            return {"refused": error.message}
        raise
