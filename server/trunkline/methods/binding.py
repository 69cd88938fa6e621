"""Between JSON and a Python signature: parameters in, results out, both checked by pydantic from the hints."""

from __future__ import annotations

import dataclasses
import inspect
import keyword
import math
from collections.abc import Callable
from typing import Any, Final, NotRequired, get_args, get_origin, get_type_hints

import msgspec
import orjson
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from typing_extensions import TypedDict

from trunkline.methods.batched_calls import item_hints
from trunkline.methods.context import Chunk, Context
from trunkline.methods.failures import bounded, words_of
from trunkline.methods.inputs import InputStream
from trunkline_protocol.binary import MARK, to_member, unwrapped
from trunkline_protocol.catalogue import Parameter
from trunkline_protocol.depth import CARRIED_DEPTH, MAX_DEPTH, is_too_deep, too_deep
from trunkline_protocol.errors import ErrorCode, RpcError

_ENCODE: Final = orjson.OPT_STRICT_INTEGER | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_UNCHECKED: Final = (Any, dict, list, inspect.Signature.empty)
_BASE64_SCHEMA: Final = {"type": "string", "contentEncoding": "base64"}
_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Binding:
    """The wire side of one function.

    Args:
        function: bound, if it is a method of an instance.
        name: for error messages.
        streaming: it is a generator, so the return annotation describes chunks.
        batched: its parameters and its result are lists, with an item of each call.

    Raises:
        TypeError: hints that cannot be expressed in JSON, ``*args``, or more than one input.

    Attributes:
        context_name: the parameter that gets the call's context, if there is one.
        input_name: the parameter that gets the call's input; ``items`` reads what is in it.
    """

    def __init__(self, function: Callable[..., Any], name: str, *, streaming: bool, batched: bool = False) -> None:
        self._name = name
        signature = inspect.signature(function)
        hints = _hints_of(function, name)
        if batched:
            hints = item_hints(function, hints, name)
        self.context_name: str | None = None
        self.input_name: str | None = None
        self.items: ItemBinding | None = None
        fields: dict[str, Any] = {}
        defaults: dict[str, Any] = {}
        self._python_names: dict[str, str] = {}
        for parameter in signature.parameters.values():
            hint = hints.get(parameter.name, Any)
            if hint is Context:
                self.context_name = parameter.name
                continue
            if hint is InputStream or get_origin(hint) is InputStream:
                self._bind_input(parameter.name, _item_type(hint))
                continue
            if parameter.kind in _VARIADIC:
                raise TypeError(f"{name}: *args and **kwargs cannot be served; name the parameters")
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                raise TypeError(f"{name}: {parameter.name} is positional only; params have names: leave out the /")
            wire_name = _wire_name(parameter.name)
            self._python_names[wire_name] = parameter.name
            if parameter.default is inspect.Parameter.empty:
                fields[wire_name] = hint
            else:
                fields[wire_name] = NotRequired[hint]
                defaults[wire_name] = parameter.default
        self._names = list(fields)
        self._validate = _params_adapter(name, fields).validator.validate_python
        self.parameters = self._describe(fields, defaults)
        returns = hints.get("return", Any)
        self._result = None if streaming or returns in _UNCHECKED else _adapter(returns, name)
        self.result_schema = {} if streaming else _schema(returns, name)
        self.chunk_schema = _schema(_item_type(returns), name) if streaming else None

    def _bind_input(self, parameter: str, hint: Any) -> None:
        if self.input_name is not None:
            raise TypeError(f"{self._name}: a call has one input, not both {self.input_name} and {parameter}")
        self.input_name = parameter
        self.items = ItemBinding(hint, self._name)

    def _describe(self, fields: dict[str, Any], defaults: dict[str, Any]) -> list[Parameter]:
        described = []
        for name, hint in fields.items():
            inner = get_args(hint)[0] if get_origin(hint) is NotRequired else hint
            schema = _schema(inner, self._name)
            if name in defaults and isinstance(defaults[name], (str, int, float, bool, type(None))):
                schema = schema | {"default": defaults[name]}
            described.append(Parameter(name, schema, name not in defaults))
        return described

    def arguments(self, params: bytes) -> dict[str, Any]:
        """Turn params (JSON, by name or by position) into keyword arguments.

        Raises:
            RpcError: -32602 that names the parameter.
        """
        try:
            value = msgspec.json.decode(params)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{self._name}: params: {error}") from error
        if MARK in params:
            value = unwrapped(value)
        if isinstance(value, list):
            value = self._by_name(value)
        try:
            arguments: dict[str, Any] = self._validate(value)
        except ValidationError as error:
            raise _invalid(self._name, error) from None
        return {self._python_names[name]: argument for name, argument in arguments.items()}

    def _by_name(self, values: list[Any]) -> dict[str, Any]:
        if len(values) > len(self._names):
            raise RpcError(
                ErrorCode.INVALID_PARAMS,
                f"{self._name} takes {len(self._names)} parameters ({', '.join(self._names)}), not {len(values)}",
            )
        return dict(zip(self._names, values, strict=False))

    def encode_result(self, value: Any) -> bytes:
        """A return value as JSON.

        Raises:
            RpcError: 1003 that names the type that JSON has no form for, or the promise that was not kept.
        """
        if self._result is not None:
            try:
                value = self._result.validate_python(value)
            except ValidationError as error:
                first = error.errors(include_url=False, include_context=False, include_input=False)[0]
                where = ".".join(map(str, first["loc"])) or type(value).__name__
                raise RpcError(
                    ErrorCode.SERIALIZATION_ERROR,
                    f"{self._name} returned what its signature does not promise: {where}: {first['msg']}",
                ) from None
        return encode(value, self._name)


