"""Between JSON and a Python signature: parameters in, results and chunks out, as the hints say."""

from __future__ import annotations

import inspect
import keyword
from collections import abc
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, NotRequired, get_args, get_origin, get_type_hints

import msgspec
from pydantic import ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from trunkline.methods.batched_calls import item_hints
from trunkline.methods.chunk_types import ChunkHints, chunk_hints
from trunkline.methods.context import Context
from trunkline.methods.inputs import InputStream
from trunkline.methods.pieces import LARGE
from trunkline.methods.user_errors import bounded
from trunkline.methods.wire_types import Core, core_schema, json_schema, member_schema
from trunkline.methods.wire_values import Reader, Writer, encode, encode_chunk
from trunkline_protocol.binary import MARK
from trunkline_protocol.catalogue import DeclaredError, Parameter
from trunkline_protocol.errors import ErrorCode, RpcError

_TAKEN: Final = ConfigDict(extra="forbid", allow_inf_nan=False)
_GIVEN: Final = ConfigDict()
_UNDECLARED: Final = (Any, inspect.Signature.empty)
_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_STREAMS: Final = (
    abc.AsyncIterator,
    abc.AsyncIterable,
    abc.AsyncGenerator,
    abc.Iterator,
    abc.Iterable,
    abc.Generator,
)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Binding:
    """The wire side of one function.

    Args:
        function: bound, if it is a method of an instance.
        name: for error messages.
        streaming: it is a generator, so the return annotation describes chunks.
        batched: its parameters and its result are lists, with an item of each call.
        summary: what the result of a stream is; None = what its annotation says.

    Raises:
        TypeError: hints that have no form on the wire, ``*args``, or more than one input.

    Attributes:
        context_name: the parameter that gets the call's context, if there is one.
        input_name: the parameter that gets the call's input; ``items`` reads what is in it.
    """

    def __init__(
        self, function: Callable[..., Any], name: str, *, streaming: bool, batched: bool = False, summary: Any = None
    ) -> None:
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
        self._python_names: dict[str, str] = {}  # of the parameters, if one has another name on the wire; else empty
        for parameter in signature.parameters.values():
            hint = hints.get(parameter.name, Any)
            if hint is Context:
                self.context_name = parameter.name
                continue
            if hint is InputStream or get_origin(hint) is InputStream:
                self._bind_input(parameter.name, _argument(hint, 0))
                continue
            if parameter.kind in _VARIADIC:
                raise TypeError(f"{name}: *args and **kwargs cannot be served; name the parameters")
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                raise TypeError(f"{name}: {parameter.name} is positional only; params have names: leave out the /")
            wire_name = _wire_name(parameter.name)
            self._python_names[wire_name] = parameter.name
            fields[wire_name] = hint
            if parameter.default is not inspect.Parameter.empty:
                defaults[wire_name] = parameter.default
        if all(wire_name == name for wire_name, name in self._python_names.items()):
            self._python_names.clear()
        self._names = list(fields)
        self.parameters = [self._describe(each, hint, defaults) for each, hint in fields.items()]
        optional = {each: NotRequired[hint] if each in defaults else hint for each, hint in fields.items()}
        self._reader = Reader(core_schema(optional, f"{name} params", _TAKEN))
        self._from_python = self._reader.from_python if self._reader.takes_python else None
        self._gave = f"{name} returned"
        self._yielded = f"{name} yielded"
        returns = hints.get("return", Any)
        if streaming:
            _require_stream(function, returns, name)
        self._bind_result(returns, streaming, summary)

    def _bind_result(self, returns: Any, streaming: bool, summary: Any) -> None:
        result = returns if not streaming else _argument(returns, 2) if summary is None else summary
        self._result, self.result_schema = self._given(result, "the result")
        self._is_summary_declared = summary is not None
        self.chunk_schema: dict[str, Any] | None = None
        self.chunk_schemas: dict[str, dict[str, Any]] | None = None
        self._typed: dict[str, Writer | None] | None = None
        self._errors: dict[int, Writer] = {}
        if streaming:
            self._bind_chunks(chunk_hints(_argument(returns, 0), self._name))

    def _bind_chunks(self, hints: ChunkHints) -> None:
        self._chunk, self.chunk_schema = self._given(hints.plain, "a chunk")
        if hints.typed is not None:
            bound = {kind: self._given(hint, f"a chunk of type {kind!r}") for kind, hint in hints.typed.items()}
            self._typed = {kind: writer for kind, (writer, _) in bound.items()}
            self.chunk_schemas = {kind: schema for kind, (_, schema) in bound.items()}
            self.chunk_schema = self._given(hints.any_of, "a chunk")[1]

    def _bind_input(self, parameter: str, hint: Any) -> None:
        if self.input_name is not None:
            raise TypeError(f"{self._name}: a call has one input, not both {self.input_name} and {parameter}")
        self.input_name = parameter
        self.items = ItemBinding(hint, self._name)

    def declared_errors(self, errors: Mapping[int, Any]) -> list[DeclaredError]:
        """The errors that a method declares, by code, as data.

        Raises:
            TypeError: the type of an error's data has no form on the wire, or is none of objects.
        """
        return [DeclaredError(code, self._bind_error(code, hint)) for code, hint in sorted(errors.items())]

    def _bind_error(self, code: int, hint: Any) -> dict[str, Any] | None:
        if hint is None:
            return None
        what = f"{self._name}: the data of error {code}"
        core, schema = _schemas(hint, what, _GIVEN)
        if schema.get("type") != "object":
            raise TypeError(f"{what}: error.data is an object; write a TypedDict")
        self._errors[code] = Writer(core, f"{self._name} gave as data of error {code}")
        return schema

    def checked_error(self, error: RpcError) -> RpcError:
        """An error that the method raised; where its data are not what is declared for its code, 1003 that says so."""
        if (writer := self._errors.get(error.code)) is None:
            return error
        try:
            writer.write(error.data)
        except RpcError as unfit:
            unfit.message += f" (its message: {bounded(error.message)})"
            return unfit
        return error

    def _describe(self, name: str, hint: Any, defaults: dict[str, Any]) -> Parameter:
        core, schema = _schemas(hint, f"{self._name}: parameter {name!r}", _TAKEN)
        if name in defaults:
            _require_fit(core, defaults[name], f"{self._name}: parameter {name!r}", hint)
        if name in defaults and isinstance(defaults[name], (str, int, float, bool, type(None))):
            schema = schema | {"default": defaults[name]}
        return Parameter(name, schema, name not in defaults)

    def _given(self, hint: Any, what: str) -> tuple[Writer | None, dict[str, Any]]:
        """What writes values of a type, None where anything goes, and their JSON Schema."""
        if hint in _UNDECLARED:
            return None, {}
        core, schema = _schemas(hint, f"{self._name}: {what}", _GIVEN)
        return Writer(core, self._gave if what == "the result" else self._yielded), schema

    def arguments(self, params: bytes) -> dict[str, Any]:
        """Turn params (JSON, by name or by position) into keyword arguments.

        Raises:
            RpcError: -32602 that names the parameter.
        """
        try:
            if len(params) >= LARGE:
                arguments = self._reader.read_in_pieces(self._named(params))
            elif self._from_python is not None and params.find(MARK) < 0:
                value = msgspec.json.decode(params)
                arguments = self._from_python(self._by_name(value) if isinstance(value, list) else value)
            else:
                arguments = self._reader.read(self._named(params))
        except _UNREADABLE as error:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{self._name}: params: {error}") from error
        except ValidationError as error:
            raise _invalid(self._name, error) from None
        names = self._python_names
        return {names[name]: argument for name, argument in arguments.items()} if names else arguments

    def _named(self, params: bytes) -> bytes:
        """Params by name, which may have been given by position."""
        if params.lstrip()[:1] != b"[":
            return params
        return msgspec.json.encode(self._by_name(msgspec.json.decode(params, type=list[msgspec.Raw])))

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
        return encode(value, self._gave) if self._result is None else self._result.write(value)

    def encode_summary(self, value: Any, chunks: int) -> bytes:
        """The result that follows the chunks of a stream, as JSON; ``{"chunks": n}`` where none is declared."""
        if value is None and not self._is_summary_declared:
            return encode({"chunks": chunks}, self._name)
        return self.encode_result(value)

    def encode_chunk(self, item: Any, index: int) -> tuple[bytes, bytes]:
        """An item that a generator yielded, as chunk type (JSON string) and data (JSON).

        Raises:
            RpcError: 1003 that names the index.
        """
        return encode_chunk(item, self._yielded, self._chunk, index, self._typed)


