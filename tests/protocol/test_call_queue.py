from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from trunkline_protocol.backlog import CallQueue
from trunkline_protocol.calls import Call

HIGH, NORMAL, LOW = 0, 1, 2


def call(priority: int = NORMAL, name: str = "m", flow: int = 0) -> Call:
    made = Call(name, b"{}", priority=priority)
    made.flow = flow
    return made


def filled(*calls: Call) -> CallQueue:
    queue = CallQueue()
    for each in calls:
        queue.push(each)
    return queue


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


# --- flows ---


def test_ten_thousand_calls_of_one_flow_delay_anothers_by_one() -> None:
    for priority in (HIGH, NORMAL, LOW):
        queue = filled(*(call(priority, flow=1) for _ in range(10_000)))
        for _ in range(17):  # wherever the turns stand
            queue.pop()
            other = call(priority, flow=2)
            queue.push(other)
            assert other in (queue.pop(), queue.pop())


def test_flows_take_turns_in_the_order_they_came() -> None:
    calls = [call(flow=flow) for flow in (1, 1, 1, 2, 2, 3)]
    queue = filled(*calls)
    assert [popped.flow for _ in calls if (popped := queue.pop()) is not None] == [1, 2, 3, 1, 2, 1]


def test_a_flow_keeps_its_order_whoever_comes_between() -> None:
    calls = [call(flow=number % 3) for number in range(30)]
    queue = filled(*calls)
    popped = [queue.pop() for _ in calls]
    for flow in range(3):
        assert [each for each in popped if each is not None and each.flow == flow] == calls[flow::3]


def test_a_flow_has_no_more_turns_for_coming_back() -> None:
    queue = filled(*(call(flow=1) for _ in range(4)))
    waiting = [call(flow=2) for _ in range(4)]
    for each in waiting:
        queue.push(each)
    served = []
    for _ in range(6):
        popped = queue.pop()
        assert popped is not None
        served.append(popped.flow)
        if popped.flow == 1:
            queue.push(call(flow=1))  # as a client does that keeps so many calls in flight
    assert served == [1, 2] * 3


def test_priority_goes_before_flows() -> None:
    low = [call(LOW, flow=2) for _ in range(3)]
    queue = filled(*(call(HIGH, flow=1) for _ in range(6)), *low)
    assert [popped.priority for _ in range(3) if (popped := queue.pop()) is not None] == [HIGH] * 3


def test_a_flow_may_wait_at_several_priorities() -> None:
    calls = [call(priority, flow=1) for priority in (LOW, NORMAL, HIGH)]
    queue = filled(*calls)
    assert queue.remove(calls[1])
    assert [queue.pop(), queue.pop(), queue.pop()] == [calls[2], calls[0], None]


def test_push_front_comes_before_other_flows() -> None:
    queue = filled(call(flow=1), call(flow=2))
    lost = call(flow=2)
    queue.push_front(lost)
    assert queue.pop() is lost


def test_flows_that_are_empty_leave_nothing_behind() -> None:
    calls = [call(number % 3, flow=number) for number in range(300)]
    queue = filled(*calls)
    for each in calls[:100]:
        assert queue.remove(each)
    for _ in range(200):
        assert queue.pop() is not None
    assert queue._levels == ({}, {}, {})


class Model:
    """Each priority a list of flows, each flow a list of calls; the flow whose turn it is comes first."""

    def __init__(self) -> None:
        self.levels: list[list[list[Call]]] = [[], [], []]

    def _flow(self, each: Call) -> list[Call]:
        level = self.levels[each.priority]
        for flow in level:
            if flow[0].flow == each.flow:
                return flow
        level.append([])
        return level[-1]

    def push(self, each: Call) -> None:
        self._flow(each).append(each)

    def push_front(self, each: Call) -> None:
        flow, level = self._flow(each), self.levels[each.priority]
        flow.insert(0, each)
        level.remove(flow)
        level.insert(0, flow)

    def remove(self, each: Call) -> None:
        level = self.levels[each.priority]
        flow = self._flow(each)
        flow.remove(each)
        if not flow:
            level.remove(flow)

    def popped(self, priority: int) -> Call:
        """What has to come from a priority that has its turn."""
        level = self.levels[priority]
        flow = level.pop(0)
        first = flow.pop(0)
        if flow:
            level.append(flow)
        return first


moves = st.lists(
    st.tuples(st.sampled_from(["push", "push", "push_front", "pop", "remove"]), st.integers(0, 2), st.integers(0, 3)),
    max_size=80,
)


@given(moves)
def test_flows_against_a_model(moves: list[tuple[str, int, int]]) -> None:
    queue, model, inside = CallQueue(), Model(), list[Call]()
    for name, priority, flow in moves:
        if name.startswith("push"):
            inside.append(call(priority, flow=flow))
            getattr(queue, name)(inside[-1])
            getattr(model, name)(inside[-1])
        elif name == "remove" and inside:
            chosen = inside.pop((priority * 31 + flow) % len(inside))
            assert queue.remove(chosen)
            assert not queue.remove(chosen)
            model.remove(chosen)
        elif name == "pop":
            popped = queue.pop()
            assert (popped is None) == (not inside)
            if popped is not None:
                assert popped is model.popped(popped.priority)
                inside.remove(popped)
        assert len(queue) == len(inside)
    assert set(queue.drain()) == set(inside)
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
    started = time.thread_time()
    for each in reversed(calls):
        queue.remove(each)
    return time.thread_time() - started


def test_removing_costs_the_same_in_a_long_queue() -> None:
    small = min(seconds_to_remove_all(1_000) for _ in range(5))
    large = min(seconds_to_remove_all(10_000) for _ in range(5))
    assert large < small * 40, "ten times as many removals, ten times the time; a scan would be a hundred times"
