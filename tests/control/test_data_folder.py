"""Why nothing can be stored in a data folder, before somebody tries."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.peer import peer
from tests.support.small_disk import fill, small_disk
from tests.support.timing import PATIENCE, until
from trunkline.client import Event, Hub
from trunkline.control import data_folder
from trunkline.control.data_folder import DataFolder, in_words, warning_limit
from trunkline.testing import MockHub
from trunkline_protocol.errors import ErrorCode, RpcError

MIB = 2**20
GIB = 2**30


def statvfs_of(**changed: int) -> Callable[[Path], os.statvfs_result]:
    """A disk of 100 GiB with 50 GiB free and a million files, with some of that changed."""
    seen = {"f_blocks": 100 * GIB // 4096, "f_bavail": 50 * GIB // 4096, "f_files": 1_000_000, "f_favail": 500_000}
    seen |= changed
    values = [4096, 4096, seen["f_blocks"], seen["f_bavail"], seen["f_bavail"]]
    values += [seen["f_files"], seen["f_favail"], seen["f_favail"], 0, 255]
    return lambda _path: os.statvfs_result(values)


def test_a_folder_that_does_not_exist_yet_is_that_of_its_parent(tmp_path: Path) -> None:
    found = data_folder.look(tmp_path / "not" / "yet")
    assert found.trouble is None
    assert 0 < found.free <= found.size
    assert not (tmp_path / "not").exists(), "nothing is written"


def test_what_is_no_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    trouble = data_folder.look(tmp_path / "data").trouble
    assert trouble is not None
    assert "data is no folder: set another (TRUNKLINE_DATA)" in trouble


def test_a_disk_that_is_full_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_folder, "MIN_FREE_BYTES", data_folder.look(tmp_path).free * 2)
    trouble = data_folder.look(tmp_path).trouble
    assert trouble is not None
    assert "MiB free: make room" in trouble


@pytest.mark.parametrize(
    ("size", "wanted", "limit"),
    [
        (100 * MIB, None, 64 * MIB),
        (20 * GIB, None, GIB),
        (40 * GIB, None, 2 * GIB),
        (20_000 * GIB, None, 2 * GIB),
        (20 * GIB, 5 * GIB, 5 * GIB),
        (20 * GIB, 0, 0),
    ],
)
def test_the_limit_is_by_the_size_of_the_disk(size: int, wanted: int | None, limit: int) -> None:
    assert warning_limit(size, wanted) == limit


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"f_bavail": (2 * GIB - 1) // 4096}, "has 2.0 GiB free of 100 GiB: make room before writes fail"),
        ({"f_favail": 9_999}, "has room for 9,999 more files (inodes): remove some"),
    ],
)
def test_what_runs_out_is_named(
    changed: dict[str, int], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", statvfs_of(**changed))
    found = data_folder.look(tmp_path)
    assert found.trouble is None, "it can be written to"
    (low,) = found.low
    assert low.text.startswith(f"the disk of {tmp_path} {words}")
    assert data_folder.look(tmp_path, warn_below=0).low == (), "0 = never"


@pytest.mark.parametrize("changed", [{}, {"f_files": 0, "f_favail": 0}], ids=["room", "no inodes to run out of"])
def test_a_disk_with_room_is_not_named(
    changed: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", statvfs_of(**changed))
    assert data_folder.look(tmp_path).low == ()
    assert len(data_folder.look(tmp_path, warn_below=51 * GIB).low) == 1


def test_each_change_is_logged_once_and_what_wavers_at_the_limit_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = DataFolder(tmp_path, warn_below=GIB)
    for free in (2 * GIB, GIB - 4096, 5 * MIB, GIB + 4096, GIB - 4096, 2 * GIB, 2 * GIB):
        monkeypatch.setattr(os, "statvfs", statvfs_of(f_bavail=free // 4096))
        folder.look()
        (tmp_path / "jobs").mkdir(exist_ok=True)  # it is the same disk
    assert [(each.levelname, each.message) for each in caplog.records] == [
        ("WARNING", "room for data runs out"),
        ("WARNING", "there is room for data again"),
    ]
    said = vars(caplog.records[0])
    assert (said["path"], said["resource"]) == (str(tmp_path), "bytes")
    assert "1.0 GiB free of 100 GiB" in said["reason"]


def test_a_limit_of_file_sizes_that_is_near(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    with (tmp_path / "jobs" / "jobs.sqlite").open("wb") as file:
        file.truncate(100 * MIB)
    code = (
        "import pathlib, resource, sys; from trunkline.control import data_folder; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY)); "
        "print([each.text for each in data_folder.look(pathlib.Path(sys.argv[1])).low if each.key[1] == 'file size'])"
    )

    def said(limit: int) -> str:
        command = [sys.executable, "-c", code, str(tmp_path), str(limit)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert said(resource.RLIM_INFINITY if resource.RLIM_INFINITY > 0 else 2**62) == "[]\n"
    assert said(GIB) == "[]\n"
    assert "jobs.sqlite has 100 MiB, and files may have 150 MiB (ulimit -f): raise the limit" in said(150 * MIB)


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 KiB"), (1500, "1.5 KiB"), (80 * MIB, "80 MiB"), (1200 * MIB, "1.2 GiB"), (3000 * GIB, "2.9 TiB")],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert in_words(size) == words


class Health:
    """What a subscriber of ``system.health`` has heard last, and everything before."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    async def listen(self, hub: Hub) -> None:
        async with hub.subscribe("system.health") as events:
            async for item in events:
                if isinstance(item, Event):
                    self.said.append(item.data)

    async def becomes(self, status: str, *words: str) -> None:
        """Wait until it is said; each word is in a cause of its own."""

        def is_so() -> bool:
            last = self.said[-1] if self.said else {"status": "", "causes": []}
            found = [any(word in cause for cause in last["causes"]) for word in words]
            return last["status"] == status and all(found) and len(last["causes"]) == len(words)

        try:
            await until(is_so, f"health is {status} because of {words}", within=3 * PATIENCE)
        except AssertionError as error:
            error.add_note(f"said last: {self.said[-1:]}")
            raise


