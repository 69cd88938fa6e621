"""Methods of executors that run in the test's own process, where a test holds them back and lets them go by events."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from trunkline import Context, ErrorCode, InputStream, RpcError, method


class Stage:
    """What tests and methods know of each other; anew for each test.

    Attributes:
        started: set by a method that holds, by name.
        go: what it waits for.
        trouble: what loading raises.
        loading_holds: whether loading waits, under the name ``load``.
        closed: the instances that were closed.
        released: the instance, and the keys of it that were released.
    """

    def __init__(self) -> None:
        self.started: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.go: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.trouble: BaseException | None = None
        self.loading_holds = False
        self.closed: list[int] = []
        self.released: list[tuple[int, list[str]]] = []
        self.numbers = itertools.count(1)

    async def hold(self, name: str) -> None:
        self.started[name].set()
        await self.go[name].wait()


stage = Stage()


class Served:
    """One for each time that an executor has loaded this module: its number is in what it answers."""

    async def load(self, _settings: Mapping[str, Any]) -> None:
        if stage.loading_holds:
            await stage.hold("load")
        if stage.trouble is not None:
            raise stage.trouble
        self.number = next(stage.numbers)
        self.kept: set[str] = set()

    async def release(self, released: Callable[[str], bool]) -> None:
        gone = sorted(key for key in self.kept if released(key))
        self.kept -= set(gone)
        stage.released.append((self.number, gone))

    def clear_cache(self, cache_type: str) -> dict[str, dict[str, int]]:
        if cache_type == "broken":
            raise OSError("the disk is gone")
        return {cache_type: {"entries": self.number, "bytes": 10}}

    async def close(self) -> None:
        stage.closed.append(self.number)

    @method("served.number")
    async def own_number(self) -> int:
        return self.number

    @method("served.hold", timeout_ms=60_000)
    async def hold(self, name: str) -> int:
        await stage.hold(name)
        return self.number

    @method("served.hold_again", idempotent=True, timeout_ms=60_000)
    async def hold_again(self, name: str) -> int:
        await stage.hold(name)
        return self.number

    @method("served.keep", routing_key="key", timeout_ms=60_000)
    async def keep(self, key: str, name: str = "") -> int:
        self.kept.add(key)
        if name:
            await stage.hold(name)
        return self.number

    @method("served.mended", idempotent=True, recovery=("restart_worker",))
    async def mended(self, broken: int) -> int:
        if self.number == broken:
            raise RpcError(ErrorCode.WORKER_CRASHED, "the device is gone")
        return self.number


@method("served.echo", idempotent=True)
async def echo(value: Any) -> Any:
    return value


@method("served.plain")
def plain(value: int) -> int:
    return value + 1


@method("served.fail")
async def fail(code: int | None = None) -> None:
    if code is None:
        raise ZeroDivisionError("a mistake")
    raise RpcError(code, "on purpose")


@method("served.count")
async def count(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


@method("served.add")
async def add(numbers: InputStream[int]) -> int:
    return sum([number async for number in numbers])


@method("served.call")
async def call(method: str, params: dict[str, Any], ctx: Context) -> Any:
    return await ctx.call(method, params)


@method("served.relay")
async def relay(n: int, ctx: Context, enough: int = 1000) -> list[int]:
    found: list[int] = []
    async for chunk in ctx.stream("served.count", {"n": n}):
        found.append(chunk.data)
        if len(found) == enough:
            break
    return found


@method("served.report")
async def report(ctx: Context) -> None:
    ctx.progress({"done": 1})
    await ctx.run_in_thread(ctx.progress, {"done": 2})
