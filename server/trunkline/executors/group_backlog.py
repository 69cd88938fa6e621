"""The queues of a pool: by lane, and by the executor that a call has to run on or the groups that may run it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Final

from trunkline.executors.groups import ExecutorGroup, Routes
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.queueing import ANYWHERE, Queue
from trunkline_protocol.backlog import Account, Backlog, QueueLimits
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Lane
from trunkline_protocol.errors import RpcError
from trunkline_protocol.tenant_turns import take_turns_by_tenant

SHORTEST_HINT_MS: Final = 50
LONGEST_HINT_MS: Final = 10_000


class GroupBacklog(Backlog[tuple[Lane, Queue]]):
    """The calls that wait for groups of executors.

    Args:
        routes: of the groups. Where there are several, or one has a limit of its own, each counts its calls apart.
        limits: of all together.
    """

    def __init__(self, routes: Routes, limits: QueueLimits) -> None:
        Backlog.__init__(self, limits, self.hint, self._account)
        self.take_turns_by_tenant = functools.partial(take_turns_by_tenant, self, limits)
        self._routes = routes
        self._groups = groups = routes.groups
        for group in groups:
            own = group.spec.queue_limit
            if len(groups) > 1 or own is not None:
                bounds = limits if own is None else dataclasses.replace(limits, calls=own)
                group.account = Account(bounds, functools.partial(self._hint, [group]), f"groups.{group.name}.")

    def next(self, lane: Lane, handle: ExecutorHandle) -> Call | None:
        """Remove and return the next call for an executor: of those that only it may run, else of shared queues."""
        own, *shared = handle.queues
        call = self.pop((lane, own))
        for offset in range(len(shared) if call is None else 0):
            turn = handle.turn + offset
            if (call := self.pop((lane, shared[turn % len(shared)]))) is not None:
                handle.turn = turn + 1
                break
        return call

    def sort(self) -> list[Call]:
        """Move the calls in shared queues to those of their routes; returns those that no group serves any more."""
        lost = []
        for lane, queue in self.queue_keys():
            if not isinstance(queue, int):
                lost += self.move((lane, queue), functools.partial(self._place, lane))
        return lost

    def waiting_for(self, group: ExecutorGroup) -> int:
        """How many calls wait for a group alone."""
        return self.waiting if group.account is None else group.account.waiting

    def hint(self) -> int:
        """The milliseconds after which all queues should be empty, by the mean run time of recent calls."""
        return self._hint(self._groups)

    def _hint(self, groups: Sequence[ExecutorGroup]) -> int:
        waiting = self.waiting
        if len(groups) < len(self._groups):
            waiting = sum(group.account.waiting for group in groups if group.account is not None)
        seconds = sum(group.mean_run for group in groups) / max(1, len(groups))
        executors = sum(len(group.indexes) for group in groups)
        return max(SHORTEST_HINT_MS, min(LONGEST_HINT_MS, int(1000 * waiting * seconds / max(1, executors))))

    def _account(self, key: tuple[Lane, Queue]) -> Account | None:
        """What a queue counts in beside the whole: its group, where that counts apart, or several groups together."""
        queue = key[1]
        if isinstance(queue, int):
            return None if self._routes.state is None else self._routes.state.account
        groups = [group for group in self._groups if queue == ANYWHERE or not queue.isdisjoint(group.indexes)]
        if len(groups) == 1:
            return groups[0].account
        limits = [group.spec.queue_limit for group in groups if group.spec.queue_limit is not None]
        if len(limits) < len(groups):
            return None
        return Account(QueueLimits(sum(limits)), functools.partial(self._hint, groups), f"groups.{groups[0].name}.")

    def _place(self, lane: Lane, call: Call) -> tuple[Lane, Queue] | None:
        try:
            return lane, self._routes.of(call).queue
        except (KeyError, RpcError):
            return None
