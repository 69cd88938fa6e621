"""What a type annotation is on the wire: pydantic's schema of it, with forms for bytes, arrays and tables.

pydantic's own form of ``bytes`` is a string, and it has none for arrays. Both are changed in its core schema, which
holds the schemas of all nested models, by :func:`reading`, :func:`checking` and :func:`writing`; and in its JSON
Schema, by :class:`_WireJsonSchema`.
"""

from __future__ import annotations

import functools
import operator
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, cast, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic.warnings import ArbitraryTypeWarning
from pydantic_core import PydanticSerializationUnexpectedValue
from typing_extensions import TypedDict, override

from trunkline_protocol import arrays, binary

Core = dict[str, Any]
"""A core schema of pydantic, or a part of one."""

_NESTED: Final = frozenset({
    "schema", "items_schema", "keys_schema", "values_schema", "fields", "choices", "steps", "definitions", "lax_schema",
    "strict_schema", "json_schema", "python_schema", "arguments_schema", "return_schema", "extras_schema",
    "computed_fields",
})  # fmt: skip
"""Members of core schemas that are, or hold, schemas."""

_NO_KEYS: Final = frozenset({
    "bytes", "none", "nullable", "tuple", "list", "dict", "set", "frozenset", "model", "dataclass", "typed-dict",
    "named-tuple", "is-instance",
})  # fmt: skip
"""What cannot be the key of an object: it would not be read as what it was."""

_DTYPE: Final = "trunkline_dtype"
_WHAT_TO_DO: Final = (
    "Annotate what travels: JSON's types, bytes, datetime, Decimal, UUID, Path, Enum, dataclasses, TypedDicts, "
    "NamedTuples and pydantic models of these, np.ndarray; or give the class a form by pydantic's PlainSerializer, "
    "PlainValidator and WithJsonSchema"
)


# --- core schemas ---


def core_schema(fields: Mapping[str, Any], where: str, config: ConfigDict) -> Core:
    """The core schema of an object with these members, by annotation; ``NotRequired`` ones may be missing.

    Raises:
        TypeError: an annotation has no form on the wire; names ``where``.
    """
    members: Any = TypedDict(where, {name: _with_dtypes(hint) for name, hint in fields.items()})  # type: ignore[misc]
    setattr(members, "__pydantic_config__", ConfigDict(arbitrary_types_allowed=True) | config)  # noqa: B010
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ArbitraryTypeWarning)
            return cast("Core", TypeAdapter(members).core_schema)
    except (PydanticUserError, ArbitraryTypeWarning) as error:
        raise TypeError(f"{where}: {_first_line(error)}. {_WHAT_TO_DO}") from error


def member_schema(members: Core, name: str) -> Core:
    """The core schema of one member of what :func:`core_schema` made."""
    if members["type"] == "definitions":
        return members | {"schema": member_schema(members["schema"], name)}
    return cast("Core", members["fields"][name]["schema"])


def bare(schema: Core) -> Core:
    """A core schema without the definitions that it refers to."""
    return cast("Core", schema["schema"]) if schema["type"] == "definitions" else schema


def nodes(schema: Core) -> Iterator[Core]:
    """A core schema and all that are in it, but for those of serializers."""
    waiting: list[Any] = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict) and not isinstance(node.get("type"), str):
            waiting += node.values()
        elif isinstance(node, dict):
            yield node
            waiting += [value for key, value in node.items() if key in _NESTED]
        elif isinstance(node, (list, tuple)):
            waiting += node


def _rewritten(schema: Core, leaf: Callable[[Core], Core | None]) -> Core:
    """A core schema in which ``leaf`` replaced what it gave a schema for; the same object where that was nothing."""
    found = leaf(schema)
    if found is not None:
        return found
    changed = {key: new for key in _NESTED & schema.keys() if (new := _inside(schema[key], leaf)) is not schema[key]}
    return schema | changed if changed else schema


