"""One file of one process: what a commit has written stays, what cannot be is told, and nothing is half done."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.small_disk import small_disk
from trunkline.storage import locking
from trunkline.storage.database import Database
from trunkline.storage.locking import file_system_of, require_local
from trunkline_protocol.errors import ErrorCode, RpcError

TABLE = "CREATE TABLE items (name TEXT PRIMARY KEY, data BLOB)"


def database(folder: Path, *versions: str) -> Database:
    return Database(folder / "items.sqlite", "the items", versions or [TABLE])


@pytest.fixture
def items(tmp_path: Path) -> Iterator[Database]:
    """An open file of items."""
    opened = database(tmp_path)
    opened.open()
    yield opened
    opened.close()


def put(items: Database, name: str, data: bytes = b"", *, durable: bool = True) -> None:
    with items.writing(f"{name} was not put", durable=durable) as transaction:
        transaction.execute("INSERT INTO items VALUES (?, ?)", (name, data))


def names(items: Database) -> list[str]:
    return [name for (name,) in items.read("no names", "SELECT name FROM items ORDER BY name")]


def test_what_was_committed_is_there_again(items: Database, tmp_path: Path) -> None:
    put(items, "a")
    put(items, "b", durable=False)
    items.close()
    items.open()
    assert names(items) == ["a", "b"]
    assert {path.name for path in tmp_path.iterdir()} == {"items.sqlite", "items.sqlite-wal", "lock"}
    items.close()
    assert {path.name for path in tmp_path.iterdir()} == {"items.sqlite", "lock"}


def test_a_commit_is_synced_where_it_has_to_be(items: Database) -> None:
    """SQLite's own word for it: 2 is FULL, a sync at each commit; 1 is NORMAL, one at a checkpoint."""
    for durable, level in ((True, 2), (False, 1), (True, 2)):
        with items.writing("nothing", durable=durable) as transaction:
            assert transaction.execute("PRAGMA synchronous").fetchall() == [(level,)]
    settings = {name: items.read(name, f"PRAGMA {name}") for name in ("journal_mode", "locking_mode", "auto_vacuum")}
    assert settings == {"journal_mode": [("wal",)], "locking_mode": [("exclusive",)], "auto_vacuum": [(2,)]}


def test_a_transaction_that_raises_changes_nothing(items: Database) -> None:
    def put_twice() -> None:
        with items.writing("a was not put") as transaction:
            for _ in range(2):
                transaction.execute("INSERT INTO items VALUES ('a', NULL)")

    def put_and_raise() -> None:
        with items.writing("b was not put") as transaction:
            transaction.execute("INSERT INTO items VALUES ('b', NULL)")
            raise KeyError

    with pytest.raises(RpcError, match=r"a was not put: UNIQUE constraint failed"):
        put_twice()
    with pytest.raises(KeyError):
        put_and_raise()
    assert names(items) == []
    put(items, "c")
    assert names(items) == ["c"]


def test_versions_are_brought_up_one_after_the_other(tmp_path: Path) -> None:
    later = "ALTER TABLE items ADD COLUMN size INTEGER NOT NULL DEFAULT 7"
    first = database(tmp_path)
    first.open()
    put(first, "a")
    first.close()
    second = database(tmp_path, TABLE, later)
    second.open()
    assert second.read("no size", "SELECT name, size FROM items") == [("a", 7)]
    second.close()
    with pytest.raises(
        RpcError, match=r"items\.sqlite is of a later version of Trunkline \(2, this one knows 1\)"
    ) as told:
        first.open()
    assert (told.value.code, told.value.retryable) == (ErrorCode.INVALID_CONFIGURATION, False)


def test_a_version_that_fails_half_way_leaves_the_former_one(tmp_path: Path) -> None:
    first = database(tmp_path)
    first.open()
    put(first, "a")
    first.close()
    with pytest.raises(RpcError, match="no such table: absent"):
        database(tmp_path, TABLE, "ALTER TABLE items ADD COLUMN size; DROP TABLE absent").open()
    first.open()
    assert first.read("no columns", "SELECT * FROM items") == [("a", b"")]
    first.close()


