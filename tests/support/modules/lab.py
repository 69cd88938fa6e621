"""Methods as users write them: found in the working directory, served with ``--methods lab``."""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from trunkline import Chunk, Context, ErrorCode, RpcError, event, method
from trunkline.methods import debug
from trunkline.methods.inputs import InputStream

loaded: dict[str, Any] = {}


@event("lab.parcels.*")
@dataclasses.dataclass
class Parcel:
    """When a parcel is somewhere else."""

    place: str


def leave(marker: str, text: str = "") -> None:
    """A file that the test looks for."""
    Path(marker).write_text(text)


def count(marker: str) -> None:
    """One more letter in the file."""
    with open(marker, "a") as file:
        file.write("x")


def is_there(path: Path) -> bool:
    """Whether the test has made it."""
    return path.exists()


def letters(marker: str) -> int:
    """How many are in the file."""
    return Path(marker).stat().st_size


running = threading.Semaphore(1)
"""Held while a plain function runs: two at once would show."""


class Point(BaseModel):
    x: float
    y: float = 0.0
    born: date | None = None


@dataclasses.dataclass
class Score:
    value: float


@method("lab.upper", idempotent=True)
async def upper(text: str, ctx: Context) -> str:
    """Upper case.

    Only the first paragraph is the summary.
    """
    return text.upper()


@method("lab.where", idempotent=True)
async def where(ctx: Context) -> dict[str, Any]:
    return {"worker_id": ctx.worker_id, "pid": os.getpid(), "depth": ctx.depth, "metadata": ctx.metadata}


@method("lab.remaining")
async def remaining(ctx: Context) -> float | None:
    return ctx.remaining if ctx.remaining != float("inf") else None


@method("lab.alone")
def alone(seconds: float) -> dict[str, Any]:
    """A plain function that notices company."""
    if not running.acquire(blocking=False):
        raise RuntimeError("two plain functions run at once in one executor")
    try:
        time.sleep(seconds)
        return {"pid": os.getpid(), "thread": threading.current_thread().name}
    finally:
        running.release()


@method("lab.until_cancelled")
def until_cancelled(marker: str, ctx: Context) -> str:
    """A plain function that looks whether it is still wanted."""
    leave(marker + ".started")
    while not ctx.cancelled:
        time.sleep(0.005)
    leave(marker, "cancelled")
    return "late"


@method("lab.deaf")
def deaf(marker: str) -> None:
    """Native code that holds the interpreter lock: this executor hears nothing more."""
    leave(marker)
    ctypes.PyDLL(None).sleep(60)  # unlike CDLL, it keeps the lock, and never gives it up in between


@method("lab.native")
def native(marker: str) -> None:
    """Native code that holds the interpreter lock for as long as the test has the file at ``marker.lock`` locked."""
    with open(f"{marker}.lock") as lock:
        leave(marker)
        while ctypes.PyDLL(None).flock(lock.fileno(), 1):  # LOCK_SH; a signal ends the wait
            pass


@method("lab.cleanup")
async def cleanup(marker: str) -> None:
    """A coroutine that leaves a trace when it is cancelled."""
    leave(marker + ".started")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        leave(marker, "cancelled")
        raise


@method("lab.counted")
def counted(n: Annotated[int, Field(ge=0)]) -> Generator[int, None, dict[str, int]]:
    """A plain generator with a result of its own."""
    yield from range(n)
    return {"counted": n}


@method("lab.flood")
def flood(n: int, marker: str, size: int = 1) -> Iterator[str]:
    """A plain generator that tells how far it came."""
    try:
        for index in range(n):
            leave(marker, str(index + 1))
            yield "x" * size
    finally:
        leave(marker + ".closed")


@method("lab.typed")
async def typed(ctx: Context) -> AsyncIterator[Chunk]:
    """Chunks with types, and a summary."""
    yield Chunk("metadata", {"n": 2})
    yield Chunk("document", {"id": "d"})
    yield Chunk("partial_answer", {"text": "hello"})
    ctx.set_result({"answer": "hello"})


@method("lab.big_chunks")
async def big_chunks(n: int, size: int) -> AsyncIterator[str]:
    """As fast as credit allows."""
    for index in range(n):
        yield f"{index:08}" + "x" * (size - 8)


@method("lab.bad_chunk")
async def bad_chunk() -> AsyncIterator[Any]:
    yield 1
    yield object()


