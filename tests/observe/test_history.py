from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from trunkline.observe import history
from trunkline.observe.history import History, WorkerTotals, merge
from trunkline.observe.metrics import CallStats
from trunkline_protocol.errors import ErrorCode


class Clocked:
    """A history whose seconds pass when the test says so."""

    def __init__(self, lanes: Sequence[tuple[int, int]] = history.LANES) -> None:
        self.stats = CallStats()
        self.now = 1000.0
        self.history = History(self.stats, self.now, lanes)

    def second(self, *methods: str, code: int = 0, seconds: float = 0.01) -> None:
        for method in methods:
            self.stats.record(method, seconds, code)
        self.now += 1
        self.history.take(self.now)

    def counts(self, seconds: float) -> dict[str, int]:
        samples = self.history.samples(seconds)
        return {name: stats.count for name, stats in merge(samples).methods.items()} if samples else {}


def test_a_range_has_what_was_counted_in_it() -> None:
    clocked = Clocked()
    clocked.second("old", "old")
    for _ in range(60):
        clocked.second("new")
    clocked.second("last", code=ErrorCode.CANCELLED)
    assert clocked.counts(1) == {"last": 1}
    assert clocked.counts(60) == {"new": 59, "last": 1}
    assert clocked.counts(300) == {"old": 2, "new": 60, "last": 1}
    (newest,) = clocked.history.samples(1)
    assert newest.methods["last"].errors == {ErrorCode.CANCELLED: 1}


def test_percentiles_are_those_of_the_range() -> None:
    clocked = Clocked()
    clocked.second("m", seconds=50.0)
    for _ in range(20):
        clocked.second("m", seconds=0.0009)
    window = merge(clocked.history.samples(10)).methods["m"]
    assert window.duration.quantile(0.99) <= 0.001
    assert window.duration.maximum <= 0.001, "the slow one was before"
    assert merge(clocked.history.samples(60)).methods["m"].duration.quantile(1.0) > 30


def test_a_week_is_kept_ever_coarser_and_no_more() -> None:
    lanes = ((1, 10), (2, 6), (5, 4))
    clocked = Clocked(lanes)
    for _ in range(200):
        clocked.second("m")
    everything = clocked.history.samples(1e9)
    lengths = [round(sample.seconds) for sample in everything]
    assert lengths == sorted(lengths, reverse=True)
    assert (lengths.count(10), lengths.count(1), set(lengths)) == (4, 10, {10, 2, 1})
    assert 2 <= lengths.count(2) <= 6
    kept = sum(sample.seconds for sample in everything)
    assert clocked.counts(1e9) == {"m": kept}
    assert 10 <= clocked.counts(22)["m"] <= 22, "whole samples only"
    assert sum(count * seconds for count, seconds in lasting(history.LANES)) >= 7 * 86_400


def lasting(lanes: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """How many samples each lane has, and of how many seconds."""
    seconds = 1
    for factor, count in lanes:
        seconds *= factor
        yield count, seconds


def test_a_sample_has_what_each_executor_did_in_it() -> None:
    clocked = Clocked()
    for totals in (WorkerTotals(3, 1, 0.5), WorkerTotals(3, 1, 0.5), WorkerTotals(5, 1, 0.75)):
        clocked.now += 1
        clocked.history.take(clocked.now, {"executor-0": totals})
    found = [sample.workers.get("executor-0") for sample in clocked.history.samples(10)]
    assert found == [WorkerTotals(3, 1, 0.5), None, WorkerTotals(2, 0, 0.25)]
    assert merge(clocked.history.samples(10)).workers == {"executor-0": WorkerTotals(5, 1, 0.75)}


def test_many_methods_make_the_past_shorter_and_not_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_RECORDS", 500)
    clocked = Clocked()
    for _ in range(100):
        clocked.second(*(f"m{number}" for number in range(20)))
    samples = clocked.history.samples(1e9)
    assert sum(len(sample.methods) for sample in samples) <= 500
    assert samples[-1].ended == clocked.now
    assert clocked.counts(1) == {f"m{number}": 1 for number in range(20)}


def test_a_quiet_second_costs_no_record() -> None:
    clocked = Clocked()
    clocked.second("m")
    clocked.second()
    assert clocked.history.samples(1)[0].methods == {}


def test_a_sample_as_a_report() -> None:
    clocked = Clocked()
    clocked.stats.record("m", 0.2, 0, waited=0.1, ran=0.09)
    clocked.second("m", code=ErrorCode.CANCELLED, seconds=0.2)
    report = clocked.history.samples(1)[0].report(clocked.now + 2)
    assert (report.seconds_ago, report.seconds, report.calls, report.errors) == (2, 1, 2, 1)
    assert 100 <= report.p50_ms <= report.p99_ms <= 250
    assert 50 <= report.wait_p50_ms <= 100
    assert 50 <= report.run_p50_ms <= 100
