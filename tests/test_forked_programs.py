"""The program that has hubs forked for others ends as they do, and takes them along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.fork_server import fits
from tests.support.forked_programs import VARIABLE, forked_program
from tests.support.hub import clean_environment, is_alive
from tests.support.timing import START, eventually

pytestmark = pytest.mark.skipif(not fits(os.environ), reason="processes are not forked here")


@pytest.fixture
def program() -> Iterator[Path]:
    with forked_program() as path:
        assert path is not None
        yield path


def hub(program: Path, folder: Path) -> subprocess.Popen[str]:
    """One that is listening."""
    command = [str(program), "serve", "--port", "0", "--packs", "none", "--no-demo", "--executors", "0"]
    running = subprocess.Popen(
        command, cwd=folder, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert running.stdout is not None
    assert any("listening" in line for line in running.stdout)
    return running


def working_in(folder: Path) -> list[int]:
    return [process.pid for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(folder)]


def test_it_has_arguments_outputs_and_exit_status_of_what_it_starts(program: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(program), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True)

    assert run("--version").stdout.startswith("trunkline ")
    done = run("call", "rpc.ping", "--url", "ws://127.0.0.1:9/ws")
    assert (done.returncode, done.stdout) == (3, "")
    assert "127.0.0.1:9" in done.stderr


def test_a_signal_reaches_the_hub_and_killing_the_program_kills_it(program: Path, tmp_path: Path) -> None:
    with hub(program, tmp_path) as asked:
        asked.send_signal(signal.SIGTERM)
        assert asked.wait(START) == 0
    with hub(program, tmp_path) as killed:
        family = working_in(tmp_path)
        assert len(family) >= 2, "the program and the hub"
        killed.kill()
        eventually(lambda: not any(map(is_alive, family)), "the hub is gone", START)


def test_a_command_has_its_path_and_its_exit_status() -> None:
    code = f"import os, sys; sys.exit(7 if os.access(os.environ[{VARIABLE!r}], os.X_OK) else 1)"
    command = [sys.executable, "-m", "tests.support.forked_programs", sys.executable, "-c", code]
    assert subprocess.run(command, cwd=Path(__file__).parents[1]).returncode == 7