@method("lab.move")
async def move(point: Point, by: Point) -> Point:
    """Models in, model out."""
    return Point(x=point.x + by.x, y=point.y + by.y, born=point.born)


@method("lab.lies")
async def lies() -> int:
    """Promises a number."""
    return "not a number"  # type: ignore[return-value]


@method("lab.nan_inside")
async def nan_inside(kind: str) -> Any:
    """A float that is not finite, where it is easily missed."""
    values = {
        "dict": {"a": [float("inf")]},
        "dataclass": Score(float("nan")),
        "model": Point(x=float("nan")),
        "set": {float("nan")},
        "dataclass_in_list": [{"scores": (Score(float("-inf")),)}],
    }
    return values[kind]


@method("lab.typed_error")
async def typed_error() -> None:
    raise RpcError(ErrorCode.INVALID_CONFIGURATION, "dimension 3 does not fit 384", data={"expected": 384})


@method("lab.own_code")
async def own_code() -> None:
    raise RpcError(4242, "an application's own code")


@method("lab.progress")
async def progress(steps: int, ctx: Context) -> int:
    """Reports up to its very end."""
    for step in range(steps):
        ctx.progress({"step": step + 1})
        await asyncio.sleep(0)
    ctx.progress({"step": "done"})
    return steps


@method("lab.thread_progress")
def thread_progress(steps: int, ctx: Context) -> int:
    for step in range(steps):
        ctx.progress({"step": step + 1})
    return steps


@method("lab.reports")
async def reports(values: list[Any], ctx: Context) -> str:
    """Reports what it is told to."""
    for value in values:
        ctx.progress(value)
    return "done"


@method("lab.dive")
async def dive(levels: int, ctx: Context) -> int:
    """Call itself so many times; returns the depth it reached."""
    if levels == 0:
        return ctx.depth
    return await ctx.call("lab.dive", {"levels": levels - 1})  # type: ignore[no-any-return]


@method("lab.fan_out")
async def fan_out(method: str, params: list[dict[str, Any]], ctx: Context) -> list[Any]:
    """Many nested calls at once."""
    return list(await asyncio.gather(*(ctx.call(method, each) for each in params)))


@method("lab.nested_timeout")
async def nested_timeout(timeout_ms: int, ctx: Context) -> Any:
    try:
        return await ctx.call("debug.sleep", {"seconds": 30}, timeout_ms=timeout_ms)
    except RpcError as error:
        return {"code": error.code}


@method("lab.relay")
async def relay(
    method: str, params: dict[str, Any], ctx: Context, stop_after: int | None = None, timeout_ms: int | None = None
) -> AsyncIterator[Any]:
    """Stream another method's stream."""
    taken = 0
    async for chunk in ctx.stream(method, params, timeout_ms=timeout_ms):
        yield chunk
        taken += 1
        if taken == stop_after:
            break


@method("lab.sum")
async def total(numbers: InputStream[int], start: int = 0) -> int:
    """Add what the caller pushes."""
    async for number in numbers:
        start += number
    return start


@method("lab.echo_input")
async def echo_input(items: InputStream[Any]) -> AsyncIterator[Any]:
    """Say what the caller pushes."""
    async for item in items:
        yield item


@method("lab.picky")
async def picky(items: InputStream[Any], marker: str) -> None:
    """Take an item whenever the file at ``marker`` has one more letter; tell of the end of it all."""
    leave(marker + ".started")
    try:
        for taken in range(10**9):
            while letters(marker) <= taken:
                await asyncio.sleep(0.005)
            await anext(items)
    finally:
        leave(marker + ".ended")


@method("lab.eats", idempotent=True)
async def eats(items: InputStream[Any], marker: str, wait_first: bool = False) -> list[Any]:
    """Kill the executor at the first run: before, or after, the first item comes. Declared idempotent."""
    if wait_first:
        await anext(items)
    _survive_second_time(marker, "SIGKILL")
    return [item async for item in items]


@method("lab.once")
async def once(marker: str) -> dict[str, Any]:
    """Kill the executor at the first run. Not declared idempotent."""
    return _survive_second_time(marker, "SIGKILL")


@method("lab.again", idempotent=True)
async def again(marker: str, signal_name: str = "SIGKILL") -> dict[str, Any]:
    """Kill the executor at the first run. Declared idempotent."""
    return _survive_second_time(marker, signal_name)


