"""The broker of a hub alone: everything in this process, bounded, gone with it."""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from typing_extensions import override

from trunkline import defaults
from trunkline.broker.base import Broker, Joined, PatternJoined, PublishKey, Recovery, TopicStanding
from trunkline.broker.keys import PublishKeyLimits, PublishKeys
from trunkline_protocol.errors import RpcError
from trunkline_protocol.events import Event, Position
from trunkline_protocol.topics import is_job, is_system, matches

EVENT_OVERHEAD: Final = 256
"""Bytes an event costs beside its data and topic, roughly."""
SYSTEM_SHARE: Final = 1 / 32
"""Of the bytes of all histories, what one topic of the hub's own may take: its talk must not push others' out."""


MAX_LOOK: Final = 16_384
"""Topics that the recovery of a pattern may look at: the loop stands still meanwhile, some ten milliseconds."""

MAX_GAPS: Final = 1024
"""Topics of a pattern that may have lost events before all of it counts as lost."""


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """How much of the events is kept for subscribers that recover.

    Attributes:
        events: of one topic.
        seconds: since publication.
        bytes: over all topics; the history of the topic that was quiet longest goes first.
        topics: whose count of offsets is remembered; beyond it the quietest begins a new epoch when it speaks again.
    """

    events: int = defaults.HISTORY_EVENTS
    seconds: float = defaults.HISTORY_SECONDS
    bytes: int = defaults.HISTORY_BYTES
    topics: int = 262_144


class _Topic:
    """A topic's count and history.

    Attributes:
        published: the number of its last event among the events of all topics.
        dropped: that of the last event that its history has no more.
    """

    __slots__ = ("dropped", "epoch", "head", "history", "kept_bytes", "published")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.head = 0
        self.history: deque[tuple[float, Event, int]] | None = None
        self.kept_bytes = 0
        self.published = 0
        self.dropped = 0


