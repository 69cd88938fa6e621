"""An OpenRPC document, as far as a client has to know it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from trunkline.generate.schema import Definition, SchemaReader
from trunkline.generate.schema_types import UNKNOWN, Field, Object, Type
from trunkline_protocol.catalogue import CLIENT_PACK
from trunkline_protocol.error_data import common_schema, schemas_by_code
from trunkline_protocol.errors import ERROR_TABLE
from trunkline_protocol.hub_methods import METHODS

CLIENTS_OWN: Final = frozenset(row.name for row in METHODS.values() if row.is_clients_own)
"""What the clients themselves say to a hub; called by hand it would act behind the client's back."""


HUB: Final = "hub."
"""Stands for the method that the hub's own errors are of: their types are named after it where methods have some of the
same name."""


class DocumentError(ValueError):
    """The input is not an OpenRPC document; the message says where."""


@dataclass(frozen=True, slots=True)
class Error:
    """An error that a method declares: its code, and what its data have, None = nothing of their own."""

    code: int
    data: Type | None


@dataclass(frozen=True, slots=True)
class Method:
    """One method. ``chunk`` is None unless it streams, ``item`` unless it takes a stream.

    ``chunks`` is the data by chunk type; empty where chunks of any type may come.
    """

    name: str
    summary: str
    params: Object
    result: Type
    chunk: Type | None
    item: Type | None
    chunks: dict[str, Type]
    errors: list[Error]

    @property
    def params_required(self) -> bool:
        """Whether a call of the method has to give params."""
        return any(field.required for field in self.params.fields)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic, or a pattern of topics, and what its events carry."""

    pattern: str
    summary: str
    data: Type


@dataclass(frozen=True, slots=True)
class Document:
    """The methods of a hub by name, the errors that any of them may end with, and the types they share.

    ``error_data`` is what ``error.data`` has in each of them.
    """

    version: str
    methods: list[Method]
    errors: list[Error]
    error_data: Type
    topics: list[Topic]
    definitions: dict[str, Definition]


def narrowed(document: Any, include: Collection[str], exclude: Collection[str]) -> Any:
    """A decoded OpenRPC document without the methods that are left out.

    Args:
        include: patterns of names (``text.*``); with none, all.
        exclude: patterns of names that are left out of those.
    """
    if not isinstance(document, dict) or not isinstance(methods := document.get("methods"), list):
        return document  # which whoever reads it says

    def is_wanted(described: Any) -> bool:
        name = described.get("name") if isinstance(described, dict) else None
        if not isinstance(name, str):
            return True
        is_included = not include or any(fnmatchcase(name, pattern) for pattern in include)
        return is_included and not any(fnmatchcase(name, pattern) for pattern in exclude)

    return document | {"methods": [described for described in methods if is_wanted(described)]}


def read_document(document: Any, reserved: Collection[str]) -> Document:
    """Read a decoded OpenRPC document.

    Args:
        reserved: names that definitions must not get.

    Raises:
        DocumentError: this is not an OpenRPC document, or it is nested too deeply.
    """
    if not isinstance(document, dict) or not isinstance(document.get("openrpc"), str):
        raise DocumentError("this is no OpenRPC document: it has no member 'openrpc'")
    methods = document.get("methods")
    if not isinstance(methods, list):
        raise DocumentError("this OpenRPC document has no list of methods")
    try:
        first = SchemaReader(document, reserved)
        _read_all(methods, first)
        reader = SchemaReader(document, reserved, first)
        by_name, errors, data = _read_all(methods, reader)
    except RecursionError:
        raise DocumentError("this document is nested too deeply") from None
    kept = [by_name[name] for name in sorted(by_name) if name not in CLIENTS_OWN]
    info = document.get("info")
    version = str(info.get("version", "")) if isinstance(info, dict) else ""
    topics = _read_topics(document, reader)
    return Document(version, kept, errors, data, topics, reader.definitions())


def _read_all(methods: list[Any], reader: SchemaReader) -> tuple[dict[str, Method], list[Error], Type]:
    """The methods by name, the hub's own errors, and what the data of each error has."""
    by_name: dict[str, Method] = {}
    for index, described in enumerate(methods):
        method = _read_method(described, index, reader)
        if method.name in by_name:
            raise DocumentError(f"method {method.name!r} is described twice")
        by_name[method.name] = method
    own = {code: reader.read(data, HUB) for code, data in schemas_by_code().items()}
    errors = [Error(code, own.get(code)) for code in ERROR_TABLE]
    return by_name, errors, reader.read(common_schema(), HUB)


def _read_method(described: Any, index: int, reader: SchemaReader) -> Method:
    if not isinstance(described, dict) or not isinstance(described.get("name"), str):
        raise DocumentError(f"methods[{index}] has no name")
    extension = _member(described, "x-trunkline")
    streaming = extension.get("streaming") is True
    name = described["name"]
    chunks = _member(extension, "chunks") if streaming else {}
    return Method(
        name=name,
        summary=_text(described.get("summary")) or _text(described.get("description")),
        params=_read_params(described, reader, is_open=_is_open(described, extension)),
        result=reader.read(_member(described, "result").get("schema", {}), name),
        chunk=reader.read(extension.get("chunk", {}), name) if streaming else None,
        item=reader.read(extension["input"], name, is_given=False) if "input" in extension else None,
        chunks={kind: reader.read(schema, name) for kind, schema in chunks.items()},
        errors=_read_errors(described, reader),
    )


def _read_errors(described: dict[str, Any], reader: SchemaReader) -> list[Error]:
    errors = described.get("errors")
    found: dict[int, Error] = {}
    for error in errors if isinstance(errors, list) else []:
        if not isinstance(error, dict) or type(code := error.get("code")) is not int:
            raise DocumentError(f"{described['name']}: an error has no code")
        data = _member(error, "x-trunkline").get("data")
        found[code] = Error(code, None if data is None else reader.read(data, described["name"]))
    return [found[code] for code in sorted(found)]


def _read_topics(document: dict[str, Any], reader: SchemaReader) -> list[Topic]:
    """The topics whose events are described."""
    described = _member(_member(document, "x-trunkline"), "topics")
    topics = {pattern: each for pattern, each in described.items() if isinstance(each, dict)}
    return [
        Topic(
            pattern, _text(topics[pattern].get("summary")), reader.read(topics[pattern].get("data", {}), f"{pattern}.")
        )
        for pattern in sorted(topics)
    ]


def _is_open(described: dict[str, Any], extension: dict[str, Any]) -> bool:
    """Whether params may have members that are not described, as where a client serves the method and says nothing."""
    says_nothing = extension.get("pack") == CLIENT_PACK and not described.get("params")
    return extension.get("open", says_nothing) is True


def _read_params(described: dict[str, Any], reader: SchemaReader, *, is_open: bool) -> Object:
    name = described["name"]
    params = described.get("params", [])
    if not isinstance(params, list):
        raise DocumentError(f"{name}: params are no list")
    fields: dict[str, Field] = {}
    for param in params:
        if not isinstance(param, dict) or not isinstance(param.get("name"), str):
            raise DocumentError(f"{name}: a parameter has no name")
        schema = param.get("schema", {})
        said = schema.get("description") if isinstance(schema, dict) else None
        description = _text(param.get("description")) or _text(param.get("summary")) or _text(said)
        fields[param["name"]] = Field(
            param["name"], reader.read(schema, name, is_given=False), param.get("required") is True, description
        )
    return Object(tuple(fields.values()), UNKNOWN if is_open else None)


def _member(value: dict[str, Any], name: str) -> dict[str, Any]:
    member = value.get(name)
    return member if isinstance(member, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
