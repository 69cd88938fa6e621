"""What Python values become on the wire, and back: types, schemas and refusals, without a hub."""

from __future__ import annotations

import datetime as dt
import json
import math
import threading
from collections import ChainMap, UserDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import Field

from tests.support.modules import typed
from trunkline.methods.context import Context
from trunkline.methods.declaration import RegistrationError, method
from trunkline.methods.inputs import InputStream
from trunkline.methods.local import LocalMethods
from trunkline.methods.registry import Registry
from trunkline.methods.wire_values import encode
from trunkline_protocol.binary import to_member
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError


@pytest.fixture
async def methods() -> AsyncIterator[LocalMethods]:
    async with LocalMethods(typed) as local:
        yield local


def info_of(name: str) -> MethodInfo:
    registry = Registry()
    registry.add_module(typed)
    return registry.methods[name].info


async def failure(outcome: Any) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await outcome
    return caught.value


def on_the_wire(value: Any) -> Any:
    """A value of LocalMethods as JSON has it."""
    return json.loads(json.dumps(value, default=to_member))


SAME: list[tuple[str, Any]] = [
    ("typed.data", b"\xff\x00"),
    ("typed.optional", b""),
    ("typed.optional", None),
    ("typed.any", {"list": [b"\xff", {"deep": b"\xfe"}], "text": "a"}),
    ("typed.decimal", "1.50"),
    ("typed.path", "/a/b"),
    ("typed.uuid", "12345678-1234-5678-1234-567812345678"),
    ("typed.span", "P1DT2H"),
    ("typed.day", "2020-02-29"),
    ("typed.colour", "red"),
    ("typed.point", [1, b"\xfe"]),
    ("typed.sized", {"data": b"\xff", "parts": [b"", b"\xfe"]}),
    ("typed.entry", {"key": b"\xff", "at": "2020-01-01T00:00:00Z"}),
    ("typed.encoded", "aGk="),
    ("typed.numbers", [1, 2]),
]


@pytest.mark.parametrize(("name", "value"), SAME, ids=[f"{name} {value!r:.20}" for name, value in SAME])
async def test_what_goes_in_comes_out_and_is_what_the_schemas_say(methods: LocalMethods, name: str, value: Any) -> None:
    result = await methods.call(name, {"value": value})
    assert (result, type(result)) == (value, type(value))
    assert await methods.call(name, [value]) == value
    info = info_of(name)
    jsonschema.validate(on_the_wire(value), info.parameters[0].schema)
    jsonschema.validate(on_the_wire(result), info.result)


async def test_base64_alone_is_taken_for_bytes_in_either_alphabet_padded_or_not(methods: LocalMethods) -> None:
    for text in ("+/8=", "-_8=", "-_8", {"$bytes": "+/8="}):
        assert await methods.call("typed.data", {"value": text}) == b"\xfb\xff"
    error = await failure(methods.call("typed.data", {"value": "no base64!"}))
    assert (error.code, "$bytes" in error.message) == (ErrorCode.INVALID_PARAMS, True)
    assert await methods.call("typed.sized", {"value": {"data": "aGk", "parts": ["aGk="]}}) == {
        "data": b"hi", "parts": [b"hi"],
    }  # fmt: skip


async def test_bytes_are_not_taken_for_text(methods: LocalMethods) -> None:
    error = await failure(methods.call("typed.text", {"value": b"abc"}))
    assert (error.code, "value: Input should be a valid string" in error.message) == (ErrorCode.INVALID_PARAMS, True)


async def test_methods_are_given_bytes_wherever_they_are(methods: LocalMethods) -> None:
    own = {"$bytes": "no base64"}
    assert await methods.call("typed.types", {"value": [b"a", "a", {"$bytes": "aGk="}, own]}) == [
        "bytes", "str", "bytes", "dict",
    ]  # fmt: skip


async def test_text_is_no_bytes_in_a_result(methods: LocalMethods) -> None:
    for which in ("text", "number"):
        error = await failure(methods.call("typed.lies", {"which": which}))
        assert (error.code, "does not promise" in error.message) == (ErrorCode.SERIALIZATION_ERROR, True)


@pytest.mark.parametrize(
    ("name", "given", "result"),
    [
        ("typed.aliased", {"userId": 3}, {"user_id": 3}),
        ("typed.by_alias", {"userId": 3}, {"userID": 3}),
        (
            "typed.rich",
            {"data": b"\xff", "price": "1.5", "anything": [b"\xfe"]},
            {"data": b"\xff", "price": 150, "anything": [b"\xfe"], "took": "PT1S", "size": 1},
        ),
    ],
)
async def test_a_model_is_written_as_its_schema_says(methods: LocalMethods, name: str, given: Any, result: Any) -> None:
    assert await methods.call(name, {"value": given}) == result
    info = info_of(name)
    jsonschema.validate(on_the_wire(given), info.parameters[0].schema)
    jsonschema.validate(on_the_wire(result), info.result)
    assert typed.Aliased.model_validate({"userId": 3}).user_id == 3
    assert set(info.result["properties"]) == set(info.result["required"]) == set(result)


