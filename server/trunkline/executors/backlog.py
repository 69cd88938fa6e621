"""Everything that waits for an executor, and how much may: in all, a flow, and in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trunkline.executors.queue import CallQueue
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Lane
from trunkline_protocol.errors import ErrorCode, limit_error

ANYWHERE: Final = -1
"""The queue of calls that any executor may take."""

SHARED_FROM: Final = 50
"""A smaller queue has no part that is kept for those with little in it."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Settings ``queue_limit``, ``queue_limit_per_connection``, ``queue_bytes``."""

    calls: int = 16_384
    calls_per_flow: int = 10_240
    bytes: int = 256 * 2**20


class Backlog:
    """The queues of a pool, one for each lane and executor, plus one a lane for calls that may run anywhere.

    Attributes:
        waiting: how many calls wait.
        bytes: what their params take.
    """

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._queues: dict[tuple[Lane, int], CallQueue] = {}
        self._by_flow: dict[int, int] = {}
        self.waiting = 0
        self.bytes = 0

    def push(self, call: Call, lane: Lane, index: int, retry_after_ms: int) -> None:
        """Let a call wait.

        Args:
            index: the executor it has to run on, or :data:`ANYWHERE`.
            retry_after_ms: the hint of a refusal.

        Raises:
            RpcError: 2002, naming the limit that is reached.
        """
        self._check(call, retry_after_ms)
        self._queue(lane, index).push(call)
        self._count(call, 1)

    def push_front(self, call: Call, lane: Lane, index: int) -> None:
        """Put back a call that an executor lost. It was let in before, so no limit applies."""
        self._queue(lane, index).push_front(call)
        self._count(call, 1)

    def _check(self, call: Call, retry_after_ms: int) -> None:
        limits, waiting = self._limits, self.waiting
        own = self._by_flow.get(call.flow, 0)
        code = ErrorCode.WORKER_OVERLOADED
        # The last fifth is for flows with little in the queue: one that fills it must not shut the others out.
        reserve = limits.calls // 5 if limits.calls >= SHARED_FROM else 0
        crowded = reserve and waiting >= limits.calls - reserve and own > reserve // len(self._by_flow)
        if waiting >= limits.calls or crowded:
            words = f"{waiting} calls are waiting already, {own} of them yours; try again later"
            raise limit_error("queue_limit", words, code=code, retry_after_ms=retry_after_ms)
        if own >= limits.calls_per_flow:
            words = f"{own} calls of this connection are waiting already; wait for replies"
            raise limit_error("queue_limit_per_connection", words, code=code, retry_after_ms=retry_after_ms)
        if waiting and self.bytes + len(call.params) > limits.bytes:
            words = f"the params of waiting calls take {self.bytes} bytes already; try again later"
            raise limit_error("queue_bytes", words, code=code, retry_after_ms=retry_after_ms)

    def pop(self, lane: Lane, index: int) -> Call | None:
        """The next call of one queue, or None."""
        queue = self._queues.get((lane, index))
        call = queue.pop() if queue else None
        if call is not None:
            self._count(call, -1)
        return call

    def remove(self, call: Call) -> bool:
        """Take a call out. False if it does not wait."""
        if any(queue.remove(call) for queue in self._queues.values()):
            self._count(call, -1)
            return True
        return False

    def drain(self) -> list[Call]:
        """Take everything out."""
        calls = [call for queue in self._queues.values() for call in queue.drain()]
        for call in calls:
            self._count(call, -1)
        return calls

    def _queue(self, lane: Lane, index: int) -> CallQueue:
        queue = self._queues.get((lane, index))
        if queue is None:
            queue = self._queues[lane, index] = CallQueue()
        return queue

    def _count(self, call: Call, change: int) -> None:
        self.waiting += change
        self.bytes += change * len(call.params)
        own = self._by_flow.get(call.flow, 0) + change
        if own:
            self._by_flow[call.flow] = own
        else:
            self._by_flow.pop(call.flow, None)
