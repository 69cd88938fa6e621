"""Partial matching of JSON, as the conformance cases use it (the JavaScript tests have the same rules).

Objects: every expected key has to match. Arrays: same length, one by one. ``{"$any": true}`` matches all,
``{"$type": "string"}`` by type, ``{"$contains": "text"}`` strings that contain it. Everything else: exactly.
"""

from __future__ import annotations

from typing import Any

TYPES = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def mismatch(expected: Any, actual: Any, path: str = "$") -> str | None:
    """Where and why ``actual`` does not match; None if it does."""
    if isinstance(expected, list):
        return _mismatch_of_array(expected, actual, path)
    if not isinstance(expected, dict):
        same = type_name(expected) == type_name(actual) and expected == actual
        return None if same else _differs(path, expected, actual)
    if "$any" in expected:
        return None
    if "$type" in expected:
        return None if type_name(actual) == expected["$type"] else _differs(path, expected, actual)
    if "$contains" in expected:
        found = isinstance(actual, str) and expected["$contains"] in actual
        return None if found else _differs(path, expected, actual)
    return _mismatch_of_object(expected, actual, path)


def matches_in_any_order(expected: list[Any], actual: list[Any]) -> bool:
    """Whether the expected values can be assigned to the actual ones, one to one."""
    if not expected:
        return not actual
    first, *others = expected
    return any(
        mismatch(first, candidate) is None and matches_in_any_order(others, actual[:index] + actual[index + 1 :])
        for index, candidate in enumerate(actual)
    )


def require(expected: Any, actual: Any) -> None:
    """Fail with the path of the first difference."""
    fault = mismatch(expected, actual)
    assert fault is None, fault


def type_name(value: Any) -> str:
    return next(name for kind, name in TYPES.items() if isinstance(value, kind))


def _mismatch_of_array(expected: list[Any], actual: Any, path: str) -> str | None:
    if not isinstance(actual, list) or len(actual) != len(expected):
        return _differs(path, expected, actual)
    faults = (mismatch(item, actual[index], f"{path}[{index}]") for index, item in enumerate(expected))
    return next((fault for fault in faults if fault is not None), None)


def _mismatch_of_object(expected: dict[str, Any], actual: Any, path: str) -> str | None:
    if not isinstance(actual, dict):
        return _differs(path, expected, actual)
    for key, value in expected.items():
        if key not in actual:
            return f"{path}.{key} is missing in {actual!r:.500}"
        if (fault := mismatch(value, actual[key], f"{path}.{key}")) is not None:
            return fault
    return None


def _differs(path: str, expected: Any, actual: Any) -> str:
    return f"{path}: expected {expected!r}, got {actual!r:.1000}"
