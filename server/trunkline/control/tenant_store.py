"""The records of tenants on disk, one row each. All of this blocks.

::

    <data>/tenant-records/tenants.sqlite    and ``lock``, of the hub that has it open
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Final

import msgspec

from trunkline.storage.database import Database
from trunkline.storage.failures import damaged
from trunkline_protocol.tenant_messages import TenantView

FOLDER: Final = "tenant-records"
FILE: Final = "tenants.sqlite"
TABLES: Final = "CREATE TABLE tenants (name TEXT PRIMARY KEY, record BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID"

_PUT: Final = """
INSERT INTO tenants VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET record = excluded.record, crc = excluded.crc
"""
_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(TenantView)


class TenantStore:
    """The records of one data folder; nothing is there before the first one.

    Args:
        data: the data folder.
    """

    def __init__(self, data: Path) -> None:
        self._folder = data / FOLDER
        self._database = Database(self._folder / FILE, "the records of tenants", [TABLES])
        self._is_open = False

    def load(self) -> list[TenantView]:
        """The records that there are.

        Raises:
            RpcError: as :meth:`Database.open`; 3002 also where a record is not what was written.
        """
        if not self._folder.is_dir():
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

    def close(self) -> None:
        """Release the file for the next hub."""
        self._database.close()
        self._is_open = False

    def _open(self) -> None:
        if not self._is_open:
            self._database.open()
            self._database.note_opening()
            self._is_open = True