@pytest.mark.parametrize(
    ("which", "result"),
    [
        ("rich", {"data": b"\xff", "price": 150, "anything": [b"\xfe"], "took": "PT1S", "size": 1}),
        ("sized", {"data": b"\xff", "parts": [b"\xfe"]}),
        ("point", [[1, b"\xff"]]),
        ("set", ["1.50"]),
        ("span", {"span": "P1D", "path": "/tmp", "colour": "red"}),
        ("at", "2020-01-01T00:00:00Z"),
    ],
)
async def test_what_is_not_declared_is_written_as_if_it_were(methods: LocalMethods, which: str, result: Any) -> None:
    assert await methods.call("typed.undeclared", {"which": which}) == result


@pytest.mark.parametrize(
    ("which", "says"), [("complex", "complex"), ("generator", "list_iterator"), ("model_of_nan", "finite")]
)
async def test_what_has_no_form_is_a_typed_error(methods: LocalMethods, which: str, says: str) -> None:
    error = await failure(methods.call("typed.undeclared", {"which": which}))
    assert (error.code, says in error.message) == (ErrorCode.SERIALIZATION_ERROR, True), error.message


async def test_a_wrong_chunk_ends_its_stream_and_is_named(methods: LocalMethods) -> None:
    for name in ("typed.chunks", "typed.plain_chunks"):
        got: list[Any] = []

        async def read(name: str = name, got: list[Any] = got) -> None:
            async for chunk in methods.stream(name, {"values": [7, "no"]}):
                got.append(chunk.data)  # noqa: PERF401  what came ahead of the error counts

        error = await failure(read())
        assert error.code == ErrorCode.SERIALIZATION_ERROR
        assert got[-1] == 7
        assert error.data["index"] == len(got)
        assert f"item {len(got)}" in error.message
    assert got[0] == {"data": b"\xff"}, "a chunk with a type of its own may carry anything"
    assert info_of("typed.plain_chunks").chunk == {"type": "integer"}


async def test_items_of_an_input_are_like_params(methods: LocalMethods) -> None:
    fed = [{"data": b"\xff", "parts": []}, {"data": "aGk=", "parts": []}]
    assert await methods.call("typed.fed", input=fed) == [b"\xff", b"hi"]


async def test_bytes_travel_between_methods_by_progress_and_by_events() -> None:
    published: list[Any] = []
    reported: list[Any] = []

    def publish(params: Any) -> dict[str, Any]:
        published.append(params["data"])
        return {"topic": params["topic"], "epoch": "e", "offset": 1}

    async with LocalMethods(typed, on_progress=reported.append, stubs={"publish": publish}) as local:
        assert await local.call("typed.nested", {"value": b"\xff"}) == ["bytes", "bytes"]
    assert (published, reported) == ([b"\xff"], [b"\xff"])


async def test_a_number_beyond_a_double_is_refused_whatever_is_declared(methods: LocalMethods) -> None:
    registry = methods._registry
    for name in ("typed.any", "typed.rich"):
        with pytest.raises(RpcError, match="out of range") as caught:
            registry.methods[name].binding.arguments(b'{"value":{"data":"","price":1,"anything":1e400}}')
        assert caught.value.code == ErrorCode.INVALID_PARAMS


async def test_data_of_errors_are_values_like_others(methods: LocalMethods) -> None:
    error = await failure(methods.call("typed.refused"))
    assert (error.code, error.data) == (404, {"at": "2020-01-01", "key": b"\xff", "price": "1.50"})


@pytest.mark.parametrize(
    "given",
    [MappingProxyType({"a": b"\xff", "b": 1}), ChainMap[str, Any]({"a": b"\xff"}, {"b": 1}), UserDict(a=b"\xff", b=1)],
    ids=lambda given: type(given).__name__,
)
async def test_a_mapping_that_is_no_dict_is_an_object(given: Mapping[str, Any]) -> None:
    async def inside() -> dict[str, Any]:
        return {"value": given}

    def declared() -> Mapping[str, Any]:
        return given

    async def undeclared() -> Any:
        return [given]

    async def refusing() -> None:
        raise RpcError(404, "no", data={"value": given})

    module = ModuleType("mappings")
    for function in (inside, declared, undeclared, refusing):
        setattr(module, function.__name__, method(f"mappings.{function.__name__}")(function))
    async with LocalMethods(module) as local:
        assert await local.call("mappings.inside") == {"value": {"a": b"\xff", "b": 1}}
        assert await local.call("mappings.declared") == {"a": b"\xff", "b": 1}
        assert await local.call("mappings.undeclared") == [{"a": b"\xff", "b": 1}]
        error = await failure(local.call("mappings.refusing"))
    assert (error.code, error.data) == (404, {"value": {"a": b"\xff", "b": 1}})


class Opaque:
    """A class without a form."""


