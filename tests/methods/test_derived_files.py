"""Files of what is made of a collection's items: HNSW, IVF, words. Whatever file is found, what is there is found."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")
pytest.importorskip("faiss")
pytest.importorskip("bm25s")

from tests.support.stored_collections import contents, flipped, opened, upsert_of, vector_of  # noqa: E402
from tests.support.timing import PATIENCE  # noqa: E402
from trunkline.methods.vectors import (  # noqa: E402
    checked_file,
    index,
    kept_structure,
    kept_words,
    lexical,
    restoring,
    structures,
)
from trunkline.methods.vectors.collection import Collection  # noqa: E402
from trunkline.methods.vectors.index import IndexSpec  # noqa: E402
from trunkline.methods.vectors.store import CollectionStore, Manifest  # noqa: E402

Kind = Literal["hnsw", "ivf"]
KINDS = pytest.mark.parametrize("kind", ["hnsw", "ivf"])
DIMENSION = 8
IDS = [f"id {number}" for number in range(60)]
TEXTS = {each: f"text of {each} {'cat' if row % 3 else 'dog'}" for row, each in enumerate(IDS)}
CHANGED = {"id 3": "a cat that is new", "id 4": "a dog that is new"}

BUILD, COUNT = structures.build, lexical._counted


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Structures and words of collections of some items are kept."""
    monkeypatch.setattr(structures, "FLAT_BELOW", 10)
    monkeypatch.setattr(structures, "POINTS_PER_LIST", 4)
    for module in (kept_structure, kept_words):
        monkeypatch.setattr(module, "LEAST", 10)


def make(folder: Path, kind: Kind, name: str = "c", dimension: int = DIMENSION, **params: int) -> Collection:
    """A collection of :data:`TEXTS`, whose structure and words are kept; it is open."""
    spec = IndexSpec(dimension, "cosine", kind, params)
    manifest = Manifest(name=name, dimension=dimension, model=None, metadata={}).with_spec(spec)
    CollectionStore(folder / "collections").create(manifest)
    collection = opened(folder, name)
    collection.upsert(upsert_of(TEXTS, dimension))
    use(collection)
    return collection


def use(collection: Collection) -> lexical.LexicalIndex:
    """Have the structure built and the words counted, or what was kept of them used. Returns the index of words."""
    if collection.is_building_due:
        building, work = collection.begin_building()
        work(building)
        while not collection.index.finish_building(building):
            building.work()
    texts = {item.id: item.text for item in collection.index.items() if item.text is not None}
    words = collection.words.restored(texts)
    if words is None:
        words = lexical.LexicalIndex(texts)
        collection.words.keep(words.statistics, texts, collection.words.position, lambda: True)
    return words


def change(collection: Collection) -> dict[str, str]:
    """Replace, delete and put in some items. Returns what is there then."""
    collection.upsert(upsert_of(CHANGED, DIMENSION))
    collection.delete(["id 5"])
    collection.upsert(upsert_of({"late": "the last cat"}, DIMENSION))
    return {**{each: text for each, text in TEXTS.items() if each != "id 5"}, **CHANGED, "late": "the last cat"}


def require(collection: Collection, state: dict[str, str]) -> None:
    """What is there is found, by vectors and by words, and nothing else."""
    assert contents(collection) == state
    words = use(collection)
    assert not collection.index.is_exact
    for text in (*CHANGED.values(), *TEXTS.values(), "the last cat"):
        expected = {id for id, each in state.items() if each == text}
        found = {match.item.id for match in collection.index.search(vector_of(text, DIMENSION), 1, 0.9999)}
        assert found == expected, text
    for word in ("cat", "dog"):
        found = {id for id, _ in words.search(word).top(1000)}
        assert found == {id for id, text in state.items() if word in text.split()}


