from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.peer import Peer
from trunkline.control.health import causes_of, memory_usage, status_of
from trunkline.control.method import HubView
from trunkline.observe.metrics import CallStats
from trunkline_protocol.calls import Call

FIELDS = {
    "status",
    "worker_id",
    "uptime_seconds",
    "request_count",
    "error_count",
    "error_rate",
    "active_requests",
    "memory_usage",
    "pipelines_loaded",
    "timestamp",
}


async def test_check_has_exactly_these_fields(debug_peer: Peer) -> None:
    health = await debug_peer.result("health.check")
    assert health.keys() == FIELDS
    require(
        {
            "status": "healthy",
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
    before = await debug_peer.result("health.check")
    await debug_peer.error("debug.fail")
    await debug_peer.result("debug.echo", {"value": 1})
    after = await debug_peer.result("health.check")
    assert after["request_count"] - before["request_count"] == 3
    assert after["error_count"] - before["error_count"] == 1
    assert after["error_rate"] == pytest.approx(after["error_count"] / after["request_count"])
    assert after["uptime_seconds"] > before["uptime_seconds"]
    assert after["memory_usage"]["rss_mb"] == pytest.approx(debug_hub.rss() / 2**20, rel=0.2)


async def test_active_requests_are_counted(debug_peer: Peer) -> None:
    ids = [await debug_peer.request("debug.sleep", {"seconds": 30}) for _ in range(3)]
    health = await debug_peer.result("health.detailed")
    assert health["active_requests"] == 4, "the three and this one"
    assert sum(executor["active_requests"] for executor in health["executors"]) == 3
    for each in ids:
        await debug_peer.cancel(each)
        await debug_peer.reply(each)
    assert (await debug_peer.result("health.check"))["active_requests"] == 1


async def test_detailed_adds_executors_and_causes(debug_peer: Peer, debug_hub: RunningHub) -> None:
    health = await debug_peer.result("health.detailed")
    assert health.keys() == FIELDS | {"causes", "connections", "waiting_requests", "executors"}
    assert health["causes"] == []
    assert health["connections"] >= 1
    assert {executor["pid"] for executor in health["executors"]} == debug_hub.executor_pids()
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


class Pool:
    """A pool in a state of the test's choosing."""

    waiting = 0
    methods: ClassVar[dict[str, Any]] = {}

    def __init__(self, *executors: tuple[str, int]) -> None:
        self._executors = executors
        self.stuck: list[str] = []

    @property
    def serving(self) -> bool:
        return any(status in ("ready", "busy") for status, _ in self._executors)

    def waiting_by_group(self) -> dict[str, int]:
        return {}

    def obstacles(self) -> list[str]:
        return self.stuck

    def module_failures(self) -> list[str]:
        return []

    def snapshot(self) -> list[dict[str, Any]]:
        return [
            {"worker_id": f"executor-{i}", "status": status, "restarts": restarts, "last_failure": "it broke"}
            for i, (status, restarts) in enumerate(self._executors)
        ]

    def running(self) -> dict[str, list[tuple[Call, bool]]]:
        return {}


class Router:
    in_flight = 0

    def __init__(self, draining: bool = False) -> None:
        self.draining = draining


def view(*executors: tuple[str, int], draining: bool = False) -> HubView:
    return HubView(Pool(*executors), Router(draining), CallStats(), 0.0, lambda: 0)


@pytest.mark.parametrize(
    ("executors", "status"),
    [
        ([("ready", 0), ("busy", 3)], "healthy"),
        ([("ready", 0), ("down", 1)], "degraded"),
        ([("busy", 0), ("starting", 1)], "degraded"),
        ([("starting", 0), ("starting", 0)], "starting"),
        ([("starting", 0), ("starting", 4)], "unhealthy"),
        ([("down", 1), ("down", 1)], "unhealthy"),
    ],
)
def test_status_is_true(executors: list[tuple[str, int]], status: str) -> None:
    assert status_of(view(*executors)) == status
    assert bool(causes_of(view(*executors))) == (status != "healthy")


def test_a_stopping_hub_says_so() -> None:
    assert status_of(view(("ready", 0), draining=True)) == "stopping"
    assert causes_of(view(("ready", 0), draining=True)) == ["the hub is stopping"]


def test_causes_name_executor_and_reason() -> None:
    assert causes_of(view(("ready", 0), ("down", 1))) == ["executor-1 is down: it broke"]


def test_what_does_not_get_on_is_a_cause_too() -> None:
    pool = Pool(("busy", 0))
    pool.stuck = ["plain functions wait"]
    stuck = HubView(pool, Router(), CallStats(), 0.0, lambda: 0)
    assert status_of(stuck) == "degraded"
    assert causes_of(stuck) == ["plain functions wait"]


def test_memory_of_no_process() -> None:
    assert memory_usage(None) is None
    assert memory_usage(2**22 + 1) is None
