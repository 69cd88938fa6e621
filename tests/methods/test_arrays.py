"""Arrays, tensors, scalars and tables as params and results."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Any

import jsonschema
import numpy as np
import numpy.typing as npt
import pytest
from pydantic import BaseModel, ConfigDict

from trunkline import method
from trunkline.methods.declaration import RegistrationError
from trunkline.methods.local import LocalMethods
from trunkline.methods.registry import Registry
from trunkline_protocol.arrays import SCHEMA, as_plain, to_array
from trunkline_protocol.binary import to_member
from trunkline_protocol.errors import ErrorCode, RpcError


class Model(BaseModel):
    """A model with an array."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    vector: np.ndarray
    name: str = ""


@dataclass
class Plain:
    """A dataclass with an array."""

    vector: npt.NDArray[np.float32]


def module_of(**hints: Any) -> ModuleType:
    """A module with a method of each name that gives back its ``value`` of that type."""
    module = ModuleType("arrays")
    for name, hint in hints.items():

        def function(value: Any) -> Any:
            return value

        function.__annotations__ = {"value": hint, "return": hint}
        setattr(module, name, method(f"arrays.{name}")(function))
    return module


MODULE = module_of(
    array=np.ndarray,
    single=npt.NDArray[np.float32],
    some=npt.NDArray[np.int16] | None,
    listed=list[npt.NDArray[np.float64]],
    noted=Annotated[npt.NDArray[np.uint8], "bytes"],
    anything=Any,
    model=Model,
    plain=Plain,
    small=np.int8,
    short=np.float32,
    number=float,
    floats=list[float],
)


@pytest.fixture
async def methods() -> AsyncIterator[LocalMethods]:
    async with LocalMethods(MODULE) as local:
        yield local


def array_of(form: Any) -> Any:
    """The array of the form, as docs/ have it."""
    assert set(form) == {"dtype", "shape", "bytes"}
    return np.frombuffer(form["bytes"], form["dtype"]).reshape(form["shape"])


ARRAYS: dict[str, Any] = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "strided": np.arange(10)[::-2],
    "big_endian": np.arange(3, dtype=">i4"),
    "no_dimension": np.array(1.5),
    "empty": np.zeros((0, 4), dtype=np.float16),
    "booleans": np.array([True, False]),
    "complex": np.array([1 + 2j], dtype=np.complex64),
    "not_finite": np.array([np.nan, np.inf]),
    "times": np.array(["2020-01-01", "NaT"], dtype="M8[s]"),
    "texts": np.array(["a", "bcé"]),
    "read_only": np.frombuffer(b"abc", np.uint8),
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("method_name", ["arrays.array", "arrays.anything"])
async def test_an_array_comes_back_as_it_was(methods: LocalMethods, method_name: str, name: str) -> None:
    array = ARRAYS[name]
    form = await methods.call(method_name, {"value": array})
    back = array_of(form)
    np.testing.assert_array_equal(back, array)
    assert (back.shape, back.dtype.kind, back.dtype.itemsize) == (array.shape, array.dtype.kind, array.dtype.itemsize)
    jsonschema.validate(json.loads(json.dumps(form, default=to_member)), SCHEMA)


async def test_methods_get_arrays_of_their_own(methods: LocalMethods) -> None:
    arguments = methods._registry.methods["arrays.array"].binding.arguments
    form = json.dumps({"value": as_plain(np.arange(3))}).encode()
    array = arguments(form)["value"]
    array[0] = 7
    assert list(array) == [7, 1, 2]
    assert list(arguments(b'{"value":[[1,2],[3,4]]}')["value"].ravel()) == [1, 2, 3, 4]
    assert arguments(b"[1.5]")["value"].shape == ()


async def test_a_declared_dtype_is_what_methods_get(methods: LocalMethods) -> None:
    for value in ([1.5, 2], [1, 2], np.array([1.0, 2.0]), np.array([1, 2], dtype=np.int8)):
        assert (await methods.call("arrays.single", {"value": value}))["dtype"] == "float32"
    assert await methods.call("arrays.some", {"value": None}) is None
    assert (await methods.call("arrays.some", {"value": [1]}))["dtype"] == "int16"
    assert [form["dtype"] for form in await methods.call("arrays.listed", {"value": [[1], [2.5]]})] == ["float64"] * 2
    assert (await methods.call("arrays.noted", {"value": np.zeros(2, np.uint8)}))["bytes"] == b"\0\0"


@pytest.mark.parametrize("name", ["arrays.model", "arrays.plain"])
async def test_an_array_inside_of_something(methods: LocalMethods, name: str) -> None:
    result = await methods.call(name, {"value": {"vector": [1.5, 2]}})
    assert list(array_of(result["vector"])) == [1.5, 2]
    assert (await methods.call("arrays.anything", {"value": Model(vector=np.zeros(1))}))["vector"]["shape"] == [1]
    assert (await methods.call("arrays.anything", {"value": Plain(np.zeros(1, np.float32))}))["vector"]["shape"] == [1]


