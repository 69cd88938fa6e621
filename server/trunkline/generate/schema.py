"""JSON Schema (2020-12, as pydantic and msgspec write it) -> the types of ``schema_types.py``.

Where a schema says more than a type can (patterns, ranges, formats), that is left out; what is not understood is
unknown. The order of what comes out is the order of the document.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import unquote

from trunkline.generate.names import Names, type_name
from trunkline.generate.schema_types import (
    ANY_OBJECT,
    BYTES,
    NEVER,
    NULL,
    UNKNOWN,
    Array,
    Constant,
    Field,
    Intersection,
    Named,
    Object,
    Scalar,
    ScalarKind,
    Sequence,
    Type,
    Union,
    intersection_of,
    union_of,
)  # fmt: skip
from trunkline_protocol.binary import MEMBER

_SCALARS: Final = frozenset({"string", "number", "integer", "boolean", "null"})
_EXACT: Final = 2**53
"""From here on JavaScript cannot represent every integer."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A type that schemas refer to by name."""

    type: Type
    description: str


class SchemaReader:
    """Reads the schemas of one document and collects what they refer to.

    Args:
        document: what references that a schema cannot resolve itself are looked up in.
        reserved: names that definitions must not get.
        before: what has read the same schemas before, so that it is known which definitions have one name.
    """

    def __init__(self, document: Any, reserved: Collection[str], before: SchemaReader | None = None) -> None:
        self._document = document
        self._before = before
        self._given: set[tuple[str, str]] = set()
        self._method = ""
        self._is_given = True
        self._defining: Any = None
        self._names = Names(reserved)
        self._named: dict[tuple[str, str], str] = {}
        self._definitions: dict[str, Definition] = {}

    def definitions(self) -> dict[str, Definition]:
        """The definitions that were referred to, by name. One that is nothing but itself is unknown."""
        types = {name: definition.type for name, definition in self._definitions.items()}
        return {
            name: Definition(UNKNOWN, found.description) if _is_circular(name, types) else found
            for name, found in sorted(self._definitions.items())
        }

    def _candidates(self, key: tuple[str, str]) -> tuple[str, ...]:
        """The names that a definition may get: its own, or where others have that, one that tells them apart."""
        hint = key[0]
        rivals = [] if self._before is None else [other for other in self._before._named if other[0] == hint]
        if self._before is None or len(rivals) < 2:
            return (hint,)
        if len(rivals) == 2 and len(given := self._before._given.intersection(rivals)) == 1:
            # One type, with one form where it is taken and another where it is given: with defaults filled in.
            return (hint if key in given else f"{hint} Input",)
        space = self._method.rpartition(".")[0]
        is_said = type_name(hint).startswith(type_name(space))
        return (hint if is_said or not space else f"{space} {hint}", f"{self._method} {hint}")

    def read(self, schema: Any, method: str = "", *, is_given: bool = True) -> Type:
        """The type of a schema that is the root of its own references.

        Args:
            method: whose schema it is.
            is_given: of what it gives, not of what it takes.
        """
        self._method, self._is_given = method, is_given
        return self._read(schema, schema)

    def _read(self, schema: Any, root: Any) -> Type:
        if schema is False:
            return NEVER
        if not isinstance(schema, dict):
            return UNKNOWN
        parts = [self._own(schema, root)]
        if isinstance(schema.get("$ref"), str):
            parts.append(self._reference(schema["$ref"], root))
        parts += [
            union_of([self._read(member, root) for member in schema[word]])
            for word in ("anyOf", "oneOf")
            if isinstance(schema.get(word), list)
        ]
        parts += [self._read(member, root) for member in _list(schema.get("allOf"))]
        found = intersection_of(parts)
        return union_of([found, NULL]) if schema.get("nullable") is True else found

    def _own(self, schema: dict[str, Any], root: Any) -> Type:
        """The type of a schema without the schemas it is composed of."""
        if "const" in schema:
            return _constant(schema["const"])
        if isinstance(schema.get("enum"), list):
            return union_of([_constant(value) for value in schema["enum"]])
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return union_of([self._of_kind(kind, schema, root) for kind in kinds])
        return self._of_kind(kinds if kinds is not None else _kind_meant(schema), schema, root)

    def _of_kind(self, kind: Any, schema: dict[str, Any], root: Any) -> Type:
        if kind == "object":
            return self._object(schema, root)
        if kind == "array":
            return self._array(schema, root)
        if isinstance(kind, str) and kind in _SCALARS:
            return Scalar(cast("ScalarKind", kind))
        return UNKNOWN

    def _object(self, schema: dict[str, Any], root: Any) -> Type:
        if list(_dict(schema.get("properties"))) == [MEMBER]:
            return BYTES
        title = schema.get("title")
        if isinstance(title, str) and schema.get("properties") and schema is not self._defining:
            return self._define(title, schema, root)
        required = [name for name in _list(schema.get("required")) if isinstance(name, str)]
        extra = self._extra(schema, root)
        fields: dict[str, Field] = {}
        for name, value in _dict(schema.get("properties")).items():
            said = value.get("description") if isinstance(value, dict) else None
            description = said if isinstance(said, str) else ""
            fields[name] = Field(name, self._read(value, root), name in required, description)
        for name in required:
            fields.setdefault(name, Field(name, extra or UNKNOWN, True))
        if not fields and extra is None and schema.get("additionalProperties") is not False:
            return ANY_OBJECT
        return Object(tuple(fields.values()), extra)

    def _extra(self, schema: dict[str, Any], root: Any) -> Type | None:
        others = list(_dict(schema.get("patternProperties")).values())
        if schema.get("additionalProperties", False) is not False:
            others.append(schema["additionalProperties"])
        return union_of([self._read(other, root) for other in others]) if others else None

    def _array(self, schema: dict[str, Any], root: Any) -> Type:
        items = schema.get("items", True)
        prefix = schema.get("prefixItems")
        if isinstance(items, list):  # before 2020-12
            prefix, items = items, schema.get("additionalItems", True)
        if not isinstance(prefix, list) or not prefix:
            return Array(self._read(items, root))
        required = schema.get("minItems")
        is_closed = items is False or schema.get("maxItems") == len(prefix)
        return Sequence(
            tuple(self._read(item, root) for item in prefix),
            min(required, len(prefix)) if isinstance(required, int) and required > 0 else 0,
            None if is_closed else self._read(items, root),
        )

    def _reference(self, reference: str, root: Any) -> Type:
        target = _resolve(reference, root)
        if target is None:
            root = self._document
            target = _resolve(reference, root)
        if target is None:
            return UNKNOWN
        return self._define(
            _title(target) if reference == "#" else _hint(_pointer(reference)[-1], target), target, root
        )

    def _define(self, hint: str, target: Any, root: Any) -> Named:
        key = (hint, _fingerprint(target, root, self._document))
        if self._is_given:
            self._given.add(key)
        if key not in self._named:
            name = self._named[key] = self._names.take(*self._candidates(key))
            said = target.get("description") if isinstance(target, dict) else None
            self._defining = target
            self._definitions[name] = Definition(self._read(target, root), said if isinstance(said, str) else "")
        return Named(self._named[key])


