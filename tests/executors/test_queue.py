from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from trunkline.executors.queue import CallQueue
from trunkline_protocol.calls import Call

HIGH, NORMAL, LOW = 0, 1, 2


def call(priority: int = NORMAL, name: str = "m") -> Call:
    return Call(name, b"{}", priority=priority)


def test_first_in_first_out_within_a_priority() -> None:
    queue, calls = CallQueue(), [call() for _ in range(5)]
    for each in calls:
        queue.push(each)
    assert [queue.pop() for _ in calls] == calls
    assert queue.pop() is None


def test_of_eight_turns_high_leads_five_normal_two_low_one() -> None:
    queue = CallQueue()
    for priority in (HIGH, NORMAL, LOW):
        for _ in range(16):
            queue.push(call(priority))
    turns = [popped.priority for _ in range(16) if (popped := queue.pop()) is not None]
    assert (turns.count(HIGH), turns.count(NORMAL), turns.count(LOW)) == (10, 4, 2)


def test_low_is_not_starved_by_a_steady_stream_of_high() -> None:
    queue = CallQueue()
    low = call(LOW)
    queue.push(low)
    served = []
    for _ in range(8):
        queue.push(call(HIGH))
        served.append(queue.pop())
    assert low in served


def test_a_priority_alone_is_served_at_every_turn() -> None:
    queue = CallQueue()
    for _ in range(20):
        queue.push(call(LOW))
    assert all(queue.pop() is not None for _ in range(20))


def test_remove_from_the_middle() -> None:
    queue, calls = CallQueue(), [call() for _ in range(3)]
    for each in calls:
        queue.push(each)
    assert queue.remove(calls[1])
    assert not queue.remove(calls[1])
    assert not queue.remove(call())
    assert [queue.pop(), queue.pop(), queue.pop()] == [calls[0], calls[2], None]


def test_push_front_comes_before_its_priority() -> None:
    queue, first, second = CallQueue(), call(), call()
    queue.push(first)
    queue.push_front(second)
    assert [queue.pop(), queue.pop()] == [second, first]


def test_drain() -> None:
    queue, calls = CallQueue(), [call(LOW), call(HIGH)]
    for each in calls:
        queue.push(each)
    assert set(queue.drain()) == set(calls)
    assert not queue
    assert queue.pop() is None


operations = st.lists(st.tuples(st.sampled_from(["push", "front", "pop", "remove"]), st.integers(0, 2)), max_size=60)


@given(operations)
def test_nothing_is_lost_or_served_twice(steps: list[tuple[str, int]]) -> None:
    queue, inside = CallQueue(), []
    for name, priority in steps:
        if name in ("push", "front"):
            inside.append(call(priority))
            (queue.push if name == "push" else queue.push_front)(inside[-1])
        elif name == "remove" and inside:
            assert queue.remove(inside.pop(len(inside) // 2))
        elif name == "pop":
            popped = queue.pop()
            assert (popped is None) == (not inside)
            if popped is not None:
                inside.remove(popped)
        assert len(queue) == len(inside)


def seconds_to_remove_all(size: int) -> float:
    queue, calls = CallQueue(), [call() for _ in range(size)]
    for each in calls:
        queue.push(each)
    started = time.perf_counter()
    for each in reversed(calls):
        queue.remove(each)
    return time.perf_counter() - started


def test_removing_costs_the_same_in_a_long_queue() -> None:
    small = min(seconds_to_remove_all(1_000) for _ in range(5))
    large = min(seconds_to_remove_all(10_000) for _ in range(5))
    assert large < small * 40, "ten times as many removals, ten times the time; a scan would be a hundred times"
