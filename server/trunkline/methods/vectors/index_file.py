"""The format of an index file: what a collection has in memory, so that opening it need not read all rows.

::

    for each part, some items:  their vectors (little-endian float32, a row an item), then the items (MessagePack)
    the directory (MessagePack): which file this is, and the rows, sizes and CRC-32 of each part
    the end: as of all checked files (checked_file.py)

The items of a part are read as what they were, or as nothing: where any number does not fit, :class:`Unusable` says
why, and the rows are read. Whoever writes the file may be changing the collection meanwhile; which commits have to be
looked at again is said by :class:`~trunkline.methods.vectors.touched.Reference`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import numpy as np

from trunkline.methods.vectors import checked_file
from trunkline.methods.vectors.changes import Item
from trunkline.methods.vectors.checked_file import CheckedFileWriter
from trunkline.methods.vectors.structures import Flat, IndexSpec
from trunkline.methods.vectors.touched import Missing, Reference, Unusable, encoded

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT_VERSION: Final = 1
MAGIC: Final = b"trunkline index\n"
_AS_JSON: Final = 1
"""Items that MessagePack cannot hold (a number above 64 bits, no Unicode): JSON, as Python's library writes it."""

Count = Annotated[int, msgspec.Meta(ge=0)]


class Part(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Some items: how many, the bytes that they take without their vectors, how they are written, the checksums."""

    rows: Annotated[int, msgspec.Meta(ge=1)]
    item_bytes: Count
    coding: int
    vectors_crc: int
    items_crc: int


class Directory(msgspec.Struct, forbid_unknown_fields=True):
    """What a file holds."""

    format_version: int
    token: str
    position: int
    dimension: int
    metric: str
    parts: list[Part]


_packed: Final = msgspec.msgpack.Encoder()
_items_of: Final = msgspec.msgpack.Decoder(list[Item])
_directory: Final = msgspec.msgpack.Decoder(Directory)


class IndexFileWriter:
    """Writes an index file from its beginning to its end. All of it blocks.

    Args:
        descriptor: of an empty file.
    """

    def __init__(self, descriptor: int, reference: Reference, spec: IndexSpec) -> None:
        self._file = CheckedFileWriter(descriptor, MAGIC)
        self._contents = Directory(FORMAT_VERSION, *reference, spec.dimension, spec.metric, [])

    @property
    def size(self) -> int:
        """Of what was written, in bytes."""
        return self._file.size

    def add(self, items: Sequence[Item], vectors: NDArray[np.float32]) -> None:
        """Add items, one at least.

        Raises:
            OSError: it cannot be written.
        """
        data = vectors.astype("<f4", copy=False).tobytes()
        coding, packed = _pack(items)
        self._contents.parts.append(Part(len(items), len(packed), coding, zlib.crc32(data), zlib.crc32(packed)))
        self._file.write(data)
        self._file.write(packed)

    def end(self) -> None:
        """Add the directory: it is complete, and not synced.

        Raises:
            OSError: it cannot be written.
        """
        self._file.end(_packed.encode(self._contents))


def _pack(items: Sequence[Item]) -> tuple[int, bytes]:
    try:
        return 0, _packed.encode(items)
    except (OverflowError, UnicodeEncodeError):
        return _AS_JSON, encoded(json.dumps([msgspec.structs.astuple(each) for each in items], ensure_ascii=False))


def _unpack(coding: int, data: bytearray) -> list[Item]:
    try:
        if coding == _AS_JSON:
            return [Item(*each) for each in json.loads(data.decode("utf-8", "surrogatepass"))]
        return _items_of.decode(data)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise Unusable(f"its items are not what this version of Trunkline writes: {error}") from error


def read_index_file(path: Path, reference: Reference, spec: IndexSpec, more: int) -> tuple[list[Item], Flat]:
    """The items of an index file, and the structure that has their vectors, a row an item. Blocks.

    Args:
        reference: which file it has to be.
        spec: its dimension and metric are those of the vectors.
        more: items that will be added soon.

    Raises:
        Missing: it is not there.
        Unusable: it is another, or is not what was written.
        OSError: it cannot be read.
    """
    with contextlib.ExitStack() as opened:
        try:
            descriptor = opened.enter_context(checked_file.opened(path))
        except FileNotFoundError:
            raise Missing("it is not there, as after a restore: a backup has none") from None
        directory = _read_directory(descriptor, reference, spec)
        rows = sum(part.rows for part in directory.parts)
        structure = Flat(spec, rows, rows + more)
        # Both are read at the same time: decoding takes this core, copying vectors another one.
        beside = opened.enter_context(ThreadPoolExecutor(1, "index file"))
        vectors = beside.submit(_read_vectors, descriptor, directory, structure.memory)
        items = _read_items(descriptor, directory)
        vectors.result()
        return items, structure


def _read_directory(descriptor: int, reference: Reference, spec: IndexSpec) -> Directory:
    data, start = checked_file.read_directory(descriptor, MAGIC)
    try:
        version = msgspec.msgpack.decode(data)["format_version"]
        if version != FORMAT_VERSION:
            raise Unusable(f"it has format {version}, this version of Trunkline reads {FORMAT_VERSION}")
        directory = _directory.decode(data)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise Unusable(f"its directory is not what this version of Trunkline writes: {error}") from error
    if (directory.token, directory.position) != reference:
        raise Unusable("it is that of another collection, or of another moment")
    if (directory.dimension, directory.metric) != (spec.dimension, spec.metric):
        raise Unusable("it has another dimension or metric")
    if start != sum(4 * part.rows * spec.dimension + part.item_bytes for part in directory.parts):
        raise Unusable("its parts do not have the sizes that its directory says")
    return directory


def _read_vectors(descriptor: int, directory: Directory, memory: NDArray[np.float32]) -> None:
    row = 0
    for part, (at, _), _ in _places(directory):
        rows = memory[row : row + part.rows]
        checked_file.read_into(rows.data.cast("B"), descriptor, at)
        if zlib.crc32(rows.data) != part.vectors_crc:
            raise Unusable(f"its vectors from byte {at} on are not what was written")
        if sys.byteorder == "big":
            rows.byteswap(inplace=True)
        row += part.rows


def _read_items(descriptor: int, directory: Directory) -> list[Item]:
    items: list[Item] = []
    for part, _, (at, size) in _places(directory):
        data = checked_file.read(descriptor, size, at)
        if zlib.crc32(data) != part.items_crc:
            raise Unusable(f"its items from byte {at} on are not what was written")
        some = _unpack(part.coding, data)
        if len(some) != part.rows:
            raise Unusable(f"it has {len(some)} items from byte {at} on, not {part.rows}")
        items += some
    return items


Place = tuple[int, int]
"""Where something begins, and its size."""


def _places(directory: Directory) -> Iterator[tuple[Part, Place, Place]]:
    """The parts, and where the vectors and items of each are."""
    sizes = [(4 * part.rows * directory.dimension, part.item_bytes) for part in directory.parts]
    starts = itertools.accumulate((sum(each) for each in sizes), initial=0)
    for part, (vectors, items), at in zip(directory.parts, sizes, starts, strict=False):
        yield part, (at, vectors), (at + vectors, items)