async def test_a_disk_that_fills_warns_first_refuses_then_and_is_well_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file system of 100 MiB: below 64 MiB it warns, below 32 MiB jobs count as not served, at 0 they are refused."""
    caplog.set_level(logging.WARNING, "trunkline")
    health = Health()
    with small_disk(tmp_path, "size=100m") as disk:
        async with MockHub(data=disk / "data") as mock, mock.connect() as hub, mock.connect() as other:
            mock.method("text.upper", lambda text: text.upper(), idempotent=True)
            listening = asyncio.ensure_future(health.listen(other))

            async def create() -> Any:
                params = {"method": "text.upper", "params": {"text": "a" * 5000}}
                return await hub.call("jobs.create", params, retry=False)

            await health.becomes("healthy")
            (disk / "first").write_bytes(bytes(45 * MIB))
            await health.becomes("degraded", f"the disk of {disk}")
            require({"status": "queued"}, await create())
            assert (await hub.call("health.check"))["ready"] is True

            (disk / "second").write_bytes(bytes(30 * MIB))
            await health.becomes("degraded", "before writes fail", "jobs.create is not served: nothing can be stored")
            require({"status": "queued"}, await create())

            fill(disk / "filler")
            with pytest.raises(RpcError, match="disk is full") as refused:
                await create()
            assert refused.value.code == ErrorCode.INSUFFICIENT_RESOURCES

            for name in ("filler", "first", "second"):
                (disk / name).unlink()
            await health.becomes("healthy")
            require({"status": "queued"}, await create())
            listening.cancel()
    logged = [each.message for each in caplog.records if "room for data" in each.message]
    assert logged == ["room for data runs out", "there is room for data again"]


async def test_a_disk_without_room_for_more_files(tmp_path: Path) -> None:
    health = Health()
    with small_disk(tmp_path, "size=100m,nr_inodes=200") as disk:
        async with MockHub(data=disk / "data") as mock, mock.connect() as hub:
            listening = asyncio.ensure_future(health.listen(hub))
            await health.becomes("healthy")
            for number in range(190):
                (disk / str(number)).touch()
            await health.becomes("degraded", "more files (inodes): remove some")
            for number in range(190):
                (disk / str(number)).unlink()
            await health.becomes("healthy")
            listening.cancel()


async def test_a_hub_says_that_it_can_store_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with RunningHub((), arguments=("--data", str(tmp_path / "data"))) as hub:
        async with peer(hub.url) as caller:

            async def unserved() -> list[dict[str, str]] | None:
                found: list[dict[str, str]] = (await caller.result("health.detailed"))["methods"]
                return found or None

            (method,) = await until(unserved, "it is looked at")
            assert (method["method"], method["status"]) == ("jobs.create", "unavailable")
            assert "is no folder" in method["reason"]
            assert (await caller.result("health.check"))["status"] == "degraded"
            assert hub.get("/ready").status == 200, "what stores nothing is served"
