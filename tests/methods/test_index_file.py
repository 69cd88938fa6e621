"""One index file: its format, when it is written, and what is done where it, or the rows beside it, are damaged."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.support.stored_collections import contents, flipped, make, opened, upsert_of  # noqa: E402
from tests.support.timing import until  # noqa: E402
from trunkline.methods import vectors  # noqa: E402
from trunkline.methods.local import LocalMethods  # noqa: E402
from trunkline.methods.vectors import kept_index  # noqa: E402
from trunkline.methods.vectors.changes import Item  # noqa: E402
from trunkline.methods.vectors.collection import Collection  # noqa: E402
from trunkline.methods.vectors.index_file import IndexFileWriter, read_index_file  # noqa: E402
from trunkline.methods.vectors.structures import IndexSpec  # noqa: E402
from trunkline.methods.vectors.touched import Reference, Unusable  # noqa: E402
from trunkline_protocol.errors import RpcError  # noqa: E402

SPEC = IndexSpec(2, "dot")
REFERENCE = Reference("00", 7)
ITEMS = [
    Item("1", "text\n\0", {"a": [1, None, {"b": 1.5}], "n": float("inf")}),
    Item("2"),
    Item("ü \ud800", "", {"i": 2**70, "\ud800": "\ud800"}),
    Item("3", "a", {"i": 2**70}),
]


def written(path: Path, reference: Reference = REFERENCE, spec: IndexSpec = SPEC) -> Path:
    """A file of two parts."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        writer = IndexFileWriter(descriptor, reference, spec)
        writer.add(ITEMS[:2], np.arange(4, dtype=np.float32).reshape(2, 2))
        writer.add(ITEMS[2:], np.arange(4, 8, dtype=np.float32).reshape(2, 2))
        writer.end()
        assert writer.size == path.stat().st_size
    finally:
        os.close(descriptor)
    return path


def file_of(folder: Path) -> Path:
    (path,) = folder.glob("index-*")
    return path


def with_file(folder: Path) -> Path:
    """A collection of a, b and c with an index file, in which b and c are; its folder."""
    path = make(folder, ["a", "b"])
    collection = opened(folder)
    collection.upsert(upsert_of({"c": "text of c"}))
    collection.write_index()
    collection.close()
    return path


def is_loaded(collection: Collection) -> bool:
    return collection.kept.is_unchecked


# --- the format ---


def test_items_of_any_shape_are_read_as_they_were(tmp_path: Path) -> None:
    items, structure = read_index_file(written(tmp_path / "file"), REFERENCE, SPEC, 3)
    assert items == ITEMS
    assert structure.vectors().tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    structure.add(np.zeros((3, 2), dtype=np.float32))
    assert structure.vectors([0, 6]).tolist() == [[0, 1], [0, 0]]


def test_a_flipped_bit_anywhere_makes_it_unusable(tmp_path: Path) -> None:
    path = written(tmp_path / "file")
    for at in range(path.stat().st_size):
        with flipped(path, at, at % 8), pytest.raises(Unusable):
            read_index_file(path, REFERENCE, SPEC, 0)
    assert read_index_file(path, REFERENCE, SPEC, 0)[0] == ITEMS


def test_a_file_that_is_cut_or_longer_is_unusable(tmp_path: Path) -> None:
    path = written(tmp_path / "file")
    whole = path.read_bytes()
    for data in (*(whole[:at] for at in range(len(whole))), whole + b"\0", b"\0" + whole, whole + whole):
        path.write_bytes(data)
        with pytest.raises(Unusable):
            read_index_file(path, REFERENCE, SPEC, 0)


def test_one_that_is_not_there_is_no_trouble_and_the_log_says_when_that_is_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = file_of(with_file(tmp_path))
    path.unlink()
    opened(tmp_path).close()
    (record,) = [each for each in caplog.records if "the index file is not used" in each.message]
    assert record.levelno == logging.INFO
    assert record.message.endswith("it is not there, as after a restore: a backup has none")


