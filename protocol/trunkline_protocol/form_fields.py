"""Form fields as params: what a method's schemas say that a field of a form, or of a query, stands for. Pure.

The rule (SPEC.md, Forms): a parameter that declares bytes takes a field's bytes, whatever it is called. Else a field of
``Content-Type: application/json`` is JSON; else a parameter that declares text takes the field's text; else it is JSON.
"""

from __future__ import annotations

import base64
import enum
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from trunkline_protocol.binary import MEMBER
from trunkline_protocol.errors import ErrorCode, RpcError

JSON: Final = "application/json"
FORM: Final = "multipart/form-data"
OCTETS: Final = "application/octet-stream"

MAX_FIELDS: Final = 1_000
"""Fields of one form and its query together."""

UPLOAD_MARK: Final = "x-upload"
"""A member of the schema of an object ``{data, name, media_type}``, whose parameter takes a file with its name."""

_MAX_REFERENCES: Final = 16
_encode: Final = msgspec.json.Encoder().encode
_raw_decoder: Final = msgspec.json.Decoder(msgspec.Raw)


class Takes(enum.Flag):
    """What a parameter declares: any of these."""

    BYTES = enum.auto()
    TEXT = enum.auto()
    JSON = enum.auto()
    UPLOAD = enum.auto()
    BASE64 = enum.auto()
    """Base64 alone, which is how bytes may be given as text."""


ANYTHING: Final = Takes.BYTES | Takes.TEXT | Takes.JSON
NOTHING: Final = Takes(0)
_FILES: Final = (Takes.BYTES, Takes.UPLOAD)


class Declared(msgspec.Struct, frozen=True):
    """What a parameter takes; where it is ``listed``, a list of that, an item from each field of its name."""

    takes: Takes
    listed: bool = False

    @property
    def is_file(self) -> bool:
        """Whether it is one file: bytes, or an upload, and nothing else."""
        return self.takes in _FILES and not self.listed


class Field(msgspec.Struct):
    """A field as it came.

    Attributes:
        media_type: in lower case, without parameters; empty where it says none.
        filename: None where it has none.
    """

    name: str
    data: bytearray
    media_type: str = ""
    filename: str | None = None

    @property
    def is_file(self) -> bool:
        """Whether it says itself that it is a file: by a filename, or by a type that is neither text nor JSON."""
        return self.media_type != JSON and (self.filename is not None or self.media_type not in ("", "text/plain"))


def declared(schema: Mapping[str, Any]) -> Declared:
    """What the parameter of a schema takes."""
    definitions = schema.get("$defs", {})
    takes = _takes(schema, definitions, _MAX_REFERENCES)
    if takes is Takes.JSON and (items := _items(schema, definitions, _MAX_REFERENCES)) is not None:
        of = _takes(items, definitions, _MAX_REFERENCES)
        if of in (*_FILES, Takes.TEXT):
            return Declared(of, listed=True)
    return Declared(takes)


def _takes(schema: Any, definitions: Mapping[str, Any], left: int) -> Takes:
    found = _found(schema, definitions, left)
    if Takes.BASE64 in found:
        found = found & ~Takes.BASE64 | (NOTHING if Takes.BYTES in found else Takes.TEXT)
    return found or Takes.JSON


def _found(schema: Any, definitions: Mapping[str, Any], left: int) -> Takes:
    if not isinstance(schema, dict) or left == 0:
        return ANYTHING
    if UPLOAD_MARK in schema:
        return Takes.UPLOAD
    kinds = schema.get("type")
    if kinds is not None:
        return _any_of(_typed(kind, schema) for kind in (kinds if isinstance(kinds, list) else [kinds]))
    if (reference := schema.get("$ref")) is not None:
        return _found(definitions.get(str(reference).rpartition("/")[2]), definitions, left - 1)
    for either in ("anyOf", "oneOf", "allOf"):
        if either in schema:
            return _any_of(_found(choice, definitions, left - 1) for choice in schema[either])
    values = schema["enum"] if "enum" in schema else [schema["const"]] if "const" in schema else None
    if values is None:
        return ANYTHING
    return _any_of(Takes.TEXT if isinstance(value, str) else Takes.JSON for value in values if value is not None)


def _any_of(found: Iterable[Takes]) -> Takes:
    takes = NOTHING
    for one in found:
        takes |= one
    return takes


