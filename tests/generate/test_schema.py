"""Each shape of a schema, in both languages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.generate.documents import document, method
from trunkline.generate import GENERATORS
from trunkline.generate.python_types import PythonTypes
from trunkline.generate.schema import SchemaReader
from trunkline.generate.typescript import render
from trunkline_protocol import binary

STRING = {"type": "string"}
INTEGER = {"type": "integer"}
MAYBE = {"anyOf": [STRING, {"type": "null"}]}

SHAPES: list[tuple[Any, str, str]] = [
    # schema, TypeScript, Python
    ({}, "unknown", "Any"),
    (True, "unknown", "Any"),
    (False, "never", "Never"),
    (STRING, "string", "str"),
    (INTEGER, "number", "int"),
    ({"type": "number"}, "number", "float"),
    ({"type": "boolean"}, "boolean", "bool"),
    ({"type": "null"}, "null", "None"),
    ({"type": "file"}, "unknown", "Any"),
    ({"type": "string", "format": "date", "pattern": "x"}, "string", "str"),
    ({"type": ["string", "null"]}, "string | null", "str | None"),
    ({"type": "string", "nullable": True}, "string | null", "str | None"),
    (MAYBE, "string | null", "str | None"),
    ({"oneOf": [STRING, INTEGER]}, "string | number", "str | int"),
    ({"anyOf": [INTEGER, {"type": "number"}]}, "number", "int | float"),
    ({"anyOf": [STRING, {}]}, "unknown", "Any"),
    ({"anyOf": [STRING, False]}, "string", "str"),
    ({"allOf": [STRING]}, "string", "str"),
    ({"allOf": [STRING, {}, {"description": "x"}]}, "string", "str"),
    ({"const": "a"}, '"a"', 'Literal["a"]'),
    ({"const": 1}, "1", "Literal[1]"),
    ({"const": 1.5}, "1.5", "float"),
    ({"const": 2**60}, "number", "int"),
    ({"const": None}, "null", "None"),
    ({"const": []}, "unknown", "Any"),
    ({"enum": ["b", "a", "b"]}, '"b" | "a"', 'Literal["b"] | Literal["a"]'),
    ({"enum": [1, True, None]}, "1 | true | null", "Literal[1] | Literal[True] | None"),
    ({"enum": ['"', "\n"]}, r'"\"" | "\n"', r'Literal["\""] | Literal["\n"]'),
    ({"type": "array"}, "unknown[]", "list[Any]"),
    ({"type": "array", "items": STRING}, "string[]", "list[str]"),
    ({"items": MAYBE}, "(string | null)[]", "list[str | None]"),
    ({"type": "array", "items": {"type": "array", "items": INTEGER}}, "number[][]", "list[list[int]]"),
    ({"prefixItems": [STRING, INTEGER], "minItems": 2, "maxItems": 2}, "[string, number]", "list[str | int]"),
    ({"prefixItems": [STRING, INTEGER], "minItems": 1, "items": False}, "[string, (number)?]", "list[str | int]"),
    ({"prefixItems": [STRING], "minItems": 9, "items": MAYBE}, "[string, ...(string | null)[]]", "list[str | None]"),
    ({"prefixItems": [STRING]}, "[(string)?, ...unknown[]]", "list[Any]"),
    ({"type": "array", "items": [INTEGER], "additionalItems": False}, "[(number)?]", "list[int]"),
    ({"type": "object"}, "Record<string, unknown>", "dict[str, Any]"),
    (binary.SCHEMA, "Uint8Array", "bytes"),
    ({"anyOf": [binary.SCHEMA, binary.BASE64]}, "Uint8Array | string", "bytes | str"),
    ({"type": "object", "additionalProperties": True}, "Record<string, unknown>", "dict[str, Any]"),
    ({"type": "object", "additionalProperties": INTEGER}, "Record<string, number>", "dict[str, int]"),
    ({"type": "object", "additionalProperties": False}, "Record<string, never>", "dict[str, Never]"),
    ({"patternProperties": {"^a": INTEGER, "^b": STRING}}, "Record<string, number | string>", "dict[str, int | str]"),
    ({"$ref": "#/$defs/Id", "$defs": {"Id": STRING}}, "Id", "Id"),
    ({"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": STRING}}, "ABC", "ABC"),
    ({"items": {"$ref": "#/$defs/Nobody"}}, "unknown[]", "list[Any]"),
    ({"$ref": "https://example.org/"}, "unknown", "Any"),
    ({"type": "object", "oneOf": [{"$ref": "#/$defs/A"}, STRING], "$defs": {"A": INTEGER}}, "A | string", "A | str"),
]


@pytest.mark.parametrize(("schema", "typescript", "python"), SHAPES, ids=[str(shape[0])[:60] for shape in SHAPES])
def test_a_shape(schema: Any, typescript: str, python: str) -> None:
    reader = SchemaReader({}, ())
    found = reader.read(schema)
    assert render(found) == typescript
    assert PythonTypes(reader.definitions(), (), ()).hint(found, "place") == python


def generated(language: str, schema: Any) -> str:
    """The file for a method whose only param ``a`` has the schema."""
    return GENERATORS[language](document(method("m", {"a": schema})))


OBJECT = {
    "type": "object",
    "properties": {"id": {"type": "string", "description": "Its name."}, "n": {"type": "integer", "default": 3}},
    "required": ["id", "undescribed"],
}


def test_an_object_in_typescript() -> None:
    assert """\
      a: {
        /**
         * Its name.
         */
        id: string;
        n?: number;
        undescribed: unknown;
      };
