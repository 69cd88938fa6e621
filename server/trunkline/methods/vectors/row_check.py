"""Looking through the rows of a collection that were not read when it was opened, while it is in use. It blocks."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from pathlib import Path
from typing import Final

from trunkline.methods.vectors.row_format import require_rows
from trunkline.methods.vectors.rows import CollectionFile, require_count
from trunkline.storage.checking import check_pages
from trunkline.storage.database import reading_beside
from trunkline.storage.failures import told
from trunkline_protocol.principals import DEFAULT_TENANT

AT_ONCE: Final = 256
"""Rows that are read in one transaction, so that the write-ahead log need not wait for this."""
PAUSE: Final = 3
"""Times as long as some rows took, it waits before the next ones: a quarter of a core."""

_COUNTS: Final = """
SELECT (SELECT count FROM collection), (SELECT count(*) FROM items NOT INDEXED WHERE tenant = ?)
"""
_ROWS: Final = """
SELECT number, CAST(id AS BLOB), CAST(text AS BLOB), CAST(metadata AS BLOB), vector, change, crc FROM items
WHERE number > ? AND +tenant = ? ORDER BY number LIMIT ?
"""


class RowCheck:
    """Compares what opening compares where it reads all rows: the pages, the number of rows, each with its checksum.

    Args:
        file: which is open.
    """

    def __init__(self, file: CollectionFile) -> None:
        self._path: Path = file.path
        self._dimension = file.manifest.dimension
        self._given_up = threading.Event()
        self._checking: sqlite3.Connection | None = None

    def give_up(self) -> None:
        """End it soon."""
        self._given_up.set()
        if (checking := self._checking) is not None:
            with contextlib.suppress(sqlite3.ProgrammingError):  # it is being closed
                checking.interrupt()

    def run(self) -> None:
        """Look through the rows.

        Raises:
            RpcError: 3002, something is not what was written; 5001, it cannot be read.
        """
        with told(f"the rows in {self._path} cannot be looked through", self._path), reading_beside(self._path) as file:
            self._checking = file
            try:
                check_pages(self._path, file)
            except sqlite3.OperationalError:
                if not self._given_up.is_set():
                    raise
                return
            finally:
                self._checking = None
            ((count, found),) = file.execute(_COUNTS, [DEFAULT_TENANT]).fetchall()
            require_count(found, count, self._path)
            last, pause = -1 << 63, 0.0
            while not self._given_up.wait(pause):
                began = time.monotonic()
                rows = file.execute(_ROWS, [last, DEFAULT_TENANT, AT_ONCE]).fetchall()
                if not rows:
                    return
                require_rows((row[1:] for row in rows), self._dimension, self._path)
                last, pause = rows[-1][0], PAUSE * (time.monotonic() - began)
