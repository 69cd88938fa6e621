"""Files that end with a directory of what is in them, whose checksums are compared before anything is used.

::

    what is in it
    the directory (MessagePack)
    the end: where the directory begins, its size and CRC-32, and 16 bytes that say what file it is

Where any number does not fit, :class:`~trunkline.methods.vectors.touched.Unusable` says why. All of this blocks.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from trunkline.methods.vectors.touched import Unusable

END: Final = struct.Struct("<QQI16s")
"""Where the directory begins, its size, its CRC-32, what file it is."""


class CheckedFileWriter:
    """Writes such a file from its beginning to its end.

    Attributes:
        size: of what was written, in bytes.

    Args:
        descriptor: of an empty file.
        magic: 16 bytes that say what file it is.
    """

    def __init__(self, descriptor: int, magic: bytes) -> None:
        self._descriptor = descriptor
        self._magic = magic
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Add some bytes.

        Raises:
            OSError: they cannot be written.
        """
        rest = memoryview(data)
        while rest:
            count = os.write(self._descriptor, rest)
            rest = rest[count:]
            self.size += count

    def end(self, directory: bytes) -> None:
        """Add the directory: it is complete, and not synced.

        Raises:
            OSError: it cannot be written.
        """
        self.write(directory + END.pack(self.size, len(directory), zlib.crc32(directory), self._magic))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """The descriptor of a file, to be read.

    Raises:
        FileNotFoundError: it is not there.
        Unusable: it is a pipe, a folder or the like.
        OSError: it cannot be opened.
    """
    # Opening a pipe would wait for who writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unusable("it is no regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def read_directory(descriptor: int, magic: bytes) -> tuple[bytearray, int]:
    """The directory of a file, and where it begins, which is the size of what is in the file.

    Raises:
        Unusable: it is not what was written.
        OSError: it cannot be read.
    """
    size = os.fstat(descriptor).st_size
    if size < END.size:
        raise Unusable("it is cut off")
    start, length, crc, found = END.unpack(read(descriptor, END.size, size - END.size))
    if found != magic or start + length + END.size != size:
        raise Unusable("it is cut off, or no index file")
    data = read(descriptor, length, start)
    if zlib.crc32(data) != crc:
        raise Unusable("its directory is not what was written")
    return data, start


def read(descriptor: int, size: int, at: int) -> bytearray:
    """Some bytes of a file. Raises as :func:`read_into`."""
    data = bytearray(size)
    read_into(memoryview(data), descriptor, at)
    return data


def read_into(rest: memoryview, descriptor: int, at: int) -> None:
    """Fill memory with the bytes of a file from a place on.

    Raises:
        Unusable: there are not as many.
        OSError: it cannot be read.
    """
    while rest:
        count = os.preadv(descriptor, [rest], at)
        if not count:
            raise Unusable("it is cut off")
        rest, at = rest[count:], at + count
