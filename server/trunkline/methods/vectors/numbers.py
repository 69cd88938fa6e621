"""Vectors as callers write them, and as they are kept: float32, of length 1 where the metric is cosine."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from trunkline import ErrorCode, RpcError
from trunkline.methods.vectors.structures import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

Given = Sequence[float] | str
"""Numbers, or base64 of little-endian float32."""

UNIT: Final = 1e-6
"""How far from 1 the length of a vector may be that was brought to length 1, and rounded to float32."""
LONGEST: Final = 1e18
"""Length of a vector under another metric than cosine: squares and products of longer ones leave float32."""


def as_vectors(rows: Sequence[Given], dimension: int, metric: Metric, where: Sequence[str]) -> NDArray[np.float32]:
    """Vectors from callers, as an array (rows x dimension) ready to be compared.

    Args:
        where: for each row, what to call it in an error.

    Raises:
        RpcError: -32602, no base64 of float32, another dimension, a number that is not finite as float32; a vector
            without direction where the metric is cosine, or one too long for float32 where it is another.
    """
    vectors = np.empty((len(rows), dimension), dtype=np.float64)
    for at, (row, place) in enumerate(zip(rows, where, strict=True)):
        numbers = _decoded(row, place) if isinstance(row, str) else row
        if len(numbers) != dimension:
            raise _bad(f"{place} has {len(numbers)} numbers; the collection's dimension is {dimension}")
        vectors[at] = numbers
    if not len(rows):
        return vectors.astype(np.float32)
    return _unit(vectors, where) if metric == "cosine" else _bounded(vectors, where)


def as_base64(vector: NDArray[np.float32]) -> str:
    """A vector as base64 of little-endian float32."""
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode()


def _decoded(text: str, place: str) -> NDArray[np.float32]:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    except (binascii.Error, ValueError) as error:
        raise _bad(f"{place} is no base64 of little-endian float32 ({error})") from error


def _finite(vectors: NDArray[np.float64], where: Sequence[str]) -> NDArray[np.float64]:
    """The largest number of each, without its sign."""
    largest: NDArray[np.float64] = np.abs(vectors).max(axis=1)
    wrong = np.flatnonzero(~(largest <= float(np.finfo(np.float32).max)))
    if len(wrong):
        raise _bad(f"{where[wrong[0]]} has a number that is not finite as float32")
    return largest


def _unit(vectors: NDArray[np.float64], where: Sequence[str]) -> NDArray[np.float32]:
    largest = _finite(vectors, where)
    wrong = np.flatnonzero(largest == 0)
    if len(wrong):
        raise _bad(f"{where[wrong[0]]} is all zeros, which has no direction; the collection's metric is cosine")
    scaled = vectors / largest[:, None]  # squares of the very large and the very small would be lost
    lengths = largest * np.linalg.norm(scaled, axis=1)
    is_unit = np.abs(lengths - 1) < UNIT  # as it is kept here: what is exported is imported bit by bit
    scaled /= np.linalg.norm(scaled, axis=1)[:, None]
    scaled[is_unit] = vectors[is_unit]
    return scaled.astype(np.float32)


def _bounded(vectors: NDArray[np.float64], where: Sequence[str]) -> NDArray[np.float32]:
    _finite(vectors, where)
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(lengths > LONGEST)
    if len(wrong):
        raise _bad(f"{where[wrong[0]]} has length {lengths[wrong[0]]:.3g}; at most {LONGEST:.0e} can be compared")
    return vectors.astype(np.float32)


def _bad(message: str) -> RpcError:
    return RpcError(ErrorCode.INVALID_PARAMS, message)
