"""Outlier ejection: the pure rules."""

from __future__ import annotations

import pytest

from trunkline.hub.outliers import (
    BASE_EJECTION_SECONDS,
    CONSECUTIVE_FAILURES,
    MAX_EJECTION_SECONDS,
    Standing,
)
from trunkline_protocol.errors import ErrorCode

FAILED = ErrorCode.INTERNAL_ERROR


def fail(standing: Standing, now: float, others: list[Standing], times: int = CONSECUTIVE_FAILURES) -> list[bool]:
    return [standing.answered(FAILED, now, others) for _ in range(times)]


def test_the_fifth_failure_in_a_row_ejects_and_later_ones_do_not_prolong_it() -> None:
    bad, good = Standing(), Standing()
    assert fail(bad, 100.0, [good]) == [False] * 4 + [True]
    assert bad.is_ejected(100.0 + BASE_EJECTION_SECONDS - 0.01)
    assert fail(bad, 105.0, [good]) == [False] * 5, "calls that it had before"
    assert not bad.is_ejected(100.0 + BASE_EJECTION_SECONDS)


def test_a_success_between_them_begins_the_count_anew() -> None:
    bad, good = Standing(), Standing()
    for _ in range(10):
        assert not any(fail(bad, 0.0, [good], CONSECUTIVE_FAILURES - 1))
        bad.answered(0, 0.0, [good])


@pytest.mark.parametrize("code", [4321, -1, ErrorCode.PIPELINE_NOT_FOUND, ErrorCode.PIPELINE_EXECUTION_ERROR])
def test_an_error_of_the_methods_own_is_an_answer(code: int) -> None:
    one, other = Standing(), Standing()
    fail(one, 0.0, [other], 4)
    one.answered(code, 0.0, [other])
    assert one.failures == 0


@pytest.mark.parametrize("code", [ErrorCode.INVALID_PARAMS, ErrorCode.FORBIDDEN, ErrorCode.CANCELLED])
def test_mistakes_of_callers_tell_nothing(code: int) -> None:
    one, other = Standing(), Standing()
    assert not any(one.answered(code, 0.0, [other]) for _ in range(50))
    fail(one, 0.0, [other], 4)
    one.answered(code, 0.0, [other])
    assert one.answered(FAILED, 0.0, [other])


@pytest.mark.parametrize("code", [ErrorCode.COMMUNICATION_TIMEOUT, ErrorCode.WORKER_OVERLOADED, -32000, -32099])
def test_what_counts_as_a_failure(code: int) -> None:
    one, other = Standing(), Standing()
    assert [one.answered(code, 0.0, [other]) for _ in range(5)][-1]


def test_the_only_one_is_never_ejected() -> None:
    assert not any(fail(Standing(), 0.0, [], 100))


def test_nor_is_anyone_while_all_fail() -> None:
    """What makes everybody fail is a matter of the calls."""
    all_of_them = [Standing() for _ in range(4)]
    for _ in range(100):
        for one in all_of_them:
            assert not one.answered(FAILED, 0.0, [other for other in all_of_them if other is not one])


@pytest.mark.parametrize(("count", "most"), [(2, 1), (3, 2), (4, 2), (5, 3), (10, 5)])
def test_half_of_them_at_most(count: int, most: int) -> None:
    all_of_them = [Standing() for _ in range(count)]
    for one in all_of_them[1:]:
        fail(one, 0.0, [other for other in all_of_them if other is not one])
    assert sum(one.is_ejected(1.0) for one in all_of_them) == most


def test_it_is_tried_with_one_call_and_left_out_longer_each_time() -> None:
    bad, good = Standing(), Standing()
    fail(bad, 0.0, [good])
    now, pauses = 0.0, []
    for _ in range(40):
        now = bad.ejected_until
        assert not bad.is_ejected(now)
        bad.asked(now)
        assert bad.is_ejected(now + 1), "no other call before that one is answered"
        assert bad.answered(FAILED, now + 2, [good])
        pauses.append(bad.ejected_until - now - 2)
    assert pauses[:3] == [2 * BASE_EJECTION_SECONDS, 3 * BASE_EJECTION_SECONDS, 4 * BASE_EJECTION_SECONDS]
    assert max(pauses) == MAX_EJECTION_SECONDS


def test_one_success_restores_it() -> None:
    bad, good = Standing(), Standing()
    fail(bad, 0.0, [good])
    bad.asked(20.0)
    bad.answered(0, 21.0, [good])
    assert not bad.is_ejected(21.0)
    assert fail(bad, 22.0, [good]) == [False] * 4 + [True]
    assert bad.ejected_until == 22.0 + BASE_EJECTION_SECONDS


def test_a_trial_that_is_never_answered_is_followed_by_another() -> None:
    bad, good = Standing(), Standing()
    fail(bad, 0.0, [good])
    bad.asked(20.0)
    assert bad.is_ejected(20.0 + BASE_EJECTION_SECONDS - 1)
    assert not bad.is_ejected(20.0 + BASE_EJECTION_SECONDS)
