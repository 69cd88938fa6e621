"""Folders of former versions: converted once, with all that was acknowledged in them, or refused as they are."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.support.disks import FailingDisk, RecordingDisk, SimulatedDisk, using  # noqa: E402
from tests.support.former_collections import (  # noqa: E402
    describe,
    encode_changes,
    make_1,
    make_2,
    payload_of,
    write_segment,
    write_snapshot,
)
from tests.support.stored_collections import contents, flipped, opened, upsert_of  # noqa: E402
from tests.support.timing import PATIENCE  # noqa: E402
from trunkline.methods import vectors  # noqa: E402
from trunkline.methods.local import LocalMethods  # noqa: E402
from trunkline.methods.vectors.changes import Delete  # noqa: E402
from trunkline.methods.vectors.former.snapshot import Snapshot  # noqa: E402
from trunkline_protocol.errors import ErrorCode, RpcError  # noqa: E402

CONVERTED = ["collection.json", "collection.sqlite", "lock"]


def has(folder: Path, *ids: str) -> bool:
    collection = opened(folder)
    try:
        return contents(collection) == {each: f"text of {each}" for each in ids}
    finally:
        collection.close()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


def log_of(folder: Path) -> Path:
    (log,) = (path for path in folder.glob("log*") if path.stat().st_size)
    return log


def snapshot_of(position: int, generation: int, *ids: str) -> Snapshot:
    upsert = upsert_of({each: f"text of {each}" for each in ids})
    return Snapshot(position, generation, upsert.items, upsert.vectors)


def make_snapshots(folder: Path) -> Path:
    """What a crash left between writing the second snapshot, of a to c, and removing the first and its log; then d."""
    made = describe(folder, 2)
    write_snapshot(made, snapshot_of(1, 1, "a"))
    write_segment(made, 2, 1, payload_of(["b"]), payload_of(["c"]))
    write_snapshot(made, snapshot_of(3, 1, "a", "b", "c"))
    write_segment(made, 4, 1, payload_of(["d"]))
    return made


@pytest.mark.parametrize("build", [make_1, make_2])
async def test_a_former_folder_is_converted_when_it_is_opened(tmp_path: Path, build: Callable[..., Path]) -> None:
    folder = build(tmp_path, ["a"], ["b", "c"])
    before = files(folder)
    async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
        (listed,) = (await methods.call("collections.list"))["collections"]
        assert listed["format_version"] == (1 if build is make_1 else 2)
        assert files(folder) == before, "looking changes nothing"
        again = await methods.call("collections.create", {"name": "c", "dimension": 2})
        assert not again["created"], "another format is no other collection"
        stats = await methods.call("collections.stats", {"name": "c"})
        assert (stats["count"], stats["position"], stats["format_version"]) == (3, 2, 3)
    assert sorted(path.name for path in folder.iterdir()) == CONVERTED
    assert json.loads((folder / "collection.json").read_text())["format_version"] == 3, "former versions refuse it"
    collection = opened(tmp_path)
    collection.upsert(upsert_of({"d": "text of d"}))
    assert collection.delete(["a", "x"]) == 1
    collection.close()
    assert has(tmp_path, "b", "c", "d")


def test_former_files_that_were_put_beside_the_new_one_are_no_leftovers(tmp_path: Path) -> None:
    """An older version goes on with its copy of the folder, laid over the converted one."""
    folder = make_2(tmp_path, ["a"])
    shutil.copytree(folder, tmp_path / "kept")
    assert has(tmp_path, "a")
    shutil.copytree(tmp_path / "kept", folder, dirs_exist_ok=True)
    write_segment(folder, 2, 1, payload_of(["b"]))
    before = files(folder)
    with pytest.raises(RpcError, match="has two states of collection 'c'") as caught:
        opened(tmp_path)
    assert (caught.value.code, files(folder)) == (ErrorCode.PIPELINE_INITIALIZATION_FAILED, before)
    (folder / "collection.sqlite").unlink()
    assert has(tmp_path, "a", "b")


def test_everything_that_was_committed_together_and_of_any_shape_is_converted(tmp_path: Path) -> None:
    folder = describe(tmp_path, 2)
    group = encode_changes([upsert_of({"x": "text of x", "y": "text of y"}), Delete(["x", "z"])])
    write_segment(folder, 1, 1, payload_of(["a"]), group, payload_of(["ü", "text\n\0"]))
    for _ in range(2):
        assert has(tmp_path, "a", "y", "ü", "text\n\0")


def test_turns_go_on_behind_those_of_former_owners(tmp_path: Path) -> None:
    folder = make_2(tmp_path, ["a"])
    (folder / "owner").write_text(json.dumps({"generation": 41, "owner": "x"}))
    collection = opened(tmp_path)
    assert collection.versions.draw() >> 32 == 42
    collection.close()


def test_a_snapshot_and_the_log_behind_it_are_converted(tmp_path: Path) -> None:
    folder = make_snapshots(tmp_path)
    assert has(tmp_path, *"abcd")
    assert sorted(path.name for path in folder.iterdir()) == CONVERTED
    collection = opened(tmp_path)
    assert collection.position == 4
    collection.close()


def test_a_damaged_snapshot_is_no_loss_while_what_it_replaces_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newest = max(make_snapshots(tmp_path).glob("snapshot-*"))
    damaged = bytearray(newest.read_bytes())
    damaged[70] ^= 1
    newest.write_bytes(damaged)
    assert has(tmp_path, *"abcd")
    assert f"{newest}: byte 0 begins a block whose checksum is wrong" in caplog.text


@pytest.mark.parametrize("build", [make_1, make_2])
def test_a_tail_torn_at_any_byte_is_left_out_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, build: Callable[..., Path]
) -> None:
    folder = build(tmp_path, ["a"], ["b", "c"])
    log = log_of(folder)
    whole, kept = log.read_bytes(), tmp_path / "kept"
    shutil.copytree(folder, kept)
    last = whole.rindex(b"TLR")
    for size in range(last, len(whole), 3):
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        log.write_bytes(whole[:size])
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            assert has(tmp_path, "a"), size
        reported = [f"its {size - last} bytes from byte {last} on" in record.getMessage() for record in caplog.records]
        assert reported == ([True] if size > last else [])


def test_any_flipped_bit_of_a_log_is_an_error_that_names_file_and_byte_and_changes_nothing(tmp_path: Path) -> None:
    folder = make_2(tmp_path, ["a"], ["b", "c"])
    log = log_of(folder)
    whole = log.read_bytes()
    last = whole.rindex(b"TLR2")
    for at in range(len(whole)):
        with flipped(log, at, at % 8):
            before = files(folder)
            message = rf"collections/c/{log.name}: byte {0 if at < last else last} begins no record.*backup"
            with pytest.raises(RpcError, match=message) as caught:
                opened(tmp_path)
            assert caught.value.code == 3002
            assert files(folder) == before
    assert has(tmp_path, "a", "b", "c")


@pytest.mark.parametrize("at", [0, 4, 6, 8, 20, 40])
def test_damage_in_the_middle_of_format_1_is_an_error(tmp_path: Path, at: int) -> None:
    log = log_of(make_1(tmp_path, ["a"], ["b"], ["c"]))
    data = bytearray(log.read_bytes())
    data[data.index(b"TLR1", 1) + at] ^= 0xFF
    log.write_bytes(data)
    with pytest.raises(RpcError, match=r"collections/c/log: byte \d+ begins no record.*backup") as caught:
        opened(tmp_path)
    assert caught.value.code == 3002
    assert log.read_bytes() == data


def test_a_damaged_snapshot_is_an_error_that_names_file_and_byte_and_changes_nothing(tmp_path: Path) -> None:
    folder = describe(tmp_path, 2)
    snapshot = write_snapshot(folder, snapshot_of(1, 1, *"abc"))
    whole = snapshot.read_bytes()
    for at in range(0, len(whole), 23):  # tests/methods/test_former_snapshots.py tries every bit
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


@pytest.mark.parametrize("lost", ["log-*1-00000001", "log-*2-00000002", "snapshot-*"])
def test_a_former_file_that_is_missing_is_an_error(tmp_path: Path, lost: str) -> None:
    folder = describe(tmp_path, 2)
    if lost.startswith("snapshot"):
        write_snapshot(folder, snapshot_of(3, 3, *"abc"))
    else:
        for number, each in enumerate("abc", 1):
            write_segment(folder, number, number, payload_of([each]))
    (path,) = folder.glob(lost)
    path.unlink()
    with pytest.raises(RpcError, match=r"are missing|neither a log nor a snapshot") as caught:
        opened(tmp_path)
    assert caught.value.code == 3002


async def test_a_damaged_or_newer_description_is_an_error_and_is_listed(tmp_path: Path) -> None:
    manifest = make_2(tmp_path, ["a"]) / "collection.json"
    described = json.loads(manifest.read_text())
    for text, code, says in [
        ("{", 3002, "collection.json is damaged"),
        (json.dumps(described | {"format_version": 4}), 4001, "has format 4; this version reads 1 to 3"),
    ]:
        manifest.write_text(text)
        with pytest.raises(RpcError, match=says) as caught:
            opened(tmp_path)
        assert caught.value.code == code
        async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
            (listed,) = (await methods.call("collections.list"))["collections"]
        assert listed["name"] == "c"
        assert says.split(";")[0] in listed["error"]


def test_a_record_that_a_replaced_owner_still_wrote_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = describe(tmp_path, 2)
    write_segment(folder, 1, 1, payload_of(["a"]), payload_of(["b"]), payload_of(["x"]))
    write_segment(folder, 3, 2, payload_of(["c"]), payload_of(["d"]))
    assert has(tmp_path, *"abcd")
    assert "by an owner that had been replaced: it is left out" in caplog.text


def test_a_snapshot_of_a_former_owner_that_goes_beyond_its_time_is_left_out(tmp_path: Path) -> None:
    folder = describe(tmp_path, 2)
    write_segment(folder, 1, 1, payload_of(["a"]), payload_of(["b"]))
    write_segment(folder, 3, 2, payload_of(["c"]))
    write_snapshot(folder, snapshot_of(3, 1, "a"))
    assert has(tmp_path, *"abc")


def converting(folder: Path) -> None:
    collection = opened(folder)
    collection.upsert(upsert_of({"new": "text of new"}))
    collection.close()


@pytest.mark.timeout(60 * PATIENCE)
@pytest.mark.parametrize("build", [make_1, make_2])
def test_a_loss_of_power_at_any_step_of_a_conversion(tmp_path: Path, build: Callable[..., Path]) -> None:
    """What was there is there, converted or not; nothing is removed before what replaces it is on the disk."""
    root = tmp_path / "collections"
    folder = build(tmp_path, ["a"], ["b", "c"])
    disk, chance = SimulatedDisk(root), random.Random(1)
    for path in folder.iterdir():
        disk.has(path, path.read_bytes())
    with using(RecordingDisk(root)) as recorded:
        converting(tmp_path)
    assert {step.path.name for step in recorded.steps if step.kind == "unlink"} >= {log_name(build)}
    for number, step in enumerate(recorded.steps):
        disk.step(step)
        crashed = tmp_path / f"crash-{number}"
        crashed.mkdir()
        disk.crash(crashed / "collections", chance)
        collection = opened(crashed)
        found = set(contents(collection))
        collection.close()
        assert found in ({"a", "b", "c"}, {"a", "b", "c", "new"}), step
        assert sorted(path.name for path in (crashed / "collections" / "c").iterdir()) == CONVERTED
        shutil.rmtree(crashed)


def log_name(build: Any) -> str:
    return "log" if build is make_1 else "log-000000000001-00000001"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_an_error_at_any_step_of_a_conversion_leaves_what_was_there(tmp_path: Path, code: int) -> None:
    failed = 0
    for first in range(60):
        folder = make_2(tmp_path / str(first), ["a"], ["b", "c"])
        with using(FailingDisk(folder.parent, first, 1, code)) as disk, contextlib.suppress(RpcError):
            opened(tmp_path / str(first)).close()
        failed += disk.failed
        assert has(tmp_path / str(first), "a", "b", "c")
        assert sorted(path.name for path in folder.iterdir()) == CONVERTED
    assert failed > 10