def built_anew(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is built or counted anew from now on, by kind."""
    done: list[str] = []

    def build(spec: Any, *more: Any) -> Any:
        done.append("structure")
        return BUILD(spec, *more)

    def counted(texts: Any) -> Any:
        done.append("words")
        return COUNT(texts)

    monkeypatch.setattr(index, "build", build)
    monkeypatch.setattr(lexical, "_counted", counted)
    return done


def is_due(collection: Collection) -> bool:
    """Whether its structure is to be built, or kept, anew now."""
    return collection.is_building_due


def files(folder: Path, name: str = "c") -> list[Path]:
    """The two files of a collection."""
    at = folder / "collections" / name
    return [at / kept_structure.NAME, at / kept_words.NAME]


def killed(folder: Path, collection: Collection) -> Path:
    """A folder with what a process leaves that has the collection open and is killed now."""
    copy = folder.with_name(folder.name + "-killed")
    shutil.copytree(folder, copy)
    collection.close()
    return copy


# --- used ---


@KINDS
def test_after_a_kill_nothing_is_made_anew_and_what_came_since_is_there(
    tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collection = make(tmp_path / "a", kind)
    state = change(collection)
    again = opened(killed(tmp_path / "a", collection))
    done = built_anew(monkeypatch)
    require(again, state)
    assert done == []
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    again.close()


def test_lists_that_were_kept_are_trained_anew_when_they_are_outgrown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = make(tmp_path, "ivf")
    more = {f"more {number}": f"more text {number}" for number in range(200)}
    collection.upsert(upsert_of(more, DIMENSION))
    collection.close()
    done = built_anew(monkeypatch)
    require(opened(tmp_path), {**TEXTS, **more})
    assert "structure" in done


def test_a_structure_that_has_grown_is_kept_anew_while_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = make(tmp_path, "hnsw")
    before = files(tmp_path)[0].stat().st_size
    more = {f"more {number}": f"more text {number}" for number in range(25)}
    collection.upsert(upsert_of(more, DIMENSION))
    assert not is_due(collection)
    last = {f"more {number}": f"more text {number}" for number in range(25, 32)}
    collection.upsert(upsert_of(last, DIMENSION))
    more |= last
    assert is_due(collection)
    done = built_anew(monkeypatch)
    use(collection)
    assert "structure" not in done
    assert files(tmp_path)[0].stat().st_size > before
    assert not is_due(collection)
    require(collection, {**TEXTS, **more})
    collection.close()


def test_rebuilding_builds_anew_and_another_kind_takes_nothing_of_the_former(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collection = make(tmp_path, "hnsw")
    done = built_anew(monkeypatch)
    collection.rebuild()
    use(collection)
    assert done == ["structure"]
    collection.rebuild(IndexSpec(DIMENSION, "cosine", "ivf"))
    require(collection, TEXTS)
    collection.rebuild(IndexSpec(DIMENSION, "cosine", "flat"))
    assert not files(tmp_path)[0].exists(), "nothing keeps what nobody reads"
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    collection.close()


def test_they_are_counted_in_the_size_and_go_with_the_collection(tmp_path: Path) -> None:
    collection = make(tmp_path, "hnsw")
    sizes = [each.stat().st_size for each in files(tmp_path)]
    assert all(sizes)
    assert collection.disk_bytes >= sum(sizes)
    assert all(each.stat().st_mode & 0o777 == 0o600 for each in files(tmp_path))
    CollectionStore(tmp_path / "collections").delete(collection)
    assert not any(each.exists() for each in files(tmp_path))


# --- damaged, or another's ---


@pytest.mark.timeout(60 * PATIENCE)
def test_flipped_bits_and_cuts_are_noticed_anywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    collection = make(tmp_path, "hnsw")
    texts = {item.id: item.text or "" for item in collection.index.items()}
    for path, restored in zip(files(tmp_path), (_restored_structure, _restored_words), strict=True):
        assert restored(collection, texts)
        whole = path.read_bytes()
        for at in range(0, len(whole), max(1, len(whole) // 150)):
            caplog.clear()
            with flipped(path, at, at % 8):
                assert not restored(collection, texts), f"byte {at} of {path.name}"
            assert f"{path}: the " in caplog.text
            caplog.clear()
            path.write_bytes(whole[:at])
            assert not restored(collection, texts), f"{path.name} cut at {at}"
            assert f"{path}: the " in caplog.text
            path.write_bytes(whole)
    collection.close()


def _restored_structure(collection: Collection, _: dict[str, str]) -> bool:
    building = index.Building(collection.index.spec, *collection.index.contents(), may_restore=True)
    return collection._structure._restored(building) is not None


def _restored_words(collection: Collection, texts: dict[str, str]) -> bool:
    return collection.words.restored(texts) is not None


def of_another_collection(folder: Path) -> None:
    """The same ids, other texts and vectors."""
    other = make(folder / "other", "hnsw")
    other.upsert(upsert_of({each: f"others' {text}" for each, text in TEXTS.items()}, DIMENSION))
    other.rebuild()
    for path in files(folder / "other"):
        path.unlink(missing_ok=True)
    use(other)
    other.close()
    for theirs, ours in zip(files(folder / "other"), files(folder), strict=True):
        shutil.copy(theirs, ours)


def of_another_dimension(folder: Path) -> None:
    make(folder / "other", "hnsw", dimension=4).close()
    shutil.copy(files(folder / "other")[0], files(folder)[0])


def of_other_parameters(folder: Path) -> None:
    make(folder / "other", "hnsw", m=8).close()
    shutil.copy(files(folder / "other")[0], files(folder)[0])


def the_other_one(folder: Path) -> None:
    structure, words = (path.read_bytes() for path in files(folder))
    files(folder)[0].write_bytes(words)
    files(folder)[1].write_bytes(structure)


def a_pipe(folder: Path) -> None:
    for path in files(folder):
        path.unlink()
        os.mkfifo(path)


@pytest.mark.parametrize(
    ("replace", "why"),
    [
        (of_another_collection, "too much has changed since commit"),
        (of_another_dimension, "it is made with another dimension"),
        (of_other_parameters, "it is made with another m"),
        (the_other_one, "it is made with another "),
        (a_pipe, "it is no regular file"),
    ],
)
def test_another_file_is_not_used_and_the_log_says_why(
    tmp_path: Path, replace: Callable[[Path], None], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "hnsw").close()
    replace(tmp_path)
    caplog.clear()
    collection = opened(tmp_path)
    require(collection, TEXTS)
    assert f"{files(tmp_path)[0]}: the structure that was kept is not used, it is built anew: {why}" in caplog.text
    collection.close()


def test_a_file_of_another_version_of_a_library_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as other:
        other.setattr(structures.faiss, "__version__", "0.0")
        other.setattr(lexical, "K1", 1.25)
        other.setattr(kept_words, "K1", 1.25)
        make(tmp_path, "hnsw").close()
    collection = opened(tmp_path)
    require(collection, TEXTS)
    assert "it is made with another faiss" in caplog.text
    assert "it is made with another k1" in caplog.text
    collection.close()


COMMITS = st.lists(
    st.dictionaries(st.sampled_from(IDS[:20]), st.sampled_from(["a cat", "a dog", "both: cat dog", ""]), max_size=6)
    | st.lists(st.sampled_from(IDS[:20]), max_size=3),
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(commits=COMMITS, kind=st.sampled_from(["hnsw", "ivf"]), back=st.integers(0, 6), data=st.data())
def test_a_file_of_any_other_time_is_put_right(
    tmp_path_factory: pytest.TempPathFactory, commits: list[Any], kind: Kind, back: int, data: st.DataObject
) -> None:
    """Also one of a later time than the collection's, whose file was put back."""
    folder = tmp_path_factory.mktemp("any")
    collection, state = make(folder, kind), dict(TEXTS)
    states, kept = [state], [[path.read_bytes() for path in files(folder)]]
    for commit in commits:
        if isinstance(commit, dict) and commit:
            collection.upsert(upsert_of(commit, DIMENSION))
            state = {**state, **commit}
        elif commit:
            collection.delete(list(commit))
            state = {each: text for each, text in state.items() if each not in commit}
        for path in files(folder):
            path.unlink(missing_ok=True)
        collection.rebuild()
        words = use(collection)
        assert set(words.statistics.ids) == set(state)
        states.append(state)
        kept.append([path.read_bytes() for path in files(folder)])
    collection.close()
    for path, content in zip(files(folder), kept[data.draw(st.integers(0, len(kept) - 1))], strict=True):
        path.write_bytes(content)
    collection = opened(folder)
    assert contents(collection) == state
    words = use(collection)
    for word in ("cat", "dog"):
        assert {id for id, _ in words.search(word).top(1000)} == {
            id for id, text in state.items() if word in text.split()
        }
    found = {match.item.id for match in collection.index.search(vector_of("a cat", DIMENSION), 60, 0.9999)}
    assert found == {id for id, text in state.items() if text == "a cat"}
    collection.close()
    shutil.rmtree(folder)


def take_any_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is taken for its item's, whatever vector it has."""
    kept = restoring._kept

    def of_any_vector(structure: Any, ids: Any, places: Any, vectors: Any) -> Any:
        return [None if each is None else places.pop(each, None) for each in ids]

    assert kept is not None
    monkeypatch.setattr(restoring, "_kept", of_any_vector)


def take_any_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text is taken for the one that was counted."""
    monkeypatch.setattr(kept_words, "_digest", lambda _: b"")


@pytest.mark.parametrize("fault", [take_any_row, take_any_text])
def test_a_planted_fault_is_found(
    tmp_path: Path, fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    collection = make(tmp_path, "hnsw")
    state = change(collection)
    collection.close()
    with pytest.raises(AssertionError):
        require(opened(tmp_path), state)


# --- while it is written ---


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_where_it_cannot_be_written_the_log_says_so_and_the_former_stays(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collection = make(tmp_path, "hnsw")
    before = [path.read_bytes() for path in files(tmp_path)]
    more = {f"more {number}": f"more text {number} cat" for number in range(80)}
    collection.upsert(upsert_of(more, DIMENSION))
    writes = 0

    def write(descriptor: int, data: memoryview) -> int:
        nonlocal writes
        writes += 1
        if writes % 2 == 0:
            raise OSError(number, os.strerror(number))
        return os.write(descriptor, data[:100])

    monkeypatch.setattr(checked_file, "os", types.SimpleNamespace(**{**vars(os), "write": write}))
    require(collection, {**TEXTS, **more})
    assert f"{files(tmp_path)[0]}: the structure is not kept" in caplog.text
    assert f"{files(tmp_path)[1]}: the words are not kept" in caplog.text
    assert [path.read_bytes() for path in files(tmp_path)] == before
    assert not [*tmp_path.rglob("*.part")]
    assert not is_due(collection), "it is not tried again and again"
    collection.close()


def test_it_is_not_written_where_the_disk_has_no_room_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    collection = make(tmp_path, "hnsw")
    require(collection, TEXTS)
    assert not any(each.exists() for each in files(tmp_path))
    assert "bytes, and 1,000 are free" in caplog.text
    collection.close()


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from trunkline.methods.vectors import checked_file
from tests.methods import test_derived_files as here
from trunkline.methods.vectors import kept_structure, kept_words, structures

structures.FLAT_BELOW = kept_structure.LEAST = kept_words.LEAST = 10
folder, name = Path(sys.argv[1]), sys.argv[2]
collection = here.opened(folder)
here.change(collection)
for path in here.files(folder):
    if path.name == name:
        path.unlink()  # so that it is written anew
collection.index.outdate(collection.index.spec)
write, count = checked_file.CheckedFileWriter.write, 0

def killing(self, data):
    global count
    count += 1
    if count == int(sys.argv[3]):
        write(self, memoryview(data)[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, data)

checked_file.CheckedFileWriter.write = killing
here.use(collection)
raise SystemExit("it was not killed")
"""


@pytest.mark.timeout(60 * PATIENCE)
@pytest.mark.parametrize("name", [kept_structure.NAME, kept_words.NAME])
@pytest.mark.parametrize("at", [1, 3])
def test_a_process_that_is_killed_while_it_writes_leaves_nothing_that_is_used(
    tmp_path: Path, name: str, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "hnsw").close()
    program = textwrap.dedent(KILLED_WHILE_WRITING)
    ended = subprocess.run([sys.executable, "-c", program, tmp_path, name, str(at)], check=False, capture_output=True)
    assert ended.returncode == -9, ended.stderr
    assert [*tmp_path.rglob("*.part")]
    collection = opened(tmp_path)
    assert not [*tmp_path.rglob("*.part")], "it was left behind"
    state = {**{each: text for each, text in TEXTS.items() if each != "id 5"}, **CHANGED, "late": "the last cat"}
    require(collection, state)
    collection.close()
