"""Counters and histograms that methods keep, for the hub's ``/metrics``. Free to use in your own methods.

>>> from trunkline.methods.figures import counter, histogram
>>> WORDS = counter("my_words", "Words that were counted", labels=("language",))
>>> WORDS.add(3, "en")

Each process keeps its own and sends them to the hub at most once a second, when they have changed; the hub adds them up
over executors, those that have died included. A metric with the same name, made twice in one process, is one metric.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeVar

from trunkline_protocol.figure import Figure

MAX_SERIES: Final = 256
"""Combinations of label values of one metric; further ones are counted together, as ``(other)``."""

OTHER: Final = "(other)"
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)

M = TypeVar("M", bound="Metric")


class Metric:
    """The common base of counters and histograms."""

    kind: Literal["counter", "histogram"]
    buckets: tuple[float, ...] = ()

    def __init__(self, registry: FigureRegistry, name: str, words: str, labels: Sequence[str]) -> None:
        self.name = name
        self.words = words
        self.labels = tuple(labels)
        self._registry = registry
        self._series: dict[tuple[str, ...], list[float]] = {}

    def _at(self, values: tuple[str, ...], size: int) -> list[float]:
        """The numbers of these label values. Called with the lock held."""
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, and was given {values}")
        found = self._series.get(values)
        if found is None:
            if len(self._series) >= MAX_SERIES:
                values = (OTHER,) * len(self.labels)
            found = self._series.setdefault(values, [0.0] * size)
        self._registry.version += 1
        return found

    def report(self) -> Figure:
        """The metric as it is sent to the hub."""
        series = [(values, numbers.copy()) for values, numbers in self._series.items()]
        return Figure(self.name, self.words, self.kind, self.labels, series, self.buckets)


class Counter(Metric):
    """A number that only grows, by label values. ``_total`` is put behind its name on ``/metrics``."""

    kind = "counter"

    def add(self, number: float = 1, *values: str) -> None:
        """Add to the counter. Any thread may call this.

        Args:
            number: how much, not negative.
            values: of the labels, in their order.
        """
        if number < 0:
            raise ValueError(f"{self.name}: a counter does not go down")
        with self._registry.lock:
            self._at(values, 1)[0] += number


class MethodHistogram(Metric):
    """Counts of values by range, by label values: of each bucket, and of what is above; and their sum."""

    kind = "histogram"

    def __init__(
        self, registry: FigureRegistry, name: str, words: str, labels: Sequence[str], buckets: Sequence[float]
    ) -> None:
        Metric.__init__(self, registry, name, words, labels)
        self.buckets = tuple(buckets)

    def observe(self, value: float, *values: str) -> None:
        """Count one value. Any thread may call this."""
        with self._registry.lock:
            numbers = self._at(values, len(self.buckets) + 2)
            numbers[bisect_left(self.buckets, value)] += 1
            numbers[-1] += value


class FigureRegistry:
    """The metrics of one process. ``version`` grows with every change of any of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.version = 0
        self._metrics: dict[str, Metric] = {}

    def counter(self, name: str, words: str, *, labels: Sequence[str] = ()) -> Counter:
        """Make a counter, or find the one of that name.

        Raises:
            ValueError: the name cannot be one, or is that of another metric.
        """
        return self._made(name, Counter, lambda: Counter(self, name, words, labels), labels)

    def histogram(
        self, name: str, words: str, *, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> MethodHistogram:
        """Make a histogram, or find the one of that name.

        Args:
            buckets: upper bounds, ascending; what is above the last is counted, too.

        Raises:
            ValueError: the name cannot be one, or is that of another metric.
        """
        made = self._made(name, MethodHistogram, lambda: MethodHistogram(self, name, words, labels, buckets), labels)
        if made.buckets != tuple(buckets):
            raise ValueError(f"the histogram {name} exists with the buckets {made.buckets}")
        return made

    def snapshot(self) -> list[Figure]:
        """The metrics that have counted anything so far."""
        with self.lock:
            return [metric.report() for metric in self._metrics.values() if metric._series]

    def _made(self, name: str, kind: type[M], make: Callable[[], M], labels: Sequence[str]) -> M:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a metric: lower-case letters, digits and _")
        with self.lock:
            found = self._metrics.get(name)
            if found is None:
                found = self._metrics[name] = make()
        if not isinstance(found, kind) or found.labels != tuple(labels):
            raise ValueError(f"the metric {name} exists as a {found.kind} with the labels {found.labels}")
        return found


FIGURES: Final = FigureRegistry()
"""The metrics of this process."""

counter = FIGURES.counter
histogram = FIGURES.histogram
