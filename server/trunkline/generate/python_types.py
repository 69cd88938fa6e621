"""Types as Python hints. Objects become TypedDicts, which need names: of their definition, or place."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, assert_never

from trunkline.generate.names import Names, plain_lines, quoted
from trunkline.generate.schema import Definition
from trunkline.generate.schema_types import (
    UNKNOWN,
    Array,
    Constant,
    Field,
    Intersection,
    Named,
    Never,
    Object,
    Scalar,
    Sequence,
    Type,
    Union,
    Unknown,
    intersection_of,
    union_of,
)  # fmt: skip

_SCALARS: Final = {
    "string": "str", "number": "float", "integer": "int", "boolean": "bool", "null": "None", "bytes": "bytes",
}  # fmt: skip
_IDENTIFIER: Final = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*\Z")


class PythonTypes:
    """The types of one module.

    Args:
        definitions: types that others refer to by name.
        reserved: names that no type must get.
        keywords: names that no attribute can have.
    """

    def __init__(
        self, definitions: dict[str, Definition], reserved: Collection[str], keywords: Collection[str]
    ) -> None:
        self._definitions = definitions
        self._keywords = keywords
        self._names = Names({*reserved, *definitions})
        self._named: dict[tuple[Object, str], str] = {}
        self._texts: dict[str, str] = {}
        for name, definition in definitions.items():
            self._define(name, definition)

    def declarations(self) -> list[str]:
        """The declarations that the hints given so far refer to."""
        return list(self._texts.values())

    def alias(self, found: Type, place: str) -> None:
        """Declare a name, that of the place, for a type."""
        self._alias(self._names.take(place), found, "")

    def hint(self, found: Type, place: str) -> str:
        """A type as it is written in an annotation. ``place`` names the objects in it that have no title."""
        match found:
            case Array(item):
                return f"list[{self.hint(item, f'{place} item')}]"
            case Sequence(items, _, rest):
                # What JSON makes of it is a list, and lists have one type of items.
                every = union_of([*items, *([] if rest is None else [rest])])
                return f"list[{self.hint(every, f'{place} item')}]"
            case Object():
                return self._object(found, place)
            case Union(members):
                return " | ".join(dict.fromkeys(self.hint(member, place) for member in members))
            case Intersection():
                return self.hint(self._merged(found) or UNKNOWN, place)
        return _simple(found)

    def _object(self, found: Object, place: str) -> str:
        if not found.fields:
            return f"dict[str, {'Never' if found.extra is None else self.hint(found.extra, f'{place} value')}]"
        # They are named by their place alone: what stands elsewhere does not rename them.
        key = (found, place)
        if key not in self._named:
            name = self._named[key] = self._names.take(place)
            self._texts[name] = ""  # its place, before those that it contains
            self._texts[name] = self._typed_dict(name, found.fields, "")
        return self._named[key]

    def _define(self, name: str, definition: Definition) -> None:
        found = definition.type
        if isinstance(found, Intersection):
            found = self._merged(found) or UNKNOWN
        if isinstance(found, Object) and found.fields:
            self._texts[name] = self._typed_dict(name, found.fields, definition.description)
        else:
            self._alias(name, found, definition.description)

    def _alias(self, name: str, found: Type, description: str) -> None:
        text = f"{name}: TypeAlias = {quoted(self.hint(found, f'{name} value'))}\n"
        self._texts[name] = text + docstring(description, "")

    def _typed_dict(self, name: str, fields: tuple[Field, ...], description: str) -> str:
        hints = {field.name: self.hint(field.type, f"{name} {field.name}") for field in fields}
        for field in fields:
            if not field.required:
                hints[field.name] = f"NotRequired[{hints[field.name]}]"
        words = set(re.findall(r"\w+", " ".join(hints.values())))
        # A field that is called like a type would hide it from the fields after it.
        if all(_IDENTIFIER.match(key) and key not in self._keywords and key not in words for key in hints):
            lines = [
                f"    {field.name}: {hints[field.name]}\n{docstring(field.description, '    ')}" for field in fields
            ]
            return f"class {name}(TypedDict):\n{docstring(description, '    ')}{''.join(lines)}"
        pairs = "".join(f"    {quoted(key)}: {quoted(hint)},\n" for key, hint in hints.items())
        return f'{name} = TypedDict("{name}", {{\n{pairs}}})\n{docstring(description, "")}'

    def _merged(self, found: Type) -> Object | None:
        """All the properties of an intersection of objects; None if something else is part of it."""
        match found:
            case Object():
                return found
            case Named(name):
                return self._merged(self._definitions[name].type)
            case Intersection(members):
                parts = [self._merged(member) for member in members]
                objects = [part for part in parts if part is not None]
                return _merge(objects) if len(objects) == len(parts) else None
        return None


def _merge(parts: list[Object]) -> Object:
    fields: dict[str, Field] = {}
    for field in (field for part in parts for field in part.fields):
        other = fields.get(field.name, field)
        fields[field.name] = Field(
            field.name,
            intersection_of([other.type, field.type]),
            other.required or field.required,
            other.description or field.description,
        )
    return Object(tuple(fields.values()), next((part.extra for part in parts if part.extra is not None), None))


def docstring(text: str, indent: str) -> str:
    """A text as a docstring; empty for an empty text. Whatever the text says, it cannot end the docstring."""
    lines = [line.replace("\\", "\\\\").replace('"', '\\"') for line in plain_lines(text)]
    if not lines:
        return ""
    last = f"\n{indent}" if len(lines) > 1 else ""
    body = "\n".join(f"{indent}{line}".rstrip() for line in lines).lstrip()
    return f'{indent}"""{body}{last}"""\n'


def _simple(found: Unknown | Never | Scalar | Constant | Named) -> str:
    match found:
        case Unknown():
            return "Any"
        case Never():
            return "Never"
        case Scalar(kind):
            return _SCALARS[kind]
        case Constant("number", _):  # Literal knows no floats
            return "float"
        case Constant(_, value):
            return f"Literal[{quoted(value) if isinstance(value, str) else repr(value)}]"
        case Named(name):
            return name
    assert_never(found)
