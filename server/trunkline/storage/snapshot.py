"""Copies of SQLite files that others may have open, and write to: each is one state. All of this blocks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from trunkline.storage.checking import check_pages
from trunkline.storage.database import PATIENCE
from trunkline.storage.failures import damaged, told
from trunkline.storage.log import require_whole
from trunkline_protocol.errors import ErrorCode, RpcError

PAGES_AT_ONCE: Final = 1024
_PRIMARY: Final = 0xFF
_SCHEMA: Final = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"


def snapshot(
    path: Path, copy: Path, what: str, progress: Callable[[int, int], None] = lambda done, pages: None
) -> None:
    """Copy a file as it is at one moment, while its owner reads and writes it. It is not synced.

    The reading transaction is what makes it one moment, and what makes it end: without it, each commit of the owner
    would have SQLite begin the copy anew. The owner's log grows until the copy is there.

    Args:
        copy: made, or made anew.
        what: what the file holds, for messages.
        progress: called with the numbers of pages that are copied, and that there are.

    Raises:
        RpcError: 5001, it cannot be read beside its owner; 5002, no room for the copy; 3002, it is damaged, or
            transactions in the log that a crash has left are lost.
    """
    with told(f"{what} cannot be copied", path), contextlib.ExitStack() as opened:
        source = opened.enter_context(_at_one_moment(path, what))
        copy.unlink(missing_ok=True)
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        target = opened.enter_context(contextlib.closing(sqlite3.connect(copy, isolation_level=None)))
        for setting in ("journal_mode = OFF", "synchronous = OFF"):
            target.execute(f"PRAGMA {setting}")
        try:
            source.backup(target, pages=PAGES_AT_ONCE, progress=lambda _, left, pages: progress(pages - left, pages))
        except sqlite3.OperationalError:  # damage of what is copied is none
            with told(f"{what} cannot be copied", copy):
                raise


@contextlib.contextmanager
def _at_one_moment(path: Path, what: str) -> Iterator[sqlite3.Connection]:
    """A file in a reading transaction: whoever opens it, or writes to it meanwhile, nothing in it changes."""
    address = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.ExitStack() as opened:
        with _held_if_free(path.with_name("lock")) as (is_free, lock_file):
            if is_free:  # the owner's own log is being written, and was looked through when it was opened
                require_whole(path, lock_file)
            source = sqlite3.connect(address, uri=True, isolation_level=None, timeout=PATIENCE)
            opened.enter_context(contextlib.closing(source))
            try:
                for statement in ("PRAGMA trusted_schema = OFF", "BEGIN", _SCHEMA):
                    source.execute(statement).fetchall()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & _PRIMARY != sqlite3.SQLITE_BUSY:
                    raise
                words = f"{what} in {path.parent} cannot be copied: its owner has it alone, as the disk was full when"
                raise RpcError(
                    ErrorCode.DATABASE_CONNECTION_ERROR, f"{words} it was opened: make room, and restart the hub"
                ) from error
        yield source


@contextlib.contextmanager
def _held_if_free(lock_file: Path) -> Iterator[tuple[bool, int | None]]:
    """Whether no process has what a lock is of, and its descriptor; then none gets it in the block. Changes nothing."""
    with contextlib.ExitStack() as last:
        try:
            descriptor = os.open(lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # it was never opened
            yield True, None
            return
        last.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False, None
            return
        yield True, descriptor


@contextlib.contextmanager
def copy_of(path: Path, original: Path, versions: Sequence[str]) -> Iterator[sqlite3.Connection]:
    """A copy that nobody writes to, for reading: SQLite has looked through it, and its tables are as they should be.

    Args:
        original: what it is a copy of, for messages.
        versions: the scripts that make its tables: see :class:`~trunkline.storage.database.Database`.

    Raises:
        RpcError: 3002, it is damaged; 4001, it is of a later version of Trunkline; 5001, it cannot be read.
    """
    address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with (
        told(f"{original} cannot be read", original),
        contextlib.closing(sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)) as copy,
    ):
        for setting in ("trusted_schema = OFF", "cell_size_check = ON"):
            copy.execute(f"PRAGMA {setting}")
        ((version,),) = copy.execute("PRAGMA user_version").fetchall()
        if version > len(versions):
            words = f"{original} is of a later version of Trunkline ({version}, this one knows {len(versions)})"
            raise RpcError(ErrorCode.INVALID_CONFIGURATION, f"{words}: install that")
        if version == 0:
            raise damaged(original, "it is empty")
        if copy.execute(_SCHEMA).fetchall() != _tables(versions[:version]):
            raise damaged(original, "its tables are not those that Trunkline makes")
        check_pages(original, copy)
        yield copy


def _tables(versions: Sequence[str]) -> list[tuple[str, str, str, str | None]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as made:
        for script in versions:
            made.executescript(script)
        return made.execute(_SCHEMA).fetchall()