def _typed(kind: object, schema: Mapping[str, Any]) -> Takes:
    if kind == "string":
        return Takes.BASE64 if schema.get("contentEncoding") == "base64" else Takes.TEXT
    if kind == "object" and MEMBER in schema.get("properties", {}):
        return Takes.BYTES
    return NOTHING if kind == "null" else Takes.JSON


def _items(schema: Any, definitions: Mapping[str, Any], left: int) -> Any:
    """The schema of the items of a list, or of a list or null; None for anything else."""
    if not isinstance(schema, dict) or left == 0:
        return None
    if "$ref" in schema:
        return _items(definitions.get(str(schema["$ref"]).rpartition("/")[2]), definitions, left - 1)
    if "anyOf" in schema:
        others = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
        return _items(others[0], definitions, left - 1) if len(others) == 1 else None
    return schema.get("items") if schema.get("type") == "array" and "prefixItems" not in schema else None


class FormParams:
    """Collects the params of one call, field by field, as JSON.

    Args:
        method: the name, for the words of errors.
        parameters: what each of them takes; None where the method does not say which it has.
    """

    def __init__(self, method: str, parameters: Mapping[str, Declared] | None) -> None:
        self._method = method
        self._parameters = parameters
        self._values: dict[str, list[bytes]] = {}
        self._count = 0

    def expect(self, name: str) -> None:
        """Check a field's name and number before its data have arrived.

        Raises:
            RpcError: -32602 that names the field; 2003 with the limit ``form_fields``, there are too many.
        """
        self._count += 1
        if self._count > MAX_FIELDS:
            words = f"a form has {MAX_FIELDS} fields at most"
            raise RpcError(ErrorCode.INVALID_REQUEST, words, data={"limit": "form_fields"})
        found = self._declared(name)
        if name in self._values and not found.listed:
            raise self._bad(name, "it is given twice; a list of anything but text or bytes is one field of JSON")
        self._values.setdefault(name, [])

    def add(self, field: Field) -> None:
        """Take a field whose name was expected.

        Raises:
            RpcError: -32602 that names the field.
        """
        self._values[field.name].append(self._value(field, self._declared(field.name).takes))

    def encode(self) -> bytes:
        """The params, a JSON object."""
        members = [
            b"%b:%b" % (_encode(name), b"[%b]" % b",".join(values) if self._declared(name).listed else values[0])
            for name, values in self._values.items()
        ]
        return b"{%b}" % b",".join(members)

    def _declared(self, name: str) -> Declared:
        if self._parameters is None:
            return Declared(ANYTHING)
        found = self._parameters.get(name)
        if found is None:
            raise self._bad(name, f"there is no such parameter; it takes {', '.join(self._parameters) or 'none'}")
        return found

    def _value(self, field: Field, takes: Takes) -> bytes:
        if takes & Takes.UPLOAD and (takes is Takes.UPLOAD or field.is_file):
            return b'{"data":%b,"name":%b,"media_type":%b}' % (
                _member(field.data), _encode(_base_name(field.filename)), _encode(field.media_type or None),
            )  # fmt: skip
        if takes & Takes.BYTES and (takes is Takes.BYTES or field.is_file):
            return _member(field.data)
        try:
            text = field.data.decode()
        except UnicodeDecodeError:
            raise self._bad(field.name, "it is text or JSON, and has to be UTF-8") from None
        if field.media_type != JSON and takes & Takes.TEXT:
            return _encode(text)
        try:
            _raw_decoder.decode(field.data)
        except RecursionError:
            raise self._bad(field.name, "the JSON is nested too deeply") from None
        except msgspec.DecodeError as error:
            raise self._bad(field.name, f"not valid JSON: {error}") from None
        return bytes(field.data)

    def _bad(self, name: str, words: str) -> RpcError:
        errors = [{"field": name[:200], "message": words}]
        return RpcError(ErrorCode.INVALID_PARAMS, f"{self._method}: {name:.200}: {words}", data={"errors": errors})


def _member(data: bytearray) -> bytes:
    return b'{"$bytes":"%b"}' % base64.b64encode(data)


def _base_name(filename: str | None) -> str | None:
    """A filename without the folders that some clients put before it; None where nothing is left."""
    name = (filename or "").replace("\\", "/").rpartition("/")[2].replace("\0", "")
    return None if name in ("", ".", "..") else name
