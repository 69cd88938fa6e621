"""What calls wait in and for: queues, the load of lanes, routing keys, held input. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from trunkline_protocol.backlog import Backlog
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import VECTORS_PACK, Lane, MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.inputs import InputWindow
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.tenants import NOTHING_SHARED, SharedNames

DEFAULT_GROUP: Final = "default"

LANES: Final[tuple[Lane, ...]] = ("loop", "thread")

Queue = int | frozenset[int]
"""The place of the executor that a call has to run on, or the indexes of the executors that may all take it."""

ANYWHERE: Final = frozenset[int]()
"""The queue of calls that every executor may take."""

PoolBacklog = Backlog[tuple[Lane, Queue]]
"""The queues of a pool."""

PREFETCH_SECONDS: Final = 0.002
"""Seconds of work that may wait inside an executor, behind the calls that run."""

PREFETCH_LIMIT: Final = 256


class LaneLoad:
    """How many calls a lane of an executor holds, and how many it may hold.

    The executor runs ``slots`` of them at once: up to ``max_concurrency`` coroutines on its loop, one plain function on
    its thread. No more than about two milliseconds of work are sent ahead of that, so that a slow call does not delay
    others that a free executor could run, while quick ones do not wait for the wire.

    Attributes:
        mean_run: mean run time of the lane's calls, in seconds.
        beside: the lane of the executor whose calls take time from those of this one; None without such a lane.
    """

    __slots__ = ("beside", "limit", "load", "mean_run", "slots")

    def __init__(self, slots: int, beside: LaneLoad | None = None) -> None:
        self.beside = beside
        self.load = 0
        self.limit = slots
        self.slots = slots
        self.mean_run = PREFETCH_SECONDS * slots

    def observe(self, run_seconds: float) -> None:
        """Update the mean run time (exponential, weight 1/8) and the limit with a finished call."""
        mean = self.mean_run = self.mean_run + (run_seconds - self.mean_run) * 0.125
        ahead = self.slots * PREFETCH_SECONDS
        self.limit = self.slots + (PREFETCH_LIMIT if ahead >= mean * PREFETCH_LIMIT else int(ahead / mean))


class RoutingKeys:
    """Reads from params what calls are routed by, with one decoder per method that skips the rest of the params.

    Args:
        shared_collections: those that all tenants have in common.
    """

    def __init__(self, shared_collections: SharedNames = NOTHING_SHARED) -> None:
        self._shared_collections = shared_collections
        self._decoders: dict[tuple[str, str], msgspec.json.Decoder[Any]] = {}

    def value(self, info: MethodInfo, params: bytes) -> str:
        """The value of a call's routing key.

        Args:
            params: JSON, an object or an array.

        Raises:
            RpcError: -32602, the key is missing or not a string.
        """
        key = info.routing_key
        assert key is not None
        value = self.optional(info, key, params)
        if value is None:
            raise _no_string(info, key)
        return value

    def allowed(self, info: MethodInfo, call: Call) -> str:
        """A call's routing key: of a collection, which is its tenant's, what the hub knows it by, else its value.

        Every use of a collection comes here, whoever makes the call for whom.

        Raises:
            RpcError: 6002, it is a collection that the call's principal may not use; or as :meth:`value`.
        """
        key = self.value(info, call.params)
        if info.pack == VECTORS_PACK and (caller := call.caller()) is not None:
            caller.require_collection(key)
            if caller.tenant != DEFAULT_TENANT:
                return self._shared_collections.key(caller.tenant, key)
        return key

    def optional(self, info: MethodInfo, name: str, params: bytes) -> str | None:
        """The value of a parameter; None where it is left out, or null.

        Raises:
            RpcError: -32602, it is given and not a string.
        """
        try:
            if params.lstrip()[:1] == b"[":
                position = next(i for i, parameter in enumerate(info.parameters) if parameter.name == name)
                values = msgspec.json.decode(params, type=list[msgspec.Raw])
                return msgspec.json.decode(values[position], type=str | None) if position < len(values) else None
            value = getattr(self._decoder(info.name, name).decode(params), name)
        except (msgspec.DecodeError, StopIteration) as error:
            raise _no_string(info, name) from error
        return None if value is None else str(value)

    def _decoder(self, method: str, name: str) -> msgspec.json.Decoder[Any]:
        decoder = self._decoders.get((method, name))
        if decoder is None:
            decoder = msgspec.json.Decoder(msgspec.defstruct("Key", [(name, str | None, None)]))
            self._decoders[method, name] = decoder
        return decoder


def default_of(info: MethodInfo, name: str) -> str | None:
    """The default of a parameter, or None where that is no string."""
    defaults = (each.schema.get("default") for each in info.parameters if each.name == name)
    return next((default for default in defaults if isinstance(default, str)), None)


def _no_string(info: MethodInfo, name: str) -> RpcError:
    return RpcError(ErrorCode.INVALID_PARAMS, f"{info.name}: {name} must be given as a string")


class HeldInput:
    """Holds the input of calls that wait for an executor, and bounds its size.

    Args:
        limit: in bytes, for all calls together (setting ``queue_bytes``); one item may always be held.
        retry_after_ms: returns the hint for a refusal.
    """

    def __init__(self, limit: int, retry_after_ms: Callable[[], int]) -> None:
        self._limit = limit
        self._retry_after_ms = retry_after_ms
        self.bytes = 0

    def hold(self, window: InputWindow, body: bytes) -> None:
        """Hold the body of an INPUT until its call has an executor.

        Raises:
            RpcError: 2002, too much is held already.
        """
        if self.bytes and self.bytes + len(body) > self._limit:
            raise limit_error(
                "queue_bytes",
                f"the input of waiting calls takes {self.bytes} bytes already; try again later",
                code=ErrorCode.WORKER_OVERLOADED,
                retry_after_ms=self._retry_after_ms(),
            )
        window.hold(body)
        self.bytes += len(body)

    def release(self, call: Call) -> list[bytes]:
        """Remove and return the bodies held for a call, in order."""
        if call.input is None:
            return []
        self.bytes -= call.input.held_bytes
        return call.input.release()


def open_input(call: Call) -> InputWindow:
    """The input window of a call, made at its first item.

    Raises:
        RpcError: -32602, the method takes no input.
    """
    if call.input is None:
        if call.info is None or call.info.input is None:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"stream.push: {call.method} takes no input")
        call.input = InputWindow()
    return call.input
