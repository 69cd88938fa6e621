"""What a subscription hands out: each event once and in order, and in the place of what is missing a gap. Pure.

A connection carries the events of all its subscriptions, replays that others asked for among them, and replies
overtake events. So every subscription knows of each topic up to where it has seen everything, and takes what follows
(:class:`TopicPositions`). What its reader is too slow for becomes a gap as well (:class:`EventQueue`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final

MAX_TOPICS: Final = 16_384
"""Of how many topics a subscription to a pattern remembers the position; the least recently active is forgotten."""

MAX_OVERLOOKED: Final = 1000
"""How many events of others may come before a replay does, until the replay counts as missing."""

MISSING: Final = "missing"
EPOCH: Final = "epoch"

CLIENT_SLOW: Final = "client_slow"

MAX_LISTED: Final = 1024
"""Topics whose losses are told one by one."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the events of one topic: ``offset`` counts from 1 within an ``epoch``."""

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read ``EPOCH:OFFSET``, as ``str(position)`` writes it.

        Raises:
            ValueError: it is not of that form.
        """
        epoch, _, offset = text.rpartition(":")
        if not epoch or not (offset.isascii() and offset.isdigit()):
            raise ValueError(f"{text!r} is no position: EPOCH:OFFSET is, for example f3a1.0:18")
        return cls(epoch, int(offset))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was published. ``data`` is any JSON, ``published_at`` the hub's clock in ms since 1970."""

    topic: str
    data: Any
    epoch: str
    offset: int
    published_at: int

    @property
    def position(self) -> Position:
        """Where the event stands in its topic."""
        return Position(self.epoch, self.offset)


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of a topic that were not delivered: those from offset ``start`` to ``end``, both included.

    ``count`` is None where the number is not known. ``reason`` is the hub's (``slow_consumer``, ``history``,
    ``epoch``) or this client's: ``client_slow``, the reader was slower than its queue is long; ``missing``, offsets
    were skipped and nobody said why. Where so many topics of a pattern lost events that they cannot be listed,
    ``topic`` is the pattern, ``epoch`` is empty, and ``start`` and ``end`` are 0.
    """

    topic: str
    epoch: str
    start: int
    end: int
    count: int | None
    reason: str

    @property
    def position(self) -> Position:
        """Where the topic goes on after the gap."""
        return Position(self.epoch, self.end)


@dataclass(slots=True)
class _Place:
    """Everything of ``epoch`` up to ``offset`` is accounted for.

    While what was asked to be replayed (or the gap in its place) is still to come, ``horizon`` is 0 or more. An
    unbroken run of events up to there that does not follow ``offset`` was sent earlier, for other subscriptions of
    this connection; the replay brings them again.
    """

    epoch: str
    offset: int
    horizon: float = -1
    run: int = 0
    overlooked: int = 0

    @property
    def is_starting(self) -> bool:
        """Whether a replay, or the gap in its place, is still to come."""
        return self.horizon >= 0

    def overlooks(self, first: int, last: int) -> bool:
        """Whether something that lies ahead belongs to others."""
        is_run = first <= last and self.run in (0, first - 1)
        if last > self.horizon or not is_run or self.overlooked == MAX_OVERLOOKED:
            return False
        self.run = last
        self.overlooked += 1
        return True


class TopicPositions:
    """Up to where one subscription has seen its topics."""

    def __init__(self) -> None:
        self._places: OrderedDict[str, _Place] = OrderedDict()

    def start(self, topic: str, start: Position, asked: Position | None, *, recovered: bool) -> None:
        """A topic without wildcards was subscribed to.

        Args:
            start: what the reply said: the head, or the asked position if it was recovered.
            asked: the position to recover from.
        """
        if asked is None:
            place = _Place(start.epoch, start.offset)
        elif recovered:
            place = _Place(start.epoch, start.offset, horizon=inf)
        else:
            # A gap that ends at the head is on its way, behind whatever waits for the connection.
            follows = asked.epoch == start.epoch and asked.offset <= start.offset
            place = _Place(start.epoch, asked.offset if follows else 0, horizon=start.offset)
        self._places[topic] = place

    def position(self, topic: str) -> Position | None:
        """Up to where a topic has arrived; None if that is not known."""
        place = self._places.get(topic)
        return None if place is None else Position(place.epoch, place.offset)

    def restart(self, topic: str, start: Position, asked: Position, *, recovered: bool) -> tuple[Gap, ...]:
        """A topic was subscribed to again, on another connection, from a position that is nobody's more than ours.

        Args:
            start: what the reply said: the head, or the asked position if it was recovered.
            asked: the position to recover from, which several readers may share: the earliest of theirs.

        Returns:
            what the reader has to be told beside what comes.
        """
        own = self.position(topic) or asked
        if own.epoch == asked.epoch:
            # What the replay brings up to our own position we have seen.
            self.start(topic, replace(start, offset=own.offset) if recovered else start, own, recovered=recovered)
            return ()
        self.start(topic, start, asked, recovered=recovered)
        return (Gap(topic, asked.epoch, 1, asked.offset, asked.offset, EPOCH),) if asked.offset else ()

    def take(self, item: Event | Gap) -> tuple[Event | Gap, ...]:
        """What the reader gets to see because of something that arrived, in order; nothing if it is not ours."""
        place = self._places.get(item.topic)
        taken = self._unknown(item) if place is None or place.epoch != item.epoch else self._following(place, item)
        if taken:
            self._move(item)
        return taken

    def _unknown(self, item: Event | Gap) -> tuple[Event | Gap, ...]:
        """The first of its topic, or of a new epoch of it."""
        if isinstance(item, Event) and item.offset > 1 and item.topic in self._places:
            return _hole(item, 1, EPOCH), item
        return (item,)

    def _following(self, place: _Place, item: Event | Gap) -> tuple[Event | Gap, ...]:
        following = place.offset + 1
        if isinstance(item, Gap):
            return self._gap(place, item, following)
        if item.offset < following:
            return ()
        if item.offset == following:
            return (item,)
        return () if place.overlooks(item.offset, item.offset) else (_hole(item, following, MISSING), item)

    @staticmethod
    def _gap(place: _Place, gap: Gap, following: int) -> tuple[Gap, ...]:
        if gap.end < following:
            # An empty gap only says that the count began anew; it is news to those who asked for a replay.
            return (gap,) if place.is_starting and gap.end < gap.start else ()
        if gap.start == following:
            return (gap,)
        if gap.start > following and place.overlooks(gap.start, gap.end):
            return ()
        return (replace(gap, start=following, count=gap.end - place.offset),)

    def _move(self, item: Event | Gap) -> None:
        position = item.position
        self._places[item.topic] = _Place(position.epoch, position.offset)
        self._places.move_to_end(item.topic)
        if len(self._places) > MAX_TOPICS:
            self._places.popitem(last=False)


def _hole(event: Event, start: int, reason: str) -> Gap:
    return Gap(event.topic, event.epoch, start, event.offset - 1, event.offset - start, reason)


class EventQueue:
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