def test_what_is_damaged_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    items = database(tmp_path)
    items.open()
    for number in range(200):
        put(items, str(number), os.urandom(500), durable=False)
    items.close()
    whole = items.path.read_bytes()
    for offset, damage in (
        (0, b"garbage, not SQLite"),
        (len(whole) // 2 // 4096 * 4096, bytes(64)),
        (4096, b"\xff" * 99),
    ):
        bad = whole[:offset] + damage + whole[offset + len(damage) :]
        items.path.write_bytes(bad)
        with pytest.raises(RpcError, match=r"items\.sqlite is damaged .* restore a backup") as told:
            items.open()
        assert (told.value.code, told.value.retryable) == (ErrorCode.PIPELINE_INITIALIZATION_FAILED, False)
        assert items.path.read_bytes() == bad
    items.path.write_bytes(whole)
    items.open()
    assert len(names(items)) == 200
    items.close()


def test_a_file_that_was_there_is_not_made_anew_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = database(tmp_path)
    items.path.touch()  # made, and nothing written: the process ended
    items.open()
    put(items, "a")
    items.close()
    os.truncate(items.path, 0)
    with pytest.raises(RpcError, match=r"items\.sqlite is damaged \(it is empty\)"):
        items.open()
    items.path.unlink()
    with caplog.at_level(logging.WARNING):
        items.open()
    assert [record.getMessage() for record in caplog.records] == [
        f"{items.path} is gone: there were the items in it; a new file is made"
    ]
    assert names(items) == []
    items.close()


def test_damage_that_comes_while_it_is_open_is_told(tmp_path: Path) -> None:
    items = database(tmp_path)
    items.open()
    for number in range(60):
        put(items, str(number), os.urandom(2**17), durable=False)  # more than is kept in memory
    items.close()
    items.open()
    with items.path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size // 2)
        file.write(os.urandom(size - size // 2))
    with pytest.raises(RpcError, match="is damaged"):
        items.read("the items cannot be read", "SELECT * FROM items")
    items.close()


def test_a_log_that_a_crash_left_is_damaged_where_transactions_are_lost(tmp_path: Path) -> None:
    """SQLite itself would leave out, without a word, all that is behind a bit that has changed."""
    items = database(tmp_path / "open")
    items.open()
    ends = []
    for number in range(5):
        put(items, str(number), bytes([number]) * 2000)
        ends.append(items.path.with_name("items.sqlite-wal").stat().st_size)
    data, log = items.path.read_bytes(), items.path.with_name("items.sqlite-wal").read_bytes()
    items.close()
    crashed = database(tmp_path / "crashed")

    def found(changed: bytes) -> int:
        crashed.path.parent.mkdir(exist_ok=True)
        crashed.path.write_bytes(data)
        crashed.path.with_name("items.sqlite-wal").write_bytes(changed)
        crashed.open()
        count = len(names(crashed))
        crashed.close()
        return count

    assert found(log) == 5
    for at in range(0, len(log), 397):
        changed = bytearray(log)
        changed[at] ^= 1 << at % 8
        if at < ends[-2]:
            with pytest.raises(RpcError, match=r"items\.sqlite-wal is damaged .*restore a backup") as told:
                found(bytes(changed))
            assert told.value.code == ErrorCode.PIPELINE_INITIALIZATION_FAILED
            assert crashed.path.with_name("items.sqlite-wal").read_bytes() == changed, "nothing was changed"
        else:
            assert found(bytes(changed)) == 4, "the last one may not have been finished"
    for size in range(0, len(log), 1999):
        assert found(log[:size]) == sum(end <= size for end in ends), "a transaction that was not finished"


def test_a_second_process_is_refused_with_the_first_ones_id(tmp_path: Path, items: Database) -> None:
    code = "import sys; from pathlib import Path; from tests.storage.test_database import database\n"
    code += "database(Path(sys.argv[1])).open()"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=root)
    assert f"the items in {tmp_path} cannot be opened: process {os.getpid()} has it open; stop that hub" in done.stderr
    # Nor does a program that knows nothing of our lock.
    with (
        closing(sqlite3.connect(items.path, timeout=0)) as other,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("SELECT * FROM items")


def test_a_full_disk_changes_nothing_and_later_all_goes_on(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        items = database(disk)
        items.open()
        put(items, "a")
        with pytest.raises(RpcError, match="large was not put: database or disk is full") as told:
            put(items, "large", bytes(8 * 2**20))
        assert told.value.code == ErrorCode.INSUFFICIENT_RESOURCES
        assert names(items) == ["a"]
        put(items, "b")
        items.close()
        items.open()
        assert names(items) == ["a", "b"]
        items.close()


def test_a_limit_of_file_sizes_is_a_resource_that_ran_out(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from tests.storage.test_database import database, put\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "items = database(Path(sys.argv[1])); items.open(); put(items, 'a')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n"
        "from trunkline_protocol.errors import RpcError\n"
        "try: put(items, 'large', bytes(200_000))\n"
        "except RpcError as error: print(error)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=root)
    assert "large was not put: File too large" in done.stdout, done.stderr
    assert not list(tmp_path.glob("*-probe"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RpcError, match="make the folder writable"):
        database(tmp_path / "below").open()
    tmp_path.chmod(0o700)


def test_what_is_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "items.sqlite").mkdir()
    with pytest.raises(
        RpcError, match=r"the items in .* cannot be used: unable to open database file .*items\.sqlite"
    ) as told:
        database(tmp_path).open()
    assert told.value.code == ErrorCode.DATABASE_CONNECTION_ERROR
    (tmp_path / "items.sqlite").rmdir()
    opened = database(tmp_path)
    opened.open()
    opened.close()


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_local(tmp_path)
    assert file_system_of(tmp_path) == file_system_of(tmp_path / "not" / "there") != ""
    monkeypatch.setattr(locking, "NETWORK_FILE_SYSTEMS", {file_system_of(tmp_path)})
    with pytest.raises(RpcError, match="is on a network file system") as told:
        database(tmp_path).open()
    assert told.value.code == ErrorCode.INVALID_CONFIGURATION


def test_files_are_for_their_user_alone_where_the_process_says_so(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        items = database(tmp_path / "own")
        items.open()
        put(items, "a")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "own").iterdir()}
    items.close()
    assert set(modes.values()) == {0o600}
    assert set(modes) == {"items.sqlite", "items.sqlite-wal", "lock"}


def crashed(items: Database, folder: Path) -> Database:
    """A file as a crash leaves it: a copy of an open one, with its log and its lock."""
    folder.mkdir()
    for name in ("items.sqlite", "items.sqlite-wal", "lock"):
        (folder / name).write_bytes(items.path.with_name(name).read_bytes())
    return database(folder)


def refused(items: Database, words: str) -> None:
    """It is, twice, with nothing changed."""
    before = {path.name: path.read_bytes() for path in items.path.parent.iterdir() if path.name != "lock"}
    for _ in range(2):
        with pytest.raises(RpcError, match=words) as told:
            items.open()
        assert told.value.code == ErrorCode.PIPELINE_INITIALIZATION_FAILED
    after = {path.name: path.read_bytes() for path in items.path.parent.iterdir() if path.name != "lock"}
    assert after == before


def test_a_log_that_was_removed_or_emptied_after_a_crash_is_told(items: Database, tmp_path: Path) -> None:
    items.note_opening()
    put(items, "a")
    for size in (None, 0, 32):
        left = crashed(items, tmp_path / str(size))
        log = left.path.with_name("items.sqlite-wal")
        log.unlink() if size is None else os.truncate(log, size)
        refused(left, r"items\.sqlite-wal is damaged \(it is empty or gone, .* remove .*lock\)")
        left.path.with_name("lock").unlink()  # as the message says
        left.open()
        assert names(left) == []
        left.close()


def test_a_log_that_is_another_files_is_told(items: Database, tmp_path: Path) -> None:
    """A backup that was put over the file of a crash: SQLite itself would change it by that file's transactions."""
    put(items, "a")
    items.close()
    backup = items.path.read_bytes()
    items.open()
    items.note_opening()
    put(items, "b")
    left = crashed(items, tmp_path / "crashed")
    left.path.write_bytes(backup)
    refused(left, r"items\.sqlite-wal is damaged \(items\.sqlite is another file .*move the log away\)")
    left.path.with_name("items.sqlite-wal").unlink()
    left.open()
    assert names(left) == ["a"]
    left.close()


def test_a_crash_without_any_damage_is_none(items: Database, tmp_path: Path) -> None:
    """Nor is a move of the folder, a second crash, a written log, or an end."""
    items.note_opening()
    put(items, "a")
    first = crashed(items, tmp_path / "first")
    first.open()
    first.note_opening()
    first.write_back()
    second = crashed(first, tmp_path / "second")
    second.open()
    second.note_opening()
    put(second, "b", durable=False)
    third = crashed(second, tmp_path / "third")
    for each in (first, second):
        each.close()
        each.open()
        each.close()
    third.open()
    assert names(third) == ["a", "b"]
    third.close()
    third.path.write_bytes(items.path.read_bytes())  # another file, where nothing has crashed
    third.open()
    third.close()
