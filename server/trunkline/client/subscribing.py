"""The subscriptions of a client: what the hub has to be subscribed to, and which reader gets which event."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from trunkline.client.calling import Callers, OwnRequest
from trunkline.client.connection_state import DisconnectedError
from trunkline.client.received_events import EPOCH, HISTORY, Event, EventQueue, Gap, Position, TopicPositions, gap_from
from trunkline_protocol.errors import RpcError
from trunkline_protocol.hub_messages import MAX_POSITIONS
from trunkline_protocol.topics import TopicIndex, covers, is_job, is_wildcard

UNSUBSCRIBE_TIMEOUT_MS: Final = 2000

DISCONNECTED: Final = "disconnected"


@dataclass(frozen=True, slots=True)
class PatternPlace:
    """How far a pattern has arrived.

    Attributes:
        as_of: the hub's word for the place that everything before has arrived of.
        topics: positions of topics that were heard of since.
    """

    as_of: Position
    topics: dict[str, Position]

    def params(self) -> dict[str, Any]:
        """``recover`` of ``subscribe``."""
        topics = {topic: {"epoch": at.epoch, "offset": at.offset} for topic, at in self.topics.items()}
        return {"epoch": self.as_of.epoch, "offset": self.as_of.offset, "topics": topics}


class Subscription:
    """The events of one or more topics, to iterate over; made by :meth:`Hub.subscribe`.

    Attributes:
        topics: the topics and patterns subscribed to, without those that another one covers.
        recovered: whether the hub replays the events after the requested position. If one was requested and the hub
            cannot, a :class:`Gap` says what is missing.
        position: of the last event or gap that was handed out, or where the subscription began; a later subscription
            can resume from it. None for patterns and for several topics.
    """

    def __init__(self, topics: Sequence[str], max_queued: int) -> None:
        self.topics = without_covered(topics)
        self.recovered = False
        self.position: Position | None = None
        self._positions = TopicPositions()
        self._as_of: dict[str, Position] = {}
        self._queue = EventQueue(" ".join(self.topics), max_queued)
        self._arrived = asyncio.Event()
        self._is_over = False
        self._error: Exception | None = None

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event | Gap:
        """Wait for the next event or gap and return it. The iteration ends when the user closes the client.

        Raises:
            DisconnectedError: the connection has ended for good, and everything that had arrived was handed out.
            RpcError: after a reconnect the hub refused one of the topics.
        """
        while (item := self._queue.next()) is None:
            if self._error is not None:
                raise self._error
            if self._is_over:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        if self.position is not None and item.epoch:
            self.position = item.position
        return item

    # --- called by the client ---

    def begin(self, reply: dict[str, Any], recover: Position | None, beside: Subscription | None) -> None:
        """Begin with the hub's response to the subscription of one topic.

        Args:
            beside: a subscription that has the topic already.
        """
        if reply["epoch"] is None:
            self._begin_pattern(reply["topic"], reply, beside)
            return
        start = Position(reply["epoch"], reply["offset"])
        self.recovered = bool(reply["recovered"])
        self._positions.start(reply["topic"], start, recover, recovered=self.recovered)
        if len(self.topics) == 1:
            self.position = recover or start

    def _begin_pattern(self, pattern: str, reply: dict[str, Any], beside: Subscription | None) -> None:
        as_of = reply.get("as_of")
        if as_of is not None:
            self._as_of[pattern] = Position(as_of["epoch"], as_of["offset"])
        elif beside is not None and pattern in beside._as_of:
            # What came so far on this connection is what that one has of it.
            self._as_of[pattern] = beside._as_of[pattern]
            self._positions.copy_from(beside._positions, pattern)

    def place(self, pattern: str) -> PatternPlace | None:
        """What a pattern is recovered from on the next connection; None where not everything is known any more."""
        as_of = self._as_of.get(pattern)
        if as_of is None or not self._positions.is_whole:
            return None
        return PatternPlace(as_of, self._positions.reached_by(pattern, MAX_POSITIONS))

    def begin_pattern_again(self, pattern: str, reply: dict[str, Any], asked: PatternPlace | None) -> None:
        """Begin again with the response on another connection; adds gaps for what the hub does not have any more."""
        self._begin_pattern(pattern, reply, None)
        as_of = self._as_of.get(pattern)
        if asked is None or not reply["recovered"]:
            reason = DISCONNECTED
            if asked is not None and as_of is not None:
                reason = HISTORY if as_of.epoch == asked.as_of.epoch else EPOCH
            self._positions.is_whole = True
            self._queue.add(Gap(pattern, "", 0, 0, None, reason))
        for gap in reply.get("gaps", ()):
            self.take(gap_from(gap))
        self._arrived.set()

    def received(self, topic: str) -> Position | None:
        """The position up to which a topic has arrived, read or not; None for patterns."""
        return self._positions.position(topic)

    def begin_again(self, topic: str, reply: dict[str, Any], asked: Position | None) -> None:
        """Begin again with the response on another connection; adds a gap for events that may have been lost."""
        gaps: tuple[Gap, ...]
        start = Position(reply["epoch"], reply["offset"])
        if asked is None:
            self._positions.start(topic, start, None, recovered=False)
            gaps = (Gap(topic, "", 0, 0, None, DISCONNECTED),)
        else:
            gaps = self._positions.restart(topic, start, asked, recovered=bool(reply["recovered"]))
        for gap in gaps:
            self._queue.add(gap)
        self._arrived.set()

    def take(self, item: Event | Gap) -> bool:
        """Queue an event or gap that matches; returns whether the reader falls behind."""
        for taken in self._positions.take(item):
            self._queue.add(taken)
        self._arrived.set()
        return self._queue.is_crowded

    def end(self, error: Exception | None = None) -> None:
        """End the iteration once the queue is empty, with an error or without."""
        self._is_over = True
        self._error = self._error or error
        self._arrived.set()


class ClientSubscriptions:
    """All subscriptions of a client. The hub sends each event once; here every subscription that matches gets it."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self._index: TopicIndex[Subscription] = TopicIndex()
        self._open: dict[Subscription, list[str]] = {}
        self._readers: dict[str, dict[Subscription, None]] = {}
        self._uses: Counter[str] = Counter()

    async def add(self, subscription: Subscription, recover: Position | None, history: int = 0) -> None:
        """Subscribe to all topics of a subscription at the hub.

        Args:
            history: how many of the latest events of each topic come first.

        Raises:
            RpcError: the hub refused a topic.
            DisconnectedError: the connection has ended for good.
        """
        held = self._open[subscription] = []
        for topic in subscription.topics:

            def register(reply: Any, topic: str = topic) -> None:
                subscription.begin(reply, recover, next(iter(self._readers.get(topic, ())), None))
                self._index.add(topic, subscription)
                self._readers.setdefault(topic, {})[subscription] = None

            # Counted before the call: a subscription that ends meanwhile must not unsubscribe the topic.
            self._uses[topic] += 1
            held.append(topic)
            params = _params(topic, recover) | ({"history": history} if history else {})
            await self._callers.ask("subscribe", params, on_result=register)

    async def remove(self, subscription: Subscription) -> None:
        """End a subscription, and unsubscribe at the hub from topics that no other subscription reads."""
        subscription.end()
        unused = []
        for topic in self._open.pop(subscription, ()):
            self._index.remove(topic, subscription)
            readers = self._readers.get(topic, {})
            readers.pop(subscription, None)
            if not readers:
                self._readers.pop(topic, None)
            self._uses[topic] -= 1
            if not self._uses[topic]:
                del self._uses[topic]
                unused.append(topic)
        if unused and self._callers.is_connected:
            await asyncio.gather(*map(self._unsubscribe, unused))

    def deliver(self, item: Event | Gap) -> bool:
        """Give an event or gap to all subscriptions that match; returns whether a reader falls behind."""
        crowded = [subscription.take(item) for subscription in self._index.match(item.topic)]
        return True in crowded

    def restore(self) -> list[OwnRequest]:
        """The calls that subscribe to everything again on another connection, each topic from its position.

        Patterns come last, so that events replayed for topics they match leave no gap for their readers.
        """
        return [self._again(topic) for topic in sorted(self._readers, key=is_wildcard)]

    def _again(self, topic: str) -> OwnRequest:
        readers = self._readers[topic]
        # All readers of a pattern begin anew together; the first has had all that came since.
        place = next(iter(readers)).place(topic) if is_wildcard(topic) else None
        asked = None if is_wildcard(topic) else _earliest(readers, topic)

        def done(reply: Any) -> None:
            for reader in self._readers.get(topic, ()):
                if is_wildcard(topic):
                    reader.begin_pattern_again(topic, reply, place)
                else:
                    reader.begin_again(topic, reply, asked)

        def failed(error: Exception) -> None:
            for reader in self._readers.get(topic, ()):
                reader.end(error)

        params = _params(topic, asked) if place is None else {"topic": topic, "recover": place.params()}
        return OwnRequest("subscribe", params, done, failed)

    def end(self, error: DisconnectedError | None) -> None:
        """End all subscriptions: no connection follows; ``error`` is None where the user closed the client."""
        for subscription in self._open:
            subscription.end(error)

    async def _unsubscribe(self, topic: str) -> None:
        try:
            await self._callers.ask("unsubscribe", {"topic": topic}, timeout_ms=UNSUBSCRIBE_TIMEOUT_MS)
        except (RpcError, DisconnectedError):
            return  # unread events are ignored, and the subscription ends with the connection


def _params(topic: str, recover: Position | None) -> dict[str, Any]:
    params: dict[str, Any] = {"topic": topic}
    if recover is not None:
        params["recover"] = {"epoch": recover.epoch, "offset": recover.offset}
    return params


def _earliest(readers: dict[Subscription, None], topic: str) -> Position | None:
    """The position from which no reader misses an event: the lowest offset of the newest epoch; None if unknown."""
    known = [position for reader in readers if (position := reader.received(topic)) is not None]
    if not known:
        return None
    same = [position for position in known if position.epoch == known[-1].epoch]
    return min(same, key=lambda position: position.offset)


def without_covered(topics: Sequence[str]) -> tuple[str, ...]:
    """The topics without duplicates, and without those that another one covers.

    The position of a covered topic would mean nothing: responses overtake events, so its head may lie ahead of events
    that are still to come. A job's events are sent only to subscriptions that name its topic, so patterns do not cover
    it.
    """
    different = tuple(dict.fromkeys(topics))

    def reached_anyhow(topic: str) -> bool:
        return not is_job(topic) and any(covers(other, topic) for other in different if other != topic)

    return tuple(topic for topic in different if not reached_anyhow(topic))
