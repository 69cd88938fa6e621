"""What a method of the hub looks like, and what it may see of the hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from trunkline.control.results import RESULTS
from trunkline.observe.history import Sample
from trunkline.observe.metrics import CallStats
from trunkline.version import __version__
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodInfo, Parameter
from trunkline_protocol.depth import MAX_DEPTH
from trunkline_protocol.errors import ErrorCode, RpcError
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


class NoParams(msgspec.Struct, forbid_unknown_fields=True):
    """For methods without parameters."""


class ControlMethod:
    """A method the hub answers at once, from what it knows.

    Args:
        name: as called.
        summary: one line for ``rpc.discover``.
        answer: gets the decoded params.
        params: a msgspec Struct that says what they must be.
    """

    def __init__(
        self, name: str, summary: str, answer: Callable[[Any], Any], params: type[msgspec.Struct] = NoParams
    ) -> None:
        self.name = name
        self._answer = answer
        self._decoder = msgspec.json.Decoder(params)
        self.info = describe(name, summary, params, idempotent=True)

    def __call__(self, params: bytes, /) -> Any:
        """Answer.

        Raises:
            RpcError: -32602 that names the parameter.
        """
        try:
            decoded = self._decoder.decode(b"{}" if params.strip() == b"[]" else params)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{self.name}: {error}") from error
        return self._answer(decoded)


def describe(
    name: str, summary: str, params: type[msgspec.Struct], *, idempotent: bool, result: Any = None
) -> MethodInfo:
    """A catalogue entry for a method the hub answers itself.

    Args:
        result: the type of what it answers, where that is not in :data:`RESULTS`.
    """
    schema = RESULTS.get(name, {}) if result is None else _schema(result)
    return MethodInfo(name, summary, pack="hub", idempotent=idempotent, parameters=_parameters(params), result=schema)


def _schema(described: Any) -> Any:
    (root,), components = msgspec.json.schema_components([described], ref_template="#/{name}")
    return _inlined(root, components)


def _parameters(params: type[msgspec.Struct]) -> list[Parameter]:
    _refs, components = msgspec.json.schema_components([params], ref_template="#/{name}")
    described = components[params.__name__]
    required = described.get("required", [])
    return [
        Parameter(name, _inlined(schema, components), name in required)
        for name, schema in described.get("properties", {}).items()
    ]


def _inlined(schema: Any, components: dict[str, Any]) -> Any:
    """The schema without references: each entry of a catalogue stands for itself."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(components[schema["$ref"].removeprefix("#/")], components)
        return {key: _inlined(value, components) for key, value in schema.items()}
    return [_inlined(value, components) for value in schema] if isinstance(schema, list) else schema
