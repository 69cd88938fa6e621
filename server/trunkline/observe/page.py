"""``/metrics``: renders plain counts in Prometheus' text format at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from trunkline.observe.metrics import BUCKETS, CallStats, Histogram, error_name

_FAMILIES: Final = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}


class Reading(NamedTuple):
    """One metric beside those of calls.

    Attributes:
        values: by the value of ``label``, which has a bounded set of them; under ``""`` where there is no label.
    """

    name: str
    help: str
    kind: Literal["gauge", "counter"]
    values: Mapping[str, float]
    label: str | None = None


class MetricsPage:
    """The text of ``/metrics``.

    Args:
        stats: counts of calls.
        readings: gives the other metrics of the hub, at each scrape.
        figures: gives what methods in executors count, at each scrape.
    """

    def __init__(
        self,
        stats: CallStats,
        readings: Callable[[], Iterable[Reading]],
        figures: Callable[[], Iterable[Metric]] = tuple,
    ) -> None:
        self._stats = stats
        self._figures = figures
        self._readings = readings
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)  # a collector by shape

    def render(self) -> bytes:
        """The page, in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """All metrics; called by the registry at each scrape."""
        yield from self._call_metrics()
        for reading in self._readings():
            family = _FAMILIES[reading.kind](
                reading.name, reading.help, labels=[reading.label] if reading.label else []
            )
            for value, number in reading.values.items():
                family.add_metric([value] if reading.label else [], number)
            yield family
        yield from self._figures()

    def _call_metrics(self) -> Iterable[Metric]:
        methods = self._stats.methods
        calls = CounterMetricFamily("trunkline_calls", "Finished calls", labels=["method", "outcome"])
        for name, stats in methods.items():
            calls.add_metric([name, "ok"], stats.ok)
            for code, number in stats.errors.items():
                calls.add_metric([name, error_name(code)], number)
        yield calls
        yield _histogram(
            "trunkline_call_duration_seconds",
            "Time from the receipt of a call to its outcome",
            {name: stats.duration for name, stats in methods.items()},
        )
        yield _histogram(
            "trunkline_call_wait_seconds",
            "Time that calls waited in the queue for an executor or a callee",
            {name: stats.wait for name, stats in methods.items()},
        )
        yield _histogram(
            "trunkline_call_run_seconds",
            "Time that calls ran in an executor",
            {name: stats.run for name, stats in methods.items()},
        )
        received = CounterMetricFamily("trunkline_call_params_bytes", "Bytes of params of calls", labels=["method"])
        sent = CounterMetricFamily("trunkline_call_result_bytes", "Bytes of results and chunks", labels=["method"])
        for name, stats in methods.items():
            received.add_metric([name], stats.bytes_in)
            sent.add_metric([name], stats.bytes_out)
        yield received
        yield sent


def _histogram(name: str, words: str, by_method: Mapping[str, Histogram]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, words, labels=["method"])
    for method, histogram in by_method.items():
        if not histogram.count:
            continue  # the hub's own methods wait for nobody
        seen, buckets = 0, []
        for bound, number in zip((*map(str, BUCKETS), "+Inf"), histogram.buckets, strict=True):
            seen += number
            buckets.append((bound, float(seen)))
        family.add_metric([method], buckets, histogram.total)
    return family
