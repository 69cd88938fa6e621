"""What is on disk after a crash, a full disk, damage, or a second owner. The faults are real ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.support.damage import damage_index
from tests.support.disks import RecordingDisk, using
from tests.support.small_disk import fill
from tests.support.stored_collections import contents, make, opened, upsert_of
from tests.support.timing import PATIENCE, START, until
from trunkline.methods import vectors
from trunkline.methods.local import LocalMethods
from trunkline.methods.vectors import owner
from trunkline.methods.vectors.changes import Delete, Item, Upsert
from trunkline.methods.vectors.store import Collection, CollectionStore, InUse
from trunkline_protocol.errors import RpcError

CHILD = """
import asyncio, resource, sys
from trunkline.methods import vectors
from trunkline.methods.local import LocalMethods
from trunkline_protocol.errors import RpcError

async def main():
    async with LocalMethods(vectors, settings={"data_dir": sys.argv[1]}) as methods:
        async def put(*ids):
            items = [{"id": each, "vector": [1, 2], "text": "x" * 100} for each in ids]
            return await methods.call("vectors.upsert", {"collection": "c", "items": items})

        await methods.call("collections.create", {"name": "c", "dimension": 2})
BODY
asyncio.run(main())
"""


Child = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    """Starts processes that have collection c open and do what they are told."""
    with contextlib.ExitStack() as running:

        def start(body: str) -> subprocess.Popen[str]:
            code = CHILD.replace("BODY", textwrap.indent(textwrap.dedent(body), " " * 8))
            command = [sys.executable, "-c", code, str(tmp_path)]
            process = running.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
            running.callback(process.kill)
            return process

        yield start


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=START)
    assert process.returncode == 0, errors
    return output


def has(folder: Path, *ids: str) -> bool:
    collection = opened(folder)
    try:
        return contents(collection) == {each: f"text of {each}" for each in ids}
    finally:
        collection.close()


def put(collection: Collection, *ids: str) -> None:
    collection.upsert(upsert_of({each: f"text of {each}" for each in ids}))


async def stats(folder: Path) -> Any:
    async with LocalMethods(vectors, settings={"data_dir": str(folder)}) as methods:
        return await methods.call("collections.stats", {"name": "c"})


def test_changes_that_are_committed_together_share_one_sync_and_one_fate(tmp_path: Path) -> None:
    make(tmp_path, ["a"])
    with using(RecordingDisk(tmp_path)) as disk:
        collection = opened(tmp_path)
        put(collection, "b")
        disk.steps.clear()
        changes: list[Upsert | Delete] = [
            upsert_of({"c": "text of c", "d": "text of d"}),
            Delete(["a", "c", "x"]),
            upsert_of({"a": "text of a"}),
        ]
        assert collection.commit(changes) == [2, 2, 1]
        assert [(step.kind, step.path.name) for step in disk.steps if step.kind == "sync"] == [
            ("sync", "collection.sqlite-wal")
        ]
        assert collection.position == 3
        collection.close()
    assert has(tmp_path, "a", "b", "d")


def test_items_of_any_shape_are_kept(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    make(tmp_path)
    items = [
        Item("ü \ud800", "text\n\0", {"a": [1, None, {"b": 1.5}], "n": float("inf")}),
        Item("2"),
        Item("3", "", {"i": 2**70, "\ud800": "\ud800"}),
    ]
    collection = opened(tmp_path)
    collection.upsert(Upsert(items, np.arange(6, dtype=np.float32).reshape(3, 2)))
    collection.close()
    collection = opened(tmp_path)
    found, vectors = collection.index.contents()
    assert found == items
    assert vectors.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert collection.delete(["ü \ud800"]) == 1
    collection.close()
    collection = opened(tmp_path)
    assert collection.index.items() == items[1:]
    collection.close()


def test_deleting_what_is_not_there_writes_nothing(tmp_path: Path) -> None:
    make(tmp_path, ["a", "b"])
    collection = opened(tmp_path)
    assert collection.delete(["x", "y"]) == collection.delete([]) == 0
    assert collection.position == 1
    assert collection.delete(["a", "x", "a"]) == 1
    collection.close()
    assert has(tmp_path, "b")


def test_a_flipped_bit_is_an_error_that_names_the_file_or_changes_nothing(tmp_path: Path) -> None:
    """Whatever it hits: a vector, a text, a number, a page's header, the index of the ids, the file's own header."""
    ids = [*"abc", *map(str, range(20))]
    path = make(tmp_path, ["a"], ["b", "c"], map(str, range(20))) / "collection.sqlite"
    whole = path.read_bytes()
    refused: list[RpcError] = []
    for at in (*range(0, 100, 7), *range(100, len(whole), 199)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        try:
            assert has(tmp_path, *ids), at
        except RpcError as error:
            refused.append(error)
            assert path.read_bytes() == damaged, "nothing was changed"
        for log in path.parent.glob("collection.sqlite-*"):
            log.unlink()
    assert len(refused) > 10
    assert {error.code for error in refused} <= {3002, 4001, 5001}
    assert all(str(path) in error.message for error in refused)
    path.write_bytes(whole)
    assert has(tmp_path, *ids)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("UPDATE items SET vector = zeroblob(8) WHERE id = 'b'", "item b'b' is not what was written"),
        ("UPDATE items SET vector = x'00' WHERE id = 'b'", "item b'b' is not what was written"),
        ("UPDATE items SET text = 'other' WHERE id = 'b'", "item b'b' is not what was written"),
        ("UPDATE items SET text = NULL WHERE id = 'b'", "item b'b' is not what was written"),
        ("UPDATE items SET metadata = '{}' WHERE id = 'b'", "item b'b' is not what was written"),
        ("UPDATE items SET metadata = 7 WHERE id = 'b'", "item b'b' is not what was written"),
        ("UPDATE items SET change = 0 WHERE id = 'b'", "item b'b' is not what was written"),
        ("UPDATE items SET id = 'x' WHERE id = 'b'", "item b'x' is not what was written"),
        ("UPDATE items SET tenant = 'x' WHERE id = 'b'", "it has 2 items, and should have 3"),
        ("DELETE FROM items WHERE id = 'b'", "it has 2 items, and should have 3"),
        (
            "INSERT INTO items SELECT 9, tenant, 'x', text, metadata, vector, change, crc FROM items LIMIT 1",
            "item b'x' is not what was written",
        ),
        ("UPDATE collection SET count = 2", "the description of the collection is not what was written"),
        ("UPDATE collection SET description = 'x'", "the description of the collection is not what was written"),
        ("DELETE FROM collection", "the description of the collection is not what was written"),
        ("DROP TABLE items", "no such table"),
        ("PRAGMA user_version = 9", "of a later version of Trunkline"),
    ],
)
async def test_rows_that_are_not_what_was_written_are_an_error(tmp_path: Path, damage: str, says: str) -> None:
    path = make(tmp_path, ["a"], ["b"], ["c"]) / "collection.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute(damage)
    with pytest.raises(RpcError, match=says) as caught:
        await stats(tmp_path)
    assert caught.value.code == (5001 if "table" in says else 4001 if "later" in says else 3002)
    assert str(path) in caught.value.message


def test_damage_that_no_row_shows_is_an_error(tmp_path: Path) -> None:
    path = make(tmp_path, ["a"], ["b"], ["c"]) / "collection.sqlite"
    damage_index(path)
    damaged = path.read_bytes()
    with pytest.raises(RpcError, match=r"collection.sqlite is damaged \(.* Page \d") as caught:
        opened(tmp_path)
    assert (caught.value.code, path.read_bytes() == damaged) == (3002, True)


def test_an_item_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    path = make(tmp_path, ["a"], ["b"], ["c"]) / "collection.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.executescript(
            """
            CREATE TABLE all_items AS SELECT * FROM items;
            UPDATE all_items SET (id, text, metadata, vector, change, crc) =
                (SELECT id, text, metadata, vector, change, crc FROM items WHERE id = 'a') WHERE id = 'b';
            DROP TABLE items;
            ALTER TABLE all_items RENAME TO items;
            """
        )
    with pytest.raises(RpcError, match="it has 2 items, and should have 3 that differ") as caught:
        opened(tmp_path)
    assert caught.value.code == 3002


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ("collection.sqlite", "it is gone"),
        (0, "it is empty"),
        (4096, "database disk image is malformed"),
        (30_000, "database disk image is malformed"),
    ],
)
async def test_a_file_that_is_gone_or_cut_is_an_error_and_is_not_made_anew(
    tmp_path: Path, lost: str | int, says: str
) -> None:
    path = make(tmp_path, map(str, range(200))) / "collection.sqlite"
    if isinstance(lost, int):
        os.truncate(path, lost)
    else:
        path.unlink()
    with pytest.raises(RpcError, match=rf"collection.sqlite is damaged \(({says}).*restore a backup") as caught:
        await stats(tmp_path)
    assert caught.value.code == 3002
    assert (path.stat().st_size if path.exists() else path.name) == lost


async def test_a_damaged_collection_is_listed_with_what_is_wrong(tmp_path: Path) -> None:
    path = make(tmp_path, ["a"]) / "collection.sqlite"
    async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
        await methods.call("collections.create", {"name": "d", "dimension": 2})
        path.write_bytes(b"garbage, not SQLite" * 1000)
        damaged, good = (await methods.call("collections.list"))["collections"]
        assert (damaged["name"], good["name"]) == ("c", "d")
        assert "collection.sqlite is damaged (file is not a database)" in damaged["error"]


@pytest.mark.parametrize("pause", [0.0, 0.01, 0.05])
async def test_what_was_acknowledged_before_a_kill_is_there(tmp_path: Path, pause: float, child: Child) -> None:
    body = """
        async def client(n):
            for i in range(100_000):
                await put(f"{n}-{i}-a", f"{n}-{i}-b")
                print(f"{n}-{i}", flush=True)
        await asyncio.gather(*map(client, range(4)))
    """
    process = child(body)
    acknowledged = [line(process) for _ in range(20)]
    await asyncio.sleep(pause)
    process.kill()
    acknowledged += process.communicate()[0].split()
    async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
        ids = [f"{each}-{half}" for each in acknowledged for half in "ab"]
        assert await methods.call("vectors.missing", {"collection": "c", "ids": ids}) == {"ids": []}
        assert (await methods.call("collections.stats", {"name": "c"}))["count"] % 2 == 0, "all of an upsert or none"


def test_a_full_disk_keeps_nothing_of_the_upsert(tmp_path: Path, child: Child) -> None:
    body = """
        await put("a")
        size = (await methods.call("collections.stats", {"name": "c"}))["bytes"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 500, resource.RLIM_INFINITY))
        try:
            await put(*map(str, range(400)))
        except RpcError as error:
            print(error.code, error)
        print(await methods.call("vectors.missing", {"collection": "c", "ids": ["a", "0", "99"]}))
        print((await methods.call("collections.stats", {"name": "c"}))["bytes"] == size)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50_000, resource.RLIM_INFINITY))
        print(await put("b"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(await put("c"))
    """
    lines = end(child(body)).splitlines()
    assert lines[0].startswith("5002 collection 'c': File too large (")
    assert "collection.sqlite): nothing was changed" in lines[0]
    assert lines[1:] == ["{'ids': ['0', '99']}", "True", "{'upserted': 1}", "{'upserted': 1}"]
    collection = opened(tmp_path)
    assert collection.index.missing(["a", "b", "c"]) == []
    assert len(collection.index) == 3
    collection.close()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small file system")
def test_a_file_system_without_room(tmp_path: Path, child: Child) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        body = """
            written = 0
            try:
                for i in range(100):
                    await put(*(f"{i}-{j}" for j in range(20)))
                    written += 1
            except RpcError as error:
                print(error.code, error)
            print((await methods.call("collections.stats", {"name": "c"}))["count"] == written * 20 > 0)
            try:
                await methods.call("collections.create", {"name": "d", "dimension": 2, "metadata": {"x": "y" * 60_000}})
            except RpcError as error:
                print(error.code)
            print(len((await methods.call("collections.list"))["collections"]))
        """
        lines = end(child(body)).splitlines()
        assert lines[0].startswith("5002 collection 'c': database or disk is full (")
        assert lines[1:] == ["True", "5002", "1"]
        fill(tmp_path / "filler")
        collection = opened(tmp_path)  # to read, no room is wanted
        count = len(collection.index)
        assert count % 20 == 0
        for change in (lambda: put(collection, *map(str, range(100))), lambda: collection.delete(["0-0"])):
            with pytest.raises(RpcError, match="disk is full") as caught:
                change()
            assert caught.value.code == 5002
            assert not collection.closed
        subprocess.run(["mount", "-o", "remount,size=2m", tmp_path], check=True)
        put(collection, "a")
        collection.rebuild()
        collection.close()
        collection = opened(tmp_path)
        assert len(collection.index) == count + 1
        collection.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


async def test_a_second_owner_is_locked_out_until_the_first_is_gone(
    tmp_path: Path, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = child("""
        await put("a")
        print("open", flush=True)
        await asyncio.Event().wait()
    """)
    assert line(process) == "open"
    monkeypatch.setattr(owner, "LOCK_PATIENCE", 0.2)
    with pytest.raises(RpcError, match=f"process {process.pid} has it open.*TRUNKLINE_DATA") as caught:
        await stats(tmp_path)
    assert (caught.value.code, caught.value.retryable) == (5001, True)
    monkeypatch.setattr(owner, "LOCK_PATIENCE", PATIENCE)
    refusals: list[str] = []
    open_now = CollectionStore.open

    def opening(store: CollectionStore, name: str) -> Collection | None:
        try:
            return open_now(store, name)
        except InUse:
            refusals.append(name)
            raise

    monkeypatch.setattr(CollectionStore, "open", opening)
    waiting = asyncio.ensure_future(stats(tmp_path))
    await until(lambda: len(refusals) >= 2, "it found the collection locked, and tried again")
    assert not waiting.done()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (await waiting)["count"] == 1


async def test_what_a_crash_left_is_swept(tmp_path: Path) -> None:
    make(tmp_path, ["a"])
    root = tmp_path / "collections"
    for name in (".deleted-c-1", ".new-c-2", ".new-c-3"):
        (root / name).mkdir()
        (root / name / "collection.sqlite").touch()
    os.utime(root / ".new-c-2", (0, 0))
    assert (await stats(tmp_path))["count"] == 1
    assert sorted(path.name for path in root.iterdir()) == [".new-c-3", "c"], "one may be in the making"


async def test_a_folder_that_was_renamed_is_said(tmp_path: Path) -> None:
    async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
        await methods.call("collections.create", {"name": "old", "dimension": 2})
    (tmp_path / "collections" / "old").rename(tmp_path / "collections" / "new")
    async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
        (listed,) = (await methods.call("collections.list", {}))["collections"]
        assert listed["name"] == "new"
        with pytest.raises(RpcError, match="/new holds collection 'old': give the folder that name") as told:
            await methods.call("vectors.search", {"collection": "new", "vector": [1, 2]})
        assert listed["error"] in told.value.message
        with pytest.raises(RpcError, match="old"):
            await methods.call("vectors.search", {"collection": "old", "vector": [1, 2]})


async def test_a_collection_that_lies_elsewhere_is_deleted_there(tmp_path: Path) -> None:
    """A link to another disk: what is deleted does not lie about there, and nothing else is."""
    (tmp_path / "collections").mkdir()
    async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
        for name in ("a", "b"):
            await methods.call("collections.create", {"name": name, "dimension": 2})
    for name in ("a", "b"):
        (tmp_path / "collections" / name).rename(tmp_path / name)
        (tmp_path / "collections" / name).symlink_to(tmp_path / name)
    (tmp_path / "b" / "notes.txt").touch()
    async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
        for name in ("a", "b"):
            item = {"id": "1", "vector": [1, 2]}
            await methods.call("vectors.upsert", {"collection": name, "items": [item]})
            await methods.call("collections.delete", {"name": name})
    assert not (tmp_path / "a").exists()
    assert [each.name for each in (tmp_path / "b").iterdir()] == ["notes.txt"]
    assert list((tmp_path / "collections").iterdir()) == []


async def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RpcError, match="file") as caught:
        await stats(tmp_path / "file")
    assert caught.value.code == 5001
