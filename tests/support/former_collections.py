"""Collections as former versions wrote them: logs of two formats, and snapshots."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.stored_collections import upsert_of
from trunkline.methods.vectors.changes import Change, Delete, Item
from trunkline.methods.vectors.former.records import DELETE, GROUP, MARK, UPSERT
from trunkline.methods.vectors.former.snapshot import END_MARK, HEADER_BYTES, Snapshot
from trunkline.methods.vectors.former.snapshot import MARK as SNAPSHOT_MARK

PAGE = 1024
BLOCK = 1 << 20


def encode_record(position: int, generation: int, payload: bytes) -> bytes:
    """A payload as a record of format 2."""
    header = struct.pack("<4sQQII", MARK, position, generation, len(payload), zlib.crc32(payload))
    return header + struct.pack("<I", zlib.crc32(header)) + payload


def old_record(payload: bytes) -> bytes:
    """A record of format 1."""
    crc = zlib.crc32(payload, zlib.crc32(struct.pack("<I", len(payload))))
    return struct.pack("<4sII", b"TLR1", len(payload), crc) + payload


def encode_change(change: Change) -> bytes:
    """A change as a payload."""
    if isinstance(change, Delete):
        return _payload(DELETE, _json(list(change.ids)))
    return _payload(UPSERT, encode_items(change.items), change.vectors.astype("<f4").tobytes())


def encode_changes(changes: Sequence[Change]) -> bytes:
    """Changes that are committed together, as one payload."""
    payloads = [*map(encode_change, changes)]
    if len(payloads) == 1:
        return payloads[0]
    return _payload(GROUP, struct.pack(f"<{len(payloads)}I", *map(len, payloads)), *payloads)


def encode_items(items: Sequence[Item]) -> bytes:
    """Items as JSON."""
    return _json(
        [
            {"id": item.id, "metadata": item.metadata} | ({} if item.text is None else {"text": item.text})
            for item in items
        ]
    )


def _payload(kind: int, head: bytes, *body: bytes) -> bytes:
    return b"".join((struct.pack("<BI", kind, len(head)), head, *body))


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def encode_snapshot(snapshot: Snapshot, block: int = BLOCK) -> bytes:
    """A snapshot as bytes."""
    vectors = np.ascontiguousarray(snapshot.vectors, dtype="<f4")
    header = struct.pack("<8sQQQQ", SNAPSHOT_MARK, snapshot.position, snapshot.generation, *vectors.shape)
    body = header.ljust(HEADER_BYTES, b"\0") + vectors.tobytes()
    for start in range(0, len(snapshot.items), PAGE):
        page = encode_items(snapshot.items[start : start + PAGE])
        body += struct.pack("<I", len(page)) + page
    crcs = [zlib.crc32(body[at : at + block]) for at in range(0, len(body), block)]
    trailer = struct.pack(f"<{len(crcs)}IQI", *crcs, len(body), block)
    return body + trailer + struct.pack("<I", zlib.crc32(trailer)) + END_MARK


def write_snapshot(folder: Path, snapshot: Snapshot) -> Path:
    """A snapshot in a collection's folder."""
    path = folder / f"snapshot-{snapshot.position:012d}-{snapshot.generation:08d}"
    path.write_bytes(encode_snapshot(snapshot))
    return path


def write_segment(folder: Path, first: int, generation: int, *payloads: bytes) -> Path:
    """A segment of a log in a collection's folder."""
    path = folder / f"log-{first:012d}-{generation:08d}"
    path.write_bytes(b"".join(encode_record(at, generation, each) for at, each in enumerate(payloads, first)))
    return path


def payload_of(ids: Iterable[str]) -> bytes:
    """An upsert of items whose text is "text of <id>"."""
    return encode_change(upsert_of({each: f"text of {each}" for each in ids}))


def describe(folder: Path, version: int) -> Path:
    """The folder of collection c of dimension 2, with its description."""
    collection = folder / "collections" / "c"
    collection.mkdir(parents=True)
    described = {"name": "c", "dimension": 2, "model": None, "metadata": {}, "format_version": version}
    (collection / "collection.json").write_text(json.dumps(described))
    return collection


def make_1(folder: Path, *commits: Iterable[str]) -> Path:
    """The same as :func:`tests.support.stored_collections.make`, in format 1."""
    collection = describe(folder, 1)
    (collection / "log").write_bytes(b"".join(old_record(payload_of(ids)) for ids in commits))
    return collection


def make_2(folder: Path, *commits: Iterable[str]) -> Path:
    """The same in format 2, in one segment."""
    collection = describe(folder, 2)
    (collection / "log-000000000001-00000000").touch()
    write_segment(collection, 1, 1, *map(payload_of, commits))
    (collection / "owner").write_text(json.dumps({"generation": 1, "owner": "x"}).ljust(128))
    return collection