@pytest.mark.parametrize(
    ("hint", "says"),
    [
        (Opaque, "Opaque has no form"),
        (list[Opaque], "Opaque has no form"),
        (Callable[[int], int], "callable"),
        (threading.Lock, "lock"),
        (complex, "complex"),
        (type[int], r"type\[int\]"),
        (dict[tuple[int, int], str], "keys are of type tuple"),
        (dict[bytes, str], "keys are of type bytes"),
    ],
)
def test_what_cannot_travel_is_refused_at_load(hint: Any, says: str) -> None:
    def function(given: Any) -> Any:
        return given

    module = ModuleType("refused")
    module.refused = method("refused.method")(function)  # type: ignore[attr-defined]
    for hints, place in (({"given": hint}, "parameter 'given'"), ({"return": hint}, "the result")):
        function.__annotations__ = hints
        with pytest.raises(RegistrationError, match=f"refused.method: {place}: .*{says}.*Annotate"):
            Registry().add_module(module)


@pytest.mark.parametrize(
    ("hint", "default", "says"),
    [
        (int, "no", "its default 'no' does not fit int: Input should be a valid integer"),
        (int, "5", "its default '5' does not fit int: the function would get it as it is; write 5"),
        (int, None, r"its default None does not fit int: .*; annotate it int \| None"),
        (int, Field(5, gt=0), r"Field\(...\) is no default; write Annotated\[int, Field\(...\)\] = ..."),
        (Annotated[int, Field(gt=0)], 0, "its default 0 does not fit int: Input should be greater than 0"),
        (typed.Aliased, {}, r"write Aliased\(user_id=1\)"),
        (typed.Colour, "red", "the function would get it as it is"),
        (Path, "here", "the function would get it as it is"),
        (bytes, "aGk=", "write b'hi'"),
        (str, 5, "Input should be a valid string"),
    ],
)
def test_a_default_that_does_not_fit_is_refused_at_load(hint: Any, default: Any, says: str) -> None:
    def function(given: Any = default) -> None: ...

    function.__annotations__ = {"given": hint}
    module = ModuleType("refused")
    module.refused = method("refused.method")(function)  # type: ignore[attr-defined]
    with pytest.raises(RegistrationError, match=f"refused.method: parameter 'given': .*{says}"):
        Registry().add_module(module)


@pytest.mark.parametrize(
    ("hint", "default"),
    [
        (int | None, None),
        (float, 1),
        (float, math.inf),
        (list[float], [math.nan]),
        (typed.Colour, typed.Colour.RED),
        (typed.Aliased, typed.Aliased()),
        (Annotated[int, Field(gt=0)], 5),
        (Any, object),
        (Sequence[str], ()),
        (Iterable[int], []),
        (tuple[int, ...], ()),
        (frozenset[str], frozenset({"a"})),
        (dict[str, Any], {}),
        (Mapping[str, int], MappingProxyType({"a": 1})),
        (bytes, b"\xff"),
        (str | bytes, "text"),
        (Path, Path("here")),
        (dt.date, dt.date(2020, 2, 29)),
        (Decimal, Decimal(1)),
        (Literal["a", "b"], "a"),
        (Context, None),
        (InputStream[int], None),
    ],
    ids=str,
)
def test_a_default_that_fits_is_served(hint: Any, default: Any) -> None:
    async def function(given: Any = default) -> None: ...

    function.__annotations__ = {"given": hint}
    module = ModuleType("served")
    module.served = method("served.method")(function)  # type: ignore[attr-defined]
    Registry().add_module(module)


def test_a_stream_that_is_declared_as_something_else_is_refused_at_load() -> None:
    async def later(values: list[int]) -> Any:
        for value in values:
            yield value

    def steps(values: list[int]) -> Any:
        yield from values

    for function, name in ((later, "AsyncIterator"), (steps, "Iterator")):
        module = ModuleType("refused")
        module.refused = method("refused.stream")(function)  # type: ignore[attr-defined]
        for declared in (list[int], Annotated[list[int], "numbers"]):
            function.__annotations__["return"] = declared
            with pytest.raises(RegistrationError, match=rf"annotated list\[int\]; write {name}\[int\], or return"):
                Registry().add_module(module)
        function.__annotations__["return"] = AsyncIterator[int] if function is later else Iterator[int]
        Registry().add_module(module)


def test_a_chunk_that_cannot_travel_is_refused_at_load() -> None:
    async def function() -> AsyncIterator[Any]:
        yield 1

    function.__annotations__ = {"return": AsyncIterator[Opaque]}
    module = ModuleType("refused")
    module.refused = method("refused.stream")(function)  # type: ignore[attr-defined]
    with pytest.raises(RegistrationError, match=r"refused\.stream: a chunk: .*Opaque"):
        Registry().add_module(module)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_key_that_is_not_finite_is_no_null(number: float) -> None:
    for value in ({number: 1}, {None: 1, number: 2}, [{"a": {number: None}}]):
        with pytest.raises(RpcError, match="a float that is not finite") as caught:
            encode(value, "it gave")
        assert caught.value.code == ErrorCode.SERIALIZATION_ERROR
    assert encode({None: 1, 1.5: None}, "it gave") == b'{"null":1,"1.5":null}'
