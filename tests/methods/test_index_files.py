"""Index files against a plain dict: whatever is done to a collection and its files, it has what was acknowledged.

Items are put in and deleted, files written while that goes on, processes killed at any point of it, files cut, flipped,
exchanged with others and removed, and backups put back by hand beside files of a later time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

np = pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.support.stored_collections import contents, upsert_of, vector_of  # noqa: E402
from tests.support.timing import PATIENCE  # noqa: E402
from trunkline.methods.vectors import checked_file, index_file, kept_index, rows, touched  # noqa: E402
from trunkline.methods.vectors.changes import Change, Delete  # noqa: E402
from trunkline.methods.vectors.collection import Collection  # noqa: E402
from trunkline.methods.vectors.rows import CollectionFile  # noqa: E402
from trunkline.methods.vectors.store import CollectionStore, Manifest  # noqa: E402
from trunkline.methods.vectors.touched import Reference  # noqa: E402
from trunkline.storage.snapshot import snapshot  # noqa: E402

IDS = st.sampled_from("abcdefghij")
PUT = st.dictionaries(IDS, st.sampled_from(["cat", "dog", "bird", "a longer text"]), min_size=1, max_size=4)
REMOVED = st.lists(IDS, min_size=1, max_size=3)
COMMIT = st.lists(PUT | REMOVED, min_size=1, max_size=2)

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where nothing waits for a disk: what a loss of power leaves is shown elsewhere."""

State = dict[str, str]


def after(state: State, commit: list[State | list[str]]) -> State:
    state = dict(state)
    for change in commit:
        if isinstance(change, dict):
            state |= change
        else:
            for each in change:
                state.pop(each, None)
    return state


def change_of(change: State | list[str]) -> Change:
    return upsert_of(change) if isinstance(change, dict) else Delete(change)


class Killed(Exception):
    """The process was killed here."""


