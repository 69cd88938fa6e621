"""What callees say of their params and results: JSON Schemas, checked and bounded, as the catalogue has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from trunkline.hub.callees import ServedMethod
from trunkline_protocol.catalogue import CLIENT_PACK, MethodInfo, Parameter
from trunkline_protocol.depth import MAX_DEPTH
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_messages import RegisterParams
from trunkline_protocol.json_schema import Schema
from trunkline_protocol.tenants import tenant_and_name

MAX_SCHEMA_BYTES: Final = 64 * 2**10
"""JSON of one registration's schemas together."""

MAX_SCHEMA_BYTES_OF_TENANT: Final = 2**20
"""JSON of all schemas that are registered in a tenant: each document for it has them all."""

MAX_SCHEMA_BYTES_IN_ALL: Final = 16 * 2**20
"""The same, of all tenants."""

MAX_MEMBERS: Final = 64
"""Parameters of a method, and definitions of a schema: documents compare each with each."""

MAX_LEVELS: Final = MAX_DEPTH - 16
"""Objects and lists in each other: documents have schemas some levels below their root."""

_LOCAL: Final = "#/$defs/"
_DATA: Final = frozenset({"const", "default", "enum", "example", "examples"})
_NAMED: Final = frozenset({"properties", "patternProperties", "$defs", "dependentSchemas"})
"""Keywords whose members have names of the schema's author, not of JSON Schema."""

_SAYS_MORE: Final = frozenset({"$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties"})
"""Keywords by which params may have members that ``properties`` does not name."""

_encode: Final = msgspec.json.Encoder().encode


def schema_bytes(params: RegisterParams) -> int:
    """The length of a registration's schemas as JSON, in bytes; 0 without any."""
    return sum(len(_encode(schema)) for schema in (params.params, params.result) if schema is not None)


def require_schema_room(served: Mapping[str, ServedMethod], key: str, size: int) -> None:
    """Check that there is room for the schemas of one more method.

    Args:
        served: the methods that are registered, by their keys.
        key: of the method, which may be one of them.
        size: of its schemas, in bytes of JSON.

    Raises:
        RpcError: 2003, there is none.
    """
    tenant, name = tenant_and_name(key)
    own = whole = 0
    for other, method in served.items():
        if other != key and method.schema_bytes:
            whole += method.schema_bytes
            own += method.schema_bytes if tenant_and_name(other)[0] == tenant else 0
    if own + size > MAX_SCHEMA_BYTES_OF_TENANT:
        words = f"of a tenant may have {MAX_SCHEMA_BYTES_OF_TENANT} bytes, {own} are taken"
    elif whole + size > MAX_SCHEMA_BYTES_IN_ALL:
        words = f"of all tenants may have {MAX_SCHEMA_BYTES_IN_ALL} bytes"
    else:
        return
    words = f"method.register: the JSON Schemas of all methods {words}: register {name} without"
    raise RpcError(ErrorCode.RESOURCE_EXHAUSTED, words)


def described(params: RegisterParams) -> MethodInfo:
    """The catalogue entry of a method as its callee registers it.

    Raises:
        RpcError: -32602, a schema is too large, or not one that the hub's documents can have; the message names it.
    """
    if (size := schema_bytes(params)) > MAX_SCHEMA_BYTES:
        words = f"params and result are {size} bytes of JSON Schema, the limit is {MAX_SCHEMA_BYTES}: leave parts out"
        raise _invalid(params.method, words)
    taken = {} if params.params is None else _complete(params.method, "params", params.params)
    return MethodInfo(
        params.method,
        params.summary,
        CLIENT_PACK,
        params.streaming,
        idempotent=params.idempotent,
        timeout_ms=params.timeout_ms,
        parameters=_parameters(params.method, taken),
        result={} if params.result is None else _complete(params.method, "result", params.result),
        open=_is_open(taken),
    )


