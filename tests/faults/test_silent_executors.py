"""New work never goes to an executor that has fallen silent while another is free."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.peer import peer
from tests.support.timing import PATIENCE, until

HELD_SECONDS: Final = 4
PACE_SECONDS: Final = 0.05
NOTICED_SECONDS: Final = 1.0
"""Within them an executor that holds the lock has been silent, and shunned from then on."""


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, executors=2) as running:
        yield running


@pytest.mark.alone
@pytest.mark.parametrize("work", ["debug.pid", "debug.sleep"])
async def test_while_one_holds_the_interpreter_lock_calls_go_to_the_other(hub: RunningHub, work: str) -> None:
    """The lock is let go for a moment every 0.9 s, and the executor then answers what it was sent.

    Judged is a call that is made while the other executor is free, once the first can have been found silent: before,
    nothing tells it from the other, which a slow machine may have kept from answering a ping, too. One of ten may be
    made in the moment in which the machine stops the other. Half of them go wrong where nobody is shunned.
    """
    params = {} if work == "debug.pid" else {"seconds": 0.03}
    async with peer(hub.url) as holder, peer(hub.url) as caller:
        sent: list[Any] = []
        judged: set[Any] = set()
        ran: dict[Any, str] = {}

        async def read() -> None:
            while True:
                reply = await caller.receive(2 * PATIENCE)
                ran[reply["id"]] = reply["result"]["worker_id"]

        reading = asyncio.create_task(read())
        held = await holder.request("debug.spin", {"seconds": HELD_SECONDS})
        calls = (await holder.result("system.calls"))["calls"]
        (stuck,) = (call["executor"] for call in calls if call["method"] == "debug.spin")
        begun = time.monotonic()
        ended = asyncio.create_task(holder.reply(held, 2 * PATIENCE))
        while not ended.done():
            is_other_free = len(ran) == len(sent) and time.monotonic() > begun + NOTICED_SECONDS
            sent.append(await caller.request(work, params))
            if is_other_free:
                judged.add(sent[-1])
            await asyncio.sleep(PACE_SECONDS)  # the pace of the calls
        await until(lambda: len(ran) == len(sent), "all are answered")
        reading.cancel()
    wrong = sum(ran[call] == stuck for call in judged)
    assert wrong <= len(judged) / 10, f"{wrong} of {len(judged)} were for who holds the lock"
    assert len(judged) >= len(sent) / 10
