"""Chooses the executor for a call, or its queue: the load of lanes, routing keys, queues and held input. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from trunkline_protocol.backlog import Backlog
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Lane, MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.inputs import InputWindow

ANYWHERE: Final = -1
"""The queue of calls that any executor may take."""

LANES: Final[tuple[Lane, ...]] = ("loop", "thread")

PoolBacklog = Backlog[tuple[Lane, int]]
"""The queues of a pool; a key is a lane and the place of the executor a call has to run on, or :data:`ANYWHERE`."""

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
        self.mean_run += (run_seconds - self.mean_run) * 0.125
        ahead = int(self.slots * PREFETCH_SECONDS / max(self.mean_run, 1e-6))
        self.limit = self.slots + min(PREFETCH_LIMIT, ahead)


def least_loaded(lanes: Sequence[LaneLoad | None], start: int) -> int:
    """The index of the least busy lane that has room, or -1 where none has. None stands for a lane that is not ready.

    Busy is relative to the lane's slots, so that nothing is sent ahead while another lane has a free slot. A plain
    function beside it counts as half the slots: it may hold the interpreter lock. Of equals the first from ``start`` on
    is taken, so that a caller who increments it spreads calls evenly.
    """
    best, best_load = -1, float("inf")
    for offset in range(len(lanes)):
        index = (start + offset) % len(lanes)
        lane = lanes[index]
        if lane is None or lane.load >= lane.limit:
            continue
        load = lane.load / lane.slots
        if lane.beside is not None and lane.beside.load:
            load += 0.5
        if load < best_load:
            best, best_load = index, load
    return best


class RoutingKeys:
    """Reads the routing keys of calls, with one decoder per method that skips the rest of the params."""

    def __init__(self) -> None:
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {}

    def value(self, info: MethodInfo, params: bytes) -> str:
        """The value of a call's routing key.

        Args:
            params: JSON, an object or an array.

        Raises:
            RpcError: -32602, the key is missing or not a string.
        """
        key = info.routing_key
        assert key is not None
        try:
            if params.lstrip()[:1] == b"[":
                position = next(i for i, parameter in enumerate(info.parameters) if parameter.name == key)
                value = msgspec.json.decode(msgspec.json.decode(params, type=list[msgspec.Raw])[position], type=str)
            else:
                value = getattr(self._decoder(info.name, key).decode(params), key)
        except (msgspec.DecodeError, IndexError, StopIteration) as error:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{info.name}: {key} must be given as a string") from error
        assert isinstance(value, str)
        return value

    def _decoder(self, method: str, key: str) -> msgspec.json.Decoder[Any]:
        decoder = self._decoders.get(method)
        if decoder is None:
            decoder = msgspec.json.Decoder(msgspec.defstruct("Key", [(key, str)]))
            self._decoders[method] = decoder
        return decoder


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
