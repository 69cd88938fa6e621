"""Chooses the executor for a call, by what is known now: free slots, silence, measured run times. Pure.

An executor that is not ready, is silent or has no room gets nothing. Whatever the strategy: nothing is sent ahead while
another has a free slot, and one that does not answer at once, or was silent lately, comes after all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from trunkline.defaults import Strategy
from trunkline.executors.handle import MAX_PARAMS_BYTES, ExecutorHandle
from trunkline.executors.queueing import LaneLoad
from trunkline_protocol.catalogue import Lane

Times = Mapping[int, float]
"""The measured run time of one method in seconds, by the place of the executor. Quick methods are not measured."""

AHEAD: Final = 1e6
"""What is added to a score where the call would wait behind others in the executor."""

DOUBT: Final = 1e9
"""What is added where others are to be asked first; see :class:`.handle.ExecutorHandle`."""

MUCH_SLOWER: Final = 2.0
"""Differences of run times below this factor are taken for chance."""

BASE: Final = 0.125
"""The share of busy slots that is added before it is multiplied, so that of idle executors the quick ones are taken.

It is taken off again: the score of an idle executor that is not slow is 0, and none can be lower.
"""


def in_turn(_handle: ExecutorHandle, _lane: LaneLoad, _times: Times) -> float:
    """The score of ``round_robin``: all are equal."""
    return 0.0


def connections(handle: ExecutorHandle, _lane: LaneLoad, _times: Times) -> float:
    """The score of ``least_connections``: the calls that an executor has, those that wait for other calls included."""
    return len(handle.in_flight)


def performance(handle: ExecutorHandle, lane: LaneLoad, times: Times) -> float:
    """The score of ``performance_based``: the share of slots in use, times how much slower the executor is.

    A plain function in progress counts as half the slots, for it may hold the interpreter lock.
    """
    share = BASE + lane.load / lane.slots
    if lane.beside is not None and lane.beside.load:
        share += 0.5
    if times and (own := times.get(handle.index)) is not None:
        slower = own / min(times.values())
        if slower >= MUCH_SLOWER:
            share *= slower
    return share - BASE


Score = Callable[[ExecutorHandle, LaneLoad, Times], float]
SCORES: Final[Mapping[Strategy, Score]] = {
    "round_robin": in_turn,
    "least_connections": connections,
    "performance_based": performance,
}


def choose(
    executors: Sequence[ExecutorHandle], lane_name: Lane, start: int, score: Score, times: Times
) -> ExecutorHandle | None:
    """The executor with the lowest score that has room, or None where none has.

    Args:
        start: of equals the first from here on is taken, so that a caller who increments it spreads calls evenly.
    """
    best, best_score = None, math.inf
    count = len(executors)
    for offset in range(count):
        handle = executors[(start + offset) % count]
        lane = handle.lanes[lane_name]
        if lane.load >= lane.limit or handle.params_bytes >= MAX_PARAMS_BYTES:
            continue
        if handle.state != "ready" or handle.silent:
            continue
        found = score(handle, lane, times)
        if lane.load >= lane.slots:
            found += AHEAD
        if handle.shunned:
            found += DOUBT
        if not found:
            return handle
        if found < best_score:
            best, best_score = handle, found
    return best
