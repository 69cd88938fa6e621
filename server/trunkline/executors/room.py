"""Whether memory has room for one more process like one that runs: machine and control group."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psutil

MARGIN: Final = 1.2
"""How many times its present size a successor may need while it loads."""

CGROUP: Final = Path("/sys/fs/cgroup")


def has_room_for_another(pid: int | None, cgroup: Path = CGROUP) -> bool:
    """Whether a second process as large as this one fits into memory; True where neither size can be known."""
    if pid is None:
        return True
    try:
        size = psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return True
    return size * MARGIN <= min(psutil.virtual_memory().available, cgroup_room(cgroup))


def cgroup_room(cgroup: Path) -> float:
    """The bytes that the control group (version 2) may still use, with what the kernel can reclaim; else infinity."""
    try:
        limit = int((cgroup / "memory.max").read_text())  # "max", which is no number, stands for no limit
        used = int((cgroup / "memory.current").read_text())
        files = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return float("inf")
    return limit - used + int(files.get("inactive_file", 0))
