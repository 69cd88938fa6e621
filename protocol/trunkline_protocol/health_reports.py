"""Health: what a hub can serve now, since when something cannot be served, and why. One definition for all who ask.

``status`` of hub and groups: ``healthy``; ``degraded``, where something cannot be served, fails or runs out;
``unhealthy``, where nothing can be served; ``starting`` and ``stopping``. ``since`` is in milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from trunkline_protocol.catalogue import Lane, MethodInfo, ModuleFailure
from trunkline_protocol.principals import DEFAULT_TENANT

Status = Literal["healthy", "degraded", "unhealthy", "starting", "stopping"]
ExecutorStatus = Literal["starting", "ready", "busy", "silent", "stopping", "down"]

SERVING: frozenset[ExecutorStatus] = frozenset({"ready", "busy"})
"""The statuses of an executor that runs calls."""


Since = Annotated[int, Meta(description="when the status became what it is")]


class Memory(msgspec.Struct, frozen=True):
    """Memory of a process, in MiB and percent of the machine's memory."""

    rss_mb: float
    vms_mb: float
    percent: float


class LastRestart(msgspec.Struct, frozen=True):
    """The cause of an executor's last restart."""

    cause: str
    words: str
    number: int
    at: int


class ExecutorReport(msgspec.Struct):
    """One executor process. It owns ``slots`` of routing keys; ``slots_leaving`` of them are being handed over."""

    worker_id: str
    group: str
    status: ExecutorStatus
    pid: int | None
    uptime_seconds: Annotated[float | None, Meta(description="of the process; null where there is none")]
    slots: int
    slots_leaving: int
    active_requests: int
    request_count: int
    error_count: int
    error_rate: Annotated[float, Meta(description="0 to 1, of all its calls")]
    pipelines_loaded: Annotated[int, Meta(description="packs and modules of methods that are loaded")]
    restarts: int
    restart_causes: dict[str, int]
    last_restart: LastRestart | None
    last_failure: str | None
    latency_ms: Annotated[float | None, Meta(description="from the last ping to its pong")]
    memory_usage: Memory | None = None
    cpu_percent: Annotated[float | None, Meta(description="of one CPU, over about a second; null before")] = None


class Cause(msgspec.Struct, frozen=True):
    """Why a group cannot serve everything: what is the matter with ``subject``, an executor, a lane or a module."""

    kind: Literal["starting", "stopping", "silent", "down", "held", "not_loaded", "not_replaced"]
    subject: str
    since: int
    text: str


class GroupHealth(msgspec.Struct, frozen=True):
    """The health of a group of executors. ``ready``: one answers, and calls of one kind at least make progress."""

    name: str
    status: Status
    ready: bool
    since: Since
    executors: int
    serving: Annotated[int, Meta(description="executors that answer")]
    waiting_requests: Annotated[int | None, Meta(description="null for those who may not see what other tenants do")]
    causes: list[Cause]


class LastError(msgspec.Struct, frozen=True):
    """The error of the last call that failed; the ``message`` is null for those who may not see it."""

    type: str
    code: int
    message: str | None
    at: int


class MethodHealth(msgspec.Struct, frozen=True):
    """A method that cannot be served (``unavailable``), or whose calls fail (``failing``), and why.

    ``calls`` and ``failed`` count the last minute. Refused and cancelled calls, and those with wrong params, are not
    counted.
    """

    method: str
    group: Annotated[str | None, Meta(description="null where clients serve it")]
    status: Literal["unavailable", "failing"]
    since: int
    reason: str
    calls: int = 0
    failed: int = 0
    failed_per_second: float = 0.0
    last_error: LastError | None = None
    tenant: Annotated[str, Meta(description="whose clients serve it")] = DEFAULT_TENANT


Causes = Annotated[list[str], Meta(description="why the status is not healthy, in words")]
Concerned = Annotated[list[MethodHealth], Meta(description="methods that are not served, or fail; others are served")]
More = Annotated[int, Meta(description="how many more such methods are not listed")]


class Judged(msgspec.Struct, kw_only=True):
    """The judgement in short. ``ready``: a group of executors can serve something now, and none starts."""

    status: Status
    ready: bool
    since: Since


class Serving(Judged, kw_only=True):
    """What can be served now: ``data`` of ``system.health``, and a part of ``health.detailed``."""

    causes: Causes
    groups: list[GroupHealth]
    methods: Concerned
    methods_more: More


class Health(Judged, kw_only=True):
    """Result of ``health.check``: the hub's own process, and the totals of its calls.

    Where there are several tenants, others than admins are told of their own tenant's calls, and ``GET /health``, which
    is open to everybody, tells of none.
    """

    worker_id: str
    uptime_seconds: float
    request_count: int | None
    error_count: int | None
    error_rate: float | None
    active_requests: int | None
    memory_usage: Memory | None
    cpu_percent: float | None
    pipelines_loaded: int
    timestamp: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class DetailedHealth(Health, kw_only=True):
    """Result of ``health.detailed``: that of ``health.check``, what can be served, and each executor.

    ``executors`` is empty for those who may not see what other tenants do; ``connections`` and ``waiting_requests`` are
    their own tenant's, then.
    """

    causes: Causes
    groups: list[GroupHealth]
    methods: Concerned
    methods_more: More
    connections: int
    waiting_requests: int
    executors: list[ExecutorReport]


class ServiceHealth(msgspec.Struct):
    """A part of the hub in ``GET /health/detailed``: ``latencyMs`` of one turn of the loop, or from ping to pong."""

    status: Status
    latency_ms: float | None = msgspec.field(name="latencyMs")


class NamedServiceHealth(ServiceHealth, kw_only=True):
    """The body of ``GET /health/<name>``: what the last probe of a service elsewhere found."""

    service: str
    timestamp: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class DetailedServices(DetailedHealth, kw_only=True):
    """The body of ``GET /health/detailed``: the result of ``health.detailed``, and the status of each part by name."""

    uptime: float
    services: dict[str, ServiceHealth]


class Held(msgspec.Struct, frozen=True):
    """Calls of a lane that wait and make no progress: those that only ``executor`` may run, or all of the group."""

    lane: Lane
    executor: str | None
    text: str


class GroupSeen(msgspec.Struct):
    """What is known of a group of executors at one moment, for the judgement of its health.

    Attributes:
        methods: those that its executors serve.
        failed: modules that could not be loaded.
        not_replaced: why executors could not be replaced, by their place in the list.
        waiting: calls that wait for its executors.
    """

    name: str
    executors: list[ExecutorReport]
    methods: Collection[MethodInfo]
    held: list[Held]
    failed: list[ModuleFailure]
    not_replaced: dict[int, str] = msgspec.field(default_factory=dict)
    waiting: int = 0
