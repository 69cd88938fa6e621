"""What ``/metrics`` reads of the parts of a hub, in memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.control.monitored_hub import Hub
from tests.hub.doors import FakeBackend
from tests.hub.pubsub import PubSub
from tests.support.health import executor_report
from trunkline.control.connections import ConnectionBook
from trunkline.control.data_folder import Disk, Low
from trunkline.control.readings import Readings
from trunkline.hub.breaker import BreakerLimits, Breakers
from trunkline.hub.connection import Traffic
from trunkline.hub.registrations import Registrations
from trunkline.hub.sessions import SessionTable
from trunkline.observe.page import MetricsPage, Reading
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode
from trunkline_protocol.health_reports import GroupSeen, Memory

DISK = Disk(100, 7, None, (Low((1, "bytes"), Path("/data"), "7 bytes"),))


class Read:
    """A hub in memory, and what is read of it, by name."""

    def __init__(self) -> None:
        self.hub, self.topics = Hub(), PubSub()
        self.doors: list[Traffic] = []
        self.breakers = Breakers(BreakerLimits(ratio=0.5, calls=1))
        self.readings = Readings(
            self.hub.view, self.hub.health, ConnectionBook(), lambda: self.doors, self.topics.topics,
            self.topics.fanout, SessionTable[Any](), Registrations(FakeBackend()), lambda: 4096, lambda: 2,
            lambda: 1, lambda: DISK, lambda: {"queued": 3}, self.breakers,
            {"TRUNKLINE_MAX_CONNECTIONS": 3}, lambda: 5, lambda: 4321.0, 1234.5,
        )  # fmt: skip

    def __getitem__(self, name: str) -> Any:
        """The values of one metric: its number, or its numbers by label."""
        found = {reading.name: reading for reading in self._all()}[f"trunkline_{name}"]
        return found.values if found.label is not None else found.values[""]

    def _all(self) -> Iterable[Reading]:
        return self.readings()


@pytest.fixture
async def read() -> Read:
    return Read()


async def test_health_is_the_one_judgement(read: Read) -> None:
    assert read["ready"] == 1
    assert {name for name, value in read["health"].items() if value} == {"healthy"}
    down = executor_report(status="down")
    read.hub.pool.seen = [GroupSeen("default", [down], methods=[MethodInfo("work.do")], held=[], failed=[])]
    assert read["ready"] == 0
    assert {name for name, value in read["health"].items() if value} == {"unhealthy"}
    assert read["method_unavailable"] == {"work.do": 1}
    assert read["method_failing"] == {}


async def test_every_code_is_there_before_its_first_error(read: Read) -> None:
    assert read["call_errors"]["WORKER_CRASHED"] == 0
    read.hub.finish(3, ErrorCode.WORKER_CRASHED)
    read.hub.finish(2, 7)
    assert (read["call_errors"]["WORKER_CRASHED"], read["call_errors"]["APPLICATION_ERROR"]) == (3, 2)


async def test_breakers_and_what_others_count(read: Read) -> None:
    assert read["breakers"] == {"open": 0, "half_open": 0}
    read.breakers.look(time.monotonic(), {"m": (10, 10)})
    assert (read["breakers"]["open"], read["breakers_opened"]) == (1, 1)
    assert (read["audit_lost"], read["quarantined_inputs"], read["jobs"]) == (2, 1, {"queued": 3})
    assert (read["history_bytes"], read["start_time_seconds"]) == (4096, 1234.5)
    assert (read["disk_free_bytes"], read["disk_bytes"], read["disk_low"]) == (7, 100, 1)
    assert 0 < read["open_descriptors"] < read["max_descriptors"]


async def test_executors_by_state_cause_and_name(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = [
        executor_report(0, status="busy", restarts=2, restart_causes={"signal": 2}, request_count=9, error_count=1),
        executor_report(1, group="gpu", status="down", restart_causes={"signal": 1, "exit": 1}, uptime_seconds=5.5),
    ]
    monkeypatch.setattr(read.hub.pool, "snapshot", lambda: reports)
    read.hub.pool.seen = [
        GroupSeen(name, [report], methods=[], held=[], failed=[], waiting=number)
        for number, (name, report) in enumerate(zip(("default", "gpu"), reports, strict=True), 4)
    ]
    states = read["executors"]
    assert (states["busy"], states["down"], states["ready"]) == (1, 1, 0)
    causes = read["executor_restarts_by_cause"]
    assert (causes["signal"], causes["exit"], causes["memory_hard"]) == (3, 1, 0)
    assert read["group_executors_ready"] == {"default": 1, "gpu": 0}
    assert read["group_calls_waiting"] == {"default": 4, "gpu": 5}
    assert read["executor_restarts"] == {"executor-0": 2, "executor-1": 0}
    assert read["executor_calls"] == {"executor-0": 9, "executor-1": 0}
    assert read["executor_uptime_seconds"] == {"executor-1": 5.5}, "of what is not running there is none"
    assert read["executor_memory_bytes"] == {}


async def test_memory_is_in_bytes(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    report = executor_report(pid=os.getpid())
    monkeypatch.setattr(read.hub.pool, "snapshot", lambda: [report])
    used = read.hub.health.executors()[0].memory_usage
    assert isinstance(used, Memory)
    assert read["executor_memory_bytes"] == {"executor-0": pytest.approx(used.rss_mb * 2**20)}


async def test_connections_by_transport(read: Read) -> None:
    read.doors = [Traffic("websocket"), Traffic("websocket"), Traffic("http")]
    assert read["connections"] == 3
    by_kind = read["connections_by_transport"]
    assert (by_kind["websocket"], by_kind["http"], by_kind["mcp"]) == (2, 1, 0)


async def test_the_page_has_all_of_it(read: Read) -> None:
    read.hub.finish(2)
    text = MetricsPage(read.hub.stats, read.readings).render(read.hub.view.sight_of(None)).decode()
    assert 'trunkline_calls_total{method="work.do",outcome="ok"} 2.0' in text
    assert "trunkline_sessions_opened_total 0.0" in text
    assert 'trunkline_sessions{state="attached"} 0.0' in text
    assert "trunkline_calls_waiting 3.0" in text
