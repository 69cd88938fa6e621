"""Collections for tests: vectors that are easy to tell apart, and files as former versions wrote them."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trunkline.methods.vectors.log import Item, Upsert, encode_change
from trunkline.methods.vectors.store import Collection, CollectionStore, Manifest


def vector_of(text: str, dimension: int = 2) -> Any:
    """A unit vector that another text does not have."""
    vector = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def upsert_of(texts: dict[str, str], dimension: int = 2) -> Upsert:
    """Items by id, each with its text and the vector of that text."""
    vectors = [vector_of(text, dimension) for text in texts.values()]
    return Upsert([Item(each, text, {"len": len(text)}) for each, text in texts.items()], np.stack(vectors))


def contents(collection: Collection) -> dict[str, str]:
    """The text of each item by its id; its vector and metadata are those of the text."""
    items, vectors = collection.index.contents()
    assert len(items) == len(collection.index)
    for item, vector in zip(items, vectors, strict=True):
        assert item.text is not None
        assert (vector == vector_of(item.text, collection.manifest.dimension)).all(), item
        assert item.metadata == {"len": len(item.text)}
    found = {item.id: item.text or "" for item in items}
    assert len(found) == len(items), "an item is there twice"
    return found


def opened(folder: Path, name: str = "c", **options: Any) -> Collection:
    """A collection that is there, opened."""
    collection = CollectionStore(folder / "collections", **options).open(name)
    assert collection is not None
    return collection


def make(folder: Path, *commits: Iterable[str]) -> Path:
    """A collection c of dimension 2 with some upserts, each of items whose text is "text of <id>"; its folder."""
    store = CollectionStore(folder / "collections")
    store.create(Manifest(name="c", dimension=2, model=None, metadata={}))
    collection = opened(folder)
    for ids in commits:
        collection.upsert(upsert_of({each: f"text of {each}" for each in ids}))
    collection.close()
    return folder / "collections" / "c"


def logs(folder: Path) -> list[Path]:
    """The segments of a collection's log that have something in them."""
    return [path for path in sorted(folder.glob("log*")) if path.stat().st_size]


@contextlib.contextmanager
def flipped(path: Path, at: int, bit: int) -> Iterator[None]:
    """A file with one bit of a byte changed, in place; as it was behind the block."""
    with path.open("r+b", buffering=0) as file:
        file.seek(at)
        (byte,) = file.read(1)
        try:
            os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), at)
            yield
        finally:
            os.pwrite(file.fileno(), bytes([byte]), at)


def old_record(payload: bytes) -> bytes:
    """A record of format 1."""
    crc = zlib.crc32(payload, zlib.crc32(struct.pack("<I", len(payload))))
    return struct.pack("<4sII", b"TLR1", len(payload), crc) + payload


def make_old(folder: Path, *commits: Iterable[str]) -> Path:
    """The same as :func:`make`, in format 1."""
    collection = folder / "collections" / "c"
    collection.mkdir(parents=True)
    described = {"name": "c", "dimension": 2, "model": None, "metadata": {}, "format_version": 1}
    (collection / "collection.json").write_text(json.dumps(described))
    payloads = [encode_change(upsert_of({each: f"text of {each}" for each in ids})) for ids in commits]
    (collection / "log").write_bytes(b"".join(map(old_record, payloads)))
    return collection
