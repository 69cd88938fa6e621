"""Which executor takes a call. Pure: it looks at numbers and picks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

PREFETCH_SECONDS: Final = 0.002
"""How much work may wait inside an executor, behind what it runs."""

PREFETCH_LIMIT: Final = 256


class LaneLoad:
    """How many calls one lane of one executor holds, and how many it may hold.

    The executor runs ``slots`` of them at once: up to ``max_concurrency`` coroutines on its loop, one plain function on
    its thread. What is sent ahead of that may be no more than about two milliseconds of work, so that a slow call
    does not hold up others that a free executor could run, while quick ones do not wait for the wire.

    Attributes:
        mean_run: how long calls of this lane run, in seconds.
    """

    __slots__ = ("limit", "load", "mean_run", "slots")

    def __init__(self, slots: int) -> None:
        self.load = 0
        self.limit = slots
        self.slots = slots
        self.mean_run = PREFETCH_SECONDS * slots

    def observe(self, run_seconds: float) -> None:
        """Learn from a finished call how long calls of this lane run (exponential mean, weight 1/8)."""
        self.mean_run += (run_seconds - self.mean_run) * 0.125
        ahead = int(self.slots * PREFETCH_SECONDS / max(self.mean_run, 1e-6))
        self.limit = self.slots + min(PREFETCH_LIMIT, ahead)


def least_loaded(lanes: Sequence[LaneLoad | None], start: int) -> int:
    """The index of the least busy lane that has room, or -1 where none has. None stands for one not ready.

    Busy is relative to what a lane runs at once, so that nothing is sent ahead while another has a free slot. Of
    equals the first from ``start`` on is taken, so that a caller who counts it up spreads calls.
    """
    best, best_load = -1, float("inf")
    for offset in range(len(lanes)):
        index = (start + offset) % len(lanes)
        lane = lanes[index]
        if lane is None or lane.load >= lane.limit:
            continue
        if (load := lane.load / lane.slots) < best_load:
            best, best_load = index, load
    return best
