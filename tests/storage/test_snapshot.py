"""Copies of files that others write to: one state, however many commits there are meanwhile, and nobody is held up."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.small_disk import fill, small_disk
from trunkline.storage import snapshot as snapshots
from trunkline.storage.database import Database
from trunkline.storage.failures import Damaged
from trunkline.storage.snapshot import copy_of, snapshot
from trunkline_protocol.errors import ErrorCode, RpcError

TABLE = "CREATE TABLE counters (name TEXT PRIMARY KEY, number INTEGER, ballast BLOB)"


def database(folder: Path, *, shared: bool = True) -> Database:
    return Database(folder / "own" / "items.sqlite", "the items", [TABLE], shared=shared)


@pytest.fixture
def items(tmp_path: Path) -> Iterator[Database]:
    """An open file of 60 counters, some hundred pages, all at 0."""
    opened = database(tmp_path)
    opened.open()
    with opened.writing("nothing") as transaction:
        for number in range(60):
            transaction.execute("INSERT INTO counters VALUES (?, 0, ?)", (str(number), os.urandom(6000)))
    yield opened
    opened.close()


def count(items: Database) -> None:
    """One more, in all of them at once."""
    with items.writing("not counted") as transaction:
        transaction.execute("UPDATE counters SET number = number + 1")


def numbers(copy: Path, original: Path) -> set[int]:
    with copy_of(copy, original, [TABLE]) as opened:
        found = [number for (number,) in opened.execute("SELECT number FROM counters")]
    assert len(found) == 60
    return set(found)


def test_it_is_one_state_and_comes_to_an_end_though_every_step_is_followed_by_a_commit(
    items: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "PAGES_AT_ONCE", 3)
    count(items)
    steps: list[tuple[int, int]] = []

    def progress(done: int, pages: int) -> None:
        assert len(steps) < 500, "it begins anew with each commit"
        steps.append((done, pages))
        count(items)

    snapshot(items.path, tmp_path / "copy", "the items", progress)
    assert numbers(tmp_path / "copy", items.path) == {1}
    assert len(steps) > 10
    assert steps[-1][0] == steps[-1][1]
    assert items.read("no number", "SELECT DISTINCT number FROM counters") == [(1 + len(steps),)]
    assert {path.name for path in tmp_path.iterdir()} == {"own", "copy"}
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


def test_one_that_nobody_has_is_copied_with_the_log_of_a_crash(items: Database, tmp_path: Path) -> None:
    count(items)
    shutil.copytree(items.path.parent, tmp_path / "crashed")
    (tmp_path / "crashed" / "lock").unlink()
    crashed = tmp_path / "crashed" / "items.sqlite"
    snapshot(crashed, tmp_path / "copy", "the items")
    assert numbers(tmp_path / "copy", crashed) == {1}
    assert not (tmp_path / "crashed" / "lock").exists(), "another user's process could not open it"


def test_acknowledged_transactions_that_a_log_has_lost_are_not_left_out_without_a_word(
    items: Database, tmp_path: Path
) -> None:
    for _ in range(4):
        count(items)
    shutil.copytree(items.path.parent, tmp_path / "crashed")
    crashed = tmp_path / "crashed" / "items.sqlite"
    with (tmp_path / "crashed" / "items.sqlite-wal").open("r+b") as log:
        log.seek(5000)
        log.write(b"damage")
    with pytest.raises(Damaged, match=r"items\.sqlite-wal is damaged"):
        snapshot(crashed, tmp_path / "copy", "the items")
    assert not (tmp_path / "copy").exists()


def test_the_log_of_an_owner_that_writes_it_is_not_looked_through(
    items: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, lock_file: int | None) -> None:
        raise AssertionError(path, lock_file)

    monkeypatch.setattr(snapshots, "require_whole", refuse)
    snapshot(items.path, tmp_path / "copy", "the items")
    items.close()
    with pytest.raises(AssertionError, match=r"items\.sqlite"):
        snapshot(items.path, tmp_path / "copy", "the items")


def test_one_whose_owner_has_it_alone_says_what_to_do(
    items: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items.close()
    monkeypatch.setattr(snapshots, "PATIENCE", 0.01)
    alone = database(tmp_path, shared=False)
    alone.open()
    with pytest.raises(RpcError, match=r"cannot be copied: its owner has it alone.* restart the hub") as told:
        snapshot(items.path, tmp_path / "copy", "the items")
    alone.close()
    assert told.value.code == ErrorCode.DATABASE_CONNECTION_ERROR


def test_a_full_disk_is_told_with_the_name_of_the_copy(items: Database, tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        fill(disk / "filler")
        with pytest.raises(RpcError, match=rf"full \({disk}/copy\): nothing was changed; free some of it") as told:
            snapshot(items.path, disk / "copy", "the items")
    assert told.value.code == ErrorCode.INSUFFICIENT_RESOURCES


def test_one_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(RpcError, match=r"the items cannot be copied: unable to open database file"):
        snapshot(tmp_path / "absent.sqlite", tmp_path / "copy", "the items")


def sql(script: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)

    return change


def scribble(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 64)


@pytest.mark.parametrize(
    ("change", "says", "code"),
    [
        (sql("CREATE TRIGGER t AFTER INSERT ON counters BEGIN DELETE FROM counters; END"), "its tables are not", 3002),
        (sql("DROP TABLE counters"), "its tables are not those", 3002),
        (sql("CREATE VIEW more AS SELECT 1"), "its tables are not those", 3002),
        (sql("PRAGMA user_version = 0"), "it is empty", 3002),
        (sql("PRAGMA user_version = 2"), "is of a later version of Trunkline", 4001),
        (scribble, "original is damaged", 3002),
        (lambda path: path.write_bytes(b"no SQLite at all"), "original is damaged", 3002),
        (lambda path: path.write_bytes(b""), "it is empty", 3002),
        (lambda path: os.truncate(path, 5 * 4096), "original is damaged", 3002),
        (Path.unlink, "original cannot be read: unable to open", 5001),
    ],
)
def test_a_copy_that_is_not_as_it_should_be_is_refused(
    items: Database, tmp_path: Path, change: Callable[[Path], None], says: str, code: int
) -> None:
    snapshot(items.path, copy := tmp_path / "copy", "the items")
    assert numbers(copy, items.path) == {0}
    change(copy)
    with pytest.raises(RpcError, match=says) as told, copy_of(copy, Path("original"), [TABLE]):
        raise AssertionError("it is opened")
    assert told.value.code == code


def test_one_whose_log_was_removed_after_a_crash_is_not_copied(items: Database, tmp_path: Path) -> None:
    items.note_opening()
    shutil.copytree(items.path.parent, tmp_path / "crashed")
    (tmp_path / "crashed" / "items.sqlite-wal").unlink()
    with pytest.raises(RpcError, match=r"items\.sqlite-wal is damaged \(it is empty or gone"):
        snapshot(tmp_path / "crashed" / "items.sqlite", tmp_path / "copy", "the items")
    assert not (tmp_path / "copy").exists()


def test_a_copy_beside_its_owner_makes_no_crash_of_an_end(items: Database, tmp_path: Path) -> None:
    """A reader leaves a log beside a file that is closed meanwhile: neither a full nor an empty one is another's."""
    items.note_opening()
    snapshot(items.path, tmp_path / "copy", "the items")
    reader = sqlite3.connect(f"{items.path.as_uri()}?mode=ro", uri=True)
    reader.execute("SELECT * FROM counters").fetchone()
    items.close()
    reader.close()
    for _ in range(2):
        snapshot(items.path, tmp_path / "copy", "the items")
        items.open()
        items.note_opening()
        items.close()
