"""The state of ``trunkline top``: a hub's latest figures, and how current they are. Pure: the clock is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from trunkline_protocol.health_reports import SERVING, DetailedHealth, GroupHealth, MethodHealth, Status
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.reports import (
    CallInFlight,
    CallList,
    ExecutorsReport,
    HubMetrics,
    MethodMetrics,
    Metrics,
    TenantMetrics,
    TopicList,
    TopicReport,
    WorkingExecutor,
)

STALE_SECONDS: Final = 3.0
"""Seconds without ``system.metrics``, which comes once a second, after which its figures count as stale."""

METRICS: Final = "system.metrics"
EXECUTORS: Final = "system.executors"
HEALTH: Final = "health.detailed"
METHODS: Final = "metrics.get"
CALLS: Final = "system.calls"
TOPICS: Final = "system.topics"

LIMIT: Final = 50
"""How many methods, calls and topics a snapshot lists."""

LinkState = Literal["connected", "reconnecting", "closed"]


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """The state of the connection, since when (monotonic, seconds), and the reason where it is not ``connected``."""

    state: LinkState
    since: float
    why: str = ""
    attempt: int = 0


class MethodRow(MethodMetrics, kw_only=True):
    """A method, and its calls per second."""

    method: str
    per_second: float
    tenant: str = DEFAULT_TENANT


class TenantRow(TenantMetrics, kw_only=True):
    """What a tenant's calls come to, and its calls per second."""

    tenant: str
    per_second: float


class TopicRow(TopicReport, kw_only=True):
    """A topic, and its events per second; None after one reading."""

    per_second: float | None


class BoardReport(msgspec.Struct, kw_only=True):
    """The board as data, for ``--json``: what is null or empty is not known, and ``refused`` may say why."""

    url: str
    state: LinkState
    live: bool
    age_seconds: float | None
    refused: dict[str, str]
    status: Status | None
    since: int | None
    causes: list[str] | None
    groups: list[GroupHealth] | None
    concerned: list[MethodHealth] | None
    uptime_seconds: float | None
    metrics: HubMetrics | None
    executors: list[WorkingExecutor]
    methods: list[MethodRow]
    tenants: list[TenantRow]
    calls: list[CallInFlight]
    topics: list[TopicRow]


