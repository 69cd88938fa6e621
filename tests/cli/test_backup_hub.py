"""A backup of a hub that is at work, which is killed then: what was acknowledged before is in it, each item whole."""

from __future__ import annotations

import asyncio
import base64
import itertools
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

pytest.importorskip("faiss")

from tests.support import jobs
from tests.support.command import trunkline
from tests.support.hub import MODULES, RunningHub
from tests.support.peer import peer
from tests.support.stored_collections import vector_of
from tests.support.timing import START, until
from trunkline.client import Hub, connect

CALLERS: Final = 4
UPSERTED: Final = 5
DIMENSION: Final = 32


class Upserts:
    """Callers that upsert again and again, each item with a text that its vector is made of."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.acknowledged: dict[str, int] = {}

    async def run(self, caller: int) -> None:
        for number in itertools.count():
            ids = [f"{caller}-{number % 50}-{each}" for each in range(UPSERTED)]
            items = [{"id": each, **content(each, number)} for each in ids]
            await self._hub.call("vectors.upsert", {"collection": "c", "items": items})
            self.acknowledged.update(dict.fromkeys(ids, number))


def content(id: str, number: int) -> dict[str, Any]:
    text = f"{id} {number}"
    return {"text": text, "vector": base64.b64encode(vector_of(text, DIMENSION).tobytes()).decode()}


@asynccontextmanager
async def upserts(hub: RunningHub) -> AsyncIterator[Upserts]:
    async with connect(hub.url, reconnect=False) as connected:
        await connected.call("collections.create", {"name": "c", "dimension": DIMENSION})
        at_work = Upserts(connected)
        tasks = [asyncio.create_task(at_work.run(caller)) for caller in range(CALLERS)]
        try:
            yield at_work
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def hub_at(data: Path) -> RunningHub:
    return RunningHub(["labours"], arguments=("--packs", "vectors", "--data", str(data)), cwd=MODULES, executors=1)


async def run_command(code: int, *arguments: str) -> str:
    """What the command says on stderr; it has to end with this code."""
    done = await asyncio.to_thread(trunkline, *arguments)
    assert done.returncode == code, done
    return done.stderr


async def stored(hub: RunningHub) -> dict[str, int]:
    """The numbers of the items that a hub has, each whole, and each upsert in it as a whole."""
    found: dict[str, int] = {}
    async with connect(hub.url, reconnect=False) as connected:
        async for chunk in await connected.stream("collections.export", {"name": "c"}):
            for item in chunk.data["items"]:
                id, number = item["text"].split()
                assert {part: item[part] for part in ("id", "text", "vector")} == {"id": id, **content(id, int(number))}
                found[id] = int(number)
    for group in {id.rpartition("-")[0] for id in found}:
        assert len({found[f"{group}-{each}"] for each in range(UPSERTED)}) == 1, "an upsert is in it by half"
    return found


async def test_what_was_acknowledged_before_a_backup_is_in_it_though_the_hub_is_at_work_and_then_killed(
    tmp_path: Path,
) -> None:
    data, file, new = tmp_path / "data", tmp_path / "file.tar", tmp_path / "new"
    with hub_at(data) as hub:
        async with peer(hub.ready().url) as one:
            over = await jobs.job(one, "labours.steps", {"folder": str(tmp_path), "count": 1})
            await jobs.until(one, over["id"])
            held = {"folder": str(tmp_path), "count": 2, "hold_at": 1}
            running = await jobs.job(one, "labours.steps", held)
            await jobs.until(one, running["id"], "running")
            async with upserts(hub) as at_work:
                await until(lambda: len(at_work.acknowledged) >= 400, "upserts are under way", START)
                before = dict(at_work.acknowledged)
                assert "collections 1, " in await run_command(0, "backup", str(file), "--data", str(data))
                behind = dict(at_work.acknowledged)
                await until(lambda: at_work.acknowledged != behind, "upserts go on", START)
            said = await run_command(1, "restore", str(file), "--data", str(data), "--replace")
            assert "collections/c is in use: process" in said
            assert "jobs is in use: process" in said
        hub.process.kill()
        hub.wait_ended(-signal.SIGKILL)
    await run_command(0, "restore", str(file), "--data", str(new))
    with hub_at(new) as hub:
        found = await stored(hub.ready())
        assert found.keys() >= before.keys()
        assert [id for id, number in before.items() if found[id] < number] == []
        async with peer(hub.url) as one:
            assert (await jobs.until(one, over["id"]))["result"]["steps"] == 1
            (tmp_path / "go").touch()
            again = await jobs.until(one, running["id"], within=START)
            assert (again["status"], again["attempts"]) == ("succeeded", 2)
