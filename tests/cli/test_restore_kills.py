"""``trunkline restore``, killed at each step that it takes on the disk: each part is the old one or the new one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytest.importorskip("faiss")

from tests.jobs.test_store import made, opened
from tests.support.command import trunkline
from tests.support.hub import clean_environment
from tests.support.stored_collections import contents, make, upsert_of
from tests.support.stored_collections import opened as collection_opened
from tests.support.timing import SCALE

TEXTS: Final = {str(number): f"text of {number}" for number in range(20)}
LATER: Final = {"1": "changed later", "new": "made later"}

KILLER: Final = """
import os, shutil, signal, sys, traceback
from pathlib import Path
from trunkline.cli.main import app

archive, before, folder = map(Path, sys.argv[1:])
STEPS = {
    "open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chown", "sqlite3.connect", "shutil.rmtree",
    "ctypes.dlsym",  # right before an exchange
}

def restore(data):
    app(["restore", str(archive), "--data", str(data), "--replace"], standalone_mode=False)

def restore_until(data, step):
    left = [step]
    def count(event, _arguments):
        if event in STEPS:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)
    restore(data)
    os._exit(0)

restore(folder / "warm")  # all that it imports is
shutil.rmtree(folder / "warm")
step, status = 0, signal.SIGKILL
while status == signal.SIGKILL:
    shutil.copytree(before, folder / str(step))
    child = os.fork()
    if child == 0:
        try:
            restore_until(folder / str(step), step)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    _, status = os.waitpid(child, 0)
    step += 1
assert status == 0, status
"""


def texts(data: Path) -> dict[str, str]:
    collection = collection_opened(data)
    try:
        return contents(collection)
    finally:
        collection.close()


def numbers_of_jobs(data: Path) -> list[int]:
    store, jobs = opened(data / "jobs")
    store.close()
    return [job.created.number for job in jobs]


def test_each_part_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    data, before, killed = tmp_path / "data", tmp_path / "before", tmp_path / "killed"
    make(data, TEXTS)
    made(data / "jobs", number=1)
    archive = tmp_path / "file.tar"
    assert trunkline("backup", str(archive), "--data", str(data)).returncode == 0
    made(data / "jobs", number=2)
    collection = collection_opened(data)
    collection.upsert(upsert_of(LATER))
    shutil.copytree(data, before)  # with a log
    collection.close()
    killed.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(archive), str(before), str(killed)],
        capture_output=True, text=True, env=clean_environment(), timeout=120 * SCALE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *steps, last = sorted(map(int, (path.name for path in killed.iterdir())))
    found = []
    for step in (*steps, last):
        at = texts(killed / str(step)), numbers_of_jobs(killed / str(step))
        assert at[0] in (TEXTS, TEXTS | LATER), step
        assert at[1] in ([1], [1, 2]), step
        found.append((at[0] == TEXTS, at[1] == [1]))
    assert found == sorted(found, key=sum), "once it is there, it stays"
    assert {sum(each) for each in found} == {0, 1, 2}, "it was killed between the two as well"
    print(f"\nkilled at {len(steps)} steps, {found.count((False, False))} of them before anything was in its place")
    left = [step for step in steps if [*(killed / str(step)).rglob(".restored-*")]]
    assert left
    for step in (left[0], left[len(left) // 2], left[-1]):
        assert trunkline("restore", str(archive), "--data", str(killed / str(step)), "--replace").returncode == 0
        assert (texts(killed / str(step)), numbers_of_jobs(killed / str(step))) == (TEXTS, [1])
        assert not [*(killed / str(step)).rglob(".restored-*")]
