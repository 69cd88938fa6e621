"""One owner a collection: another is kept out, and one that was replaced behind its back notices and does no harm."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.support.stored_collections import contents, make, opened, upsert_of
from trunkline import Context
from trunkline.methods.vectors.owner import CollectionOwner
from trunkline.methods.vectors.store import Collection, CollectionStore, InUse, Manifest
from trunkline.storage import locking
from trunkline.storage.database import Database, read_beside
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.principals import Principal
from trunkline_protocol.tenants import key_in


def put(collection: Collection, *ids: str) -> None:
    collection.upsert(upsert_of({each: f"text of {each}" for each in ids}))


def take_over(folder: Path) -> Collection:
    """Open a collection that somebody has, as where locks do not work."""
    (folder / "collections" / "c" / "lock").unlink()
    return opened(folder)


def stored(folder: Path) -> list[Any]:
    """All rows, whoever has the file open."""
    path = folder / "collection.sqlite"
    state = read_beside(path, "state", "SELECT * FROM collection")
    return state + read_beside(path, "items", "SELECT * FROM items ORDER BY id")


def generation(folder: Path) -> int:
    ((number,),) = read_beside(folder / "collection.sqlite", "generation", "SELECT generation FROM collection")
    return int(number)


def test_the_generation_grows_with_each_opening(tmp_path: Path) -> None:
    folder = make(tmp_path, ["a"])
    before = generation(folder)
    for number in range(1, 4):
        collection = opened(tmp_path)
        assert generation(folder) == before + number
        if number == 2:
            put(collection, "b")
        collection.close()
    assert generation(folder) == before + 3


def test_a_second_owner_is_refused(tmp_path: Path) -> None:
    make(tmp_path, ["a"])
    collection = opened(tmp_path)
    with pytest.raises(InUse, match=r"process \d+ has it open"):
        opened(tmp_path)
    collection.close()
    opened(tmp_path).close()


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, ["a"])
    monkeypatch.setattr(locking, "NETWORK_FILE_SYSTEMS", {locking.file_system_of(tmp_path)})
    with pytest.raises(RpcError, match="is on a network file system") as caught:
        opened(tmp_path)
    assert caught.value.code == ErrorCode.INVALID_CONFIGURATION


def test_files_are_for_their_user_alone(tmp_path: Path) -> None:
    folder = make(tmp_path, ["a"])
    collection = opened(tmp_path)
    put(collection, "b")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())}
    collection.close()
    assert modes.pop("c") == 0o700
    assert modes == dict.fromkeys(
        ["collection.json", "collection.sqlite", "collection.sqlite-shm", "collection.sqlite-wal", "lock"], 0o600
    )


def test_one_that_was_replaced_writes_nothing_more(tmp_path: Path) -> None:
    folder = make(tmp_path, ["a"])
    former = opened(tmp_path)
    put(former, "b")
    owner = take_over(tmp_path)
    put(owner, "c")
    before = stored(folder)
    for change in (lambda: put(former, "x"), lambda: former.delete(["a"]), former.rebuild):
        with pytest.raises(RpcError, match=r"another one has it|was handed over") as caught:
            change()
        assert caught.value.code == 5001
    with pytest.raises(RpcError, match="handed over"):
        CollectionStore(tmp_path / "collections").delete(former)
    assert former.closed
    assert stored(folder) == before
    put(owner, "d")
    owner.close()
    collection = opened(tmp_path)
    assert sorted(contents(collection)) == ["a", "b", "c", "d"]
    collection.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda former: put(former, "x"),
        lambda former: former.delete(["a"]),
        lambda former: former.set_index(former.index.spec),
    ],
    ids=["upsert", "delete", "set_index"],
)
@pytest.mark.parametrize("has_written", [False, True])
def test_the_file_itself_refuses_a_former_owner_that_noticed_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_written: bool, change: Callable[[Collection], None]
) -> None:
    folder = make(tmp_path, ["a"])
    former = opened(tmp_path)
    put(former, "b")
    owner = take_over(tmp_path)
    if has_written:
        put(owner, "c")
    before = stored(folder)
    with monkeypatch.context() as blind:
        blind.setattr(Database, "is_ours", True)
        with pytest.raises(RpcError, match="another one has it") as caught:
            change(former)
    assert caught.value.code == 5001
    assert stored(folder) == before
    former.close()
    put(owner, "d")
    owner.close()
    collection = opened(tmp_path)
    assert sorted(contents(collection)) == ["a", "b", *(["c"] if has_written else []), "d"]
    collection.close()


def test_the_generation_alone_tells_too(tmp_path: Path) -> None:
    folder = make(tmp_path, ["a"])
    former = opened(tmp_path)
    with contextlib.closing(sqlite3.connect(folder / "collection.sqlite")) as other, other:
        other.execute("UPDATE collection SET generation = generation + 1")
    with pytest.raises(RpcError, match="another one has it"):
        put(former, "x")
    assert former.closed


def test_a_folder_that_was_moved_away_is_written_no_more(tmp_path: Path) -> None:
    folder = make(tmp_path, ["a"])
    collection = opened(tmp_path)
    folder.rename(folder.with_name("moved"))
    with pytest.raises(RpcError, match="or it was moved"):
        put(collection, "x")
    assert collection.closed


def test_closing_one_that_was_moved_leaves_the_one_in_its_place_alone(tmp_path: Path) -> None:
    """SQLite removes a log by its name: it must not be that of another owner, who has acknowledged what is in it."""
    folder = make(tmp_path, ["a"])
    backup = tmp_path / "backup"
    shutil.copytree(folder, backup)
    former = opened(tmp_path)
    put(former, "b")
    folder.rename(folder.with_name("moved"))
    backup.rename(folder)
    owner = opened(tmp_path)
    put(owner, "c")
    log = (folder / "collection.sqlite-wal").stat()
    with pytest.raises(RpcError, match="or it was moved"):
        put(former, "x")
    former.close()
    assert (folder / "collection.sqlite-wal").stat() == log
    assert sorted(read_beside(folder / "collection.sqlite", "ids", "SELECT id FROM items")) == [("a",), ("c",)]
    owner.close()
    collection = opened(tmp_path)
    assert sorted(contents(collection)) == ["a", "c"]
    collection.close()


class HereContext(Context):
    """A context whose thread is the caller's."""

    def __init__(self, tenant: str = "default") -> None:
        self._who = Principal("ann", tenant=tenant)

    @property
    def principal(self) -> Principal:
        return self._who

    async def run_in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)


