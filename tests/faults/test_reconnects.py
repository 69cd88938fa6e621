"""Faults 12 and 25: clients that vanish, and very many that come back at once."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
import time
from pathlib import Path

import pytest

from tests.support.frames import TEXT, frame, upgraded
from tests.support.hub import MODULES, RunningHub, ready_hub
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, SCALE, eventually, until

CROWD = 2_000


async def in_flight(connection: Peer) -> int:
    return int((await connection.result("health.check"))["active_requests"])


async def settled(connection: Peer) -> None:
    """Wait until no call is in flight but the one that asks: sooner than any of them would end by itself."""

    async def alone() -> bool:
        return await in_flight(connection) == 1

    await until(alone, "the calls of who vanished are gone")


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_fault_12_queued_and_cooperative_work_of_a_vanished_client_is_gone_at_once(how: str) -> None:
    with ready_hub(env={"TRUNKLINE_MAX_CONCURRENCY": "2"}) as hub:
        async with peer(hub.url) as watcher:
            vanishing = await asyncio.to_thread(upgraded, hub.port)
            for number in range(10):  # two run, eight wait
                call = {"jsonrpc": "2.0", "id": number, "method": "debug.sleep", "params": {"seconds": 600}}
                vanishing.sendall(frame(TEXT, json.dumps(call).encode()))
            async with asyncio.timeout(PATIENCE):
                while await in_flight(watcher) < 11:
                    await asyncio.sleep(0.01)
            if how == "reset":  # no FIN: the peer's machine is gone and comes back
                vanishing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            vanishing.close()
            await settled(watcher)
            assert await watcher.result("debug.echo", {"value": 1}) == 1, "the slots are free"


async def test_fault_12_work_whose_caller_vanished_cleans_up(tmp_path: Path) -> None:
    marker = tmp_path / "cleaned"
    with ready_hub("lab", cwd=MODULES) as hub:
        async with peer(hub.url) as watcher:
            async with peer(hub.url) as vanishing:
                await vanishing.request("lab.cleanup", {"marker": str(marker)})
                # In flight is not running yet: what is cancelled before it began has nothing to clean up.
                await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "it runs")
                vanishing.socket.transport.abort()
            await settled(watcher)
            await asyncio.to_thread(eventually, marker.exists, "the method has cleaned up")


@pytest.mark.alone  # it measures time under load
async def test_fault_25_a_crowd_that_comes_back_at_once_starves_nobody() -> None:
    """All of them connect in one moment, twice, without any jitter, and each makes a call."""
    with ready_hub() as hub:
        async with peer(hub.url) as steady:
            waits: list[float] = []
            for _ in range(2):
                command = [sys.executable, "-m", "tests.support.crowd", str(hub.port), str(CROWD)]
                crowd = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
                answering = asyncio.create_task(crowd.communicate())
                while not answering.done():
                    started = time.monotonic()
                    await steady.result("debug.echo", {"value": 1})
                    waits.append(time.monotonic() - started)
                    await asyncio.sleep(0.005)
                assert json.loads((await answering)[0]) == {"answered": CROWD}
            waits.sort()
            said = f"who was connected waited {waits[len(waits) // 2]:.3f} s, at worst {waits[-1]:.3f} s"
            assert waits[len(waits) * 9 // 10] < 0.4 * SCALE, said
            assert waits[-1] < PATIENCE / 2, said
        await settled_connections(hub)


async def settled_connections(hub: RunningHub) -> None:
    def none_left() -> bool:
        return "trunkline_connections 0" in hub.get("/metrics").body.decode()

    await asyncio.to_thread(eventually, none_left, "the crowd is gone")
