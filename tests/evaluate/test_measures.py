"""Measures against figures worked out by hand, and the interval of a difference."""

from __future__ import annotations

from math import log2
from typing import Any

import pytest

from trunkline.evaluate.measures import difference, estimate, measure
from trunkline.evaluate.questions import Question
from trunkline.evaluate.retrieval import documents, retrieve

QUESTIONS = [Question("one", "?", {"x": 1}), Question("two", "?", {"y": 2, "z": 1})]


def test_measures_of_rankings() -> None:
    measured = measure(QUESTIONS, {"one": ["a", "x"], "two": ["y", "a", "z"]})
    # Gain 2 at rank 1 and 1 at rank 3, of 2 at rank 1 and 1 at rank 2 at best.
    second = (2 + 1 / log2(4)) / (2 + 1 / log2(3))
    assert measured.each["nDCG@10"] == pytest.approx([1 / log2(3), second])
    assert measured.each["R@5"] == [1.0, 1.0]
    assert measured.means["RR"] == pytest.approx((0.5 + 1) / 2)


def test_a_question_without_a_find_counts_as_zero() -> None:
    measured = measure(QUESTIONS, {"one": ["x"]})
    assert measured.means == pytest.approx({"nDCG@10": 0.5, "R@5": 0.5, "RR": 0.5})
    assert measure(QUESTIONS, {"one": [], "two": []}).means == {"nDCG@10": 0.0, "R@5": 0.0, "RR": 0.0}


def test_what_is_beyond_the_fifth_is_not_recalled() -> None:
    measured = measure([QUESTIONS[0]], {"one": [*"abcde", "x"]})
    assert measured.means["R@5"] == 0
    assert measured.means["RR"] == pytest.approx(1 / 6)


def test_the_interval_has_zero_in_it_where_a_difference_may_be_chance() -> None:
    chance = difference([0.0, 1.0] * 20, [1.0, 0.0] * 20)
    assert chance.low < 0 == chance.mean < chance.high
    assert not chance.is_above_zero
    gain = difference([0.1] * 40, [0.4] * 40)
    assert gain.low == pytest.approx(0.3) == gain.high
    assert gain.is_above_zero


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution_where_questions_are_many() -> None:
    values = [0.0] * 200 + [1.0] * 200
    found = estimate(values)
    half = 1.96 * 0.5 / 400**0.5
    assert found.mean == 0.5
    assert found.low == pytest.approx(0.5 - half, abs=0.005)
    assert found.high == pytest.approx(0.5 + half, abs=0.005)
    assert estimate(values) == found, "the same interval each time"


def test_a_document_counts_once_where_its_best_passage_is() -> None:
    matches = [
        {"id": "1", "metadata": {"source": "b"}},
        {"id": "2", "metadata": {"source": "a"}},
        {"id": "3", "metadata": {"source": "b"}},
        {"id": "4", "metadata": {}},
    ]
    assert documents(matches, "source") == ["b", "a"]
    assert documents(matches, "id") == ["1", "2", "3", "4"]


async def test_each_technique_asks_its_own_method() -> None:
    asked: list[tuple[str, str]] = []

    class Hub:
        async def call(self, method: str, params: dict[str, Any], *, timeout_ms: int | None = None) -> Any:
            asked.append((method, params["text"]))
            return {"matches": [{"id": params["text"], "metadata": {}}]}

    questions = [Question("1", "first", {"first": 1}), Question("2", "second", {"second": 1})]
    retrieved = await retrieve(Hub(), "lexical", "books", questions, "id")
    assert retrieved.rankings == {"1": ["first"], "2": ["second"]}
    assert len(retrieved.seconds) == 2
    assert sorted(asked) == [("vectors.lexical", "first"), ("vectors.lexical", "second")]


async def test_a_technique_is_asked_by_its_name_for_its_passages_only() -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    class Hub:
        async def call(self, method: str, params: dict[str, Any], *, timeout_ms: int | None = None) -> Any:
            asked.append((method, params))
            return {"retrieved_documents": [{"id": "b", "metadata": {}}, {"id": "a", "metadata": {}}]}

    retrieved = await retrieve(Hub(), "newest", "books", [Question("1", "first", {"a": 1})], "id")
    assert retrieved.rankings == {"1": ["b", "a"]}
    options = {"collection": "books", "top_k": 50}
    assert asked == [("rag.retrieve", {"query": "first", "technique": "newest", "options": options})]
