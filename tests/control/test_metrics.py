"""``metrics.get``: what it makes of counts, of a range, and of what executors have finished."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec
import pytest

from tests.support.health import IdleRouter, NoExecutors
from trunkline.control.method import HubView
from trunkline.control.metrics import get, seconds_of, worker_totals
from trunkline.executors.handle import Tally
from trunkline.observe.history import History, WorkerTotals
from trunkline.observe.metrics import CallStats
from trunkline_protocol.errors import ErrorCode
from trunkline_protocol.reports import MetricsParams, WorkedCalls, WorkerMetrics


def tally(count: int, failed: int = 0, seconds: float = 0.0) -> Tally:
    made = Tally()
    made.count, made.failed, made.seconds = count, failed, seconds
    return made


def view(
    stats: CallStats, history: History | None = None, tallies: Mapping[str, Mapping[str, Tally]] | None = None
) -> HubView:
    lately = (lambda _seconds: []) if history is None else history.samples
    started = time.monotonic() - 100
    return HubView(NoExecutors(), IdleRouter(), stats, started, lambda: 0, lately=lately, tallies=lambda: tallies or {})


def test_counts_are_since_the_start() -> None:
    stats = CallStats()
    for _ in range(9):
        stats.record("m", 0.01, 0)
    stats.record("m", 0.02, ErrorCode.INTERNAL_ERROR)
    told = get(view(stats), MetricsParams())
    assert (told.request_count, told.error_count) == (10, 1)
    assert told.window_seconds == pytest.approx(100, abs=5)
    assert told.requests_per_second == pytest.approx(0.1, abs=0.01)
    assert told.methods["m"].errors == {"INTERNAL_ERROR": 1}
    assert told.series is msgspec.UNSET


def test_executors_are_told_with_their_methods() -> None:
    tallies = {"executor-0": {"a": tally(3, 1, 0.6), "b": tally(1, 0, 0.2)}, "executor-1": dict[str, Tally]()}
    workers = get(view(CallStats(), tallies=tallies), MetricsParams()).workers
    assert workers["executor-0"] == WorkerMetrics(
        count=4,
        success=3,
        mean_ms=200.0,
        methods={
            "a": WorkedCalls(count=3, success=2, mean_ms=200.0),
            "b": WorkedCalls(count=1, success=1, mean_ms=200.0),
        },
    )
    assert workers["executor-1"] == WorkerMetrics(count=0, success=0, mean_ms=0.0, methods={})
    totals = worker_totals(tallies)["executor-0"]
    assert (totals.count, totals.failed) == (4, 1)
    assert totals.seconds == pytest.approx(0.8)


def test_a_range_has_only_what_was_in_it() -> None:
    stats = CallStats()
    history = History(stats, 1000.0)
    stats.record("before", 0.01, 0)
    history.take(1001.0, {"executor-0": WorkerTotals(1, 0, 0.1)})
    stats.record("lately", 0.01, 0)
    history.take(1002.0, {"executor-0": WorkerTotals(3, 1, 0.5)})
    told = get(view(stats, history), MetricsParams(time_range=1, series=True))
    assert (list(told.methods), told.window_seconds, told.requests_per_second) == (["lately"], 1.0, 1.0)
    assert told.workers == {"executor-0": WorkerMetrics(count=2, success=1, mean_ms=200.0)}
    assert [sample.calls for sample in told.series or ()] == [1]
    since_start = get(view(stats, history), MetricsParams(series=True)).series
    assert [sample.calls for sample in since_start or ()] == [1, 1]


def test_before_the_first_sample_a_range_is_empty() -> None:
    told = get(view(CallStats()), MetricsParams(time_range="15m", series=True))
    assert (told.window_seconds, told.requests_per_second, told.methods, told.series) == (0.0, 0.0, {}, [])


@pytest.mark.parametrize(
    ("said", "seconds"), [(90, 90.0), ("90s", 90.0), ("15m", 900.0), ("24h", 86_400.0), ("7d", 604_800.0)]
)
def test_a_range_is_a_number_with_or_without_a_unit(said: str | float, seconds: float) -> None:
    assert seconds_of(said) == seconds
