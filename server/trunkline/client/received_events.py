"""Delivers each event of a subscription once and in order, and a gap in place of missing ones. Pure.

A connection carries the events of all its subscriptions, with replays that others requested among them, and responses
overtake events. So every subscription tracks, for each topic, up to where it has seen everything, and accepts what
follows (:class:`TopicPositions`). Events that its reader is too slow for become a gap as well (:class:`EventQueue`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from itertools import islice
from math import inf
from typing import Any, Final

from trunkline_protocol.topics import covers

MAX_TOPICS: Final = 16_384
"""How many topics' positions a subscription to a pattern remembers; the least recently active one is forgotten."""

MAX_OVERLOOKED: Final = 1000
"""How many events of other subscriptions may precede a replay before it counts as missing."""

MISSING: Final = "missing"
EPOCH: Final = "epoch"
HISTORY: Final = "history"

CLIENT_SLOW: Final = "client_slow"

MAX_LISTED: Final = 1024
"""Topics whose losses are reported one by one."""


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
            ValueError: the text is not of that form.
        """
        epoch, _, offset = text.rpartition(":")
        if not epoch or not (offset.isascii() and offset.isdigit()):
            raise ValueError(f"{text!r} is not a position: write EPOCH:OFFSET, for example f3a1.0:18")
        return cls(epoch, int(offset))


@dataclass(frozen=True, slots=True)
class Event:
    """A published event. ``data`` is any JSON, ``published_at`` the hub's clock in milliseconds since 1970.

    ``publisher`` is the name of the principal that published it; None where the hub did, or does not tell. ``tenant``
    is the publisher's, on topics that tenants share; None where it is ``default``, and on the tenant's own topics.
    """

    topic: str
    data: Any
    epoch: str
    offset: int
    published_at: int
    publisher: str | None = None
    tenant: str | None = None

    @property
    def position(self) -> Position:
        """The event's position in its topic."""
        return Position(self.epoch, self.offset)


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of a topic that were not delivered: those from offset ``start`` to ``end``, both included.

    ``count`` is None where the number is not known. ``reason`` is the hub's (``slow_consumer``, ``history``,
    ``epoch``) or this client's: ``client_slow``, the reader was too slow and its queue overflowed; ``missing``, the hub
    skipped offsets without a reason. Where so many topics of a pattern lost events that they cannot be listed,
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
        """The position after which the topic goes on."""
        return Position(self.epoch, self.end)


def event_from(params: dict[str, Any]) -> Event:
    """The event in the params of ``event``."""
    where = params["epoch"], params["offset"], params["published_at"]
    return Event(params["topic"], params["data"], *where, params.get("publisher"), params.get("tenant"))


def gap_from(params: dict[str, Any]) -> Gap:
    """The gap in the params of ``event.gap``."""
    return Gap(
        params["topic"], params["epoch"], params["from"], params["to"], params.get("count"), params.get("reason", "")
    )


@dataclass(frozen=True, slots=True)
class History:
    """What a hub keeps of a topic.

    Attributes:
        events: in order, the oldest first.
        position: of the topic's last event, which may not be among them.
        more: whether events follow: ask again, after the last one.
        gap: what is missing before the first one; None where nothing is, or no position was asked for.
    """

    events: list[Event]
    position: Position
    more: bool
    gap: Gap | None


@dataclass(slots=True)
class _Place:
    """A subscription's position in one topic: everything of ``epoch`` up to ``offset`` was delivered, or is a gap.

    While a requested replay (or the gap in its place) is still to come, ``horizon`` is 0 or more. An unbroken run of
    events up to there that does not follow ``offset`` was sent for other subscriptions of this connection; the replay
    brings them again. Where the gap is one of another epoch, ``owed`` is the position that it begins at: whoever loses
    the connection before the gap has come has to ask from there once more.
    """

    epoch: str
    offset: int
    horizon: float = -1
    run: int = 0
    overlooked: int = 0
    owed: Position | None = None

    @property
    def position(self) -> Position:
        """The position that everything up to was delivered, or is a gap."""
        return self.owed or Position(self.epoch, self.offset)

    @property
    def is_starting(self) -> bool:
        """Whether a replay, or the gap in its place, is still to come."""
        return self.horizon >= 0

    def overlooks(self, first: int, last: int) -> bool:
        """Whether events that lie ahead were sent for other subscriptions."""
        is_run = first <= last and self.run in (0, first - 1)
        if last > self.horizon or not is_run or self.overlooked == MAX_OVERLOOKED:
            return False
        self.run = last
        self.overlooked += 1
        return True


