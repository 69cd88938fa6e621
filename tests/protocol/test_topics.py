"""Topics and patterns by hand, and the index against a plain list of subscriptions (see also test_fuzz_topics.py)."""

from __future__ import annotations

import gc
import itertools
import time
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.profile import fuzzing
from tests.fuzz.topics import reaches
from trunkline_protocol.topics import (
    MAX_TOKENS,
    MAX_TOPIC_CHARS,
    PatternSet,
    TopicIndex,
    covers,
    is_hubs_own,
    is_job,
    is_system,
    is_wildcard,
    matches,
    overlap,
    valid_pattern,
    valid_topic,
)

LONGEST = "x" * MAX_TOPIC_CHARS
DEEPEST = ".".join("t" * MAX_TOKENS)


@pytest.mark.parametrize(
    "topic", ["a", "jobs.42.progress", "0", "a-b_c:d/e", "é.日本.🎈", "system.x", "$a.#b", LONGEST, DEEPEST]
)
def test_topics(topic: str) -> None:
    assert valid_topic(topic)
    assert valid_pattern(topic)
    assert not is_wildcard(topic)


NEITHER = (
    *("", ".", "a.", ".a", "a..b", "a b", " a", "a\n", "a\tb", "a.\x00", "\x7f", "a\u00a0b", "a\u2028", "\ud800"),
    *("a*", "*a", "a>", "a.>b", ">.a", "a.>.b", "**", LONGEST + "x", DEEPEST + ".t"),
)


@pytest.mark.parametrize("topic", NEITHER)
def test_what_is_neither_topic_nor_pattern(topic: str) -> None:
    assert not valid_topic(topic)
    assert not valid_pattern(topic)


@pytest.mark.parametrize("pattern", ["*", ">", "a.*", "*.a", "a.*.b", "a.>", "*.>", "*.*.*", "system.>"])
def test_patterns(pattern: str) -> None:
    assert valid_pattern(pattern)
    assert not valid_topic(pattern)
    assert is_wildcard(pattern)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("a.b", ["a.b"], ["a", "a.b.c", "a.c", "ab", "A.b"]),
        ("*", ["a", "systems"], ["a.b", "system"]),
        ("a.*", ["a.b", "a.*"], ["a", "a.b.c", "b.b"]),
        ("*.b", ["a.b"], ["b", "a.b.b", "system.b"]),
        ("a.*.c", ["a.b.c"], ["a.c", "a.b.b.c", "a.b"]),
        (">", ["a", "a.b.c"], ["system", "system.x", "system.x.y"]),
        ("a.>", ["a.b", "a.b.c"], ["a", "b.a"]),
        ("*.>", ["a.b", "a.b.c"], ["a", "system.x"]),
        ("system.>", ["system.x", "system.x.y"], ["system"]),
        ("system.*", ["system.x"], ["system", "system.x.y", "systems.x"]),
        ("a.*", ["a.system"], ["system.a"]),
    ],
)
def test_what_a_pattern_reaches(pattern: str, yes: list[str], no: list[str]) -> None:
    index: TopicIndex[str] = TopicIndex()
    index.add(pattern, "me")
    for topic in yes:
        assert matches(pattern, topic), topic
        assert index.match(topic) == ("me",), topic
        assert index.reaches(topic)
    for topic in no:
        assert not matches(pattern, topic), topic
        assert index.match(topic) == (), topic
        assert not index.reaches(topic)


@pytest.mark.parametrize(
    ("name", "own"), [("system", True), ("system.x", True), ("system.>", True), ("systems", False), ("a.system", False)]
)
def test_what_is_the_hubs_own(name: str, own: bool) -> None:
    assert is_system(name) is own


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        (">", "*", True),
        (">", ">", True),
        (">", "*.a", True),
        (">", "system.x", False),
        ("*", "system", False),
        ("*", ">", False),
        ("*.>", ">", False),
        ("*.>", "*.*", True),
        ("*.>", "a.>", True),
        ("a.>", "a.*", True),
        ("a.>", "a", False),
        ("a.*", "a.>", False),
        ("a.*", "a.b", True),
        ("a.b", "a.*", False),
        ("system.>", "system.*", True),
        ("system.*", "system.>", False),
    ],
)
def test_covering(wide: str, narrow: str, covered: bool) -> None:
    assert covers(wide, narrow) is covered


tokens = st.sampled_from(["a", "b", "system"])
topics = st.lists(tokens, min_size=1, max_size=4).map(".".join)
patterns = st.builds(
    lambda path, tail: ".".join([*path, *tail]),
    st.lists(st.sampled_from(["a", "b", "system", "*"]), min_size=1, max_size=3),
    st.sampled_from([[], [">"]]),
) | st.just(">")


@fuzzing(200)
@given(patterns, patterns, topics)
def test_what_is_covered_is_matched(wide: str, narrow: str, topic: str) -> None:
    if covers(wide, narrow) and matches(narrow, topic):
        assert matches(wide, topic)
    assert covers(narrow, narrow)
    assert covers(narrow, topic) == matches(narrow, topic) == reaches(narrow, topic)


@fuzzing(150)
@given(patterns, patterns)
def test_two_patterns_overlap_where_a_topic_is_reached_by_both(one: str, other: str) -> None:
    topics = (".".join(path) for n in range(1, 6) for path in itertools.product(("a", "b", "system"), repeat=n))
    assert overlap(one, other) == overlap(other, one) == any(matches(one, t) and matches(other, t) for t in topics)


