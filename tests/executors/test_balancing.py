"""Which executor gets a call, by strategy, and that none gets one whom nobody has heard of while another is free."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.defaults import Strategy
from trunkline.executors.balancing import SCORES, choose
from trunkline.executors.handle import MISTRUST, QUIET, SILENT_AFTER, UNANSWERED, ExecutorHandle
from trunkline.executors.queueing import LaneLoad
from trunkline_protocol.calls import Call

NOW = 1000.0


class Executors:
    """Executors that are ready and have just been heard of, with so many calls on their loops."""

    def __init__(self, *loads: int, slots: int = 4) -> None:
        self.handles = [ExecutorHandle(index, lambda *_: None, lambda _: None, slots) for index in range(len(loads))]
        self.times: dict[int, float] = {}
        self.pings: list[int] = []
        for handle, load in zip(self.handles, loads, strict=True):
            handle.state = "ready"
            handle.last_frame_at = NOW
            handle.lanes["loop"].load = load
            handle.in_flight = {key: Call("m", b"{}") for key in range(load)}
            handle.ping = self._ping(handle)  # type: ignore[method-assign]

    def _ping(self, handle: ExecutorHandle):  # type: ignore[no-untyped-def]
        def ping(now: float) -> None:
            handle.ping_sent_at = now
            self.pings.append(handle.index)

        return ping

    def choose(self, strategy: Strategy = "performance_based", start: int = 0, now: float = NOW) -> int | None:
        found = choose(self.handles, "loop", start, now, SCORES[strategy], self.times)
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
def test_one_that_is_quiet_with_calls_is_asked_and_gets_none_until_it_answers(strategy: Strategy) -> None:
    found = Executors(1, 2)
    found.handles[0].last_frame_at = NOW - 2 * QUIET
    found.choose(strategy)
    assert found.pings == [0]
    found.handles[1].last_frame_at = later = NOW + UNANSWERED
    assert [found.choose(strategy, start, later) for start in range(4)] == [1, 1, 1, 1]
    assert found.pings == [0], "once is enough"
    found.handles[0].ping_sent_at, found.handles[0].last_frame_at = 0.0, later
    assert found.choose(strategy, 0, later) == 0


@strategies
def test_one_that_runs_a_plain_function_and_is_quiet_gets_none_at_once(strategy: Strategy) -> None:
    found = Executors(1, 2)
    found.handles[0].last_frame_at = NOW - 2 * QUIET
    found.handles[0].lanes["thread"].load = 1
    assert [found.choose(strategy, start) for start in range(4)] == [1, 1, 1, 1]
    assert found.pings == [0]


@strategies
def test_if_all_others_are_full_it_gets_them_all_the_same(strategy: Strategy) -> None:
    found = Executors(1, 4)
    found.handles[0].last_frame_at = NOW - 2 * QUIET
    assert found.choose(strategy) == 0


def test_an_idle_one_is_not_asked_first() -> None:
    found = Executors(0, 0)
    found.handles[0].last_frame_at = NOW - 60
    assert found.choose() == 0
    assert found.pings == []


@strategies
def test_what_was_learnt_at_a_silence_is_not_forgotten_at_the_first_answer(strategy: Strategy) -> None:
    found = Executors(0, 2)
    handle = found.handles[0]
    now = time.monotonic()
    handle.ping_sent_at = now - 2 * SILENT_AFTER
    handle.check_silence(now)
    assert found.choose(strategy, now=now) == 1
    handle.data_received(b"")
    now = found.handles[1].last_frame_at = handle.last_frame_at
    assert found.choose(strategy, now=now) == 1
    handle.last_frame_at = found.handles[1].last_frame_at = now + MISTRUST
    assert found.choose(strategy, now=now + MISTRUST) == 0
