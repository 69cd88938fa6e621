"""JSON Schemas that callees tell of their methods: what is refused, and what becomes of the others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.openrpc import discover
from trunkline.control.openapi import openapi
from trunkline.edge.http.mcp_tools import tool
from trunkline.generate import GENERATORS
from trunkline.hub.callee_schemas import MAX_LEVELS, MAX_MEMBERS, MAX_SCHEMA_BYTES, described
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_messages import RegisterParams

TEXT = {"type": "object", "properties": {"text": {"type": "string"}, "loud": {"type": "boolean"}}, "required": ["text"]}
TREE = {
    "title": "Tree",
    "type": "object",
    "properties": {"name": {"type": "string"}, "under": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["name", "under"],
}

HALF = "x" * (MAX_SCHEMA_BYTES // 2)


def registered(params: dict[str, Any] | None = None, result: dict[str, Any] | None = None) -> MethodInfo:
    return described(RegisterParams("text.shout", params=params, result=result))


def typescript(info: MethodInfo) -> str:
    return " ".join(GENERATORS["typescript"](discover([info])).partition("interface Methods {")[2].split())


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("params", "result", "words"),
    [
        ({"type": "array"}, None, "params: type is 'array'"),
        ({"properties": []}, None, "properties has to be an object"),
        ({"required": {}}, None, "required a list"),
        ({"properties": {f"p{n}": {} for n in range(MAX_MEMBERS + 1)}}, None, "65 properties"),
        ({"required": [f"p{n}" for n in range(MAX_MEMBERS + 1)]}, None, "65 properties"),
        (None, {"$defs": {f"d{n}": {} for n in range(MAX_MEMBERS)}}, "result: 64 definitions"),
        (None, {"$defs": {"d": True}}, r"result: \$defs"),
        (None, {"$ref": "#/$defs/Gone"}, r"result: \$ref '#/\$defs/Gone' leads nowhere"),
        (None, {"$ref": "https://example.org/schema.json"}, "leads nowhere"),
        ({"properties": {"a": {"items": {"$ref": "#/definitions/A"}}}, "definitions": {"A": {}}}, None, "nowhere"),
        ({"properties": {"$ref": {"$ref": "#/$defs/B"}}}, None, "B' leads nowhere"),
        (None, nested(MAX_LEVELS + 1), "more than 112 objects and lists"),
        ({"description": HALF}, {"description": HALF}, "the limit is 65536"),
    ],
)  # fmt: skip
def test_what_documents_cannot_have_is_refused(
    params: dict[str, Any] | None, result: dict[str, Any] | None, words: str
) -> None:
    with pytest.raises(RpcError, match=f"text.shout: .*{words}") as refusal:
        registered(params, result)
    assert refusal.value.code == ErrorCode.INVALID_PARAMS


def test_the_largest_that_fit_are_taken() -> None:
    room = MAX_SCHEMA_BYTES - len('{"description":""}')
    assert registered(None, {"description": "x" * room}).result["description"] == "x" * room
    assert registered({"properties": {f"p{n}": {} for n in range(MAX_MEMBERS)}}).parameters[-1].name == "p63"
    assert registered(None, nested(MAX_LEVELS)).result == nested(MAX_LEVELS)


def test_a_name_or_a_value_that_looks_like_a_reference_is_none() -> None:
    schema = {"properties": {"$ref": {"type": "string"}, "how": {"const": {"$ref": "#/nowhere"}}}}
    assert [each.name for each in registered(schema).parameters] == ["$ref", "how"]


def test_every_document_shows_params_and_result() -> None:
    info = registered(TEXT, {"type": "string"})
    (method,) = discover([info])["methods"]
    assert [(each["name"], each["required"]) for each in method["params"]] == [("text", True), ("loud", False)]
    assert (method["paramStructure"], method["result"]["schema"]) == ("by-name", {"type": "string"})
    operation = openapi([info])["paths"]["/api/v1/text/shout"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert body == {**TEXT, "additionalProperties": False}
    assert operation["responses"]["200"]["content"]["application/json"]["schema"] == {"type": "string"}
    assert tool(info).input_schema == {**TEXT, "additionalProperties": False}
    assert "params: { text: string; loud?: boolean; }; result: string; };" in typescript(info)
    python = GENERATORS["python"](discover([info]))
    assert "text: str" in python
    assert "-> str" in python


@pytest.mark.parametrize(
    ("params", "written"),
    [
        (None, "params: Record<string, unknown>;"),
        ({"type": "object"}, "params: Record<string, unknown>;"),
        ({"type": "object", "properties": {}}, "params: Record<string, never>;"),
        ({"additionalProperties": False}, "params: Record<string, never>;"),
        ({**TEXT, "additionalProperties": True}, "params: { text: string; loud?: boolean; [key: string]: unknown; };"),
        ({**TEXT, "anyOf": [TEXT, TREE]}, "params: { text: string; loud?: boolean; [key: string]: unknown; };"),
        ({"required": ["id"]}, "params: { id: unknown; [key: string]: unknown; };"),
    ],
)
def test_params_that_are_not_all_named_are_open(params: dict[str, Any] | None, written: str) -> None:
    info = registered(params)
    assert written in typescript(info)
    assert tool(info).input_schema["additionalProperties"] is ("unknown" in written)
    body = openapi([info])["paths"]["/api/v1/text/shout"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    assert body.get("additionalProperties", True) is ("unknown" in written)


def test_a_schema_that_refers_to_itself_is_a_component() -> None:
    info = registered(TREE, TREE)
    found = discover([info])
    (method,) = found["methods"]
    assert method["result"]["schema"]["properties"]["under"]["items"] == {"$ref": "#/components/schemas/Tree"}
    assert found["components"]["schemas"]["Tree"]["properties"]["under"]["items"] == {
        "$ref": "#/components/schemas/Tree"
    }
    assert "params: { name: string; under: Tree[]; }" in typescript(info)


def test_definitions_of_two_methods_that_differ_have_two_names() -> None:
    def method(name: str, kind: str) -> MethodInfo:
        schema = {
            "properties": {"a": {"$ref": "#/$defs/Item"}, "b": {"$ref": "#/$defs/Item"}},
            "$defs": {"Item": {"type": kind}},
        }
        return described(RegisterParams(name, params=schema))

    components = discover([method("a.one", "string"), method("a.two", "number")])["components"]["schemas"]
    assert components == {"Item": {"type": "string"}, "Item_2": {"type": "number"}}
