"""Folders put in the place of others: as a whole, with nothing of the former one, or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from pathlib import Path

import pytest

from trunkline.storage.database import Database
from trunkline.storage.locking import lock
from trunkline.storage.staging import PREFIX, StagedFolder, exchange, make_folders, remove_abandoned

TABLE = "CREATE TABLE items (name TEXT PRIMARY KEY)"


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def staged(place: Path, text: str = "new") -> StagedFolder:
    folder = StagedFolder(place)
    (folder.path / "file").write_text(text)
    return folder


def database(folder: Path) -> Database:
    return Database(folder / "items.sqlite", "the items", [TABLE], shared=True)


def put(items: Database, *names: str) -> None:
    with items.writing("not put") as transaction:
        transaction.executemany("INSERT INTO items VALUES (?)", [(name,) for name in names])


def names(folder: Path) -> list[str]:
    items = database(folder)
    items.open()
    found = [name for (name,) in items.read("no names", "SELECT name FROM items ORDER BY name")]
    items.close()
    return found


def test_it_is_there_as_a_whole_and_the_former_one_is_gone(tmp_path: Path) -> None:
    place = tmp_path / "place"
    folder = staged(place)
    assert not place.exists()
    folder.put()
    folder.release()
    assert (place / "file").read_text() == "new"
    again = staged(place, "newer")
    (again.path / "more").touch()
    again.put()
    assert files(again.path)["file"] == "new", "until it is released"
    again.release()
    assert {path.name for path in place.iterdir()} == {"file", "more", "lock"}
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_a_log_that_a_crash_has_left_is_not_applied_to_what_takes_the_place(tmp_path: Path) -> None:
    items = database(tmp_path / "open")
    items.open()
    put(items, "old")
    items.write_back()
    backup = items.path.read_bytes()
    put(items, *(f"later {number}" for number in range(300)))
    shutil.copytree(items.path.parent, tmp_path / "crashed")
    shutil.copytree(items.path.parent, tmp_path / "by hand")
    items.close()

    (tmp_path / "by hand" / "items.sqlite").write_bytes(backup)
    assert len(names(tmp_path / "by hand")) == 301, "this is what a copy over it would be"

    folder = StagedFolder(tmp_path / "crashed")
    (folder.path / "items.sqlite").write_bytes(backup)
    folder.put()
    folder.release()
    assert names(tmp_path / "crashed") == ["old"]


def test_what_was_put_can_be_taken_back(tmp_path: Path) -> None:
    replaced, made = tmp_path / "replaced", tmp_path / "made"
    staged(replaced, "old").put()
    (replaced / "lock").unlink()
    before = files(replaced)
    folders = [staged(replaced), staged(made)]
    for folder in folders:
        folder.put()
    assert (made / "file").read_text() == (replaced / "file").read_text() == "new"
    for folder in folders:
        folder.take_back()
        folder.release()
    assert {**files(replaced), "lock": ""} == {**before, "lock": ""}
    assert [path.name for path in tmp_path.iterdir()] == ["replaced"]


def test_one_that_was_not_put_leaves_nothing(tmp_path: Path) -> None:
    folder = staged(tmp_path / "place")
    folder.take_back()
    folder.release()
    assert [*tmp_path.iterdir()] == []


def test_what_a_process_has_is_not_replaced_nor_what_is_put_opened_before_all_is_done(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    held = lock(place / "lock")
    with pytest.raises(BlockingIOError, match=f"process {os.getpid()} has it open"):
        StagedFolder(place)
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    os.close(held)
    folder = staged(place)
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            lock(place / "lock")
        folder.put()
    folder.release()
    os.close(lock(place / "lock"))


def test_what_another_process_made_meanwhile_stays(tmp_path: Path) -> None:
    folder = staged(tmp_path / "place")
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "theirs").touch()
    with pytest.raises(OSError, match="not empty"):
        folder.put()
    folder.take_back()
    folder.release()
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["theirs"]


def test_a_link_is_replaced_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "real").mkdir(parents=True)
    (tmp_path / "place").symlink_to(tmp_path / "elsewhere" / "real")
    folder = staged(tmp_path / "place")
    folder.put()
    folder.release()
    assert (tmp_path / "place").is_symlink()
    assert (tmp_path / "elsewhere" / "real" / "file").read_text() == "new"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOENT])
def test_an_exchange_that_cannot_be_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "one").mkdir()
    if number == errno.ENOSYS:
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    with pytest.raises(OSError, match=os.strerror(number)) as told:
        exchange(tmp_path / "one", tmp_path / "other")
    assert told.value.errno == number
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_what_a_killed_process_left_is_removed_and_what_one_works_on_stays(tmp_path: Path) -> None:
    folder = staged(tmp_path / "place")
    for name in ("killed", "half removed", "just made"):
        (tmp_path / f"{PREFIX}{name}").mkdir()
    (tmp_path / f"{PREFIX}killed" / "lock").touch()
    (tmp_path / f"{PREFIX}killed" / "file").touch()
    (tmp_path / f"{PREFIX}half removed" / "file").touch()
    remove_abandoned(tmp_path)
    assert [*tmp_path.iterdir()] == [folder.path]
    folder.release()


def test_folders_that_were_made_for_nothing_are_gone_again(tmp_path: Path) -> None:
    with contextlib.ExitStack() as failed:
        make_folders(tmp_path / "a" / "b", failed)
        assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert [*tmp_path.iterdir()] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="root restores for another user")
def test_root_leaves_what_the_hubs_user_can_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, 12345, 12345)
    with contextlib.ExitStack() as failed:
        make_folders(data / "collections", failed)
        failed.pop_all()
    for text in ("old", "new"):
        folder = staged(data / "collections" / "place", text)
        folder.put()
        folder.release()
    assert {path.stat().st_uid for path in data.rglob("*")} == {12345}
