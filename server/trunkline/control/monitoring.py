"""What the hub says of itself on ``system.`` topics, for those who subscribed and only then."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import psutil

from trunkline.control.health import detailed_executors
from trunkline.control.method import HubView
from trunkline.hub.client_calls import ClientCall, NotificationCall
from trunkline.hub.connection import Connection
from trunkline.observe.metrics import MethodStats, error_name
from trunkline_protocol.calls import Call

METRICS: Final = "system.metrics"
EXECUTORS: Final = "system.executors"
REQUESTS: Final = "system.requests"
CONNECTIONS: Final = "system.connections"

TICK_SECONDS: Final = 0.25
TICKS_A_SECOND: Final = 4
MAX_ITEMS: Final = 200
"""Requests or connections told in one message; more are only counted."""


class Topics(Protocol):
    """The hub's publish and subscribe, as far as it is needed here."""

    count: int
    published: int

    @property
    def deliveries(self) -> int:
        """Events handed to connections so far."""

    def reaches(self, topic: str) -> bool:
        """Whether anybody subscribed."""

    def announce(self, topic: str, data: Any) -> None:
        """Publish."""


@dataclass(slots=True)
class _Totals:
    """Counters as they were a second ago."""

    calls: MethodStats
    published: int
    deliveries: int
    at: float


class Monitor:
    """Publishes monitoring events while somebody listens.

    Args:
        view: what the hub knows of itself.
    """

    def __init__(self, view: HubView, topics: Callable[[], Topics]) -> None:
        self._view = view
        self._topics = topics
        self._wanted: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._before: _Totals | None = None
        self._executors_changed = False
        self._requests: list[dict[str, Any]] = []
        self._opened: list[dict[str, Any]] = []
        self._closed: list[dict[str, Any]] = []
        self._dropped_requests = 0
        self._dropped_connections = 0
        self.wants_requests = False

    # --- who listens ---

    def interest_changed(self) -> None:
        """Subscriptions to ``system.`` topics have changed."""
        topics = self._topics()
        self._wanted = {topic for topic in (METRICS, EXECUTORS, REQUESTS, CONNECTIONS) if topics.reaches(topic)}
        self.wants_requests = REQUESTS in self._wanted
        self._executors_changed = EXECUTORS in self._wanted
        self._forget_unwanted()
        if self._wanted and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        elif not self._wanted:
            self.stop()

    def stop(self) -> None:
        """Say nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget_unwanted(self) -> None:
        """Whoever subscribes later does not hear of what was before."""
        if REQUESTS not in self._wanted:
            self._requests, self._dropped_requests = [], 0
        if CONNECTIONS not in self._wanted:
            self._opened, self._closed, self._dropped_connections = [], [], 0
        if METRICS not in self._wanted:
            self._before = None

    # --- what happens ---

    def finished(self, call: Call, seconds: float, code: int) -> None:
        """A call has ended. To be called only where ``wants_requests``."""
        if len(self._requests) >= MAX_ITEMS:
            self._dropped_requests += 1
            return
        connection = call.connection if isinstance(call, (ClientCall, NotificationCall)) else None
        self._requests.append(
            {
                "method": call.method,
                "principal": connection.principal.name if connection is not None else None,
                "connection": connection.number if connection is not None else None,
                "outcome": "ok" if code == 0 else error_name(code),
                "code": code,
                "duration_ms": round(seconds * 1000, 3),
                "finished_at": int(time.time() * 1000),
            }
        )

    def opened(self, connection: Connection) -> None:
        """A connection was made."""
        if CONNECTIONS not in self._wanted:
            return
        self._connection_event(
            self._opened,
            {
                "connection": connection.number,
                "peer": connection.peer,
                "principal": connection.principal.name,
                "opened_at": int(time.time() * 1000),
            },
        )

    def closed(self, connection: Connection) -> None:
        """A connection has ended."""
        if CONNECTIONS not in self._wanted:
            return
        seconds = time.monotonic() - connection.opened_at
        self._connection_event(self._closed, {"connection": connection.number, "duration_ms": round(seconds * 1000)})

    def _connection_event(self, items: list[dict[str, Any]], item: dict[str, Any]) -> None:
        if len(items) < MAX_ITEMS:
            items.append(item)
        else:
            self._dropped_connections += 1

    def executors_changed(self) -> None:
        """An executor has another state; said at the next tick."""
        self._executors_changed = True

    # --- what is said ---

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        self._ticks += 1
        each_second = self._ticks % TICKS_A_SECOND == 0
        if REQUESTS in self._wanted and self._requests:
            self._say_requests()
        if CONNECTIONS in self._wanted and (self._opened or self._closed):
            self._say_connections()
        working = each_second and self._view.router.in_flight > 0
        if EXECUTORS in self._wanted and (self._executors_changed or working):
            self._executors_changed = False
            self._topics().announce(EXECUTORS, {"executors": detailed_executors(self._view)})
        if METRICS in self._wanted and each_second:
            self._say_metrics()

    def _say_requests(self) -> None:
        data = {"requests": self._requests, "dropped": self._dropped_requests}
        self._requests, self._dropped_requests = [], 0
        self._topics().announce(REQUESTS, data)

    def _say_connections(self) -> None:
        data = {
            "opened": self._opened,
            "closed": self._closed,
            "dropped": self._dropped_connections,
            "open": self._view.connections(),
        }
        self._opened, self._closed, self._dropped_connections = [], [], 0
        self._topics().announce(CONNECTIONS, data)

    def _say_metrics(self) -> None:
        topics, view = self._topics(), self._view
        now = _Totals(view.stats.sum(), topics.published, topics.deliveries, time.monotonic())
        before, self._before = self._before, now
        if before is None:
            return
        seconds = now.at - before.at
        calls = now.calls.since(before.calls)
        topics.announce(
            METRICS,
            {
                "connections": view.connections(),
                "subscriptions": topics.count,
                "calls_in_flight": view.router.in_flight,
                "calls_waiting": view.pool.waiting,
                "calls_per_second": round(calls.count / seconds, 1),
                "errors_per_second": round((calls.count - calls.ok) / seconds, 1),
                "events_per_second": round((now.published - before.published) / seconds, 1),
                "deliveries_per_second": round((now.deliveries - before.deliveries) / seconds, 1),
                **{f"p{q}_ms": round(1000 * calls.quantile(q / 100), 3) for q in (50, 95, 99)},
                "rss_mb": round(psutil.Process(os.getpid()).memory_info().rss / 2**20, 1),
            },
        )
