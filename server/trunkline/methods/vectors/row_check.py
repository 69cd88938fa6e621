"""Looking through the rows of a collection that were not read when it was opened, while it is in use. It blocks."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final

from trunkline.methods.vectors.row_format import require_rows
from trunkline.methods.vectors.rows import CollectionFile, require_count
from trunkline.storage.database import CHECK, reading_beside, require_checked
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

    def give_up(self) -> None:
        """End it soon. Where SQLite looks through the pages, that may take some seconds."""
        self._given_up.set()

    def run(self) -> None:
        """Look through the rows.

        Raises:
            RpcError: 3002, something is not what was written; 5001, it cannot be read.
        """
        with told(f"the rows in {self._path} cannot be looked through", self._path), reading_beside(self._path) as file:
            require_checked(self._path, file.execute(CHECK).fetchall())
            if self._given_up.is_set():
                return
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