@method("lab.always_fatal", idempotent=True)
async def always_fatal(marker: str) -> None:
    """Kill every executor that runs it, and count."""
    count(marker)
    os.kill(os.getpid(), signal.SIGKILL)


@method("lab.chunk_then_die", idempotent=True)
async def chunk_then_die(marker: str) -> AsyncIterator[int]:
    count(marker)
    yield 0
    await asyncio.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


def _survive_second_time(marker: str, signal_name: str) -> dict[str, Any]:
    path = Path(marker)
    if not path.exists():
        path.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.Signals[signal_name])
    return {"first": int(path.read_text()), "second": os.getpid()}


@method("lab.owned", routing_key="key", idempotent=True)
async def owned(key: str, value: int = 0) -> dict[str, Any]:
    return {"worker": os.getpid(), "value": value}


@method("lab.short", timeout_ms=150)
async def short(seconds: float) -> str:
    """Has a default deadline of its own."""
    await asyncio.sleep(seconds)
    return "done"


@method("lab.capped", max_timeout_ms=150)
async def capped(seconds: float) -> str:
    """Does not let callers wait long."""
    await asyncio.sleep(seconds)
    return "done"


@method("lab.print")
async def prints(text: str) -> str:
    """Writes to standard output, which is the hub's to use."""
    print(text, flush=True)
    return text


class Store:
    """A class with a load step."""

    def __init__(self) -> None:
        self._settings: dict[str, Any] | None = None

    async def load(self, settings: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        self._settings = dict(settings)

    @method("lab.store.settings", idempotent=True)
    async def settings(self) -> list[str]:
        assert self._settings is not None, "served before it was loaded"
        return sorted(self._settings)

    @method("lab.store.add")
    def add(self, left: int, right: int = 1) -> int:
        return left + right


@method("lab.counted_run")
async def counted_run(marker: str) -> str:
    """Leaves one letter for each time it runs."""
    with Path(marker).open("a") as file:  # noqa: ASYNC230
        file.write("x")
    return "done"


@method("lab.counted_wait")
async def counted_wait(marker: str) -> None:
    """Leaves one letter for each time it runs, and never answers."""
    with Path(marker).open("a") as file:  # noqa: ASYNC230
        file.write("x")
    await asyncio.Event().wait()


@method("lab.calls_later")
async def calls_later(folder: str, method: str, ctx: Context) -> Any:
    """Wait for the file ``go``, and call another method then."""
    while not is_there(Path(folder, "go")):
        await asyncio.sleep(0.01)
    return await ctx.call(method, {"value": "called while it stopped"})


@method("lab.later")
async def later(seconds: float, size: int) -> str:
    """A large answer, after a while."""
    await asyncio.sleep(seconds)
    return "y" * size


@method("lab.publish")
async def publish(topic: str, data: Any, ctx: Context, key: str | None = None) -> Any:
    """Publish an event."""
    return await ctx.publish(topic, data, idempotency_key=key)


@method("lab.pass_point")
async def pass_point(method: str, ctx: Context) -> Any:
    """Call with what is more than JSON's own types."""
    return await ctx.call(method, {"value": {"point": Point(x=1, born=date(2026, 1, 2)), "seen": {1}}})


@method("lab.pass_nan")
async def pass_nan(ctx: Context, how: str) -> Any:
    """Hand on what JSON cannot carry."""
    if how == "publish":
        return await ctx.publish("lab.nan", {"x": [float("nan")]})
    if how == "progress":
        ctx.progress(float("inf"))
    return await ctx.call("debug.echo", {"value": object()})


@method("lab.where_streamed")
async def where_streamed(ctx: Context) -> AsyncIterator[Any]:
    """What ``lab.where`` says, as a stream's only chunk."""
    yield await where(ctx)


@method("lab.deadly", idempotent=True)
async def deadly(marker: str, poison: bool = False, seconds: float = 0) -> dict[str, Any]:
    """Kill the executor where the params say so, and count; else sleep. Declared idempotent."""
    count(marker)
    if poison:
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(seconds)
    return {"pid": os.getpid()}


@method("lab.deadly_once")
def deadly_once(marker: str, poison: bool = False) -> dict[str, Any]:
    """The same as a plain function that is not declared idempotent."""
    count(marker)
    if poison:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"pid": os.getpid()}


@method("lab.stuck")
def stuck(marker: str, seconds: float) -> None:
    """Native code that holds the interpreter lock; the file says that it runs."""
    count(marker)
    debug.spin(seconds)
