"""The fork server's processes are what an interpreter of their own would be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.fork_server import Forked, fits
from tests.support.hub import MODULES, is_alive, ready_hub
from tests.support.peer import peer
from tests.support.timing import PATIENCE, eventually

pytestmark = pytest.mark.skipif(not fits(os.environ), reason="processes are not forked here")

SAYS = """
import os, signal, sys, threading
print(os.getcwd(), sys.argv, sys.path[0], os.environ.get("GIVEN"), os.environ.get("HOME"), __name__)
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, threading.active_count(), file=sys.stderr)
print(sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1])
for line in sys.stdin:
    print(line.strip())
sys.exit(7)
"""


def begun(folder: Path, code: str, stdin: int = subprocess.DEVNULL) -> Forked:
    (folder / "program.py").write_text(code)
    return Forked(["-m", "program", "a b"], cwd=str(folder), env={"GIVEN": "1"}, stdin=stdin)


def test_it_has_folder_environment_arguments_and_standard_files(tmp_path: Path) -> None:
    with begun(tmp_path, SAYS, subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write("one\ntwo\n")
        process.stdin.close()
        said, errors = process.stdout.read().splitlines(), process.stderr.read()
        assert process.wait(PATIENCE) == process.poll() == process.returncode == 7
    assert said[0] == f"{tmp_path} {[f'{tmp_path}/program.py', 'a b']} {tmp_path} 1 None __main__"
    assert said[1:] == ["[0, 1, 2]", "one", "two"]
    assert errors == "True 1\n"


def test_a_signal_and_an_error_end_it_as_they_would_another(tmp_path: Path) -> None:
    with begun(tmp_path, "import time\nprint(1)\ntime.sleep(600)") as killed:
        assert killed.stdout.readline() == "1\n"
        assert killed.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            killed.wait(0.01)
        killed.send_signal(signal.SIGINT)
        assert killed.wait(PATIENCE) == -signal.SIGINT
    with begun(tmp_path, "1 / 0") as failed:
        assert failed.wait(PATIENCE) == 1
        assert failed.stderr.read().endswith("ZeroDivisionError: division by zero\n")


def test_what_an_interpreter_reads_of_its_environment_wants_one_of_its_own() -> None:
    here = dict(os.environ)
    assert fits(here | {"PYTHONUNBUFFERED": "1", "TRUNKLINE_TOKEN": "a"}) == (sys.platform == "linux")
    assert not fits(here | {"LC_ALL": "C"})
    assert not fits(here | {"PYTHONPATH": "elsewhere"})


async def test_a_forked_executor_begins_as_one_that_was_started(tmp_path: Path) -> None:
    found = []
    for own_interpreters in (True, False):
        with ready_hub("surroundings", cwd=MODULES, own_interpreters=own_interpreters) as hub:
            async with peer(hub.url) as connection:
                seen = await connection.result("surroundings.interpreter")
                seen["environment"] = await connection.result("surroundings.environment")
                command = (await connection.result("surroundings.process"))["cmdline"]
            assert {seen.pop("pid")} == hub.executor_pids()
            assert seen.pop("parent") == hub.process.pid
            assert ("trunkline.executors.process" in command) == own_interpreters
            found.append(seen)
    assert found[0] == found[1]


def test_a_hub_that_is_killed_leaves_neither_executors_nor_what_forks_them() -> None:
    with ready_hub() as hub:
        family = psutil.Process(hub.process.pid).children()
        assert len(family) == 2
        hub.process.kill()
        eventually(lambda: not any(is_alive(each.pid) for each in family), "all have ended")
        hub.wait_ended(-signal.SIGKILL)
