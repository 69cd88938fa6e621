from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import until

FIELDS = {
    "status",
    "ready",
    "since",
    "worker_id",
    "uptime_seconds",
    "request_count",
    "error_count",
    "error_rate",
    "active_requests",
    "memory_usage",
    "cpu_percent",
    "pipelines_loaded",
    "timestamp",
}


async def alone(caller: Peer) -> dict[str, Any]:
    """``health.check`` once nothing else runs: what other tests left is over."""

    async def found() -> dict[str, Any] | None:
        health: dict[str, Any] = await caller.result("health.check")
        return health if health["active_requests"] == 1 else None

    return await until(found, "nothing else runs")


async def test_check_has_exactly_these_fields(well_hub: RunningHub) -> None:
    async with peer(well_hub.url) as caller:
        health = await alone(caller)
    assert health.keys() == FIELDS
    require(
        {
            "status": "healthy",
            "ready": True,
            "since": {"$type": "number"},
            "worker_id": "hub",
            "uptime_seconds": {"$type": "number"},
            "request_count": {"$type": "number"},
            "error_count": {"$type": "number"},
            "error_rate": {"$type": "number"},
            "active_requests": 1,
            "memory_usage": {key: {"$type": "number"} for key in ("rss_mb", "vms_mb", "percent")},
            "pipelines_loaded": 1,
        },
        health,
    )
    assert health["memory_usage"].keys() == {"rss_mb", "vms_mb", "percent"}
    assert abs(datetime.fromisoformat(health["timestamp"]) - datetime.now(UTC)) < timedelta(minutes=1)


async def test_numbers_are_those_of_this_hub(debug_peer: Peer, debug_hub: RunningHub) -> None:
    before = await alone(debug_peer)
    await debug_peer.error("debug.fail")
    await debug_peer.result("debug.echo", {"value": 1})
    after = await debug_peer.result("health.check")
    assert after["request_count"] - before["request_count"] == 3
    assert after["error_count"] - before["error_count"] == 1
    assert after["error_rate"] == pytest.approx(after["error_count"] / after["request_count"])
    assert after["uptime_seconds"] > before["uptime_seconds"]
    assert after["memory_usage"]["rss_mb"] == pytest.approx(debug_hub.rss() / 2**20, rel=0.2)


async def test_active_requests_are_counted(debug_peer: Peer) -> None:
    await alone(debug_peer)
    ids = [await debug_peer.request("debug.sleep", {"seconds": 30}) for _ in range(3)]
    health = await debug_peer.result("health.detailed")
    assert health["active_requests"] == 4, "the three and this one"
    assert sum(executor["active_requests"] for executor in health["executors"]) == 3
    for each in ids:
        await debug_peer.cancel(each)
        await debug_peer.reply(each)
    assert (await debug_peer.result("health.check"))["active_requests"] == 1


async def test_detailed_adds_executors_and_causes(well_hub: RunningHub) -> None:
    async with peer(well_hub.url) as caller:
        health = await caller.result("health.detailed")
    added = {"causes", "groups", "methods", "methods_more", "connections", "waiting_requests", "executors"}
    assert health.keys() == FIELDS | added
    assert health["causes"] == []
    assert health["connections"] >= 1
    assert {executor["pid"] for executor in health["executors"]} == well_hub.executor_pids()
    for index, executor in enumerate(health["executors"]):
        require(
            {
                "worker_id": f"executor-{index}",
                "restarts": 0,
                "last_failure": None,
                "memory_usage": {"rss_mb": {"$type": "number"}},
            },
            executor,
        )
        assert executor["status"] in ("ready", "busy")


async def test_each_executor_has_what_it_did_and_what_it_uses(debug_peer: Peer) -> None:
    await debug_peer.result("debug.echo", {"value": 1})

    async def measured() -> list[dict[str, Any]] | None:
        executors: list[dict[str, Any]] = (await debug_peer.result("health.detailed"))["executors"]
        return executors if all(each["cpu_percent"] is not None for each in executors) else None

    executors = await until(measured, "the share of the CPU is known from the second reading on")
    assert sum(executor["request_count"] for executor in executors) >= 1
    for executor in executors:
        count = executor["request_count"]
        assert executor["error_rate"] == (executor["error_count"] / count if count else 0.0)
        require(
            {
                "group": "default",
                "uptime_seconds": {"$type": "number"},
                "active_requests": {"$type": "number"},
                "pipelines_loaded": 1,
                "memory_usage": {key: {"$type": "number"} for key in ("rss_mb", "vms_mb", "percent")},
                "cpu_percent": {"$type": "number"},
            },
            executor,
        )
