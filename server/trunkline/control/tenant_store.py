"""The records of tenants on disk, one row each. All of this blocks.

::

    <data>/tenant-records/tenants.sqlite    and ``lock``, of the hub that has it open
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, Final

import msgspec

from trunkline.storage.database import Database
from trunkline.storage.failures import damaged
from trunkline_protocol.tenant_messages import TenantView, UsedOnDay

FOLDER: Final = "tenant-records"
FILE: Final = "tenants.sqlite"
TABLES: Final = """
CREATE TABLE tenants (name TEXT PRIMARY KEY, record BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE usage (
    tenant TEXT NOT NULL, day TEXT NOT NULL, used BLOB NOT NULL, PRIMARY KEY (day, tenant)
) WITHOUT ROWID
"""

_PUT: Final = """
INSERT INTO tenants VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET record = excluded.record, crc = excluded.crc
"""
_PUT_USAGE: Final = "INSERT OR REPLACE INTO usage (tenant, day, used) VALUES (?, ?, ?)"
_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(TenantView)
_usage_decoder: Final = msgspec.json.Decoder(UsedOnDay)


class TenantStore:
    """The records of one data folder; nothing is there before the first one.

    Args:
        data: the data folder.
    """

    def __init__(self, data: Path) -> None:
        self._folder = data / FOLDER
        self._database = Database(self._folder / FILE, "the records of tenants", [TABLES])
        self._is_open = False

    def exists(self) -> bool:
        """Whether there ever was a record, or anything counted."""
        return self._folder.is_dir()

    def load(self) -> list[TenantView]:
        """The records that there are.

        Raises:
            RpcError: as :meth:`Database.open`; 3002 also where a record is not what was written.
        """
        if not self.exists():
            return []
        self._open()
        found = []
        for name, record, crc in self._database.read("the records of tenants", "SELECT name, record, crc FROM tenants"):
            try:
                if zlib.crc32(record) != crc:
                    raise ValueError
                found.append(_decoder.decode(record))
            except (ValueError, TypeError) as error:
                raise damaged(
                    self._folder / FILE, f"the record of tenant {name!r:.100} is not what was written"
                ) from error
        return found

    def put(self, tenant: TenantView) -> None:
        """Write a record, in the place of one of that name. It is on disk when this returns.

        Raises:
            RpcError: 5001 or 5002; nothing has changed.
        """
        self._open()
        record = _encoder.encode(tenant)
        with self._database.writing(f"the record of tenant {tenant.name!r:.100} cannot be written") as transaction:
            transaction.execute(_PUT, (tenant.name, record, zlib.crc32(record)))

    def remove(self, name: str) -> None:
        """Remove a record, durably.

        Raises:
            RpcError: 5001 or 5002; nothing has changed.
        """
        self._open()
        with self._database.writing(f"the record of tenant {name!r:.100} cannot be removed") as transaction:
            transaction.execute("DELETE FROM tenants WHERE name = ?", (name,))
            transaction.execute("DELETE FROM usage WHERE tenant = ?", (name,))

    # --- what was used ---

    def put_usage(self, counts: list[tuple[str, UsedOnDay]]) -> None:
        """Write what tenants used on days, in the place of what was counted before.

        Raises:
            RpcError: 5001 or 5002; nothing has changed.
        """
        self._open()
        with self._database.writing("the usage of tenants cannot be written") as transaction:
            rows = [(tenant, used.day, _encoder.encode(used)) for tenant, used in counts]
            transaction.executemany(_PUT_USAGE, rows)

    def used_on(self, day: str) -> list[tuple[str, UsedOnDay]]:
        """What each tenant used on a day.

        Raises:
            RpcError: it cannot be read.
        """
        rows = self._usage("SELECT tenant, used FROM usage WHERE day = ?", day)
        return [(tenant, _usage_decoder.decode(used)) for tenant, used in rows]

    def used_by(self, tenant: str, first: str, last: str) -> list[UsedOnDay]:
        """What a tenant used from a day to another, by day.

        Raises:
            RpcError: it cannot be read.
        """
        query = "SELECT used FROM usage WHERE tenant = ? AND day BETWEEN ? AND ? ORDER BY day"
        return [_usage_decoder.decode(used) for (used,) in self._usage(query, tenant, first, last)]

    def forget_usage(self, before: str) -> None:
        """Remove what was used before a day.

        Raises:
            RpcError: 5001 or 5002; nothing has changed.
        """
        self._open()
        with self._database.writing("old usage of tenants cannot be removed") as transaction:
            transaction.execute("DELETE FROM usage WHERE day < ?", (before,))

    def _usage(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        if not self.exists():
            return []
        self._open()
        rows: list[tuple[Any, ...]] = self._database.read("the usage of tenants", query, values)
        return rows

    def close(self) -> None:
        """Release the file for the next hub."""
        self._database.close()
        self._is_open = False

    def _open(self) -> None:
        if not self._is_open:
            self._database.open()
            try:
                self._database.note_opening()
            except BaseException:
                self._database.close()
                raise
            self._is_open = True
