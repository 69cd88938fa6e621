"""Reports about the hub: types of the params and results of its methods for status, metrics and calls.

One definition for the hub's answers, the schemas of ``rpc.discover`` and ``/openapi.json``, and the readers of both.
Times are in milliseconds where a name ends with ``_ms``; ``_at`` is milliseconds since 1970.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from trunkline_protocol.health_reports import ExecutorReport
from trunkline_protocol.json_schema import Schema
from trunkline_protocol.messages import HubIdentity, HubLimits, Id
from trunkline_protocol.principals import DEFAULT_TENANT

MAX_CALLS: Final = 500
"""Calls in flight that one answer lists, the oldest first."""

MAX_TOPICS: Final = 500
"""Topics, and subscribed patterns, that one answer lists: each costs microseconds."""


class NoParams(msgspec.Struct, forbid_unknown_fields=True):
    """No params."""


class Pong(msgspec.Struct):
    """Result of ``rpc.ping``."""

    pong: bool
    time_ms: int
    limits: HubLimits
    hub: HubIdentity
    idempotency_epoch: str


class OpenRpcInfo(msgspec.Struct):
    """``info`` of an OpenRPC document."""

    title: str
    version: str


class OpenRpcComponents(msgspec.Struct):
    """``components`` of an OpenRPC document."""

    schemas: dict[str, Schema]


class DescribedTopic(msgspec.Struct):
    """When events of a topic are published, and the JSON Schema of their data."""

    summary: str
    data: Schema


class OpenRpcExtension(msgspec.Struct):
    """What an OpenRPC document of a hub has beside its methods."""

    topics: dict[str, DescribedTopic]


class OpenRpcDocument(msgspec.Struct):
    """Result of ``rpc.discover``: an OpenRPC 1.3 document."""

    openrpc: str
    info: OpenRpcInfo
    methods: list[dict[str, Any]]
    components: OpenRpcComponents
    extension: OpenRpcExtension = msgspec.field(name="x-trunkline")


# --- the machine ---


class SystemInfo(msgspec.Struct):
    """Result of ``system.info``."""

    name: str
    version: str
    wire_version: str
    python: str
    platform: str
    implementation: str
    pid: int
    cpu_count: int | None
    memory_total_mb: int
    uptime_seconds: float
    executors: int
    packs: list[str]
    methods: int
    connections: int


# --- metrics ---


class MetricsParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``metrics.get``."""

    time_range: Annotated[
        Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?[smhd]$")] | Annotated[float, Meta(ge=1)] | None,
        Meta(description="seconds, or a number with a unit, such as 15m or 24h; null for all since the hub started"),
    ] = None
    series: Annotated[bool, Meta(description="whether to add the samples of the time range")] = False


class Durations(msgspec.Struct, kw_only=True):
    """Percentiles of durations: from receipt to outcome; of that ``wait`` for an executor, and ``run`` in it."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    wait_p50_ms: float
    wait_p95_ms: float
    wait_p99_ms: float
    run_p50_ms: float
    run_p95_ms: float
    run_p99_ms: float


class MethodMetrics(Durations, kw_only=True):
    """Counts and durations of the calls of one method, or of all; ``errors`` by the name of the error."""

    count: int
    success: int
    errors: dict[str, int]
    mean_ms: float
    max_ms: float
    bytes_in: int
    bytes_out: int


class TenantMetrics(msgspec.Struct, kw_only=True):
    """What the calls of one tenant come to, or of several: ``refused`` are those that a limit refused (2002, 2003,
    6003), ``seconds`` are from receipt to outcome.
    """

    count: int
    failed: int
    refused: int
    seconds: float
    executor_seconds: float
    bytes_in: int
    bytes_out: int


class WorkedCalls(msgspec.Struct, kw_only=True):
    """Calls that an executor has finished; ``mean_ms`` is the time that they ran."""

    count: int
    success: int
    mean_ms: float


class WorkerMetrics(WorkedCalls, kw_only=True):
    """Calls of one executor: ``methods`` tells them apart, since the hub started only."""

    methods: dict[str, WorkedCalls] | msgspec.UnsetType = msgspec.UNSET


class MetricsSample(Durations, kw_only=True):
    """The calls of a period of ``seconds``, which ended ``seconds_ago``."""

    seconds_ago: float
    seconds: float
    calls: int
    errors: int


class Metrics(msgspec.Struct):
    """Result of ``metrics.get`` for ``window_seconds``; ``series`` where the params ask for it.

    Where there are several tenants, all of it is the caller's tenant's. Admins are told of all tenants: for them
    ``tenants`` has the methods that clients serve in other tenants, by tenant and name, and ``by_tenant`` those tenants
    that call most, with the others as ``(other)``.
    """

    window_seconds: float
    request_count: int
    error_count: int
    requests_per_second: float
    total: MethodMetrics
    active_requests: int
    waiting_requests: int
    methods: dict[str, MethodMetrics]
    workers: dict[str, WorkerMetrics]
    tenants: dict[str, dict[str, MethodMetrics]] = {}
    by_tenant: dict[str, TenantMetrics] = {}
    series: list[MetricsSample] | msgspec.UnsetType = msgspec.UNSET


# --- calls in flight, topics, failures ---


class CallsParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``system.calls``."""

    limit: Annotated[int, Meta(ge=1, le=MAX_CALLS)] = MAX_CALLS


