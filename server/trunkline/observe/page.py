"""``/metrics``: renders plain counts in Prometheus' text format at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from trunkline.observe.metrics import BUCKETS, CallStats, Histogram, MethodStats, error_name
from trunkline_protocol.tenants import BETWEEN, tenant_and_name

METHOD: Final = "method"
"""The label whose values are keys of methods, until the page is rendered."""

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


OF_NOBODY: Final = frozenset(
    f"trunkline_{name}"
    for name in (
        "ready", "health", "method_failing", "method_unavailable", "uptime_seconds", "start_time_seconds",
    )
)  # fmt: skip
"""The metrics beside those of calls that tell nothing of what other tenants do."""


class Sight(Protocol):
    """What somebody may be told of methods, by their keys."""

    @property
    def is_apart(self) -> bool:
        """Whether it may see what its own tenant does, and nothing of others."""

    def reaches(self, key: str) -> bool:
        """Whether it may be told of the method of a key."""

    def own(self, pairs: Mapping[str, MethodStats]) -> Mapping[str, MethodStats]:
        """The counts of its own tenant's calls by method, out of those by tenant and method."""


class _Collected(Collector):
    """What a function collects."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    @override
    def collect(self) -> Iterable[Metric]:
        return self._collect()


class MetricsPage:
    """The text of ``/metrics``.

    Args:
        stats: counts of calls.
        readings: gives the other metrics of the hub, at each scrape.
        figures: gives what methods in executors count, at each scrape.
        pairs: counts of calls by tenant and method.
    """

    def __init__(
        self,
        stats: CallStats,
        readings: Callable[[], Iterable[Reading]],
        figures: Callable[[], Iterable[Metric]] = tuple,
        pairs: CallStats | None = None,
    ) -> None:
        self._stats = stats
        self._pairs = pairs or CallStats()
        self._figures = figures
        self._readings = readings

    def render(self, sight: Sight) -> bytes:
        """The page for somebody, in Prometheus' text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected(lambda: self._collect(sight)))
        return generate_latest(registry)

    def _collect(self, sight: Sight) -> Iterable[Metric]:
        yield from map(_with_tenants, self._call_metrics(sight))
        readings = self._readings()
        for reading in (each for each in readings if each.name in OF_NOBODY) if sight.is_apart else readings:
            family = _FAMILIES[reading.kind](
                reading.name, reading.help, labels=[reading.label] if reading.label else []
            )
            for value, number in reading.values.items():
                if reading.label != METHOD or sight.reaches(value):
                    family.add_metric([value] if reading.label else [], number)
            yield _with_tenants(family) if reading.label == METHOD else family
        if not sight.is_apart:
            yield from self._figures()

    def _call_metrics(self, sight: Sight) -> Iterable[Metric]:
        methods = sight.own(self._pairs.methods) if sight.is_apart else self._stats.methods
        calls = CounterMetricFamily("trunkline_calls", "Finished calls", labels=[METHOD, "outcome"])
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
        received = CounterMetricFamily("trunkline_call_params_bytes", "Bytes of params of calls", labels=[METHOD])
        sent = CounterMetricFamily("trunkline_call_result_bytes", "Bytes of results and chunks", labels=[METHOD])
        for name, stats in methods.items():
            received.add_metric([name], stats.bytes_in)
            sent.add_metric([name], stats.bytes_out)
        yield received
        yield sent


def _with_tenants(family: Metric) -> Metric:
    """A family with the names of methods in place of their keys; those of other tenants have the label ``tenant``."""
    for place, sample in enumerate(family.samples):
        if BETWEEN in (key := sample.labels[METHOD]):
            tenant, name = tenant_and_name(key)
            family.samples[place] = sample._replace(labels={**sample.labels, METHOD: name, "tenant": tenant})
    return family


def _histogram(name: str, words: str, by_method: Mapping[str, Histogram]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, words, labels=[METHOD])
    for method, histogram in by_method.items():
        if not histogram.count:
            continue  # the hub's own methods wait for nobody
        seen, buckets = 0, []
        for bound, number in zip((*map(str, BUCKETS), "+Inf"), histogram.buckets, strict=True):
            seen += number
            buckets.append((bound, float(seen)))
        family.add_metric([method], buckets, histogram.total)
    return family
