from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from trunkline.observe.metrics import UNKNOWN_METHOD, CallStats, MethodStats, MetricsPage, error_name
from trunkline_protocol.errors import ErrorCode


def test_counts_by_outcome() -> None:
    stats = CallStats()
    for code in (0, 0, ErrorCode.WORKER_CRASHED, 4242):
        stats.record("m", 0.01, code)
    snapshot = stats.snapshot()["m"]
    assert (snapshot["count"], snapshot["success"]) == (4, 2)
    assert snapshot["errors"] == {"WORKER_CRASHED": 1, "APPLICATION_ERROR": 1}
    assert stats.totals() == (4, 2)


def test_names_nobody_serves_share_one_label() -> None:
    stats = CallStats()
    for _ in range(3):
        stats.record(None, 0.001, ErrorCode.METHOD_NOT_FOUND)
    assert list(stats.methods) == [UNKNOWN_METHOD]


@given(st.lists(st.floats(0, 100), min_size=1))
def test_quantiles_are_ordered_and_within_what_was_seen(durations: list[float]) -> None:
    stats = CallStats()
    for duration in durations:
        stats.record("m", duration, 0)
    method = stats.methods["m"]
    quantiles = [method.quantile(q) for q in (0.0, 0.5, 0.95, 0.99, 1.0)]
    assert quantiles == sorted(quantiles)
    assert quantiles[-1] <= max(durations)


def test_a_quantile_of_nothing() -> None:
    assert MethodStats().quantile(0.5) == 0.0


@pytest.mark.parametrize("seconds", [0.0003, 0.02, 0.7, 40.0])
def test_quantiles_are_in_the_right_bucket(seconds: float) -> None:
    stats = CallStats()
    for _ in range(100):
        stats.record("m", seconds, 0)
    assert stats.methods["m"].quantile(0.5) == pytest.approx(seconds, rel=1.0)


def test_the_page_is_prometheus_text() -> None:
    stats = CallStats()
    stats.record('we"ird\n', 0.5, 0)
    stats.record("m", 200.0, ErrorCode.CANCELLED)
    gauges = {"trunkline_connections": {"": 2.0}, "trunkline_executors": {"ready": 1.0, "down": 0.0}}
    page = MetricsPage(stats, lambda: gauges).render().decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    calls = {(s.labels["method"], s.labels["outcome"]): s.value for s in families["trunkline_calls"].samples}
    assert calls == {('we"ird\n', "ok"): 1, ("m", "ok"): 0, ("m", "CANCELLED"): 1}
    assert families["trunkline_connections"].samples[0].value == 2
    states = {sample.labels["state"]: sample.value for sample in families["trunkline_executors"].samples}
    assert states == {"ready": 1, "down": 0}
    counts = {
        s.labels["method"]: s.value
        for s in families["trunkline_call_duration_seconds"].samples
        if s.name.endswith("_count")
    }
    assert counts["m"] == 1


def test_error_names_are_of_the_table() -> None:
    assert error_name(ErrorCode.RATE_LIMITED) == "RATE_LIMITED"
    assert error_name(-1) == "APPLICATION_ERROR"
