"""Damage to SQLite files."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path


def damage_index(path: Path) -> None:
    """Damage the index of a SQLite file that has one, which reading the rows of its table does not look at."""
    with contextlib.closing(sqlite3.connect(path)) as file:
        ((root,),) = file.execute("SELECT rootpage FROM sqlite_master WHERE type = 'index'").fetchall()
        ((page_bytes,),) = file.execute("PRAGMA page_size").fetchall()
    with path.open("r+b") as raw:
        raw.seek((root - 1) * page_bytes + 3)  # how many entries the page has
        raw.write(b"\xff\xff")
