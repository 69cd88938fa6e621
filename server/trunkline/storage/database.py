"""One SQLite file, opened by one process: what a transaction has written is on the disk. All of this blocks.

It is in WAL mode with ``synchronous=FULL``: a commit is one sync. Whoever uses it does so from one thread at a time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from trunkline.storage.checking import check_pages
from trunkline.storage.durable import is_at, sync
from trunkline.storage.failures import damaged, told
from trunkline.storage.locking import end_opening, is_marked, lock, mark, note_opening, require_local
from trunkline.storage.log import require_whole
from trunkline_protocol.errors import ErrorCode, RpcError

MAX_LOG_BYTES: Final = 64 * 2**20
"""What the write-ahead log may keep of the disk after a large transaction."""
PATIENCE: Final = 5.0
"""Seconds that a shared file is waited for: who reads it beside has it locked for moments only."""

SETTINGS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # on macOS, fsync stops at the drive's cache
    "PRAGMA checkpoint_fullfsync = ON",
    f"PRAGMA journal_size_limit = {MAX_LOG_BYTES}",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
)
ALONE: Final = "PRAGMA locking_mode = EXCLUSIVE"
"""Before the file is first looked at: no shared memory then."""

logger = logging.getLogger("trunkline.storage")


class InUse(RpcError):
    """Another process has the file open: 5001."""


class Database:
    """A file of tables.

    Args:
        path: the file, which is made if it is not there. The folder is its own: there is a file ``lock`` in it, too.
        what: what it holds, for messages ("the jobs").
        versions: the scripts that make the tables: the first one those of an empty file, each of the others changes
            what the version before it left.
        shared: whether other processes may read it meanwhile. Then a transaction also sees what one that got past
            the lock has written. Where there is no room on the disk for the memory that this takes, it is not shared.
        page_bytes: of a page, for a file that is made.
    """

    def __init__(
        self, path: Path, what: str, versions: Sequence[str], *, shared: bool = False, page_bytes: int = 4096
    ) -> None:
        self.path = path
        self._log = path.with_name(path.name + "-wal")
        self._what = what
        self._versions = versions
        self._shared = self._is_shared = shared
        self._page_bytes = page_bytes
        self._lock: int | None = None
        self._place: os.stat_result | None = None
        self._connection: sqlite3.Connection | None = None
        self._end: weakref.finalize[[int], Database] | None = None

    def open(self, *, existing: bool = False, prepare: Callable[[], None] = lambda: None, checked: bool = True) -> None:
        """Lock and open the file, look whether it is whole, and bring it to the latest version.

        Then comes :meth:`note_opening`, as soon as the file may be changed.

        Args:
            existing: the file and its folder have to be there.
            prepare: called with the lock, before the file is looked at.
            checked: whether to look through its pages; else :meth:`checking` does, before anything is written.

        Raises:
            InUse: another process has it.
            RpcError: 5001, it cannot be used; 5002, no room; 3002, it is damaged; 4001, it is on a network file
                system, or of a later version of Trunkline.
        """
        with told(f"{self._what} in {self.path.parent} cannot be used", self.path), contextlib.ExitStack() as undo:
            if not existing:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            require_local(self.path.parent)
            undo.callback(self.close)
            lock_file = self._take_lock()
            prepare()
            if existing and not self.path.exists():
                raise damaged(self.path, "it is gone")
            is_new = self._is_new(lock_file)
            if is_new:
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            require_whole(self.path, None if is_new else lock_file)
            self._place = self.path.stat()
            self._connection = self._connect(is_new)
            version = self._version(self._connection)
            if checked or version < len(self._versions):
                check_pages(self.path, self._connection)
            for number, script in enumerate(self._versions[version:], version + 1):
                self._connection.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT")
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
            words = (
                f"{self._what} in {self.path.parent} cannot be opened: {error.strerror}; stop that hub, or set another"
            )
            raise InUse(
                ErrorCode.DATABASE_CONNECTION_ERROR, f"{words} folder (TRUNKLINE_DATA)", retry_after_ms=1000
            ) from None

    @contextlib.contextmanager
    def checking(self) -> Iterator[None]:
        """Look through the pages while the block reads rows: where the file is shared, on another core.

        Behind the block both are done. Where both fail, this raises what is wrong with the pages.

        Raises:
            RpcError: 3002, a page is not as it should be; and as :func:`told`.
        """
        if not self._is_shared:
            with told(self._what, self.path):
                check_pages(self.path, self._opened())
            yield
            return
        with ThreadPoolExecutor(1, "pages") as another:
            found = another.submit(self._check_beside)
            try:
                yield
            finally:
                found.result()

    def _check_beside(self) -> None:
        with told(self._what, self.path), reading_beside(self.path) as beside:
            check_pages(self.path, beside)

    def interrupt(self) -> None:
        """End what another thread does with the file just now, as long as it takes: that raises 5001 there."""
        if (connection := self._connection) is not None:
            with contextlib.suppress(sqlite3.ProgrammingError):  # it is being closed
                connection.interrupt()

    def _connect(self, is_new: bool) -> sqlite3.Connection:
        self._is_shared = self._shared
        if self._shared:
            try:
                with told("it cannot be shared", self.path):
                    return self._connected(is_new, shared=True)
            except RpcError as error:
                if error.code != ErrorCode.INSUFFICIENT_RESOURCES:
                    raise
                self._is_shared = False
        return self._connected(is_new, shared=False)

    def _connected(self, is_new: bool, *, shared: bool) -> sqlite3.Connection:
        with contextlib.ExitStack() as undo:
            timeout = PATIENCE if shared else 0
            connection = sqlite3.connect(self.path, isolation_level=None, timeout=timeout, check_same_thread=False)
            undo.callback(connection.close)
            if is_new:
                connection.execute(f"PRAGMA page_size = {self._page_bytes}")
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            for setting in SETTINGS if shared else (ALONE, *SETTINGS):
                connection.execute(setting)
            undo.pop_all()
        return connection

    def _version(self, connection: sqlite3.Connection) -> int:
        version: int
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
        if version > len(self._versions):
            words = f"{self.path} is of a later version of Trunkline ({version}, this one knows {len(self._versions)})"
            raise RpcError(ErrorCode.INVALID_CONFIGURATION, f"{words}: install that, or restore a backup")
        return version

    def note_opening(self) -> None:
        """Give file and lock a number that the other one has, too: after a crash, only the log between them is used.

        From here on the log holds a transaction, so that one that is empty, or gone, was not left like that. Where
        there is no room on the disk, or another program reads just now what the log has, nothing is noted.

        Raises:
            RpcError: as :func:`told`, but not 5002.
        """
        assert self._lock is not None
        if self._end is not None:
            self._end.detach()
        # An interpreter that ends closes the connection, which removes the log.
        self._end = weakref.finalize(self, _ended, self._lock)
        opening = 1 + secrets.randbelow(2**31 - 1)
        what = f"{self._what} in {self.path.parent} cannot be used"
        with told(what, self.path):
            end_opening(self._lock)
        try:
            with self.writing(what) as transaction:
                transaction.execute(f"PRAGMA application_id = {opening}")
            with told(what, self.path):
                # The file is not looked at by hand: closing it would end SQLite's own locks.
                ((is_busy, frames, written),) = self._opened().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                if not is_busy and frames == written:
                    note_opening(self._lock, opening)
        except RpcError as error:
            if error.code != ErrorCode.INSUFFICIENT_RESOURCES:
                raise

    def close(self) -> None:
        """Write the log back into the file, and release it.

        Where another file has its place meanwhile, SQLite leaves that one's log alone, and this one's as it is.
        """
        with contextlib.ExitStack() as last:
            if self._end is not None:
                self._end.detach()
            if self._lock is None:
                return
            lock_file, self._lock = self._lock, None
            last.callback(os.close, lock_file)
            if self._connection is not None:
                if not _ended(lock_file):  # the file may say it, too
                    with contextlib.suppress(sqlite3.Error):
                        self._connection.execute("PRAGMA application_id = 0")
                    last.callback(_ended, lock_file)
                last.callback(self._connection.close)
                self._connection = None

    @property
    def is_ours(self) -> bool:
        """Whether file and lock are still those that were opened: not moved away, nor others in their place."""
        if self._lock is None or self._place is None:
            return False
        try:
            return is_at(self._lock, self.path.with_name("lock")) and os.path.samestat(self._place, self.path.stat())
        except (FileNotFoundError, NotADirectoryError):
            return False

    @property
    def is_shared(self) -> bool:
        """Whether others can read it meanwhile."""
        return self._is_shared

    @property
    def size(self) -> int:
        """What it takes of the disk, with its log, in bytes. Raises as :func:`told`."""
        with told(f"{self.path} cannot be looked at", self.path):
            return self.path.stat().st_size + self._log_size()

    @contextlib.contextmanager
    def writing(self, what: str, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction, committed behind the block: all of it, or where something is raised, nothing.

        Args:
            what: what it does, for messages ("the job was not created").
            durable: whether it has to be on disk when the block is left; else a loss of power may take it back.

        Raises:
            RpcError: as :func:`told`.
        """
        with told(what, self.path), self._transaction(what, durable) as transaction:
            yield transaction

    @contextlib.contextmanager
    def _transaction(self, what: str, durable: bool) -> Iterator[sqlite3.Connection]:
        connection = self._opened()
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.execute("BEGIN IMMEDIATE")
        size = self._log_size()
        try:
            with told(what, self.path):  # before the log is cut: its length may be what was wrong
                yield connection
                connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                self._cut_log(size)  # as long as nobody else can write to it
                connection.execute("ROLLBACK")
            elif self.is_ours:
                self._cut_log(size)
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

    def read_some(self, what: str, query: str, values: Iterable[Any], rows: int) -> Iterator[list[Any]]:
        """The rows of a query, some at a time.

        Raises:
            RpcError: as :func:`told`.
        """
        with told(what, self.path):
            cursor = self._opened().execute(query, tuple(values))
            while some := cursor.fetchmany(rows):
                yield some

    def shrink(self, pages: int = 0) -> bool:
        """Give back to the file system what removed rows have left. Returns whether it is all.

        Args:
            pages: at most so many; 0: all.
        """
        with told(f"{self.path} cannot be made smaller", self.path):
            connection = self._opened()
            # execute() takes one step of it, which is one page
            connection.executescript(f"PRAGMA incremental_vacuum({pages})")
            ((left,),) = connection.execute("PRAGMA freelist_count").fetchall()
            return bool(left == 0)

    def write_back(self) -> None:
        """Write the log back into the file, and cut it to nothing."""
        assert self._lock is not None
        with told(f"{self.path} cannot be written", self.path):
            end_opening(self._lock)
            self._opened().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self.note_opening()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("it is not open")
        return self._connection


