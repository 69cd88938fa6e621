"""The events that the hub publishes about itself on ``system.`` topics, made only while a topic has subscribers."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from trunkline.control.calls_in_flight import connection_of, executor_name, principal_of, tenant_of, trace_id
from trunkline.control.connections import ConnectionBook
from trunkline.control.executors import working_executors
from trunkline.control.failed_calls import FailedCalls
from trunkline.control.health import HealthWatch
from trunkline.control.method import HubView
from trunkline.hub.connection import ClientCall, Connection
from trunkline.observe.metrics import MethodStats, error_name
from trunkline.observe.tap import LogFields
from trunkline_protocol.calls import Call
from trunkline_protocol.messages import Id
from trunkline_protocol.reports import (
    ClosedConnection,
    ConnectionsReport,
    EndedCall,
    HubMetrics,
    OpenedConnection,
    RequestsReport,
)

METRICS: Final = "system.metrics"
EXECUTORS: Final = "system.executors"
HEALTH: Final = "system.health"
REQUESTS: Final = "system.requests"
CONNECTIONS: Final = "system.connections"
LOGS: Final = "system.logs"
TOPICS: Final = (METRICS, EXECUTORS, HEALTH, REQUESTS, CONNECTIONS, LOGS)

TICK_SECONDS: Final = 0.25
TICKS_A_SECOND: Final = 4
HEALTH_SECONDS: Final = 1.0
"""Seconds between two events of ``system.health``, at least, however often the judgement changes."""

MAX_ITEMS: Final = 200
"""Opened connections, and closed ones, that one event lists; more are only counted."""

MAX_REQUESTS: Final = 100
"""Calls that succeeded, and as many that failed, that one event lists; more are only counted, at no cost."""

MAX_CONNECTIONS: Final = 100
"""Connections in the table of one event."""

MAX_ID_CHARS: Final = 128
MAX_METHOD_CHARS: Final = 200
MAX_MESSAGE_CHARS: Final = 500


T = TypeVar("T")
IdT = TypeVar("IdT", bound=Id)


class Topics(Protocol):
    """The part of publish and subscribe that is used here."""

    count: int
    published: int

    @property
    def deliveries(self) -> int:
        """How many deliveries (one event to one connection) there were so far."""

    def reaches(self, topic: str) -> bool:
        """Whether any connection would get an event of this topic."""

    def announce(self, topic: str, data: Any) -> None:
        """Publish an event of the hub itself."""


class LogSource(Protocol):
    """The source of log records (see :class:`trunkline.observe.tap.LogTap`)."""

    def open(self) -> None:
        """Begin to collect records, with the latest ones from before."""

    def close(self) -> None:
        """Stop collecting records."""

    def take(self) -> tuple[list[LogFields], int]:
        """The records since the last call, and how many more were dropped."""


class _Items(Generic[T]):
    """The items of the next event: a bounded number, and how many more there were."""

    __slots__ = ("dropped", "items")

    def __init__(self) -> None:
        self.items: list[T] = []
        self.dropped = 0

    def add(self, item: T) -> None:
        self.items.append(item)

    @property
    def is_full(self) -> bool:
        return len(self.items) >= MAX_ITEMS

    def take(self) -> tuple[list[T], int]:
        taken = self.items, self.dropped
        self.items, self.dropped = [], 0
        return taken


@dataclass(slots=True)
class _Totals:
    """The counters of one second, to be compared with the next."""

    calls: MethodStats
    published: int
    deliveries: int
    at: float


class Monitor:
    """Publishes monitoring events while their topics have subscribers.

    Args:
        view: the parts of the hub that are reported.
        health: the judgement of the hub's health, and what its processes use.
        logs: the source of log records, open while ``system.logs`` has subscribers.
        failed: keeps the params of failed calls, while ``system.requests`` has subscribers.

    Attributes:
        book: the open connections; kept with and without subscribers.
        wants_requests: whether :meth:`finished` is to be called for calls that succeed.
        wants_failures: whether :meth:`finished` is to be called for calls that fail.
    """

    def __init__(
        self,
        view: HubView,
        health: HealthWatch,
        topics: Callable[[], Topics],
        logs: LogSource,
        failed: FailedCalls | None = None,
    ) -> None:
        self.book = ConnectionBook()
        self._view = view
        self._health = health
        health.on_change = self._note_health
        self._health_changed = False
        self._health_said_at = 0.0
        self._topics = topics
        self._logs = logs
        self._failed = failed
        self._wanted: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._before: _Totals | None = None
        self._executors_changed = False
        self._executors_worked = False
        self._requests: list[EndedCall] = []
        self._failures = 0
        self._finished = 0
        self._opened: _Items[OpenedConnection] = _Items()
        self._closed: _Items[ClosedConnection] = _Items()
        self.wants_requests = False
        self.wants_failures = False

    # --- subscribers ---

    def interest_changed(self) -> None:
        """Start or stop what is published: subscriptions to ``system.`` topics have changed."""
        topics = self._topics()
        before = self._wanted
        self._wanted = {topic for topic in TOPICS if topics.reaches(topic)}
        if REQUESTS in self._wanted and REQUESTS not in before:
            self._await_requests()
        self._executors_changed = EXECUTORS in self._wanted
        self._health_changed = HEALTH in self._wanted
        if (LOGS in self._wanted) != (LOGS in before):
            (self._logs.open if LOGS in self._wanted else self._logs.close)()
        self._forget_unwanted()
        if self._wanted and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        elif not self._wanted:
            self.stop()

    def stop(self) -> None:
        """Publish nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget_unwanted(self) -> None:
        """Drop what was collected for topics without subscribers: later ones do not get it."""
        if REQUESTS not in self._wanted:
            self._requests = []
            if self._failed is not None:
                self._failed.forget()
            self.wants_requests = self.wants_failures = False
        if CONNECTIONS not in self._wanted:
            self._opened.take()
            self._closed.take()
        if METRICS not in self._wanted:
            self._before = None

    # --- what happens ---

    def finished(self, call: Call, seconds: float, code: int) -> None:
        """Note a call that has ended. Called only while such calls are wanted, after the call was counted."""
        failure = self._failed.keep(call) if code and self._failed is not None else None
        self._requests.append(_request(call, seconds, code, failure))
        if code:
            self._failures += 1
            self.wants_failures = self._failures < MAX_REQUESTS
        else:
            self.wants_requests = len(self._requests) - self._failures < MAX_REQUESTS

    def opened(self, connection: Connection) -> None:
        """Note a connection that was opened."""
        self.book.opened(connection)
        if CONNECTIONS not in self._wanted:
            return
        if self._opened.is_full:
            self._opened.dropped += 1
            return
        traffic = connection.door.traffic()
        self._opened.add(
            OpenedConnection(
                connection=connection.number,
                peer=connection.peer,
                principal=connection.principal.name,
                tenant=connection.principal.tenant,
                transport=traffic.transport,
                client=traffic.client,
                opened_at=int(time.time() * 1000),
            )
        )

    def closed(self, connection: Connection) -> None:
        """Note a connection that was closed."""
        self.book.closed(connection)
        if CONNECTIONS not in self._wanted:
            return
        if self._closed.is_full:
            self._closed.dropped += 1
            return
        seconds = time.monotonic() - connection.opened_at
        self._closed.add(ClosedConnection(connection.number, round(seconds * 1000)))

    def executors_changed(self) -> None:
        """Note that an executor's state has changed; published at the next tick."""
        self._executors_changed = True

    def _note_health(self) -> None:
        self._health_changed = self._executors_changed = True  # an executor that has fallen silent says nothing itself

    # --- events ---

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        self._ticks += 1
        each_second = self._ticks % TICKS_A_SECOND == 0
        if self._requests:
            self._say_requests()
        if CONNECTIONS in self._wanted:
            self._say_connections(each_second)
        if EXECUTORS in self._wanted:
            self._say_executors(each_second)
        if HEALTH in self._wanted and self._health_changed:
            self._say_health(time.monotonic())
        if METRICS in self._wanted and each_second:
            self._say_metrics()
        if LOGS in self._wanted:
            records, dropped = self._logs.take()
            if records or dropped:
                self._topics().announce(LOGS, {"records": records, "dropped": dropped})

    def _await_requests(self) -> None:
        """Begin the list of the next event."""
        self._requests, self._failures = [], 0
        self._finished = self._view.stats.totals()[0]
        self.wants_requests = self.wants_failures = True

    def _say_requests(self) -> None:
        requests, before = self._requests, self._finished
        self._await_requests()
        # All calls are counted anyway, so calls beyond the limits of the list cost nothing here.
        dropped = self._finished - before - len(requests)
        self._topics().announce(REQUESTS, RequestsReport(requests, max(0, dropped)))

    def _say_executors(self, each_second: bool) -> None:
        working = self._view.router.in_flight > 0
        # Once more after the last call, so that subscribers do not keep showing them as busy.
        if self._executors_changed or (each_second and (working or self._executors_worked)):
            self._executors_changed = False
            self._executors_worked = working
            self._topics().announce(EXECUTORS, working_executors(self._health, self._view.pool, time.monotonic()))

    def _say_health(self, now: float) -> None:
        if now - self._health_said_at >= HEALTH_SECONDS:  # else at a later tick, with what is true then
            self._health_changed = False
            self._health_said_at = now
            self._topics().announce(HEALTH, self._health.judgement())

    def _say_connections(self, each_second: bool) -> None:
        if not (self._opened.items or self._closed.items or (each_second and len(self.book))):
            return
        opened, opened_dropped = self._opened.take()
        closed, closed_dropped = self._closed.take()
        table = self.book.table(time.monotonic(), MAX_CONNECTIONS) if each_second else None
        dropped = opened_dropped + closed_dropped
        report = ConnectionsReport(opened, closed, dropped, self._view.connections(), table)
        self._topics().announce(CONNECTIONS, report)

    def _say_metrics(self) -> None:
        topics, view = self._topics(), self._view
        now = _Totals(view.stats.sum(), topics.published, topics.deliveries, time.monotonic())
        before, self._before = self._before, now
        if before is None:
            return
        seconds = now.at - before.at
        calls = now.calls.since(before.calls)

        def rate(number: float) -> float:
            return round(number / seconds, 1)

        rss = self._health.processes.of(os.getpid()).memory
        report = HubMetrics(
            connections=view.connections(),
            subscriptions=topics.count,
            streams=self.book.streams,
            calls_in_flight=view.router.in_flight,
            calls_waiting=view.pool.waiting,
            calls_per_second=rate(calls.count),
            errors_per_second=rate(calls.failed),
            errors={error_name(code): number for code, number in calls.errors.items()},
            events_per_second=rate(now.published - before.published),
            deliveries_per_second=rate(now.deliveries - before.deliveries),
            bytes_in_per_second=rate(calls.bytes_in),
            bytes_out_per_second=rate(calls.bytes_out),
            buffered_bytes=self.book.buffered_bytes,
            events_dropped=self.book.dropped_events,
            **calls.duration.milliseconds(),
            **calls.wait.milliseconds("wait_"),
            **calls.run.milliseconds("run_"),
            rss_mb=0.0 if rss is None else rss.rss_mb,
        )
        topics.announce(METRICS, report)


def _request(call: Call, seconds: float, code: int, failure: int | None) -> EndedCall:
    connection = connection_of(call)
    return EndedCall(
        method=call.method[:MAX_METHOD_CHARS],
        principal=principal_of(call),
        tenant=tenant_of(call),
        connection=None if connection is None else connection.number,
        id=_short(call.id) if isinstance(call, ClientCall) else None,
        request_id=_short(call.known_request_id()),
        trace_id=trace_id(call),
        outcome="ok" if not code else error_name(code),
        code=code,
        message=call.failure[1][:MAX_MESSAGE_CHARS] if code and call.failure is not None else None,
        failure=failure,
        duration_ms=round(seconds * 1000, 3),
        queue_ms=round(call.waited * 1000, 3),
        run_ms=round(call.ran * 1000, 3) if call.ran else None,
        executor=executor_name(call),
        chunks=call.chunks,
        bytes_in=len(call.params),
        bytes_out=call.bytes_out,
        finished_at=int(time.time() * 1000),
    )


def _short(text: IdT) -> IdT | str:
    return text[:MAX_ID_CHARS] if isinstance(text, str) else text