class TopicPositions:
    """The positions of one subscription in its topics.

    Attributes:
        is_whole: whether no topic was forgotten since this was last set.
    """

    def __init__(self) -> None:
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self.is_whole = True

    def start(self, topic: str, start: Position, asked: Position | None, *, recovered: bool) -> None:
        """Begin with the response to the subscription of a topic without wildcards.

        Args:
            start: the position in the response: the head, or the requested position if it was recovered.
            asked: the position that was to be recovered from; None without one.
        """
        if recovered:
            place = _Place(start.epoch, start.offset, horizon=inf)
        elif asked is None:
            place = _Place(start.epoch, start.offset)
        else:
            # A gap that ends at the head is on its way, behind whatever waits for the connection.
            follows = asked.epoch == start.epoch and asked.offset <= start.offset
            place = _Place(start.epoch, asked.offset, horizon=start.offset)
            if not follows:
                place = _Place(start.epoch, 0, horizon=start.offset, owed=asked)
        self._places[topic] = place

    def position(self, topic: str) -> Position | None:
        """The position up to which a topic has arrived; None where it is not known."""
        place = self._places.get(topic)
        return None if place is None else place.position

    def restart(self, topic: str, start: Position, asked: Position, *, recovered: bool) -> tuple[Gap, ...]:
        """Begin again with the response to a subscription on another connection.

        Args:
            start: the position in the response: the head, or the requested position if it was recovered.
            asked: the position that was to be recovered from: the earliest of all readers of the topic.

        Returns:
            Gaps that the reader has to get in addition to what the hub sends.
        """
        own = self.position(topic) or asked
        if own.epoch == asked.epoch:
            # The reader has seen what the replay brings up to its own position.
            self.start(topic, replace(start, offset=own.offset) if recovered else start, own, recovered=recovered)
            return ()
        self.start(topic, start, asked, recovered=recovered)
        return (Gap(topic, asked.epoch, 1, asked.offset, asked.offset, EPOCH),) if asked.offset else ()

    def take(self, item: Event | Gap) -> tuple[Event | Gap, ...]:
        """The events and gaps to deliver because one has arrived, in order; empty where it is not to be delivered."""
        place = self._places.get(item.topic)
        taken = self._unknown(item) if place is None or place.epoch != item.epoch else self._following(place, item)
        if taken:
            self._move(item)
        return taken

    def _unknown(self, item: Event | Gap) -> tuple[Event | Gap, ...]:
        """What to deliver for the first event or gap of a topic, or of a new epoch."""
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
            # An empty gap only says that there is a new epoch, which matters only to those that requested a replay.
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
            self.is_whole = False

    def reached_by(self, pattern: str, limit: int) -> dict[str, Position]:
        """The positions in the topics that a pattern reaches, of those heard of last, ``limit`` at most."""
        reached = ((topic, place) for topic, place in reversed(self._places.items()) if covers(pattern, topic))
        return {topic: place.position for topic, place in islice(reached, limit)}

    def copy_from(self, other: TopicPositions, pattern: str) -> None:
        """Take over the positions in the topics that a pattern reaches, but for those that are known."""
        for topic, place in other._places.items():
            if topic not in self._places and covers(pattern, topic):
                self._places[topic] = _Place(place.epoch, place.offset)
        self.is_whole &= other.is_whole


def _hole(event: Event, start: int, reason: str) -> Gap:
    return Gap(event.topic, event.epoch, start, event.offset - 1, event.offset - start, reason)


class EventQueue:
    """A bounded queue of events that drops the oldest, and puts gaps in their place.

    Args:
        name: of the subscription; the topic of a gap where too many topics lost events to list them.
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
        """Whether the queue is more than half full."""
        return 2 * len(self._items) > self._limit

    def add(self, item: Event | Gap) -> None:
        """Append an event or gap; drop the oldest if the queue is full."""
        self._items.append(item)
        if len(self._items) > self._limit:
            self._lose(self._items.popleft())

    def next(self) -> Event | Gap | None:
        """Remove and return the oldest item, None without any. Gaps of dropped events are older and come first."""
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
        """Merge a topic's gap into one for the whole subscription: there are too many to list."""
        known = self._elsewhere or Gap(self._name, "", 0, 0, 0, CLIENT_SLOW)
        self._elsewhere = replace(known, count=_sum(known.count, gap.count))


def _loss_of(event: Event) -> Gap:
    return Gap(event.topic, event.epoch, event.offset, event.offset, 1, CLIENT_SLOW)


def _merged(first: Gap, second: Gap) -> Gap:
    reason = first.reason if first.reason == second.reason else CLIENT_SLOW
    return replace(first, end=second.end, count=_sum(first.count, second.count), reason=reason)


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second
