"""What is on disk after a crash, a full disk, damage, or a second owner. The faults are real ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.support.disks import RecordingFiles
from tests.support.stored_collections import contents, flipped, logs, make, make_old, opened, upsert_of
from tests.support.timing import PATIENCE, START, eventually, until
from trunkline.methods import vectors
from trunkline.methods.local import LocalMethods
from trunkline.methods.vectors import owner
from trunkline.methods.vectors.log import Delete, Upsert
from trunkline.methods.vectors.store import Collection, CollectionLocked, CollectionStore
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


@pytest.mark.parametrize("build", [make, make_old])
def test_a_tail_torn_at_any_byte_is_left_out_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, build: Callable[..., Path]
) -> None:
    (log,) = logs(build(tmp_path, ["a"], ["b", "c"]))
    whole = log.read_bytes()
    kept = whole.rindex(b"TLR")
    for size in range(kept, len(whole)):
        log.write_bytes(whole[:size])
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            assert has(tmp_path, "a"), size
        assert log.read_bytes() == whole[:size], "reading changes nothing"
        reported = [f"its {size - kept} bytes from byte {kept} on" in record.getMessage() for record in caplog.records]
        assert reported == ([True] if size > kept else [])
    log.write_bytes(whole)
    assert has(tmp_path, "a", "b", "c")


@pytest.mark.parametrize("build", [make, make_old])
def test_writing_goes_on_behind_a_torn_tail(tmp_path: Path, build: Callable[..., Path]) -> None:
    (log,) = logs(build(tmp_path, ["a"], ["b"]))
    log.write_bytes(log.read_bytes()[:-3])
    for new in "xyz":
        collection = opened(tmp_path)
        put(collection, new)
        collection.close()
    assert has(tmp_path, "a", "x", "y", "z")


def test_changes_that_are_committed_together_share_one_sync_and_one_fate(tmp_path: Path) -> None:
    folder = make(tmp_path, ["a"])
    files = RecordingFiles()
    collection = opened(tmp_path, files=files)
    put(collection, "b")
    files.steps.clear()
    changes: list[Upsert | Delete] = [
        upsert_of({"c": "text of c", "d": "text of d"}),
        Delete(["a", "c", "x"]),
        upsert_of({"a": "text of a"}),
    ]
    assert collection.commit(changes) == [2, 2, 1]
    assert [step[0] for step in files.steps] == ["write", "sync"]
    assert collection.position == 3
    collection.close()
    assert has(tmp_path, "a", "b", "d")
    (_, log) = logs(folder)
    log.write_bytes(log.read_bytes()[:-1])
    assert has(tmp_path, "a", "b"), "none of them"


def test_deleting_what_is_not_there_writes_nothing(tmp_path: Path) -> None:
    make(tmp_path, ["a", "b"])
    collection = opened(tmp_path)
    assert collection.delete(["x", "y"]) == collection.delete([]) == 0
    assert collection.position == 1
    assert collection.delete(["a", "x", "a"]) == 1
    collection.close()
    assert has(tmp_path, "b")


def test_any_flipped_bit_of_a_log_is_an_error_that_names_file_and_byte_and_changes_nothing(tmp_path: Path) -> None:
    (log,) = logs(make(tmp_path, ["a"], ["b", "c"]))
    whole = log.read_bytes()
    last = whole.rindex(b"TLR2")
    for at in range(len(whole)):
        with flipped(log, at, at % 8):
            damaged = log.read_bytes()
            message = rf"collections/c/{log.name}: byte {0 if at < last else last} begins no record.*backup"
            with pytest.raises(RpcError, match=message) as caught:
                opened(tmp_path)
            assert caught.value.code == 3002
            assert log.read_bytes() == damaged
    assert has(tmp_path, "a", "b", "c")


@pytest.mark.parametrize("at", [0, 4, 6, 8, 20, 40])
async def test_damage_in_the_middle_of_format_1_is_an_error(tmp_path: Path, at: int) -> None:
    (log,) = logs(make_old(tmp_path, ["a"], ["b"], ["c"]))
    data = bytearray(log.read_bytes())
    data[data.index(b"TLR1", 1) + at] ^= 0xFF
    log.write_bytes(data)
    with pytest.raises(RpcError, match=r"collections/c/log: byte \d+ begins no record.*backup") as caught:
        await stats(tmp_path)
    assert caught.value.code == 3002
    assert log.read_bytes() == data


def test_a_damaged_snapshot_is_an_error_that_names_file_and_byte_and_changes_nothing(tmp_path: Path) -> None:
    folder = make(tmp_path, "abc")
    collection = opened(tmp_path)
    collection.rebuild()
    collection.close()
    (snapshot,) = folder.glob("snapshot-*")
    assert not logs(folder)
    whole = snapshot.read_bytes()
    for at in range(0, len(whole), 23):  # tests/methods/test_snapshot.py tries every bit
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        for data in (damaged, whole[:at]):
            snapshot.write_bytes(data)
            with pytest.raises(RpcError, match=rf"{snapshot.name}: byte \d+ .*Nothing was changed.*backup") as caught:
                opened(tmp_path)
            assert caught.value.code == 3002
            assert snapshot.read_bytes() == data
    snapshot.write_bytes(whole)
    assert has(tmp_path, *"abc")


def test_a_damaged_snapshot_is_no_loss_while_what_it_replaces_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make(tmp_path, ["a"])
    collection = opened(tmp_path)
    collection.rebuild()
    put(collection, "b")
    kept = {path: path.read_bytes() for path in folder.glob("*-*")}
    assert len(kept) == 2, "a snapshot and a log"
    collection.rebuild()
    put(collection, "c")
    collection.close()
    for path, data in kept.items():  # as a crash between writing the second snapshot and removing these leaves it
        path.write_bytes(data)
    assert has(tmp_path, "a", "b", "c")
    newest = max(folder.glob("snapshot-*"))
    damaged = bytearray(newest.read_bytes())
    damaged[70] ^= 1
    newest.write_bytes(damaged)
    collection = opened(tmp_path)
    assert sorted(contents(collection)) == ["a", "b", "c"]
    assert f"{newest}: byte 0 begins a block whose checksum is wrong" in caplog.text
    eventually(lambda: not newest.exists(), "a good snapshot has replaced the damaged one")
    collection.close()
    assert has(tmp_path, "a", "b", "c")


@pytest.mark.parametrize("lost", ["log-*1-00000001", "log-*2-00000002", "snapshot-*"])
def test_a_file_that_is_missing_is_an_error(tmp_path: Path, lost: str) -> None:
    folder = make(tmp_path, ["a"])
    for new in "bc":
        collection = opened(tmp_path)
        put(collection, new)
        collection.close()
    if lost.startswith("snapshot"):
        collection = opened(tmp_path)
        collection.rebuild()
        collection.close()
    (path,) = folder.glob(lost)
    path.unlink()
    with pytest.raises(RpcError, match=r"are missing|neither a log nor a snapshot") as caught:
        opened(tmp_path)
    assert caught.value.code == 3002


async def test_a_folder_of_format_1_is_opened_and_upgraded_by_the_first_write(tmp_path: Path) -> None:
    folder = make_old(tmp_path, ["a"], ["b", "c"])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert has(tmp_path, "a", "b", "c")
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in before} == before
    async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
        again = await methods.call("collections.create", {"name": "c", "dimension": 2})
        assert not again["created"], "another format is no other collection"
    collection = opened(tmp_path)
    put(collection, "d")
    assert collection.delete(["a", "x"]) == 1
    assert json.loads((folder / "collection.json").read_text())["format_version"] == 2
    assert (folder / "log").read_bytes() == before["log"]
    collection.close()
    collection = opened(tmp_path)
    collection.rebuild()
    assert not (folder / "log").exists()
    collection.close()
    assert has(tmp_path, "b", "c", "d")


async def test_a_damaged_or_newer_description_is_an_error_and_is_listed(tmp_path: Path) -> None:
    make(tmp_path, ["a"])
    manifest = tmp_path / "collections" / "c" / "collection.json"
    described = json.loads(manifest.read_text())
    for text, code, says in [
        ("{", 3002, "collection.json is damaged"),
        (json.dumps(described | {"format_version": 3}), 4001, "has format 3; this version reads 1 and 2"),
    ]:
        manifest.write_text(text)
        with pytest.raises(RpcError, match=says) as caught:
            await stats(tmp_path)
        assert caught.value.code == code
        async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
            (listed,) = (await methods.call("collections.list"))["collections"]
        assert listed["name"] == "c"
        assert says.split(";")[0] in listed["error"]


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
            await put(*map(str, range(100)))
        except RpcError as error:
            print(error.code, error)
        print(await methods.call("vectors.missing", {"collection": "c", "ids": ["a", "0", "99"]}))
        print((await methods.call("collections.stats", {"name": "c"}))["bytes"] == size)
        print(await put("b"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(await put("c"))
    """
    lines = end(child(body)).splitlines()
    assert lines[0].startswith("5002 collection 'c': File too large: nothing was changed")
    assert lines[1:] == ["{'ids': ['0', '99']}", "True", "{'upserted': 1}", "{'upserted': 1}"]
    collection = opened(tmp_path)
    assert collection.index.missing(["a", "b", "c"]) == []
    assert len(collection.index) == 3
    collection.close()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small file system")
def test_a_file_system_without_room(tmp_path: Path, child: Child) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True)
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
        assert lines[0].startswith("5002 collection 'c': No space left on device")
        assert lines[1:] == ["True", "5002", "1"]
        collection = opened(tmp_path)  # to read, no room is wanted
        count = len(collection.index)
        assert count % 20 == 0
        with pytest.raises(RpcError, match="No space left on device") as caught:
            collection.rebuild()  # a snapshot is as large as the log
        assert caught.value.code == 5002
        with pytest.raises(RpcError, match="No space left on device"):
            put(collection, *map(str, range(100)))
        subprocess.run(["mount", "-o", "remount,size=1m", tmp_path], check=True)
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
        except CollectionLocked:
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
        (root / name / "log").touch()
    os.utime(root / ".new-c-2", (0, 0))
    assert (await stats(tmp_path))["count"] == 1
    assert sorted(path.name for path in root.iterdir()) == [".new-c-3", "c"], "one may be in the making"


async def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RpcError, match="file") as caught:
        await stats(tmp_path / "file")
    assert caught.value.code == 5001
