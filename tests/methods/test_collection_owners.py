"""One owner a collection: another is kept out, and one that was replaced behind its back notices and does no harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.support.disks import QuickFiles
from tests.support.stored_collections import contents, make, opened, upsert_of
from trunkline.methods.vectors.recovery import snapshot_path
from trunkline.methods.vectors.snapshot import Snapshot, write_snapshot
from trunkline.methods.vectors.store import Collection, CollectionLocked, CollectionStore
from trunkline_protocol.errors import RpcError


def put(collection: Collection, *ids: str) -> None:
    collection.upsert(upsert_of({each: f"text of {each}" for each in ids}))


def take_over(folder: Path) -> Collection:
    """Open a collection that somebody has, as where locks do not work."""
    (folder / "collections" / "c" / "lock").unlink()
    return opened(folder)


class Interrupted(QuickFiles):
    """Calls something once, just before what is written next reaches its file, or just before a file is renamed."""

    def __init__(self) -> None:
        self.before_write: Callable[[], None] | None = None
        self.before_rename: Callable[[], None] | None = None

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        call, self.before_write = self.before_write, None
        if call is not None:
            call()
        super().write(descriptor, data)

    def rename(self, old: Path, new: Path) -> None:
        call, self.before_rename = self.before_rename, None
        if call is not None:
            call()
        super().rename(old, new)


def test_the_generation_grows_with_each_opening_even_without_its_file(tmp_path: Path) -> None:
    folder = make(tmp_path, ["a"])

    def generation() -> int:
        return int(json.loads((folder / "owner").read_text())["generation"])

    before = generation()
    collection = opened(tmp_path)
    assert generation() == before + 1
    put(collection, "b")
    collection.close()
    for damaged in (b"", b"not JSON", None):
        if damaged is None:
            (folder / "owner").unlink()
        else:
            (folder / "owner").write_bytes(damaged)
        opened(tmp_path).close()
        assert generation() == before + 2, "as far as the names of the files tell"


def test_a_second_owner_is_refused(tmp_path: Path) -> None:
    make(tmp_path, ["a"])
    collection = opened(tmp_path)
    with pytest.raises(CollectionLocked, match=r"process \d+ has it open"):
        opened(tmp_path)
    collection.close()
    opened(tmp_path).close()


def test_one_that_was_replaced_writes_nothing_more(tmp_path: Path) -> None:
    folder = make(tmp_path, ["a"])
    former = opened(tmp_path)
    put(former, "b")
    owner = take_over(tmp_path)
    put(owner, "c")
    files = {path: path.read_bytes() for path in folder.iterdir()}
    for change in (lambda: put(former, "x"), lambda: former.delete(["a"]), former.rebuild):
        with pytest.raises(RpcError, match=r"another one has it|was handed over") as caught:
            change()
        assert caught.value.code == 5001
    with pytest.raises(RpcError, match="handed over"):
        CollectionStore(tmp_path / "collections").delete(former)
    assert former.closed
    assert {path: path.read_bytes() for path in folder.iterdir()} == files
    put(owner, "d")
    owner.close()
    collection = opened(tmp_path)
    assert sorted(contents(collection)) == ["a", "b", "c", "d"]
    collection.close()


def test_the_generation_alone_tells_too(tmp_path: Path) -> None:
    folder = make(tmp_path, ["a"])
    former = opened(tmp_path)
    record = json.loads((folder / "owner").read_text())
    (folder / "owner").write_text(json.dumps(record | {"generation": record["generation"] + 1}))
    with pytest.raises(RpcError, match="another one has it"):
        put(former, "x")


def test_a_folder_that_was_moved_away_is_written_no_more(tmp_path: Path) -> None:
    folder = make(tmp_path, ["a"])
    collection = opened(tmp_path)
    folder.rename(folder.with_name("moved"))
    with pytest.raises(RpcError, match="or it was moved"):
        put(collection, "x")


def test_a_record_that_a_former_owner_was_just_writing_is_not_acknowledged_and_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, ["a"])
    files = Interrupted()
    former = opened(tmp_path, files=files)
    put(former, "b")
    owners: list[Collection] = []

    def interrupt() -> None:
        owners.append(take_over(tmp_path))
        put(owners[0], "c")

    files.before_write = interrupt
    with pytest.raises(RpcError, match="another one has it"):
        put(former, "x")
    put(owners[0], "d")
    owners[0].close()
    collection = opened(tmp_path)
    assert sorted(contents(collection)) == ["a", "b", "c", "d"]
    assert "by an owner that had been replaced: it is left out" in caplog.text
    collection.close()


@pytest.mark.parametrize("moment", ["before_write", "before_rename"])
def test_a_snapshot_that_a_former_owner_was_just_writing_does_no_harm(tmp_path: Path, moment: str) -> None:
    make(tmp_path, ["a"])
    files = Interrupted()
    former = opened(tmp_path, files=files)
    put(former, "b")
    owners: list[Collection] = []

    def interrupt() -> None:
        owners.append(take_over(tmp_path))
        put(owners[0], "c")
        owners[0].delete(["a"])

    setattr(files, moment, interrupt)
    former.index.delete(["b"])  # so that it would be noticed if its snapshot counted
    with pytest.raises(RpcError, match=r"another one has it|No such file") as caught:
        former.rebuild()
    assert caught.value.code == 5001
    former.close()
    put(owners[0], "d")
    owners[0].close()
    collection = opened(tmp_path)
    assert sorted(contents(collection)) == ["b", "c", "d"]
    collection.close()


def test_a_snapshot_of_a_former_owner_that_goes_beyond_its_time_is_left_out(tmp_path: Path) -> None:
    folder = make(tmp_path, ["a"], ["b"])  # positions 1 and 2, of generation 1
    collection = opened(tmp_path)
    put(collection, "c")  # position 3, of generation 2
    items, vectors = collection.index.contents()
    collection.close()
    write_snapshot(QuickFiles(), snapshot_path(folder, 3, 1), Snapshot(3, 1, items[:1], vectors[:1]), lambda: None)
    collection = opened(tmp_path)
    assert sorted(contents(collection)) == ["a", "b", "c"]
    collection.close()
