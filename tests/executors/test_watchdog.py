"""Whom an executor is killed for, and how fast after one another."""

from __future__ import annotations

import time
from typing import Any

import pytest

from trunkline.executors import ipc
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.quarantine import Quarantine, QuarantineLimits
from trunkline.executors.watchdog import (
    IDLE_PONG_WITHIN,
    MEASURE_EVERY,
    RECOVERY_SECONDS,
    KillPace,
    Watchdog,
    count_kill,
    suspects_of,
)
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Lane, MethodInfo

KILL_AFTER = 10.0


def executor(index: int = 0, max_concurrency: int = 2) -> ExecutorHandle:
    handle = ExecutorHandle(index, {ipc.PONG: lambda *_: None}, lambda _: None, max_concurrency)
    handle.state = "ready"
    handle.last_frame_at = 1e9  # it says something all the time
    return handle


class HubsCall(Call):
    """A call of the hub itself."""

    def caller(self) -> None:
        return None


def runs(handle: ExecutorHandle, key: int, lane: Lane = "loop", **info: Any) -> Call:
    call = HubsCall(f"{lane}.{key}", b"{}")
    call.info = MethodInfo(call.method, "", "lab", False, lane=lane, **info)
    call.key = key
    handle.in_flight[key] = call
    return call


class Group:
    """Executors that are all stuck, and who was killed."""

    def __init__(self, size: int) -> None:
        self.executors = [executor(index) for index in range(size)]
        self.killed: list[int] = []
        self.watchdog = Watchdog(self.executors, KILL_AFTER, self._kill)
        for handle in self.executors:
            self.watchdog.expect_end(handle, runs(handle, 1), 0.0)

    def _kill(self, handle: ExecutorHandle, _reason: str) -> None:
        self.killed.append(handle.index)
        handle.state = "down"

    def comes_back(self, index: int) -> None:
        self.executors[index].reset()
        self.executors[index].state = "ready"


def test_nobody_is_killed_before_its_time() -> None:
    group = Group(2)
    group.watchdog.look(KILL_AFTER)
    assert group.killed == []


def test_time_in_which_the_hub_stood_still_is_nobodys() -> None:
    """What executors have said meanwhile is still to be read: neither a pong nor an outcome is late by that."""
    group = Group(2)
    (idle,) = group.executors[1:]
    idle.in_flight.clear()
    idle.overdue.clear()
    idle.ping_sent_at = 1.0
    group.watchdog.listen(60.0, 60.0)
    group.watchdog.look(60.0 + KILL_AFTER)
    assert group.killed == []
    assert idle.ping_sent_at == 61.0
    group.watchdog.look(61.1 + IDLE_PONG_WITHIN)
    assert group.killed == [0, 1]


def test_one_after_the_other_each_when_the_last_has_loaded() -> None:
    """Closing a hundred tabs must not make all models load at once."""
    group = Group(3)
    for now in (11.0, 12.0, 30.0):
        group.watchdog.look(now)
        assert group.killed == [0], "it still loads"
    group.comes_back(0)
    group.watchdog.look(31.0)
    group.watchdog.look(31.5)
    assert group.killed == [0, 1]
    group.comes_back(1)
    group.watchdog.look(35.0)
    assert group.killed == [0, 1], "not within kill_after of the last"
    group.watchdog.look(42.0)
    assert group.killed == [0, 1, 2]


def test_one_that_does_not_come_back_is_not_waited_for_for_ever() -> None:
    pace, victim = KillPace(KILL_AFTER), executor()
    assert pace.allows(0.0)
    pace.killed(victim, 0.0)
    victim.state = "down"
    assert not pace.allows(RECOVERY_SECONDS - 1)
    assert pace.allows(RECOVERY_SECONDS)


def test_who_was_killed_for_a_late_call_is_blamed_on_that_alone() -> None:
    group = Group(1)
    (handle,) = group.executors
    late = handle.in_flight[1]
    runs(handle, 2)
    group.watchdog.look(11.0)
    assert suspects_of(handle) == [late]
    handle.reset()
    assert handle.blamed is None


def test_of_a_crash_those_are_suspects_that_ran() -> None:
    handle = executor(max_concurrency=2)
    coroutines = [runs(handle, key) for key in range(1, 5)]
    functions = [runs(handle, key, "thread") for key in range(5, 8)]
    assert suspects_of(handle) == [*coroutines[:2], functions[0]]
    handle.park(1)
    assert suspects_of(handle) == [*coroutines[1:3], functions[0]]


def test_what_takes_input_is_no_suspect_for_its_params() -> None:
    handle = executor()
    runs(handle, 1, input={"type": "string"})
    other = runs(handle, 2)
    assert suspects_of(handle) == [other]


@pytest.mark.parametrize("lane", ["loop", "thread"])
def test_a_late_call_behind_a_function_that_may_run_is_held_up(lane: Lane) -> None:
    group = Group(1)
    (handle,) = group.executors
    handle.in_flight.clear()
    handle.overdue.clear()
    working = runs(handle, 1, "thread")
    group.watchdog.expect_end(handle, runs(handle, 2, lane), 0.0)
    group.watchdog.look(11.0)
    assert group.killed == []
    working.settled = True
    group.watchdog.look(22.0)
    assert group.killed == [0]


