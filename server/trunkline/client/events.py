"""What a subscription hands out: events, and the gaps between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
