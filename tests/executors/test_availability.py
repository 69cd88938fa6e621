"""What a pool can serve, from what its executors hold and how they answer."""

from __future__ import annotations

from trunkline.control.judgement import NEVER, Seen, judge
from trunkline.executors.availability import SILENT_SECONDS, STILL_SECONDS, Standstill, report, status_of
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.queueing import ANYWHERE, PoolBacklog, Queue
from trunkline_protocol.backlog import QueueLimits
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Lane, MethodInfo
from trunkline_protocol.health_reports import GroupHealth, GroupSeen

NOW = 1000.0
LONG = STILL_SECONDS + 0.1


class Group:
    """Executors with two slots for coroutines each, and what waits for them."""

    def __init__(self, size: int) -> None:
        self.executors = [ExecutorHandle(index, {}, lambda _: None, 2) for index in range(size)]
        for handle in self.executors:
            handle.state = "ready"
        self.backlog = PoolBacklog(QueueLimits(), lambda: 50)
        self._key = 0

    def runs(self, index: int, age: float, lane: Lane = "thread") -> int:
        """A call that was sent to an executor so long ago; its key."""
        self._key += 1
        call = self._call(lane, age)
        self.executors[index].in_flight[self._key] = call
        return self._key

    def waits(self, lane: Lane = "thread", queue: Queue = ANYWHERE) -> None:
        self.backlog.push(self._call(lane, 0.0), (lane, queue))

    def serves(self, *lanes: Lane) -> bool:
        """Whether it can serve something, where its methods are of these lanes."""
        return self._judged(lanes).ready

    @property
    def causes(self) -> list[str]:
        return [cause.text for cause in self._judged(("thread", "loop")).causes if cause.kind == "held"]

    def _judged(self, lanes: tuple[Lane, ...]) -> GroupHealth:
        reports = [report(handle, 32, 0, NOW) for handle in self.executors]
        methods = [MethodInfo(f"{lane}.work", lane=lane) for lane in lanes]
        held = Standstill(self.executors, self.backlog, NOW).held
        seen = Seen(False, [GroupSeen("default", reports, methods, held, [])], [], {}, None, 1)
        (judged,) = judge(seen, NEVER).groups
        return judged

    def _call(self, lane: Lane, age: float) -> Call:
        call = Call(f"{lane}.work", b"{}")
        call.info = MethodInfo(call.method, lane=lane)
        # It had waited for a second before it was sent.
        call.received, call.waited = NOW - age - 1.0, 1.0
        return call


def test_an_idle_pool_serves_everything() -> None:
    group = Group(2)
    assert group.serves("thread", "loop")
    assert group.causes == []


def test_the_status_is_what_it_answers_not_that_it_lives() -> None:
    (handle,) = Group(1).executors
    assert status_of(handle, NOW) == "ready"
    handle.ping_sent_at = NOW - SILENT_SECONDS / 2
    assert status_of(handle, NOW) == "ready"
    handle.ping_sent_at = NOW - SILENT_SECONDS
    assert status_of(handle, NOW) == "silent"
    handle.state = "down"
    assert status_of(handle, NOW) == "down"


def test_with_one_of_two_silent_or_away_it_serves_and_with_both_it_does_not() -> None:
    group = Group(2)
    group.executors[0].ping_sent_at = NOW - SILENT_SECONDS
    assert group.serves("loop")
    group.executors[1].state = "starting"
    assert not group.serves("loop")


def test_long_calls_that_nobody_waits_for_hold_nothing_up() -> None:
    group = Group(1)
    group.runs(0, LONG)
    assert group.causes == []
    assert group.serves("thread")


def test_a_lane_that_no_executor_gets_on_with_is_told_with_what_runs() -> None:
    group = Group(2)
    group.runs(0, LONG)
    group.runs(1, LONG)
    group.waits()
    assert group.causes == [
        "plain functions wait: no executor makes progress "
        "(thread.work has run for 1.6 s on executor-0, thread.work has run for 1.6 s on executor-1)"
    ]
    assert group.serves("thread", "loop"), "coroutines are served"
    assert not group.serves("thread"), "where there are only plain functions nothing is"


def test_what_was_sent_ahead_waits_too() -> None:
    group = Group(1)
    group.runs(0, LONG)
    group.runs(0, 0.1)
    assert not group.serves("thread")


def test_one_that_gets_on_is_enough() -> None:
    group = Group(2)
    group.runs(0, LONG)
    group.runs(1, STILL_SECONDS - 0.1)
    group.waits()
    assert group.causes == []


def test_what_only_one_executor_may_run_is_told_apart() -> None:
    group = Group(2)
    group.runs(0, LONG)
    group.waits(queue=0)
    assert group.causes == ["calls that only executor-0 may run wait: thread.work has run for 1.6 s on executor-0"]
    assert group.serves("thread")


def test_methods_that_are_slow_are_not_stuck() -> None:
    group = Group(1)
    for _ in range(40):
        group.executors[0].lanes["thread"].observe(5.0)
    group.runs(0, 15.0)
    group.waits()
    assert group.causes == []
    group.runs(0, 0.0)
    group.executors[0].in_flight.pop(1)
    group.runs(0, 30.0)
    assert group.causes == []


def test_coroutines_take_as_many_slots_as_there_are_and_none_while_they_are_parked() -> None:
    group = Group(1)
    first = group.runs(0, LONG, "loop")
    group.waits("loop")
    assert group.causes == [], "one slot is free"
    group.runs(0, LONG, "loop")
    assert not group.serves("loop")
    group.executors[0].parked[first] = 1
    assert group.serves("loop")
