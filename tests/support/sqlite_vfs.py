"""SQLite's access to files, put through hooks: each write, truncation, sync and removal.

Only where ``sqlite3`` uses a library that is loaded dynamically; else :func:`hooked` skips the test.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

OK, FULL, IOERR_WRITE, IOERR_FSYNC, IOERR_TRUNCATE = 0, 13, 778, 1034, 1546
_WAL_OR_JOURNAL, _CREATE = 0x00080000 | 0x00000800, 0x00000004


class Hooks(Protocol):
    """What is called. A method returns OK, or an error's code after doing what it has done."""

    def opened(self, path: Path) -> None:
        """A file was opened, and made if it was not there."""

    def write(self, path: Path, data: bytes, offset: int, do: Callable[[bytes], int]) -> int:
        """A write; ``do`` does it, or a part."""

    def truncate(self, path: Path, size: int, do: Callable[[], int]) -> int:
        """A truncation."""

    def sync(self, path: Path, with_folder: bool, do: Callable[[], int]) -> int:
        """A sync of a file, and of its folder's names where it is a new log."""

    def removed(self, path: Path) -> None:
        """A file was removed."""


_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_CLOSE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
)  # the name is no c_char_p: SQLite keeps the pointer
_DELETE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)


class _Methods(ctypes.Structure):
    """``sqlite3_io_methods``, version 3."""

    _fields_ = [
        ("version", ctypes.c_int),
        ("close", ctypes.c_void_p),
        ("read", ctypes.c_void_p),
        ("write", ctypes.c_void_p),
        ("truncate", ctypes.c_void_p),
        ("sync", ctypes.c_void_p),
        ("others", ctypes.c_void_p * 13),
    ]


class _File(ctypes.Structure):
    """``sqlite3_file``."""

    _fields_ = [("methods", ctypes.POINTER(_Methods))]


class _Vfs(ctypes.Structure):
    """``sqlite3_vfs``, its beginning."""

    _fields_ = [
        ("version", ctypes.c_int),
        ("file_size", ctypes.c_int),
        ("path_size", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("open", ctypes.c_void_p),
        ("delete", ctypes.c_void_p),
    ]


def _address(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value


class _Hooked:
    """The hooks in place: functions that SQLite calls, and what they call in turn."""

    def __init__(self, vfs: _Vfs, root: Path, hooks: Hooks) -> None:
        self._vfs, self._root, self._hooks = vfs, root, hooks
        self._open, self._delete = _OPEN(vfs.open), _DELETE(vfs.delete)
        self.kept = [_OPEN(self._on_open), _DELETE(self._on_delete)]
        self._files: dict[int, tuple[Any, ...]] = {}
        self._closed: list[tuple[Any, ...]] = []
        self._original = (vfs.open, vfs.delete)

    def enter(self) -> None:
        self._vfs.open, self._vfs.delete = map(_address, self.kept)

    def leave(self) -> None:
        """New files are as ever, and so are those that are open."""
        self._vfs.open, self._vfs.delete = self._original
        for file, (original, *_) in self._files.items():
            ctypes.cast(file, ctypes.POINTER(_File)).contents.methods = original

    def _on_open(self, vfs: int, name: int | None, file: int, flags: int, out: int) -> int:
        code = int(self._open(vfs, name, file, flags, out))
        if code == OK and name and (path := Path(ctypes.string_at(name).decode())).is_relative_to(self._root):
            is_new_log = bool(flags & _WAL_OR_JOURNAL and flags & _CREATE)
            handle = ctypes.cast(file, ctypes.POINTER(_File)).contents
            original = ctypes.cast(ctypes.cast(handle.methods, ctypes.c_void_p), ctypes.POINTER(_Methods))
            methods, *kept = self._for(path, original.contents, is_new_log)
            self._files[file] = (original, methods, kept)
            handle.methods = ctypes.pointer(methods)
            self._hooks.opened(path)
        return code

    def _for(self, path: Path, original: _Methods, is_new_log: bool) -> tuple[Any, ...]:
        write, truncate, sync = _WRITE(original.write), _TRUNCATE(original.truncate), _SYNC(original.sync)
        close = _CLOSE(original.close)
        is_unnamed = [is_new_log]

        def on_write(file: int, data: int, size: int, offset: int) -> int:
            def do(some: bytes) -> int:
                return int(write(file, ctypes.cast(ctypes.c_char_p(some), ctypes.c_void_p), len(some), offset))

            return self._hooks.write(path, ctypes.string_at(data, size), offset, do)

        def on_truncate(file: int, size: int) -> int:
            return self._hooks.truncate(path, size, lambda: int(truncate(file, size)))

        def on_sync(file: int, flags: int) -> int:
            with_folder, is_unnamed[0] = is_unnamed[0], False
            return self._hooks.sync(path, with_folder, lambda: int(sync(file, flags)))

        def on_close(file: int) -> int:
            self._closed.append(self._files.pop(file))  # what is being run has to stay
            return int(close(file))

        methods = _Methods()
        ctypes.memmove(ctypes.byref(methods), ctypes.byref(original), ctypes.sizeof(_Methods))
        functions = (_WRITE(on_write), _TRUNCATE(on_truncate), _SYNC(on_sync), _CLOSE(on_close))
        methods.write, methods.truncate, methods.sync, methods.close = map(_address, functions)
        return methods, functions, write, truncate, sync, close

    def _on_delete(self, vfs: int, name: bytes, sync_folder: int) -> int:
        code = int(self._delete(vfs, name, sync_folder))
        if code == OK and (path := Path(name.decode())).is_relative_to(self._root):
            self._hooks.removed(path)
        return code


@contextlib.contextmanager
def hooked(root: Path, hooks: Hooks) -> Iterator[None]:
    """Hooks for the files below a folder that are opened in the block."""
    name = ctypes.util.find_library("sqlite3")
    library = ctypes.CDLL(name) if name else None
    if library is None or library.sqlite3_libversion_number() != _number():
        pytest.skip("this Python's SQLite cannot be reached")
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    installed = _Hooked(library.sqlite3_vfs_find(None).contents, root, hooks)
    installed.enter()
    try:
        yield
    finally:
        installed.leave()


def _number() -> int:
    major, minor, patch = sqlite3.sqlite_version_info
    return major * 1_000_000 + minor * 1000 + patch
