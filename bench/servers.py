"""Starts the servers that benchmarks measure, and stops them again."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

LISTENING = re.compile(r"(?:listening on|Listening for websocket clients on) (\S+)")
MAX_FILES = 1 << 16


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens: where, and as which process."""

    url: str
    pid: int


@contextmanager
def process(*command: str, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Run a server that says ``listening on URL`` (and, a hub, ``ready``) on stdout."""
    is_hub = "trunkline.cli" in command
    environment = {**os.environ, **(env or {})}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as started:
        try:
            assert started.stdout is not None
            url = ""
            for line in started.stdout:
                if match := LISTENING.search(line):
                    url = match[1]
                if url and (not is_hub or line.startswith("ready")):
                    break
            else:
                raise SystemExit(f"{' '.join(command)} ended before it was ready")
            yield Running(url, started.pid)
        finally:
            started.terminate()
            try:
                started.wait(timeout=20)
            except subprocess.TimeoutExpired:
                started.kill()


@contextmanager
def server(*command: str) -> Iterator[str]:
    """Run a Python module that is a server; yields its URL."""
    with process(sys.executable, "-m", *command) as running:
        yield running.url


@contextmanager
def hub_process(
    *options: str, methods: str | None = "trunkline.methods.debug", env: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """A hub with the debug methods alone, or with no method and no executor at all."""
    served = ("--methods", methods) if methods else ()
    with (
        tempfile.TemporaryDirectory() as data,
        process(
            sys.executable, "-m", "trunkline.cli", "serve", "--port", "0", "--packs", "none", "--no-demo",
            "--data", data, *served, *options, env=env,
        ) as running,
    ):  # fmt: skip
        yield running


@contextmanager
def hub(*options: str) -> Iterator[str]:
    """A hub with the debug methods alone; yields its URL."""
    with hub_process(*options) as running:
        yield running.url


def allow_many_files() -> None:
    """Raise the limit on open files as far as it goes, for this process and those it starts from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def cpu_seconds(pid: int) -> float:
    """CPU time a process has used so far, user and system, without its children."""
    return sum(cpu_parts(pid))


def cpu_parts(pid: int) -> tuple[float, float]:
    """The same, in the process itself and in the kernel on its behalf."""
    times = psutil.Process(pid).cpu_times()
    return times.user, times.system


def waited_seconds(pid: int) -> float:
    """How long a process was ready to run and had no CPU (its main thread; 0 where the system does not say)."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def rss_bytes(pid: int) -> int:
    """Memory of a process that is resident now."""
    return psutil.Process(pid).memory_info().rss