@pytest.mark.virtual_time
async def test_one_that_does_not_hear_gets_nothing_new_until_it_does() -> None:
    handle = executor()
    watchdog = Watchdog([handle], KILL_AFTER, lambda *_: None)
    runs(handle, 1, "thread")
    handle.last_frame_at = 100.0
    watchdog.listen(100.2)
    assert not handle.ping_sent_at, "it said something just now"
    watchdog.listen(100.3)
    assert (handle.ping_sent_at, handle.silent) == (100.3, False)
    watchdog.listen(100.6)
    assert handle.silent
    handle.data_received(ipc.frame(ipc.PONG))
    assert not handle.silent


@pytest.mark.virtual_time
async def test_coroutines_that_wait_are_no_silence() -> None:
    handle = executor()
    watchdog = Watchdog([handle], KILL_AFTER, lambda *_: None)
    runs(handle, 1, "loop")
    handle.last_frame_at = 0.0
    for now in (1.0, 2.0, 3.0):
        watchdog.listen(now)
        assert handle.ping_sent_at == now
        handle.data_received(ipc.frame(ipc.PONG))
        handle.last_frame_at = now
        assert not handle.silent


async def test_how_fast_it_answers_is_measured_however_much_it_says() -> None:
    handle = executor()
    watchdog = Watchdog([handle], KILL_AFTER, lambda *_: None)
    runs(handle, 1, "loop")
    assert (handle.latency,) == (None,)
    handle.pinged_at = 100.0
    watchdog.listen(100.0 + MEASURE_EVERY)
    handle.ponged(105.5)
    assert handle.latency == 0.5
    handle.ponged(107.0)
    assert handle.latency == 0.5, "nobody asked"


async def test_of_two_pings_on_their_way_the_first_is_measured() -> None:
    handle = executor()
    handle.ping(10.0)
    handle.ping(12.0)
    handle.ponged(13.0)
    assert handle.latency == 3.0
    handle.ponged(14.0)
    assert handle.latency == 3.0
    handle.reset()
    assert handle.latency is None, "another process"


async def silenced(seconds: float) -> tuple[ExecutorHandle, Watchdog]:
    """An executor that did not answer for so long, while a plain function and a coroutine ran, and then did."""
    handle = executor()
    watchdog = Watchdog([handle], KILL_AFTER, lambda *_: None)
    runs(handle, 1, "thread")
    runs(handle, 2, "loop")
    now = time.monotonic()
    handle.last_frame_at = now - seconds
    handle.ping(now - seconds)
    watchdog.listen(now)
    assert (handle.silent, handle.shunned) == (True, True)
    handle.data_received(ipc.frame(ipc.PONG))
    return handle, watchdog


@pytest.mark.virtual_time
async def test_what_was_learnt_at_a_silence_is_not_forgotten_at_the_first_pong() -> None:
    handle, watchdog = await silenced(1.0)
    assert (handle.silent, handle.shunned) == (False, True), "a method may hold the lock again"
    watchdog.listen(handle.last_frame_at + 0.05)
    assert handle.shunned
    del handle.in_flight[1], handle.in_flight[2]
    watchdog.listen(handle.last_frame_at + 0.1)
    assert not handle.shunned, "what may have silenced it is over"


@pytest.mark.virtual_time
async def test_after_ten_times_as_long_a_silence_is_forgotten() -> None:
    handle, watchdog = await silenced(1.0)
    watchdog.listen(handle.last_frame_at + 9.0)
    assert handle.shunned
    handle.data_received(ipc.frame(ipc.PONG))
    watchdog.listen(handle.last_frame_at + 11.0)
    assert not handle.shunned, "it works, for all that is known"


@pytest.mark.virtual_time
async def test_one_that_was_sent_calls_is_asked_soon_whether_it_hears() -> None:
    handle = executor()
    watchdog = Watchdog([handle], KILL_AFTER, lambda *_: None)
    runs(handle, 1, "loop")
    handle.last_frame_at, handle.owes = 100.0, True
    watchdog.listen(100.06)
    assert (handle.ping_sent_at, handle.shunned) == (100.06, False)
    watchdog.listen(100.12)
    assert (handle.silent, handle.shunned) == (False, True), "others are given work first"
    handle.data_received(ipc.frame(ipc.PONG))
    assert not handle.shunned, "it was busy for a moment"
    assert not handle.owes


def test_one_death_counts_once_for_an_input_that_many_calls_have() -> None:
    quarantine = Quarantine(QuarantineLimits(kills=3))
    for death in range(3):
        handle = executor(max_concurrency=8)
        for key in range(5):
            runs(handle, key).method = "model.info"
        runs(handle, 9).method = f"other.{death}"
        assert quarantine.quarantined(time.monotonic()) == 0
        count_kill(handle, quarantine)
    assert quarantine.quarantined(time.monotonic()) == 1
    error = quarantine.refusal("model.info", b"{}", time.monotonic())
    assert error is not None
    assert error.message.startswith("3 executors died while running model.info with these params")
