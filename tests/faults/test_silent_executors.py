"""New work never goes to an executor that has fallen silent while another is free."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, SCALE

HELD_SECONDS: Final = 6
CALLS_PER_SECOND: Final = 20
WAIT_SECONDS: Final = 0.6 * SCALE


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, executors=2) as running:
        yield running


async def answered(caller: Peer, sent: dict[Any, float]) -> list[float]:
    """The seconds until each of these calls is answered, in the order of the answers."""
    took: list[float] = []
    while len(took) < HELD_SECONDS * CALLS_PER_SECOND:
        reply = await caller.receive()
        took.append(time.monotonic() - sent[reply["id"]])
    return took


@pytest.mark.alone
@pytest.mark.parametrize("work", ["debug.echo", "debug.sleep"])
async def test_while_one_holds_the_interpreter_lock_calls_go_to_the_other(hub: RunningHub, work: str) -> None:
    """The lock is let go for a moment every 0.9 s, and the executor then answers what it was sent."""
    params = {"value": 1} if work == "debug.echo" else {"seconds": 0.03}
    async with peer(hub.url) as holder, peer(hub.url) as caller:
        sent: dict[Any, float] = {}
        reading = asyncio.create_task(answered(caller, sent))
        held = await holder.request("debug.spin", {"seconds": HELD_SECONDS})
        for _ in range(HELD_SECONDS * CALLS_PER_SECOND):
            sent[await caller.request(work, params)] = time.monotonic()
            await asyncio.sleep(1 / CALLS_PER_SECOND)  # the pace of the calls
        took = await asyncio.wait_for(reading, PATIENCE)
        await holder.reply(held)
    late = [round(seconds, 2) for seconds in took if seconds > WAIT_SECONDS]
    assert late == [], f"{len(late)} of {len(took)} waited"
