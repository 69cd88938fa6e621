"""Fault 28: out of file descriptors. Accepting pauses, who is connected lives, nothing leaks."""

from __future__ import annotations

import asyncio
import resource
import sys
from contextlib import AsyncExitStack

import psutil
import pytest

from tests.support.hub import RunningHub, ready_hub
from tests.support.peer import Peer, peer
from tests.support.timing import PATIENCE, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits another process's descriptors")


def descriptors(hub: RunningHub) -> int:
    return psutil.Process(hub.process.pid).num_fds()


async def test_fault_28_accept_pauses_and_existing_connections_live() -> None:
    with ready_hub() as hub:
        _soft, hard = resource.prlimit(hub.process.pid, resource.RLIMIT_NOFILE)
        limit = descriptors(hub) + 48 + 20  # what the hub reserves, and room for twenty
        async with AsyncExitStack() as stack, peer(hub.url) as first:
            resource.prlimit(hub.process.pid, resource.RLIMIT_NOFILE, (limit, hard))
            peers = await connect_until_refused(hub, stack)
            assert 10 <= len(peers) <= 25
            await asyncio.to_thread(hub.wait_for, "out of file descriptors")
            for each in (first, *peers):
                assert await each.result("debug.echo", {"value": 1}) == 1
            waiting = asyncio.create_task(late(hub))
            await asyncio.sleep(0.5)  # it is not to be answered, nor refused
            assert not waiting.done(), "it waits in the backlog; it is not turned away"
            for each in peers[:5]:
                await each.socket.close()
            assert await asyncio.wait_for(waiting, PATIENCE) == 1
            # An executor that dies now is replaced: descriptors for that were kept.
            victim = next(iter(hub.executor_pids()))
            psutil.Process(victim).kill()
            eventually(lambda: hub.executor_pids() - {victim}, "the executor is replaced")
            async with asyncio.timeout(PATIENCE):
                while (await first.result("health.check"))["status"] != "healthy":
                    await asyncio.sleep(0.02)


async def connect_until_refused(hub: RunningHub, stack: AsyncExitStack) -> list[Peer]:
    """Connect until the hub says that it cannot any more: that it is not quick enough may be the machine's doing."""
    peers: list[Peer] = []
    while True:
        try:
            peers.append(await stack.enter_async_context(peer(hub.url, open_timeout=1)))
        except TimeoutError:
            if any("out of file descriptors" in line for line in hub.stderr):
                return peers


async def late(hub: RunningHub) -> object:
    async with peer(hub.url, open_timeout=PATIENCE) as connection:
        return await connection.result("debug.echo", {"value": 1})


async def test_nothing_leaks_over_many_connections() -> None:
    with ready_hub() as hub:

        async def come_and_go(number: int) -> None:
            async with peer(hub.url) as connection:
                await connection.result("subscribe", {"topic": f"leak.{number}.*"})
                await connection.request("debug.sleep", {"seconds": 30})

        await come_and_go(0)
        eventually(lambda: "trunkline_connections 0" in hub.get("/metrics").body.decode(), "the first is gone")
        before = descriptors(hub)
        for start in range(0, 300, 50):
            await asyncio.gather(*(come_and_go(start + number) for number in range(50)))
        eventually(lambda: "trunkline_connections 0" in hub.get("/metrics").body.decode(), "all are gone")
        eventually(lambda: descriptors(hub) <= before + 2, f"as many descriptors as before ({before})")
        for gauge in ("trunkline_subscriptions", "trunkline_calls_in_flight"):
            eventually(lambda: f"{gauge} 0" in hub.get("/metrics").body.decode(), f"{gauge} is 0")  # noqa: B023


async def test_more_connections_than_allowed_are_told_so() -> None:
    with ready_hub(env={"TRUNKLINE_MAX_CONNECTIONS": "2"}) as hub:
        async with peer(hub.url) as one, peer(hub.url):
            answer = hub.get("/ws", {
                "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            })  # fmt: skip
            assert answer.status == 503
            assert answer.json()["error"]["data"]["limit"] == "TRUNKLINE_MAX_CONNECTIONS"
            assert answer.json()["error"]["code"] == 2003
            assert answer.headers["retry-after"] == "1"
            assert await one.result("debug.echo", {"value": 1}) == 1