class ItemBinding:
    """The wire side of one item of a method's input.

    Args:
        hint: what an item is.
        name: the method, for error messages.

    Raises:
        TypeError: the hint has no form on the wire.

    Attributes:
        schema: JSON Schema of an item.
    """

    def __init__(self, hint: Any, name: str) -> None:
        self._name = name
        core, self.schema = _schemas(hint, f"{name}: an item of the input", _TAKEN)
        self._reader = Reader(core)

    def read(self, data: bytes, index: int) -> Any:
        """Turn one item (JSON) into what the method declared.

        Raises:
            RpcError: -32602 that names the index.
        """
        where = f"{self._name}: item {index} of the input"
        try:
            return self._reader.read(data)
        except _UNREADABLE as error:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{where}: {error}", data={"index": index}) from error
        except ValidationError as error:
            invalid = _invalid(where, error, "item")
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


def _require_stream(function: Callable[..., Any], returns: Any, name: str) -> None:
    """Require that what a generator declares to return is a stream, if it declares anything.

    Raises:
        TypeError: it is something else.
    """
    declared = _bare_hint(returns)
    if declared in _UNDECLARED or (get_origin(declared) or declared) in _STREAMS:
        return
    stream = "AsyncIterator" if inspect.isasyncgenfunction(function) else "Iterator"
    item = inspect.formatannotation(_argument(declared, 0))
    raise TypeError(
        f"{name}: it yields, so it is a stream, but its result is annotated {inspect.formatannotation(declared)}; "
        f"write {stream}[{item}], or return the result whole"
    )