class ItemBinding:
    """The wire side of one item of a method's input.

    Args:
        hint: what an item is; ``bytes`` come as base64 text, or in the form of :mod:`trunkline_protocol.binary`.
        name: the method, for error messages.

    Raises:
        TypeError: the hint cannot be expressed in JSON.

    Attributes:
        schema: JSON Schema of an item.
    """

    def __init__(self, hint: Any, name: str) -> None:
        self._name = name
        self._base64 = None if hint is not bytes else TypeAdapter(bytes, config=ConfigDict(val_json_bytes="base64"))
        self._validate = _params_adapter(name, {"item": hint}).validator.validate_python
        self.schema = _schema(hint, name) if self._base64 is None else dict(_BASE64_SCHEMA)

    def read(self, data: bytes, index: int) -> Any:
        """Turn one item (JSON) into what the method declared.

        Raises:
            RpcError: -32602 that names the index.
        """
        where = f"{self._name}: item {index} of the input"
        try:
            if self._base64 is not None and MARK not in data:
                return self._base64.validate_json(data)
            item = msgspec.json.decode(data)
            return self._validate({"item": unwrapped(item) if MARK in data else item})["item"]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{where}: {error}", data={"index": index}) from error
        except ValidationError as error:
            invalid = _invalid(where, error)
            invalid.data["index"] = index
            raise invalid from None


def _hints_of(function: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{name}: its hints name {error.name}, which its module does not have when it runs; import it outside of "
            "TYPE_CHECKING, and define it outside of functions"
        ) from error


def _wire_name(parameter: str) -> str:
    """The name of a parameter for callers: ``async_`` is ``async``, which Python keeps for itself (PEP 8)."""
    bare = parameter.removesuffix("_")
    return bare if keyword.iskeyword(bare) else parameter


def _params_adapter(name: str, fields: dict[str, Any]) -> TypeAdapter[Any]:
    params: Any = TypedDict(f"{name} params", fields)  # type: ignore[misc]  # built at run time
    setattr(params, "__pydantic_config__", ConfigDict(extra="forbid", allow_inf_nan=False))  # noqa: B010
    return _adapter(params, name)


def _invalid(where: str, error: ValidationError) -> RpcError:
    problems = [
        {"field": ".".join(map(str, item["loc"])), "message": bounded(item["msg"])}
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    message = f"{where}: {first['field']}: {first['message']}{more}"
    return RpcError(ErrorCode.INVALID_PARAMS, message, data={"errors": problems[:20]})


def encode(value: Any, name: str, levels: int = MAX_DEPTH) -> bytes:
    """Any value as JSON, without silent losses: NaN, infinities and integers beyond 2**53 are refused.

    Args:
        levels: how deep it may be nested.

    Raises:
        RpcError: 1003, with the type named.
    """
    try:
        data = orjson.dumps(value, default=_as_plain, option=_ENCODE)
    except (TypeError, orjson.JSONEncodeError) as error:
        cause = f" ({words_of(error.__cause__)})" if error.__cause__ is not None else ""
        raise RpcError(
            ErrorCode.SERIALIZATION_ERROR, f"{name} returned what JSON cannot carry: {error}{cause}"
        ) from None
    if len(data) > 2 * levels and is_too_deep(data, levels):
        raise too_deep(f"{name} returned what JSON cannot carry", levels=levels, code=ErrorCode.SERIALIZATION_ERROR)
    if b"null" in data and has_non_finite(value):
        # orjson writes NaN as null; a reader could not tell it from a value that is really absent.
        raise RpcError(
            ErrorCode.SERIALIZATION_ERROR,
            f"{name} returned what JSON cannot carry: a float that is not finite",
        )
    return data


def encode_chunk(item: Any, name: str) -> tuple[bytes, bytes]:
    """An item that a generator yielded, as chunk type (JSON string) and data (JSON)."""
    if isinstance(item, Chunk):
        return orjson.dumps(item.type), encode(item.data, name, CARRIED_DEPTH)
    return b'"data"', encode(item, name, CARRIED_DEPTH)


def has_non_finite(value: Any) -> bool:
    """Whether a NaN or an infinity is anywhere in a value made of JSON's types, models and arrays."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(has_non_finite, value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(has_non_finite, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(has_non_finite(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, BaseModel):
        return has_non_finite(value.model_dump())
    if hasattr(value, "tolist"):
        return has_non_finite(value.tolist())
    return False


def _as_plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return to_member(value)
    raise TypeError(f"type {type(value).__module__}.{type(value).__qualname__}")


def _item_type(annotation: Any) -> Any:
    if get_origin(annotation) is None or not get_args(annotation):
        return Any
    return get_args(annotation)[0]


def _adapter(hint: Any, name: str) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(hint)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise TypeError(f"{name}: {str(error).splitlines()[0]}") from error


def _schema(hint: Any, name: str) -> dict[str, Any]:
    if hint in (Any, inspect.Signature.empty, Chunk):
        return {}
    try:
        return _adapter(hint, name).json_schema()
    except PydanticUserError:
        return {}
