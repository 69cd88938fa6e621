"""The file of the audit log: whole lines only, and its rotation by size and age.

The present file keeps its name; ``.1`` is the one before, ``.2`` the one before that. Several processes may write the
same file: each holds a lock on it while it writes and rotates, and goes on by itself in the file that has the name now.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from trunkline import defaults

_STAMP: Final = re.compile(rb'\{"time":"([^"]{1,40})"')


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a new file is begun, and how many old ones are kept.

    Attributes:
        max_bytes: how large a file grows, unless a single line is larger; None sets no limit.
        max_seconds: how old its first line may be when another is written; None sets no limit.
        kept: files beside the present one, 1 or more; the oldest of more is deleted.
    """

    max_bytes: int | None = None
    max_seconds: float | None = None
    kept: int = defaults.AUDIT_KEPT


class AuditFile:
    """An open file that lines are appended to. It blocks: to be used by the thread that may wait for the disk.

    Args:
        path: made with mode 0600 where there is none.
        rotation: when another one is begun.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, rotation: Rotation) -> None:
        self._path = path
        self._rotation = rotation
        self._take(_open(path))

    @property
    def descriptor(self) -> int:
        """The descriptor of the present file."""
        return self._descriptor

    def write(self, lines: Sequence[bytes]) -> tuple[int, OSError | None]:
        """Append lines, to each of which its line end is added.

        Returns:
            How many of them are in a file as a whole, and what went wrong: with all of them written, that a new file
            could not be begun; else why the next one could not be written.
        """
        trouble = self._lock()
        done = 0
        while done < len(lines):
            if self._is_due(len(lines[done])):
                trouble = self._rotate()
            count = len(lines) - done if trouble else self._fitting(lines[done:])
            written, error = self._append(lines[done : done + count])
            done += written
            if error is not None:
                trouble = error
                break
        self._unlock()
        return done, trouble

    def reopen(self) -> None:
        """Go on in the file that has the name now.

        Raises:
            OSError: it cannot be opened; the old one stays open.
        """
        descriptor = _open(self._path)
        self.close()
        self._take(descriptor)

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # a network disk may only now say that it is full; the thread has to live
            os.close(self._descriptor)

    def _take(self, descriptor: int) -> None:
        self._descriptor = descriptor
        found = os.fstat(descriptor)
        self._inode = found.st_dev, found.st_ino
        self._is_regular = stat.S_ISREG(found.st_mode)
        self._began, self._torn = time.time(), False
        if self._is_regular and found.st_size:
            # Perhaps it is write-only for us, or not begun by a hub.
            with contextlib.suppress(OSError, ValueError), self._path.open("rb") as file:
                if (stamp := _STAMP.match(file.read(64))) is not None:
                    self._began = datetime.fromisoformat(stamp[1].decode()).timestamp()

    def _is_current(self) -> bool:
        """Whether the name still is that of the open file."""
        try:
            found = self._path.stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._inode

    def _lock(self) -> OSError | None:
        """Keep other processes from writing and rotating; first go on in the file that has the name now."""
        try:
            if not self._is_current():
                self.reopen()
            while self._is_regular:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
                if self._is_current():
                    break
                self.reopen()  # somebody has rotated it; closing the old file gives its lock back
        except OSError as error:
            return error
        return None

    def _unlock(self) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def _is_due(self, length: int) -> bool:
        limit, age, size = self._rotation.max_bytes, self._rotation.max_seconds, self._size()
        if not self._is_regular or not size:
            return False
        return (limit is not None and size + length + 1 > limit) or (
            age is not None and time.time() - self._began >= age
        )

    def _fitting(self, lines: Sequence[bytes]) -> int:
        """How many of the lines the present file has room for; at least one."""
        if self._rotation.max_bytes is None or not self._is_regular:
            return len(lines)
        room = self._rotation.max_bytes - self._size() - len(lines[0]) - 1
        count = 1
        while count < len(lines) and (room := room - len(lines[count]) - 1) >= 0:
            count += 1
        return count

    def _rotate(self) -> OSError | None:
        """Begin a new file. Where that cannot be done, the next lines go into this one."""
        try:
            self._shift()
        except OSError as error:
            return error
        return self._lock()

    def _shift(self) -> None:
        """Number the files anew: those up to the first free number, or up to the last, which is then deleted."""
        kept = self._rotation.kept
        free = next((number for number in range(1, kept) if not self._old(number).exists()), kept)
        for number in range(free - 1, 0, -1):
            self._old(number).rename(self._old(number + 1))
        self._path.rename(self._old(1))

    def _old(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _append(self, lines: Sequence[bytes]) -> tuple[int, OSError | None]:
        start = b"\n" if self._is_torn() else b""  # so that what is left of a torn line spoils no other
        data = memoryview(start + b"\n".join(lines) + b"\n")
        done, failure = 0, None
        try:
            while done < len(data):
                done += os.write(self._descriptor, data[done:])
        except OSError as error:
            failure = error
        if done:
            self._torn = data[done - 1] != ord("\n")
        whole = len(lines) if failure is None else max(0, bytes(data[:done]).count(b"\n") - len(start))
        return whole, failure

    def _is_torn(self) -> bool:
        """Whether the file ends within a line, of this process or of one that was killed."""
        with contextlib.suppress(OSError):
            if self._is_regular and (size := self._size()):
                with self._path.open("rb") as file:
                    file.seek(size - 1)
                    self._torn = file.read(1) != b"\n"
        return self._torn


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
