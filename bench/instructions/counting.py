"""Runs the dialogue against a hub of one checkout, and counts each part in each of its processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from bench.instructions.compare import Sample
from bench.instructions.dialogue import IDLE, PARTS, Address, Part

METHODS: Final = Path(__file__).with_name("counter") / "counted.py"
READY_SECONDS: Final = 300.0
STOP_SECONDS: Final = 120.0
STEPS: Final = 2 + len(PARTS)
"""Of one run: the hub is ready, nothing happens, and each part."""

Progress = Callable[[str], None]
"""Called with what is over, once for each step."""


class Counter(ABC):
    """Counts what processes do.

    Args:
        folder: an empty one, for its files.

    Attributes:
        kinds: what it counts.
    """

    kinds: tuple[str, ...]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def command(self) -> list[str]:
        """Return what comes before the command of a program."""

    @abstractmethod
    def python_path(self) -> list[Path]:
        """Return what comes before the sources."""

    @abstractmethod
    def start(self, pid: int) -> None:
        """Begin to look at a process."""

    @abstractmethod
    def begin(self, pid: int) -> None:
        """Count from zero."""

    @abstractmethod
    def take(self, pid: int) -> dict[str, dict[str, int]]:
        """Return what was counted since: of each kind, by function."""


@dataclass(frozen=True, slots=True)
class Processes:
    """A hub that is ready.

    Attributes:
        address: of its WebSocket endpoint.
        pids: by the name of the process.
    """

    address: Address
    pids: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Setup:
    """How a hub is set up.

    Attributes:
        settings: variables, without their prefix; of files the names.
        files: the text of each, by name; they are in the folder that the hub runs in.
        token: what the dialogue's connections authenticate with.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None


DEFAULTS: Final = Setup()


@contextmanager
def hub_of(root: Path, counter: Counter, setup: Setup = DEFAULTS) -> Iterator[Processes]:
    """Run a hub of the sources at ``root`` with one executor."""
    path = [*counter.python_path(), root / "server", root / "protocol"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRUNKLINE_", "PYTHON"))}
    env = kept | {
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "PYTHONHASHSEED": "0",  # sets and dicts of strings are in the same order each time
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MALLOC_ARENA_MAX": "1",
        "TRUNKLINE_PING_INTERVAL": "3600",
        "TRUNKLINE_START_TIMEOUT": str(READY_SECONDS),
        **{f"TRUNKLINE_{name}": value for name, value in setup.settings.items()},
    }
    for name, text in setup.files.items():
        counter.folder.joinpath(name).write_text(text)
    command = [
        *counter.command(), sys.executable, "-m", "trunkline.cli", "serve", "--port", "0", "--packs", "none",
        "--no-demo", "--methods", METHODS.stem, "--executors", "1", "--data", str(counter.folder / "data"),
    ]  # fmt: skip
    shutil.copy(METHODS, counter.folder)
    log = counter.folder / "hub.log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command, cwd=counter.folder, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as hub,
    ):  # fmt: skip
        try:
            assert hub.stdout is not None
            url = ""
            for line in hub.stdout:
                if "listening on " in line:
                    url = line.split("listening on ")[1].split()[0]
                if line.startswith("ready"):
                    break
            else:
                raise SystemExit(f"the hub of {root} ended before it was ready:\n{log.read_text()[-3000:]}")
            executors = psutil.Process(hub.pid).children()
            if len(executors) != 1:
                raise SystemExit(f"the hub of {root} has {len(executors)} children, not just one executor")
            yield Processes(Address(url, setup.token), {"hub": hub.pid, "executor": executors[0].pid})
        finally:
            hub.terminate()
            try:
                hub.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                hub.kill()


def count(
    root: Path, make: Callable[[Path], Counter], progress: Progress, setup: Setup = DEFAULTS
) -> dict[str, list[Sample]]:
    """Run the dialogue once.

    Args:
        root: a checkout.
        make: makes the counter, from a folder for its files.
        progress: told of each step.

    Returns:
        What each part needed, in each process, of each kind that the counter counts; that without messages is first.
    """
    with tempfile.TemporaryDirectory(prefix="trunkline-instructions-") as folder:
        counter = make(Path(folder))
        with hub_of(root, counter, setup) as hub:
            for pid in hub.pids.values():
                counter.start(pid)
            progress("hub is ready")
            samples: dict[str, list[Sample]] = {kind: [] for kind in counter.kinds}
            for kind_of_part in (IDLE, *PARTS):
                for kind, sample in _count_part(kind_of_part(hub.address), hub.pids, counter):
                    samples[kind].append(sample)
                progress(kind_of_part.name)
            return samples


def _count_part(part: Part, pids: Mapping[str, int], counter: Counter) -> Iterator[tuple[str, Sample]]:
    for _ in range(part.warm_up):
        part.round()
    for pid in pids.values():
        counter.begin(pid)
    began = time.monotonic()
    for _ in range(part.rounds):
        part.round()
    seconds = time.monotonic() - began
    taken = {name: counter.take(pid) for name, pid in pids.items()}
    part.close()
    for kind in counter.kinds:
        counts = {name: kinds[kind] for name, kinds in taken.items()}
        yield kind, Sample(part.name, part.unit, part.rounds * part.units, seconds, counts)
