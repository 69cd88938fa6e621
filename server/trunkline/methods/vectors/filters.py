"""Filters by metadata: a small language in JSON, after MongoDB's, compiled once to a function. Pure.

::

    filter     = {}                             every item
               | {"<path>": condition, ...}     all of them
               | {"$and": [filter, ...]} | {"$or": [filter, ...]} | {"$not": filter}      beside paths, too
    condition  = value                          the same as {"$eq": value}
               | {"$eq" | "$ne": value, "$gt" | "$gte" | "$lt" | "$lte": number or string,
                  "$in" | "$nin": [value, ...], "$exists": true or false}                 all of them
    value      = string | number | true | false | null
    path       = names of members, joined by dots: "author.name"

- Types are never mixed: 1 is not "1" and not true; 1 is 1.0. A number is not less or more than a string.
- What is not there equals null, and nothing else; ``$exists`` tells null and not there apart.
- Where the metadata has an array, a condition is met if one of its elements meets it; a path goes on in each of them.
- ``$ne`` and ``$nin`` are what ``$eq`` and ``$in`` are not: they are met where nothing is there, too.
- Strings are compared by code point.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from trunkline import ErrorCode, RpcError
from trunkline.methods.vectors.changes import Item

MAX_DEPTH: Final = 16
MAX_MEMBERS: Final = 256
"""Paths, operators and clauses in one filter."""
MAX_VALUES: Final = 4096
"""Values in its lists, together."""

Metadata = Mapping[str, Any]
Predicate = Callable[[Metadata], bool]
Test = Callable[[Any], bool]

_MISSING: Final = object()
_ORDERED: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "$gt": lambda here, there: here > there,
    "$gte": lambda here, there: here >= there,
    "$lt": lambda here, there: here < there,
    "$lte": lambda here, there: here <= there,
}
_OPERATORS: Final = ("$eq", "$ne", *_ORDERED, "$in", "$nin", "$exists")
_LOGIC: Final = ("$and", "$or", "$not")


def compile_filter(source: Any, where: str = "filter") -> Callable[[Item], bool]:
    """A filter as a function that says whether an item meets it.

    Args:
        source: as JSON is decoded.
        where: what to call it in an error.

    Raises:
        RpcError: -32602, the filter is invalid or too large; the message names the place in it.

    Returns:
        For the same filter the same function, as long as it was among the last: what it found can be remembered.
    """
    try:
        return _remembered(json.dumps(source), where)
    except RecursionError:
        raise _bad(where, f"more than {MAX_DEPTH} filters inside each other") from None


@functools.lru_cache(maxsize=64)
def _remembered(source: str, where: str) -> Callable[[Item], bool]:
    meets = _Compiler().filter(json.loads(source), where, 1)
    return lambda item: meets(item.metadata)


class _Compiler:
    """Counts what one filter has."""

    def __init__(self) -> None:
        self._members = 0
        self._values = 0

    def filter(self, source: Any, where: str, depth: int) -> Predicate:
        if not isinstance(source, dict):
            raise _bad(where, f"an object was expected, not {_kind(source)}")
        if depth > MAX_DEPTH:
            raise _bad(where, f"more than {MAX_DEPTH} filters inside each other")
        parts: list[Predicate] = []
        for name, value in source.items():
            self._count(where)
            place = f"{where}.{name:.100}"
            if name in _LOGIC:
                parts.append(self._logic(name, value, place, depth))
            elif name.startswith("$"):
                hint = "; conditions belong to a path" if name in _OPERATORS else ""
                raise _bad(place, f"no operator of filters; there are {', '.join(_LOGIC)}{hint}")
            else:
                parts.append(self._path(name, value, place))
        return _all(parts)

    def _count(self, where: str) -> None:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise _bad(where, f"the filter has more than {MAX_MEMBERS} members; for many values use $in")

    def _logic(self, name: str, value: Any, where: str, depth: int) -> Predicate:
        if name == "$not":
            denied = self.filter(value, where, depth + 1)
            return lambda metadata: not denied(metadata)
        if not isinstance(value, list) or not value:
            raise _bad(where, f"a list of filters was expected, not {_kind(value)}")
        clauses = []
        for at, clause in enumerate(value):
            self._count(where)
            clauses.append(self.filter(clause, f"{where}[{at}]", depth + 1))
        if name == "$and":
            return _all(clauses)
        return lambda metadata: any(clause(metadata) for clause in clauses)

    def _path(self, path: str, condition: Any, where: str) -> Predicate:
        names = path.split(".")
        if not all(names):
            raise _bad(where, "a path is names of members, joined by dots")
        if len(names) > MAX_DEPTH:
            raise _bad(where, f"a path has at most {MAX_DEPTH} names")
        if not isinstance(condition, dict):
            return _some(names, self._equals(condition, where))
        if not condition:
            raise _bad(where, f"an operator was expected: {', '.join(_OPERATORS)}")
        return _all([self._operator(names, name, value, f"{where}.{name:.100}") for name, value in condition.items()])

    def _operator(self, names: list[str], operator: str, operand: Any, where: str) -> Predicate:
        self._count(where)
        if operator in ("$eq", "$ne"):
            meets = _some(names, self._equals(operand, where))
        elif operator in ("$in", "$nin"):
            meets = _some(names, self._one_of(operand, where))
        elif operator in _ORDERED:
            meets = _some(names, _ordered(operator, operand, where))
        elif operator == "$exists":
            if not isinstance(operand, bool):
                raise _bad(where, f"true or false was expected, not {_kind(operand)}")
            return lambda metadata: operand is any(value is not _MISSING for value in _reached(metadata, names))
        else:
            raise _bad(where, _no_operator(operator, ".".join(names)))
        if operator in ("$ne", "$nin"):
            return lambda metadata: not meets(metadata)
        return meets

    def _equals(self, operand: Any, where: str) -> Test:
        _check_value(operand, where)
        if operand is None:
            return lambda value: value is None or value is _MISSING
        if isinstance(operand, bool):
            return lambda value: value is operand
        if isinstance(operand, str):
            return lambda value: value == operand
        return lambda value: value == operand and value is not True and value is not False

    def _one_of(self, operand: Any, where: str) -> Test:
        if not isinstance(operand, list):
            raise _bad(where, f"a list of values was expected, not {_kind(operand)}")
        self._values += len(operand)
        if self._values > MAX_VALUES:
            raise _bad(where, f"the lists of the filter have more than {MAX_VALUES} values")
        for at, value in enumerate(operand):
            _check_value(value, f"{where}[{at}]")
        values = frozenset(map(_key, operand))
        return lambda value: _key(value) in values


def _ordered(operator: str, operand: Any, where: str) -> Test:
    compare = _ORDERED[operator]
    if isinstance(operand, str):
        return lambda value: isinstance(value, str) and compare(value, operand)
    if isinstance(operand, (int, float)) and not isinstance(operand, bool):
        return lambda value: type(value) in (int, float) and compare(value, operand)
    raise _bad(where, f"a number or a string was expected, not {_kind(operand)}")


def _some(names: list[str], test: Test) -> Predicate:
    """Whether one of the values at a path passes the test; elements of an array are values of their own."""
    if len(names) > 1:
        return lambda metadata: any(map(test, _values(metadata, names)))
    name = names[0]

    def meets(metadata: Metadata) -> bool:
        value = metadata.get(name, _MISSING)
        return any(map(test, value)) if type(value) is list else test(value)

    return meets


def _values(metadata: Metadata, names: list[str]) -> Iterator[Any]:
    for value in _reached(metadata, names):
        if isinstance(value, list):
            yield from value
        else:
            yield value


def _reached(value: Any, names: list[str]) -> Iterator[Any]:
    """The values at a path: one, or as many as the arrays on the way have elements that are objects."""
    for at, name in enumerate(names):
        if isinstance(value, list):
            for element in value:
                if isinstance(element, dict):
                    yield from _reached(element, names[at:])
            return
        value = value.get(name, _MISSING) if isinstance(value, dict) else _MISSING
    yield value


def _all(parts: list[Predicate]) -> Predicate:
    if len(parts) == 1:
        return parts[0]
    return lambda metadata: all(part(metadata) for part in parts)


def _key(value: Any) -> Any:
    """The key of a value in a set, where true and 1 would be the same, and lists and objects are not allowed."""
    if isinstance(value, bool):
        return (value,)
    if isinstance(value, (list, dict)):
        return _key
    return None if value is _MISSING else value


def _check_value(value: Any, where: str) -> None:
    if isinstance(value, dict):
        raise _bad(where, "a value was expected, not an object: name a member of it by a path, as in author.name")
    if isinstance(value, list):
        raise _bad(where, 'a value was expected, not a list: use {"$in": [...]}')


def _no_operator(name: str, path: str) -> str:
    if name == "$not":
        return f'$not belongs around the path: {{"$not": {{"{path}": ...}}}}'
    if name.startswith("$"):
        return f"no operator; there are {', '.join(_OPERATORS)}"
    return f'an operator was expected; for a member of {path} write "{path}.{name:.100}": ...'


def _kind(value: Any) -> str:
    if isinstance(value, list) and not value:
        return "an empty list"
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _bad(where: str, message: str) -> RpcError:
    return RpcError(ErrorCode.INVALID_PARAMS, f"{where}: {message}")
