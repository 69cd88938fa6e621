"""Files of what is made of a collection's items and takes long: ``index-structure``, ``index-words``. It blocks.

::

    the parts, one after the other
    the directory (MessagePack): what it is made of, the commit it stands at, the sizes and CRC-32 of the parts
    the end: as of all checked files (checked_file.py)

A file is only a beginning: whoever reads it compares it with the items that there are, and puts right what differs. So
it does not matter how old it is, or what was done to the folder since, but for the time that this takes.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec

from trunkline.methods.vectors import checked_file
from trunkline.methods.vectors.checked_file import CheckedFileWriter
from trunkline.methods.vectors.touched import Unusable
from trunkline.storage.durable import sync_data, whole_file

FORMAT_VERSION: Final = 1
MAGIC: Final = b"trunkline derive"
SYNCED_BYTES: Final = 32 * 2**20
"""What is written without a sync, which the sync of a commit might have to wait for."""
ROOM: Final = 2
"""Times what a file may take has to be free on the disk."""
READ_AT_ONCE: Final = 2**20

Size = Annotated[int, msgspec.Meta(ge=0)]
Write = Callable[[bytes], None]
Part = bytes | Callable[[Write], None]
"""A part of a file, or what writes it, some bytes at a time."""


class StoredPart(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The size of a part, and its CRC-32."""

    bytes: Size
    crc: int


class Directory(msgspec.Struct, forbid_unknown_fields=True):
    """What a file holds."""

    format_version: int
    made_of: dict[str, str]
    position: int
    parts: list[StoredPart]


class GivenUp(Exception):
    """A file is not written to its end: its collection was closed."""


_directory: Final = msgspec.msgpack.Decoder(Directory)


def write_derived(
    path: Path,
    made_of: Mapping[str, str],
    position: int,
    parts: Iterable[Part],
    room: int,
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Write a file: it is there as a whole, and synced, or as it was before.

    Args:
        made_of: what has to be the same where it is read.
        position: of the last commit before what is in it.
        room: bytes that it may take.
        go_on: asked now and then; false ends it.

    Raises:
        GivenUp: ``go_on`` said so.
        Unusable: there is no room for it.
        OSError: it cannot be written.
    """
    free = shutil.disk_usage(path.parent).free
    if free < ROOM * room:
        raise Unusable(f"it may take {room:,} bytes, and {free:,} are free")
    with whole_file(path) as output:
        writer = CheckedFileWriter(output.fileno(), MAGIC)
        stored = [_write_part(writer, output.fileno(), part, go_on) for part in parts]
        writer.end(msgspec.msgpack.encode(Directory(FORMAT_VERSION, dict(made_of), position, stored)))


def _write_part(writer: CheckedFileWriter, descriptor: int, part: Part, go_on: Callable[[], bool]) -> StoredPart:
    began, synced, crc = writer.size, writer.size, 0

    def write(data: bytes) -> None:
        nonlocal crc, synced
        if not go_on():
            raise GivenUp
        crc = zlib.crc32(data, crc)
        writer.write(data)
        if writer.size - synced > SYNCED_BYTES:
            sync_data(descriptor)
            synced = writer.size

    if isinstance(part, bytes):
        write(part)
    else:
        part(write)
    return StoredPart(writer.size - began, crc)


class DerivedFile:
    """A file that is read. Each part is compared with its checksum before a byte of it is given away.

    Attributes:
        position: of the last commit before what is in it.
    """

    def __init__(self, descriptor: int, directory: Directory) -> None:
        self._descriptor = descriptor
        self._parts = directory.parts
        self.position = directory.position

    def part(self, number: int) -> bytes:
        """A part, whole. Raises as :meth:`reader`."""
        read = self.reader(number)
        return b"".join(iter(lambda: read(READ_AT_ONCE), b""))

    def reader(self, number: int) -> Callable[[int], bytes]:
        """What gives the bytes of a part, so many at a time, or fewer where there are no more.

        Raises:
            Unusable: it is not what was written.
            OSError: it cannot be read.
        """
        if number >= len(self._parts):
            raise Unusable("a part of it is missing")
        part, start = self._parts[number], sum(each.bytes for each in self._parts[:number])
        crc = 0
        for at in range(start, start + part.bytes, READ_AT_ONCE):
            size = min(READ_AT_ONCE, start + part.bytes - at)
            crc = zlib.crc32(checked_file.read(self._descriptor, size, at), crc)
        if crc != part.crc:
            raise Unusable(f"part {number} of it is not what was written")
        at = start

        def read(size: int) -> bytes:
            nonlocal at
            data = bytes(checked_file.read(self._descriptor, min(size, start + part.bytes - at), at))
            at += len(data)
            return data

        return read


@contextmanager
def reading_derived(path: Path, made_of: Mapping[str, str]) -> Iterator[DerivedFile]:
    """A file, to be read in the block.

    Raises:
        FileNotFoundError: there is none.
        Unusable: it is not what was written, or is made of something else.
        OSError: it cannot be read.
    """
    with checked_file.opened(path) as descriptor:
        data, start = checked_file.read_directory(descriptor, MAGIC)
        try:
            directory = _directory.decode(data)
        except msgspec.MsgspecError as error:
            raise Unusable(f"its directory is not what this version of Trunkline writes: {error}") from error
        if directory.format_version != FORMAT_VERSION:
            raise Unusable(f"it has format {directory.format_version}, and {FORMAT_VERSION} is read")
        others = sorted(k for k in directory.made_of.keys() | made_of if directory.made_of.get(k) != made_of.get(k))
        if others:
            raise Unusable(f"it is made with another {', '.join(others)}")
        if start != sum(part.bytes for part in directory.parts):
            raise Unusable("its parts do not have the sizes that its directory says")
        yield DerivedFile(descriptor, directory)
