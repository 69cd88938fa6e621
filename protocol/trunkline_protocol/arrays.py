"""Arrays of numbers inside JSON: ``{"dtype", "shape", "bytes"}`` (SPEC.md, Arrays); and tables, as records.

Neither numpy nor torch nor pandas is imported here: who has one of their objects has imported them already.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Final

from trunkline_protocol.binary import SCHEMA as BYTES_SCHEMA
from trunkline_protocol.binary import from_member, from_text, to_member
from trunkline_protocol.json_schema import Schema

SCHEMA: Final[Schema] = {
    "title": "NDArray",
    "type": "object",
    "properties": {
        "dtype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "bytes": BYTES_SCHEMA,
    },
    "required": ["dtype", "shape", "bytes"],
    "additionalProperties": False,
}
"""JSON Schema of an array."""

_NAMED: Final = "biufc"
"""numpy's kinds of dtypes whose names say their size: bool, int8, uint8, float32, complex64, ..."""

_SIZED: Final = "mMSU"
"""Kinds that have only numpy's short form, for example ``<M8[s]``: times, bytes and texts of a length."""


def as_plain(value: Any) -> Any:
    """An array, tensor, scalar or table of numpy, torch or pandas as what JSON has; None where it is none of them.

    Raises:
        ValueError: an array of Python objects, or of records.
    """
    numpy, torch, pandas = (sys.modules.get(name) for name in ("numpy", "torch", "pandas"))
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return value.astype(object).where(value.notna(), None).to_dict(orient="records")
    if pandas is not None and isinstance(value, pandas.Series):
        return value.astype(object).where(value.notna(), None).tolist()
    if torch is not None and isinstance(value, torch.Tensor):
        return _from_tensor(value, torch)
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _from_array(value, numpy)
    return None


def _form(dtype: str, shape: Any, data: bytes) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "bytes": to_member(data)}


def _from_array(array: Any, numpy: Any) -> dict[str, Any]:
    kind = array.dtype.kind
    if kind not in _NAMED + _SIZED:
        raise ValueError(f"an array of dtype {array.dtype}: give its items as a list")
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    dtype = array.dtype.name if kind in _NAMED else little.dtype.str
    return _form(dtype, array.shape, little.tobytes())


def _from_tensor(tensor: Any, torch: Any) -> dict[str, Any]:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise ValueError(f"a tensor of layout {tensor.layout}, dtype {dtype}: make it dense")
    plain = tensor.detach().to("cpu").resolve_conj().resolve_neg().contiguous().reshape(-1)
    return _form(dtype, tensor.shape, plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b"")


def _parts(form: dict[str, Any]) -> tuple[str, list[int], bytes]:
    dtype, shape, data = form.get("dtype"), form.get("shape"), form.get("bytes")
    if isinstance(data, dict):
        data = from_member(data)
    elif isinstance(data, str):
        data = from_text(data)
    sizes = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if len(form) != 3 or not isinstance(dtype, str) or not sizes or not isinstance(data, bytes):
        raise ValueError('an array is {"dtype": "float32", "shape": [2, 3], "bytes": {"$bytes": "<base64>"}}')
    return dtype, shape, data  # type: ignore[return-value]  # checked: ``sizes``


def _require_size(data: bytes, shape: list[int], dtype: str, size: int) -> None:
    if math.prod(shape) * size != len(data):
        raise ValueError(f"shape {shape} of {dtype} is {math.prod(shape) * size} bytes, not {len(data)}")


def to_array(value: Any, dtype: Any = None) -> Any:
    """A numpy array of one's own, from the form of arrays or from nested lists of numbers.

    Args:
        dtype: what it has to be, or become by a cast that keeps the kind; None = what it is.

    Raises:
        ValueError: it is no array, or of another dtype.
    """
    numpy: Any = sys.modules["numpy"]
    array = value
    if not isinstance(value, numpy.ndarray):
        array = _of_form(value, numpy) if isinstance(value, dict) else _of_lists(value, numpy)
    if dtype is None or array.dtype == dtype:
        return array
    if not numpy.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError(f"an array of {array.dtype} was given, not of {numpy.dtype(dtype)}")
    return array.astype(dtype)


def _of_form(form: dict[str, Any], numpy: Any) -> Any:
    name, shape, data = _parts(form)
    try:
        dtype = numpy.dtype(name).newbyteorder("<")
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or dtype.kind not in _NAMED + _SIZED:
        raise ValueError(f"dtype {name!r:.100} is none that an array is sent with")
    _require_size(data, shape, name, dtype.itemsize)
    return numpy.frombuffer(bytearray(data), dtype).reshape(shape) if data else numpy.zeros(shape, dtype)


def _of_lists(value: Any, numpy: Any) -> Any:
    try:
        array = numpy.asarray(value)
    except ValueError:  # of several lengths
        array = None
    if array is None or array.dtype.kind not in _NAMED:
        raise ValueError("nested lists are an array where all are of one length, and of numbers")
    return array


def to_scalar(value: Any, dtype: Any) -> Any:
    """A scalar of a numpy dtype, from a number or a boolean.

    Raises:
        ValueError: it is another, or beyond what the dtype holds.
    """
    fits = (
        isinstance(value, bool) if dtype.kind == "b" else type(value) in ((int, float) if dtype.kind == "f" else (int,))
    )
    if not fits:
        raise ValueError(f"{dtype} was declared, not {type(value).__name__}")
    try:
        return dtype.type(value)
    except OverflowError:
        raise ValueError(f"{value} is beyond {dtype}") from None


def to_tensor(value: Any) -> Any:
    """A torch tensor, from the form of arrays or from nested lists of numbers.

    Raises:
        ValueError: it is no tensor.
    """
    torch: Any = sys.modules["torch"]
    if not isinstance(value, dict):
        return torch.as_tensor(_of_lists(value, sys.modules["numpy"]))
    name, shape, data = _parts(value)
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype {name!r:.100} is none of torch's")
    _require_size(data, shape, name, dtype.itemsize)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape) if data else torch.zeros(shape, dtype=dtype)


def to_table(value: Any) -> Any:
    """A pandas DataFrame, from records: a list of objects.

    Raises:
        ValueError: it is no list of objects.
    """
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ValueError("a table is a list of objects, one a row")
    return sys.modules["pandas"].DataFrame.from_records(value)
