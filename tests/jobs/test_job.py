"""The state machine, the rules of another attempt, and whose turn it is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.profile import fuzzing
from trunkline.jobs.job import (
    FINAL,
    Cancelled,
    Created,
    Failed,
    Interrupted,
    Job,
    Progressed,
    Retrying,
    Started,
    Succeeded,
    WrongEvent,
    pause,
    runs_again,
)
from trunkline.jobs.queue import JobQueue
from trunkline.jobs.retention import superfluous
from trunkline_protocol.errors import ErrorCode, RpcError

ERROR = RpcError(ErrorCode.WORKER_CRASHED, "gone").to_wire()


def new(number: int = 1, principal: str = "ann", priority: Any = "low") -> Job:
    return Job(
        Created(
            id=f"{number:032x}",
            number=number,
            method="m",
            principal=principal,
            priority=priority,
            created_at=1,
            digest="",
            size=2,
            crc=0,
        )
    )


def after(*events: Any) -> Job:
    job = new()
    for event in events:
        job.apply(event)
    return job


def test_a_life_with_troubles() -> None:
    job = after(
        Started(10),
        Progressed(11, msgspec.Raw(b'{"done":1}')),
        Retrying(12, 3, ERROR),
        Started(13),
        Interrupted(14),
        Started(15),
        Succeeded(20, 1, 4, 0),
    )
    view = job.view()
    assert (view.status, view.attempts) == ("succeeded", 5)
    assert (view.created_at, view.started_at, view.finished_at) == (1, 10, 20)
    assert (view.error, view.last_error) == (None, None)
    assert job.failures == 1
    assert bytes(view.progress) == b'{"done":1}'


def test_an_attempt_whose_end_was_not_recorded_counts() -> None:
    job = after(Started(10), Started(11))
    assert (job.status, job.view(1).attempts, job.started_at) == ("running", 2, 10)


def test_an_attempt_that_failed_is_told_while_there_is_to_be_another() -> None:
    job = after(Started(10), Retrying(12, 1, ERROR))
    assert (job.view().status, job.view().last_error, job.view().error) == ("queued", ERROR, None)
    assert job.view(2).attempts == 3
    job.apply(Failed(13, 0, ERROR))
    assert (job.view().last_error, job.view().error) == (None, ERROR)


@pytest.mark.parametrize(
    ("events", "wrong"),
    [
        ([], Succeeded(1, 1, 0, 0)),
        ([], Progressed(1, msgspec.Raw(b"1"))),
        ([], Interrupted(1)),
        ([], new().created),
        ([Started(1), Succeeded(2, 1, 0, 0)], Cancelled(3, 0, "ann")),
        ([Started(1), Cancelled(2, 1, "ann")], Succeeded(3, 1, 0, 0)),
        ([Cancelled(2, 0, "ann")], Started(3)),
    ],
)
def test_what_cannot_come_is_refused_and_changes_nothing(events: list[Any], wrong: Any) -> None:
    job = after(*events)
    before = job.view()
    with pytest.raises(WrongEvent):
        job.apply(wrong)
    assert job.view() == before


some = st.sampled_from(
    [
        Started(1),
        Progressed(2, msgspec.Raw(b"1")),
        Interrupted(3),
        Retrying(4, 1, ERROR),
        Succeeded(5, 1, 0, 0),
        Failed(6, 1, ERROR),
        Cancelled(7, 0, "ann"),
    ]
)


@fuzzing(200)
@given(st.lists(some, max_size=12))
def test_there_is_one_outcome_whatever_comes(events: list[Any]) -> None:
    job = new()
    outcome = None
    for event in events:
        try:
            job.apply(event)
        except WrongEvent:
            continue
        if job.is_over:
            assert outcome is None
            outcome = event
    assert job.outcome is outcome
    assert (job.status in FINAL) == (outcome is not None)


@pytest.mark.parametrize(
    ("error", "failures", "overdue", "again"),
    [
        (RpcError(ErrorCode.WORKER_CRASHED, ""), 0, False, True),
        (RpcError(ErrorCode.WORKER_CRASHED, ""), 2, False, False),
        (RpcError(ErrorCode.WORKER_CRASHED, "", data={"quarantined": True}), 0, False, False),
        (RpcError(ErrorCode.WORKER_OVERLOADED, ""), 1, False, True),
        (RpcError(ErrorCode.COMMUNICATION_TIMEOUT, ""), 0, False, True),
        (RpcError(ErrorCode.COMMUNICATION_TIMEOUT, ""), 0, True, False),
        (RpcError(ErrorCode.INVALID_PARAMS, ""), 0, False, False),
        (RpcError(12345, ""), 0, False, False),
    ],
)
def test_which_errors_have_another_attempt(error: RpcError, failures: int, overdue: bool, again: bool) -> None:
    assert runs_again(error, failures=failures, limit=3, overdue=overdue) is again


def test_pauses_grow_to_a_minute_and_heed_the_hint() -> None:
    assert [pause(n, None) for n in (0, 1, 2, 50)] == [0.5, 1.0, 2.0, 60.0]
    assert pause(0, 3000) == 3.0


def test_principals_take_turns_and_the_priority_counts_among_ones_own() -> None:
    queue = JobQueue()
    jobs = [new(n, "ann") for n in range(3)] + [new(3, "ann", "high"), new(4, "bob"), new(5, "bob")]
    for job in jobs:
        queue.push(job)
    assert queue.remove(jobs[1])
    assert not queue.remove(jobs[1])
    assert queue.peek() is jobs[3]
    assert len(queue) == 5
    order = []
    while (popped := queue.pop()) is not None:
        order.append(popped.created.number)
    assert order == [3, 4, 0, 5, 2]
    assert queue.peek() is None


# --- how long they are kept ---


def ended(number: int, principal: str, at: int) -> Job:
    job = new(number, principal)
    job.finished_at = at
    return job


def test_who_makes_many_jobs_pushes_out_their_own() -> None:
    over = [ended(1, "bob", 100), *(ended(n, "ann", 100 + n) for n in range(2, 12)), ended(12, "carl", 200)]
    gone = superfluous(over, kept=6, too_old=0)
    assert [(job.created.principal, job.created.number) for job in gone] == [("ann", n) for n in range(2, 8)]
    assert superfluous([job for job in over if job not in gone], kept=6, too_old=0) == []


def test_what_is_too_old_goes_whoever_made_it() -> None:
    over = [ended(1, "bob", 100), ended(2, "ann", 150), ended(3, "ann", 160), ended(4, "bob", 170)]
    assert [job.created.number for job in superfluous(over, kept=10, too_old=155)] == [1, 2]
    assert [job.created.number for job in superfluous(over, kept=1, too_old=155)] == [1, 2, 3]
    assert superfluous(over, kept=4, too_old=100) == []
