"""One SQLite file, opened by one process: what a transaction has written is on the disk. All of this blocks.

It is in WAL mode with ``synchronous=FULL``: a commit is one sync. Whoever uses it does so from one thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from trunkline.storage.failures import damaged, told
from trunkline.storage.locking import is_marked, lock, mark, require_local
from trunkline_protocol.errors import ErrorCode, RpcError

MAX_LOG_BYTES: Final = 64 * 2**20
"""What the write-ahead log may keep of the disk after a large transaction."""

SETTINGS: Final = (
    "PRAGMA locking_mode = EXCLUSIVE",  # before the file is first looked at: no shared memory then
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # on macOS, fsync stops at the drive's cache
    "PRAGMA checkpoint_fullfsync = ON",
    f"PRAGMA journal_size_limit = {MAX_LOG_BYTES}",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
)

logger = logging.getLogger("trunkline.storage")


class Database:
    """A file of tables.

    Args:
        path: the file, which is made if it is not there. The folder is its own: there is a file ``lock`` in it, too.
        what: what it holds, for messages ("the jobs").
        versions: the scripts that make the tables: the first one those of an empty file, each of the others changes
            what the version before it left.
    """

    def __init__(self, path: Path, what: str, versions: Sequence[str]) -> None:
        self.path = path
        self._log = path.with_name(path.name + "-wal")
        self._what = what
        self._versions = versions
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Lock and open the file, look whether it is whole, and bring it to the latest version.

        Raises:
            RpcError: 5001, another process has it, or it cannot be used; 5002, no room; 3002, it is damaged; 4001, it
                is on a network file system, or of a later version of Trunkline.
        """
        with told(f"{self._what} in {self.path.parent} cannot be used", self.path), contextlib.ExitStack() as undo:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            require_local(self.path.parent)
            undo.callback(self.close)
            lock_file = self._take_lock()
            is_new = self._is_new(lock_file)
            self._connection = sqlite3.connect(self.path, isolation_level=None, timeout=0)
            if is_new:
                self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            for setting in SETTINGS:
                self._connection.execute(setting)
            for (word,) in self._connection.execute("PRAGMA quick_check(1)").fetchall():
                if word != "ok":
                    raise damaged(self.path, " ".join(word.split()))
            self._migrate(self._connection)
            mark(lock_file)
            undo.pop_all()

    def _is_new(self, lock_file: int) -> bool:
        """Whether the file is to be made; one that was there is not made again without a word."""
        if not self.path.exists():
            if is_marked(lock_file):
                logger.warning("%s is gone: there were %s in it; a new file is made", self.path, self._what)
            return True
        if self.path.stat().st_size == 0:
            if is_marked(lock_file):
                raise damaged(self.path, "it is empty")
            return True
        return False

    def _take_lock(self) -> int:
        try:
            self._lock = lock(self.path.with_name("lock"))
            return self._lock
        except BlockingIOError as error:
            words = f"{self._what} in {self.path.parent} are another hub's: {error.strerror}; stop it, or set another"
            raise RpcError(
                ErrorCode.DATABASE_CONNECTION_ERROR, f"{words} folder (TRUNKLINE_DATA)", retry_after_ms=1000
            ) from None

    def _migrate(self, connection: sqlite3.Connection) -> None:
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
        if version > len(self._versions):
            words = f"{self.path} is of a later version of Trunkline ({version}, this one knows {len(self._versions)})"
            raise RpcError(ErrorCode.INVALID_CONFIGURATION, f"{words}: install that, or restore a backup")
        for number, script in enumerate(self._versions[version:], version + 1):
            connection.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT")

    def close(self) -> None:
        """Write the log back into the file, and release it."""
        with contextlib.ExitStack() as last:
            if self._lock is not None:
                last.callback(os.close, self._lock)
                self._lock = None
            if self._connection is not None:
                last.callback(self._connection.close)
                self._connection = None

    @contextlib.contextmanager
    def writing(self, what: str, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction, committed behind the block: all of it, or where something is raised, nothing.

        Args:
            what: what it does, for messages ("the job was not created").
            durable: whether it has to be on disk when the block is left; else a loss of power may take it back.

        Raises:
            RpcError: as :func:`told`.
        """
        size = self._log_size()
        try:
            with told(what, self.path), self._transaction(durable) as transaction:
                yield transaction
        except BaseException:
            self._cut_log(size)
            raise

    @contextlib.contextmanager
    def _transaction(self, durable: bool) -> Iterator[sqlite3.Connection]:
        connection = self._opened()
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _log_size(self) -> int:
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0

    def _cut_log(self, size: int) -> None:
        """Remove what a transaction that failed has added to the log: on a full disk, all the room there is."""
        with contextlib.suppress(OSError):
            if self._log_size() > size:
                os.truncate(self._log, size)

    def read(self, what: str, query: str, values: Iterable[Any] = ()) -> list[Any]:
        """The rows of a query.

        Raises:
            RpcError: as :func:`told`.
        """
        with told(what, self.path):
            return self._opened().execute(query, tuple(values)).fetchall()

    def shrink(self) -> None:
        """Give back to the file system what removed rows have left."""
        with told(f"{self.path} cannot be made smaller", self.path):
            self._opened().executescript(
                "PRAGMA incremental_vacuum"
            )  # execute() takes one step of it, which is one page

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("it is not open")
        return self._connection
