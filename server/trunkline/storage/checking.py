"""Having SQLite look through all pages of a file, which takes long, and ending that early."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from trunkline.storage.failures import damaged

CHECK: Final = "PRAGMA quick_check(1)"
AGAIN: Final = 0.02
"""Seconds after which a check that had not begun is interrupted again."""


def check_pages(path: Path, connection: sqlite3.Connection) -> None:
    """Look through all pages of a file.

    Another thread does it, as a signal is handled between two steps of Python only: where its handler raises, the check
    ends, and so does this. ``connection.interrupt()`` ends it, too.

    Args:
        connection: to the file, which may be used by any thread.

    Raises:
        RpcError: 3002, it is damaged.
        sqlite3.Error: it cannot be read, or the check was interrupted.
    """
    found: Future[list[tuple[str]]] = Future()
    # No pool: whatever the moment at which a signal comes, nobody may wait for a check that is not interrupted.
    beside = threading.Thread(target=_look, args=(connection, found), name="quick_check", daemon=True)
    try:
        beside.start()
        rows = found.result()
    except BaseException:
        while beside.is_alive():
            connection.interrupt()
            beside.join(AGAIN)
        raise
    if rows != [("ok",)]:
        raise damaged(path, " ".join(" ".join(word for (word,) in rows).split()))


def _look(connection: sqlite3.Connection, found: Future[list[tuple[str]]]) -> None:
    try:
        found.set_result(connection.execute(CHECK).fetchall())
    except Exception as error:
        found.set_exception(error)
