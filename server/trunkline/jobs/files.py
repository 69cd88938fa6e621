"""Files of jobs: synced, locked, and with errors that say what to do. All of this blocks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from trunkline.durable import USED_UP, sync
from trunkline_protocol.errors import ErrorCode, RpcError


@contextlib.contextmanager
def storage(what: str) -> Iterator[None]:
    """Raise errors of the file system as RpcErrors.

    Raises:
        RpcError: 5002, where a resource has run out; else 5001.
    """
    try:
        yield
    except OSError as error:
        where = f"{error.strerror or error} ({error.filename})" if error.filename else f"{error.strerror or error}"
        if error.errno in USED_UP:
            words = f"{what}: {where}: nothing was changed; free some of it and try again"
            raise RpcError(ErrorCode.INSUFFICIENT_RESOURCES, words, retry_after_ms=1000) from error
        words = f"{what}: {where}: make the folder writable for the hub, or set another (TRUNKLINE_DATA)"
        raise RpcError(ErrorCode.DATABASE_CONNECTION_ERROR, words, retry_after_ms=1000) from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there as a whole, under this name, or not at all. The caller syncs the folder."""
    unfinished = path.with_name(path.name + ".new")
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            sync(file.fileno())
        unfinished.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def append(path: Path, data: bytes, *, durable: bool) -> None:
    """Add to a file that exists; when it raises, nothing was added."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        size = os.fstat(descriptor).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if durable:
                sync(descriptor)
        except BaseException:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def lock(path: Path) -> int:
    """Take a lock, which is held until the descriptor is closed or the process ends. Returns the descriptor.

    Raises:
        BlockingIOError: another process holds it; the message has its id.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise BlockingIOError(errno.EWOULDBLOCK, f"process {owner} runs the jobs of this folder") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        undo.pop_all()
    return descriptor


def checked_line(data: bytes) -> bytes:
    """One record: eight hexadecimal digits of its CRC-32, a blank, the record, which has no line break."""
    return b"%08x %b\n" % (zlib.crc32(data), data)


def read_lines(data: bytes) -> tuple[list[bytes], int]:
    """The records, and where the last whole one ends: what follows was never finished.

    Raises:
        ValueError: a finished record is not what was written.
    """
    records, end = [], 0
    while (after := data.find(b"\n", end)) >= 0:
        line = data[end:after]
        if line[8:9] != b" " or line[:8] != b"%08x" % zlib.crc32(line[9:]):
            raise ValueError(f"the record at byte {end} is not what was written")
        records.append(line[9:])
        end = after + 1
    return records, end
