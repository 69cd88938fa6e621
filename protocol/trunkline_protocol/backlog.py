"""Calls that wait for whoever can run them: how much may wait, and whose turn is next. Pure.

The executors' pool has one :class:`Backlog`, with a queue a lane and executor; methods that clients serve have
another, with a queue a method. What it promises is the same: by priority, and within a priority flow by flow in turn;
bounded in all, a flow, and in bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, limit_error

QUEUE_LIMIT: Final = 16_384
QUEUE_LIMIT_PER_CONNECTION: Final = 10_240
QUEUE_BYTES: Final = 256 * 2**20
"""What the settings of these names are where nothing is said."""

SHARED_FROM: Final = 50
"""A limit below this keeps no part of the queue for flows with few calls in it."""

TURNS = (0, 0, 0, 1, 0, 0, 1, 2)
"""The priority that is served first, turn by turn: of eight turns high leads five, normal two, low one."""

_Level = OrderedDict[int, OrderedDict[Call, None]]
"""The calls of one priority by flow; the flow whose turn is next comes first."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Settings ``queue_limit``, ``queue_limit_per_connection``, ``queue_bytes``."""

    calls: int = QUEUE_LIMIT
    calls_per_flow: int = QUEUE_LIMIT_PER_CONNECTION
    bytes: int = QUEUE_BYTES


class CallQueue:
    """A queue with three priorities. All operations are O(1); a call can be taken out of the middle.

    A flow is one peer's calls. However many of them wait, another flow's next call waits for one of them at most.
    """

    __slots__ = ("_levels", "_size", "_turn")

    def __init__(self) -> None:
        self._levels: tuple[_Level, _Level, _Level] = (OrderedDict(), OrderedDict(), OrderedDict())
        self._size = 0
        self._turn = 0

    def __len__(self) -> int:
        return self._size

    def push(self, call: Call) -> None:
        """Put a call at the end of its flow."""
        self._flow(call)[call] = None
        self._size += 1

    def push_front(self, call: Call) -> None:
        """Put back a call that had been popped: it is the next of its priority."""
        flow = self._flow(call)
        flow[call] = None
        flow.move_to_end(call, last=False)
        self._levels[call.priority].move_to_end(call.flow, last=False)
        self._size += 1

    def _flow(self, call: Call) -> OrderedDict[Call, None]:
        level = self._levels[call.priority]
        flow = level.get(call.flow)
        if flow is None:
            flow = level[call.flow] = OrderedDict()
        return flow

    def remove(self, call: Call) -> bool:
        """Remove a call, wherever it stands. Returns False if it was not here."""
        level = self._levels[call.priority]
        flow = level.get(call.flow)
        if flow is None or call not in flow:
            return False
        del flow[call]
        if not flow:
            del level[call.flow]
        self._size -= 1
        return True

    def pop(self) -> Call | None:
        """Remove and return the next call; None where none waits."""
        self._turn = (self._turn + 1) & 7
        for priority in (TURNS[self._turn], 0, 1, 2):
            level = self._levels[priority]
            if level:
                number, flow = next(iter(level.items()))
                call, _ = flow.popitem(last=False)
                if flow:
                    level.move_to_end(number)
                else:
                    del level[number]
                self._size -= 1
                if not self._size:
                    self._turn = 0  # nobody was passed over: begin again with high
                return call
        return None

    def drain(self) -> list[Call]:
        """Remove and return all calls, by priority and flow."""
        calls = [call for level in self._levels for flow in level.values() for call in flow]
        for level in self._levels:
            level.clear()
        self._size = 0
        return calls


