"""Gaps: events that were dropped for one connection, until ``event.gap`` announces them. Pure."""

from __future__ import annotations

from collections.abc import Callable

from trunkline_protocol.codecs.jsonrpc import encode_gap
from trunkline_protocol.events import Event, Position

GAP_BYTES = 256
"""Bytes of an announcement, roughly; counted before it is encoded."""


def announcement(gap: bytes) -> Event:
    """An encoded gap as an event without a topic, to be queued among events."""
    event = Event("", b"", "", 0, 0)
    event.payload = gap
    return event


class _Gap:
    """The offsets missing of one topic and epoch; ``count`` is None once it is not known."""

    __slots__ = ("count", "first", "last")

    def __init__(self, offset: int) -> None:
        self.first = self.last = offset
        self.count: int | None = 1

    def add(self, offset: int) -> None:
        if self.count is not None and offset == self.last + 1:
            self.count += 1
        else:  # a replay after newer events: the gap has to cover both, and no event may count twice
            self.count = None
        self.first = min(self.first, offset)
        self.last = max(self.last, offset)


class Gaps:
    """Dropped events, merged by topic and epoch. They are added in the order in which they would have been sent.

    Attributes:
        bytes: size of the announcements, roughly.
    """

    __slots__ = ("_announced", "_open", "bytes")

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], _Gap] = {}
        self._announced: list[bytes] = []
        self.bytes = 0

    def add(self, event: Event) -> int:
        """Add a dropped event. Returns by how much ``bytes`` grew.

        An announcement that is dropped is kept as it is: one gap must not hide another.
        """
        if not event.topic:
            self._announced.append(event.payload)
            grown = len(event.payload)
        else:
            gap = self._open.get((event.topic, event.epoch))
            if gap is not None:
                gap.add(event.offset)
                return 0
            self._open[event.topic, event.epoch] = _Gap(event.offset)
            grown = GAP_BYTES
        self.bytes += grown
        return grown

    def forget(self, wanted: Callable[[str], bool]) -> int:
        """Remove the gaps of topics that are not ``wanted`` any more. Returns by how much ``bytes`` shrank.

        A later subscription to such a topic begins anew: events that an earlier one missed are not its gaps.
        """
        unwanted = [key for key in self._open if not wanted(key[0])]
        for key in unwanted:
            del self._open[key]
        shrunk = GAP_BYTES * len(unwanted)
        self.bytes -= shrunk
        return shrunk

    def forget_after(self, topic: str, position: Position) -> int:
        """Remove what is missing of a topic after a position: a replay has it. Returns by how much ``bytes`` shrank."""
        key = (topic, position.epoch)
        gap = self._open.get(key)
        if gap is None or gap.last <= position.offset:
            return 0
        if gap.first <= position.offset:
            gap.last = position.offset
            gap.count = None if gap.count is None else gap.last - gap.first + 1
            return 0
        del self._open[key]
        self.bytes -= GAP_BYTES
        return GAP_BYTES

    def encoded(self) -> list[bytes]:
        """The announcements, encoded, to be sent before any event that was not dropped."""
        merged = [
            encode_gap(topic, epoch, gap.first, gap.last, gap.count, "slow_consumer")
            for (topic, epoch), gap in self._open.items()
        ]
        return self._announced + merged
