"""What waits for a connection: bounded, in order, and no longer than it may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.client.faults import Changes, through_proxy
from tests.client.scripted import opened, reply, scripted_hub
from tests.support.hub import RunningHub
from tests.support.proxy import Proxy
from tests.support.timing import PATIENCE, eventually, standstill, until
from trunkline.client import DisconnectedError, Hub
from trunkline_protocol.errors import ErrorCode, RpcError


@asynccontextmanager
async def away(port: int, **options: Any) -> AsyncIterator[tuple[Proxy, Hub]]:
    """A client that lost its connection, and does not get another one before ``proxy.refuse(False)``."""
    async with through_proxy(port, **options) as (proxy, client):
        changes = Changes(client)
        proxy.refuse()
        proxy.cut()
        await changes.wait_for("reconnecting")
        yield proxy, client


async def started(coroutine: Any) -> asyncio.Task[Any]:
    """A task that has got as far as it can."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


async def test_beyond_so_many_frames_it_fails_at_once_and_names_the_limit(lab_hub: RunningHub) -> None:
    async with away(lab_hub.port, max_queued=3) as (proxy, client):
        waiting = [await started(client.call("debug.echo", {"value": n})) for n in range(3)]
        with pytest.raises(DisconnectedError, match="max_queued=3") as caught:
            await client.call("debug.echo", {"value": 3})
        assert not caught.value.maybe_executed
        with pytest.raises(DisconnectedError, match="max_queued=3"):
            await client.notify("debug.echo")
        with pytest.raises(DisconnectedError, match="max_queued=3"):
            await client.stream("debug.count", {"n": 1})
        waiting[1].cancel()
        await asyncio.wait([waiting[1]])
        third = await started(client.call("debug.echo", {"value": "instead"}))
        proxy.refuse(False)
        answers = await asyncio.wait_for(asyncio.gather(waiting[0], waiting[2], third), PATIENCE)
        assert list(answers) == [0, 2, "instead"]


async def test_beyond_so_many_bytes_too(lab_hub: RunningHub) -> None:
    async with away(lab_hub.port, max_queued_bytes=10_000) as (proxy, client):
        waiting = await started(client.call("debug.echo", {"value": "x" * 8000}))
        with pytest.raises(DisconnectedError, match="max_queued_bytes=10000") as caught:
            await client.call("debug.echo", {"value": "y" * 8000})
        assert not caught.value.maybe_executed
        small = await started(client.call("debug.echo", {"value": 1}))
        proxy.refuse(False)
        assert await asyncio.wait_for(small, PATIENCE) == 1
        assert len(await waiting) == 8000


async def test_what_the_hub_may_lack_counts_as_well(lab_hub: RunningHub) -> None:
    async with through_proxy(lab_hub.port, max_queued=5) as (proxy, client):
        proxy.stall()
        sent = [await started(client.call("debug.echo", {"value": n})) for n in range(5)]
        session = client._conversation.session
        assert session is not None
        core = session.core
        await until(lambda: core.unacknowledged == 5, "they are written, into a connection that passes nothing on")
        changes = Changes(client)
        proxy.refuse()
        proxy.cut()
        await changes.wait_for("reconnecting")
        with pytest.raises(DisconnectedError, match="5 frames wait"):
            await client.call("debug.echo", {"value": 5})
        proxy.calm()
        assert await asyncio.wait_for(asyncio.gather(*sent), PATIENCE) == list(range(5))


async def test_nothing_may_wait_where_that_is_said(lab_hub: RunningHub) -> None:
    async with away(lab_hub.port, max_queued=0) as (_proxy, client):
        with pytest.raises(DisconnectedError, match="max_queued=0") as caught:
            await client.call("debug.echo")
        assert not caught.value.maybe_executed


async def test_connected_there_is_no_such_bound(lab_hub: RunningHub) -> None:
    async with through_proxy(lab_hub.port, max_queued=0) as (_proxy, client):
        calls = [client.call("debug.echo", {"value": n}) for n in range(100)]
        assert await asyncio.gather(*calls) == list(range(100))


async def test_the_deadline_counts_while_it_waits(lab_hub: RunningHub) -> None:
    async with away(lab_hub.port) as (proxy, client):
        with pytest.raises(RpcError) as caught:
            await asyncio.wait_for(client.call("debug.echo", timeout_ms=100), PATIENCE)
        assert caught.value.code == ErrorCode.COMMUNICATION_TIMEOUT
        assert not caught.value.maybe_executed
        waiting = await started(client.call("lab.where", timeout_ms=60_000))
        await asyncio.sleep(0.1)  # of its deadline
        proxy.refuse(False)
        left = (await asyncio.wait_for(waiting, PATIENCE))["metadata"]["timeout_ms"]
        assert left < 60_000 - 50, "the hub is told what is left of it"


