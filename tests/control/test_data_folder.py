"""Why nothing can be stored in a data folder, before somebody tries."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hub import RunningHub
from tests.support.peer import peer
from tests.support.timing import until
from trunkline.control import data_folder


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
