"""Filters by metadata, against a naive reading of their rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numpy")

from trunkline.methods.vectors.changes import Item
from trunkline.methods.vectors.filters import MAX_DEPTH, MAX_MEMBERS, MAX_VALUES, compile_filter
from trunkline_protocol.errors import RpcError


def meets(source: Any, metadata: dict[str, Any]) -> bool:
    return compile_filter(source)(Item("x", None, metadata))


@pytest.mark.parametrize(
    ("source", "metadata", "expected"),
    [
        ({}, {}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": False}, {"a": 0}, False),
        ({"a": 0}, {"a": False}, False),
        ({"a": None}, {}, True),
        ({"a": None}, {"a": None}, True),
        ({"a": None}, {"a": []}, False),
        ({"a": {"$ne": None}}, {}, False),
        ({"a": {"$exists": True}}, {"a": None}, True),
        ({"a": {"$exists": False}}, {"b": 1}, True),
        ({"a": {"$exists": True}}, {"a": []}, True),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, True),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
        ({"a": {"$gt": 1, "$lt": 3}}, {"a": 2}, True),
        ({"a": {"$gt": 1, "$lt": 3}}, {"a": 3}, False),
        ({"a": {"$gte": 2, "$lte": 2}}, {"a": 2}, True),
        ({"a": {"$gt": 1}}, {"a": "2"}, False),
        ({"a": {"$lte": 1}}, {"a": "0"}, False),
        ({"a": {"$gte": 0}}, {"a": True}, False),
        ({"a": {"$gte": 0}}, {}, False),
        ({"a": {"$gte": "2026-01"}}, {"a": "2026-02-03"}, True),
        ({"a": {"$gt": "a"}}, {"a": "B"}, False),
        ({"a": {"$in": [1, "x", None]}}, {"a": "x"}, True),
        ({"a": {"$in": [1, "x", None]}}, {}, True),
        ({"a": {"$in": [1]}}, {"a": True}, False),
        ({"a": {"$in": [True]}}, {"a": 1}, False),
        ({"a": {"$in": [1]}}, {"a": {"b": 1}}, False),
        ({"a": {"$in": []}}, {"a": 1}, False),
        ({"a": {"$nin": [1]}}, {}, True),
        ({"a": {"$ne": 1}}, {"a": "1"}, True),
        ({"tags": "x"}, {"tags": ["w", "x"]}, True),
        ({"tags": {"$ne": "x"}}, {"tags": ["w", "x"]}, False),
        ({"tags": {"$nin": ["x", "y"]}}, {"tags": ["w", "z"]}, True),
        ({"n": {"$gt": 5, "$lt": 3}}, {"n": [1, 9]}, True),  # each is met by an element, as MongoDB has it
        ({"n": 1}, {"n": [[1]]}, False),
        ({"a.b": 1}, {"a": {"b": 1}}, True),
        ({"a.b": 1}, {"a.b": 1}, False),
        ({"a.b": None}, {"a": 1}, True),
        ({"a.b": 2}, {"a": [{"b": 1}, {"b": 2}]}, True),
        ({"a.b": None}, {"a": [{"b": 1}, {}]}, True),
        ({"a.b": {"$exists": True}}, {"a": [1, {"c": 1}]}, False),
        ({"a.b.c": 3}, {"a": {"b": [{"c": [3]}]}}, True),
        ({"$and": [{"a": 1}, {"b": 2}]}, {"a": 1}, False),
        ({"$or": [{"a": 1}, {"b": 2}]}, {"b": 2}, True),
        ({"$not": {"a": 1}}, {"a": 2}, True),
        ({"a": 1, "$not": {"b": 2}}, {"a": 1, "b": 2}, False),
    ],
)
def test_what_a_filter_means(source: Any, metadata: Any, expected: bool) -> None:
    assert meets(source, metadata) is expected


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ([], r"^filter: an object was expected, not an empty list"),
        ("a = 1", r"^filter: an object was expected, not a string"),
        ({"$and": {"a": 1}}, r"^filter\.\$and: a list of filters was expected, not an object"),
        ({"$or": []}, r"^filter\.\$or: a list of filters was expected, not an empty list"),
        ({"$and": [{"a": 1}, {"year": {"$gte": None}}]}, r"^filter\.\$and\[1\]\.year\.\$gte: a number or a string"),
        ({"a": {"$gt": True}}, r"^filter\.a\.\$gt: a number or a string was expected, not true or false"),
        ({"$not": [{"a": 1}]}, r"^filter\.\$not: an object was expected, not a list"),
        ({"$nor": [{"a": 1}]}, r"^filter\.\$nor: no operator of filters; there are \$and, \$or, \$not"),
        ({"$gt": 1}, r"^filter\.\$gt: .*; conditions belong to a path"),
        ({"a": {"$like": "x"}}, r"^filter\.a\.\$like: no operator; there are \$eq, .*\$exists"),
        ({"a": {"b": 1}}, r'^filter\.a\.b: an operator was expected; for a member of a write "a\.b"'),
        ({"a": {}}, r"^filter\.a: an operator was expected"),
        ({"a": {"$not": {"$gt": 1}}}, r'^filter\.a\.\$not: \$not belongs around the path: {"\$not": {"a": \.\.\.}}'),
        ({"a": [1]}, r'^filter\.a: a value was expected, not a list: use {"\$in"'),
        ({"a": {"$eq": {"b": 1}}}, r"^filter\.a\.\$eq: a value was expected, not an object"),
        ({"a": {"$in": 1}}, r"^filter\.a\.\$in: a list of values was expected, not a number"),
        ({"a": {"$in": [1, [2]]}}, r"^filter\.a\.\$in\[1\]: a value was expected, not a list"),
        ({"a": {"$exists": 1}}, r"^filter\.a\.\$exists: true or false was expected, not a number"),
        ({"a..b": 1}, r"^filter\.a\.\.b: a path is names"),
        ({"": 1}, r"^filter\.: a path is names"),
        ({".".join("a" * 17): 1}, "a path has at most 16 names"),
        ({"$or": [{"a": n} for n in range(MAX_MEMBERS)]}, r"more than 256 members; for many values use \$in"),
        ({"a": {"$in": [*range(MAX_VALUES + 1)]}}, r"^filter\.a\.\$in: .* more than 4096 values"),
    ],
)
def test_what_is_no_filter_is_refused_by_place(source: Any, says: str) -> None:
    with pytest.raises(RpcError, match=says) as caught:
        compile_filter(source)
    assert caught.value.code == -32602


def test_depth_is_bounded() -> None:
    source: Any = {"a": 1}
    for _ in range(MAX_DEPTH - 1):
        source = {"$not": source}
    assert meets(source, {"a": 2})
    with pytest.raises(RpcError, match="more than 16 filters inside each other"):
        compile_filter({"$not": source})


def test_the_same_filter_is_the_same_function() -> None:
    assert compile_filter({"a": 1}) is compile_filter({"a": 1})
    assert compile_filter({"a": 1}) is not compile_filter({"a": True})
    assert compile_filter({"a": 2**70})(Item("x", None, {"a": 2**70}))


# --- any filter, against the rules as they are written ---

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from([None, True, False, 0, 1, 1.0, 2.5, -1, "", "a", "1", "b"])
METADATA = st.recursive(
    st.dictionaries(NAMES, VALUES | st.lists(VALUES, max_size=3), max_size=3),
    lambda inner: st.dictionaries(
        NAMES, VALUES | inner | st.lists(inner | VALUES | st.lists(VALUES, max_size=2), max_size=3), max_size=3
    ),
    max_leaves=5,
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(".".join)
CONDITIONS = st.one_of(
    VALUES,
    st.dictionaries(st.sampled_from(["$eq", "$ne"]), VALUES, min_size=1),
    st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), st.sampled_from([0, 1.0, 2, "", "a"]), min_size=1),
    st.dictionaries(st.sampled_from(["$in", "$nin"]), st.lists(VALUES, max_size=3), min_size=1),
    st.fixed_dictionaries({"$exists": st.booleans()}),
)
FILTERS = st.recursive(
    st.dictionaries(PATHS, CONDITIONS, max_size=2),
    lambda inner: (
        st.dictionaries(st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3), max_size=2)
        | st.fixed_dictionaries({"$not": inner})
    ),
    max_leaves=6,
)
NOTHING = "nothing is there"


def naive(source: Any, metadata: Any) -> bool:
    results = []
    for name, value in source.items():
        if name == "$and":
            results.append(all(naive(each, metadata) for each in value))
        elif name == "$or":
            results.append(any(naive(each, metadata) for each in value))
        elif name == "$not":
            results.append(not naive(value, metadata))
        else:
            condition = value if isinstance(value, dict) else {"$eq": value}
            ends = at_path([metadata], name.split("."))
            results.extend(naive_condition(operator, operand, ends) for operator, operand in condition.items())
    return all(results)


def at_path(values: list[Any], names: list[str]) -> list[Any]:
    for at, name in enumerate(names):
        if at:
            spread = []
            for value in values:
                spread += [each for each in value if isinstance(each, dict)] if isinstance(value, list) else [value]
            values = spread
        values = [value.get(name, NOTHING) if isinstance(value, dict) else NOTHING for value in values]
    return values


def naive_condition(operator: str, operand: Any, ends: list[Any]) -> bool:
    if operator == "$exists":
        return bool(operand) == any(end != NOTHING for end in ends)
    if operator == "$ne":
        return not naive_condition("$eq", operand, ends)
    if operator == "$nin":
        return not naive_condition("$in", operand, ends)
    values = [value for end in ends for value in (end if isinstance(end, list) else [end])]
    if operator == "$in":
        return any(equal(value, each) for value in values for each in operand)
    if operator == "$eq":
        return any(equal(value, operand) for value in values)
    comparable = [
        value
        for value in values
        if value != NOTHING and kind(value) == kind(operand) and kind(value) in ("number", "text")
    ]
    return any(
        {"$gt": value > operand, "$gte": value >= operand, "$lt": value < operand, "$lte": value <= operand}[operator]
        for value in comparable
    )


def kind(value: Any) -> str:
    if value is None or value == NOTHING:
        return "null"
    return {bool: "bool", int: "number", float: "number", str: "text"}.get(type(value), "other")


def equal(value: Any, operand: Any) -> bool:
    return kind(value) == kind(operand) and (kind(value) == "null" or bool(value == operand))


@settings(max_examples=200, deadline=None)
@given(FILTERS, METADATA)
def test_any_filter_means_what_its_rules_say(source: Any, metadata: Any) -> None:
    assert meets(source, metadata) is naive(source, metadata)


JSON = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "a.b", "$and", "$or", "$not", "$in", "$gt", "$exists", ""]), inner, max_size=3
        )
    ),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(JSON, METADATA)
def test_anything_else_is_refused_and_nothing_breaks(source: Any, metadata: Any) -> None:
    says = ""
    try:
        meets(source, metadata)
    except RpcError as error:
        says = error.message
    assert says == "" or says.startswith("filter")
