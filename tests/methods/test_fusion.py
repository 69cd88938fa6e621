"""Two rankings made one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.methods.vectors.fusion import Candidate, Fusion, fuse

candidates = st.lists(
    st.tuples(st.integers(0, 99).map(str), st.floats(-1, 1), st.floats(0, 30)),
    unique_by=lambda each: each[0],
    max_size=20,
).map(lambda rows: [Candidate(*row) for row in rows])


def order(found: list[tuple[Candidate, float]]) -> list[str]:
    return [candidate.id for candidate, _ in found]


def test_convex_adds_the_share_of_the_best_lexical_score() -> None:
    found = fuse([Candidate("a", 0.5, 0.0), Candidate("b", 0.45, 8.0), Candidate("c", 0.41, 4.0)], "convex", 0.1)
    assert order(found) == ["b", "a", "c"]
    assert [score for _, score in found] == pytest.approx([0.55, 0.5, 0.46])


def test_convex_leaves_what_is_clearly_nearest_first() -> None:
    assert order(fuse([Candidate("near", 0.9, 0.0), Candidate("words", 0.3, 20.0)], "convex")) == ["near", "words"]


def test_rrf_looks_at_places_alone() -> None:
    found = fuse([Candidate("a", 0.9, 1.0), Candidate("b", 0.1, 2.0)], "rrf", 1.0)
    assert found[0][1] == found[1][1] == pytest.approx(1 / 61 + 1 / 62)


def test_rrf_gives_nothing_for_words_that_are_not_there() -> None:
    found = fuse([Candidate("a", 0.9, 0.0)], "rrf", 1.0)
    assert found[0][1] == pytest.approx(1 / 61)


@given(candidates, st.sampled_from(["convex", "rrf"]))
def test_without_weight_the_order_is_that_of_the_dense_search(rows: list[Candidate], fusion: Fusion) -> None:
    dense = sorted(rows, key=lambda each: (-each.dense, each.id))
    assert order(fuse(rows, fusion, 0.0)) == [each.id for each in dense]


@given(candidates, st.sampled_from(["convex", "rrf"]))
def test_a_candidate_that_is_better_in_both_is_before(rows: list[Candidate], fusion: Fusion) -> None:
    places = {each: at for at, each in enumerate(order(fuse(rows, fusion)))}
    for one in rows:
        for other in rows:
            if one.dense > other.dense and one.lexical > other.lexical:
                assert places[one.id] < places[other.id]