async def test_what_moves_to_another_executor_is_closed_for_its_tenant_alone(tmp_path: Path) -> None:
    owner, acme, bolt = CollectionOwner(), HereContext("acme"), HereContext("bolt")
    owner.load({"data_dir": tmp_path, "shared_collections": ("wiki",)})
    opened = {}
    for name, who in (("docs", acme), ("docs", bolt), ("wiki", bolt)):
        assert await owner.create(Manifest(name=name, dimension=2, model=None, metadata={}), who) is None
        opened[name, who] = await owner.get(name, who)
    assert await owner.get("wiki", acme) is opened["wiki", bolt]
    await owner.release(lambda key: key in (key_in("acme", "docs"), key_in("bolt", "wiki")))
    assert [each.closed for each in opened.values()] == [True, False, False]
    await owner.delete(opened["docs", bolt], bolt)
    assert await owner.find("docs", bolt) is None
    assert await owner.find("docs", acme) not in (None, opened["docs", acme])
    owner.close()


async def test_that_one_cannot_be_opened_is_logged_once_until_it_opens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make(tmp_path, ["a"]) / "collection.sqlite"
    whole = path.read_bytes()
    owner, here = CollectionOwner(), HereContext()
    owner.load({"data_dir": tmp_path})

    async def warnings(data: bytes, calls: int) -> list[str]:
        path.write_bytes(data)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "trunkline.vectors"):
            for _ in range(calls):
                with pytest.raises(RpcError) as caught:
                    await owner.find("c", here)
                assert caught.value.code == ErrorCode.PIPELINE_INITIALIZATION_FAILED
        told = [vars(record) for record in caplog.records]
        assert {(each["collection"], each["levelname"]) for each in told} <= {("c", "WARNING")}
        assert not told or told[-1]["reason"] == caught.value.message
        return [str(each["reason"]) for each in told]

    empty = await warnings(b"", calls=3)
    assert len(empty) == 1, "once, not at each call"
    assert "collection.sqlite" in empty[0]
    assert len(await warnings(bytes(len(whole)), calls=2)) == 1, "another text is told"
    path.write_bytes(whole)
    assert await owner.find("c", here) is not None
    owner.close()
    assert await warnings(b"", calls=2) == empty, "it was open in between"
