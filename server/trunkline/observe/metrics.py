"""Counts and durations of calls, cheap enough for every call; Prometheus reads them when it asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from trunkline_protocol.errors import ERROR_TABLE

BUCKETS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds of the duration histogram, in seconds."""

UNKNOWN_METHOD: Final = "(unknown)"
"""Calls of names nobody serves are counted under one label, so that peers cannot make labels."""


class MethodStats:
    """One method's counts. Durations in seconds, from receipt to outcome."""

    __slots__ = ("buckets", "errors", "max_seconds", "ok", "total_seconds")

    def __init__(self) -> None:
        self.ok = 0
        self.errors: dict[int, int] = {}
        self.total_seconds = 0.0
        self.max_seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)

    @property
    def count(self) -> int:
        """All finished calls."""
        return self.ok + sum(self.errors.values())

    def add(self, other: MethodStats) -> None:
        """Count another's calls in."""
        self.ok += other.ok
        for code, number in other.errors.items():
            self.errors[code] = self.errors.get(code, 0) + number
        self.total_seconds += other.total_seconds
        self.max_seconds = max(self.max_seconds, other.max_seconds)
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]

    def since(self, before: MethodStats) -> MethodStats:
        """What was counted after ``before``, an earlier state of the same counts. The maximum is that of all time."""
        later = MethodStats()
        later.ok = self.ok - before.ok
        later.errors = {code: number - before.errors.get(code, 0) for code, number in self.errors.items()}
        later.total_seconds = self.total_seconds - before.total_seconds
        later.max_seconds = self.max_seconds
        later.buckets = [now - then for now, then in zip(self.buckets, before.buckets, strict=True)]
        return later

    def quantile(self, fraction: float) -> float:
        """A quantile of the durations in seconds, interpolated inside its bucket (0 where there are none)."""
        rank = fraction * self.count
        seen = 0
        for index, number in enumerate(self.buckets):
            if number and seen + number >= rank:
                low = BUCKETS[index - 1] if index else 0.0
                high = BUCKETS[index] if index < len(BUCKETS) else self.max_seconds
                return min(self.max_seconds, low + (high - low) * (rank - seen) / number)
            seen += number
        return 0.0


class CallStats:
    """Counts by method. :meth:`record` is on the path of every call."""

    def __init__(self) -> None:
        self.methods: dict[str, MethodStats] = {}

    def record(self, method: str | None, seconds: float, code: int) -> None:
        """One call is over; ``code`` is 0 for success, ``method`` None where nobody serves it."""
        if method is None:
            method = UNKNOWN_METHOD
        stats = self.methods.get(method)
        if stats is None:
            stats = self.methods[method] = MethodStats()
        if code == 0:
            stats.ok += 1
        else:
            stats.errors[code] = stats.errors.get(code, 0) + 1
        stats.total_seconds += seconds
        if seconds > stats.max_seconds:
            stats.max_seconds = seconds
        stats.buckets[bisect_left(BUCKETS, seconds)] += 1

    def sum(self) -> MethodStats:
        """All methods together."""
        total = MethodStats()
        for stats in self.methods.values():
            total.add(stats)
        return total

    def totals(self) -> tuple[int, int]:
        """All finished calls, and how many of them failed."""
        count = errors = 0
        for stats in self.methods.values():
            failed = sum(stats.errors.values())
            count += stats.ok + failed
            errors += failed
        return count, errors

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """By method: counts, and durations in milliseconds."""
        return {
            name: {
                "count": stats.count,
                "success": stats.ok,
                "errors": {error_name(code): number for code, number in stats.errors.items()},
                "mean_ms": round(1000 * stats.total_seconds / max(1, stats.count), 3),
                "p50_ms": round(1000 * stats.quantile(0.50), 3),
                "p95_ms": round(1000 * stats.quantile(0.95), 3),
                "p99_ms": round(1000 * stats.quantile(0.99), 3),
                "max_ms": round(1000 * stats.max_seconds, 3),
            }
            for name, stats in sorted(self.methods.items())
        }


def error_name(code: int) -> str:
    """A code's name, from the bounded set of the table."""
    row = ERROR_TABLE.get(code)
    return "APPLICATION_ERROR" if row is None else row.name


Gauges = Callable[[], dict[str, dict[str, float]]]
"""Current values: ``{metric: {label value: number}}``; an empty label value stands for no label."""

_GAUGE_HELP: Final = {
    "trunkline_connections": ("Open connections", None),
    "trunkline_calls_in_flight": ("Calls that have no outcome yet", None),
    "trunkline_calls_waiting": ("Calls that wait for an executor", None),
    "trunkline_subscriptions": ("Subscriptions of all connections", None),
    "trunkline_history_bytes": ("What stored events take", None),
    "trunkline_deliveries_waiting": ("Events that are being handed out", None),
    "trunkline_audit_lost": ("Audit lines that could not be written", None),
    "trunkline_executors": ("Executors by state", "state"),
    "trunkline_executor_restarts": ("Restarts since the hub started, by executor", "executor"),
}


class MetricsPage:
    """The text of ``/metrics``.

    Args:
        stats: counts of calls.
        gauges: asked at each scrape.
    """

    def __init__(self, stats: CallStats, gauges: Gauges) -> None:
        self._stats = stats
        self._gauges = gauges
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)  # a collector by shape

    def render(self) -> bytes:
        """The page, in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Called by the registry at each scrape."""
        yield from self._call_metrics()
        values = self._gauges()
        for name, (help_text, label) in _GAUGE_HELP.items():
            family = GaugeMetricFamily(name, help_text, labels=[label] if label else [])
            for label_value, number in values.get(name, {}).items():
                family.add_metric([label_value] if label else [], number)
            yield family

    def _call_metrics(self) -> Iterable[Metric]:
        calls = CounterMetricFamily("trunkline_calls", "Finished calls", labels=["method", "outcome"])
        duration = HistogramMetricFamily(
            "trunkline_call_duration_seconds", "From receipt of a call to its outcome", labels=["method"]
        )
        for name, stats in self._stats.methods.items():
            calls.add_metric([name, "ok"], stats.ok)
            for code, number in stats.errors.items():
                calls.add_metric([name, error_name(code)], number)
            seen, buckets = 0, []
            for bound, number in zip((*map(str, BUCKETS), "+Inf"), stats.buckets, strict=True):
                seen += number
                buckets.append((bound, float(seen)))
            duration.add_metric([name], buckets, stats.total_seconds)
        yield calls
        yield duration
