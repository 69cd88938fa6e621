"""OpenRPC documents for tests."""

from __future__ import annotations

from typing import Any

HOSTILE = '*/ """ \\ @ts-ignore \u2028 \x00 # type: ignore \ud800 ${x} ` \u202e'
"""Text that would end a comment or string, or hide what stands there."""


def method(
    name: str, params: dict[str, Any] | None = None, result: Any = None, *, summary: str = "", **extension: Any
) -> dict[str, Any]:
    """A method whose params are all required."""
    described = [{"name": key, "required": True, "schema": schema} for key, schema in (params or {}).items()]
    return {
        "name": name,
        "summary": summary,
        "params": described,
        "result": {"name": "result", "schema": {} if result is None else result},
        "x-trunkline": extension,
    }


def document(*methods: dict[str, Any], version: str = "1.2.3") -> dict[str, Any]:
    return {"openrpc": "1.3.2", "info": {"title": "Trunkline", "version": version}, "methods": list(methods)}


def hostile() -> dict[str, Any]:
    """Names, descriptions and schemas that a generator stumbles over if it can stumble."""
    names = ["class", "a-b", "__x", "self", "0", "", "constructor", "__proto__", "é", "with space", 'quote"', "a\nb"]
    builtins = [
        "str",
        "int",
        "list",
        "dict",
        "float",
        "Any",
        "NotRequired",
        "Literal",
        "items",
        "keys",
        "update",
        "get",
    ]
    values = ['x"y', "*/\n\\", "\ud800", "\u2028", "", 1, True, None, 1.5, 2**70, 1e999, {"a": 1}]
    taken = ["Hub", "Methods", "TypedHub", "Any", "None", "Promise", "Stream", "1", "é", "a b"]
    definitions: dict[str, Any] = {name: {"type": "object", "properties": {"a": {"type": "string"}}} for name in taken}
    definitions |= {
        "Loop": {"$ref": "#/$defs/Loop"},
        "Ring": {"anyOf": [{"$ref": "#/$defs/Gnir"}, {"type": "string"}]},
        "Gnir": {"allOf": [{"$ref": "#/$defs/Ring"}]},
        "Nest": {"type": "array", "items": {"$ref": "#/$defs/Nest"}},
    }
    return document(
        method('a"b*/\n\u2028\x00\ud800😀', {name: {"type": "string", "description": HOSTILE} for name in names}),
        method("__proto__", {name: {"type": ["string", "integer"], "title": HOSTILE} for name in builtins}),
        method("constructor", {"value": {"enum": values}}, {"const": "*/"}, summary=HOSTILE),
        method("toString", {name: {"$ref": f"#/$defs/{name}", "$defs": definitions} for name in definitions}),
        method("self", {"root": {"type": "object", "title": "Root", "properties": {"again": {"$ref": "#"}}}}),
        method("", {"nowhere": {"$ref": "#/$defs/Nobody"}, "elsewhere": {"$ref": "https://example.org/schema"}}),
        method("bad", {"a": {"type": "file", "enum": "x", "properties": [], "anyOf": {}, "items": 5, "$ref": 1}}),
        method("any", {}, False, streaming=True, chunk=HOSTILE, input=True, pack=3),
        version=HOSTILE,
    )
