"""Deadlines of many calls at the cost of a set operation each. Pure: the clock is an argument."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from trunkline_protocol.calls import Call

TICK: Final = 0.01
"""Resolution in seconds. A timer of the event loop per call would cost several times as much."""


class DeadlineWheel:
    """Calls with a deadline, in one bucket per tick."""

    __slots__ = ("_buckets", "_cursor")

    def __init__(self, now: float = 0.0) -> None:
        self._buckets: dict[int, dict[Call, None]] = {}  # in a set their order would be that of addresses
        self._cursor = int(now / TICK)

    def add(self, call: Call) -> None:
        """Watch a call until it is discarded or has expired. Its ``deadline`` is read now, and not again."""
        tick = int(call.deadline / TICK) + 1
        if tick < self._cursor:  # it has passed already, and is due with the next tick
            tick = self._cursor
        call.tick = tick
        bucket = self._buckets.get(tick)
        if bucket is None:
            self._buckets[tick] = {call: None}
        else:
            bucket[call] = None

    def discard(self, call: Call) -> None:
        """Stop watching a call; calls that are not watched are ignored."""
        if (bucket := self._buckets.get(call.tick)) is not None:
            bucket.pop(call, None)
            if not bucket:
                del self._buckets[call.tick]

    def expired(self, now: float) -> list[Call]:
        """Remove and return the calls whose deadline has passed at ``now`` (monotonic, seconds), by tick."""
        last = int(now / TICK)
        due: list[Call] = []
        while self._cursor <= last:
            if not self._buckets:
                self._cursor = last + 1
                break
            due.extend(call for call in self._buckets.pop(self._cursor, ()) if not call.settled)
            self._cursor += 1
        return due

    def __iter__(self) -> Iterator[Call]:
        return (call for bucket in self._buckets.values() for call in bucket)

    def __bool__(self) -> bool:
        return bool(self._buckets)