def _kind_meant(schema: dict[str, Any]) -> str | None:
    if schema.keys() & {"properties", "additionalProperties", "patternProperties"}:
        return "object"
    return "array" if schema.keys() & {"items", "prefixItems"} else None


def _constant(value: Any) -> Type:
    match value:
        case None:
            return NULL
        case bool():
            return Constant("boolean", value)
        case str():
            return Constant("string", value)
        case int():
            return Constant("integer", value) if abs(value) < _EXACT else Scalar("integer")
        case float():
            return Constant("number", value) if math.isfinite(value) else Scalar("number")
    return UNKNOWN


def _pointer(reference: str) -> list[str]:
    return [unquote(part).replace("~1", "/").replace("~0", "~") for part in reference.split("/")[1:]]


def _resolve(reference: str, root: Any) -> Any:
    """The value that a JSON pointer (``#/$defs/Point``) points to; None where there is none."""
    if reference != "#" and not reference.startswith("#/"):
        return None
    found = root
    for part in _pointer(reference):
        if isinstance(found, list) and part.isascii() and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(found, dict) and part in found:
            found = found[part]
        else:
            return None
    return found


def _fingerprint(target: Any, *roots: Any) -> str:
    """Equal for definitions that mean the same, whatever schema they stand in."""
    reached: dict[str, Any] = {}
    waiting = [target]
    while waiting:
        for reference in _references(waiting.pop()):
            if reference not in reached:
                found = [_resolve(reference, root) for root in roots]
                reached[reference] = next((each for each in found if each is not None), None)
                waiting.append(reached[reference])
    bare = {key: value for key, value in target.items() if key != "$defs"} if isinstance(target, dict) else target
    return json.dumps([bare, reached], sort_keys=True)


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _is_circular(name: str, types: dict[str, Type]) -> bool:
    """Whether a definition is made of itself, without an object or array in between."""
    seen: set[str] = set()
    waiting = [types[name]]
    while waiting:
        match waiting.pop():
            case Named(other):
                if other == name:
                    return True
                if other not in seen:
                    seen.add(other)
                    waiting.append(types[other])
            case Union(members) | Intersection(members):
                waiting += members
    return False


def _hint(pointed: str, target: Any) -> str:
    """The name of a definition without the number that tells several of that name apart in one document."""
    title = _title(target)
    return title if re.fullmatch(rf"{re.escape(title)}_?\d+", pointed) else pointed


def _title(schema: Any) -> str:
    title = schema.get("title") if isinstance(schema, dict) else None
    return title if isinstance(title, str) else "recursive"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
