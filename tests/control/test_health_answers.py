"""What is answered about the hub's health, and to whom, of a hub in memory."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from tests.control.monitored_hub import Hub
from tests.support.doubles import Asked
from tests.support.health import executor_report
from trunkline.control.health import TICK_SECONDS, heading
from trunkline.control.services import detailed_services
from trunkline.control.system import info
from trunkline.hub.principal import ADMIN, ANONYMOUS, Principal
from trunkline.version import __version__
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode
from trunkline_protocol.health_reports import ExecutorStatus, GroupSeen, ServiceHealth

pytestmark = pytest.mark.virtual_time


def group(*statuses: ExecutorStatus) -> GroupSeen:
    reports = [
        executor_report(index, status=status, last_failure="it broke", restarts=1, latency_ms=2.5)
        for index, status in enumerate(statuses)
    ]
    return GroupSeen("default", reports, methods=[MethodInfo("work.do")], held=[], failed=[])


@pytest.fixture
def hub() -> Hub:
    made = Hub()
    made.pool.seen = [group("ready")]
    made.router.handle(made.health.methods())
    return made


async def ask(hub: Hub, method: str, who: Principal | None = None) -> Any:
    asked = Asked(method, {}, who)
    hub.router.route(asked)
    return asked.outcome.result()


async def test_check_counts_what_was_called(hub: Hub) -> None:
    hub.finish(3)
    hub.finish(1, ErrorCode.INTERNAL_ERROR)
    told = await ask(hub, "health.check")
    assert (told["status"], told["ready"]) == ("healthy", True)
    assert (told["request_count"], told["error_count"], told["error_rate"]) == (4, 1, 0.25)
    assert told["memory_usage"]["rss_mb"] > 1


async def test_what_errors_say_is_for_admins(hub: Hub) -> None:
    hub.finish(10, ErrorCode.INTERNAL_ERROR)
    hub.health.failures.take(0.0)
    hub.finish(10, ErrorCode.INTERNAL_ERROR)
    hub.health.failures.note("work.do", (ErrorCode.INTERNAL_ERROR, "the file of ada"))
    hub.health.failures.take(asyncio.get_running_loop().time())
    seen = await ask(hub, "health.detailed", Principal("root", frozenset({ADMIN})))
    told = await ask(hub, "health.detailed", Principal("ada"))
    assert [(each["method"], each["status"]) for each in told["methods"]] == [("work.do", "failing")]
    assert seen["methods"][0]["last_error"]["message"] == "the file of ada"
    assert told["methods"][0]["last_error"]["type"] == "INTERNAL_ERROR"
    assert told["methods"][0]["last_error"]["message"] is None
    assert "the file of ada" in str(seen["causes"])
    assert "the file of ada" not in str(told)


async def test_why_it_is_not_ready_is_said_in_a_phrase_each(hub: Hub) -> None:
    assert hub.health.missing() == []
    hub.pool.seen = [group("down", "silent")]
    down, silent = hub.health.missing()
    assert (down, heading(down)) == ("executor-0 is down: it broke", "executor-0 is down")
    assert silent.startswith("executor-1 is silent")
    hub.router.draining = True
    assert hub.health.missing() == ["the hub is stopping"]


async def test_it_tells_a_change_and_no_more(hub: Hub) -> None:
    changes: list[str] = []
    hub.health.on_change = lambda: changes.append(hub.health.judgement().status)
    hub.health.start()
    await asyncio.sleep(8 * TICK_SECONDS)
    hub.pool.seen = [group("ready", "down")]
    await asyncio.sleep(8 * TICK_SECONDS)
    hub.health.stop()
    hub.pool.seen = [group("ready")]
    await asyncio.sleep(8 * TICK_SECONDS)
    assert changes == ["healthy", "degraded"]
    assert hub.health.processes.of(os.getpid()).cpu_percent is not None, "processes are read meanwhile"


async def test_parts_by_name(hub: Hub) -> None:
    told = await detailed_services(hub.health, ANONYMOUS)
    assert told.services.keys() == {"hub", "executor-0"}
    assert told.services["hub"].status == "healthy"
    assert told.services["executor-0"] == ServiceHealth("healthy", None)
    assert told.uptime == told.uptime_seconds


async def test_info_has_sizes(hub: Hub) -> None:
    told = info(hub.view, None)
    assert (told.version, told.pid, told.executors, told.connections) == (__version__, os.getpid(), 1, 1)
    assert (told.packs, told.methods) == ([], 0)