def _require_fit(core: Core, default: Any, where: str, hint: Any) -> None:
    """Require that a default is what the parameter is declared to be: the function gets it as it is.

    Raises:
        TypeError: it is something else.
    """
    declared = inspect.formatannotation(_bare_hint(hint))
    if isinstance(default, FieldInfo):
        raise TypeError(f"{where}: Field(...) is no default; write Annotated[{declared}, Field(...)] = ...")
    wrong = f"{where}: its default {default!r:.80} does not fit {declared}"
    try:
        fitted = Reader(core).from_python(default)
    except ValidationError as error:
        # Callers cannot give an infinity, which JSON has not; as a default it is one number like others.
        first = next((each["msg"] for each in error.errors(include_url=False) if each["type"] != "finite_number"), None)
        if first is not None:
            write = f"annotate it {declared} | None" if default is None else "change the one or the other"
            raise TypeError(f"{wrong}: {bounded(first)}; {write}") from None
        return
    for kind in (str, dict):
        if isinstance(default, kind) and not isinstance(fitted, kind):
            raise TypeError(f"{wrong}: the function would get it as it is; write {fitted!r:.80}")


def _bare_hint(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _wire_name(parameter: str) -> str:
    """The name of a parameter for callers: ``async_`` is ``async``, which Python keeps for itself (PEP 8)."""
    bare = parameter.removesuffix("_")
    return bare if keyword.iskeyword(bare) else parameter


def schema_of_given(hint: Any, where: str) -> dict[str, Any]:
    """The JSON Schema of what is given as a type.

    Raises:
        TypeError: it has no form on the wire; the message names ``where``.
    """
    return _schemas(hint, where, _GIVEN)[1]


def _schemas(hint: Any, where: str, config: ConfigDict) -> tuple[Core, dict[str, Any]]:
    """The core schema and the JSON Schema of a type."""
    core = member_schema(core_schema({"value": hint}, where, config), "value")
    return core, json_schema(core, where, written=config is _GIVEN)


def _invalid(where: str, error: ValidationError, *within: str) -> RpcError:
    problems = [
        {"field": ".".join(map(str, (*within, *item["loc"]))), "message": bounded(item["msg"])}
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    message = f"{where}: {first['field']}: {first['message']}{more}"
    return RpcError(ErrorCode.INVALID_PARAMS, message, data={"errors": problems[:20]})


def _argument(annotation: Any, index: int) -> Any:
    """The ``index``-th argument of a generic annotation; Any where it has not so many, or it is None."""
    arguments = get_args(annotation)
    found = arguments[index] if index < len(arguments) else Any
    return Any if found in (None, type(None)) and index else found