@fuzzing(150)
@given(patterns, patterns)
def test_what_is_not_covered_has_a_witness(wide: str, narrow: str) -> None:
    """Covering is exact: where it is denied, some topic is reached by the one and not by the other."""
    fresh, both = ["z", "a", "b", "system"], ["", ".z", ".z.z", ".z.z.z"]
    heads = [narrow.replace("*", token).replace(">", token) + more for token in fresh for more in both]
    witnesses = [topic for topic in heads if matches(narrow, topic) and not matches(wide, topic)]
    assert bool(witnesses) != covers(wide, narrow)


@fuzzing(200)
@given(st.lists(st.tuples(st.booleans(), patterns.filter(is_wildcard))), topics)
def test_a_set_of_patterns_is_a_list_of_them(steps: list[tuple[bool, str]], topic: str) -> None:
    patterns, model = PatternSet(), set[str]()
    for adding, pattern in steps:
        (patterns.add if adding else patterns.remove)(pattern)
        (model.add if adding else model.discard)(pattern)
    assert len(patterns) == len(model)
    assert patterns.reaches(topic) == any(matches(pattern, topic) for pattern in model)
    for pattern in model:
        patterns.remove(pattern)
    assert not patterns._accepting


steps = st.lists(st.tuples(st.booleans(), topics | patterns, st.integers(0, 3)), max_size=30)


@fuzzing(150)
@given(steps, st.lists(topics, min_size=1, max_size=5))
def test_the_index_is_a_list_of_subscriptions(steps: list[tuple[bool, str, int]], published: list[str]) -> None:
    index: TopicIndex[int] = TopicIndex()
    model: dict[tuple[str, int], None] = {}
    for adding, pattern, subscriber in steps:
        if adding:
            index.add(pattern, subscriber)
            model[pattern, subscriber] = None
        else:
            index.remove(pattern, subscriber)
            model.pop((pattern, subscriber), None)
        for topic in published:
            found = index.match(topic)
            assert len(found) == len(set(found))
            assert set(found) == {who for pattern, who in model if reaches(pattern, topic)}
            assert index.reaches(topic) == bool(found)
    assert len(index) == len({pattern for pattern, _ in model if not is_wildcard(pattern)})
    for pattern, subscriber in model:
        index.remove(pattern, subscriber)
    assert len(index) == 0
    assert index._root.is_empty(), "nodes are left behind"
    assert not index._snapshots


def test_an_answer_is_not_changed_by_what_comes_later() -> None:
    index: TopicIndex[str] = TopicIndex()
    index.add("a", "one")
    before = index.match("a")
    index.add("a", "two")
    index.remove("a", "one")
    assert before == ("one",)
    assert index.match("a") == ("two",)


def test_who_came_first_is_told_first() -> None:
    index: TopicIndex[int] = TopicIndex()
    for number in (3, 1, 2):
        index.add("a", number)
    index.add("a", 3)
    assert index.match("a") == (3, 1, 2)


def filled(topics: int) -> TopicIndex[int]:
    index: TopicIndex[int] = TopicIndex()
    for number in range(topics):
        index.add(f"jobs.{number}.progress", number)
    for number in range(1000):
        index.add((f"jobs.{number}.*", f"logs.{number}.>", f"*.{number}.errors")[number % 3], -number)
    return index


def seconds_a_lookup(index: TopicIndex[int]) -> float:
    """The median over topics, subscribed exactly, by pattern, and not at all; of this thread, whoever else computes."""
    looked_up = [topic for n in range(60) for topic in (f"jobs.{n}.progress", f"logs.{n}.a.b", f"other.{n}")]
    timed = []
    for topic in looked_up:
        began = time.thread_time()
        for _ in range(20):
            index.match(topic)
        timed.append((time.thread_time() - began) / 20)
    return median(timed)


def test_looking_up_does_not_grow_with_the_number_of_topics() -> None:
    few, many = filled(100), filled(100_000)
    gc.collect()
    small = min(seconds_a_lookup(few) for _ in range(5))
    large = min(seconds_a_lookup(many) for _ in range(5))
    assert large < small * 5, "a scan of the topics would take a thousand times as long"


@fuzzing(100)
@given(st.lists(st.tuples(st.booleans(), topics | patterns, st.integers(0, 3))))
def test_what_somebody_subscribed_to(steps: list[tuple[bool, str, int]]) -> None:
    index: TopicIndex[int] = TopicIndex()
    expected: dict[str, set[int]] = {}
    for added, pattern, subscriber in steps:
        (index.add if added else index.remove)(pattern, subscriber)
        group = expected.setdefault(pattern, set())
        (group.add if added else group.discard)(subscriber)
    listed = list(index.patterns())
    assert dict(listed) == {pattern: len(group) for pattern, group in expected.items() if group}
    assert len(dict(listed)) == len(listed)


@pytest.mark.parametrize(
    ("topic", "own"),
    [
        ("jobs." + "0123456789abcdef" * 2, True),
        ("jobs." + "0123456789ABCDEF" * 2, False),
        ("jobs." + "0" * 31, False),
        ("jobs." + "0" * 33, False),
        ("jobs." + "0" * 32 + ".x", False),
        ("jobs.42", False),
        ("jobs", False),
        ("a.jobs." + "0" * 32, False),
    ],
)
def test_topics_of_jobs(topic: str, own: bool) -> None:
    assert is_job(topic) is own
    assert is_hubs_own(topic) is own


def test_only_who_names_a_topic_is_found_exactly() -> None:
    index: TopicIndex[str] = TopicIndex()
    for pattern in ("a.b", "a.*", ">"):
        index.add(pattern, pattern)
    assert index.exact("a.b") == ("a.b",)
    assert index.exact("a.c") == ()
    assert set(index.match("a.b")) == {"a.b", "a.*", ">"}
    index.remove("a.b", "a.b")
    assert index.exact("a.b") == ()
