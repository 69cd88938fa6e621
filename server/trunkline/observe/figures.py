"""What methods in executors count (``methods/figures.py``), added up over processes, for ``/metrics``."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from trunkline_protocol.figure import Figure


class _Sum:
    """A metric over processes."""

    def __init__(self, first: Figure) -> None:
        self.first = first
        self.series: dict[tuple[str, ...], list[float]] = {}

    def add(self, figure: Figure) -> None:
        if figure.shape != self.first.shape:
            return  # two modules of one name that mean different things: the first one is shown
        for labels, numbers in figure.series:
            before = self.series.get(labels)
            self.series[labels] = numbers if before is None else [a + b for a, b in zip(before, numbers, strict=True)]

    def family(self) -> Metric:
        if self.first.kind == "counter":
            return self._counter()
        return self._histogram()

    def _counter(self) -> Metric:
        counter = CounterMetricFamily(self.first.name, self.first.help, labels=self.first.labels)
        for labels, numbers in self.series.items():
            counter.add_metric(labels, numbers[0])
        return counter

    def _histogram(self) -> Metric:
        histogram = HistogramMetricFamily(self.first.name, self.first.help, labels=self.first.labels)
        for labels, numbers in self.series.items():
            seen, buckets = 0.0, []
            for bound, number in zip((*map(str, self.first.buckets), "+Inf"), numbers[:-1], strict=True):
                seen += number
                buckets.append((bound, seen))
            histogram.add_metric(labels, buckets, numbers[-1])
        return histogram


class ExecutorFigures:
    """The latest figures of each executor's process; those of processes that have ended stay in the sums."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(list[Figure])
        self._now: dict[int, tuple[int | None, list[Figure]]] = {}
        self._gone: dict[str, _Sum] = {}

    def update(self, executor: int, pid: int | None, figures: bytes) -> None:
        """Store what the methods of an executor counted since its process started (JSON)."""
        before = self._now.get(executor)
        if before is not None and before[0] != pid:
            _add(self._gone, before[1])
        self._now[executor] = (pid, self._decoder.decode(figures))

    def collect(self) -> Iterable[Metric]:
        """All figures, added up over processes, by name."""
        sums: dict[str, _Sum] = {}
        _add(sums, [gone_figure(each) for each in self._gone.values()])
        for _pid, figures in self._now.values():
            _add(sums, figures)
        return [sums[name].family() for name in sorted(sums)]


def gone_figure(total: _Sum) -> Figure:
    """A sum as one more metric to add."""
    return msgspec.structs.replace(total.first, series=list(total.series.items()))


def _add(sums: dict[str, _Sum], figures: Iterable[Figure]) -> None:
    for figure in figures:
        sums.setdefault(figure.name, _Sum(figure)).add(figure)
