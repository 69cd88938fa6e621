"""What a field of a form becomes, by what the method's schema says: pure."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from trunkline_protocol.binary import BASE64, SCHEMA, to_member
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.form_fields import ANYTHING, MAX_FIELDS, Declared, Field, FormParams, Takes, declared

BYTES: Final = {"anyOf": [SCHEMA, BASE64]}
UPLOAD: Final = {"type": "object", "properties": {"data": BYTES}, "x-upload": True}
NULL: Final = {"type": "null"}


@pytest.mark.parametrize(
    ("schema", "takes"),
    [
        (BYTES, Declared(Takes.BYTES)),
        ({"anyOf": [SCHEMA, BASE64, NULL]}, Declared(Takes.BYTES)),
        ({"anyOf": [BYTES, {"type": "string"}]}, Declared(Takes.BYTES | Takes.TEXT)),
        ({"type": "array", "items": BYTES}, Declared(Takes.BYTES, listed=True)),
        (BASE64, Declared(Takes.TEXT)),  # bytes for JSON alone: {"$bytes": ...} would not fit
        ({"type": "string"}, Declared(Takes.TEXT)),
        ({"type": ["string", "null"]}, Declared(Takes.TEXT)),
        ({"enum": ["a", "b"]}, Declared(Takes.TEXT)),
        ({"const": "a"}, Declared(Takes.TEXT)),
        ({"enum": [1, "a", None]}, Declared(Takes.TEXT | Takes.JSON)),
        ({"anyOf": [{"type": "array", "items": {"type": "string"}}, NULL]}, Declared(Takes.TEXT, listed=True)),
        ({"type": "array", "prefixItems": [{"type": "string"}]}, Declared(Takes.JSON)),
        ({"type": "array", "items": {"type": "number"}}, Declared(Takes.JSON)),
        ({"type": "array", "items": {}}, Declared(Takes.JSON)),
        ({"type": "integer"}, Declared(Takes.JSON)),
        ({"anyOf": [{"type": "boolean"}, NULL]}, Declared(Takes.JSON)),
        (NULL, Declared(Takes.JSON)),
        (UPLOAD, Declared(Takes.UPLOAD)),
        ({"$defs": {"U": UPLOAD}, "anyOf": [{"$ref": "#/$defs/U"}, NULL]}, Declared(Takes.UPLOAD)),
        (
            {"$defs": {"U": UPLOAD}, "items": {"$ref": "#/$defs/U"}, "type": "array"},
            Declared(Takes.UPLOAD, listed=True),
        ),
        ({}, Declared(ANYTHING)),
        ({"description": "anything"}, Declared(ANYTHING)),
        ({"$ref": "#/$defs/gone"}, Declared(ANYTHING)),
        ({"$defs": {"A": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"}, Declared(ANYTHING)),
    ],
)
def test_what_a_schema_takes(schema: dict[str, Any], takes: Declared) -> None:
    assert declared(schema) == takes


def params(takes: Declared | None, *fields: Field) -> Any:
    collected = FormParams("m", None if takes is None else {"x": takes})
    for field in fields:
        collected.expect(field.name)
        collected.add(field)
    return json.loads(collected.encode())


def field(data: bytes, media_type: str = "", filename: str | None = None) -> Field:
    return Field("x", bytearray(data), media_type, filename)


DATA: Final = to_member(b"5")
EITHER: Final = Takes.BYTES | Takes.TEXT


@pytest.mark.parametrize(
    ("takes", "given", "value"),
    [
        (Takes.BYTES, field(b"5"), DATA),
        (Takes.BYTES, field(b"5", "application/json", "a.json"), DATA),  # some clients guess this from the name
        (Takes.BYTES, field(b"5", "text/plain"), DATA),
        (Takes.TEXT, field(b"5"), "5"),
        (Takes.TEXT, field("ß".encode(), "text/plain", "notes.txt"), "ß"),
        (Takes.TEXT, field(b'"5"', "application/json"), "5"),
        (Takes.TEXT, field(b'"5"'), '"5"'),
        (Takes.JSON, field(b" 5 "), 5),
        (Takes.JSON, field(b'{"a":[1]}', "application/octet-stream", "a"), {"a": [1]}),
        (Takes.TEXT | Takes.JSON, field(b"5"), "5"),
        (Takes.TEXT | Takes.JSON, field(b"5", "application/json"), 5),
        (EITHER, field(b"5"), "5"),
        (EITHER, field(b"5", "text/plain", "a.txt"), DATA),
        (EITHER, field(b"5", "application/octet-stream"), DATA),
        (Takes.BYTES | Takes.JSON, field(b"5"), 5),
        (ANYTHING, field(b"5"), "5"),
        (ANYTHING, field(b"5", "application/json", "blob"), 5),
        (ANYTHING, field(b"5", "audio/wav"), DATA),
        (Takes.UPLOAD, field(b"5", "audio/wav", "a.wav"), {"data": DATA, "name": "a.wav", "media_type": "audio/wav"}),
        (Takes.UPLOAD, field(b"5"), {"data": DATA, "name": None, "media_type": None}),
        (Takes.UPLOAD | Takes.TEXT, field(b"5"), "5"),
        (Takes.UPLOAD | Takes.TEXT, field(b"5", "", "a"), {"data": DATA, "name": "a", "media_type": None}),
    ],
)
def test_what_a_field_becomes(takes: Takes, given: Field, value: Any) -> None:
    assert params(Declared(takes), given) == {"x": value}


def test_lists_take_an_item_from_each_field() -> None:
    assert params(Declared(Takes.TEXT, listed=True), field(b"a"), field(b"[]")) == {"x": ["a", "[]"]}
    assert params(Declared(Takes.BYTES, listed=True), field(b"5")) == {"x": [DATA]}
    assert params(None, field(b"5")) == {"x": "5"}


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ann\\a.wav", "a.wav"),
        ("..", None),
        ("folder/", None),
        ("", None),
        ("a\0.wav", "a.wav"),
        ("čevapi.wav", "čevapi.wav"),
    ],
)
def test_a_file_has_no_folders(filename: str, name: str | None) -> None:
    assert params(Declared(Takes.UPLOAD), field(b"", "", filename))["x"]["name"] == name


@pytest.mark.parametrize(
    ("takes", "given", "words"),
    [
        (Takes.JSON, [b"five"], "not valid JSON"),
        (Takes.JSON, [b""], "not valid JSON"),
        (Takes.JSON, [b"1,2"], "not valid JSON"),
        (Takes.JSON, [b'1},"y":{'], "not valid JSON"),
        (Takes.JSON, [b"[" * 100_000], "nested too deeply"),
        (Takes.TEXT, [b"\xff"], "UTF-8"),
        (Takes.JSON, [b'"\xff"'], "UTF-8"),
        (Takes.TEXT, [b"a", b"b"], "given twice"),
    ],
)
def test_what_does_not_fit_is_named(takes: Takes, given: list[bytes], words: str) -> None:
    with pytest.raises(RpcError, match=words) as caught:
        params(Declared(takes), *map(field, given))
    assert caught.value.code == ErrorCode.INVALID_PARAMS
    assert [error["field"] for error in caught.value.data["errors"]] == ["x"]


def test_unknown_names_and_too_many_fields_are_refused_before_their_data() -> None:
    collected = FormParams("m", {"x": Declared(Takes.TEXT, listed=True)})
    with pytest.raises(RpcError, match=r"m: y: there is no such parameter; it takes x"):
        collected.expect("y")
    for _ in range(MAX_FIELDS - 1):
        collected.expect("x")
    with pytest.raises(RpcError, match="1000 fields at most") as caught:
        collected.expect("x")
    assert caught.value.data["limit"] == "form_fields"
