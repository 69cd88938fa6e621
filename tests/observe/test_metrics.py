from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from trunkline.observe.metrics import (
    APPLICATION_ERROR,
    MAX_METHODS,
    OTHER_METHODS,
    UNKNOWN_METHOD,
    CallStats,
    Histogram,
    MethodStats,
    error_name,
)
from trunkline.observe.page import MetricsPage, Reading
from trunkline_protocol.errors import ErrorCode


def histogram(*durations: float) -> Histogram:
    return observe(MethodStats(), *durations).duration


def observe(stats: MethodStats, *durations: float) -> MethodStats:
    """Counts calls that took so long."""
    calls = CallStats()
    calls.methods["m"] = stats
    for duration in durations:
        calls.record("m", duration, 0)
    return stats


def test_counts_by_outcome() -> None:
    stats = CallStats()
    for code in (0, 0, ErrorCode.WORKER_CRASHED, 4242, -7):
        stats.record("m", 0.01, code)
    report = stats.methods["m"].report()
    assert (report.count, report.success) == (5, 2)
    assert report.errors == {"WORKER_CRASHED": 1, "APPLICATION_ERROR": 2}
    assert stats.totals() == (5, 3)
    assert stats.methods["m"].errors.keys() == {ErrorCode.WORKER_CRASHED, APPLICATION_ERROR}, "codes are no labels"


def test_names_nobody_serves_share_one_label() -> None:
    stats = CallStats()
    for _ in range(3):
        stats.record(None, 0.001, ErrorCode.METHOD_NOT_FOUND)
    assert list(stats.methods) == [UNKNOWN_METHOD]


def test_names_are_bounded_though_clients_choose_them() -> None:
    stats = CallStats()
    for number in range(MAX_METHODS + 50):
        stats.record(f"client.{number}", 0.001, 0)
    stats.record(None, 0.001, ErrorCode.METHOD_NOT_FOUND)
    stats.record("client.0", 0.001, 0)
    assert len(stats.methods) <= MAX_METHODS + 2
    assert stats.methods[OTHER_METHODS].count == 50
    assert stats.methods["client.0"].count == 2
    assert stats.methods[UNKNOWN_METHOD].count == 1


def test_waiting_and_running_are_counted_apart_from_the_whole() -> None:
    stats = CallStats()
    stats.record("m", 0.30, 0, waited=0.2, ran=0.09, bytes_in=10, bytes_out=1000)
    stats.record("m", 0.02, 0, ran=0.02, bytes_in=1)
    stats.record("m", 5.0, ErrorCode.COMMUNICATION_TIMEOUT, waited=5.0)
    stats.record("hub.own", 0.001, 0)
    method = stats.methods["m"]
    assert (method.duration.count, method.wait.count, method.run.count) == (3, 3, 2)
    assert method.wait.buckets[0] == 1, "one did not wait at all"
    assert method.wait.total == pytest.approx(5.2)
    assert method.run.total == pytest.approx(0.11)
    assert (method.bytes_in, method.bytes_out) == (11, 1000)
    assert stats.methods["hub.own"].wait.count == stats.methods["hub.own"].run.count == 0


@given(st.lists(st.floats(0, 100), min_size=1))
def test_quantiles_are_ordered_and_within_what_was_seen(durations: list[float]) -> None:
    made = histogram(*durations)
    quantiles = [made.quantile(q) for q in (0.0, 0.5, 0.95, 0.99, 1.0)]
    assert quantiles == sorted(quantiles)
    assert quantiles[-1] <= max(durations)


@given(st.lists(st.floats(0, 100)), st.lists(st.floats(0, 100)))
def test_what_came_since_is_the_difference(before: list[float], after: list[float]) -> None:
    stats = observe(MethodStats(), *before)
    made = stats.duration
    then = made.copy()
    observe(stats, *after)
    later = made.since(then)
    assert later.buckets == histogram(*after).buckets
    assert later.maximum >= max(after, default=0) or later.maximum == made.maximum
    assert later.quantile(1.0) <= made.maximum
    then.add(later)
    assert then.buckets == made.buckets


def test_a_quantile_of_nothing() -> None:
    assert Histogram().quantile(0.5) == 0.0


@pytest.mark.parametrize("seconds", [0.0003, 0.02, 0.7, 40.0])
def test_quantiles_are_in_the_right_bucket(seconds: float) -> None:
    assert histogram(*[seconds] * 100).quantile(0.5) == pytest.approx(seconds, rel=1.0)


class All:
    """Whoever may see everything."""

    def reaches(self, _key: str) -> bool:
        return True

    is_apart = False

    def own(self, pairs: Mapping[str, MethodStats]) -> Mapping[str, MethodStats]:
        raise AssertionError(pairs)


def test_the_page_is_prometheus_text() -> None:
    stats = CallStats()
    stats.record('we"ird\\', 0.5, 0)
    stats.record("m", 200.0, ErrorCode.CANCELLED, waited=2.0, ran=190.0, bytes_in=3, bytes_out=4)
    stats.record("m", 0.1, 4242)
    stats.record("m", 0.1, 4243)
    readings = [
        Reading("trunkline_connections", "Open", "gauge", {"": 2}),
        Reading("trunkline_executors", "By state", "gauge", {"ready": 1, "down": 0}, "state"),
        Reading("trunkline_events_published", "Stored", "counter", {"": 7}),
    ]
    page = MetricsPage(stats, lambda: readings).render(All()).decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}

    def values(name: str, *labels: str, of: str = "") -> dict[tuple[str, ...], float]:
        samples = [sample for sample in families[name].samples if sample.name.endswith(of)]
        found = {tuple(sample.labels[label] for label in labels): sample.value for sample in samples}
        assert len(found) == len(samples), "two samples with the same labels"
        return found

    assert values("trunkline_calls", "method", "outcome") == {
        ('we"ird\\', "ok"): 1,
        ("m", "ok"): 0,
        ("m", "CANCELLED"): 1,
        ("m", "APPLICATION_ERROR"): 2,
    }
    assert values("trunkline_connections") == {(): 2}
    assert values("trunkline_executors", "state") == {("ready",): 1, ("down",): 0}
    assert values("trunkline_events_published", of="_total") == {(): 7}
    assert values("trunkline_call_duration_seconds", "method", of="_count")[("m",)] == 3
    assert values("trunkline_call_wait_seconds", "method", of="_count") == {("m",): 1}
    assert values("trunkline_call_run_seconds", "method", of="_sum") == {("m",): 190}
    assert values("trunkline_call_params_bytes", "method", of="_total")[("m",)] == 3
    assert values("trunkline_call_result_bytes", "method", of="_total")[("m",)] == 4


def test_error_names_are_of_the_table() -> None:
    assert error_name(ErrorCode.RATE_LIMITED) == "RATE_LIMITED"
    assert error_name(-1) == "APPLICATION_ERROR"