def _inside(value: Any, leaf: Callable[[Core], Core | None]) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            return _rewritten(value, leaf)
        members = {key: _inside(member, leaf) for key, member in value.items()}
        return members if any(members[key] is not value[key] for key in value) else value
    if isinstance(value, (list, tuple)):
        items = type(value)(_inside(item, leaf) for item in value)
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def reading(schema: Core, *, marked: bool) -> Core:
    """The core schema by which JSON is validated.

    Args:
        marked: there is binary data in it, which may also be where anything may be.
    """

    def leaf(node: Core) -> Core | None:
        kind = node["type"]
        if _has_own_form(node):
            return node
        if kind == "bytes":
            return _before(_bytes_in, node)
        if kind == "union":
            return _text_or_bytes(node, leaf)
        if kind == "is-instance" and (into := _converter(node)) is not None:
            return {"type": "function-plain", "function": _no_info(into)}
        if kind == "generator":  # pydantic would validate its items while the method takes them
            return _rewritten(node | {"type": "list"}, leaf)
        if kind == "any" and marked:
            return {"type": "function-after", "function": _no_info(binary.unwrapped), "schema": {"type": "any"}}
        return _with_items(node, leaf) if marked else None

    return _rewritten(schema, leaf)


def checking(schema: Core) -> Core:
    """The core schema by which what a method gives is held against what it declares."""

    def leaf(node: Core) -> Core | None:
        kind = node["type"]
        if _has_own_form(node):  # its validators are for what it is made of
            return {"type": "any"}
        if kind == "json":
            return _rewritten(node.get("schema", {"type": "any"}), leaf)
        if kind == "bytes":
            return _before(_bytes_out, node | {"strict": True})
        if kind == "is-instance" and (into := _converter(node)) is not None:
            return {"type": "function-plain", "function": _no_info(into)}
        return _rewritten(node | {"type": "list"}, leaf) if kind == "generator" else None

    return _rewritten(schema, leaf)


def writing(schema: Core, plain: Callable[[Any], Any]) -> Core:
    """The core schema by which what a method gives becomes what JSON has.

    Args:
        plain: what makes that of a value of which nothing is declared.
    """
    anything: Core = {"type": "any", "serialization": {"type": "function-plain", "function": plain}}

    def leaf(node: Core) -> Core | None:
        kind = node["type"]
        if _has_own_form(node) or "serialization" in node:
            return node if kind not in ("model", "dataclass") else None
        if kind == "bytes":
            return node | {"serialization": {"type": "function-plain", "function": _member_of}}
        if kind == "any" or (kind == "is-instance" and _converter(node) is not None):
            return anything
        if kind == "generator":
            return _rewritten(node | {"type": "list"}, leaf)
        return _with_items(node, leaf)

    return _rewritten(schema, leaf)


def _text_or_bytes(node: Core, leaf: Callable[[Core], Core | None]) -> Core | None:
    """A union in which text alone is no bytes where text may be meant, too; None for any other."""
    choices = [each[0] if isinstance(each, tuple) else each for each in node["choices"]]
    if all(each["type"] != "str" for each in choices):
        return None
    read = [_before(_member_in, each) if each["type"] == "bytes" else _rewritten(each, leaf) for each in choices]
    return node | {"choices": read}


def _has_own_form(node: Core) -> bool:
    """Whether a type has validators and a serializer of its own, which belong together: pydantic's Base64Bytes."""
    return node["type"].startswith("function") and "serialization" in node


def _with_items(node: Core, leaf: Callable[[Core], Core | None]) -> Core | None:
    """A bare ``list`` or ``dict`` as one of anything."""
    if node["type"] in ("list", "set", "frozenset", "deque", "generator") and "items_schema" not in node:
        return node | {"items_schema": leaf({"type": "any"})}
    if node["type"] == "dict" and "values_schema" not in node:
        return node | {"keys_schema": node.get("keys_schema", {"type": "any"}), "values_schema": leaf({"type": "any"})}
    return None


def _no_info(function: Callable[[Any], Any]) -> Core:
    return {"type": "no-info", "function": function}