def _parameters(method: str, schema: Schema) -> list[Parameter]:
    if schema.get("type", "object") != "object":
        raise _invalid(method, f"params: type is {schema['type']!r:.60}, params are an object")
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        raise _invalid(method, "params: properties has to be an object, required a list")
    if (count := max(len(properties), len(required))) > MAX_MEMBERS:
        raise _invalid(method, f"params: {count} properties, the limit is {MAX_MEMBERS}")
    shared = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    anything: Schema = {name: {} for name in required if isinstance(name, str)}
    return [
        Parameter(name, _as_object(each) | shared, name in required) for name, each in (anything | properties).items()
    ]


def _as_object(schema: Any) -> Schema:
    """A schema without the short forms ``true`` and ``false``."""
    return schema if isinstance(schema, dict) else {"not": {}} if schema is False else {}


def _is_open(schema: Schema) -> bool:
    says_more = schema.get("additionalProperties", False) is not False or not _SAYS_MORE.isdisjoint(schema)
    return says_more or ("properties" not in schema and "additionalProperties" not in schema)


def _complete(method: str, what: str, schema: Schema) -> Schema:
    """A schema whose references all lead to its own ``$defs``: documents have it somewhere below their root.

    Raises:
        RpcError: -32602, it refers to something else, or is too deep, or has too many definitions.
    """
    if _levels(schema) > MAX_LEVELS:
        raise _invalid(method, f"{what}: more than {MAX_LEVELS} objects and lists in each other")
    definitions = schema.get("$defs", {})
    if not isinstance(definitions, dict) or not all(isinstance(each, dict) for each in definitions.values()):
        raise _invalid(method, f"{what}: $defs has to be an object of schemas")
    if len(definitions) >= MAX_MEMBERS:
        raise _invalid(method, f"{what}: {len(definitions)} definitions, the limit is {MAX_MEMBERS - 1}")
    references = set(_references(schema))
    for reference in sorted(references - {"#"}):
        if not reference.startswith(_LOCAL) or reference.removeprefix(_LOCAL) not in definitions:
            raise _invalid(method, f"{what}: $ref {reference!r:.100} leads nowhere: refer to {_LOCAL}NAME, or to #")
    bare = {key: value for key, value in schema.items() if key not in {"$schema", "$id"}}
    if "#" not in references:
        return bare
    title = title if isinstance(title := schema.get("title"), str) and title.isidentifier() else "Root"
    name = next(
        each for each in (title, *(f"{title}_{n}" for n in range(2, MAX_MEMBERS + 2))) if each not in definitions
    )
    moved: Schema = _moved(bare, _LOCAL + name)
    own = {key: value for key, value in moved.items() if key != "$defs"}
    return own | {"$defs": moved.get("$defs", {}) | {name: own}}


def _references(schema: Any) -> Iterator[str]:
    """What the references of a schema lead to; of names and data that look like references, nothing."""
    if isinstance(schema, list):
        for each in schema:
            yield from _references(each)
    elif isinstance(schema, dict):
        if isinstance(reference := schema.get("$ref"), str):
            yield reference
        for key, each in schema.items():
            if key in _NAMED and isinstance(each, dict):
                yield from _references(list(each.values()))
            elif key not in _DATA:
                yield from _references(each)


def _moved(schema: Any, root: str) -> Any:
    """A schema that refers to ``root`` where it referred to itself."""
    if isinstance(schema, list):
        return [_moved(each, root) for each in schema]
    if not isinstance(schema, dict):
        return schema
    moved: Schema = {}
    for key, each in schema.items():
        if key == "$ref" and each == "#":
            moved[key] = root
        elif key in _NAMED and isinstance(each, dict):
            moved[key] = {name: _moved(member, root) for name, member in each.items()}
        else:
            moved[key] = each if key in _DATA else _moved(each, root)
    return moved


def _levels(value: Any) -> int:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_levels, members), default=0) if isinstance(value, (dict, list)) else 0


def _invalid(method: str, words: str) -> RpcError:
    return RpcError(ErrorCode.INVALID_PARAMS, f"method.register: {method:.200}: {words}")