""" in generated("typescript", OBJECT)


def test_an_object_in_python() -> None:
    text = generated("python", OBJECT)
    assert "class MParams(TypedDict):\n    a: MParamsA\n" in text
    assert (
        'class MParamsA(TypedDict):\n    id: str\n    """Its name."""\n    n: NotRequired[int]\n    undescribed: Any\n'
        in text
    )


def test_a_title_names_a_typed_dict_wherever_it_stands() -> None:
    point = {"type": "object", "title": "Point", "properties": {"x": {"type": "number"}}, "required": ["x"]}
    other = {"type": "object", "title": "Point", "properties": {"y": {"type": "number"}}}
    text = GENERATORS["python"](document(method("move", {"from": point, "by": point, "other": other}, point)))
    assert text.count("class Point(TypedDict)") == 1
    assert '"other": "PointInput"' in text
    assert "-> Point:" in text


def test_other_properties_beside_named_ones() -> None:
    schema = OBJECT | {"additionalProperties": {"type": "integer"}}
    assert "        [key: string]: unknown;\n      };" in generated("typescript", schema)
    assert "class MParamsA(TypedDict)" in generated("python", schema)


def test_all_of_is_every_property() -> None:
    schema = {
        "allOf": [{"$ref": "#/$defs/Base"}, {"properties": {"b": INTEGER, "a": STRING}, "required": ["a"]}],
        "$defs": {"Base": {"type": "object", "properties": {"a": {}, "c": STRING}}},
    }
    text = generated("python", schema)
    assert "class MParamsA(TypedDict):\n    a: str\n    c: NotRequired[str]\n    b: NotRequired[int]\n" in text
    assert "a: Base & {" in generated("typescript", schema)


def test_all_of_different_things_is_unknown_in_python() -> None:
    assert "a: Any\n" in generated("python", {"allOf": [STRING, INTEGER]})
    assert "a: string & number;\n" in generated("typescript", {"allOf": [STRING, INTEGER]})


TREE = {
    "$defs": {
        "Node": {
            "type": "object",
            "description": "One of many.",
            "properties": {"children": {"items": {"$ref": "#/$defs/Node"}}},
            "required": ["children"],
        }
    },
    "$ref": "#/$defs/Node",
}


def test_definitions_may_contain_themselves() -> None:
    assert "/**\n * One of many.\n */\nexport type Node = {\n  children: Node[];\n};\n" in generated("typescript", TREE)
    assert 'class Node(TypedDict):\n    """One of many."""\n    children: list[Node]\n' in generated("python", TREE)


def test_a_schema_may_refer_to_itself() -> None:
    schema = {"title": "Me", "type": "object", "properties": {"next": {"$ref": "#"}}}
    assert "export type Me = {\n  next?: Me;\n};\n" in generated("typescript", schema)


def test_definitions_of_the_document_are_found() -> None:
    described = document(method("m", {"a": {"$ref": "#/components/schemas/Id"}}))
    described["components"] = {"schemas": {"Id": {"$ref": "#/components/schemas/Real"}, "Real": STRING}}
    text = GENERATORS["typescript"](described)
    assert "export type Id = Real;\n" in text
    assert "export type Real = string;\n" in text


def test_equal_definitions_are_one_and_others_say_where_they_stand() -> None:
    inner_a = {"$ref": "#/$defs/T", "$defs": {"T": {"items": {"$ref": "#/$defs/U"}}, "U": STRING}}
    inner_b = {"$ref": "#/$defs/T", "$defs": {"T": {"items": {"$ref": "#/$defs/U"}}, "U": INTEGER}}
    text = GENERATORS["typescript"](document(method("a", {"x": inner_a, "y": inner_a}), method("b", {"x": inner_b})))
    for line in ("T = U[]", "U = string", "BT = BU[]", "BU = number"):
        assert text.count(f"export type {line};\n") == 1
    assert "T2" not in text


@pytest.mark.parametrize("ring", [{"$ref": "#/$defs/B"}, {"anyOf": [STRING, {"$ref": "#/$defs/B"}]}])
def test_a_definition_that_is_nothing_but_itself_is_unknown(ring: Any) -> None:
    schema = {"$ref": "#/$defs/A", "$defs": {"A": ring, "B": {"allOf": [{"$ref": "#/$defs/A"}]}}}
    text = generated("typescript", schema)
    assert "export type A = unknown;\n" in text
    assert "export type B = unknown;\n" in text
