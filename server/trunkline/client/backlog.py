"""Events that wait for their reader: so many and no more. What does not fit becomes a gap, in its place."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final

from trunkline.client.events import Event, Gap

CLIENT_SLOW: Final = "client_slow"

MAX_LISTED: Final = 1024
"""Topics whose losses are told one by one."""


class Backlog:
    """A queue that drops its oldest events, and says so.

    Args:
        name: what the reader subscribed to; stands in for topics when too many of them lost events.
        limit: events that may wait.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._items: deque[Event | Gap] = deque()
        self._lost: dict[tuple[str, str], Gap] = {}
        self._elsewhere: Gap | None = None

    @property
    def is_crowded(self) -> bool:
        """Whether more than half of the room is taken."""
        return 2 * len(self._items) > self._limit

    def add(self, item: Event | Gap) -> None:
        """Append; drop the oldest if there is no room."""
        self._items.append(item)
        if len(self._items) > self._limit:
            self._lose(self._items.popleft())

    def next(self) -> Event | Gap | None:
        """The oldest, or None. What was lost is older than all that is still there, so it comes first."""
        if self._elsewhere is not None:
            gap, self._elsewhere = self._elsewhere, None
            return gap
        if self._lost:
            return self._lost.pop(next(iter(self._lost)))
        return self._items.popleft() if self._items else None

    def _lose(self, item: Event | Gap) -> None:
        key = (item.topic, item.epoch)
        loss = item if isinstance(item, Gap) else _loss_of(item)
        known = self._lost.get(key)
        self._lost[key] = loss if known is None else _merged(known, loss)
        if len(self._lost) > MAX_LISTED:
            self._fold(self._lost.pop(next(iter(self._lost))))

    def _fold(self, gap: Gap) -> None:
        """Too many topics to list: the oldest are counted together."""
        known = self._elsewhere or Gap(self._name, "", 0, 0, 0, CLIENT_SLOW)
        self._elsewhere = replace(known, count=_sum(known.count, gap.count))


def _loss_of(event: Event) -> Gap:
    return Gap(event.topic, event.epoch, event.offset, event.offset, 1, CLIENT_SLOW)


def _merged(first: Gap, second: Gap) -> Gap:
    reason = first.reason if first.reason == second.reason else CLIENT_SLOW
    return replace(first, end=second.end, count=_sum(first.count, second.count), reason=reason)


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second
