"""The owner of a collection is killed, again and again: what it acknowledged is there, and nothing else.

``TEST_KILL_SECONDS`` says for how long; a few seconds unless it is set.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.methods import collection_writer as writer
from tests.methods.test_collection_crashes import check
from tests.support.timing import PATIENCE
from trunkline.methods.vectors.changes import Delete
from trunkline.methods.vectors.store import CollectionStore, Manifest

SECONDS = float(os.environ.get("TEST_KILL_SECONDS", "4"))
ROOT = Path(__file__).parents[2]


def apply(state: dict[str, str], number: int) -> dict[str, str]:
    state = dict(state)
    for change in writer.change(number):
        if isinstance(change, Delete):
            for each in change.ids:
                state.pop(each, None)
        else:
            state |= {item.id: item.text or "" for item in change.items}
    return state


@pytest.mark.timeout(SECONDS + 60 + 3 * PATIENCE)
def test_what_an_owner_acknowledged_before_it_was_killed_is_there(tmp_path: Path) -> None:
    store = CollectionStore(tmp_path)
    store.create(Manifest(name="c", dimension=writer.DIMENSION, model=None, metadata={}))
    state: dict[str, str] = {}
    kills, number, chance = 0, 0, random.Random(1)
    command = [sys.executable, "-m", writer.__name__]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        until = time.monotonic() + SECONDS
        while kills < 5 or time.monotonic() < until:
            print(tmp_path, number, file=process.stdin, flush=True)
            word, pid = process.stdout.readline().split()
            assert word == "pid"
            if kills % 4:  # else it may still be opening
                assert process.stdout.readline() == f"ack {number}\n"
                state, number = apply(state, number), number + 1
            time.sleep(chance.uniform(0, 0.15))
            os.kill(int(pid), signal.SIGKILL)
            while (line := process.stdout.readline()) != "dead\n":
                assert line == f"ack {number}\n"
                state, number = apply(state, number), number + 1
            kills += 1
            collection = store.open("c")
            assert collection is not None
            following = apply(state, number)
            with contextlib.closing(collection):
                if check(collection, [state, following]) != state:
                    state, number = following, number + 1
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
    assert number > kills, "it was killed before it did anything"
