"""Errors of the disk and of SQLite as the hub's own: what happened, where, and what to do. All of this blocks."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from trunkline.storage.durable import USED_UP
from trunkline_protocol.errors import ErrorCode, RpcError

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NO_ROOM: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM})
_PAGE: Final = 4096
_PRIMARY: Final = 0xFF
"""The lowest byte of an extended result code is the code that it extends (sqlite.org/rescode.html)."""


@contextlib.contextmanager
def told(what: str, path: Path) -> Iterator[None]:
    """Raise errors of the file system and of SQLite as RpcErrors. In each case nothing was changed.

    Args:
        what: what could not be done.
        path: the file that it was to be done to.

    Raises:
        RpcError: 5002, a resource has run out; 3002, the file is damaged; 5001, other trouble.
    """
    try:
        yield
    except OSError as error:
        where = f"{error.strerror or error} ({error.filename})" if error.filename else f"{error.strerror or error}"
        raise _no_room(what, where) if error.errno in USED_UP else _unusable(what, where) from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY
        where = f"{error} ({path})"
        if code in _DAMAGED:
            raise damaged(path, str(error)) from error
        if code in _NO_ROOM:
            raise _no_room(what, where) from error
        if code == sqlite3.SQLITE_IOERR and (used_up := _what_is_used_up(path)):
            raise _no_room(what, f"{used_up} ({path})") from error
        if code == sqlite3.SQLITE_INTERRUPT:
            words = f"{what}: it was given up, as the process stops"
            raise RpcError(ErrorCode.DATABASE_CONNECTION_ERROR, words, retry_after_ms=1000) from error
        if code == sqlite3.SQLITE_BUSY:
            words = f"{what}: {where}: another program writes to it; end that, and try again"
            raise RpcError(ErrorCode.DATABASE_CONNECTION_ERROR, words, retry_after_ms=1000) from error
        raise _unusable(what, where) from error


class Damaged(RpcError):
    """A file is not what was written: 3002. ``why`` is what was found."""

    def __init__(self, words: str, why: str) -> None:
        super().__init__(ErrorCode.PIPELINE_INITIALIZATION_FAILED, words)
        self.why = why


def damaged(path: Path, why: str) -> Damaged:
    """The error of a file that is not what was written."""
    words = f"{path} is damaged ({why}): stop the hub and restore a backup, or move its folder away to begin without it"
    return Damaged(words, why)


def _no_room(what: str, why: str) -> RpcError:
    words = f"{what}: {why}: nothing was changed; free some of it and try again"
    return RpcError(ErrorCode.INSUFFICIENT_RESOURCES, words, retry_after_ms=1000)


def _unusable(what: str, why: str) -> RpcError:
    words = f"{what}: {why}: make the folder writable for the hub, or set another (TRUNKLINE_DATA)"
    return RpcError(ErrorCode.DATABASE_CONNECTION_ERROR, words, retry_after_ms=1000)


def _what_is_used_up(path: Path) -> str:
    """Which resource a write has just met the end of; "" if none.

    SQLite says "disk I/O error" for a quota and for a limit of file sizes; the same write by hand tells them apart.
    """
    log, probe = path.with_name(path.name + "-wal"), path.with_name(path.name + "-probe")
    try:
        size = max(each.stat().st_size for each in (log, path) if each.exists())
        with probe.open("wb", buffering=0) as file:
            os.pwrite(file.fileno(), bytes(_PAGE), size)
    except (OSError, ValueError) as error:
        return str(error.strerror) if isinstance(error, OSError) and error.errno in USED_UP else ""
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return ""
