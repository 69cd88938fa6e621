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

HELD_SECONDS: Final = 4
CALLS_PER_SECOND: Final = 20
WAIT_SECONDS: Final = 0.6 * SCALE
NOTICED_SECONDS: Final = 1.0
"""Within them an executor that holds the lock has been silent, and shunned from then on."""


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, executors=2) as running:
        yield running


async def answered(caller: Peer, sent: dict[Any, float], took: dict[Any, float]) -> None:
    """Note the seconds until each of these calls is answered."""
    while len(took) < HELD_SECONDS * CALLS_PER_SECOND:
        reply = await caller.receive()
        took[reply["id"]] = time.monotonic() - sent[reply["id"]]


@pytest.mark.alone
@pytest.mark.parametrize("work", ["debug.echo", "debug.sleep"])
async def test_while_one_holds_the_interpreter_lock_calls_go_to_the_other(hub: RunningHub, work: str) -> None:
    """The lock is let go for a moment every 0.9 s, and the executor then answers what it was sent.

    Judged is a call that is made while the other executor is free, once the first can have been found silent: before,
    nothing tells it from the other, which a slow machine may have kept from answering a ping, too.
    """
    params = {"value": 1} if work == "debug.echo" else {"seconds": 0.03}
    async with peer(hub.url) as holder, peer(hub.url) as caller:
        sent: dict[Any, float] = {}
        took: dict[Any, float] = {}
        judged: set[Any] = set()
        reading = asyncio.create_task(answered(caller, sent, took))
        held = await holder.request("debug.spin", {"seconds": HELD_SECONDS})
        begun = time.monotonic()
        for _ in range(HELD_SECONDS * CALLS_PER_SECOND):
            is_other_free = len(took) == len(sent) and time.monotonic() > begun + NOTICED_SECONDS
            call = await caller.request(work, params)
            sent[call] = time.monotonic()
            if is_other_free:
                judged.add(call)
            await asyncio.sleep(1 / CALLS_PER_SECOND)  # the pace of the calls
        await asyncio.wait_for(reading, PATIENCE)
        await holder.reply(held)
    late = [round(took[call], 2) for call in judged if took[call] > WAIT_SECONDS]
    assert late == [], f"{len(late)} of {len(judged)} waited"
    assert len(judged) >= len(sent) / 2
