"""Where the channels of a client that names itself have come to, so that its next socket goes on there.

What was written to a socket that is cut may not have arrived. So the position that is gone on after is the last one
that the client has confirmed, by a heartbeat or a poll: nothing is lost, and what came after that may come again.
"""

from __future__ import annotations

import functools
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

from trunkline_protocol.codecs.phoenix_events import Reader

MAX_CLIENT_CHARS: Final = 128

Key = tuple[str, str, str]
"""Tenant and name of a principal, and what a client of its calls itself."""


class ClientMemory:
    """The readers of the topics of one client, those of its last socket among them.

    Args:
        max_topics: how many are kept; those that were joined longest ago go first.
        heard: called when the client was heard of.
    """

    def __init__(self, max_topics: int, heard: Callable[[], None]) -> None:
        self.heard = heard
        self._max_topics = max_topics
        self._readers: dict[str, Reader] = {}

    def reader_of(self, topic: str) -> Reader | None:
        """The reader to go on after; None where nothing is known of the topic."""
        reader = self._readers.get(topic)
        return reader if reader is not None and reader.is_recoverable else None

    def keep(self, reader: Reader) -> None:
        """Remember a reader, in place of an earlier one of its topic."""
        self._readers.pop(reader.pattern, None)
        self._readers[reader.pattern] = reader
        if len(self._readers) > self._max_topics:
            del self._readers[next(iter(self._readers))]

    def forget(self, topic: str) -> None:
        """Forget a topic, which the client has left."""
        self._readers.pop(topic, None)


class ClientMemories:
    """The memories of all clients, each for some time after it was heard of last.

    Args:
        seconds: that time.
        of_one: how many a principal may have, 0 for none; its oldest go first.
        of_all: how many there may be, 0 for none.
        max_topics: of each.
        clock: in seconds.
    """

    def __init__(self, seconds: float, of_one: int, of_all: int, max_topics: int, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._of_one = of_one
        self._of_all = of_all
        self._max_topics = max_topics
        self._clock = clock
        self._known: OrderedDict[Key, tuple[ClientMemory, float]] = OrderedDict()
        self._counts: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._known)

    def of(self, key: Key) -> ClientMemory:
        """The memory of a client, which is heard of now; a new one where it was forgotten, or never known."""
        self._expire()
        known = self._known.get(key)
        if known is None:
            if not (self._of_one and self._of_all):
                return ClientMemory(self._max_topics, lambda: None)
            self._make_room(key)
            self._counts[key[:2]] += 1
            memory = ClientMemory(self._max_topics, functools.partial(self._heard, key))
        else:
            memory = known[0]
        self._known[key] = (memory, self._clock())
        self._known.move_to_end(key)
        return memory

    def _heard(self, key: Key) -> None:
        if (known := self._known.get(key)) is not None:
            self._known[key] = (known[0], self._clock())
            self._known.move_to_end(key)

    def _expire(self) -> None:
        limit = self._clock() - self._seconds
        while self._known and next(iter(self._known.values()))[1] < limit:
            self._remove(next(iter(self._known)))

    def _make_room(self, key: Key) -> None:
        if self._counts[key[:2]] >= self._of_one:
            self._remove(next(known for known in self._known if known[:2] == key[:2]))
        elif len(self._known) >= self._of_all:
            self._remove(next(iter(self._known)))

    def _remove(self, key: Key) -> None:
        del self._known[key]
        self._counts[key[:2]] -= 1
        if not self._counts[key[:2]]:
            del self._counts[key[:2]]
