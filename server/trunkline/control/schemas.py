"""JSON Schemas that several documents share, and the collection of definitions of one document."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from trunkline_protocol.errors import ERROR_TABLE
from trunkline_protocol.json_schema import Schema

COMPONENTS: Final = "#/components/schemas/"
_LOCAL: Final = "#/$defs/"
_DATA: Final = frozenset({"const", "default", "enum", "example", "examples"})
"""Keywords whose values are data: a ``$ref`` in them is no reference."""

INTEGER: Final[Schema] = {"type": "integer"}
STRING: Final[Schema] = {"type": "string"}
BOOLEAN: Final[Schema] = {"type": "boolean"}
ANY: Final[Schema] = {}


def record(required: Schema, optional: Schema | None = None) -> Schema:
    """The schema of an object with these members; further ones are allowed."""
    return {"type": "object", "properties": required | (optional or {}), "required": list(required)}


def array(items: Schema) -> Schema:
    """The schema of an array of such items."""
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
    """A reference to a schema of the document's components."""
    return {"$ref": COMPONENTS + name}


ID: Final[Schema] = {"anyOf": [STRING, INTEGER, {"type": "null"}]}
ERROR: Final = record(
    {
        "code": {"type": "integer", "description": ", ".join(f"{row.code} {row.name}" for row in ERROR_TABLE.values())},
        "message": STRING,
    },
    {
        "data": record(
            {
                "type": STRING,
                "recovery": {"enum": ["retry", "fallback", "restart_process", "fatal"]},
                "retryable": BOOLEAN,
                "maybe_executed": BOOLEAN,
            },
            {"retry_after_ms": INTEGER, "chunks": INTEGER, "limit": STRING, "traceback": STRING},
        )
    },
)

METADATA: Final = {
    "type": "object",
    "properties": {
        "timeout_ms": {"type": "number", "exclusiveMinimum": 0},
        "priority": {"enum": ["low", "normal", "high"]},
        "progress_token": {"type": ["string", "integer"]},
        "idempotency_key": {"type": "string", "minLength": 1, "maxLength": 256},
        "idempotency_epoch": STRING,
        "window": {"type": "object", "properties": {"items": INTEGER, "bytes": INTEGER}},
        "request_id": STRING,
        "traceparent": STRING,
    },
}

REQUEST: Final = record(
    {"jsonrpc": {"const": "2.0"}, "method": STRING},
    {"id": ID, "params": {"type": ["object", "array"]}, "metadata": METADATA},
)

RESPONSE: Final = {
    "oneOf": [
        record({"jsonrpc": {"const": "2.0"}, "id": ID, "result": ANY}),
        record({"jsonrpc": {"const": "2.0"}, "id": ID, "error": ref("Error")}),
    ]
}


class Components:
    """Collects the definitions of many schemas under ``components.schemas`` of one document.

    References of a catalogue's schema (``#/$defs/Name``) are relative to its own root, so in a document they have to be
    rewritten. Different definitions of one name get numbers.
    """

    def __init__(self, fixed: Schema | None = None) -> None:
        self.schemas: dict[str, Schema] = dict(fixed or {})
        self._names: dict[tuple[str, str], str] = {}
        self._last: tuple[Schema, dict[str, str]] = ({}, {})

    def add(self, schema: Schema) -> Schema:
        """The schema with references to the components instead of definitions of its own."""
        definitions: Schema = schema.get("$defs", {})
        known, names = self._last  # the parameters of a method share their definitions
        if definitions is not known:
            names = self._defined(definitions)
            self._last = definitions, names
        return dict(self._renamed({key: value for key, value in schema.items() if key != "$defs"}, names))

    def _defined(self, definitions: Schema) -> dict[str, str]:
        """The final names of definitions, by their own; they are among the components from now on."""
        names = {name: self._define(name, definitions) for name in definitions}
        for name, final in names.items():
            if final not in self.schemas:
                self.schemas[final] = {}  # reserves the name, for a definition that refers to itself
                self.schemas[final] = self._renamed(definitions[name], names)
        return names

    def _define(self, name: str, definitions: Schema) -> str:
        content = json.dumps({each: definitions[each] for each in sorted(_reachable(name, definitions))})
        known = self._names.get((name, content))
        if known is not None:
            return known
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
        taken = {*self.schemas, *self._names.values()}
        final = next(each for each in (plain, *(f"{plain}_{n}" for n in range(2, len(taken) + 3))) if each not in taken)
        self._names[name, content] = final
        return final

    def _renamed(self, value: Any, names: dict[str, str]) -> Any:
        if isinstance(value, list):
            return [self._renamed(member, names) for member in value]
        if isinstance(value, str):
            name = value.removeprefix(_LOCAL)
            return COMPONENTS + names[name] if value.startswith(_LOCAL) and name in names else value
        if isinstance(value, dict):
            return {key: each if key in _DATA else self._renamed(each, names) for key, each in value.items()}
        return value


def _reachable(name: str, definitions: Schema) -> set[str]:
    """The names of the definitions that a definition refers to, however deep, and its own."""
    found, left = set(), [name]
    while left:
        current = left.pop()
        if current in definitions and current not in found:
            found.add(current)
            left += re.findall(r'"#/\$defs/([^"]+)"', json.dumps(definitions[current]))
    return found
