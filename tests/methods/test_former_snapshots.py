"""Snapshots of former versions: what was written is read, whatever its size, and nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.support.former_collections import encode_snapshot  # noqa: E402
from tests.support.stored_collections import flipped  # noqa: E402
from trunkline.methods.vectors.changes import Item  # noqa: E402
from trunkline.methods.vectors.former.snapshot import Damaged, Snapshot, read_snapshot  # noqa: E402


def snapshot_of(count: int, dimension: int) -> Snapshot:
    vectors = np.arange(count * dimension, dtype=np.float32).reshape(count, dimension)
    return Snapshot(7, 3, [Item(f"ü{row}", "text" * (row % 3), {"row": row}) for row in range(count)], vectors)


@pytest.mark.parametrize("block", [16, 64, 1000, 1 << 20])
@pytest.mark.parametrize(("count", "dimension"), [(0, 5), (1, 1), (3, 16), (2500, 3)])
def test_what_is_written_is_read(tmp_path: Path, block: int, count: int, dimension: int) -> None:
    snapshot = snapshot_of(count, dimension)
    (tmp_path / "s").write_bytes(encode_snapshot(snapshot, block))
    read = read_snapshot(tmp_path / "s", dimension)
    assert (read.position, read.generation, read.items) == (7, 3, snapshot.items)
    assert (read.vectors == snapshot.vectors).all()


def test_any_flipped_bit_and_any_missing_or_added_byte_is_noticed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"
    whole = encode_snapshot(snapshot_of(4, 8), 128)
    path.write_bytes(whole)
    for at in range(len(whole)):
        for bit in range(8):
            with flipped(path, at, bit):
                with pytest.raises(Damaged, match=r"s: byte \d+ begins ") as caught:
                    read_snapshot(path, 8)
                assert 0 <= caught.value.byte <= len(whole)
    for variant in [whole[:size] for size in range(0, len(whole), 9)] + [whole + b"\0", whole + whole]:
        path.write_bytes(variant)
        with pytest.raises(Damaged, match=r"s: byte \d+ (begins|is) "):
            read_snapshot(path, 8)
    path.write_bytes(whole)
    assert len(read_snapshot(path, 8).items) == 4
    with pytest.raises(Damaged, match="of dimension 9"):
        read_snapshot(path, 9)