class Backlog(Generic[K]):
    """Queues by key, under one set of limits.

    Args:
        retry_after_ms: asked for the hint of a refusal, when one is due.

    Attributes:
        waiting: how many calls wait.
        bytes: the size of their params.
    """

    def __init__(self, limits: QueueLimits, retry_after_ms: Callable[[], int]) -> None:
        self._limits = limits
        self._retry_after_ms = retry_after_ms
        self._queues: dict[K, CallQueue] = {}
        self._by_flow: dict[int, int] = {}
        self.waiting = 0
        self.bytes = 0

    def push(self, call: Call, key: K) -> None:
        """Queue a call.

        Args:
            key: the queue it waits in.

        Raises:
            RpcError: 2002, naming the limit that is reached.
        """
        self._check(call)
        self._queue(key).push(call)
        self._count(call, 1)

    def push_front(self, call: Call, key: K) -> None:
        """Queue a call again, as the next one, whose executor was lost. It was let in before, so no limit applies."""
        self._queue(key).push_front(call)
        self._count(call, 1)

    def _check(self, call: Call) -> None:
        limits, waiting = self._limits, self.waiting
        own = self._by_flow.get(call.flow, 0)
        # The last fifth is for flows with little in the queue: one that fills it must not shut the others out.
        reserve = limits.calls // 5 if limits.calls >= SHARED_FROM else 0
        crowded = reserve and waiting >= limits.calls - reserve and own > reserve // len(self._by_flow)
        if waiting >= limits.calls or crowded:
            self._refuse("queue_limit", f"{waiting} calls are waiting already, {own} of them yours; try again later")
        if own >= limits.calls_per_flow:
            words = f"{own} calls of this connection are waiting already; wait for replies"
            self._refuse("queue_limit_per_connection", words)
        if waiting and self.bytes + len(call.params) > limits.bytes:
            words = f"the params of waiting calls take {self.bytes} bytes already; try again later"
            self._refuse("queue_bytes", words)

    def _refuse(self, setting: str, words: str) -> None:
        hint = self._retry_after_ms()
        raise limit_error(setting, words, code=ErrorCode.WORKER_OVERLOADED, retry_after_ms=hint)

    def pop(self, key: K) -> Call | None:
        """Remove and return the next call of one queue; None where none waits."""
        queue = self._queues.get(key)
        call = queue.pop() if queue else None
        if call is not None:
            self._count(call, -1)
        return call

    def has(self, key: K) -> bool:
        """Whether a call waits in one queue."""
        return bool(self._queues.get(key))

    def remove(self, call: Call, key: K | None = None) -> bool:
        """Remove a call. Returns False if it does not wait.

        Args:
            key: its queue; None where that is not known.
        """
        if key is None:
            found = any(queue.remove(call) for queue in self._queues.values())
        else:
            queue = self._queues.get(key)
            found = queue is not None and queue.remove(call)
        if found:
            self._count(call, -1)
        return found

    def move(self, source: K, to: Callable[[Call], K | None]) -> list[Call]:
        """Put what waits in one queue behind what waits in others, in order. No limit applies: it was let in before.

        Args:
            to: the queue a call belongs in now, perhaps the one it is in; None takes it out.

        Returns:
            The calls that were taken out.
        """
        queue = self._queues.pop(source, None)
        taken = []
        for call in queue.drain() if queue is not None else ():
            target = to(call)
            if target is None:
                self._count(call, -1)
                taken.append(call)
            else:
                self._queue(target).push(call)
        return taken

    def drain(self) -> list[Call]:
        """Remove and return all calls."""
        return [call for key in list(self._queues) for call in self.close(key)]

    def close(self, key: K) -> list[Call]:
        """Remove one queue, and return the calls that waited in it."""
        queue = self._queues.pop(key, None)
        calls = queue.drain() if queue is not None else []
        for call in calls:
            self._count(call, -1)
        return calls

    def _queue(self, key: K) -> CallQueue:
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = CallQueue()
        return queue

    def _count(self, call: Call, change: int) -> None:
        self.waiting += change
        self.bytes += change * len(call.params)
        own = self._by_flow.get(call.flow, 0) + change
        if own:
            self._by_flow[call.flow] = own
        else:
            self._by_flow.pop(call.flow, None)
