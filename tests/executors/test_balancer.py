from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.executors.balancer import PREFETCH_LIMIT, LaneLoad, least_loaded


def lane(load: int, limit: int = 4) -> LaneLoad:
    lane = LaneLoad(limit)
    lane.load = load
    return lane


def test_the_emptiest_is_taken() -> None:
    assert least_loaded([lane(2), lane(1), lane(3)], 0) == 1


def test_room_is_relative() -> None:
    assert least_loaded([lane(2, 4), lane(3, 32)], 0) == 1


def test_full_and_missing_ones_are_passed_over() -> None:
    assert least_loaded([None, lane(4), lane(3)], 0) == 2
    assert least_loaded([None, lane(4)], 0) == -1
    assert least_loaded([], 0) == -1


def test_equals_take_turns() -> None:
    lanes = [lane(0) for _ in range(3)]
    assert Counter(least_loaded(lanes, turn) for turn in range(9)) == {0: 3, 1: 3, 2: 3}


@given(st.lists(st.none() | st.tuples(st.integers(0, 40), st.integers(1, 32)), max_size=6), st.integers(0, 100))
def test_never_one_without_room_and_never_a_worse_one(described: list[tuple[int, int] | None], start: int) -> None:
    lanes = [None if each is None else lane(*each) for each in described]
    found = least_loaded(lanes, start)
    room = {i: each.load / each.limit for i, each in enumerate(lanes) if each is not None and each.load < each.limit}
    assert (found == -1) == (not room)
    if room:
        assert room[found] == min(room.values())


def learned(slots: int, run_seconds: float) -> LaneLoad:
    lane = LaneLoad(slots)
    for _ in range(100):
        lane.observe(run_seconds)
    return lane


@pytest.mark.parametrize("slots", [1, 32])
def test_slow_calls_are_not_sent_ahead(slots: int) -> None:
    assert learned(slots, 0.1).limit == slots


@pytest.mark.parametrize("slots", [1, 32])
def test_quick_calls_are_sent_ahead_within_bounds(slots: int) -> None:
    assert slots < learned(slots, 0.0001).limit <= slots + PREFETCH_LIMIT
    assert learned(slots, 0).limit == slots + PREFETCH_LIMIT


def test_at_first_nothing_is_known_and_little_is_sent_ahead() -> None:
    assert LaneLoad(1).limit == 1


def test_one_slow_call_after_many_quick_ones_shrinks_it_at_once() -> None:
    lane = learned(1, 0.00005)
    lane.observe(1.0)
    assert lane.limit == 1


def test_nobody_waits_in_one_executor_while_another_has_a_free_slot() -> None:
    quick, slow = learned(4, 0.0001), learned(4, 1.0)
    quick.load, slow.load = 4, 1
    assert least_loaded([quick, slow], 0) == 1, "what is sent ahead to one waits; the other could run it now"
