"""Subscriptions of one connection: who reads what, and what the hub has to be asked for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from trunkline.client.arrivals import Arrivals
from trunkline.client.backlog import Backlog
from trunkline.client.errors import DisconnectedError
from trunkline.client.events import Event, Gap, Position
from trunkline_protocol.errors import RpcError
from trunkline_protocol.topics import TopicIndex, covers

UNSUBSCRIBE_TIMEOUT_MS: Final = 2000


class Call(Protocol):
    """How the hub is asked: a call whose result is handed over before the next message is read."""

    def __call__(
        self,
        method: str,
        params: Any,
        *,
        timeout_ms: int | None = None,
        on_result: Callable[[Any], None] | None = None,
    ) -> Awaitable[Any]:
        """Send it and wait."""


class Subscription:
    """Events of one or more topics: iterate over it. Made by :meth:`Hub.subscribe`.

    Attributes:
        recovered: whether the hub replays what came after the position asked for. If it was asked and cannot, a
            :class:`Gap` says what is missing.
        position: of the last event or gap that was handed out, or where the subscription began; with it a later
            subscription goes on. None for patterns and for several topics.
    """

    def __init__(self, topics: Sequence[str], max_queued: int) -> None:
        self.topics = without_covered(topics)
        self.recovered = False
        self.position: Position | None = None
        self._arrivals = Arrivals()
        self._backlog = Backlog(" ".join(self.topics), max_queued)
        self._arrived = asyncio.Event()
        self._is_over = False
        self._error: DisconnectedError | None = None

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event | Gap:
        """Wait for the next event or gap.

        Raises:
            DisconnectedError: the connection was lost, and everything that had arrived was handed out.
        """
        while (item := self._backlog.next()) is None:
            if self._error is not None:
                raise self._error
            if self._is_over:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        if self.position is not None:
            self.position = item.position
        return item

    def begin(self, reply: dict[str, Any], recover: Position | None) -> None:
        """The hub has agreed: from here on its events count."""
        if reply["epoch"] is None:
            return
        start = Position(reply["epoch"], reply["offset"])
        self.recovered = bool(reply["recovered"])
        self._arrivals.start(reply["topic"], start, recover, recovered=self.recovered)
        if len(self.topics) == 1:
            self.position = recover or start

    def take(self, item: Event | Gap) -> bool:
        """Something has arrived that matches; returns whether the reader falls behind."""
        for taken in self._arrivals.take(item):
            self._backlog.add(taken)
        self._arrived.set()
        return self._backlog.is_crowded

    def end(self, error: DisconnectedError | None = None) -> None:
        """Nothing comes any more."""
        self._is_over = True
        self._error = self._error or error
        self._arrived.set()


class Subscriptions:
    """All subscriptions of a connection. The hub sends an event once, here it reaches everybody it matches."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._index: TopicIndex[Subscription] = TopicIndex()
        self._open: dict[Subscription, list[str]] = {}
        self._uses: Counter[str] = Counter()

    async def add(self, subscription: Subscription, recover: Position | None) -> None:
        """Ask the hub for all topics of a subscription.

        Raises:
            RpcError: the hub refused one.
            DisconnectedError: the connection was lost.
        """
        held = self._open[subscription] = []
        for topic in subscription.topics:

            def register(reply: Any, topic: str = topic) -> None:
                subscription.begin(reply, recover)
                self._index.add(topic, subscription)

            params: dict[str, Any] = {"topic": topic}
            if recover is not None:
                params["recover"] = {"epoch": recover.epoch, "offset": recover.offset}
            # Counted before it is sent: whoever leaves meanwhile must not unsubscribe what is being asked for.
            self._uses[topic] += 1
            held.append(topic)
            await self._call("subscribe", params, on_result=register)

    async def remove(self, subscription: Subscription) -> None:
        """Tell the hub what nobody here reads any more."""
        subscription.end()
        unused = []
        for topic in self._open.pop(subscription, ()):
            self._index.remove(topic, subscription)
            self._uses[topic] -= 1
            if not self._uses[topic]:
                del self._uses[topic]
                unused.append(topic)
        await asyncio.gather(*map(self._unsubscribe, unused))

    def deliver(self, item: Event | Gap) -> bool:
        """Hand an event or a gap to everybody it concerns; returns whether one of them falls behind."""
        crowded = [subscription.take(item) for subscription in self._index.match(item.topic)]
        return True in crowded

    def end(self, error: DisconnectedError) -> None:
        """The connection is gone."""
        for subscription in self._open:
            subscription.end(error)

    async def _unsubscribe(self, topic: str) -> None:
        try:
            await self._call("unsubscribe", {"topic": topic}, timeout_ms=UNSUBSCRIBE_TIMEOUT_MS)
        except (RpcError, DisconnectedError):
            return  # events nobody reads are ignored, and with the connection its subscriptions are gone


def without_covered(topics: Sequence[str]) -> tuple[str, ...]:
    """The topics without those that another one of them reaches anyhow.

    Their positions would say nothing: replies overtake events, so a head may lie ahead of what is still to come.
    """
    different = tuple(dict.fromkeys(topics))
    return tuple(topic for topic in different if not any(covers(other, topic) for other in different if other != topic))