@dataclass(slots=True)
class Board:
    """The latest figures of each source, each replaced as a whole.

    Attributes:
        url: of the hub.
        link: the connection.
        metrics: data of the last ``system.metrics``.
        metrics_at: when those arrived, monotonic, in seconds.
        health: the last answer of ``health.detailed``.
        refused: sources that the hub refuses, with its error messages.
    """

    url: str
    link: ConnectionStatus
    metrics: HubMetrics | None = None
    metrics_at: float = 0.0
    health: DetailedHealth | None = None
    refused: dict[str, str] = field(default_factory=dict)
    _executors: list[WorkingExecutor] = field(default_factory=list)
    _methods: list[MethodRow] = field(default_factory=list)
    _tenants: list[TenantRow] = field(default_factory=list)
    _calls: list[CallInFlight] = field(default_factory=list)
    _calls_more: int = 0
    _topics: list[TopicRow] = field(default_factory=list)
    _topics_at: float = 0.0

    # --- input ---

    def hear(self, source: str, data: Any, now: float) -> None:
        """Take the data of an event of topic ``source``, or the result of the method ``source``.

        What is not as this version knows it counts as refused: the hub is of another one.
        """
        self.refused.pop(source, None)
        try:
            self._hear(source, data, now)
        except msgspec.ValidationError as error:
            self.refuse(source, f"the hub tells {source} otherwise than this version reads it: {error}")

    def _hear(self, source: str, data: Any, now: float) -> None:
        match source:
            case "system.metrics":
                self.metrics, self.metrics_at = msgspec.convert(data, HubMetrics), now
            case "system.executors":
                self._executors = msgspec.convert(data, ExecutorsReport).executors
            case "health.detailed":
                self.health = msgspec.convert(data, DetailedHealth)
            case "metrics.get":
                told = msgspec.convert(data, Metrics)
                self._methods, self._tenants = busiest(told), tenants_of(told)
            case "system.calls":
                listed = msgspec.convert(data, CallList)
                self._calls, self._calls_more = listed.calls, listed.more
            case "system.topics":
                self._topics = rated(msgspec.convert(data, TopicList).topics, self._topics, now - self._topics_at)
                self._topics_at = now

    def refuse(self, source: str, words: str) -> None:
        """Note that the hub refuses a source, and forget its figures, which are out of date."""
        self.refused[source] = words
        match source:
            case "system.metrics":
                self.metrics = None
            case "system.calls":
                self._calls, self._calls_more = [], 0
            case "system.topics":
                self._topics = []

    # --- output ---

    def age(self, now: float) -> float | None:
        """The age of the head's figures, in seconds; None where there are none."""
        return None if self.metrics is None else max(0.0, now - self.metrics_at)

    def is_live(self, now: float) -> bool:
        """Whether the figures are current."""
        age = self.age(now)
        return self.link.state == "connected" and age is not None and age <= STALE_SECONDS

    def freshness(self, now: float) -> str:
        """How current the figures are, as text."""
        link, age = self.link, self.age(now)
        old = "" if age is None else f"; figures are {age:.0f} s old"
        if link.state == "closed":
            return f"disconnected, not reconnecting: {link.why}{old}"
        if link.state == "reconnecting":
            return f"reconnecting for {now - link.since:.0f} s (attempt {link.attempt}): {link.why}{old}"
        if METRICS in self.refused:
            return f"no live figures: {self.refused[METRICS]}"
        if age is None:
            return "connected; the first figures are due within two seconds"
        return "live" if age <= STALE_SECONDS else f"stale: connected, but no figures for {age:.0f} s"

    @property
    def executors(self) -> list[WorkingExecutor]:
        """The executors: their state by ``health.detailed``, what they run by ``system.executors``."""
        told = {row.worker_id: row for row in self._executors}
        if self.health is None:
            return list(told.values())
        rows = [WorkingExecutor(**msgspec.structs.asdict(row)) for row in self.health.executors]
        for row in rows:
            known = told.get(row.worker_id)
            if known is not None and known.pid == row.pid:
                row.running = known.running
                row.cpu_percent = known.cpu_percent if row.cpu_percent is None else row.cpu_percent
        return rows

    @property
    def methods(self) -> list[MethodRow]:
        """The methods of the last minute, the busiest first."""
        return self._methods

    @property
    def tenants(self) -> list[TenantRow]:
        """The tenants of the last minute, the busiest first; none where there is but one."""
        return self._tenants

    @property
    def calls(self) -> list[CallInFlight]:
        """The calls in flight, the oldest first."""
        return self._calls

    @property
    def calls_more(self) -> int:
        """How many more calls are in flight than :attr:`calls` lists."""
        return self._calls_more

    @property
    def topics(self) -> list[TopicRow]:
        """The recently active topics, those with the highest rate first; a rate is None at first."""
        return sorted(self._topics, key=lambda row: -(row.per_second or 0.0))

    def concern(self, method: str, tenant: str = DEFAULT_TENANT) -> MethodHealth | None:
        """The entry of ``health.detailed`` for a method that is not served, or fails; None for others."""
        concerned = [] if self.health is None else self.health.methods
        return next((row for row in concerned if (row.method, row.tenant) == (method, tenant)), None)

    def health_in_words(self) -> tuple[str, str]:
        """The hub's status in one word, and its causes with the number of working executors."""
        if self.health is None:
            return "unknown", self.refused.get(HEALTH, "")
        rows = self.health.executors
        working = sum(row.status in SERVING for row in rows)
        number = f"{working} of {len(rows)} executor{'' if len(rows) == 1 else 's'} working"
        return self.health.status, "; ".join([*self.health.causes, number])

    def report(self, now: float) -> BoardReport:
        """The board as data."""
        age, health = self.age(now), self.health
        return BoardReport(
            url=self.url,
            state=self.link.state,
            live=self.is_live(now),
            age_seconds=None if age is None else round(age, 3),
            refused=self.refused,
            status=None if health is None else health.status,
            since=None if health is None else health.since,
            causes=None if health is None else health.causes,
            groups=None if health is None else health.groups,
            concerned=None if health is None else health.methods,
            uptime_seconds=None if health is None else health.uptime_seconds,
            metrics=self.metrics,
            executors=self.executors,
            methods=self.methods[:LIMIT],
            tenants=self.tenants[:LIMIT],
            calls=self.calls[:LIMIT],
            topics=self.topics[:LIMIT],
        )


def busiest(answer: Metrics) -> list[MethodRow]:
    """The methods that were called, most calls first."""
    seconds = answer.window_seconds
    rows = [
        MethodRow(
            method=name,
            per_second=round(stats.count / seconds, 3) if seconds else 0.0,
            tenant=tenant,
            **msgspec.structs.asdict(stats),
        )
        for tenant, methods in [(DEFAULT_TENANT, answer.methods), *answer.tenants.items()]
        for name, stats in methods.items()
        if stats.count
    ]
    return sorted(rows, key=lambda row: (-row.count, row.method, row.tenant))


def tenants_of(answer: Metrics) -> list[TenantRow]:
    """The tenants that called, most calls first."""
    seconds = answer.window_seconds
    rows = [
        TenantRow(
            tenant=name, per_second=round(used.count / seconds, 3) if seconds else 0.0, **msgspec.structs.asdict(used)
        )
        for name, used in answer.by_tenant.items()
        if used.count
    ]
    return sorted(rows, key=lambda row: (-row.count, row.tenant))


def rated(topics: list[TopicReport], before: list[TopicRow], seconds: float) -> list[TopicRow]:
    """The topics with their rates, from the offsets of two readings of the same epoch."""
    known = {(row.tenant, row.topic, row.epoch): row.offset for row in before}
    rows = []
    for row in topics:
        then = known.get((row.tenant, row.topic, row.epoch))
        rate = None if then is None or seconds <= 0 else round((row.offset - then) / seconds, 1)
        rows.append(TopicRow(**msgspec.structs.asdict(row), per_second=rate))
    return rows
