"""What Python values become on the wire, and back: the one place for all that methods take and give.

Declared types are read and written by pydantic (:class:`Reader`, :class:`Writer`), in the forms of
:mod:`trunkline.methods.wire_types`; values of which nothing is declared by :func:`encode` and :func:`decode`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NoReturn

import msgspec
import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import CoreConfig, PydanticSerializationError, SchemaSerializer, SchemaValidator, to_jsonable_python

from trunkline.methods.context import Chunk
from trunkline.methods.pieces import PIECE, large_members, pieces_of, without
from trunkline.methods.user_errors import UncarriedError, bounded, log_failure, new_error_id, words_of
from trunkline.methods.wire_types import Core, bare, checking, core_schema, member_schema, nodes, reading, writing
from trunkline_protocol.arrays import as_plain
from trunkline_protocol.binary import MARK, to_member, unwrapped
from trunkline_protocol.depth import CARRIED_DEPTH, MAX_DEPTH, is_too_deep, too_deep
from trunkline_protocol.errors import ErrorCode, RpcError

_ENCODE: Final = (
    orjson.OPT_STRICT_INTEGER
    | orjson.OPT_NON_STR_KEYS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)
_FINITE: Final = CoreConfig(allow_inf_nan=False)
_BEYOND_DOUBLE: Final = re.compile(rb"[eE]\+?[0-9]{3}")
_WHAT: Final = "what JSON cannot carry"
_PLAIN: Final = frozenset({str, int, bool, type(None)})

_PLAIN_LIST: Final = frozenset({"type", "items_schema", "metadata", "ref"})
"""What the core schema of a list has that may be of any length."""

_SAME_IN_PYTHON: Final = frozenset({
    "typed-dict", "typed-dict-field", "model", "model-fields", "model-field", "dataclass", "dataclass-args",
    "dataclass-field", "default", "nullable", "str", "int", "float", "bool", "none", "any", "list", "dict", "union",
    "tagged-union", "literal", "function-before", "function-after", "function-wrap", "definitions", "definition-ref",
    "computed-field",
})  # fmt: skip
"""Types that pydantic validates alike whether it is given JSON or what that becomes in Python, which is quicker."""

_SAME_IN_JSON: Final = frozenset({
    "typed-dict", "typed-dict-field", "default", "nullable", "str", "int", "float", "bool", "none", "any", "list",
    "dict", "tuple", "union", "literal", "function-before", "function-after", "function-wrap", "definitions",
    "definition-ref",
})  # fmt: skip
"""Types that pydantic writes as :func:`encode` does."""


class Reader:
    """Validates JSON by a core schema.

    Args:
        schema: as :mod:`trunkline.methods.wire_types` makes it; of an object, where it is read in pieces.
    """

    def __init__(self, schema: Core) -> None:
        self._schema = schema
        self._validator = _validator(reading(schema, marked=False), _FINITE)
        self.takes_python = all(map(_is_same_in_python, nodes(schema)))
        """Whether :attr:`from_python` may be given what JSON without binary data is in Python."""
        self.from_python: Callable[[Any], Any] = self._validator.validate_python
        """Validates the value of some JSON that was decoded, or raises ValidationError."""

    @functools.cached_property
    def _marked(self) -> SchemaValidator:
        return _validator(reading(self._schema, marked=True), _FINITE)

    @functools.cached_property
    def _lists(self) -> dict[str, SchemaValidator]:
        """Validators of the members that are lists of any length: these can be read in pieces."""
        members = bare(self._schema)["fields"]
        found = {name: member_schema(self._schema, name) for name in members}
        return {
            name: _validator(reading(schema, marked=True), _FINITE)
            for name, schema in found.items()
            if bare(schema)["type"] == "list" and bare(schema).keys() <= _PLAIN_LIST
        }

    def read_in_pieces(self, data: bytes) -> Any:
        """As :meth:`read`, for an object: large lists are read in pieces, between which others may run."""
        members = large_members(data)
        large = [name for name, raw in members.items() if name in self._lists and len(memoryview(raw)) > PIECE]
        taken: dict[str, list[Any]] = {name: [] for name in large}
        try:
            for name in large:
                for piece in pieces_of(bytes(members[name])):
                    if _BEYOND_DOUBLE.search(piece):
                        msgspec.json.decode(piece)
                    taken[name] += self._lists[name].validate_json(piece)
        except (ValidationError, msgspec.DecodeError):
            return self.read(data)  # whole, it knows the index of what is wrong
        return self.read(without(members, large) if large else data) | taken

    def read(self, data: bytes) -> Any:
        """The value of some JSON.

        Raises:
            ValidationError: it does not fit.
            msgspec.DecodeError: a number is beyond a double.
        """
        if _BEYOND_DOUBLE.search(data):
            msgspec.json.decode(data)  # pydantic would read it as infinity
        return (self._validator if data.find(MARK) < 0 else self._marked).validate_json(data)


class Writer:
    """Writes what a method gives as JSON, if it is what the method declares.

    Args:
        schema: of the declared type, as :mod:`trunkline.methods.wire_types` makes it.
        gave: who gives it, and how: ``text.upper returned``.
    """

    def __init__(self, schema: Core, gave: str) -> None:
        self._gave = gave
        self._check = _validator(checking(schema), None).validate_python
        self._serialize = None
        if not all(map(_is_same_in_json, nodes(schema))):
            self._serialize = _serializer(writing(schema, _jsonable))

    def write(self, value: Any, levels: int = MAX_DEPTH) -> bytes:
        """A value as JSON.

        Args:
            levels: how deep it may be nested.

        Raises:
            RpcError: 1003 that names the promise that was not kept, or the type that JSON has no form for.
        """
        try:
            value = self._check(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or type(value).__name__
            raise RpcError(
                ErrorCode.SERIALIZATION_ERROR,
                f"{self._gave} what its signature does not promise: {where}: {bounded(first['msg'])}",
            ) from None
        if self._serialize is not None:
            try:
                value = self._serialize.to_python(value, mode="json", warnings="error")
            except PydanticSerializationError as error:
                _refuse(self._gave, error)
        return encode(value, self._gave, levels)


def _is_same_in_python(node: Core) -> bool:
    if node.get("strict") or node.get("config", {}).get("strict"):
        return False
    return node["type"] in _SAME_IN_PYTHON and set(map(type, node.get("expected", ()))) <= _PLAIN


def _is_same_in_json(node: Core) -> bool:
    if not node.keys().isdisjoint({"serialization", "serialization_alias", "serialization_exclude", "computed_fields"}):
        return False
    return node["type"] in _SAME_IN_JSON and set(map(type, node.get("expected", ()))) <= _PLAIN


def _validator(schema: Core, config: CoreConfig | None) -> SchemaValidator:
    # Without it a model's own validator would be taken, which knows nothing of what was changed in its schema.
    return SchemaValidator(schema, config, _use_prebuilt=False)


def _serializer(schema: Core) -> SchemaSerializer:
    return SchemaSerializer(schema, None, _use_prebuilt=False)


# --- values of which nothing is declared ---


def decode(data: bytes) -> Any:
    """The value of some JSON, in which the JSON form of bytes is ``bytes``."""
    value = msgspec.json.decode(data)
    return value if data.find(MARK) < 0 else unwrapped(value)


def encode(value: Any, gave: str, levels: int = MAX_DEPTH, *, large_integers: bool = False) -> bytes:
    """Any value as JSON, without silent losses: NaN, infinities and integers beyond 2**53 are refused.

    Args:
        gave: who gave it, and how: ``text.upper returned``.
        levels: how deep it may be nested.
        large_integers: those beyond 2**53 may be in it: for methods, which take them exactly.

    Raises:
        RpcError: 1003, with the type named.
    """
    try:
        data = orjson.dumps(
            value, default=_as_plain, option=_ENCODE & ~orjson.OPT_STRICT_INTEGER if large_integers else _ENCODE
        )
    except (TypeError, orjson.JSONEncodeError) as error:
        _refuse(gave, error)
    if len(data) > 2 * levels and is_too_deep(data, levels):
        raise too_deep(f"{gave} {_WHAT}", levels=levels, code=ErrorCode.SERIALIZATION_ERROR)
    if data.find(b"null") >= 0 and has_non_finite(value):  # not by "in": see MARK
        # orjson writes NaN as null; a reader could not tell it from a value that is really absent.
        raise _RefusedError(ErrorCode.SERIALIZATION_ERROR, f"{gave} {_WHAT}: a float that is not finite")
    return data


def encode_chunk(
    item: Any, gave: str, writer: Writer | None, index: int, typed: Mapping[str, Writer | None] | None = None
) -> tuple[bytes, bytes]:
    """An item that a generator yielded, as chunk type (JSON string) and data (JSON).

    Args:
        gave: who gave it, and how: ``text.words yielded``.
        writer: of items that are no :class:`Chunk`; None = any.
        index: of the item.
        typed: writers by chunk type, where these are declared; None = any type may come.

    Raises:
        RpcError: 1003 that names the index.
    """
    try:
        if isinstance(item, Chunk):
            if typed is not None:
                return _encode_declared(item, gave, typed)
            return orjson.dumps(item.type), encode(item.data, gave, CARRIED_DEPTH)
        if writer is None:
            return b'"data"', encode(item, gave, CARRIED_DEPTH)
        return b'"data"', writer.write(item, CARRIED_DEPTH)
    except RpcError as error:
        error.message += f" (item {index})"
        error.data["index"] = index
        raise


def _encode_declared(item: Chunk, gave: str, typed: Mapping[str, Writer | None]) -> tuple[bytes, bytes]:
    if item.type not in typed:
        words = f"{gave} a chunk of type {item.type!r:.80}; it declares {', '.join(map(repr, typed))}"
        raise RpcError(ErrorCode.SERIALIZATION_ERROR, words)
    writer = typed[item.type]
    data = encode(item.data, gave, CARRIED_DEPTH) if writer is None else writer.write(item.data, CARRIED_DEPTH)
    return orjson.dumps(item.type), data


def sendable(error: RpcError, raised_by: str, checked: Callable[[RpcError], RpcError] | None = None) -> RpcError:
    """A typed error, its ``data`` as JSON has them; one that cannot be sent as ``INTERNAL_ERROR`` with its words.

    Args:
        raised_by: a method or a module, for the log, which has why it cannot be sent under ``data.error_id``.
        checked: gives the error itself, or another in its place; a class of the user's may lack all that it looks at.
    """
    try:
        if checked is not None:
            error = checked(error)
        if error.data:
            error.data = msgspec.json.decode(encode(error.data, "it has", CARRIED_DEPTH, large_integers=True))
        msgspec.json.encode(error.to_wire())
    except BaseException as fault:
        why = f" ({bounded(fault.message)})" if isinstance(fault, RpcError) else ""
        error_id = new_error_id()
        log_failure(f"{raised_by}: to send {words_of(error)}", fault.__cause__ or fault, error_id)
        words = f"an error that cannot be sent: {words_of(error)}{why} (id {error_id})"
        return RpcError(ErrorCode.INTERNAL_ERROR, words, data={"error_id": error_id})
    return error


class _RefusedError(RpcError):
    """What :func:`encode` itself refuses."""


class _NoFormError(TypeError):
    """A value that JSON has no form for; the message names its type."""


def _refuse(gave: str, error: BaseException) -> NoReturn:
    """Raise the error for what an encoder raised, in its words and ours; those of user code are kept back."""
    said = f"{gave} {_WHAT}"
    first = error
    while first.__cause__ is not None and (
        first is error or isinstance(first, (UncarriedError, PydanticSerializationError))
    ):
        first = first.__cause__
    if isinstance(first, _RefusedError):
        raise _RefusedError(ErrorCode.SERIALIZATION_ERROR, said + first.message.partition(_WHAT)[2]) from None
    if first is error or isinstance(first, _NoFormError):
        raise _RefusedError(ErrorCode.SERIALIZATION_ERROR, f"{said}: {bounded(str(first))}") from None
    raise UncarriedError(ErrorCode.SERIALIZATION_ERROR, said) from first


def has_non_finite(value: Any) -> bool:
    """Whether a NaN or an infinity is anywhere in a value that can be encoded."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if value is None or isinstance(value, (str, int)):
        return False
    if isinstance(value, dict):
        return any(map(has_non_finite, value)) or any(map(has_non_finite, value.values()))  # keys are written, too
    if isinstance(value, (list, tuple)):
        return any(map(has_non_finite, value))
    return has_non_finite(_as_plain(value))


def _jsonable(value: Any) -> Any:
    """A value of which nothing is declared, inside one of which something is."""
    return value if type(value) in _PLAIN else orjson.loads(encode(value, "it has"))


def _as_plain(value: Any) -> Any:
    """What orjson does not know, as what it knows."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return to_member(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return _serializer_of(type(value)).to_python(value, mode="json", warnings="error")
    try:
        plain = as_plain(value)
    except ValueError as error:
        raise _NoFormError(str(error)) from None
    if plain is not None:
        return plain
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (complex, Iterator, BaseException)) or inspect.isawaitable(value):
        return _unknown(value)
    return to_jsonable_python(value, fallback=_unknown)


def _unknown(value: Any) -> Any:
    raise _NoFormError(f"type {type(value).__module__}.{type(value).__qualname__}")


@functools.lru_cache(maxsize=1024)
def _serializer_of(cls: type[Any]) -> SchemaSerializer:
    return _serializer(
        writing(member_schema(core_schema({"value": cls}, cls.__name__, ConfigDict()), "value"), _jsonable)
    )