def _before(function: Callable[[Any], Any], node: Core) -> Core:
    return {"type": "function-before", "function": _no_info(function), "schema": node}


def _bytes_in(value: Any) -> Any:
    if isinstance(value, str):
        return binary.from_text(value)
    data = binary.from_member(value) if isinstance(value, dict) else None
    return value if data is None else data


def _member_in(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError("text is no binary data")
    return _bytes_in(value)


def _bytes_out(value: Any) -> Any:
    return (
        bytes(value)
        if isinstance(value, (bytearray, memoryview))
        else _bytes_in(value)
        if isinstance(value, dict)
        else value
    )


def _member_of(value: Any) -> Any:
    if not isinstance(value, (bytes, bytearray)):
        raise PydanticSerializationUnexpectedValue(f"bytes are declared, not {type(value).__name__}")
    return binary.to_member(value)


# --- arrays and tables ---


class _ArrayOf:
    """Carries the dtype of ``NDArray[np.float32]``, which pydantic forgets, into the core schema."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = dtype

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Core]) -> Core:
        schema = handler(source)
        return schema | {"metadata": schema.get("metadata", {}) | {_DTYPE: self._dtype}}


def _with_dtypes(hint: Any) -> Any:
    """An annotation in which arrays of a dtype are ones that pydantic keeps that of."""
    numpy: Any = sys.modules.get("numpy")
    origin, args = get_origin(hint), get_args(hint)
    if numpy is None or origin is None:
        return hint
    if origin is numpy.ndarray:
        of = [dtype for dtype in get_args(args[1]) if isinstance(dtype, type) and issubclass(dtype, numpy.generic)]
        concrete = (
            [dtype for dtype in of if numpy.dtype(dtype).kind in "biufcmM"]
            if of and of[0] not in _abstract(numpy)
            else []
        )
        return Annotated[numpy.ndarray, _ArrayOf(concrete[0])] if concrete else numpy.ndarray
    inner = tuple(_with_dtypes(arg) if get_origin(arg) is not None else arg for arg in args)
    if inner == args:
        return hint
    if origin is Annotated:
        return Annotated[inner]
    if origin is types.UnionType:
        return functools.reduce(operator.or_, inner)
    return hint.copy_with(inner) if hasattr(hint, "copy_with") else origin[inner]


def _abstract(numpy: Any) -> tuple[Any, ...]:
    return (
        numpy.generic,
        numpy.number,
        numpy.integer,
        numpy.floating,
        numpy.inexact,
        numpy.signedinteger,
        numpy.unsignedinteger,
    )


def _kind_of_array(node: Core) -> tuple[str, Any] | None:
    """Which kind of array a class is that annotations name: ``array``, ``tensor``, ``table``, ``scalar``."""
    cls = node["cls"]
    if not isinstance(cls, type):
        return None
    numpy, torch, pandas = (cast("Any", sys.modules.get(name)) for name in ("numpy", "torch", "pandas"))
    if numpy is not None and cls is numpy.ndarray:
        return "array", node.get("metadata", {}).get(_DTYPE)
    if (
        numpy is not None
        and issubclass(cls, numpy.generic)
        and numpy.dtype(cls).kind in "biuf"
        and cls not in _abstract(numpy)
    ):
        return "scalar", numpy.dtype(cls)
    if torch is not None and cls is torch.Tensor:
        return "tensor", None
    return ("table", None) if pandas is not None and cls is pandas.DataFrame else None


def _converter(node: Core) -> Callable[[Any], Any] | None:
    """What makes an array of what came for it, and leaves one as it is; None where the class is none of arrays."""
    found = _kind_of_array(node)
    if found is None:
        return None
    kind, dtype = found
    cls = node["cls"]
    if kind == "array":
        return lambda value: arrays.to_array(value, dtype)
    if kind == "scalar":
        return lambda value: value if isinstance(value, cls) else arrays.to_scalar(value, dtype)
    into = arrays.to_tensor if kind == "tensor" else arrays.to_table
    return lambda value: value if isinstance(value, cls) else into(value)


# --- JSON Schema ---


class _WireJsonSchema(GenerateJsonSchema):
    """JSON Schema of what travels, not of what pydantic would make of it."""

    _has_serializer = False

    def _own_config(self, schema: Any, write: Callable[[Any], Core]) -> Core:
        """Name members as they are written: by alias where the model says so, or what it is in."""
        before = self.by_alias, self._has_serializer
        if self.mode == "serialization":
            self.by_alias = bool(schema.get("config", {}).get("serialize_by_alias", False))
        self._has_serializer = "serialization" in schema
        try:
            return write(schema)
        finally:
            self.by_alias, self._has_serializer = before

    @override
    def model_schema(self, schema: Any) -> Core:
        return self._own_config(schema, super().model_schema)

    @override
    def dataclass_schema(self, schema: Any) -> Core:
        return self._own_config(schema, super().dataclass_schema)

    @override
    def typed_dict_schema(self, schema: Any) -> Core:
        written = self._own_config(schema, super().typed_dict_schema)
        if schema.get("config", {}).get("extra_fields_behavior") == "forbid":
            written["additionalProperties"] = False
        return written

    @override
    def field_is_required(self, field: Any, total: bool) -> bool:
        if self.mode == "serialization" and field["type"] != "typed-dict-field" and not self._has_serializer:
            return field.get("serialization_exclude_if") is None  # what has a default is written all the same
        return super().field_is_required(field, total)

    @override
    def bytes_schema(self, schema: Any) -> Core:
        if self.mode == "serialization":
            return dict(binary.SCHEMA)
        return {"anyOf": [binary.SCHEMA, binary.BASE64]}

    @override
    def is_instance_schema(self, schema: Any) -> Core:
        found = _kind_of_array(schema)
        if found is None:
            return super().is_instance_schema(schema)
        kind, dtype = found
        if kind == "scalar":
            return {"type": {"f": "number", "b": "boolean"}.get(dtype.kind, "integer")}
        if kind == "table":
            return {"type": "array", "items": {"type": "object"}}
        lists: list[Core] = [{"type": "array"}, {"type": "number"}]
        return dict(arrays.SCHEMA) if self.mode == "serialization" else {"anyOf": [arrays.SCHEMA, *lists]}

    @override
    def encode_default(self, dft: Any) -> Any:
        return binary.to_member(dft) if isinstance(dft, bytes) else super().encode_default(dft)

    @override
    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Core:
        cls = schema.get("cls") if schema["type"] == "is-instance" else None
        what = error_info.removeprefix("core_schema.") if cls is None else f"{cls.__module__}.{cls.__qualname__}"
        raise PydanticInvalidForJsonSchema(f"{what} has no form on the wire")

    @override
    def complex_schema(self, schema: Any) -> Core:
        return self.handle_invalid_for_json_schema(schema, "complex")

    @override
    def callable_schema(self, schema: Any) -> Core:
        return self.handle_invalid_for_json_schema(schema, "a callable")

    @override
    def is_subclass_schema(self, schema: Any) -> Core:
        return self.handle_invalid_for_json_schema(schema, f"type[{schema['cls'].__name__}]")

    @override
    def dict_schema(self, schema: Any) -> Core:
        keys = schema.get("keys_schema", {}).get("type")
        if keys in _NO_KEYS:
            return self.handle_invalid_for_json_schema(schema, f"a dict whose keys are of type {keys}")
        return super().dict_schema(schema)


def json_schema(schema: Core, where: str, *, written: bool) -> Core:
    """The JSON Schema of a core schema.

    Args:
        written: of what methods give, not of what they take.

    Raises:
        TypeError: it has no form on the wire; names ``where``.
    """
    try:
        return _WireJsonSchema().generate(cast("Any", schema), "serialization" if written else "validation")
    except PydanticInvalidForJsonSchema as error:
        raise TypeError(f"{where}: {_first_line(error)}. {_WHAT_TO_DO}") from error


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].partition(" (it may")[0].rstrip(".")
