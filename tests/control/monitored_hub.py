"""A hub whose topics, pool and logs are the test's own, and what monitors it."""

from __future__ import annotations

import asyncio
import os
from typing import Any, ClassVar

import msgspec

from tests.hub.doors import Door, FakeBackend, connection, services
from tests.support.health import executor_report
from tests.support.timing import PATIENCE
from trunkline.control import monitoring
from trunkline.control.health import HealthWatch
from trunkline.control.method import HubView
from trunkline.control.monitoring import Monitor
from trunkline.hub.connection import Connection
from trunkline.hub.principal import Principal
from trunkline.hub.router import Router
from trunkline.observe.metrics import CallStats
from trunkline_protocol.calls import Call
from trunkline_protocol.health_reports import ExecutorReport, GroupSeen

TICK = monitoring.TICK_SECONDS


class HubsOwn(Call):
    """A call that the hub makes for itself."""

    def caller(self) -> None:
        return None


class Board:
    """The hub's topics: who is interested, and what was announced."""

    def __init__(self) -> None:
        self.wanted: set[str] = set()
        self.said: list[tuple[str, Any]] = []
        self.count = self.published = self.deliveries = 0

    def reaches(self, topic: str) -> bool:
        return topic in self.wanted

    def announce(self, topic: str, data: Any) -> None:
        self.said.append((topic, msgspec.to_builtins(data)))

    def of(self, topic: str) -> list[Any]:
        return [data for named, data in self.said if named == topic]


class Pool:
    waiting = 3
    methods: ClassVar[dict[str, Any]] = {}
    topics: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        self.calls: list[tuple[Call, bool]] = []
        self.seen: list[GroupSeen] = []

    def groups(self) -> list[GroupSeen]:
        return self.seen

    def snapshot(self) -> list[ExecutorReport]:
        return [executor_report(pid=os.getpid())]

    def running(self) -> dict[str, list[tuple[Call, bool]]]:
        return {"executor-0": self.calls}


class Logs:
    """Log records that the test makes."""

    def __init__(self) -> None:
        self.is_open = False
        self.records: list[dict[str, Any]] = []
        self.dropped = 0

    def open(self) -> None:
        assert not self.is_open
        self.is_open = True

    def close(self) -> None:
        assert self.is_open
        self.is_open = False
        self.records = []

    def take(self) -> tuple[list[dict[str, Any]], int]:
        taken = self.records, self.dropped
        self.records, self.dropped = [], 0
        return taken


class Hub:
    def __init__(self) -> None:
        self.board, self.stats, self.open = Board(), CallStats(), 1
        self.router = Router(FakeBackend(), lambda *_: None)
        self.pool, self.logs = Pool(), Logs()
        self.view = HubView(self.pool, self.router, self.stats, 0.0, lambda: self.open)
        self.health = HealthWatch(self.view)
        self.monitor = Monitor(self.view, self.health, lambda: self.board, self.logs)
        self.services = services(self.router)

    def listen(self, *topics: str) -> None:
        self.board.wanted = set(topics)
        self.monitor.interest_changed()

    def peer(self, name: str = "alice") -> Connection:
        return connection(self.services, Door(), Principal(name))

    def finish(self, number: int = 1, code: int = 0) -> None:
        for _ in range(number):
            self.stats.record("work.do", 0.0125, code)
            if self.monitor.wants_failures if code else self.monitor.wants_requests:
                call = HubsOwn("work.do", b"{}")
                call.failure = (code, "it broke") if code else None
                self.monitor.finished(call, 0.0125, code)

    async def next_with(self, topic: str, member: str, number: int = 1) -> Any:
        """Wait until so many messages had a member; the last of them."""
        async with asyncio.timeout(PATIENCE):
            while len(found := [data for data in self.board.of(topic) if data[member]]) < number:
                await asyncio.sleep(TICK / 2)
        return found[number - 1]

    async def next(self, topic: str, number: int = 1) -> Any:
        """Wait until so many messages were announced on a topic; the last of them."""
        async with asyncio.timeout(PATIENCE):
            while len(self.board.of(topic)) < number:
                await asyncio.sleep(TICK / 2)
        return self.board.of(topic)[number - 1]


async def ticks(number: int = 8) -> None:
    """Time enough for more than a "second"."""
    await asyncio.sleep(number * TICK)
