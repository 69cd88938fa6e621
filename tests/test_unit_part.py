"""What is in the unit part, and what the part does with a test that does more than it lets see."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

import pytest

from tests.support import hub
from tests.support.hub import RunningHub, ready_hub
from tests.support.timing import eventually
from tests.support.unit import is_here, reaches_processes
from trunkline.executors import pool

ROOT = Path(__file__).parents[1]


class Holder:
    def start(self) -> None:
        inside()


def direct() -> None:
    subprocess.run(["true"])


def inside() -> None:
    def later() -> None:
        direct()

    later()


async def of_asyncio() -> None:
    await asyncio.create_subprocess_exec("true")


def by_module() -> None:
    hub.ready_hub()


def of_the_product() -> type:
    return pool.ExecutorPool


@wraps(direct)
def wrapping() -> None:
    pass


@contextmanager
def managed() -> Iterator[RunningHub]:
    with ready_hub() as running:
        yield running


def held() -> None:
    Holder().start()


def pure() -> None:
    eventually(lambda: True, "it is so")


@pytest.mark.parametrize("start", [direct, inside, of_asyncio, by_module, of_the_product, wrapping, managed, held])
def test_who_reaches_a_process_by_whatever_way_is_not_in_it(start: Callable[[], object]) -> None:
    assert reaches_processes(start)


def test_who_does_not_is() -> None:
    assert not reaches_processes(pure)


HIDDEN = """
import os

def test_forks() -> None:
    getattr(os, "system")("true")

def test_calls_out() -> None:
    import socket
    with socket.socket() as outside:
        outside.connect(("192.0.2.1", 9))

def test_pure() -> None:
    pass

"""


def test_what_was_overlooked_fails_and_files_that_load_ml_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "test_hidden.py").write_text(HIDDEN)
    (tmp_path / "test_heavy.py").write_text("import torch\n\ndef test_nothing() -> None:\n    pass\n")
    command = [sys.executable, "-m", "pytest", "--unit", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    command += ["--rootdir", str(ROOT), "-p", "tests.conftest", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "2 failed, 1 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert "os.system: tests of the unit part start no process" in done.stdout
    assert "connects to ('192.0.2.1', 9)" in done.stdout


@pytest.mark.parametrize("address", ["/run/socket", ("127.0.0.1", 80), ("::1", 80, 0, 0), ("localhost", 1)])
def test_this_machine(address: object) -> None:
    assert is_here(address)


def test_another_machine() -> None:
    assert not is_here(("192.0.2.1", 80))
