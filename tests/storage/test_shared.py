"""A file that others may read: what they see, who may write it, and what is refused when it was moved."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.damage import damage_index
from trunkline.storage.database import Database, InUse, making, read_beside
from trunkline.storage.durable import replace_file, whole_file
from trunkline.storage.locking import lock
from trunkline_protocol.errors import ErrorCode, RpcError

TABLE = "CREATE TABLE items (name TEXT PRIMARY KEY)"
NAMES = "SELECT name FROM items ORDER BY name"


def put(items: Database, name: str) -> None:
    with items.writing(f"{name} was not put") as transaction:
        transaction.execute("INSERT INTO items VALUES (?)", (name,))


def database(folder: Path) -> Database:
    return Database(folder / "items.sqlite", "the items", [TABLE], shared=True, page_bytes=8192)


@pytest.fixture
def items(tmp_path: Path) -> Iterator[Database]:
    """An open file with the item a, made beforehand."""
    folder = tmp_path / "own"
    folder.mkdir()
    with making(folder / "items.sqlite", [TABLE], 8192) as transaction:
        transaction.execute("INSERT INTO items VALUES ('a')")
    opened = database(folder)
    opened.open(existing=True)
    yield opened
    opened.close()


def test_it_is_read_beside_as_it_is_at_the_last_commit(items: Database) -> None:
    assert read_beside(items.path, "no names", NAMES) == [("a",)]
    put(items, "b")
    assert read_beside(items.path, "no names", NAMES) == [("a",), ("b",)]
    assert [*items.read_some("no names", NAMES, (), 1)] == [[("a",)], [("b",)]]
    assert items.read("no size", "PRAGMA page_size") == [(8192,)]
    assert items.size > 2 * 8192


def test_while_another_program_writes_nothing_is_written_and_the_words_say_what_to_end(
    items: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    items.close()
    monkeypatch.setattr("trunkline.storage.database.PATIENCE", 0.01)
    items.open(existing=True)
    with contextlib.closing(sqlite3.connect(items.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RpcError, match=r"b was not put: database is locked .*another program writes to it") as told:
            put(items, "b")
    assert told.value.code == ErrorCode.DATABASE_CONNECTION_ERROR
    put(items, "b")


def test_what_cannot_be_read_beside_is_told(tmp_path: Path) -> None:
    with pytest.raises(RpcError, match="no names: unable to open database file"):
        read_beside(tmp_path / "absent.sqlite", "no names", NAMES)


@pytest.mark.parametrize("shared", [True, False])
def test_pages_are_looked_through_while_rows_are_read(items: Database, shared: bool) -> None:
    items.close()
    opened = Database(items.path, "the items", [TABLE], shared=shared)
    opened.open(existing=True, checked=False)
    with opened.checking():
        assert opened.read("no names", NAMES) == [("a",)]
    with pytest.raises(KeyError), opened.checking():
        raise KeyError
    opened.close()
    damage_index(items.path)
    entered: list[bool] = []

    def read() -> None:
        with opened.checking():
            entered.append(True)
            raise KeyError

    opened.open(existing=True, checked=False)
    with pytest.raises(RpcError, match=r"items\.sqlite is damaged \(.* Page \d") as told:
        read()
    opened.close()
    assert (told.value.code, len(entered)) == (ErrorCode.PIPELINE_INITIALIZATION_FAILED, int(shared))


def test_pages_are_looked_through_before_tables_are_changed(items: Database) -> None:
    items.close()
    damage_index(items.path)
    later = Database(items.path, "the items", [TABLE, "DROP TABLE items"], shared=True)
    with pytest.raises(RpcError, match=r"items\.sqlite is damaged"):
        later.open(existing=True, checked=False)


def test_one_that_has_to_be_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(RpcError, match=r"items\.sqlite is damaged \(it is gone\)") as told:
        database(tmp_path).open(existing=True)
    assert told.value.code == ErrorCode.PIPELINE_INITIALIZATION_FAILED
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    with pytest.raises(RpcError, match="No such file"):
        database(tmp_path / "absent").open(existing=True)
    assert not (tmp_path / "absent").exists()


def test_what_is_prepared_is_prepared_by_the_owner_alone(items: Database) -> None:
    called: list[str] = []
    second = database(items.path.parent)
    with pytest.raises(InUse):
        second.open(existing=True, prepare=lambda: called.append("second"))
    items.close()
    second.open(existing=True, prepare=lambda: called.append("first"))
    second.close()
    assert called == ["first"]


def test_one_that_was_moved_or_replaced_is_not_ours(items: Database) -> None:
    folder = items.path.parent
    found = [items.is_ours]
    (folder / "lock").rename(folder / "other")
    found.append(items.is_ours)
    (folder / "other").rename(folder / "lock")
    found.append(items.is_ours)
    shutil.copy(items.path, folder / "copy")
    (folder / "copy").replace(items.path)
    found.append(items.is_ours)
    items.path.unlink()
    with pytest.raises(RpcError, match="cannot be looked at: No such file"):
        assert items.size
    items.close()
    assert [*found, items.is_ours] == [True, False, True, False, False]


def test_a_transaction_that_is_refused_leaves_what_another_owner_wrote_to_the_log(items: Database) -> None:
    (items.path.parent / "lock").unlink()
    owner = database(items.path.parent)
    owner.open(existing=True)

    def refuse() -> None:
        with items.writing("nothing"):
            raise KeyError

    put(owner, "b")
    with pytest.raises(KeyError):
        refuse()
    put(owner, "c")
    assert read_beside(items.path, "no names", NAMES) == [("a",), ("b",), ("c",)]
    owner.close()


def test_removed_rows_are_given_back_some_at_a_time(items: Database) -> None:
    for number in range(40):
        put(items, f"{number} {'x' * 8000}")
    items.write_back()
    before = items.size
    with items.writing("nothing was removed") as transaction:
        transaction.execute("DELETE FROM items")
    steps = 1
    while not items.shrink(10):
        steps += 1
    items.write_back()
    assert steps > 3
    assert items.size < before / 4


def test_a_lock_that_was_removed_meanwhile_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.storage.locking.is_at", lambda *_: False)
    with pytest.raises(BlockingIOError, match="moved or removed just now"):
        lock(tmp_path / "lock")


def test_a_small_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"one", b"", b"two" * 1000):
        replace_file(path, data)
        assert path.read_bytes() == data
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(path, b"three")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    unfinished = tmp_path / "file.part"
    unfinished.write_text("what a process that was killed has left")
    unfinished.chmod(0o644)
    with whole_file(path) as output:
        output.write(b"new")
        assert path.read_text() == "old"
        with pytest.raises(BlockingIOError), whole_file(path):
            raise AssertionError("two have it")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)

    def fail() -> None:
        with whole_file(path) as output:
            output.write(b"newer")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "new")]


def test_a_file_that_another_process_has_just_finished_is_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file.part").write_text("finished, and renamed right now")
    monkeypatch.setattr("trunkline.storage.durable.is_at", lambda *_: False)
    with pytest.raises(BlockingIOError, match=r"another process writes .*/file\.part"), whole_file(tmp_path / "file"):
        raise AssertionError("it is opened")
    assert (tmp_path / "file.part").read_text() == "finished, and renamed right now"