def _ended(lock_file: int) -> bool:
    """Whether it could be noted that an opening has ended."""
    try:
        end_opening(lock_file)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def making(path: Path, versions: Sequence[str], page_bytes: int) -> Iterator[sqlite3.Connection]:
    """A new file that is written at once: whole and synced behind the block; its name is not synced.

    Raises:
        OSError, sqlite3.Error: it cannot be written; what there is of it is of no use.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {page_bytes}")
        for setting in ("auto_vacuum = INCREMENTAL", "journal_mode = OFF", "synchronous = OFF"):
            connection.execute(f"PRAGMA {setting}")
        connection.executescript(f"BEGIN; {'; '.join(versions)}; PRAGMA user_version = {len(versions)}")
        yield connection
        connection.execute("COMMIT")
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def read_beside(path: Path, what: str, query: str) -> list[Any]:
    """The rows of a query on a file that is shared, perhaps by another process, which is not disturbed.

    Raises:
        RpcError: as :func:`told`.
    """
    with told(what, path), reading_beside(path) as beside:
        return beside.execute(query).fetchall()


@contextlib.contextmanager
def reading_beside(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a file that is shared, which cannot change it."""
    address = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(address, uri=True, timeout=PATIENCE, check_same_thread=False)
    with contextlib.closing(connection) as beside:
        yield beside