async def test_what_was_cancelled_while_it_waited_is_never_sent(lab_hub: RunningHub, tmp_path: Path) -> None:
    async with away(lab_hub.port) as (proxy, client):
        cancelled = await started(client.call("lab.counted_run", {"marker": str(tmp_path / "cancelled")}))
        cancelled.cancel()
        kept = await started(client.call("lab.counted_run", {"marker": str(tmp_path / "kept")}))
        proxy.refuse(False)
        assert await asyncio.wait_for(kept, PATIENCE) == "done"
        assert not (tmp_path / "cancelled").exists()


async def test_what_is_cancelled_while_it_runs_and_the_client_is_away_ends(lab_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "m"
    async with through_proxy(lab_hub.port) as (proxy, client):
        changes = Changes(client)
        call = asyncio.create_task(client.call("lab.cleanup", {"marker": str(marker)}))
        await asyncio.to_thread(eventually, Path(f"{marker}.started").exists, "it runs")
        proxy.refuse()
        proxy.cut()
        await changes.wait_for("reconnecting")
        call.cancel()
        await asyncio.wait([call])
        assert not marker.exists()
        proxy.refuse(False)
        await asyncio.to_thread(eventually, marker.exists, "the hub was told")


async def test_what_means_nothing_to_the_next_session_is_not_sent_to_it() -> None:
    sessions = 0

    def answer(message: dict[str, Any]) -> list[dict[str, Any]]:
        nonlocal sessions
        if message["method"] == "session.open":
            sessions += 1
            return [opened(message, f"s{sessions}", ttl_ms=200)]
        return [reply(message, 1)] if message["method"] == "rpc.ping" else []

    async with scripted_hub(answer, sessions=True) as hub:
        port = int(hub.url.removesuffix("/ws").rpartition(":")[2])
        async with through_proxy(port) as (proxy, client):
            changes = Changes(client)
            cancelled = await started(client.call("work"))
            lost = await started(client.call("work"))
            await hub.wait_for("work", 2)
            proxy.refuse()
            proxy.cut()
            await changes.wait_for("reconnecting")
            cancelled.cancel()
            later = await started(client.call("rpc.ping"))
            kept = await started(client.call("kept"))
            with pytest.raises(DisconnectedError):
                await asyncio.wait_for(lost, PATIENCE)
            proxy.refuse(False)
            await asyncio.wait_for(later, PATIENCE)
            await hub.wait_for("kept")
            kept.cancel()
            await asyncio.wait([kept, cancelled])
        assert sessions == 2
        before_kept = hub.received[: hub.received.index(hub.calls("kept")[0])]
        assert "$/cancelRequest" not in {message["method"] for message in before_kept}
        assert hub.calls("kept")[0]["seq"] == 1


async def test_notifications_wait_and_arrive_once(lab_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "m"
    async with away(lab_hub.port) as (proxy, client):
        for _ in range(10):
            await client.notify("lab.counted_run", {"marker": str(marker)}, metadata={"priority": "high"})
        proxy.refuse(False)
        await asyncio.to_thread(
            eventually, lambda: marker.exists() and len(marker.read_text()) == 10, "all of them ran"
        )
        with pytest.raises(ValueError, match=r"debug\.echo"):
            await client.notify("debug.echo", {"value": {1, 2}})


async def test_a_notification_right_before_the_end_arrives(lab_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "m"
    async with through_proxy(lab_hub.port, session=False) as (_proxy, client):
        await client.notify("lab.counted_run", {"marker": str(marker)})
    await asyncio.to_thread(eventually, marker.exists, "it ran")


@pytest.mark.parametrize("session", [True, False])
async def test_who_notifies_waits_for_a_hub_that_does_not_read(lab_hub: RunningHub, session: bool) -> None:
    async with through_proxy(lab_hub.port, session=session) as (proxy, client):
        proxy.stall("to_hub")
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await client.notify("debug.echo", {"value": "x" * 100_000})
                sent += 1

        task = asyncio.create_task(flood())
        await until(lambda: sent, "it has begun")
        before = await standstill(lambda: sent)
        assert before < 200, "it waits"
        proxy.resume()
        await until(lambda: sent > before + 20, "it goes on")
        task.cancel()
        await asyncio.wait([task])
