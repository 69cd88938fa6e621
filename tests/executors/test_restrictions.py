"""What the kernel withholds from methods, and from the programs that they start."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.hub import MODULES, RunningHub, ready_hub
from tests.support.peer import peer
from trunkline.executors.restrictions import NO_CORE

ANOTHER: Final = 65534
"""A user that is not the one of the tests."""

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="no_new_privs is of Linux")


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    """It may write core files itself, where the machine lets it."""
    with ready_hub("surroundings", cwd=MODULES, own_interpreters=True) as running:
        yield running


@pytest.fixture
def setuid_id(tmp_path: Path) -> str:
    """A copy of ``id`` that runs as :data:`ANOTHER`, whoever starts it."""
    if os.geteuid():
        pytest.skip("only root can make a program of another user")
    program = tmp_path / "id"
    shutil.copyfile(str(shutil.which("id")), program)
    os.chown(program, ANOTHER, ANOTHER)
    program.chmod(0o4755)
    if user_by([str(program), "-u"]) != ANOTHER:
        pytest.skip(f"setuid is without effect in {tmp_path}: a container or mount with nosuid")
    return str(program)


def user_by(command: list[str]) -> int:
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)


@linux_only
async def test_a_setuid_program_gains_nothing_by_a_method(hub: RunningHub, setuid_id: str) -> None:
    async with peer(hub.url) as connection:
        assert int(await connection.result("surroundings.run", {"command": [setuid_id, "-u"]})) == os.geteuid()


@linux_only
async def test_a_method_cannot_undo_it(hub: RunningHub) -> None:
    undo = "import ctypes; print(ctypes.CDLL(None).prctl(38, 0, 0, 0, 0))"
    async with peer(hub.url) as connection:
        assert await connection.result("surroundings.run", {"command": [sys.executable, "-c", undo]}) == "-1"
        status = await connection.result("surroundings.run", {"command": ["grep", "NoNewPrivs", "/proc/self/status"]})
        assert status.split() == ["NoNewPrivs:", "1"]


async def test_what_crashes_leaves_no_core_file(hub: RunningHub) -> None:
    async with peer(hub.url) as connection:
        for soft, hard in await connection.result("surroundings.core"):
            assert 0 <= soft <= hard <= NO_CORE


IN_A_PROCESS: Final = """
import resource, sys
from trunkline.executors.restrictions import set_rlimits

resource.setrlimit(resource.RLIMIT_CORE, (0, int(sys.argv[1])))
set_rlimits({name: int(value) for name, value in (each.split("=") for each in sys.argv[2:])})
print(*resource.getrlimit(resource.RLIMIT_CORE))
"""


@pytest.mark.parametrize(
    ("hubs", "groups", "core"),
    [
        pytest.param("1048576", (), [NO_CORE] * 2, id="nobody says"),
        pytest.param("0", (), [0, 0], id="not above the hub's"),
        pytest.param("1048576", ("core=8192",), [8192] * 2, id="the group says"),
        pytest.param("1048576", ("core=0", "nofile=64"), [0, 0], id="none, by the group"),
    ],
)
def test_core_files_by_limit_of_hub_and_group(hubs: str, groups: tuple[str, ...], core: list[int]) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    if most not in (resource.RLIM_INFINITY, -1) and most < int(hubs):
        pytest.skip("the machine has a limit of core files itself")
    said = subprocess.run([sys.executable, "-c", IN_A_PROCESS, hubs, *groups], stdout=subprocess.PIPE, check=True)
    assert [int(each) for each in said.stdout.split()] == core
