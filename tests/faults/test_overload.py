"""Fault 20: ten times more calls than can be done. Who is refused hears it at once; as much gets done as before."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field

import pytest

from tests.support.frames import TEXT, RawSocket, frame, raw_socket
from tests.support.hub import ready_hub
from tests.support.peer import peer
from tests.support.timing import SCALE
from trunkline_protocol.errors import ErrorCode

pytestmark = pytest.mark.alone  # it measures time under load

SECONDS = 0.02
SLOTS = 8
QUEUE = 40
SECONDS_OF_LOAD = 3
CAPACITY = SLOTS / SECONDS
"""Calls a second that one executor with so many slots can do."""


@dataclass
class Outcomes:
    done: int = 0
    refusals: list[float] = field(default_factory=list)
    others: list[object] = field(default_factory=list)


async def offer(socket: RawSocket, rate: float, seconds: float, window: int | None = None) -> Outcomes:
    """Send calls at a rate, whatever comes back, but with no more than ``window`` on their way; wait for all outcomes.

    A window is for who is never to be refused, even where a process stands still for a while.
    """
    room = asyncio.Semaphore(window or 10**9)
    outcomes = Outcomes()
    sent: dict[int, float] = {}
    total = int(rate * seconds)

    async def read() -> None:
        for _ in range(total):
            message = json.loads((await socket.frame()).payload)
            waited = time.monotonic() - sent.pop(message["id"])
            room.release()
            error = message.get("error")
            if error is None:
                outcomes.done += 1
            elif error["code"] == ErrorCode.WORKER_OVERLOADED and error["data"]["retry_after_ms"] > 0:
                outcomes.refusals.append(waited)
            else:
                outcomes.others.append(error)

    reading = asyncio.create_task(read())
    started = time.monotonic()
    for number in range(total):
        if (ahead := started + number / rate - time.monotonic()) > 0.002:
            await asyncio.sleep(ahead)
        await room.acquire()
        sent[number] = time.monotonic()
        call = {"jsonrpc": "2.0", "id": number, "method": "debug.sleep", "params": {"seconds": SECONDS}}
        await socket.write(frame(TEXT, json.dumps(call).encode()))
    await reading
    return outcomes


async def test_fault_20_ten_times_overload() -> None:
    env = {"TRUNKLINE_MAX_CONCURRENCY": str(SLOTS), "TRUNKLINE_QUEUE_LIMIT": str(QUEUE)}
    with ready_hub(env=env) as hub:
        async with raw_socket(hub.port) as socket, peer(hub.url) as other:
            started = time.monotonic()
            calm = await offer(socket, CAPACITY * 0.9, SECONDS_OF_LOAD, SLOTS + QUEUE)
            peak = calm.done / (time.monotonic() - started)
            assert not calm.refusals
            started = time.monotonic()
            flooded = await offer(socket, CAPACITY * 10, SECONDS_OF_LOAD)
            seconds = time.monotonic() - started
            assert not flooded.others, flooded.others[:3]
            assert len(flooded.refusals) > 5 * flooded.done
            # Where nothing else runs nearly all of it; a collapse would leave next to nothing.
            assert flooded.done / seconds > 0.25 * peak, f"{flooded.done / seconds:.0f}/s of {peak:.0f}/s are left"
            flooded.refusals.sort()
            # Those of a moment in which a process stood still are late.
            assert flooded.refusals[len(flooded.refusals) // 4] < 0.05 * SCALE, "refusals are immediate"
            assert await other.result("rpc.ping"), "and the hub is well"
            health = await other.result("health.detailed")
            assert health["waiting_requests"] == 0
