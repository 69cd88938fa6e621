"""Snapshots: what is written is read, whatever its size, and nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.support.disks import QuickFiles, RecordingFiles  # noqa: E402
from tests.support.stored_collections import flipped  # noqa: E402
from trunkline.methods.vectors import snapshot as module  # noqa: E402
from trunkline.methods.vectors.log import Item  # noqa: E402
from trunkline.methods.vectors.snapshot import Damaged, Snapshot, read_snapshot, verify, write_snapshot  # noqa: E402


def snapshot_of(count: int, dimension: int) -> Snapshot:
    vectors = np.arange(count * dimension, dtype=np.float32).reshape(count, dimension)
    return Snapshot(7, 3, [Item(f"ü{row}", "text" * (row % 3), {"row": row}) for row in range(count)], vectors)


def write(path: Path, snapshot: Snapshot) -> int:
    return write_snapshot(QuickFiles(), path, snapshot, lambda: None)


@pytest.mark.parametrize("block", [16, 64, 1000, 1 << 20])
@pytest.mark.parametrize(("count", "dimension"), [(0, 5), (1, 1), (3, 16), (2500, 3)])
def test_what_is_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, count: int, dimension: int
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    snapshot = snapshot_of(count, dimension)
    assert write(tmp_path / "s", snapshot) == (tmp_path / "s").stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    monkeypatch.undo()  # a file says itself how long its blocks are
    verify(tmp_path / "s")
    read = read_snapshot(tmp_path / "s", dimension)
    assert (read.position, read.generation, read.items) == (7, 3, snapshot.items)
    assert (read.vectors == snapshot.vectors).all()


def test_any_flipped_bit_and_any_missing_or_added_byte_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 128)
    path = tmp_path / "s"
    write(path, snapshot_of(4, 8))
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in range(8):
            with flipped(path, at, bit):
                with pytest.raises(Damaged, match=r"s: byte \d+ begins ") as caught:
                    read_snapshot(path, 8)
                assert 0 <= caught.value.byte <= len(whole)
                if at % 16 == bit:
                    with pytest.raises(Damaged):
                        verify(path)
    for variant in [whole[:size] for size in range(0, len(whole), 9)] + [whole + b"\0", whole + whole]:
        path.write_bytes(variant)
        with pytest.raises(Damaged, match=r"s: byte \d+ (begins|is) "):
            read_snapshot(path, 8)
    path.write_bytes(whole)
    assert len(read_snapshot(path, 8).items) == 4
    with pytest.raises(Damaged, match="of dimension 9"):
        read_snapshot(path, 9)


def test_it_has_its_name_only_when_it_is_synced_and_verified(tmp_path: Path) -> None:
    files = RecordingFiles()
    write_snapshot(files, tmp_path / "s", snapshot_of(4, 8), lambda: None)
    assert [step[0] for step in files.steps][-3:] == ["sync", "close", "rename"]


def test_one_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    def give_up() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        write_snapshot(QuickFiles(), tmp_path / "s", snapshot_of(4, 8), give_up)
    assert not [*tmp_path.iterdir()]


class Forgetful(QuickFiles):
    """A disk that says it wrote, and has something else."""

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        super().write(descriptor, bytes(len(data)) if len(data) > 100 else data)


def test_a_disk_that_did_not_keep_it_is_noticed_before_it_counts(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="whose checksum is wrong"):
        write_snapshot(Forgetful(), tmp_path / "s", snapshot_of(40, 8), lambda: None)
    assert not [*tmp_path.iterdir()]
