"""What a bundle says of this machine: versions, limits, the hub's processes, the data folder. All of this blocks."""

from __future__ import annotations

import importlib.metadata
import ipaddress
import os
import platform
import re
import resource
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from trunkline.version import __version__

MAX_LISTED: Final = 2_000
CPU_SECONDS: Final = 0.5
"""Over which the share of the CPU is measured."""

MAX_PROCESSES: Final = 300


def versions() -> dict[str, Any]:
    """Of python, the system, and all packages that this one can use; null where one is not installed."""
    named = {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in importlib.metadata.requires("trunkline") or []}
    return {
        "trunkline": __version__,
        "python": sys.version,
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "cpu_count": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "packages": {name: _version(name) for name in sorted(named - {"trunkline"})},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def limits() -> dict[str, Any]:
    """The kernel's limits of this process, as ``ulimit`` shows them: soft and hard, null for none."""
    return {
        name.removeprefix("RLIMIT_").lower(): [_limit(each) for each in resource.getrlimit(getattr(resource, name))]
        for name in sorted(dir(resource))
        if name.startswith("RLIMIT_")
    }


def _limit(value: int) -> int | None:
    return None if value in (resource.RLIM_INFINITY, -1) else value


# --- processes ---


def processes(url: str) -> list[dict[str, Any]]:
    """The hub that listens at a URL on this machine, and what it has started, with what they use.

    Raises:
        LookupError: there is none here, or this user may not see it.
    """
    hub = _listening(url)
    found = [hub, *hub.children(recursive=True)][:MAX_PROCESSES]
    before = {each.pid: _cpu_seconds(each) for each in found}
    time.sleep(CPU_SECONDS)
    return [_process(each, before[each.pid]) for each in found]


def _listening(url: str) -> psutil.Process:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    if not _is_here(parts.hostname or ""):
        raise LookupError("the hub is on another machine: run this there")
    listening = {
        each.pid
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port and each.pid
    }
    if not listening:
        raise LookupError(f"no process that this user may see listens on port {port}")
    named = [psutil.Process(pid) for pid in sorted(listening)]
    return next((each for each in named if each.ppid() not in listening), named[0])


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _process(process: psutil.Process, cpu_before: float) -> dict[str, Any]:
    """Without its command line and its environment, which may hold anything."""
    try:
        with process.oneshot():
            memory, seconds = process.memory_info(), _cpu_seconds(process)
            return {
                "pid": process.pid,
                "parent": process.ppid(),
                "name": process.name(),
                "status": process.status(),
                "cwd": process.cwd(),
                "uptime_seconds": round(time.time() - process.create_time(), 1),
                "cpu_seconds": round(seconds, 2),
                "cpu_percent": round(100 * max(0.0, seconds - cpu_before) / CPU_SECONDS, 1),
                "rss_bytes": memory.rss,
                "threads": process.num_threads(),
                "descriptors": process.num_fds(),
                "limits": {name: _limits_of(process, name) for name in ("NOFILE", "FSIZE", "AS", "NPROC", "CORE")},
            }
    except psutil.Error as error:
        return {"pid": process.pid, "error": str(error)}


def _limits_of(process: psutil.Process, name: str) -> list[int | None] | None:
    if not hasattr(process, "rlimit"):  # on macOS
        return None
    return [_limit(each) for each in process.rlimit(getattr(resource, f"RLIMIT_{name}"))]


# --- the data folder ---


def data_folder(folder: Path, warn_below: int | None, whose: str) -> dict[str, Any]:
    """The folder's disk, and the names, sizes and permissions of its files; never what is in them.

    Args:
        folder: the data folder.
        warn_below: the free bytes below which its disk runs out.
        whose: how it is known that it is this one.

    Raises:
        OSError: it cannot be read.
    """
    from trunkline.control.data_folder import look

    disk = look(folder, warn_below)
    entries = [] if not folder.exists() else sorted(_entries(folder), key=lambda each: each["path"])
    return {
        "folder": str(folder),
        "whose": whose,
        "exists": folder.exists(),
        "disk": {
            "bytes": disk.size,
            "free_bytes": disk.free,
            "trouble": disk.trouble,
            "low": [each.text for each in disk.low],
        },
        "files": entries[:MAX_LISTED],
        "more": max(0, len(entries) - MAX_LISTED),
    }


def _entries(folder: Path) -> Iterator[dict[str, Any]]:
    def refuse(error: OSError) -> None:
        raise error

    for where, folders, files in os.walk(folder, onerror=refuse):
        for name in (*folders, *files):
            path = Path(where, name)
            try:
                seen = path.lstat()
            except FileNotFoundError:  # removed meanwhile
                continue
            yield {
                "path": str(path.relative_to(folder)),
                "mode": stat.filemode(seen.st_mode),
                "bytes": seen.st_size,
                "changed_at": round(seen.st_mtime),
            }
