"""What brokers in one process have in common: the order of publications, idempotency keys, and how much is kept.

A tenant's topics have a broker of their own. Where all of them keep more than the limits say, the one that keeps most
makes room: no tenant pushes out what another keeps that has less.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from trunkline import defaults
from trunkline.broker.keys import PublishKeys
from trunkline_protocol.events import Position

MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """How much of the events is kept for subscribers that recover.

    Attributes:
        events: of one topic.
        seconds: since publication.
        bytes: over all topics; the tenant that keeps most gives up the history of its topic that was quiet longest.
        topics: whose count of offsets is remembered; beyond it, of the tenant that has most, the quietest begins a new
            epoch when it speaks again.
    """

    events: int = defaults.HISTORY_EVENTS
    seconds: float = defaults.HISTORY_SECONDS
    bytes: int = defaults.HISTORY_BYTES
    topics: int = 262_144


class Keeper(Protocol):
    """One of the brokers, as far as the others are concerned.

    Attributes:
        history_bytes: what its histories take, roughly.
    """

    history_bytes: int

    def known(self) -> int:
        """How many topics it knows."""

    def make_room(self) -> None:
        """Drop some of its history."""

    def forget_quietest(self) -> None:
        """Forget the topic that was quiet longest."""


K = TypeVar("K", bound=Keeper)


class _Most(Generic[K]):
    """Finds the broker that has most of something. It is looked for again when that one has lost a sixteenth."""

    def __init__(self, has: Callable[[K], int]) -> None:
        self._has = has
        self._found: K | None = None
        self._until = 0

    def of(self, brokers: Iterable[K]) -> K:
        has = 0 if self._found is None else self._has(self._found)
        if self._found is None or has <= self._until:
            self._found = max(brokers, key=self._has)
            has, self._until = self._has(self._found), 0
        self._until = max(self._until, has * 15 // 16)
        return self._found


class Common(Generic[K]):
    """The state that brokers have in common.

    Args:
        limits: of what is kept; they may be replaced.
        monotonic: seconds, for ages.
        wall_clock: seconds since 1970, for ``published_at``.
        keys: idempotency keys that are remembered.

    Attributes:
        place: of the last publication, and of the last :meth:`head`. Places are microseconds since the start, made
            greater where two would be the same.
        generation: how often a topic was forgotten.
        forgotten: the place up to which brokers that have ended may have forgotten topics.
        history_bytes, topics: of all of them.
    """

    __slots__ = (
        "_most_bytes",
        "_most_topics",
        "began",
        "boot",
        "brokers",
        "forgotten",
        "generation",
        "history_bytes",
        "keys",
        "limits",
        "monotonic",
        "place",
        "topics",
        "wall_clock",
    )

    def __init__(
        self,
        limits: HistoryLimits,
        monotonic: Callable[[], float],
        wall_clock: Callable[[], float],
        keys: PublishKeys,
    ) -> None:
        self.limits = limits
        self.monotonic = monotonic
        self.wall_clock = wall_clock
        self.keys = keys
        self.boot = secrets.token_hex(4)
        self.began = monotonic()
        self.place = self.generation = self.forgotten = 0
        self.history_bytes = self.topics = 0
        self.brokers: dict[K, None] = {}
        self._most_bytes: _Most[K] = _Most(lambda broker: broker.history_bytes)
        self._most_topics: _Most[K] = _Most(lambda broker: broker.known())

    def now(self) -> int:
        """Microseconds since the start."""
        return int((self.monotonic() - self.began) * MICROSECONDS)

    def head(self) -> Position:
        """A place after all publications so far, and before all that follow."""
        self.place = max(self.place, self.now())
        return Position(self.boot, self.place)

    def make_room(self) -> None:
        """Drop history until all of it together is within the limit."""
        while self.history_bytes > self.limits.bytes:
            self._most_bytes.of(self.brokers).make_room()

    def forget_topic(self) -> None:
        """Forget a topic, for there are as many as may be."""
        self._most_topics.of(self.brokers).forget_quietest()
