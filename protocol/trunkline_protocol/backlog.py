"""Calls that wait for whoever can run them: how much may wait, and whose turn is next. Pure.

The executors' pool has one :class:`Backlog`, with queues by lane, group and executor; methods that clients serve have
another, with a queue a method. What it promises is the same: by priority, and within a priority flow by flow in turn;
bounded in all, a flow, and in bytes; and some queues, such as those of a group, by limits of their own besides.
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


class Account:
    """Counts the calls that wait under one set of limits, and refuses those beyond it.

    Args:
        retry_after_ms: asked for the hint of a refusal, when one is due.
        path: what the names of the limits begin with, such as ``groups.gpu.``.

    Attributes:
        waiting: how many calls wait.
        bytes: the size of their params.
    """

    def __init__(self, limits: QueueLimits, retry_after_ms: Callable[[], int], path: str = "") -> None:
        self._limits = limits
        self._retry_after_ms = retry_after_ms
        self._path = path
        self._by_flow: dict[int, int] = {}
        self.waiting = 0
        self.bytes = 0

    def check(self, call: Call) -> None:
        """Refuse a call where a limit is reached.

        Raises:
            RpcError: 2002, naming the limit.
        """
        limits, waiting = self._limits, self.waiting
        own = self._by_flow.get(call.flow, 0)
        # The last fifth is for flows with little in the queue: one that fills it must not shut the others out.
        reserve = limits.calls // 5 if limits.calls >= SHARED_FROM else 0
        crowded = reserve and waiting >= limits.calls - reserve and own > reserve // len(self._by_flow)
        if waiting >= limits.calls or crowded:
            self.refuse("queue_limit", f"{waiting} calls are waiting already, {own} of them yours; try again later")
        if own >= limits.calls_per_flow:
            words = f"{own} calls of this connection are waiting already; wait for replies"
            self.refuse("queue_limit_per_connection", words)
        if waiting and self.bytes + len(call.params) > limits.bytes:
            words = f"the params of waiting calls take {self.bytes} bytes already; try again later"
            self.refuse("queue_bytes", words)

    def refuse(self, setting: str, words: str) -> None:
        """Refuse a call, by one of the limits.

        Raises:
            RpcError: 2002, naming the limit.
        """
        hint = self._retry_after_ms()
        raise limit_error(self._path + setting, words, code=ErrorCode.WORKER_OVERLOADED, retry_after_ms=hint)

    def count(self, call: Call, change: int) -> None:
        """Count a call that waits from now on (1), or does not any more (-1)."""
        self.waiting += change
        self.bytes += change * len(call.params)
        own = self._by_flow.get(call.flow, 0) + change
        if own:
            self._by_flow[call.flow] = own
        else:
            self._by_flow.pop(call.flow, None)


class CallQueue:
    """A queue with three priorities. All operations are O(1); a call can be taken out of the middle.

    A flow is one peer's calls. However many of them wait, another flow's next call waits for one of them at most.

    Args:
        account: what its calls count in, beside that of the whole backlog; None for no other.
    """

    __slots__ = ("_levels", "_size", "_turn", "account")

    def __init__(self, account: Account | None = None) -> None:
        self.account = account
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


class Backlog(Account, Generic[K]):
    """Queues by key, under one set of limits in all.

    Args:
        limits, retry_after_ms: as of :class:`Account`, for all queues together.
        account_of: returns what a queue counts in besides, by its key; None for nothing.
    """

    def __init__(
        self,
        limits: QueueLimits,
        retry_after_ms: Callable[[], int],
        account_of: Callable[[K], Account | None] = lambda _key: None,
    ) -> None:
        Account.__init__(self, limits, retry_after_ms)
        self._account_of = account_of
        self._make: Callable[[Account | None], CallQueue] = CallQueue
        self._queues: dict[K, CallQueue] = {}

    def push(self, call: Call, key: K) -> None:
        """Queue a call.

        Args:
            key: the queue it waits in.

        Raises:
            RpcError: 2002, naming the limit that is reached.
        """
        self.check(call)
        queue = self._queue(key)
        if queue.account is not None:
            queue.account.check(call)
        queue.push(call)
        self._count(queue, call, 1)

    def push_front(self, call: Call, key: K) -> None:
        """Queue a call again, as the next one, whose executor was lost. It was let in before, so no limit applies."""
        queue = self._queue(key)
        queue.push_front(call)
        self._count(queue, call, 1)

    def pop(self, key: K) -> Call | None:
        """Remove and return the next call of one queue; None where none waits."""
        queue = self._queues.get(key)
        if not queue:
            return None
        call = queue.pop()
        assert call is not None
        self._count(queue, call, -1)
        return call

    def queue_keys(self) -> list[K]:
        """The keys of all queues, empty ones included."""
        return list(self._queues)

    def has(self, key: K) -> bool:
        """Whether a call waits in one queue."""
        return bool(self._queues.get(key))

    def remove(self, call: Call, key: K | None = None) -> bool:
        """Remove a call. Returns False if it does not wait.

        Args:
            key: its queue; None where that is not known.
        """
        queues = self._queues.values() if key is None else filter(None, [self._queues.get(key)])
        for queue in queues:
            if queue.remove(call):
                self._count(queue, call, -1)
                return True
        return False

    def move(self, source: K, to: Callable[[Call], K | None]) -> list[Call]:
        """Put what waits in one queue behind what waits in others, in order. No limit applies: it was let in before.

        Args:
            to: the queue a call belongs in now, perhaps the one it is in; None takes it out.

        Returns:
            The calls that were taken out.
        """
        taken = []
        for call in self.close(source):
            target = to(call)
            if target is None:
                taken.append(call)
            else:
                queue = self._queue(target)
                queue.push(call)
                self._count(queue, call, 1)
        return taken

    def renew(self, make: Callable[[Account | None], CallQueue]) -> None:
        """Make queues another way from now on, those with what waits in them, too. To be called once at most.

        Args:
            make: makes a queue of what its calls count in beside the whole.
        """
        self._make = make
        for key, former in self._queues.items():
            queue = self._queues[key] = make(former.account)
            for call in former.drain():
                queue.push(call)

    def drain(self) -> list[Call]:
        """Remove and return all calls."""
        return [call for key in list(self._queues) for call in self.close(key)]

    def close(self, key: K) -> list[Call]:
        """Remove one queue, and return the calls that waited in it."""
        queue = self._queues.pop(key, None)
        if queue is None:
            return []
        calls = queue.drain()
        for call in calls:
            self._count(queue, call, -1)
        return calls

    def _queue(self, key: K) -> CallQueue:
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = self._make(self._account_of(key))
        return queue

    def _count(self, queue: CallQueue, call: Call, change: int) -> None:
        self.count(call, change)
        if queue.account is not None:
            queue.account.count(call, change)
