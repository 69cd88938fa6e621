"""Whether there is memory for one more process."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from trunkline.executors.room import cgroup_room, has_room_for_another


def group(folder: Path, limit: str, used: int, files: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {files}\n")
    return folder


def test_what_a_control_group_leaves(tmp_path: Path) -> None:
    assert cgroup_room(tmp_path) == float("inf"), "none there"
    assert cgroup_room(group(tmp_path, "max", 10, 0)) == float("inf")
    assert cgroup_room(group(tmp_path, "1000", 700, 200)) == 500


def test_a_second_one_has_to_fit(tmp_path: Path) -> None:
    size = psutil.Process().memory_info().rss
    assert has_room_for_another(None)
    assert has_room_for_another(os.getpid(), tmp_path)
    assert not has_room_for_another(os.getpid(), group(tmp_path, str(size), 0, 0)), "it may grow a little"
    assert has_room_for_another(os.getpid(), group(tmp_path, str(3 * size), 0, 0))


def test_a_process_that_has_ended_needs_none() -> None:
    assert has_room_for_another(2**22 + 1)
