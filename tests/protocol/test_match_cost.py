"""What a match costs at most: the steps that are counted before, and those that the index then makes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.profile import fuzzing
from trunkline_protocol import topics
from trunkline_protocol.match_cost import FREE_TOKENS, MatchCost
from trunkline_protocol.topics import MAX_TOKENS, TopicIndex, is_wildcard

FREE_STEPS = 2 ** (FREE_TOKENS + 1) - 1


class Looked(dict[str, Any]):
    """A node's children. Each node that a walk goes on from is asked for one, or for two."""

    nodes: list[Looked]

    def get(self, token: str, default: Any = None) -> Any:
        if token != "*":
            self.nodes.append(self)
        return super().get(token, default)


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Looked]]:
    """The nodes that walks of the index go on from."""

    class Counted(topics._Node[Any]):
        __slots__ = ()

        def __init__(self) -> None:
            super().__init__()
            self.children = Looked()

    monkeypatch.setattr(topics, "_Node", Counted)
    Looked.nodes = []
    yield Looked.nodes
    del Looked.nodes


def combinations(tokens: int, number: int) -> Iterable[str]:
    """Patterns of ``a`` and ``*`` that all reach ``a.a.a...``, and have as little in common as can be."""
    varying = max(1, number.bit_length())
    for each in itertools.islice(itertools.product("a*", repeat=varying), number):
        yield ".".join([*each, *("a" * (tokens - varying - 1)), "*"])


def steps_of(met: list[Looked], patterns: Iterable[str], topic: str) -> int:
    index: TopicIndex[int] = TopicIndex()
    for pattern in patterns:
        index.add(pattern, 1)
    met.clear()
    index.match(topic)
    return len(met)


def test_patterns_of_nine_tokens_never_cost_more_than_a_thousand_steps(met: list[Looked]) -> None:
    every = [".".join(each) for each in itertools.product("a*", repeat=FREE_TOKENS)]
    every += [f"{pattern}.>" for pattern in every]
    assert not any(MatchCost.counts(pattern) for pattern in every)
    assert steps_of(met, filter(is_wildcard, every), ".".join("a" * MAX_TOKENS)) <= FREE_STEPS


@pytest.mark.parametrize("tokens", [FREE_TOKENS + 3, 20, MAX_TOKENS])
def test_no_topic_costs_more_than_was_counted(met: list[Looked], tokens: int) -> None:
    cost, taken = MatchCost(), []
    for pattern in combinations(tokens, 300):
        assert MatchCost.counts(pattern)
        cost.add(pattern)
        taken.append(pattern)
    steps = steps_of(met, taken, ".".join("a" * tokens))
    assert steps > 300
    assert steps <= FREE_STEPS + cost.steps
    assert cost.steps <= steps, "this is the worst topic: more was counted than can happen"


def test_patterns_that_no_topic_shares_cost_what_one_of_them_does() -> None:
    cost = MatchCost()
    for number in range(1000):
        cost.add(f"plant.{number}.a.b.c.d.e.f.g.h.i.*")
    assert cost.steps == 12 - FREE_TOKENS


tokens = st.sampled_from(["a", "b", "*"])
long_patterns = st.builds(
    lambda path, tail: ".".join([*path, *tail]),
    st.lists(tokens, min_size=FREE_TOKENS + 1, max_size=FREE_TOKENS + 4),
    st.sampled_from([[], [">"]]),
).filter(MatchCost.counts)


@fuzzing(150)
@given(st.lists(st.tuples(st.booleans(), long_patterns), max_size=20))
def test_the_count_is_that_of_the_patterns_there_are(steps: list[tuple[bool, str]]) -> None:
    changed, there = MatchCost(), list[str]()
    for adding, pattern in steps:
        if adding:
            changed.add(pattern)
            there.append(pattern)
        elif pattern in there:
            changed.remove(pattern)
            there.remove(pattern)
    fresh = MatchCost()
    for pattern in there:
        fresh.add(pattern)
    assert changed.steps == fresh.steps
    for pattern in there:
        changed.remove(pattern)
    assert changed.steps == 0
    assert not changed


@fuzzing(150)
@given(st.lists(long_patterns, max_size=12), st.lists(st.sampled_from("ab"), min_size=13, max_size=13))
def test_what_any_topic_meets_is_counted(patterns: list[str], topic: list[str]) -> None:
    cost, reached = MatchCost(), set[tuple[str, ...]]()
    for pattern in patterns:
        cost.add(pattern)
        path = pattern.removesuffix(".>").split(".")
        for level in range(FREE_TOKENS + 1, len(path) + 1):
            if all(part in ("*", token) for part, token in zip(path[:level], topic, strict=False)):
                reached.add(tuple(path[:level]))
    assert len(reached) <= cost.steps
