"""Reports of executors, and hubs without any, for tests of what is made of them."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.support.peer import Peer
from tests.support.timing import until
from trunkline.control.method import HubView
from trunkline.observe.metrics import CallStats
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodInfo, TopicInfo
from trunkline_protocol.health_reports import ExecutorReport, GroupSeen


def executor_report(index: int = 0, **members: Any) -> ExecutorReport:
    """The report of an executor that is ready and has done nothing, but for these members."""
    blank: dict[str, Any] = {
        "worker_id": f"executor-{index}", "group": "default", "status": "ready", "pid": None, "uptime_seconds": None,
        "slots": 0, "slots_leaving": 0, "active_requests": 0, "request_count": 0, "error_count": 0, "error_rate": 0.0,
        "pipelines_loaded": 1, "restarts": 0, "restart_causes": {}, "last_restart": None, "last_failure": None,
        "latency_ms": None,
    }  # fmt: skip
    return ExecutorReport(**blank | members)


class NoExecutors:
    """A pool without executors."""

    waiting = 0
    methods: ClassVar[dict[str, MethodInfo]] = {}
    topics: ClassVar[dict[str, TopicInfo]] = {}

    def groups(self) -> list[GroupSeen]:
        return []

    def snapshot(self) -> list[ExecutorReport]:
        return []

    def running(self) -> dict[str, list[tuple[Call, bool]]]:
        return {}


class IdleRouter:
    """A router without calls."""

    in_flight = 0
    draining = False


def empty_view() -> HubView:
    """A hub that has nothing and does nothing."""
    return HubView(NoExecutors(), IdleRouter(), CallStats(), 0.0, lambda: 0)


async def heard_health(connection: Peer) -> dict[str, Any]:
    """The detailed health, once no executor is silent, which on a busy machine each may be for a moment."""

    async def heard() -> dict[str, Any] | None:
        found: dict[str, Any] = await connection.result("health.detailed")
        return None if any(each["status"] == "silent" for each in found["executors"]) else found

    return await until(heard, "each executor answers")