class Collections(RuleBasedStateMachine):
    """One collection, what it has to hold, and its folder, which is copied where its process is killed."""

    loaded = 0
    refused = 0

    def __init__(self) -> None:
        super().__init__()
        self.undo = contextlib.ExitStack()
        self.root = Path(self.undo.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
        self.place = self.root / "0"
        self.state: State = {}
        self.kept: list[Path] = []  # index files of former times
        self.backup: State | None = None
        self.is_whole = False  # an index file is in use, and nothing was done to it

    @initialize(given=PUT)
    def create(self, given: State) -> None:
        store = CollectionStore(self.place)
        store.create(Manifest(name="c", dimension=2, model=None, metadata={}))
        self.open()
        self.commit([given])

    def teardown(self) -> None:
        with self.undo:
            if hasattr(self, "collection"):
                self.collection.close()

    # --- what users do ---

    @rule(commit=COMMIT)
    def commit(self, commit: list[State | list[str]]) -> None:
        self.collection.commit([change_of(each) for each in commit])
        self.state = after(self.state, commit)
        self.is_whole = self.is_whole and self.collection.kept.size > 0  # else more has changed than there is

    @rule()
    def rebuild(self) -> None:
        self.collection.rebuild()

    # --- what the owner does ---

    @rule(
        meanwhile=st.lists(COMMIT, max_size=6),
        ends=st.sampled_from(["adopted", "adopted", "adopted", "killed", "failed"]),
    )
    def write(self, meanwhile: list[list[State | list[str]]], ends: str) -> None:
        """The file is written, while items come and go; then it is used, or the process was killed in between."""
        writing = self.collection.kept.begin(self.collection.index)
        self.write_while(writing.write, writing.take, meanwhile, None)
        for commit in meanwhile:
            self.commit(commit)
        if ends == "adopted":
            former = self.collection.adopt(writing)
            if former is not None:
                former.unlink(missing_ok=True)
            self.keep(writing.path)
            self.is_whole = True
        elif ends == "failed":
            self.collection.kept.fail(writing, OSError("a planted one"))
        else:
            self.kill()

    @rule(meanwhile=st.lists(COMMIT, max_size=2), later=COMMIT)
    def write_and_die_later(self, meanwhile: list[list[State | list[str]]], later: list[State | list[str]]) -> None:
        self.write(meanwhile, "adopted")
        self.commit(later)
        self.kill()

    @rule(meanwhile=st.lists(COMMIT, max_size=6), at=st.integers(0, 4))
    def killed_while_writing(self, meanwhile: list[list[State | list[str]]], at: int) -> None:
        writing = self.collection.kept.begin(self.collection.index)
        try:
            self.write_while(writing.write, writing.take, meanwhile, at)
        except Killed:
            self.collection.close()
            self.place = self.place.with_name(self.place.name + "k")
            self.open()
        else:
            self.collection.kept.fail(writing, OSError("a planted one"))

    def write_while(self, write: Any, take: Callable[[], Any], meanwhile: list[Any], killed_at: int | None) -> None:
        count = 0

        def taken() -> Any:
            nonlocal count
            if count == killed_at:
                shutil.copytree(self.place, self.place.with_name(self.place.name + "k"))
                raise Killed
            count += 1
            if meanwhile:
                self.commit(meanwhile.pop())
            return take()

        write(taken)

    # --- the end of a process ---

    @rule()
    def reopen(self) -> None:
        self.collection.close()
        self.open()

    @rule()
    def kill(self) -> None:
        """As the files are now, and nothing is closed."""
        killed = self.place.with_name(self.place.name + "k")
        shutil.copytree(self.place, killed)
        self.collection.close()
        self.place = killed
        self.open()

    # --- what may be done to files ---

    @precondition(lambda self: self.is_whole)
    @rule(data=st.data())
    def harm(self, data: st.DataObject) -> None:
        self.collection.close()
        for path in self.index_files():
            content = bytearray(path.read_bytes())
            at = data.draw(st.integers(0, len(content) - 1))
            kind = data.draw(st.sampled_from(["flip", "cut", "former", "gone", "zeros", "longer"]))
            if kind == "flip":
                content[at] ^= 1 << data.draw(st.integers(0, 7))
            elif kind == "cut":
                del content[at:]
            elif kind == "zeros":
                content[at:] = bytes(len(content) - at)
            elif kind == "longer":
                content[at:at] = content
            elif kind == "former":
                content[:] = data.draw(st.sampled_from(self.kept)).read_bytes() if self.kept else b""
            path.write_bytes(content)
            if kind == "gone":
                path.unlink()
        self.is_whole = False
        self.open()

    @precondition(lambda self: self.is_whole)
    @rule()
    def another_collections_file(self) -> None:
        """Its file by our file's name, and ours by its."""
        self.collection.close()
        CollectionStore(self.root / "other").create(Manifest(name="c", dimension=2, model=None, metadata={}))
        other = opened(self.root / "other")
        other.upsert(upsert_of({"other": "other"}))
        other.write_index()
        other.close()
        (theirs,) = (self.root / "other/c").glob("index-*")
        for ours in self.index_files():
            shutil.copy(theirs, ours)
        shutil.copy(theirs, self.place / "c")
        shutil.rmtree(self.root / "other")
        self.is_whole = False
        self.open()

    @rule()
    def back_up(self) -> None:
        snapshot(self.place / "c" / rows.FILE, self.root / "backup", "the backup")
        self.backup = dict(self.state)

    @precondition(lambda self: self.backup is not None)
    @rule(data=st.data())
    def restore_by_hand(self, data: st.DataObject) -> None:
        """The file alone is put back; what lies beside it stays, and perhaps a file of then is found again."""
        assert self.backup is not None
        self.collection.close()
        shutil.copy(self.root / "backup", self.place / "c" / rows.FILE)
        former = data.draw(st.sampled_from([None, *self.kept]))
        if former is not None:
            shutil.copy(former, self.place / "c" / former.name)
        self.state, self.is_whole = dict(self.backup), False
        self.open()

    # --- what has to be ---

    def open(self) -> None:
        self.collection = opened(self.place)
        is_loaded = self.collection.kept.is_unchecked
        Collections.loaded += is_loaded
        assert is_loaded or not self.is_whole, "a file that is whole is not used"
        self.is_whole = self.is_whole and is_loaded
        check = self.collection.row_check()
        assert (check is not None) == is_loaded
        if check is not None:
            check.run()

    def index_files(self) -> list[Path]:
        return sorted((self.place / "c").glob("index-*"))

    def keep(self, path: Path) -> None:
        folder = self.root / "kept"
        folder.mkdir(exist_ok=True)
        self.kept.append(Path(shutil.copy(path, folder)))

    @invariant()
    def it_has_what_was_acknowledged(self) -> None:
        if not hasattr(self, "collection"):
            return
        assert contents(self.collection) == self.state
        assert len(self.index_files()) <= 2
        query = vector_of("query")
        found = self.collection.index.search(query, 3)
        scores = sorted((float(vector_of(text) @ query) for text in self.state.values()), reverse=True)[:3]
        assert [round(match.score, 5) for match in found] == [round(each, 5) for each in scores]


def opened(root: Path) -> Collection:
    collection = CollectionStore(root).open("c")
    assert collection is not None
    return collection


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of collections of any size, of parts of three items."""
    monkeypatch.setattr(kept_index, "LEAST", 0)
    monkeypatch.setattr(kept_index, "AT_ONCE", 3)


def try_all(examples: int, **options: Any) -> None:
    run_state_machine_as_test(
        Collections, settings=settings(max_examples=examples, stateful_step_count=12, deadline=None, **options)
    )


@pytest.mark.timeout(60 * PATIENCE)
def test_whatever_is_done_to_its_files_a_collection_has_what_was_acknowledged() -> None:
    Collections.loaded = 0
    try_all(25, phases=[Phase.explicit, Phase.reuse, Phase.generate])
    assert Collections.loaded > 10, "no file was ever used"


# --- that it would be found ---


def accept_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is another's, or of another time, is taken for right."""
    read = index_file.read_index_file

    def of_itself(path: Path, reference: Reference, *more: Any) -> Any:
        with contextlib.suppress(Exception):
            data = path.read_bytes()
            start, length, *_ = checked_file.END.unpack(data[-checked_file.END.size :])
            said = index_file._directory.decode(data[start : start + length])
            reference = Reference(said.token, said.position)
        return read(path, reference, *more)

    monkeypatch.setattr(kept_index, "read_index_file", of_itself)


def miss_deletions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits note what they put in, and not what they delete."""
    note = touched.note

    def upserts_only(transaction: Any, changes: Any, position: int) -> None:
        note(transaction, [each for each in changes if not isinstance(each, Delete)], position)

    monkeypatch.setattr(touched, "note", upserts_only)


def keep_former_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits are not noted while a file is written."""

    def silent(self: CollectionFile) -> int:
        self.is_noting = self.reference is not None
        return self.position

    monkeypatch.setattr(CollectionFile, "begin_noting", silent)


@pytest.mark.timeout(60 * PATIENCE)
@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (accept_any, "assert {.* == {"),  # other items than there should be
        (miss_deletions, "a file that is whole is not used"),  # their number does not fit: all rows are read
        (keep_former_commits, "a file that is whole is not used"),
    ],
)
def test_a_planted_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[[pytest.MonkeyPatch], None], found: str
) -> None:
    fault(monkeypatch)
    with pytest.raises(AssertionError, match=found):
        try_all(500, phases=[Phase.generate], derandomize=True, database=None, report_multiple_bugs=False)