class MemoryBroker(Broker):
    """Keeps events in memory. Publications and joins are answered before the call returns.

    Args:
        limits: of the history; they may be replaced.
        monotonic: seconds, for ages.
        wall_clock: seconds since 1970, for ``published_at``.
        keys: idempotency keys that are remembered.
    """

    def __init__(
        self,
        limits: HistoryLimits,
        monotonic: Callable[[], float],
        wall_clock: Callable[[], float],
        keys: PublishKeyLimits | None = None,
    ) -> None:
        self.limits = limits
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._boot = secrets.token_hex(4)
        self._generation = 0
        self._published = 0
        self._forgotten = 0
        # Both ordered by the last publication, the quietest first.
        self._topics: OrderedDict[str, _Topic] = OrderedDict()
        self._with_history: OrderedDict[str, _Topic] = OrderedDict()
        self._keys = PublishKeys(keys or PublishKeyLimits())
        self._deliver: Callable[[Event], None] = lambda event: None
        self.history_bytes = 0

    @override
    def start(self, deliver: Callable[[Event], None]) -> None:
        self._deliver = deliver

    @override
    def publish(
        self,
        topic: str,
        data: bytes,
        idempotency_key: PublishKey | None,
        done: Callable[[Position | RpcError], None],
        publisher: str = "",
    ) -> None:
        now = self._monotonic()
        if idempotency_key is not None:
            try:
                known = self._keys.recall(topic, idempotency_key, now)
            except RpcError as refusal:
                done(refusal)
                return
            if known is not None:
                done(known)
                return
        state = self._state(topic)
        state.head += 1
        self._published = state.published = self._published + 1
        event = Event(topic, data, state.epoch, state.head, int(self._wall_clock() * 1000), publisher)
        self._keep(topic, state, event, now)
        position = Position(state.epoch, state.head)
        if idempotency_key is not None:
            self._keys.remember(topic, idempotency_key, now, position)
        self._deliver(event)
        done(position)

    @override
    def recent(self, limit: int) -> tuple[list[TopicStanding], int]:
        now = self._monotonic()
        told = [self._standing(topic, state, now) for topic, state in islice(reversed(self._topics.items()), limit)]
        return told, len(self._topics) - len(told)

    def _standing(self, topic: str, state: _Topic, now: float) -> TopicStanding:
        self._trim(topic, state, now)  # what is too old goes when somebody looks
        history = state.history
        oldest = history[0][1].published_at if history else None
        return TopicStanding(topic, Position(state.epoch, state.head), len(history or ()), state.kept_bytes, oldest)

    @override
    def join(
        self, topic: str, recover: Position | None, done: Callable[[Joined | RpcError], None], *, latest: int = 0
    ) -> None:
        state = self._topics.get(topic)
        # A topic that nobody published to has a position, too, and costs nothing.
        head = Position(self._epoch(), 0) if state is None else Position(state.epoch, state.head)
        if latest and recover is None and state is not None:
            kept = self._since(topic, state, max(0, head.offset - latest))
            done(Joined(Position(head.epoch, head.offset - len(kept)), True, kept, head))
            return
        done(Joined(head, False, (), head) if recover is None else self._joined(topic, state, recover, head))

    def _joined(self, topic: str, state: _Topic | None, recover: Position, head: Position) -> Joined:
        if recover.epoch == head.epoch and recover.offset <= head.offset:
            missed = self._since(topic, state, recover.offset) if state is not None else ()
            if len(missed) == head.offset - recover.offset:
                return Joined(recover, True, missed, head)
        return Joined(head, False, (), head)

    @override
    def join_pattern(
        self, pattern: str, recover: Recovery | None, done: Callable[[PatternJoined | RpcError], None]
    ) -> None:
        head = Position(self._boot, self._published)
        changed = None if recover is None else self._changed(pattern, recover.as_of)
        if recover is None or changed is None:
            done(PatternJoined(head, False, ()))
            return
        topics = tuple((topic, self._rejoined(topic, state, recover)) for topic, state in changed)
        if sum(not joined.recovered for _, joined in topics) > MAX_GAPS:
            done(PatternJoined(head, False, ()))
        else:
            done(PatternJoined(head, True, topics))

    def _changed(self, pattern: str, since: Position) -> list[tuple[str, _Topic]] | None:
        """The topics that a pattern reaches and that were published to since; None where they cannot be told."""
        if since.epoch != self._boot or not self._forgotten <= since.offset <= self._published:
            return None
        changed: list[tuple[str, _Topic]] = []
        for looked, (topic, state) in enumerate(reversed(self._topics.items())):
            if state.published <= since.offset:
                break
            if looked == MAX_LOOK:
                return None
            if matches(pattern, topic) and not is_job(topic):
                changed.append((topic, state))
        return changed

    def _rejoined(self, topic: str, state: _Topic, recover: Recovery) -> Joined:
        head = Position(state.epoch, state.head)
        position = recover.known.get(topic)
        if position is not None:
            return self._joined(topic, state, position, head)
        self._trim(topic, state, self._monotonic())
        since = recover.as_of.offset
        if state.dropped > since:
            return Joined(head, False, (), head)
        missed = tuple(event for _, event, number in state.history or () if number > since)
        return Joined(Position(head.epoch, head.offset - len(missed)), True, missed, head)

    def _epoch(self) -> str:
        return f"{self._boot}.{self._generation}"

    def _state(self, topic: str) -> _Topic:
        """The topic's state, made if need be, as the one published to last."""
        state = self._topics.get(topic)
        if state is not None:
            self._topics.move_to_end(topic)
            return state
        if len(self._topics) >= self.limits.topics:
            quietest, forgotten = self._topics.popitem(last=False)
            self._forgotten = forgotten.published
            self._drop_history(quietest)
            # Whoever comes back to a forgotten topic must not find its old numbers given to new events.
            self._generation += 1
        state = self._topics[topic] = _Topic(self._epoch())
        return state

    def _keep(self, topic: str, state: _Topic, event: Event, now: float) -> None:
        limits = self.limits
        if not limits.events or not limits.seconds:
            state.dropped = state.published
            return
        if state.history is None:
            state.history = deque()
        state.history.append((now, event, state.published))
        size = _size(event)
        self.history_bytes += size
        state.kept_bytes += size
        self._with_history[topic] = state
        self._with_history.move_to_end(topic)
        self._trim(topic, state, now)
        if state.kept_bytes > limits.bytes * SYSTEM_SHARE and is_system(topic):
            while state.kept_bytes > limits.bytes * SYSTEM_SHARE and len(state.history) > 1:
                self._drop_oldest(state, state.history)
        if self.history_bytes > limits.bytes:
            self._make_room(state, limits.bytes)

    def _make_room(self, state: _Topic, limit: int) -> None:
        """Forget the histories of other topics, the quietest first, then this one's oldest events."""
        while self.history_bytes > limit and len(self._with_history) > 1:
            self._drop_history(next(iter(self._with_history)))
        while self.history_bytes > limit and state.history:
            self._drop_oldest(state, state.history)

    def _trim(self, topic: str, state: _Topic, now: float) -> None:
        history = state.history
        if history is None:
            return
        oldest_allowed = now - self.limits.seconds
        while history and (len(history) > self.limits.events or history[0][0] < oldest_allowed):
            self._drop_oldest(state, history)
        if not history:
            self._drop_history(topic)

    def _drop_oldest(self, state: _Topic, history: deque[tuple[float, Event, int]]) -> None:
        _, event, state.dropped = history.popleft()
        size = _size(event)
        self.history_bytes -= size
        state.kept_bytes -= size

    def _drop_history(self, topic: str) -> None:
        state = self._with_history.pop(topic, None)
        if state is not None and state.history is not None:
            while state.history:
                self._drop_oldest(state, state.history)
            state.history = None

    def _since(self, topic: str, state: _Topic, offset: int) -> tuple[Event, ...]:
        self._trim(topic, state, self._monotonic())
        return tuple(event for _, event, _ in state.history or () if event.offset > offset)


def _size(event: Event) -> int:
    # The encoded payload and frame are kept with the event: the data counts three times.
    return 3 * (len(event.data) + len(event.topic)) + EVENT_OVERHEAD
