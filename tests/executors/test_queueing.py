from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.executors.queueing import PREFETCH_LIMIT, LaneLoad, RoutingKeys, least_loaded
from trunkline_protocol.catalogue import MethodInfo, Parameter
from trunkline_protocol.errors import ErrorCode, RpcError


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


INFO = MethodInfo(
    "vectors.search",
    routing_key="collection",
    parameters=[Parameter("query", {}, True), Parameter("collection", {}, True)],
)


@pytest.mark.parametrize(
    "params",
    [
        b'{"collection":"docs"}',
        b'{"query":[1,{"collection":"other"}],"collection":"docs","more":null}',
        b' {"\\u0063ollection":"d\\u006fcs"}',
        b'["what","docs"]',
        b' [ [1] , "docs", 3]',
    ],
)
def test_the_key_is_found_by_name_and_by_position(params: bytes) -> None:
    assert RoutingKeys().value(INFO, params) == "docs"


@pytest.mark.parametrize(
    "params",
    [b"{}", b'{"collection":5}', b'{"collection":null}', b"[]", b'["q"]', b'["q",5]', b'{"collection":"x"', b"[1,"],
)
def test_a_missing_key_is_named(params: bytes) -> None:
    with pytest.raises(RpcError, match="collection") as caught:
        RoutingKeys().value(INFO, params)
    assert caught.value.code == ErrorCode.INVALID_PARAMS


def test_decoders_of_methods_do_not_mix() -> None:
    keys = RoutingKeys()
    other = MethodInfo("graph.walk", routing_key="start", parameters=[Parameter("start", {}, True)])
    assert keys.value(INFO, b'{"collection":"a","start":"b"}') == "a"
    assert keys.value(other, b'{"collection":"a","start":"b"}') == "b"


def test_coroutines_go_first_to_where_no_plain_function_may_hold_the_interpreter_lock() -> None:
    plain = LaneLoad(1)
    plain.load = 1
    beside = LaneLoad(4, plain)
    assert {least_loaded([beside, lane(1)], turn) for turn in range(4)} == {1}
    assert least_loaded([beside, lane(3)], 0) == 0, "the other has three of four slots taken"
    plain.load = 0
    assert least_loaded([beside, lane(1)], 0) == 0
