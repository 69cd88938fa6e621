"""Which collections are being filled, for all executors of a hub: a small file a call, locked as long as it runs.

The lock ends with the process that has it, so that none is left behind by one that was killed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from typing_extensions import TypedDict

logger = logging.getLogger("trunkline.documents")


class Filling(TypedDict):
    """How far the calls are that process documents into a collection now: sums, and how many calls there are."""

    calls: int
    documents_done: int
    documents_total: int


class Fillings:
    """The calls that fill the collections below one data folder.

    Args:
        folder: for the files; None where there is no data folder, and then nothing is known.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def of(self, tenant: str, collection: str) -> Filling:
        """How far a collection is filled by the calls that run."""
        found: Filling = {"calls": 0, "documents_done": 0, "documents_total": 0}
        for path in self._files(tenant, collection):
            # It may have ended in between, or not have begun yet.
            with suppress(OSError, ValueError), path.open("rb") as file:
                done, total = map(int, file.read().split())
                if not _is_locked(file.fileno()):
                    path.unlink()
                    continue
                found["calls"] += 1
                found["documents_done"] += done
                found["documents_total"] += total
        return found

    def _files(self, tenant: str, collection: str) -> Iterator[Path]:
        if self._folder is not None:
            yield from self._folder.glob(f"filling-{_key(tenant, collection)}-*")

    @contextmanager
    def begun(self, tenant: str, collection: str) -> Iterator[FillingCall]:
        """A call that fills a collection from now on."""
        if self._folder is None:
            yield FillingCall(None)
            return
        path = self._folder / f"filling-{_key(tenant, collection)}-{secrets.token_hex(8)}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:  # a full disk: the documents are processed all the same
            logger.warning("that a collection is being filled cannot be noted in %s", self._folder, exc_info=True)
            yield FillingCall(None)
            return
        try:
            fcntl.flock(opened, fcntl.LOCK_EX)
            yield FillingCall(opened)
        finally:
            path.unlink(missing_ok=True)
            os.close(opened)


class FillingCall:
    """What one call tells of its progress."""

    def __init__(self, opened: int | None) -> None:
        self._opened = opened

    def tell(self, done: int, total: int) -> None:
        """Tell how many documents are through."""
        if self._opened is not None:
            with suppress(OSError):
                os.pwrite(self._opened, f"{done:12} {total:12}\n".encode(), 0)


def _key(tenant: str, collection: str) -> str:
    return hashlib.sha256(json.dumps([tenant, collection]).encode()).hexdigest()[:32]


def _is_locked(opened: int) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
