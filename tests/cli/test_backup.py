"""``trunkline backup`` and ``trunkline restore``: what was there is there again, and nothing that is wrong gets in."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("faiss")

from tests.jobs.test_store import RESULT, made, opened
from tests.support.command import COMMAND, requires_failure, trunkline, trunkline_process
from tests.support.hub import clean_environment
from tests.support.small_disk import fill, small_disk
from tests.support.stored_collections import contents, make, upsert_of
from tests.support.stored_collections import opened as collection_opened
from trunkline.jobs.job import Started, Succeeded
from trunkline.methods.vectors.store import Collection, CollectionStore, Manifest
from trunkline.storage.archive import Archive
from trunkline.storage.locking import lock

Done = subprocess.CompletedProcess[str]
TEXTS = {str(number): f"text of {number}" for number in range(40)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder: collections c, with 40 items, and d, with none; a job that has ended, and one that runs."""
    folder = tmp_path / "data"
    make(folder, TEXTS)
    CollectionStore(folder / "collections").create(Manifest(name="d", dimension=3, model="m", metadata={"a": 1}))
    made(folder / "jobs", Started(2), Succeeded(3, 1, len(RESULT), zlib.crc32(RESULT)))
    made(folder / "jobs", Started(2), number=2)
    return folder


@pytest.fixture
def archive(data: Path, tmp_path: Path) -> Path:
    """A backup of it."""
    require_done(backup(data, tmp_path / "archive.tar"))
    return tmp_path / "archive.tar"


def backup(data: Path, file: Path | str, *options: str, **more: Any) -> Done:
    return trunkline("backup", str(file), "--data", str(data), *options, **more)


def restore(data: Path, file: Path, *options: str) -> Done:
    return trunkline("restore", str(file), "--data", str(data), *options)


def require_done(done: Done) -> None:
    assert (done.returncode, done.stdout) == (0, ""), done


def texts(data: Path, name: str = "c") -> dict[str, str]:
    """What is in a collection, every item of it whole."""
    collection = collection_opened(data, name)
    try:
        return contents(collection)
    finally:
        collection.close()


def job_statuses(data: Path) -> list[tuple[str, int]]:
    store, jobs = opened(data / "jobs")
    store.close()
    return [(job.status, job.attempts) for job in jobs]


