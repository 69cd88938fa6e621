"""What language models have cost today, of all executors of a hub: a small database in the data folder.

Several processes write it, so it is locked for the moment of a transaction only, unlike the hub's other databases.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from trunkline.storage.failures import told

FILE: Final = "llm-spending.sqlite"
BUSY_SECONDS: Final = 5.0
KEPT_DAYS: Final = 400

_TABLE: Final = "CREATE TABLE IF NOT EXISTS spending (day TEXT, endpoint TEXT, cost REAL, PRIMARY KEY (day, endpoint))"


class Spending:
    """The costs of each day (UTC) and endpoint. Blocks: to be called on a thread.

    Args:
        folder: the data folder.
        budget: of one day, in the unit of the prices; 0 for none.
    """

    def __init__(self, folder: Path, budget: float) -> None:
        self._path = folder / FILE
        self.budget = budget

    def spent(self) -> float:
        """What was spent today.

        Raises:
            RpcError: 5001, 5002 or 3002, the file cannot be read.
        """
        with self._open() as database:
            (cost,) = database.execute("SELECT total(cost) FROM spending WHERE day = ?", (_today(),)).fetchone()
        return float(cost)

    def add(self, endpoint: str, cost: float) -> None:
        """Add the cost of an answer, and forget days that are long past.

        Raises:
            RpcError: 5001, 5002 or 3002, the file cannot be written.
        """
        with self._open() as database:
            database.execute(
                "INSERT INTO spending VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET cost = cost + excluded.cost",
                (_today(), endpoint, cost),
            )
            oldest = (datetime.now(UTC) - timedelta(days=KEPT_DAYS)).date().isoformat()
            database.execute("DELETE FROM spending WHERE day < ?", (oldest,))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction on the file, which is made if it is not there, for its user alone."""
        with told("the costs of language models cannot be read or written", self._path):
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS)) as database, database:
                database.execute(_TABLE)
                yield database


def until_tomorrow_ms() -> int:
    """Milliseconds until the next day (UTC) begins, and with it another budget."""
    now = datetime.now(UTC)
    tomorrow = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return max(1, round((tomorrow - now).total_seconds() * 1000))


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
