"""When a method counts as failing, by the counts of its calls."""

from __future__ import annotations

import pytest

from trunkline.control.failing import MIN_FAILURES, STREAK_SECONDS, WINDOW_SECONDS, FailureRate, FailureRates
from trunkline.observe.metrics import UNKNOWN_METHOD, CallStats
from trunkline_protocol.errors import ErrorCode

BROKEN = ErrorCode.INTERNAL_ERROR


class Calls:
    """Calls at times of the test's choosing."""

    def __init__(self) -> None:
        self.stats = CallStats()
        self.rates = FailureRates(self.stats)
        self.now = 1000.0
        self.rates.take(self.now)

    def end(self, ok: int = 0, failed: int = 0, code: int = BROKEN, method: str = "lab.work") -> None:
        for _ in range(ok):
            self.stats.record(method, 0.01, 0)
        for number in range(failed):
            self.stats.record(method, 0.01, code)
            self.rates.note(method, (code, f"broken {number}"))

    def run(self, seconds: float, *, ok: int = 0, failed: int = 0) -> None:
        """So many calls in each quarter of a second."""
        for _ in range(round(seconds * 4)):
            self.end(ok, failed)
            self.now += 0.25
            self.rates.take(self.now)

    def failing(self) -> FailureRate | None:
        return next(iter(self.rates.failing(self.now)), None)


@pytest.fixture
def calls() -> Calls:
    return Calls()


def test_one_that_never_works_is_named_by_its_rate(calls: Calls) -> None:
    calls.run(4.0, failed=1)
    found = calls.failing()
    assert found is not None
    assert (found.method, found.share) == ("lab.work", 1.0)
    assert found.per_second == pytest.approx(4.0, rel=0.1)
    assert found.last is not None
    assert (found.last.type, found.last.message) == ("INTERNAL_ERROR", "broken 0")


def test_a_few_failures_are_none(calls: Calls) -> None:
    calls.end(failed=MIN_FAILURES - 1)
    calls.run(1.0)
    assert calls.failing() is None


def test_one_that_was_busy_and_well_shows_within_two_seconds(calls: Calls) -> None:
    calls.run(120.0, ok=25)
    assert calls.failing() is None
    calls.run(1.0, failed=25)
    assert calls.failing() is not None


def test_once_it_works_again_it_is_well_within_two_seconds(calls: Calls) -> None:
    calls.run(120.0, failed=2)
    assert calls.failing() is not None
    calls.run(1.0, ok=2)
    assert calls.failing() is None
    calls.end(failed=1)
    calls.run(0.5, ok=1)
    assert calls.failing() is None, "one failure after that is one"


def test_of_many_calls_a_share_has_to_fail(calls: Calls) -> None:
    calls.run(60.0, ok=20, failed=1)
    assert calls.failing() is None
    calls.run(60.0, ok=2, failed=1)
    found = calls.failing()
    assert found is not None
    assert found.share == pytest.approx(1 / 3, abs=0.01)


def test_one_that_is_called_once_a_minute_shows_too(calls: Calls) -> None:
    for _ in range(MIN_FAILURES):
        calls.end(failed=1)
        calls.run(WINDOW_SECONDS)
    assert calls.failing() is not None
    calls.run(STREAK_SECONDS)
    assert calls.failing() is None, "nobody has called it for long"


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.INVALID_PARAMS, ErrorCode.CANCELLED, ErrorCode.FORBIDDEN, ErrorCode.RATE_LIMITED,
        ErrorCode.WORKER_OVERLOADED, ErrorCode.RESOURCE_EXHAUSTED, 42,
    ],
)  # fmt: skip
def test_faults_of_callers_refusals_and_a_methods_own_errors_are_no_failures(calls: Calls, code: int) -> None:
    calls.end(failed=100, code=code)
    calls.run(1.0)
    assert calls.failing() is None


def test_names_that_nobody_serves_are_no_methods(calls: Calls) -> None:
    calls.end(failed=100, method=UNKNOWN_METHOD)
    calls.run(1.0)
    assert calls.failing() is None


def test_what_it_keeps_is_bounded(calls: Calls) -> None:
    calls.run(3 * WINDOW_SECONDS, ok=1, failed=1)
    (track,) = calls.rates._tracks.values()
    assert len(track.counts) <= WINDOW_SECONDS * 4 + 2
    calls.run(2 * WINDOW_SECONDS, ok=1)
    assert len(track.counts) == 1