def state(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, but what is written in locks."""
    if not folder.exists():
        return {}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def test_what_was_there_is_there_again(data: Path, archive: Path, tmp_path: Path) -> None:
    assert archive.stat().st_mode & 0o777 == 0o600
    with archive.open("rb") as file:
        said = Archive(file).contents
    assert [(each.path, each.name, each.items, each.position) for each in said.files] == [
        ("jobs/jobs.sqlite", "jobs", 2, None),
        ("collections/c/collection.sqlite", "c", 40, 1),
        ("collections/d/collection.sqlite", "d", 0, 0),
    ]
    new = tmp_path / "new" / "data"
    done = restore(new, archive)
    require_done(done)
    assert done.stderr == "restored the jobs: 2\nrestored collection 'c': 40\nrestored collection 'd': 0\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.tar", "data", "new"]
    assert {str(path.relative_to(new)) for path in new.rglob("*") if path.is_file()} == {
        f"collections/{name}/{file}" for name in "cd" for file in ("collection.sqlite", "collection.json", "lock")
    } | {"jobs/jobs.sqlite", "jobs/lock"}
    assert {oct(path.stat().st_mode) for path in new.rglob("*")} == {"0o100600", "0o40700"}
    assert texts(new) == TEXTS
    collection = collection_opened(new, "d")
    assert (collection.manifest.metadata, collection.manifest.model) == ({"a": 1}, "m")
    collection.upsert(upsert_of({"x": "more"}, 3))
    collection.close()
    assert job_statuses(new) == [("succeeded", 1), ("queued", 1)], "what ran is interrupted, and runs again"


def test_through_standard_output_it_is_the_same(data: Path, archive: Path) -> None:
    done = subprocess.run([*COMMAND, "backup", "-", "--data", str(data)], capture_output=True, env=clean_environment())
    assert done.returncode == 0, done.stderr

    def sums(file: Any) -> list[tuple[str, str]]:
        return [(each.path, each.sha256) for each in Archive(file).contents.files]

    with archive.open("rb") as file:
        assert sums(io.BytesIO(done.stdout)) == sums(file)


def test_through_standard_input_it_is_restored_and_nothing_else_is_left(
    data: Path, archive: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    command = [*COMMAND, "restore", "-", "--data", str(new)]
    done = subprocess.run(command, input=archive.read_bytes(), capture_output=True, env=clean_environment())
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    assert texts(new) == TEXTS
    assert {each.name for each in new.iterdir()} == {"collections", "jobs"}


def test_what_comes_through_standard_input_is_looked_through_first(archive: Path, tmp_path: Path) -> None:
    for given, words in ((archive.read_bytes()[:-5000], "standard input"), (b"", "standard input")):
        command = [*COMMAND, "restore", "-", "--data", str(tmp_path / "new")]
        done = subprocess.run(command, input=given, capture_output=True, env=clean_environment())
        assert done.returncode == 1, done
        assert words in done.stderr.decode()
        assert b"nothing was changed" in done.stderr
        assert not (tmp_path / "new").exists()


def test_parts_can_be_chosen_on_both_sides(data: Path, archive: Path, tmp_path: Path) -> None:
    require_done(backup(data, tmp_path / "only.tar", "--collection", "d"))
    require_done(restore(tmp_path / "a", tmp_path / "only.tar"))
    assert [str(path.relative_to(tmp_path / "a")) for path in (tmp_path / "a").glob("*/*")] == ["collections/d"]
    require_done(restore(tmp_path / "b", archive, "--no-jobs"))
    assert sorted(str(path.relative_to(tmp_path / "b")) for path in (tmp_path / "b").glob("*/*")) == [
        "collections/c",
        "collections/d",
    ]
    require_done(restore(tmp_path / "b", archive, "--collection", "c", "--replace"))
    requires_failure(restore(tmp_path / "e", archive, "--collection", "x"), 1, "no collection 'x' in the archive")
    requires_failure(backup(data, tmp_path / "x.tar", "--collection", "x"), 1, "there is no collection 'x' in")
    assert not (tmp_path / "e").exists()
    assert not (tmp_path / "x.tar").exists()


def test_nothing_is_overwritten_by_mistake(data: Path, archive: Path, tmp_path: Path) -> None:
    before = archive.read_bytes()
    requires_failure(backup(data, archive), 2, "archive.tar exists: add --replace")
    requires_failure(backup(data, tmp_path), 2, "is a folder")
    assert archive.read_bytes() == before
    require_done(backup(data, archive, "--replace"))
    there = state(data)
    done = restore(data, archive)
    requires_failure(done, 1, f"{data}/jobs is there already: --replace replaces it", f"{data}/collections/c is there")
    assert state(data) == there


def test_a_folder_without_anything_is_not_backed_up_as_if_it_were_the_hubs(tmp_path: Path) -> None:
    for name in ("absent", "."):
        done = backup(tmp_path / name, tmp_path / "file.tar")
        requires_failure(done, 1, "nothing to back up in", "is it the hub's data folder (--data, TRUNKLINE_DATA)?")
    assert [*tmp_path.iterdir()] == []


def test_what_a_hub_has_open_is_not_replaced(data: Path, archive: Path, tmp_path: Path) -> None:
    collection = collection_opened(data)
    store, _ = opened(data / "jobs")
    try:
        done = restore(data, archive, "--replace")
        in_use = f"is in use: process {os.getpid()} has it open: stop that hub, or restore into another folder (--data)"
        requires_failure(done, 1, f"{data}/collections/c {in_use}", f"{data}/jobs {in_use}", "nothing was changed")
        collection.upsert(upsert_of({"more": "is written"}))
    finally:
        collection.close()
        store.close()
    assert len(texts(data)) == 41
    assert not [*data.rglob(".restored-*")]
    require_done(restore(data, archive, "--replace"))
    assert texts(data) == TEXTS


def test_an_open_collection_is_backed_up_and_written_to_meanwhile(data: Path, tmp_path: Path) -> None:
    collection = collection_opened(data)
    store, _ = opened(data / "jobs")
    collection.upsert(upsert_of({"more": "in the log"}))
    require_done(backup(data, tmp_path / "live.tar"))
    collection.upsert(upsert_of({"later": "not in it"}))
    collection.close()
    store.close()
    require_done(restore(tmp_path / "new", tmp_path / "live.tar"))
    assert texts(tmp_path / "new") == TEXTS | {"more": "in the log"}
    assert len(texts(data)) == 42


def crashed(data: Path, change: Callable[[Collection], object]) -> None:
    """The collection c as it is when its owner is killed behind a change."""
    collection = collection_opened(data)
    change(collection)
    shutil.copytree(data / "collections" / "c", data / "copy")
    collection.close()
    shutil.rmtree(data / "collections" / "c")
    (data / "copy").rename(data / "collections" / "c")


def test_the_log_of_a_crash_is_not_applied_to_what_is_restored(data: Path, archive: Path) -> None:
    crashed(data, lambda collection: collection.upsert(upsert_of({"1": "changed", "new": "new"})))
    assert (data / "collections" / "c" / "collection.sqlite-wal").stat().st_size > 0
    require_done(restore(data, archive, "--replace"))
    assert texts(data) == TEXTS


def test_what_a_crash_left_is_backed_up_with_its_log(data: Path, tmp_path: Path) -> None:
    crashed(data, lambda collection: collection.upsert(upsert_of({"1": "changed", "new": "new"})))
    require_done(backup(data, tmp_path / "file.tar"))
    require_done(restore(tmp_path / "new", tmp_path / "file.tar"))
    assert texts(tmp_path / "new") == TEXTS | {"1": "changed", "new": "new"}


def sql(path: str, query: str) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        with contextlib.closing(sqlite3.connect(data / path)) as connection, connection:
            connection.execute(query)

    return change


COLLECTION = "collections/c/collection.sqlite"

DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a text": (sql(COLLECTION, "UPDATE items SET text = 'other' WHERE id = '7'"), r"item b'7' is not what was written"),
    "an item less": (sql(COLLECTION, "DELETE FROM items WHERE id = '7'"), "it has 39 items, and should have 40"),
    "the count": (sql(COLLECTION, "UPDATE collection SET count = 39"), "the description of the collection is not what"),
    "a trigger": (
        sql(COLLECTION, "CREATE TRIGGER t AFTER INSERT ON items BEGIN DELETE FROM items; END"),
        "its tables are not those that Trunkline makes",
    ),
    "garbage": (lambda data: (data / COLLECTION).write_bytes(b"garbage" * 5000), "is damaged (file is not a database)"),
    "empty": (lambda data: (data / COLLECTION).write_bytes(b""), "it is empty"),
    "gone": (lambda data: (data / COLLECTION).unlink(), "it is gone"),
    "later": (sql(COLLECTION, "PRAGMA user_version = 9"), "is of a later version of Trunkline"),
    "another name": (
        lambda data: shutil.copytree(data / "collections" / "d", data / "collections" / "c", dirs_exist_ok=True),
        "is collection 'd', which is opened by no other name",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_named_and_left_out_and_the_others_are_backed_up(
    data: Path, tmp_path: Path, damage: str
) -> None:
    change, says = DAMAGES[damage]
    change(data)
    done = backup(data, tmp_path / "file.tar")
    requires_failure(done, 1, "backed up: collections 1, their items 0, jobs 2", "left out: collection 'c': ", says)
    done = restore(tmp_path / "new", tmp_path / "file.tar")
    require_done(done)
    assert f"{tmp_path}/file.tar lacks collection c: " in done.stderr
    assert [path.name for path in (tmp_path / "new" / "collections").iterdir()] == ["d"]


def test_an_archive_that_lacks_something_replaces_none(data: Path, archive: Path) -> None:
    before = archive.read_bytes()
    DAMAGES["a text"][0](data)
    done = backup(data, archive, "--replace")
    requires_failure(done, 1, "left out: collection 'c'", "archive.tar is not replaced: ", "give another name")
    assert archive.read_bytes() == before
    assert sorted(path.name for path in archive.parent.iterdir()) == ["archive.tar", "data"]


def test_damaged_jobs_are_named_and_stay_beside_the_others(data: Path, tmp_path: Path) -> None:
    sql("jobs/jobs.sqlite", "UPDATE results SET data = x'00'")(data)
    sql("jobs/jobs.sqlite", "DELETE FROM params")(data)
    made(data / "jobs", number=3)
    sql("jobs/jobs.sqlite", "UPDATE events SET crc = 1 WHERE job LIKE '%3'")(data)
    done = backup(data, tmp_path / "file.tar")
    requires_failure(
        done, 1, "jobs 3", f"job {1:032x}: its result", f"job {2:032x}: its params", f"job {3:032x}: event 1"
    )
    done = restore(tmp_path / "new", tmp_path / "file.tar")
    require_done(done)
    assert f"damaged when it was backed up: job {1:032x}" in done.stderr
    assert len(job_statuses(tmp_path / "new")) == 2, "the third is set aside, as a hub would here"


def test_what_older_versions_wrote_is_refused_with_what_converts_it(data: Path, tmp_path: Path) -> None:
    folder = data / "collections" / "old"
    folder.mkdir()
    (folder / "collection.json").write_text(
        json.dumps({"name": "old", "dimension": 2, "model": None, "metadata": {}, "format_version": 1})
    )
    (folder / "log").touch()
    (data / "jobs" / "a.job").touch()
    done = backup(data, tmp_path / "file.tar")
    requires_failure(done, 1, "trunkline collections stats old", "a hub converts them when it starts", "collections 2")
    both = data / "collections" / "d" / "collection.json"
    both.write_text(both.read_text().replace('"format_version": 3', '"format_version": 2'))
    requires_failure(backup(data, tmp_path / "more.tar"), 1, "has two states of collection 'd'")


def test_a_full_disk_leaves_nothing_behind(data: Path, archive: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        fill(disk / "filler")
        for free in (0, 8192, 60_000, 110_000):
            os.truncate(disk / "filler", 2**20 - free)
            fill_up = [path.name for path in disk.iterdir()]
            done = backup(data, disk / "file.tar")
            requires_failure(done, 1, "nothing was changed; free some of it and try again")
            assert [path.name for path in disk.iterdir()] == fill_up, free
            requires_failure(restore(disk / "new", archive), 1, "nothing was changed; free some of it and try again")
            assert [path.name for path in disk.iterdir()] == fill_up, free


def test_one_that_another_process_writes_is_left_to_it(data: Path, tmp_path: Path) -> None:
    held = lock(tmp_path / "file.tar.part")
    requires_failure(backup(data, tmp_path / "file.tar"), 1, "file.tar: another process writes ", "/file.tar.part")
    os.close(held)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file.tar.part"]
    require_done(backup(data, tmp_path / "file.tar"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file.tar"]


def rewritten(archive: Path, change: Callable[[dict[str, Any], dict[str, bytes]], object]) -> None:
    """An archive whose manifest and members are changed, with the sums that they have then."""
    with tarfile.open(archive) as tar:
        files = {each.name: file.read() for each in tar if (file := tar.extractfile(each)) is not None}
    manifest = json.loads(files.pop("manifest.json"))
    change(manifest, files)
    for each in manifest["files"]:
        each["sha256"] = hashlib.sha256(files[each["path"]]).hexdigest()
        each["bytes"] = len(files[each["path"]])
    files["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))


def inside(query: str) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    """Change the collection c in an archive."""

    def change(_manifest: dict[str, Any], files: dict[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "file")
            path.write_bytes(files[COLLECTION])
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA journal_mode = DELETE")
                connection.executescript(query)
            files[COLLECTION] = path.read_bytes()

    return change


def renamed(path: str, name: str, kind: str = "collection") -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def change(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
        files[path] = files.pop(COLLECTION)
        manifest["files"][1] |= {"path": path, "name": name, "kind": kind}

    return change


HOSTILE: dict[str, tuple[Callable[[dict[str, Any], dict[str, bytes]], object], str]] = {
    "upwards": (renamed("collections/../collection.sqlite", ".."), "is no part of a data folder"),
    "upwards in the path": (renamed("collections/../../x", "x"), "is no part of a data folder"),
    "absolute": (renamed("/tmp/x", "x"), "is no part of a data folder"),
    "hidden": (renamed("collections/.x/collection.sqlite", ".x"), "is no part of a data folder"),
    "a line": (renamed("collections/x\n/collection.sqlite", "x\n"), "is no part of a data folder"),
    "another's place": (renamed("collections/x/collection.sqlite", "c"), "is no part of a data folder"),
    "a lock": (renamed("collections/c/lock", "c"), "is no part of a data folder"),
    "another kind": (renamed(COLLECTION, "c", "models"), "is no part of a data folder"),
    "another name": (renamed("collections/x/collection.sqlite", "x"), "is collection 'c', which is opened by no other"),
    "a row": (inside("UPDATE items SET text = 'evil' WHERE id = '3'"), "item b'3' is not what was written"),
    "rows": (inside("DELETE FROM items"), "it has 0 items, and should have 40"),
    "a trigger": (inside("CREATE TRIGGER t AFTER INSERT ON items BEGIN DELETE FROM items; END"), "its tables are not"),
    "a later version": (inside("PRAGMA user_version = 9"), "is of a later version of Trunkline"),
    "no SQLite": (lambda _, files: files.update({COLLECTION: b"no SQLite"}), "is damaged (file is not a database)"),
    "other numbers": (lambda manifest, _: manifest["files"][1].update(items=41), "not as its manifest"),
    "a later format": (lambda manifest, _: manifest.update(format_version=2), "it has format 2"),
}


@pytest.mark.parametrize("harm", HOSTILE)
def test_an_archive_that_was_made_to_do_harm_changes_nothing(
    data: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.chdir(tmp_path)
    change, says = HOSTILE[harm]
    rewritten(archive, change)
    before = state(tmp_path)
    for target in (tmp_path / "new", data):
        done = restore(target, archive, "--replace")
        assert done.returncode == 1
        assert says in done.stderr
    assert state(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_words_of_an_archive_do_not_reach_the_terminal_as_they_are(archive: Path, tmp_path: Path) -> None:
    words = {"kind": "jobs", "name": "\x1b]0;title\x07", "why": "\x1b[2J\ntrunkline: all is well"}
    rewritten(archive, lambda manifest, _: manifest["left_out"].append(words))
    done = restore(tmp_path / "new", archive)
    require_done(done)
    assert f"{archive} lacks jobs ?]0;title?: ?[2J?trunkline: all is well\n" in done.stderr


def test_the_archives_that_the_others_are_made_of_can_be_restored(archive: Path, tmp_path: Path) -> None:
    rewritten(archive, lambda *_: None)
    require_done(restore(tmp_path / "new", archive))


def test_a_flipped_bit_and_a_cut_change_nothing(data: Path, archive: Path) -> None:
    whole, before = archive.read_bytes(), state(data)
    with tarfile.open(archive) as tar:
        middles = [each.offset_data + each.size // 2 for each in tar][:-1]
    for at in middles:
        for changed in (whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], whole[:at]):
            archive.write_bytes(changed)
            done = restore(data, archive, "--replace")
            requires_failure(done, 1, f"{archive} cannot be restored, nothing was changed: ")
            assert state(data) == before, at


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    requires_failure(restore(tmp_path / "new", tmp_path / "absent"), 2, "absent: No such file or directory")
    os.mkfifo(tmp_path / "pipe")
    requires_failure(restore(tmp_path / "new", tmp_path / "pipe"), 2, "pipe: it is no file")
    done = trunkline_process("restore", str(tmp_path / "absent"))
    requires_failure(done, 2, "No such file or directory")


def test_where_the_file_system_cannot_exchange_folders_nothing_is_changed(
    data: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    before = state(data)
    monkeypatch.setattr("trunkline.storage.staging.exchange", refuse)
    done = restore(data, archive, "--replace")
    requires_failure(done, 1, "cannot exchange folders: move what is there away, and restore without --replace")
    assert state(data) == before


def test_where_the_last_one_cannot_be_put_the_others_are_taken_back(
    data: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trunkline.storage import staging

    crashed(data, lambda collection: collection.upsert(upsert_of({"1": "changed"})))
    before, exchanged, exchange = state(data), [], staging.exchange

    def refuse_third(one: Path, other: Path) -> None:
        exchanged.append(other.name)
        if len(exchanged) == 3:
            raise PermissionError(13, "Permission denied", str(other))
        exchange(one, other)

    monkeypatch.setattr(staging, "exchange", refuse_third)
    requires_failure(restore(data, archive, "--replace"), 1, "Permission denied")
    assert exchanged == ["jobs", "c", "d", "c", "jobs"]
    assert state(data) == before
    assert not [*data.rglob(".restored-*")]
    assert texts(data)["1"] == "changed"
