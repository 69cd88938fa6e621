"""The view of the hub for its own methods, and the catalogue entries of those methods."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from trunkline.control.data_folder import Disk
from trunkline.control.sight import MethodSight, sees_all
from trunkline.observe.history import Sample
from trunkline.observe.metrics import CallStats
from trunkline.observe.tenant_calls import TenantCalls
from trunkline.version import __version__
from trunkline_protocol.calls import Call, Caller
from trunkline_protocol.catalogue import MethodInfo, Parameter, TopicInfo
from trunkline_protocol.depth import MAX_DEPTH
from trunkline_protocol.health_reports import ExecutorReport, GroupSeen
from trunkline_protocol.hub_methods import METHODS, HubMethod
from trunkline_protocol.json_schema import Schema
from trunkline_protocol.messages import HubIdentity, HubLimits
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.tenants import SharedNames

_LIMITS: Final = HubLimits(16 * 2**20, MAX_DEPTH, 100)
_HUB: Final = HubIdentity("trunkline", __version__)
_NONE_SHARED: Final = SharedNames()


class PoolView(Protocol):
    """The executor pool, as far as reports read it."""

    @property
    def waiting(self) -> int:
        """How many calls wait for an executor."""

    def groups(self) -> list[GroupSeen]:
        """What is seen of each group of executors now; empty without executors."""

    @property
    def methods(self) -> dict[str, MethodInfo]:
        """The catalogue entries of the executors' methods, by name."""

    @property
    def topics(self) -> dict[str, TopicInfo]:
        """What executors' modules declare of topics, by pattern."""

    def snapshot(self) -> list[ExecutorReport]:
        """The state of each executor, without what its process uses."""

    def running(self) -> dict[str, list[tuple[Call, bool]]]:
        """The calls of each executor, with whether each is parked: it waits for calls of its own, without a slot."""


class RouterView(Protocol):
    """The router, as far as reports read it."""

    in_flight: int
    draining: bool


class TallyView(Protocol):
    """The calls of one method that one executor has finished."""

    count: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class HubView:
    """The parts of the hub that control methods read.

    Attributes:
        started: when the hub started, on the monotonic clock, in seconds.
        connections: how many connections are open now.
        registered: the methods that clients serve to a tenant.
        shared: the names under which clients serve methods to all tenants.
        presence: the keys of those, and whether one of their clients is connected.
        expiring: returns what of the hub's own credentials ends soon, in words.
        disk: returns what is free in the data folder, why nothing can be stored there, and what runs out soon.
        lately: returns the samples of the last so many seconds, the oldest first.
        tallies: returns what each executor has finished since the hub started, by method: count, failed, seconds.
        tenants: the counts of calls by tenant.
        tenants_lately: the samples of those of the last so many seconds.
        connections_of: how many connections of one tenant are open.
        calls_of: how many calls of one tenant are in flight, and how many of these wait.
        tripped: returns which circuit breakers are not closed, and why, in words by the key of the method.
        limits, hub, idempotency_epoch: the hub's limits and identity, and which memory of idempotency keys it has, as
            ``rpc.ping`` and ``session.open`` tell clients.
    """

    pool: PoolView
    router: RouterView
    stats: CallStats
    started: float
    connections: Callable[[], int]
    registered: Callable[[str], list[MethodInfo]] = lambda _tenant: []
    presence: Callable[[], dict[str, bool]] = dict
    disk: Callable[[], Disk] = Disk
    lately: Callable[[float], list[Sample]] = lambda _seconds: []
    tallies: Callable[[], Mapping[str, Mapping[str, TallyView]]] = dict
    tripped: Callable[[], dict[str, str]] = dict
    limits: HubLimits = _LIMITS
    hub: HubIdentity = _HUB
    idempotency_epoch: str = ""
    expiring: Callable[[], list[str]] = list
    shared: SharedNames = _NONE_SHARED
    tenants: TenantCalls = field(default_factory=lambda: TenantCalls(0))
    tenants_lately: Callable[[float], list[Sample]] = lambda _seconds: []
    connections_of: Callable[[str], int] = lambda _tenant: 0
    calls_of: Callable[[str], tuple[int, int]] = lambda _tenant: (0, 0)

    def sight_of(self, who: Caller | None) -> MethodSight:
        """What somebody may be told of methods; None is the hub itself."""
        tenant = DEFAULT_TENANT if who is None else who.tenant
        has_all = sees_all(who)
        return MethodSight(tenant, has_all, self.pool.methods, self.shared, self.tenants.is_on and not has_all)


@functools.cache
def listed_methods() -> tuple[MethodInfo, ...]:
    """The catalogue entries of the hub's own methods that are listed in ``rpc.discover``."""
    return tuple(describe(method) for method in METHODS.values() if method.listed)


def tools() -> list[MethodInfo]:
    """The catalogue entries of the hub's own methods that MCP clients get as tools."""
    return [info for info in listed_methods() if METHODS[info.name].is_tool]


def describe(method: HubMethod[Any, Any]) -> MethodInfo:
    """The catalogue entry of one of the hub's own methods."""
    params = schema_of(method.params)
    required = params.get("required", [])
    return MethodInfo(
        method.name,
        method.summary,
        pack="hub",
        idempotent=method.idempotent,
        parameters=[Parameter(name, schema, name in required) for name, schema in params.get("properties", {}).items()],
        result=schema_of(method.result),
    )


def schema_of(described: type[object]) -> Schema:
    """The JSON Schema of a type, without references, so that each entry of a catalogue is complete."""
    (root,), components = msgspec.json.schema_components([described], ref_template="#/{name}")
    schema: Schema = _inlined(root, components)
    return schema


def _inlined(schema: Any, components: dict[str, Schema]) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(components[schema["$ref"].removeprefix("#/")], components)
        inlined = {key: _inlined(value, components) for key, value in schema.items()}
        if isinstance(inlined.get("title"), str):
            del inlined["title"]  # inlined schemas repeat, and generators of clients make a type name of each title
        if isinstance(said := inlined.get("description"), str):
            inlined["description"] = said.replace("``", "`")  # docstrings are reStructuredText, documents Markdown
        return inlined
    return [_inlined(value, components) for value in schema] if isinstance(schema, list) else schema