class CallInFlight(msgspec.Struct):
    """A call that has no outcome yet; ``call`` is its number, for ``system.cancel``."""

    call: int
    method: str
    id: Id
    principal: str | None
    connection: int | None
    state: Literal["queued", "running"]
    executor: str | None
    age_ms: Annotated[float, Meta(description="since the hub received it")]
    running_ms: Annotated[float | None, Meta(description="since its executor got it; null while it is queued")]
    chunks: int
    depth: int
    trace_id: str | None
    tenant: str | None = None


class CallList(msgspec.Struct):
    """Result of ``system.calls``: the oldest first; ``more`` counts those that are not listed."""

    calls: list[CallInFlight]
    more: int


class CancelParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``system.cancel``."""

    call: Annotated[int, Meta(description="the number of a call in system.calls")]


class CancelledCall(msgspec.Struct):
    """Result of ``system.cancel``: ``cancelled`` is false where the call was not in flight any more."""

    call: int
    cancelled: bool


class TopicsParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``system.topics``."""

    limit: Annotated[int, Meta(ge=1, le=MAX_TOPICS)] = 100


class TopicReport(msgspec.Struct):
    """The state of a topic: ``offset`` counts the events of its epoch, ``kept`` of them are in the history."""

    topic: str
    epoch: str
    offset: int
    kept: int
    kept_bytes: int
    oldest_at: int | None
    subscribers: int
    tenant: Annotated[str, Meta(description="whose it is; default where all have it in common")] = DEFAULT_TENANT


class SubscribedPattern(msgspec.Struct):
    """A topic or pattern, the number of connections that subscribe to it, and the tenant whose topics it is about."""

    pattern: str
    subscribers: int
    tenant: str = DEFAULT_TENANT


class TopicList(msgspec.Struct):
    """Result of ``system.topics``: the topic with the latest event comes first; ``more`` are not listed.

    ``tenant`` is that of who asks: what it subscribes to is of this tenant.
    """

    topics: list[TopicReport]
    more: int
    subscribed: list[SubscribedPattern]
    tenant: str = DEFAULT_TENANT


class FailureParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``system.failure``."""

    failure: Annotated[int, Meta(description="the failure number of an event of system.requests")]


class Failure(msgspec.Struct):
    """Result of ``system.failure``: ``redacted`` values of the params are ``"***"``."""

    failure: int
    kept: bool
    method: str | None
    params: Any
    redacted: int


# --- orders to executors ---


class DrainParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``executors.drain``."""

    worker_id: Annotated[str, Meta(description="as in health.detailed")]


class Drained(msgspec.Struct):
    """Result of ``executors.drain``: ``slots`` that the old process had, and the ``pid`` of the new one."""

    worker_id: str
    slots: int
    pid: int


class ReloadParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``executors.reload``."""

    group: Annotated[str | None, Meta(description="the executors of this group alone")] = None


class Reloaded(msgspec.Struct):
    """Result of ``executors.reload``: the new processes, and how what they serve differs.

    ``methods`` is how many they serve, ``added`` and ``removed`` which are new and gone; ``failed`` says which modules
    could not be loaded, of those that could not be loaded before either.
    """

    executors: list[Drained]
    methods: int
    added: list[str]
    removed: list[str]
    failed: list[str]


class AssignParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``executors.assign``."""

    key: Annotated[str, Meta(description="a routing key, such as a collection's name")]
    worker_id: str
    tenant: Annotated[str, Meta(description="whose collection it is; a shared one is default's")] = DEFAULT_TENANT


class Assigned(msgspec.Struct):
    """Result of ``executors.assign``: the key's slot, and who owns it now."""

    key: str
    slot: int
    worker_id: str


# --- data of the topics under ``system.`` ---


class HubMetrics(Durations, kw_only=True):
    """``data`` of ``system.metrics``: one second of the whole hub; ``errors`` by the name of the error."""

    connections: int
    subscriptions: int
    streams: int
    calls_in_flight: int
    calls_waiting: int
    calls_per_second: float
    errors_per_second: float
    errors: dict[str, int]
    events_per_second: float
    deliveries_per_second: float
    bytes_in_per_second: float
    bytes_out_per_second: float
    buffered_bytes: int
    events_dropped: int
    rss_mb: float


class RunningCall(CallInFlight, kw_only=True):
    """A call that an executor runs; ``parked`` while it waits for calls of its own, without a slot."""

    parked: bool


class WorkingExecutor(ExecutorReport):
    """An executor and the calls that it runs, the oldest first."""

    running: list[RunningCall] = msgspec.field(default_factory=list)


class ExecutorsReport(msgspec.Struct):
    """``data`` of ``system.executors``."""

    executors: list[WorkingExecutor]


class EndedCall(msgspec.Struct):
    """A call that has an outcome; ``message`` says what its error says, ``failure`` is its number for
    ``system.failure``."""

    method: str
    principal: str | None
    connection: int | None
    id: Id
    request_id: str | None
    trace_id: str | None
    outcome: str
    code: int
    message: str | None
    failure: int | None
    duration_ms: float
    queue_ms: float
    run_ms: float | None
    executor: str | None
    chunks: int
    bytes_in: int
    bytes_out: int
    finished_at: int
    tenant: str | None = None


class RequestsReport(msgspec.Struct):
    """``data`` of ``system.requests``: ``dropped`` counts ended calls that are not listed."""

    requests: list[EndedCall]
    dropped: int


class Peer(msgspec.Struct):
    """The peer of a connection."""

    connection: int
    peer: str
    principal: str
    tenant: str
    transport: str
    client: str | None


class OpenedConnection(Peer):
    """A connection that was opened."""

    opened_at: int


class ClosedConnection(msgspec.Struct):
    """A connection that was closed."""

    connection: int
    duration_ms: float


class ConnectionReport(Peer):
    """An open connection. Rates are since its last report; null where the transport does not count bytes."""

    duration_ms: int
    calls: int
    streams: int
    subscriptions: int
    session: bool
    received_bytes: int | None
    sent_bytes: int | None
    in_bytes_per_second: float | None
    out_bytes_per_second: float | None
    buffered_bytes: int
    lag_ms: int
    dropped_events: int


class ConnectionsReport(msgspec.Struct):
    """``data`` of ``system.connections``: ``connections``, the most buffered bytes first, once a second, else null."""

    opened: list[OpenedConnection]
    closed: list[ClosedConnection]
    dropped: int
    open: int
    connections: list[ConnectionReport] | None


class LogRecord(msgspec.Struct):
    """A log record; further members are fields of that record."""

    time: str
    level: str
    logger: str
    event: str


class LogsReport(msgspec.Struct):
    """``data`` of ``system.logs``: ``dropped`` counts the records that are not listed."""

    records: list[LogRecord]
    dropped: int