@pytest.mark.parametrize("put_there", [os.mkfifo, Path.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_keeps_nobody_waiting_and_is_removed(
    tmp_path: Path, put_there: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = file_of(with_file(tmp_path))
    path.unlink()
    put_there(path)
    collection = opened(tmp_path)
    assert contents(collection) == {each: f"text of {each}" for each in "abc"}
    assert f"{path}: the index file is not used, all rows are read: it is no regular file" in caplog.text
    assert not path.exists()
    collection.close()


@pytest.mark.parametrize(
    ("reference", "spec"),
    [
        (Reference("01", 7), SPEC),
        (Reference("00", 6), SPEC),
        (Reference("00", 8), SPEC),
        (REFERENCE, IndexSpec(1, "dot")),
        (REFERENCE, IndexSpec(2, "cosine")),
    ],
)
def test_another_file_is_unusable(tmp_path: Path, reference: Reference, spec: IndexSpec) -> None:
    with pytest.raises(Unusable, match=r"another"):
        read_index_file(written(tmp_path / "file", reference, spec), REFERENCE, SPEC, 0)


# --- what is read at an opening ---


def test_what_changed_since_is_read_from_the_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = with_file(tmp_path)
    collection = opened(tmp_path)
    collection.upsert(upsert_of({"b": "another text", "d": "text of d"}))
    collection.delete(["a"])
    collection.close()
    collection = opened(tmp_path)
    assert is_loaded(collection)
    assert contents(collection) == {"b": "another text", "c": "text of c", "d": "text of d"}
    assert collection.disk_bytes > file_of(folder).stat().st_size > 0
    collection.close()
    assert not caplog.records


def test_a_file_that_is_not_used_is_said_with_the_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = file_of(with_file(tmp_path))
    with flipped(path, 3, 3):
        collection = opened(tmp_path)
        assert not is_loaded(collection)
        assert contents(collection) == {each: f"text of {each}" for each in "abc"}
        collection.close()
    assert f"{path}: the index file is not used, all rows are read: its vectors from byte 0" in caplog.text
    assert not path.exists()
    caplog.clear()
    opened(tmp_path).close()
    assert not caplog.records


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE touched SET ids = zeroblob(9)",
        "UPDATE touched SET crc = crc + 1",
        "DELETE FROM touched",
        "UPDATE index_file SET position = position + 1",
        "UPDATE index_file SET position = position - 1",
        "DELETE FROM index_file",
    ],
)
def test_where_the_notes_are_not_what_was_written_all_rows_are_read(tmp_path: Path, damage: str) -> None:
    folder = with_file(tmp_path)
    collection = opened(tmp_path)
    collection.delete(["a"])
    collection.close()
    with sqlite3.connect(folder / "collection.sqlite") as file:
        file.execute(damage)
    file.close()
    collection = opened(tmp_path)
    assert not is_loaded(collection)
    assert contents(collection) == {each: f"text of {each}" for each in "bc"}
    collection.close()


def test_a_row_that_changed_since_and_is_damaged_is_an_error(tmp_path: Path) -> None:
    folder = with_file(tmp_path)
    collection = opened(tmp_path)
    collection.upsert(upsert_of({"a": "another text"}))
    collection.close()
    with sqlite3.connect(folder / "collection.sqlite") as file:
        file.execute("UPDATE items SET text = 'x' WHERE id = 'a'")
    file.close()
    with pytest.raises(RpcError) as refused:
        opened(tmp_path)
    assert refused.value.code == 3002


def test_where_much_more_has_changed_than_there_is_the_file_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_index, "LEAST", 0)
    folder = with_file(tmp_path)
    collection = opened(tmp_path)
    for _ in range(4):
        collection.upsert(upsert_of({"a": "another text"}))
    assert not [*folder.glob("index-*")]
    collection.delete(["b"])
    collection.close()
    with sqlite3.connect(folder / "collection.sqlite") as file:
        assert file.execute("SELECT count(*) FROM touched").fetchall() == [(0,)], "what nobody needs is not kept"
    file.close()
    collection = opened(tmp_path)
    assert contents(collection) == {"a": "another text", "c": "text of c"}
    collection.close()


# --- when it is written ---


def test_where_there_is_no_room_none_is_written_and_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = with_file(tmp_path)
    former = file_of(folder)
    collection = opened(tmp_path)
    monkeypatch.setattr(kept_index, "ROOM", 2**60)
    for number in range(3):
        collection.upsert(upsert_of({f"{number}": "text"}))
        collection.write_index()
    assert file_of(folder) == former
    collection.close()
    assert caplog.text.count("no new index file is written") == 1
    collection = opened(tmp_path)
    assert is_loaded(collection)
    assert len(collection.index) == 6
    collection.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_index, "LEAST", 5)


async def put(methods: LocalMethods, *ids: str) -> None:
    items = [{"id": each, "vector": [1, 2], "text": f"text of {each}"} for each in ids]
    await methods.call("vectors.upsert", {"collection": "c", "items": items})


async def search(methods: LocalMethods) -> Any:
    found = await methods.call("vectors.search", {"collection": "c", "vector": [1, 2], "top_k": 100})
    return {each["id"] for each in found["matches"]}


async def test_it_is_written_beside_searches_and_changes(tmp_path: Path, soon: None) -> None:
    folder = tmp_path / "collections" / "c"
    async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
        await methods.call("collections.create", {"name": "c", "dimension": 2})
        await put(methods, "a", "b")
        await put(methods, *map(str, range(10)))
        await until(lambda: len([*folder.glob("index-" + "?" * 32)]) == 1, "the index file is there")
        (first,) = folder.glob("index-*")
        assert stat.S_IMODE(first.stat().st_mode) == 0o600
        await methods.call("vectors.delete", {"collection": "c", "ids": ["a"]})
        await put(methods, *map(str, range(10, 40)))
        await until(lambda: not first.exists(), "there is another one")
        await methods.call("vectors.delete", {"collection": "c", "ids": ["b"]})
        there = await search(methods)
    async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
        assert await search(methods) == there == {*map(str, range(40))}
        await methods.call("collections.delete", {"name": "c"})
        assert not folder.exists()


async def test_an_owner_that_ends_while_it_writes_leaves_nothing_behind(
    tmp_path: Path, soon: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kept_index, "AT_ONCE", 1)
    folder = tmp_path / "collections" / "c"
    async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
        await methods.call("collections.create", {"name": "c", "dimension": 2})
        await put(methods, *map(str, range(1000)))
        await until(lambda: [*folder.glob("index-*.part")] != [], "it is being written")
    assert not caplog.records
    await until(lambda: not [*folder.glob("index-*")], "nothing is left")
    async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
        assert len(await search(methods)) == 100
        await until(lambda: len([*folder.glob("index-*")]) == 1, "it is written after all")


async def test_damaged_rows_are_found_beside(tmp_path: Path, soon: None, caplog: pytest.LogCaptureFixture) -> None:
    folder = with_file(tmp_path)
    with sqlite3.connect(folder / "collection.sqlite") as file:
        file.execute("UPDATE items SET text = 'x' WHERE id = 'a'")
    file.close()
    with caplog.at_level(logging.WARNING):
        async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
            assert await search(methods) == {"a", "b", "c"}
            await until(lambda: "it is closed" in caplog.text, "the damage is found")
            with pytest.raises(RpcError, match="item b'a' is not what was written") as refused:
                await search(methods)
            assert refused.value.code == 3002
    assert [*folder.glob("index-*.refused")], "it may be of use to somebody"
