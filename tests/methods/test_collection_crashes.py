"""A loss of power, or an error, at every single step that SQLite and a collection take on its disk.

The steps of a run are noted once; for each, what a disk may have left if that step was the last one is made as real
files and opened. What was acknowledged must be there, the change that was on its way all or not at all.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.support.disks import FailingDisk, RecordingDisk, SimulatedDisk, using  # noqa: E402
from tests.support.stored_collections import contents, upsert_of, vector_of  # noqa: E402
from tests.support.timing import PATIENCE  # noqa: E402
from trunkline.methods.vectors.changes import Change, Delete  # noqa: E402
from trunkline.methods.vectors.collection import Collection  # noqa: E402
from trunkline.methods.vectors.store import CollectionStore, Manifest  # noqa: E402
from trunkline_protocol.errors import RpcError  # noqa: E402

DIMENSION = 8
ROUNDS = int(os.environ.get("TEST_CRASH_ROUNDS", "1"))
"""Seeds to try; with more than one, everything is tried more thoroughly."""

State = dict[str, str]


class Run:
    """A seeded run of changes on a collection, and what it should have in it.

    Attributes:
        state: what is in it, as far as it was acknowledged.
        pending: what would be in it with the change that is on its way, or that failed.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self.store = CollectionStore(root)
        self.state: State = {}
        self.pending: State | None = None
        self.collection: Collection | None = None
        self._chance = random.Random(seed)
        self._names = (f"{word}-{number}" for number in itertools.count() for word in ("cat", "dog", "a longer text"))

    def open(self) -> Collection:
        if self.collection is None or self.collection.closed:
            self.collection = self.store.open("c")
            assert self.collection is not None
        return self.collection

    def step(self) -> None:
        """One more; the state is new when it returns."""
        kind = self._chance.choices(["commit", "rebuild", "write index", "reopen"], [20, 1, 3, 2])[0]
        if kind == "commit":
            self._commit([self._change() for _ in range(self._chance.choice([1, 1, 1, 3]))])
        elif kind == "rebuild":
            self.open().rebuild()
        elif kind == "write index":
            self.open().write_index()
        else:
            self.open().close()

    def _change(self) -> Change:
        ids = [str(each) for each in self._chance.sample(range(12), self._chance.randint(1, 4))]
        return Delete(ids) if self._chance.random() < 0.3 else upsert_of({i: next(self._names) for i in ids}, DIMENSION)

    def _commit(self, changes: list[Change]) -> None:
        pending = dict(self.state)
        for change in changes:
            if isinstance(change, Delete):
                for each in change.ids:
                    pending.pop(each, None)
            else:
                pending |= {item.id: item.text or "" for item in change.items}
        collection = self.open()
        self.pending = pending
        collection.commit(changes)
        self.state, self.pending = pending, None


def check(collection: Collection, allowed: list[State]) -> State:
    """It has one of these states, and finds in it what comparing everything finds."""
    found = contents(collection)
    assert found in allowed
    dimension = collection.manifest.dimension
    query = vector_of("query", dimension)
    best = sorted(found, key=lambda each: -float(vector_of(found[each], dimension) @ query))[:3]
    assert [match.item.id for match in collection.index.search(query, 3)] == best
    return found


def opened(root: Path) -> Collection:
    collection = CollectionStore(root).open("c")
    assert collection is not None
    return collection


@pytest.mark.timeout(60 * PATIENCE)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_loss_of_power_at_any_step(tmp_path: Path, seed: int) -> None:
    root = tmp_path / "collections"
    allowed: list[list[State]] = []  # after each step of the disk: what may be in the collection
    run = Run(root, seed)
    with using(RecordingDisk(root)) as recorded:

        def note(states: list[State]) -> None:
            allowed.extend([states] * (len(recorded.steps) - len(allowed)))

        run.store.create(Manifest(name="c", dimension=DIMENSION, model=None, metadata={}))
        created = len(recorded.steps)
        note([{}])
        for _ in range(50):
            before = run.state
            run.step()
            note([before, run.state])
        run.open().close()
        note([run.state])
    assert {step.kind for step in recorded.steps} >= {"write", "sync", "unlink", "rename", "sync_folder"}

    disk, chance = SimulatedDisk(root), random.Random(seed)
    for number, (step, states) in enumerate(zip(recorded.steps, allowed, strict=True)):
        disk.step(step)
        for copy in range(2 if ROUNDS > 1 else 1):
            crashed = tmp_path / f"crash-{copy}"
            disk.crash(crashed, chance)
            if number + 1 < created and not (crashed / "c").exists():
                shutil.rmtree(crashed)
                continue
            collection = opened(crashed)
            state = check(collection, states)
            if number % 5 == copy:  # and it goes on
                collection.upsert(upsert_of({"new": "new"}, DIMENSION))
                collection.close()
                collection = opened(crashed)
                check(collection, [state | {"new": "new"}])
            collection.close()
            shutil.rmtree(crashed)


@pytest.mark.timeout(60 * PATIENCE)
@pytest.mark.parametrize(("code", "count"), [(errno.ENOSPC, 1), (errno.ENOSPC, 6), (errno.EIO, 1), (errno.EIO, 3)])
def test_an_error_at_any_step(tmp_path: Path, code: int, count: int) -> None:
    failures = 0
    for first in range(0, 200, 1 if ROUNDS > 1 else 7):
        root = tmp_path / str(first)
        CollectionStore(root).create(Manifest(name="c", dimension=DIMENSION, model=None, metadata={}))
        run = Run(root, seed=first % 4)
        with using(FailingDisk(root, first, count, code)) as disk:
            for _ in range(25):
                try:
                    run.step()
                except RpcError:
                    settle(run)
            failures += disk.failed
            run.open().close()
        collection = opened(root)
        check(collection, [run.state])
        collection.close()
    assert failures > 10


def settle(run: Run) -> None:
    """After a failed step: nothing of it is seen as long as the collection is open; then all of it, or nothing."""
    pending, run.pending = run.pending, None
    if run.collection is not None and not run.collection.closed:
        check(run.collection, [run.state])
        return
    while True:  # the disk may go on failing for a while
        try:
            run.state = check(run.open(), [run.state] if pending is None else [run.state, pending])
            return
        except RpcError as error:
            if error.code not in (5001, 5002):
                raise
