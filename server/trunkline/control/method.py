"""What the hub's methods may see of it, and how its catalogue describes them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from trunkline.observe.history import Sample
from trunkline.observe.metrics import CallStats
from trunkline.version import __version__
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodInfo, Parameter
from trunkline_protocol.depth import MAX_DEPTH
from trunkline_protocol.hub_methods import METHODS, HubMethod
from trunkline_protocol.messages import HubIdentity, HubLimits

_LIMITS: Final = HubLimits(16 * 2**20, MAX_DEPTH, 100)
_HUB: Final = HubIdentity("trunkline", __version__)


class PoolView(Protocol):
    """The executor pool, read only."""

    @property
    def waiting(self) -> int:
        """How many calls wait for an executor."""

    @property
    def serving(self) -> bool:
        """Whether anything can be served now."""

    def obstacles(self) -> list[str]:
        """What waits for executors that answer and yet do not get on, in words."""

    @property
    def methods(self) -> dict[str, MethodInfo]:
        """The catalogue by name."""

    def module_failures(self) -> list[str]:
        """What could not be loaded, and is not served, in words."""

    def snapshot(self) -> list[dict[str, Any]]:
        """What each executor is doing."""

    def running(self) -> dict[str, list[tuple[Call, bool]]]:
        """The calls each executor has, and whether they are parked: waiting for others, without a slot."""


class RouterView(Protocol):
    """The router, read only."""

    in_flight: int
    draining: bool


@dataclass(frozen=True, slots=True)
class HubView:
    """What control methods read.

    Attributes:
        started: when the hub started, on the monotonic clock, in seconds.
        connections: how many connections are open now.
        registered: methods that clients serve.
        lately: samples of the last so many seconds, the oldest first.
        limits, hub: what it takes and what it is, as clients are told.
    """

    pool: PoolView
    router: RouterView
    stats: CallStats
    started: float
    connections: Callable[[], int]
    registered: Callable[[], list[MethodInfo]] = list
    lately: Callable[[float], list[Sample]] = lambda _seconds: []
    limits: HubLimits = _LIMITS
    hub: HubIdentity = _HUB


@functools.cache
def listed_methods() -> tuple[MethodInfo, ...]:
    """The catalogue's entries of the methods that the hub answers itself, as far as they are listed."""
    return tuple(describe(method) for method in METHODS.values() if method.listed)


def tools() -> list[MethodInfo]:
    """Those of them that are tools of MCP."""
    return [info for info in listed_methods() if METHODS[info.name].is_tool]


def describe(method: HubMethod[Any]) -> MethodInfo:
    """The catalogue's entry of a method that the hub answers itself."""
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


def schema_of(described: type[Any]) -> dict[str, Any]:
    """The JSON Schema of a type without references: each entry of a catalogue stands for itself."""
    (root,), components = msgspec.json.schema_components([described], ref_template="#/{name}")
    schema: dict[str, Any] = _inlined(root, components)
    return schema


def _inlined(schema: Any, components: dict[str, Any]) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(components[schema["$ref"].removeprefix("#/")], components)
        inlined = {key: _inlined(value, components) for key, value in schema.items()}
        if isinstance(inlined.get("title"), str):
            del inlined["title"]  # each is there once for every place it is in, and generators make names of titles
        if isinstance(said := inlined.get("description"), str):
            inlined["description"] = said.replace("``", "`")  # docstrings are reStructuredText, documents Markdown
        return inlined
    return [_inlined(value, components) for value in schema] if isinstance(schema, list) else schema
