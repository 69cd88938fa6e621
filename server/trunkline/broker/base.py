"""What the hub expects of a broker. Every implementation passes ``tests/broker/contract.py``.

Answers come by callback, not by coroutine: in-process brokers answer before the call returns, and no task is made
per publication.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from trunkline_protocol.errors import RpcError
from trunkline_protocol.events import Event, Position


class PublishKey(NamedTuple):
    """An idempotency key, and the key of the principal whose it is: without a name for methods and the hub itself."""

    owner: str
    key: str


@dataclass(frozen=True, slots=True)
class Joined:
    """The answer to :meth:`Broker.join`.

    Attributes:
        position: after which delivery starts.
        recovered: whether the asked position could be served.
        missed: the events after ``position`` up to now, in order, if recovered.
        head: the topic's last position.
    """

    position: Position
    recovered: bool
    missed: tuple[Event, ...]
    head: Position


@dataclass(frozen=True, slots=True)
class Recovery:
    """From where a subscription to a pattern is recovered.

    Attributes:
        as_of: a place among all publications: ``head`` of an earlier :class:`PatternJoined`.
        known: positions of topics that were published to since then, as far as the subscriber has them.
    """

    as_of: Position
    known: Mapping[str, Position]


@dataclass(frozen=True, slots=True)
class PatternJoined:
    """The answer to :meth:`Broker.join_pattern`.

    Attributes:
        head: a place in the order of all publications: after everything that was published before the answer, and
            before all that follows. It tells nothing of their number, so that nobody learns how much others publish.
        recovered: whether the asked place is known, and not too much was published since.
        topics: if so, the topics that the pattern reaches and that were published to since, each as :meth:`Broker.join`
            answers for the subscriber's position in it, or for the place that was asked for.
    """

    head: Position
    recovered: bool
    topics: tuple[tuple[str, Joined], ...]


@dataclass(frozen=True, slots=True)
class TopicStanding:
    """The state of a topic.

    Attributes:
        head: its last position.
        kept: events in its history.
        kept_bytes: what they take, roughly.
        oldest_at: when the oldest of them was published, in milliseconds since 1970; None where none is kept.
        place: that of its last event in the order of all publications.
    """

    topic: str
    head: Position
    kept: int
    kept_bytes: int
    oldest_at: int | None
    place: int


class Broker(Protocol):
    """Stores events by topic and hands each to the hub once: the topics of one tenant, or those that all share.

    Guarantees:
        Events of a topic are handed to ``deliver`` in the order of their offsets, each once.
        A publication is answered when its event is stored, and delivered before the answer or after it.
        Between a ``join`` that was answered with ``head`` and the first event delivered after it, nothing of that topic
        is missing; after a ``join_pattern`` nothing of the topics that the pattern reaches.
        The same idempotency key of the same principal on the same topic is one event, for the time that was promised: a
        publication whose key cannot be remembered for so long is refused (2003), and none that was is forgotten.
    """

    def another(self) -> Broker:
        """A broker of other topics, empty. The limits are of all of them together: whoever has most makes room.

        They also have the idempotency keys in common, and the order of publications: a place that one has told is a
        place of each.
        """

    def end(self) -> None:
        """Leave the others, and forget all topics. Nothing is asked of it afterwards."""

    def forget_keys(self, tenant: str) -> None:
        """Forget the idempotency keys of a tenant's principals, in all brokers that are counted together."""

    def start(self, deliver: Callable[[Event], None]) -> None:
        """Start the broker; ``deliver`` is called for each event."""

    def publish(
        self,
        topic: str,
        data: bytes,
        idempotency_key: PublishKey | None,
        done: Callable[[Position | RpcError], None],
        publisher: str = "",
    ) -> None:
        """Store an event. ``done`` is called exactly once, perhaps before this returns.

        Args:
            publisher: the name that subscribers are told, or its key; empty where there is none to tell.
        """

    def known(self) -> int:
        """How many topics there are of which something is remembered."""

    def latest(self) -> Iterator[TopicStanding]:
        """The topics, that which was published to last first. Not to be used after a change."""

    def join(
        self, topic: str, recover: Position | None, done: Callable[[Joined | RpcError], None], *, latest: int = 0
    ) -> None:
        """Where a new subscription begins. ``done`` is called exactly once, perhaps before this returns.

        Args:
            latest: without ``recover``, it begins so many events before the head, or as many as are kept.
        """

    def join_pattern(
        self, pattern: str, recover: Recovery | None, done: Callable[[PatternJoined | RpcError], None]
    ) -> None:
        """Where a subscription to a pattern begins. ``done`` is called exactly once, perhaps before this returns."""
