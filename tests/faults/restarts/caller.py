"""A caller: ``python -m tests.faults.restarts.caller URL FIRST CALLS AT_ONCE``.

Says that it is connected, waits for a line, then prints the outcome of each call, a line of JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict

from tests.faults.restarts.calls import METHODS, Ended
from trunkline.client import DisconnectedError, Hub, connect
from trunkline_protocol.errors import RpcError


async def call(hub: Hub, n: int) -> Ended:
    """Make one, whatever comes of it."""
    method, idempotent = list(METHODS.items())[n % len(METHODS)]
    begun = time.monotonic()
    error, maybe_executed = "", False
    try:
        if await hub.call(method, {"n": n}, idempotent=idempotent) != n:
            error = "wrong"
    except (RpcError, DisconnectedError) as failed:
        error, maybe_executed = f"{type(failed).__name__} {failed}", failed.maybe_executed
    return Ended(n, method, error, maybe_executed, time.monotonic() - begun)


async def lane(hub: Hub, numbers: Iterator[int]) -> None:
    """One call after the other, of what is left."""
    for n in numbers:
        print(json.dumps(asdict(await call(hub, n))), flush=True)


async def main(url: str, first: int, calls: int, at_once: int) -> None:
    """Make all calls."""
    numbers = iter(range(first, first + calls))
    async with connect(url) as hub, asyncio.TaskGroup() as group:
        print("connected", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for _ in itertools.repeat(None, at_once):
            group.create_task(lane(hub, numbers))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
