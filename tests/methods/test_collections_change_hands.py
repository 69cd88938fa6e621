"""The pack ``vectors`` in a real hub: its collections change hands, and owners are killed, under load."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any, Final

import pytest

pytest.importorskip("faiss")

from tests.support.hub import RunningHub, ready_hub
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, until

NAMES: Final = ("news", "mail", "wiki")
OWNERS: Final = ("executor-0", "executor-1")
WINDOW: Final = 4
BATCH: Final = 3
RESTART: Final = 3 * PATIENCE
MAX_FOUND: Final = 1000


def item(id: str, number: int) -> dict[str, Any]:
    return {"id": id, "vector": [1.0, number % 7], "metadata": {"number": number}}


def ids(name: str, number: int) -> list[str]:
    return [f"{name}-{number % (MAX_FOUND // (BATCH + 1))}-{part}" for part in range(BATCH)]


async def write(hub: RunningHub, name: str, stop: asyncio.Event, acknowledged: dict[str, int]) -> None:
    """Upsert new ids, and one id again and again: the last acknowledged number is what it has to have."""
    async with peer(hub.url) as connection:
        calls: dict[Any, int] = {}
        number = 0
        while calls or not stop.is_set():
            if len(calls) < WINDOW and not stop.is_set():
                number += 1
                items = [item(id, number) for id in ids(name, number)]
                params = {"collection": name, "items": [*items, item(f"{name}-same", number)]}
                calls[await connection.request("vectors.upsert", params)] = number
                continue
            reply = await connection.receive(RESTART)
            assert "result" in reply, reply  # upserts may run again, so that none of them has to fail
            done = calls.pop(reply["id"])
            for id in (*ids(name, done), f"{name}-same"):
                acknowledged[id] = max(done, acknowledged.get(id, 0))


async def everything(connection: Peer, name: str) -> dict[str, int]:
    params = {"collection": name, "vector": [1.0, 0.0], "top_k": MAX_FOUND}
    matches = (await connection.result("vectors.search", params))["matches"]
    found = {match["id"]: match["metadata"]["number"] for match in matches}
    assert len(found) == len(matches), "an id is there twice"
    return found


async def test_no_acknowledged_upsert_is_lost_nor_doubled() -> None:
    with ready_hub("trunkline.methods.vectors", executors=2, env={"TRUNKLINE_REBALANCE_SECONDS": "0"}) as hub:
        async with peer(hub.url) as operator:
            for name in NAMES:
                await operator.result("collections.create", {"name": name, "dimension": 2})
            stop = asyncio.Event()
            acknowledged: dict[str, dict[str, int]] = {name: {} for name in NAMES}
            async with asyncio.TaskGroup() as group:
                for name in NAMES:
                    group.create_task(write(hub, name, stop, acknowledged[name]))
                for turn in range(6):
                    for name in NAMES:
                        await operator.result("executors.assign", {"key": name, "worker_id": OWNERS[turn % 2]})
                health = await operator.result("health.detailed")
                (owner,) = (each for each in health["executors"] if each["worker_id"] == OWNERS[1])
                os.kill(owner["pid"], signal.SIGKILL)
                await replaced(operator, owner["pid"])
                for name in NAMES:
                    await operator.result("executors.assign", {"key": name, "worker_id": OWNERS[1]})
                await operator.result("executors.drain", {"worker_id": OWNERS[1]}, within=RESTART)
                stop.set()
            for name in NAMES:
                assert len(acknowledged[name]) > 10
                assert await everything(operator, name) == acknowledged[name]
                stats = await operator.result("collections.stats", {"name": name})
                assert stats["count"] == len(acknowledged[name])


async def replaced(operator: Peer, killed: int) -> None:
    """Wait until another process is there instead."""

    async def back() -> bool:
        health = await operator.result("health.detailed")
        return health["status"] == "healthy" and killed not in {each["pid"] for each in health["executors"]}

    await until(back, "the killed executor is replaced", RESTART)
