"""The broker of a hub alone: everything in this process, bounded, gone with it."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Final

from typing_extensions import override

from trunkline.broker.base import Broker, Joined, PatternJoined, PublishKey, Recovery, TopicStanding
from trunkline.broker.common import MICROSECONDS, Common, HistoryLimits
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


class _Topic:
    """A topic's count and history.

    Attributes:
        published: the place of its last event in the order of all publications.
        dropped: that of the last event that its history has no more.
        history: its events, each after its place and before its size in bytes.
    """

    __slots__ = ("dropped", "epoch", "head", "history", "kept_bytes", "published")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.head = 0
        self.history: deque[tuple[int, Event, int]] | None = None
        self.kept_bytes = 0
        self.published = 0
        self.dropped = 0


class MemoryBroker(Broker):
    """Keeps events in memory. Publications and joins are answered before the call returns.

    Args:
        limits: of the history.
        monotonic: seconds, for ages.
        wall_clock: seconds since 1970, for ``published_at``.
        keys: idempotency keys that are remembered.

    Attributes:
        history_bytes: what the histories of this broker's topics take, roughly.
    """

    def __init__(
        self,
        limits: HistoryLimits,
        monotonic: Callable[[], float],
        wall_clock: Callable[[], float],
        keys: PublishKeyLimits | None = None,
    ) -> None:
        self._begin(Common(limits, monotonic, wall_clock, PublishKeys(keys or PublishKeyLimits())))

    def _begin(self, common: Common[MemoryBroker]) -> None:
        self._common = common
        common.brokers[self] = None
        self._generation = common.generation
        self._forgotten = common.forgotten
        # Both ordered by the last publication, the quietest first.
        self._topics: OrderedDict[str, _Topic] = OrderedDict()
        self._with_history: OrderedDict[str, _Topic] = OrderedDict()
        self._deliver: Callable[[Event], None] = lambda event: None
        self.history_bytes = 0

    @override
    def another(self) -> MemoryBroker:
        broker = MemoryBroker.__new__(MemoryBroker)
        broker._begin(self._common)
        return broker

    @override
    def end(self) -> None:
        common = self._common
        while self._topics:
            self.forget_quietest()
        del common.brokers[self]
        common.forgotten = max(common.forgotten, self._forgotten)

    @override
    def forget_keys(self, tenant: str) -> None:
        self._common.keys.forget(tenant)

    @property
    def limits(self) -> HistoryLimits:
        """The limits of all histories together; they may be replaced."""
        return self._common.limits

    @limits.setter
    def limits(self, limits: HistoryLimits) -> None:
        self._common.limits = limits

    @property
    def total_bytes(self) -> int:
        """What the histories of all brokers take that are counted together with this one."""
        return self._common.history_bytes

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
        common = self._common
        now = common.monotonic()
        if idempotency_key is not None:
            try:
                known = common.keys.recall(topic, idempotency_key, now)
            except RpcError as refusal:
                done(refusal)
                return
            if known is not None:
                done(known)
                return
        state = self._state(topic)
        state.head += 1
        place = int((now - common.began) * MICROSECONDS)
        if place <= common.place:
            place = common.place + 1
        common.place = state.published = place
        event = Event(topic, data, state.epoch, state.head, int(common.wall_clock() * 1000), publisher)
        self._keep(topic, state, event)
        position = Position(state.epoch, state.head)
        if idempotency_key is not None:
            common.keys.remember(topic, idempotency_key, now, position)
        self._deliver(event)
        done(position)

    @override
    def known(self) -> int:
        return len(self._topics)

    @override
    def latest(self) -> Iterator[TopicStanding]:
        return (self._standing(topic, state) for topic, state in reversed(self._topics.items()))

    def _standing(self, topic: str, state: _Topic) -> TopicStanding:
        self._trim(topic, state, self._common.now())  # what is too old goes when somebody looks
        history = state.history
        oldest = history[0][1].published_at if history else None
        head = Position(state.epoch, state.head)
        return TopicStanding(topic, head, len(history or ()), state.kept_bytes, oldest, state.published)

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
        head = self._common.head()
        changed = None if recover is None else self._changed(pattern, recover.as_of, head)
        if recover is None or changed is None:
            done(PatternJoined(head, False, ()))
            return
        topics = tuple((topic, self._rejoined(topic, state, recover)) for topic, state in changed)
        if sum(not joined.recovered for _, joined in topics) > MAX_GAPS:
            done(PatternJoined(head, False, ()))
        else:
            done(PatternJoined(head, True, topics))

    def _changed(self, pattern: str, since: Position, head: Position) -> list[tuple[str, _Topic]] | None:
        """The topics that a pattern reaches and that were published to since; None where they cannot be told."""
        if since.epoch != head.epoch or not self._forgotten <= since.offset <= head.offset:
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
        self._trim(topic, state, self._common.now())
        since = recover.as_of.offset
        if state.dropped > since:
            return Joined(head, False, (), head)
        missed = tuple(event for place, event, _ in state.history or () if place > since)
        return Joined(Position(head.epoch, head.offset - len(missed)), True, missed, head)

    def _epoch(self) -> str:
        return f"{self._common.boot}.{self._generation}"

    def _state(self, topic: str) -> _Topic:
        """The topic's state, made if need be, as the one published to last."""
        state = self._topics.get(topic)
        if state is not None:
            self._topics.move_to_end(topic)
            return state
        common = self._common
        if common.topics >= common.limits.topics:
            common.forget_topic()
        common.topics += 1
        state = self._topics[topic] = _Topic(self._epoch())
        return state

    def forget_quietest(self) -> None:
        """Forget the topic that was quiet longest. One of its name begins a new epoch when it speaks again."""
        topic, state = self._topics.popitem(last=False)
        self._drop_history(topic)
        self._forgotten = state.published
        common = self._common
        common.topics -= 1
        # Whoever comes back to a forgotten topic must not find its old numbers given to new events.
        common.generation = self._generation = common.generation + 1

    def _keep(self, topic: str, state: _Topic, event: Event) -> None:
        common = self._common
        limits, history = common.limits, state.history
        if not limits.events or not limits.seconds:
            state.dropped = state.published
            return
        if history is None:
            history = state.history = deque()
            self._with_history[topic] = state
        else:
            self._with_history.move_to_end(topic)
        # The encoded payload and frame are kept with the event: the data counts three times.
        size = 3 * (len(event.data) + len(topic)) + EVENT_OVERHEAD
        history.append((state.published, event, size))
        self.history_bytes += size
        common.history_bytes += size
        state.kept_bytes += size
        self._drop_old(state, history, state.published)
        if state.kept_bytes > limits.bytes * SYSTEM_SHARE and is_system(topic):
            while state.kept_bytes > limits.bytes * SYSTEM_SHARE and len(history) > 1:
                self._drop_oldest(state, history)
        if common.history_bytes > limits.bytes:
            common.make_room()

    def make_room(self) -> None:
        """Drop the history of the topic that was quiet longest, of the only one that has any its oldest event."""
        topic, state = next(iter(self._with_history.items()))
        if len(self._with_history) > 1:
            self._drop_history(topic)
        elif state.history:
            self._drop_oldest(state, state.history)

    def _trim(self, topic: str, state: _Topic, now: int) -> None:
        if state.history is not None:
            self._drop_old(state, state.history, now)
            if not state.history:
                self._drop_history(topic)

    def _drop_old(self, state: _Topic, history: deque[tuple[int, Event, int]], now: int) -> None:
        """Drop what is too old, and what is too much for one topic."""
        limits = self._common.limits
        oldest_allowed = now - limits.seconds * MICROSECONDS
        while history and (len(history) > limits.events or history[0][0] < oldest_allowed):
            self._drop_oldest(state, history)

    def _drop_oldest(self, state: _Topic, history: deque[tuple[int, Event, int]]) -> None:
        state.dropped, _, size = history.popleft()
        self.history_bytes -= size
        self._common.history_bytes -= size
        state.kept_bytes -= size

    def _drop_history(self, topic: str) -> None:
        state = self._with_history.pop(topic, None)
        if state is not None and state.history is not None:
            while state.history:
                self._drop_oldest(state, state.history)
            state.history = None

    def _since(self, topic: str, state: _Topic, offset: int) -> tuple[Event, ...]:
        self._trim(topic, state, self._common.now())
        return tuple(event for _, event, _ in state.history or () if event.offset > offset)
