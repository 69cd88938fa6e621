"""Disks that fail: every step that SQLite and this process take on their files, noted, and any of them the last one."""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import pytest

from tests.support import sqlite_vfs

SECTOR: Final = 512
"""Bytes that reach a disk together or not at all."""

Kind = Literal["open", "write", "truncate", "sync", "sync_folder", "rename", "unlink", "make_folder"]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Step:
    """Something that was done.

    Attributes:
        value: the data of a write, the size of a truncation, the new path of a rename.
        offset: of a write.
    """

    kind: Kind
    path: Path
    value: Any = None
    offset: int = 0


class RecordingDisk:
    """Does everything but waiting for the disk, and notes it in ``steps``, in the order in which it was done.

    Args:
        root: files elsewhere are not looked at.
    """

    def __init__(self, root: Path) -> None:
        self.steps: list[Step] = []
        self.root = root
        self._real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in self.functions()}
        self._paths: dict[int, Path] = {}

    def note(self, step: Step) -> None:
        self.steps.append(step)

    def refuse(self, step: Step) -> int:
        """The error that a step ends in; 0: it is done."""
        return 0

    # --- what SQLite does ---

    def opened(self, path: Path) -> None:
        self.note(Step("open", path))

    def write(self, path: Path, data: bytes, offset: int, do: Callable[[bytes], int]) -> int:
        step = Step("write", path, data, offset)
        if error := self.refuse(step):
            half = data[: len(data) // 2]
            do(half)
            self.note(Step("write", path, half, offset))
            return sqlite_vfs.FULL if error == errno.ENOSPC else sqlite_vfs.IOERR_WRITE
        self.note(step)
        return do(data)

    def truncate(self, path: Path, size: int, do: Callable[[], int]) -> int:
        step = Step("truncate", path, size)
        if self.refuse(step):
            return sqlite_vfs.IOERR_TRUNCATE
        self.note(step)
        return do()

    def sync(self, path: Path, with_folder: bool, do: Callable[[], int]) -> int:
        step = Step("sync", path)
        if self.refuse(step):
            return sqlite_vfs.IOERR_FSYNC
        self.note(step)
        if with_folder:
            self.note(Step("sync_folder", path.parent))
        return sqlite_vfs.OK

    def removed(self, path: Path) -> None:
        self.note(Step("unlink", path))

    # --- what this process does itself ---

    def functions(self) -> dict[str, Callable[..., Any]]:
        """By their names in ``os``."""
        return {
            "open": self.os_open,
            "write": self.os_write,
            "pwrite": self.os_pwrite,
            "fsync": self.os_fsync,
            "rename": self.os_rename,
            "unlink": self.os_unlink,
            "mkdir": self.os_mkdir,
            "truncate": self.os_truncate,
        }

    def _do(self, step: Step, name: str, *args: Any, **kwargs: Any) -> Any:
        if step.path.is_relative_to(self.root):
            if error := self.refuse(step):
                raise OSError(error, os.strerror(error), str(step.path))
            self.note(step)
            if name == "fsync":
                return None
        return self._real[name](*args, **kwargs)

    def os_open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        where = Path(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else Path()
        descriptor: int
        if flags & os.O_CREAT and dir_fd is None:
            descriptor = self._do(Step("open", where), "open", path, flags, mode)
            if flags & os.O_TRUNC and where.is_relative_to(self.root):
                self.note(Step("truncate", where, 0))
        else:
            descriptor = self._real["open"](path, flags, mode, dir_fd=dir_fd)
        self._paths[descriptor] = where
        return descriptor

    def _where(self, descriptor: int) -> Path:
        return self._paths.get(descriptor, Path())

    def os_write(self, descriptor: int, data: Any) -> int:
        where = self._where(descriptor)
        offset = os.lseek(descriptor, 0, os.SEEK_CUR) if where.is_relative_to(self.root) else 0
        return int(self._do(Step("write", where, bytes(data), offset), "write", descriptor, data))

    def os_pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        step = Step("write", self._where(descriptor), bytes(data), offset)
        return int(self._do(step, "pwrite", descriptor, data, offset))

    def os_fsync(self, descriptor: int) -> None:
        where = self._where(descriptor)
        self._do(Step("sync_folder" if where.is_dir() else "sync", where), "fsync", descriptor)

    def os_rename(self, old: Any, new: Any, **kwargs: Any) -> None:
        self._do(Step("rename", Path(old), Path(new)), "rename", old, new, **kwargs)

    def os_unlink(self, path: Any, **kwargs: Any) -> None:
        self._do(Step("unlink", Path(path)), "unlink", path, **kwargs)

    def os_mkdir(self, path: Any, mode: int = 0o777, **kwargs: Any) -> None:
        self._do(Step("make_folder", Path(path)), "mkdir", path, mode, **kwargs)

    def os_truncate(self, path: Any, size: int) -> None:
        where = self._where(path) if isinstance(path, int) else Path(path)
        self._do(Step("truncate", where, size), "truncate", path, size)


class FailingDisk(RecordingDisk):
    """Fails with ``code`` at some steps, counted from 0; a write that fails has written the half."""

    def __init__(self, root: Path, first: int, count: int, code: int = errno.ENOSPC) -> None:
        super().__init__(root)
        self.failed = 0
        self._failing = range(first, first + count)
        self._code = code
        self._next = 0

    def refuse(self, step: Step) -> int:
        self._next += 1
        # Cutting and removing do not fail for want of room.
        spared = ("open",) if self._code == errno.EIO else ("open", "unlink", "truncate")
        if self._next - 1 in self._failing and step.kind not in spared:
            self.failed += 1
            return self._code
        return 0


DiskType = TypeVar("DiskType", bound=RecordingDisk)


@contextlib.contextmanager
def using(disk: DiskType) -> Iterator[DiskType]:
    """Have what is done below the disk's root in the block go through it."""
    with pytest.MonkeyPatch.context() as patched, sqlite_vfs.hooked(disk.root, disk):
        for name, function in disk.functions().items():
            patched.setattr(os, name, function)
        yield disk


@dataclass(eq=False)
class File:
    """A file: what of it is on the disk, and what has been done to it since, in order."""

    durable: bytes = b""
    pending: list[Step] = field(default_factory=list)

    def sync(self) -> None:
        self.durable, self.pending = _written(self.durable, self.pending), []

    def after_crash(self, chance: random.Random) -> bytes:
        """Some of what was not synced may be there: not the end of it, or any of it, and not all sectors of that."""
        if chance.random() < 0.5:
            reached = self.pending[: chance.randint(0, len(self.pending))]
        else:
            reached = [step for step in self.pending if chance.random() < 0.5]
        if reached and reached[-1].kind == "write" and chance.random() < 0.7:
            last = reached.pop()
            reached += _parts(last, chance, len(self.durable))
        return _written(self.durable, reached)


def _parts(step: Step, chance: random.Random, length: int) -> Iterator[Step]:
    """Some of the sectors of a write, or its beginning. Of a sector that was there before, all is old or all is new."""
    if chance.random() < 0.5:
        end = step.offset + chance.randint(0, len(step.value))
        if end < length:
            end -= end % SECTOR
        yield Step("write", step.path, step.value[: max(0, end - step.offset)], step.offset)
        return
    at = step.offset
    while at < step.offset + len(step.value):
        end = at - at % SECTOR + SECTOR
        if chance.random() < 0.5:
            yield Step("write", step.path, step.value[at - step.offset : end - step.offset], at)
        at = end


def _written(data: bytes, steps: list[Step]) -> bytes:
    changed = bytearray(data)
    for step in steps:
        if step.kind == "write":
            end = step.offset + len(step.value)
            changed.extend(bytes(max(0, step.offset - len(changed))))
            changed[step.offset : end] = step.value
        elif step.value > len(changed):
            changed.extend(bytes(step.value - len(changed)))
        else:
            del changed[step.value :]
    return bytes(changed)


@dataclass(eq=False)
class Folder:
    """A folder: the names in it as processes see them, those on the disk, and what was done since, in order."""

    names: dict[str, File | Folder] = field(default_factory=dict)
    durable: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[dict[str, File | Folder | None]] = field(default_factory=list)

    def set(self, name: str, node: File | Folder | None) -> None:
        self.rename({name: node})

    def rename(self, changed: dict[str, File | Folder | None]) -> None:
        """Names that change at once: to a node, or to nothing."""
        self.pending.append(changed)
        _change(self.names, changed)

    def sync(self) -> None:
        self.durable, self.pending = dict(self.names), []

    def after_crash(self, chance: random.Random) -> dict[str, File | Folder]:
        """Some of what was not synced may be there: the first few, or any of them, in whatever order."""
        names = dict(self.durable)
        reached = chance.randint(0, len(self.pending))
        in_order = chance.random() < 0.5
        for number, changed in enumerate(self.pending):
            if number < reached if in_order else chance.random() < 0.5:
                _change(names, changed)
        return names


def _change(names: dict[str, File | Folder], changed: dict[str, File | Folder | None]) -> None:
    for name, node in changed.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class SimulatedDisk:
    """What a disk has if the power fails, after any of the steps that were noted below ``root``.

    Args:
        root: a folder whose files are those that were there when the noting began, all of them durable.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._top = Folder()

    def has(self, path: Path, data: bytes) -> None:
        """A file, and the folders it is in, were there at first."""
        folder = self._top
        for part in path.relative_to(self._root).parent.parts:
            inner = folder.names.get(part)
            if not isinstance(inner, Folder):
                inner = Folder()
                folder.set(part, inner)
                folder.sync()
            folder = inner
        folder.set(path.name, File(data))
        folder.sync()

    def step(self, step: Step) -> None:
        """One more step was done."""
        if step.path != self._root or step.kind == "sync_folder":
            getattr(self, "_do_" + step.kind)(step)

    def crash(self, into: Path, chance: random.Random) -> None:
        """Make a folder that has what may be left if the power fails now."""
        into.mkdir()
        self._materialise(self._top, into, chance)

    def _materialise(self, folder: Folder, into: Path, chance: random.Random) -> None:
        for name, node in folder.after_crash(chance).items():
            if isinstance(node, File):
                (into / name).write_bytes(node.after_crash(chance))
            else:
                (into / name).mkdir()
                self._materialise(node, into / name, chance)

    def _folder(self, path: Path) -> Folder:
        node = self._top
        for part in path.relative_to(self._root).parts:
            inner = node.names[part]
            assert isinstance(inner, Folder)
            node = inner
        return node

    def _file(self, path: Path) -> File:
        folder = self._folder(path.parent)
        if path.name not in folder.names:
            folder.set(path.name, File())
        file = folder.names[path.name]
        assert isinstance(file, File)
        return file

    def _do_open(self, step: Step) -> None:
        self._file(step.path)

    def _do_write(self, step: Step) -> None:
        self._file(step.path).pending.append(step)

    def _do_truncate(self, step: Step) -> None:
        self._file(step.path).pending.append(step)

    def _do_sync(self, step: Step) -> None:
        self._file(step.path).sync()

    def _do_sync_folder(self, step: Step) -> None:
        self._folder(step.path).sync()

    def _do_rename(self, step: Step) -> None:
        folder = self._folder(step.path.parent)
        assert step.value.parent == step.path.parent
        folder.rename({step.path.name: None, step.value.name: folder.names[step.path.name]})

    def _do_unlink(self, step: Step) -> None:
        self._folder(step.path.parent).set(step.path.name, None)

    def _do_make_folder(self, step: Step) -> None:
        self._folder(step.path.parent).set(step.path.name, Folder())
