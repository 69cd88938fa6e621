"""Which executor gets a call, by strategy."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.defaults import Strategy
from trunkline.executors.balancing import SCORES, choose
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.queueing import LaneLoad
from trunkline_protocol.calls import Call


class Executors:
    """Executors that are ready, with so many calls on their loops."""

    def __init__(self, *loads: int, slots: int = 4) -> None:
        self.handles = [ExecutorHandle(index, {}, lambda _: None, slots) for index in range(len(loads))]
        self.times: dict[int, float] = {}
        for handle, load in zip(self.handles, loads, strict=True):
            handle.state = "ready"
            handle.lanes["loop"].load = load
            handle.in_flight = {key: Call("m", b"{}") for key in range(load)}

    def choose(self, strategy: Strategy = "performance_based", start: int = 0) -> int | None:
        found = choose(self.handles, "loop", start, SCORES[strategy], self.times)
        return None if found is None else found.index


strategies = pytest.mark.parametrize("strategy", SCORES)


def test_the_emptiest_is_taken() -> None:
    assert Executors(2, 1, 3).choose() == 1
    assert Executors(2, 1, 3).choose("least_connections") == 1


def test_room_is_relative() -> None:
    found = Executors(2, 3)
    found.handles[1].lanes["loop"] = LaneLoad(32)
    found.handles[1].lanes["loop"].load = 3
    assert found.choose() == 1
    assert found.choose("least_connections") == 0


def test_round_robin_takes_turns_whatever_the_load() -> None:
    assert [Executors(3, 0, 1).choose("round_robin", start) for start in range(4)] == [0, 1, 2, 0]


@strategies
def test_full_absent_and_silent_ones_are_passed_over(strategy: Strategy) -> None:
    found = Executors(0, 4, 0, 3)
    found.handles[0].state = "starting"
    found.handles[2].silent = True
    assert found.choose(strategy) == 3
    assert Executors(4).choose(strategy) is None
    assert Executors().choose(strategy) is None


@strategies
def test_equals_take_turns(strategy: Strategy) -> None:
    assert Counter(Executors(0, 0, 0).choose(strategy, turn) for turn in range(9)) == {0: 3, 1: 3, 2: 3}


@strategies
def test_nothing_is_sent_ahead_while_another_has_a_free_slot(strategy: Strategy) -> None:
    found = Executors(4, 3)
    quick = found.handles[0].lanes["loop"]
    for _ in range(100):
        quick.observe(0.0001)
    assert quick.limit > quick.slots
    assert [found.choose(strategy, start) for start in range(2)] == [1, 1]


@given(st.lists(st.none() | st.integers(0, 6), max_size=6), st.integers(0, 100))
def test_never_one_without_room_and_never_a_fuller_one(loads: list[int | None], start: int) -> None:
    found = Executors(*(load or 0 for load in loads))
    for handle, load in zip(found.handles, loads, strict=True):
        handle.state = "down" if load is None else "ready"
    chosen = found.choose(start=start)
    room = {index: load for index, load in enumerate(loads) if load is not None and load < 4}
    assert (chosen is None) == (not room)
    if chosen is not None:
        assert room[chosen] == min(room.values())


def test_a_much_slower_one_gets_its_share_and_differences_by_chance_count_nothing() -> None:
    found = Executors(1, 0)
    found.times = {0: 0.010, 1: 0.100}
    assert found.choose() == 0, "ten times as slow is worse than one call in four slots"
    found.times = {0: 0.010, 1: 0.015}
    assert found.choose() == 1
    found.times = {0: 0.100}
    assert found.choose() == 1, "one that was never measured is tried"


def test_a_plain_function_that_may_hold_the_lock_counts() -> None:
    found = Executors(0, 0)
    found.handles[0].lanes["thread"].load = 1
    assert [found.choose(start=start) for start in range(2)] == [1, 1]


@strategies
def test_one_that_is_shunned_gets_none_while_another_has_room(strategy: Strategy) -> None:
    found = Executors(0, 3)
    found.handles[0].shunned = True
    assert [found.choose(strategy, start) for start in range(4)] == [1, 1, 1, 1]
    found.handles[1].lanes["loop"].load = 4
    assert found.choose(strategy) == 0
