"""Metrics of methods: kept in executors, added up in the hub, shown on ``/metrics``."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from trunkline.methods.figures import MAX_SERIES, FigureRegistry
from trunkline.observe.figures import ExecutorFigures


class Page:
    def __init__(self, figures: ExecutorFigures) -> None:
        self.collect = figures.collect

    def lines(self) -> set[str]:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return set(generate_latest(registry).decode().splitlines())


def sent(registry: FigureRegistry) -> bytes:
    return msgspec.json.encode(registry.snapshot())


def counts(number: float) -> FigureRegistry:
    registry = FigureRegistry()
    registry.counter("my_words", "Words", labels=("language",)).add(number, "en")
    return registry


def test_executors_are_added_up() -> None:
    figures = ExecutorFigures()
    figures.update(0, 11, sent(counts(2)))
    figures.update(1, 12, sent(counts(3)))
    figures.update(1, 12, sent(counts(4)))
    assert 'my_words_total{language="en"} 6.0' in Page(figures).lines()


def test_a_counter_does_not_go_down_when_an_executor_is_replaced() -> None:
    figures = ExecutorFigures()
    figures.update(0, 11, sent(counts(5)))
    figures.update(0, 21, sent(counts(1)))
    figures.update(0, 31, sent(counts(1)))
    assert 'my_words_total{language="en"} 7.0' in Page(figures).lines()


def test_a_histogram_has_cumulative_buckets_a_sum_and_a_count() -> None:
    registry = FigureRegistry()
    sizes = registry.histogram("sizes", "Sizes", buckets=(1, 4))
    for value in (1, 2, 4, 9):
        sizes.observe(value)
    figures = ExecutorFigures()
    figures.update(0, 1, sent(registry))
    figures.update(1, 2, sent(registry))
    assert {
        'sizes_bucket{le="1.0"} 2.0', 'sizes_bucket{le="4.0"} 6.0', 'sizes_bucket{le="+Inf"} 8.0',
        "sizes_count 8.0", "sizes_sum 32.0",
    } <= Page(figures).lines()  # fmt: skip


def test_two_that_mean_different_things_by_one_name_do_not_break_the_page() -> None:
    other = FigureRegistry()
    other.histogram("my_words", "Words", buckets=(1,)).observe(1)
    figures = ExecutorFigures()
    figures.update(0, 1, sent(counts(2)))
    figures.update(1, 2, sent(other))
    assert 'my_words_total{language="en"} 2.0' in Page(figures).lines()


def test_the_version_changes_with_every_figure() -> None:
    registry = FigureRegistry()
    counter = registry.counter("a", "A")
    before = registry.version
    counter.add()
    assert registry.version != before
    assert registry.counter("a", "A") is counter


def test_label_values_are_bounded() -> None:
    registry = FigureRegistry()
    counter = registry.counter("a", "A", labels=("who",))
    for number in range(MAX_SERIES + 10):
        counter.add(1, str(number))
    (figure,) = registry.snapshot()
    assert len(figure.series) == MAX_SERIES + 1
    assert figure.series[-1] == (("(other)",), [10.0])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda r: r.counter("Total words", "W"), "is no name of a metric"),
        (lambda r: r.counter("taken", "W", labels=("a",)), "exists as a counter"),
        (lambda r: r.histogram("taken", "W", buckets=(1,)), "exists as a counter"),
        (lambda r: r.histogram("sizes", "W", buckets=(2,)), "exists with the buckets"),
        (lambda r: r.counter("taken", "W").add(-1), "does not go down"),
        (lambda r: r.counter("taken", "W").add(1, "label"), "has the labels"),
    ],
)
def test_what_cannot_be_counted_is_refused(make: Any, says: str) -> None:
    registry = FigureRegistry()
    registry.counter("taken", "W")
    registry.histogram("sizes", "W", buckets=(1,))
    with pytest.raises(ValueError, match=says):
        make(registry)
