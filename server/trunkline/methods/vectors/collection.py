"""One collection: its description, its log and its FAISS index, held by one owner."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import faiss
import msgspec
import numpy as np
from numpy.typing import NDArray

from trunkline.methods.vectors.log import CorruptLogError, Item, ItemLog
from trunkline_protocol.errors import ErrorCode, RpcError

FORMAT_VERSION: Final = 1
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LOCK_SECONDS: Final = 3.0
"""How long to wait for a predecessor that is just dying to let its lock go."""

logger = logging.getLogger("trunkline.vectors")


class Description(msgspec.Struct, frozen=True):
    """What ``collection.json`` holds: decided when the collection is created, never changed."""

    name: str
    dimension: int
    model: str | None
    metadata: dict[str, Any]
    created_at: str
    format_version: int = FORMAT_VERSION


def folder_of(root: Path, name: str) -> Path:
    """The folder of a collection.

    Raises:
        RpcError: -32602, a name that is none.
    """
    if not NAME.fullmatch(name):
        raise RpcError(
            ErrorCode.INVALID_PARAMS,
            f"collection name {name!r:.80}: 1 to 64 of A-Z a-z 0-9 . _ -, not starting with . _ -",
        )
    return root / name


def read_description(folder: Path) -> Description | None:
    """The description in a folder; None where there is no collection.

    Raises:
        RpcError: 4001 for a format of another release, 5001 for a file that cannot be read.
    """
    try:
        data = (folder / "collection.json").read_bytes()
    except FileNotFoundError:
        return None
    try:
        description = msgspec.json.decode(data, type=Description)
    except msgspec.DecodeError as error:
        raise RpcError(
            ErrorCode.DATABASE_CONNECTION_ERROR, f"collection {folder.name}: collection.json is damaged: {error}"
        ) from error
    if description.format_version != FORMAT_VERSION:
        raise RpcError(
            ErrorCode.INVALID_CONFIGURATION,
            f"collection {folder.name} has format {description.format_version}, this release reads {FORMAT_VERSION}",
        )
    return description


def create_folder(folder: Path, description: Description) -> None:
    """Write a new collection's folder; it is there as a whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "collection.json.new"
    with temporary.open("wb") as file:
        file.write(json.dumps(msgspec.to_builtins(description), indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / "collection.json")
    for directory in (folder, folder.parent):
        descriptor = os.open(directory, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


class Collection:
    """An open collection. Not thread-safe: all calls come from the executor's one thread.

    Args:
        folder: of an existing collection.
        description: as read from it.

    Raises:
        RpcError: 5001, it is locked by another process or its log is damaged.
    """

    def __init__(self, folder: Path, description: Description) -> None:
        self.description = description
        self._folder = folder
        self._lock = self._take_lock()
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(description.dimension))
        self._items: dict[int, Item] = {}
        self._numbers: dict[str, int] = {}
        self._next = 0
        self._log = ItemLog(folder / "items.log")
        try:
            items, cut = self._log.replay()
        except CorruptLogError as error:
            self.close()
            raise RpcError(
                ErrorCode.DATABASE_CONNECTION_ERROR,
                f"collection {description.name}: {error}; restore items.log from a copy, or delete the collection",
            ) from error
        if cut:
            logger.warning("collection %s: a torn tail of %d bytes was cut off", description.name, cut)
        self._apply(items)

    def _take_lock(self) -> int:
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(lock)
                    raise RpcError(
                        ErrorCode.DATABASE_CONNECTION_ERROR,
                        f"collection {self.description.name} is open in another process; "
                        "is another hub using this data folder?",
                    ) from None
                time.sleep(0.05)
            else:
                return lock

    def __len__(self) -> int:
        return len(self._items)

    @property
    def log_bytes(self) -> int:
        """Size of the log on disk."""
        return self._log.size

    def upsert(self, items: Sequence[Item]) -> None:
        """Store items durably, then make them searchable. All of them or, after an error, none.

        Raises:
            RpcError: 5002, they could not be written.
        """
        try:
            self._log.append(items)
        except OSError as error:
            raise RpcError(
                ErrorCode.INSUFFICIENT_RESOURCES,
                f"collection {self.description.name}: nothing was stored: {error.strerror}",
            ) from error
        self._apply(items)

    def _apply(self, items: Sequence[Item]) -> None:
        latest = {item.id: item for item in items}  # within one upsert, the last of an id counts
        if not latest:
            return
        replaced = [self._numbers[name] for name in latest if name in self._numbers]
        if replaced:
            self._index.remove_ids(np.array(replaced, dtype=np.int64))  # type: ignore[arg-type]
            for number in replaced:
                del self._items[number]
        numbers = np.arange(self._next, self._next + len(latest), dtype=np.int64)
        self._next += len(latest)
        rows = np.frombuffer(b"".join(item.vector for item in latest.values()), dtype="<f4")
        self._index.add_with_ids(rows.reshape(len(latest), self.description.dimension).astype(np.float32), numbers)
        for number, item in zip(numbers.tolist(), latest.values(), strict=True):
            self._numbers[item.id] = number
            self._items[number] = item

    def search(self, vector: NDArray[np.float32], top_k: int) -> list[tuple[Item, float]]:
        """The nearest items by cosine, best first.

        Args:
            vector: (dimension,) float32 of length 1.
        """
        scores, numbers = self._index.search(vector.reshape(1, -1), min(top_k, max(1, len(self))))
        found = zip(numbers[0].tolist(), scores[0].tolist(), strict=True)
        return [(self._items[number], score) for number, score in found if number >= 0]

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that are not stored."""
        return [name for name in ids if name not in self._numbers]

    def delete(self) -> None:
        """Remove the collection from disk."""
        # The description goes first: from then on there is no collection, whatever is left of the folder.
        (self._folder / "collection.json").unlink()
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Let files and lock go."""
        with contextlib.suppress(OSError):
            self._log.close()
        with contextlib.suppress(OSError):
            os.close(self._lock)
