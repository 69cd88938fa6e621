"""A folder of one process: its lock, which the kernel frees when the process ends. All of this blocks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import zlib
from pathlib import Path
from typing import Final

import psutil

from trunkline.storage.durable import is_at, sync
from trunkline_protocol.errors import ErrorCode, RpcError

NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "fuse.ceph", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs",
        "fuse.sshfs", "gcsfuse", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2",
        "orangefs", "s3fs", "smb3", "smbfs", "webdav",
    }
)  # fmt: skip
"""Their locks and syncs hold on one machine only, or not at all: two hubs would have the same state."""

_OWNER_BYTES: Final = 12
_MARK: Final = b"made\n"
_OPENING: Final = struct.Struct(">II")
"""Behind the mark: an opening and its CRC-32."""


def lock(path: Path) -> int:
    """Take a lock, which is held until the descriptor is closed or the process ends. Returns the descriptor.

    Raises:
        BlockingIOError: another process holds it; the message has its id. Or it was moved or removed just now.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, _OWNER_BYTES, 0).decode(errors="replace").strip() or "unknown"
            raise BlockingIOError(errno.EWOULDBLOCK, f"process {owner} has it open") from None
        if not is_at(descriptor, path):  # the lock of a folder that is gone does not lock the one that has its name now
            raise BlockingIOError(errno.EWOULDBLOCK, "it was moved or removed just now")
        with contextlib.suppress(OSError):  # a full disk: only the message to others lacks the process's id
            os.pwrite(descriptor, b"%-11d\n" % os.getpid(), 0)  # _OWNER_BYTES
        undo.pop_all()
    return descriptor


def is_marked(descriptor: int) -> bool:
    """Whether :func:`mark` was called with a lock, by this owner or one before."""
    return os.pread(descriptor, len(_MARK), _OWNER_BYTES) == _MARK


def mark(descriptor: int) -> None:
    """Note in a lock, behind its owner's process id, that what it locks has been made."""
    os.pwrite(descriptor, _MARK, _OWNER_BYTES)


def opening_in(descriptor: int) -> int:
    """The opening that was noted in a lock last; 0 if it ended, there was none, or the note was not finished."""
    noted = os.pread(descriptor, _OPENING.size, _OWNER_BYTES + len(_MARK))
    if len(noted) < _OPENING.size:
        return 0
    opening, crc = _OPENING.unpack(noted)
    return int(opening) if zlib.crc32(noted[:4]) == crc else 0


def note_opening(descriptor: int, opening: int) -> None:
    """Note in a lock, durably, which opening of what it locks has begun, by a number of 32 bits.

    Raises:
        OSError: it cannot be written.
    """
    os.pwrite(descriptor, _MARK + _OPENING.pack(opening, zlib.crc32(opening.to_bytes(4))), _OWNER_BYTES)
    sync(descriptor)


def end_opening(descriptor: int) -> None:
    """Note in a lock, durably, that the opening has ended. This takes no room on the disk.

    Raises:
        OSError: it cannot be written.
    """
    if opening_in(descriptor):
        os.truncate(descriptor, _OWNER_BYTES + len(_MARK))
        sync(descriptor)


def require_local(folder: Path) -> None:
    """Check that a folder is not on a network file system.

    Raises:
        RpcError: 4001, it is.
    """
    kind = file_system_of(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        words = f"{folder} is on a network file system ({kind}), whose locks and syncs do not keep two hubs apart"
        raise RpcError(ErrorCode.INVALID_CONFIGURATION, f"{words}: set a folder of a local disk (TRUNKLINE_DATA)")


def file_system_of(folder: Path) -> str:
    """The type of the file system that a folder is on (``ext4``, ``nfs4``); "" if the mount table does not say."""
    where = folder.resolve()
    mounts = {Path(each.mountpoint): each.fstype for each in psutil.disk_partitions(all=True)}
    return next((mounts[each] for each in (where, *where.parents) if each in mounts), "")
