"""BM25 over texts that come and go, against the formula computed naively."""

from __future__ import annotations

from collections import Counter
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("bm25s")

from trunkline.methods.vectors import lexical
from trunkline.methods.vectors.lexical import K1, B, LexicalIndex, words

VOCABULARY = ["copy", "list", "tuple", "raise", "exception", "window", "file", "thread"]
texts = st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join)


def naive(corpus: dict[str, str], query: str) -> dict[str, float]:
    """BM25, Lucene's variant, as the paper writes it."""
    tokens = dict(zip(corpus, words([*corpus.values()], "en"), strict=True)) if corpus else {}
    mean = sum(map(len, tokens.values())) / len(tokens) if tokens else 0
    scores = {}
    for each, own in tokens.items():
        counts = Counter(own)
        score = 0.0
        for term in set(words([query], "en")[0]):
            frequency = sum(term in other for other in tokens.values())
            weight = log(1 + (len(tokens) - frequency + 0.5) / (frequency + 0.5))
            if counts[term]:
                score += weight * counts[term] / (counts[term] + K1 * (1 - B + B * len(own) / mean))
        if score:
            scores[each] = score
    return scores


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), texts, max_size=12), texts.filter(bool))
@settings(max_examples=60, deadline=None)
def test_scores_are_those_of_the_formula(corpus: dict[str, str], query: str) -> None:
    found = LexicalIndex(corpus).search(query)
    expected = naive(corpus, query)
    assert dict(found.top(100)) == pytest.approx(expected, rel=1e-4)
    assert found.best == pytest.approx(max(expected.values(), default=0), rel=1e-4)
    for each in corpus:
        assert found.of(each) == pytest.approx(expected.get(each, 0), rel=1e-4)


@given(
    st.dictionaries(st.integers(0, 9).map(str), texts, max_size=8),
    st.lists(st.tuples(st.integers(0, 9).map(str), st.none() | texts), max_size=8),
    st.sampled_from(VOCABULARY),
)
@settings(max_examples=60, deadline=None)
def test_what_is_found_is_what_is_there(
    corpus: dict[str, str], changes: list[tuple[str, str | None]], query: str
) -> None:
    index = LexicalIndex(corpus)
    for each, text in changes:
        if text is None:
            index.remove([each])
            corpus.pop(each, None)
        else:
            index.put({each: text})
            corpus[each] = text
    having = {each for each, text in corpus.items() if query in text.split()}
    assert {each for each, _ in index.search(query).top(100)} == having


def test_a_text_that_came_later_scores_as_one_of_the_table() -> None:
    corpus = {str(n): f"{VOCABULARY[n % 8]} {VOCABULARY[n % 3]} number{n}" for n in range(400)}
    index = LexicalIndex(corpus)
    index.put({"late": "copy list number399"})
    at_once = LexicalIndex(corpus | {"late": "copy list number399"})
    for query in ("copy", "number399 list"):  # the table counts how many texts have a word without it
        assert index.search(query).of("late") == pytest.approx(at_once.search(query).of("late"), rel=0.1)


def test_a_filter_does_not_shorten_what_is_found() -> None:
    index = LexicalIndex({str(n): "copy " * (n + 1) for n in range(50)})
    index.put({"50": "copy"})
    found = index.search("copy").top(5, lambda each: int(each) % 10 == 0)
    assert len(found) == 5
    assert {each for each, _ in found} <= {"0", "10", "20", "30", "40", "50"}
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


def test_it_says_when_it_should_be_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexical, "RECENT", 3)
    index = LexicalIndex({str(n): "copy" for n in range(20)})
    index.put({"20": "copy", "21": "copy"})
    index.remove(["1"])
    assert (index.due,) == (False,)
    index.put({"2": "copy"})
    assert index.due


def test_words_are_found_by_their_stems_and_without_what_means_nothing() -> None:
    index = LexicalIndex({"a": "Copying of lists", "b": "the of and"})
    assert [each for each, _ in index.search("how do I copy the list?").top(10)] == ["a"]
    assert index.search("the and of").top(10) == []
