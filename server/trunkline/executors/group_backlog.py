"""The queues of a pool: by lane, and by the executor that a call has to run on or the groups that may run it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Final

from trunkline.executors.groups import ExecutorGroup
from trunkline.executors.queueing import Queue
from trunkline_protocol.backlog import Account, Backlog, QueueLimits
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Lane

SHORTEST_HINT_MS: Final = 50
LONGEST_HINT_MS: Final = 10_000


class GroupBacklog(Backlog[tuple[Lane, Queue]]):
    """The calls that wait for groups of executors.

    Args:
        groups: all of them. Where there are several, or one has a limit of its own, each counts its calls apart.
        limits: of all together.

    Attributes:
        state: the group whose executors own the routing keys; None before one is known.
    """

    def __init__(self, groups: Sequence[ExecutorGroup], limits: QueueLimits) -> None:
        Backlog.__init__(self, limits, self.hint, self._account)
        self._groups = groups
        self.state = groups[0] if len(groups) == 1 else None
        for group in groups:
            own = group.spec.queue_limit
            if len(groups) > 1 or own is not None:
                bounds = limits if own is None else dataclasses.replace(limits, calls=own)
                group.account = Account(bounds, functools.partial(self._hint, [group]), f"groups.{group.name}.")

    def next(self, lane: Lane, place: int, group: ExecutorGroup) -> Call | None:
        """Remove and return the next call for an executor: of those that only it may run, else of shared queues.

        The shared queues of its group take turns.
        """
        call = self.pop((lane, place))
        queues, left = group.queues, len(group.queues)
        while call is None and left:
            call = self.pop((lane, queues[0]))
            queues.rotate(-1)
            left -= 1
        return call

    def abandoned(self) -> list[Call]:
        """Remove and return the calls in queues that no group takes calls from any more, the last of each first."""
        used = {queue for group in self._groups for queue in group.queues}
        stale = [key for key in self.queue_keys() if not isinstance(key[1], int) and key[1] not in used]
        return [call for key in stale for call in reversed(self.close(key))]

    def by_group(self) -> dict[str, int]:
        """How many calls wait for each group alone."""
        return {group.name: self.waiting if group.account is None else group.account.waiting for group in self._groups}

    def hint(self) -> int:
        """The milliseconds after which all queues should be empty, by the mean run time of recent calls."""
        return self._hint(self._groups)

    def _hint(self, groups: Sequence[ExecutorGroup]) -> int:
        waiting = self.waiting
        if len(groups) < len(self._groups):
            waiting = sum(group.account.waiting for group in groups if group.account is not None)
        seconds = sum(group.mean_run for group in groups) / max(1, len(groups))
        executors = sum(len(group.executors) for group in groups)
        return max(SHORTEST_HINT_MS, min(LONGEST_HINT_MS, int(1000 * waiting * seconds / max(1, executors))))

    def _account(self, key: tuple[Lane, Queue]) -> Account | None:
        """What a queue counts in beside the whole: its group, where that counts apart, or several groups together."""
        queue = key[1]
        if isinstance(queue, int):
            return None if self.state is None else self.state.account
        groups = [group for group in self._groups if group.name in queue]
        if len(groups) == 1:
            return groups[0].account
        limits = [group.spec.queue_limit for group in groups if group.spec.queue_limit is not None]
        if len(limits) < len(groups):
            return None
        return Account(QueueLimits(sum(limits)), functools.partial(self._hint, groups), f"groups.{groups[0].name}.")
