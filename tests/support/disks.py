"""Disks that fail: layers under collections that note every step, and can make any of them the last one."""

from __future__ import annotations

import errno
import os
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trunkline.methods.vectors.files import Files
from trunkline.methods.vectors.log import SECTOR

Step = tuple[Any, ...]


class QuickFiles(Files):
    """The real files without waiting for the disk, for tests in which nothing crashes."""

    def sync(self, descriptor: int) -> None:
        """Nothing to wait for."""

    def sync_folder(self, folder: Path) -> None:
        """Nothing to wait for."""


class RecordingFiles(QuickFiles):
    """Does everything, and notes it in ``steps``, in the order in which it was done."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._lock = threading.Lock()

    def _note(self, name: str, *args: Any) -> Any:
        with self._lock:
            result = self._do(name, *args)
            known = [bytes(arg) if isinstance(arg, memoryview) else arg for arg in args]
            self.steps.append((name, *known, result))
            return result

    def _do(self, name: str, *args: Any) -> Any:
        return getattr(QuickFiles, name)(self, *args)

    def open(self, path: Path) -> int:
        return int(self._note("open", path))

    def close(self, descriptor: int) -> None:
        self._note("close", descriptor)

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        self._note("write", descriptor, data)

    def overwrite(self, path: Path, data: bytes) -> None:
        self._note("overwrite", path, data)

    def sync(self, descriptor: int) -> None:
        self._note("sync", descriptor)

    def sync_folder(self, folder: Path) -> None:
        self._note("sync_folder", folder)

    def truncate(self, descriptor: int, size: int) -> None:
        self._note("truncate", descriptor, size)

    def rename(self, old: Path, new: Path) -> None:
        self._note("rename", old, new)

    def unlink(self, path: Path) -> None:
        self._note("unlink", path)

    def make_folder(self, path: Path) -> None:
        self._note("make_folder", path)


class FailingFiles(RecordingFiles):
    """Fails with ``code`` at some steps, counted from 0; a write that fails has written the half."""

    def __init__(self, first: int, count: int, code: int = errno.ENOSPC) -> None:
        super().__init__()
        self.failed = 0
        self._failing = range(first, first + count)
        self._code = code
        self._next = 0

    def _do(self, name: str, *args: Any) -> Any:
        self._next += 1
        # Cutting and removing do not fail for want of room.
        spared = ("close",) if self._code == errno.EIO else ("close", "unlink", "truncate")
        if self._next - 1 in self._failing and name not in spared:
            self.failed += 1
            if name == "write":
                super()._do(name, args[0], bytes(args[1])[: len(args[1]) // 2])
            raise OSError(self._code, os.strerror(self._code), name)
        return super()._do(name, *args)


@dataclass(eq=False)
class File:
    """A file: what of it is on the disk, and what has been done to it since, in order."""

    durable: bytes = b""
    pending: list[tuple[str, Any]] = field(default_factory=list)

    def sync(self) -> None:
        self.durable, self.pending = self._after(self.pending), []

    def _after(self, changes: list[tuple[str, Any]]) -> bytes:
        data = bytearray(self.durable)
        for kind, value in changes:
            if kind == "write":
                data += value
            else:
                del data[value:]
        return bytes(data)

    def after_crash(self, chance: random.Random) -> bytes:
        """Some of what was not synced may be there: not the end of it, or not all sectors."""
        reached = self.pending[: chance.randint(0, len(self.pending))]
        data = bytearray(self._after(reached))
        if reached and reached[-1][0] == "write" and chance.random() < 0.7:
            written = len(reached[-1][1])
            if chance.random() < 0.5:
                del data[len(data) - chance.randint(0, written) :]
            else:
                for at in range((len(data) - written) // SECTOR * SECTOR, len(data), SECTOR):
                    if chance.random() < 0.5:
                        start = max(at, len(data) - written)
                        data[start : at + SECTOR] = bytes(len(data[start : at + SECTOR]))
        return bytes(data)


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
    """What a disk has if the power fails, after any of the steps that were noted below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._top = Folder()
        self._open: dict[int, File] = {}

    def step(self, step: Step) -> None:
        """One more step was done."""
        getattr(self, "_do_" + step[0])(*step[1:-1], result=step[-1])

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

    def _do_open(self, path: Path, result: int) -> None:
        self._open[result] = self._file(path)

    def _do_close(self, descriptor: int, result: None) -> None:
        del self._open[descriptor]

    def _do_write(self, descriptor: int, data: bytes, result: None) -> None:
        self._open[descriptor].pending.append(("write", data))

    def _do_truncate(self, descriptor: int, size: int, result: None) -> None:
        self._open[descriptor].pending.append(("truncate", size))

    def _do_overwrite(self, path: Path, data: bytes, result: None) -> None:
        file = self._file(path)
        file.durable = data

    def _do_sync(self, descriptor: int, result: None) -> None:
        self._open[descriptor].sync()

    def _do_sync_folder(self, folder: Path, result: None) -> None:
        self._folder(folder).sync()

    def _do_rename(self, old: Path, new: Path, result: None) -> None:
        folder = self._folder(old.parent)
        assert new.parent == old.parent
        folder.rename({old.name: None, new.name: folder.names[old.name]})

    def _do_unlink(self, path: Path, result: None) -> None:
        self._folder(path.parent).set(path.name, None)

    def _do_make_folder(self, path: Path, result: None) -> None:
        self._folder(path.parent).set(path.name, Folder())
