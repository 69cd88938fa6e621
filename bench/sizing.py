"""What a hub needs, for choosing a machine: ``python -m bench.sizing``.

Memory and descriptors of hub, executors, models and connections, the CPU time of a call in hub and executor, and what
that means for the queue. They are of this machine, which is printed first; docs/production.md has those of another.
Memory is RSS: what processes share, such as the interpreter, counts in each of them.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

import psutil
import websockets

from bench.servers import Running, allow_many_files, hub_process
from trunkline.client import connect
from trunkline.methods.packs import missing_modules
from trunkline_protocol.backlog import QUEUE_LIMIT

MIB: Final = 2**20
IN_FLIGHT: Final = 100


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has: RSS in bytes, open descriptors, seconds of CPU."""

    memory: int
    descriptors: int
    seconds: float

    @classmethod
    def of(cls, process: psutil.Process) -> Usage:
        """Of a process, now."""
        times = process.cpu_times()
        return cls(process.memory_info().rss, process.num_fds(), times.user + times.system)


@contextmanager
def hub_and_executor(*arguments: str) -> Iterator[tuple[Running, psutil.Process, psutil.Process]]:
    """A hub with one executor, and the processes of both."""
    with hub_process("--executors", "1", *arguments) as hub:
        process = psutil.Process(hub.pid)
        (executor,) = process.children()
        yield hub, process, executor


async def connected(hub: Running, process: psutil.Process, count: int) -> tuple[float, float]:
    """The memory in bytes and the descriptors that one of many connections takes."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(websockets.connect(hub.url))  # what the first one loads is no connection's
        before = Usage.of(process)
        for _ in range(count):
            await stack.enter_async_context(websockets.connect(hub.url))
        after = Usage.of(process)
    return (after.memory - before.memory) / count, (after.descriptors - before.descriptors) / count


async def call(hub: Running, count: int) -> None:
    """Call ``debug.echo``, some at once."""
    async with connect(hub.url) as client:
        for _ in range(count // IN_FLIGHT):
            await asyncio.gather(*(client.call("debug.echo", {"value": "x" * 100}) for _ in range(IN_FLIGHT)))


def models() -> Iterator[tuple[str, float]]:
    """The memory in bytes of an executor, by what it serves, as far as that is installed."""
    for packs in ("vectors", "embeddings", "embeddings,vectors,documents,rag"):
        if not any(missing_modules(name) for name in packs.split(",")):
            with hub_and_executor("--packs", packs, "--no-demo") as (hub, _process, executor):
                asyncio.run(warm(hub, packs))
                yield packs, Usage.of(executor).memory


async def warm(hub: Running, packs: str) -> None:
    """Have the model loaded, where there is one."""
    if "embeddings" in packs:
        async with connect(hub.url) as client:
            await client.call("embeddings.create", {"input": "a text"}, timeout_ms=120_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--no-models", action="store_true")
    options = parser.parse_args()
    allow_many_files()
    print(
        f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}, ",
        end="",
    )
    print(f"trunkline {version('trunkline')}")
    with hub_and_executor() as (hub, process, executor):
        idle, worker = Usage.of(process), Usage.of(executor)
        print(f"hub with one executor        {idle.memory / MIB:6.0f} MiB  {idle.descriptors:4} descriptors")
        print(f"executor without packs       {worker.memory / MIB:6.0f} MiB")
        memory, descriptors = asyncio.run(connected(hub, process, options.connections))
        print(f"connection, silent           {memory / 1024:6.1f} KiB  {descriptors:4.1f} descriptors")
        asyncio.run(call(hub, options.calls // 10))
        before = Usage.of(process), Usage.of(executor)
        asyncio.run(call(hub, options.calls))
        after = Usage.of(process), Usage.of(executor)
    for name, first, last in zip(("hub", "executor"), before, after, strict=True):
        cost = (last.seconds - first.seconds) / options.calls
        print(f"call of 100 bytes, {name:<10}{cost * 1e6:6.0f} us of CPU, so {1 / cost:,.0f} a second by a core")
    if not options.no_models:
        for packs, size in models():
            print(f"executor with {packs:<33}{size / MIB:6.0f} MiB")
    for milliseconds in (1, 20, 500):
        waited = QUEUE_LIMIT * milliseconds / 1000
        print(f"queue of {QUEUE_LIMIT} calls of {milliseconds} ms each: {waited:,.0f} s of work for one executor")


if __name__ == "__main__":
    main()