async def test_scalars_are_numbers(methods: LocalMethods) -> None:
    value = [np.float32(1.5), np.int64(3), np.bool_(True), np.str_("a"), np.float64(2.5)]
    assert await methods.call("arrays.anything", {"value": value}) == [1.5, 3, True, "a", 2.5]
    assert await methods.call("arrays.small", {"value": np.int8(5)}) == 5
    assert await methods.call("arrays.short", {"value": 1}) == 1.0
    assert await methods.call("arrays.number", {"value": np.float32(0.5)}) == 0.5
    assert await methods.call("arrays.floats", {"value": [np.float32(0.5), 1]}) == [0.5, 1.0]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("arrays.array", ["x"], "nested lists"),
        ("arrays.array", [[1], [1, 2]], "nested lists"),
        ("arrays.array", {"dtype": "float32", "shape": [2], "bytes": b"123"}, "8 bytes, not 3"),
        ("arrays.array", {"dtype": "float32", "shape": [-1], "bytes": b"1234"}, "an array is"),
        ("arrays.array", {"dtype": "object", "shape": [1], "bytes": b"12345678"}, "dtype 'object'"),
        ("arrays.array", {"dtype": "f4,f4", "shape": [1], "bytes": b"12345678"}, "dtype 'f4,f4'"),
        ("arrays.array", {"dtype": "nonsense", "shape": [1], "bytes": b"1"}, "dtype 'nonsense'"),
        ("arrays.array", {"dtype": "int8", "shape": [1]}, "an array is"),
        ("arrays.some", [1.5], "float64 was given, not of int16"),
        ("arrays.small", 300, "beyond int8"),
        ("arrays.small", 1.5, "int8 was declared"),
    ],
)
async def test_what_is_no_array_is_refused(methods: LocalMethods, name: str, value: Any, says: str) -> None:
    with pytest.raises(RpcError, match=says) as caught:
        await methods.call(name, {"value": value})
    assert (caught.value.code, "value" in caught.value.message) == (ErrorCode.INVALID_PARAMS, True)


@pytest.mark.parametrize(
    "value", [np.array([object()]), np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]), np.float32("nan")]
)
async def test_what_has_no_form_is_a_typed_error(value: Any) -> None:
    async def gives() -> Any:
        return value

    module = ModuleType("arrays")
    module.gives = method("arrays.gives")(gives)  # type: ignore[attr-defined]
    async with LocalMethods(module) as local:
        with pytest.raises(RpcError, match=r"items as a list|finite") as caught:
            await local.call("arrays.gives")
    assert caught.value.code == ErrorCode.SERIALIZATION_ERROR


def test_schemas_say_what_travels() -> None:
    registry = Registry()
    registry.add_module(MODULE)
    info = registry.methods["arrays.single"].info
    assert info.result == SCHEMA
    for value in (as_plain(np.zeros(2)), [[1]], 1.5):
        jsonschema.validate(value, info.parameters[0].schema)
    assert registry.methods["arrays.small"].info.result == {"type": "integer"}


def test_scalars_without_a_form_are_refused_at_load() -> None:
    with pytest.raises(RegistrationError, match="complex64 has no form"):
        Registry().add_module(module_of(bad=np.complex64))


def test_a_dtype_is_kept_by_a_cast_of_its_kind_only() -> None:
    assert to_array([1.5], np.float16).dtype == np.float16
    with pytest.raises(ValueError, match="float64 was given"):
        to_array([1.5], np.int32)


async def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    module = module_of(tensor=torch.Tensor, anything=Any)
    given = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    async with LocalMethods(module) as local:
        for tensor in (given, given.t(), given[:, 1], given.requires_grad_(), torch.tensor(3), torch.zeros(0, 2)):
            for name in ("arrays.tensor", "arrays.anything"):
                form = await local.call(name, {"value": tensor})
                np.testing.assert_array_equal(array_of(form), tensor.detach().numpy())
        half = await local.call("arrays.tensor", {"value": torch.tensor([1.5, 2.5], dtype=torch.bfloat16)})
        assert (half["dtype"], half["shape"]) == ("bfloat16", [2])
        assert (await local.call("arrays.tensor", {"value": [[1, 2]]}))["shape"] == [1, 2]
        for bad in ({"dtype": "load", "shape": [1], "bytes": b"1"}, "x"):
            with pytest.raises(RpcError) as caught:
                await local.call("arrays.tensor", {"value": bad})
            assert caught.value.code == ErrorCode.INVALID_PARAMS


async def test_tables_are_records() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({
        "name": ["a", None], "score": [1.5, float("nan")], "at": pandas.to_datetime(["2020-01-01", "2020-01-02"]),
    })  # fmt: skip
    records = [
        {"name": "a", "score": 1.5, "at": "2020-01-01T00:00:00"},
        {"name": None, "score": None, "at": "2020-01-02T00:00:00"},
    ]
    async with LocalMethods(module_of(table=pandas.DataFrame, anything=Any)) as local:
        assert await local.call("arrays.anything", {"value": frame}) == records
        assert await local.call("arrays.anything", {"value": frame["score"]}) == [1.5, None]
        assert await local.call("arrays.table", {"value": records}) == records
        with pytest.raises(RpcError, match="list of objects"):
            await local.call("arrays.table", {"value": {"name": ["a"]}})


def test_nothing_is_imported_for_it() -> None:
    code = (
        "import sys; from trunkline_protocol.arrays import as_plain; import trunkline.methods.binding\n"
        "as_plain([1]); print([name for name in ('numpy', 'torch', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
