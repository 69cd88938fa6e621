"""What a method of the hub looks like, and what it may see of the hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from trunkline.observe.metrics import CallStats
from trunkline_protocol.catalogue import MethodInfo, Parameter
from trunkline_protocol.errors import ErrorCode, RpcError


class PoolView(Protocol):
    """The executor pool, read only."""

    waiting: int

    @property
    def ready(self) -> bool:
        """Whether all executors are warm."""

    @property
    def methods(self) -> dict[str, MethodInfo]:
        """The catalogue by name."""

    def snapshot(self) -> list[dict[str, Any]]:
        """What each executor is doing."""


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
    """

    pool: PoolView
    router: RouterView
    stats: CallStats
    started: float
    connections: Callable[[], int]


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
        self.info = MethodInfo(name, summary, pack="hub", idempotent=True, parameters=_parameters(params))

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


def _parameters(params: type[msgspec.Struct]) -> list[Parameter]:
    _refs, components = msgspec.json.schema_components([params], ref_template="#/{name}")
    described = components[params.__name__]
    required = described.get("required", [])
    return [Parameter(name, schema, name in required) for name, schema in described.get("properties", {}).items()]
