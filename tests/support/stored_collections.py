"""Collections for tests: vectors that are easy to tell apart, and files that are damaged for a moment."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trunkline.methods.vectors.changes import Item, Upsert
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


def opened(folder: Path, name: str = "c") -> Collection:
    """A collection that is there, opened."""
    collection = CollectionStore(folder / "collections").open(name)
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
