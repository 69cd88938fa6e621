"""Collections that are exported, imported, rebuilt and handed over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.support.timing import PATIENCE  # noqa: E402
from tests.support.vectors import nearest, put, refused, serve  # noqa: E402
from trunkline.methods import vectors  # noqa: E402
from trunkline.methods.local import LocalMethods  # noqa: E402
from trunkline.methods.vectors import structures  # noqa: E402


@pytest.fixture
async def methods(tmp_path: Path) -> AsyncIterator[LocalMethods]:
    async with serve(tmp_path) as local:
        await local.call("collections.create", {"name": "flat", "dimension": 2})
        await local.call("collections.create", {"name": "texts"})
        yield local


async def moved(methods: LocalMethods, source: str, target: str) -> Any:
    """Export one collection and import it into another."""
    pages = [chunk.data async for chunk in methods.stream("collections.export", {"name": source})]
    return await methods.call("collections.import", {"name": target}, input=pages)


async def test_an_export_can_be_imported(methods: LocalMethods) -> None:
    random = np.random.default_rng(1)
    for start in range(0, 1000, 500):
        await put(methods, "flat", *(
            {"id": f"{n}", "vector": random.normal(size=2).tolist(), "metadata": {"n": n}, "text": f"text {n}"}
            for n in range(start, start + 500)
        ))  # fmt: skip
    export = methods.stream("collections.export", {"name": "flat"})
    pages = [chunk.data["items"] async for chunk in export]
    assert export.result == {"exported": 1000}
    assert len(pages) > 1
    await methods.call("collections.create", {"name": "copy", "dimension": 2})
    assert await moved(methods, "flat", "copy") == {"imported": 1000}
    assert await moved(methods, "flat", "copy") == {"imported": 1000}, "again is harmless"
    copies = [chunk.data["items"] async for chunk in methods.stream("collections.export", {"name": "copy"})]
    original, copy = ({item["id"]: item for page in each for item in page} for each in (pages, copies))
    assert copy == original, "bit by bit"


async def test_pages_of_an_export_are_bounded_in_bytes(methods: LocalMethods) -> None:
    await put(methods, "flat", *({"id": f"{n}", "vector": [1, n], "text": "x" * 100_000} for n in range(10)))
    pages = [chunk.data["items"] async for chunk in methods.stream("collections.export", {"name": "flat"})]
    assert [len(page) for page in pages] == [2] * 5
    await put(methods, "flat", {"id": "0", "vector": [1, 0], "text": "x" * 1_000_000})
    pages = [chunk.data["items"] async for chunk in methods.stream("collections.export", {"name": "flat"})]
    assert sum(map(len, pages)) == 10, "what is larger than a page is a page of its own"


async def test_texts_can_be_imported_one_by_one(methods: LocalMethods) -> None:
    items = [{"id": "1", "text": "the cat sat"}, {"id": "2", "text": "a dog ran"}, {"id": "1", "text": "a cat ran"}]
    assert await methods.call("collections.import", {"name": "texts"}, input=items) == {"imported": 2}
    found = (await methods.call("vectors.search", {"collection": "texts", "text": "cat", "top_k": 1}))["matches"]
    assert found[0]["text"] == "a cat ran", "of one id the last counts"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"id": "x", "vector": [1]}, "collections.import: item 1 of the input.vector has 1 numbers"),
        ({"id": "x"}, "collections.import: item 1 of the input has neither vector nor text"),
        ({"items": [{"id": "x", "vector": [0, 0]}]}, r"item 1 of the input: items\[0\].vector is all zeros"),
        ({"id": "x", "vector": [1, 1], "metadata": {"a": 2**53}}, "item 1 of the input.metadata cannot be kept"),
        ({"vector": [1, 1]}, "item 1 of the input: "),
        (7, "item 1 of the input: "),
    ],
)
async def test_a_bad_item_ends_an_import_and_is_named(methods: LocalMethods, bad: Any, says: str) -> None:
    good = {"id": "a", "vector": [1, 0]}
    await refused(-32602, says, methods.call("collections.import", {"name": "flat"}, input=[good, bad]))


async def test_rebuilding_can_change_the_kind_of_index(
    methods: LocalMethods, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(structures, "FLAT_BELOW", 200)
    random = np.random.default_rng(2)
    rows = random.normal(size=(400, 2))
    await put(methods, "flat", *({"id": f"{n}", "vector": row.tolist()} for n, row in enumerate(rows)))
    expected = await nearest(methods, "flat", vector=[1, 2], top_k=10)
    for index, search in (
        ({"kind": "hnsw", "m": 8}, "approximate"),
        ({"kind": "ivf"}, "approximate"),
        ({"kind": "flat"}, "exact"),
    ):
        stats = await methods.call("collections.rebuild", {"name": "flat", "index": index})
        assert (stats["index"], stats["search"], stats["building"]) == (index, search, False)
        assert len({*await nearest(methods, "flat", vector=[1, 2], top_k=10)} & {*expected}) >= 8
    await methods.call("collections.rebuild", {"name": "flat", "index": {"kind": "hnsw"}})
    wrong = methods.call("collections.rebuild", {"name": "flat", "index": {"kind": "ivf", "m": 3}})
    await refused(-32602, "index.m", wrong)
    assert (await methods.call("collections.rebuild", {"name": "flat"}))["index"] == {"kind": "hnsw"}, "as it was"
    await methods.__aexit__(None, None, None)
    async with serve(tmp_path) as again:
        assert await nearest(again, "flat", vector=[1, 2], top_k=10) == expected, "exact until it is built"
        assert (await settled(again, "flat"))["search"] == "approximate"
        assert len(await nearest(again, "flat", vector=[1, 2], top_k=10)) == 10


async def settled(methods: LocalMethods, name: str) -> Any:
    """Its stats, when nothing is being built."""

    async def built() -> Any:
        stats = await methods.call("collections.stats", {"name": name})
        return None if stats["building"] else stats

    for _ in range(int(PATIENCE / 0.02)):
        if stats := await built():
            return stats
        await asyncio.sleep(0.02)
    raise AssertionError("it is still being built")


async def test_tombstones_are_cleared_away_beside(methods: LocalMethods, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "FLAT_BELOW", 200)
    random = np.random.default_rng(3)
    await methods.call("collections.create", {"name": "c", "dimension": 8, "index": {"kind": "hnsw"}})
    there = {f"{n}": row for n, row in enumerate(random.normal(size=(500, 8)).tolist())}
    await put(methods, "c", *({"id": each, "vector": row} for each, row in there.items()))
    assert (await settled(methods, "c"))["search"] == "approximate"
    gone = [f"{n}" for n in range(0, 500, 3)]
    assert await methods.call("vectors.delete", {"collection": "c", "ids": gone}) == {"deleted": len(gone)}
    for each in gone:
        del there[each]
    assert (await settled(methods, "c"))["tombstones"] == 0
    found = await nearest(methods, "c", vector=[1.0] * 8, top_k=1000)
    assert sorted(found) == sorted(there)


async def test_an_index_that_cannot_be_built_is_no_end(
    methods: LocalMethods, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise MemoryError("no room for a graph")

    monkeypatch.setattr(structures, "FLAT_BELOW", 20)
    with monkeypatch.context() as broken:
        broken.setattr(structures, "Graph", fail)
        await methods.call("collections.create", {"name": "c", "dimension": 2, "index": {"kind": "hnsw"}})
        for start in (0, 50):
            await put(methods, "c", *({"id": f"{n}", "vector": [n, 1]} for n in range(start, start + 50)))
        assert (await settled(methods, "c"))["search"] == "exact"
        assert len(await nearest(methods, "c", vector=[1, 1], top_k=100)) == 100
    assert caplog.text.count("an index could not be built") == 1, "it is not tried again and again"
    assert (await methods.call("collections.rebuild", {"name": "c"}))["search"] == "approximate", "until one says so"


async def test_what_is_released_while_it_is_being_built_is_let_go_of_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(structures, "FLAT_BELOW", 20)
    begun, go_on = threading.Event(), threading.Event()
    fill = structures._fill

    def slowly(index: Any, rows: Any, wanted: Any) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        fill(index, rows, wanted)

    monkeypatch.setattr(structures, "_fill", slowly)
    async with serve(tmp_path) as methods:
        pack = next(each for each in methods._registry.instances if isinstance(each, vectors.VectorMethods))
        await methods.call("collections.create", {"name": "c", "dimension": 2, "index": {"kind": "hnsw"}})
        await put(methods, "c", *({"id": f"{n}", "vector": [n, 1]} for n in range(50)))
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        assert (await methods.call("collections.stats", {"name": "c"}))["building"]
        await put(methods, "c", {"id": "during", "vector": [0, 1]})
        assert set(await nearest(methods, "c", vector=[0, 1], top_k=2)) == {"0", "during"}
        await pack.release(lambda key: key == "c")
        go_on.set()
        async with serve(tmp_path) as other:
            assert len(await nearest(other, "c", vector=[0, 1], top_k=100)) == 51


async def test_what_is_released_is_let_go_of_and_the_rest_is_kept(tmp_path: Path) -> None:
    async with serve(tmp_path) as methods:
        pack = next(each for each in methods._registry.instances if isinstance(each, vectors.VectorMethods))
        await methods.call("collections.create", {"name": "kept", "dimension": 2})
        await methods.call("collections.create", {"name": "given", "dimension": 2})
        await put(methods, "kept", {"id": "a", "vector": [1, 0]})
        await put(methods, "given", {"id": "a", "vector": [1, 0]})
        await pack.release(lambda key: key == "given")
        async with serve(tmp_path) as other:
            assert await nearest(other, "given", vector=[1, 0]) == ["a"], "another executor can open it"
            await put(other, "given", {"id": "b", "vector": [1, 0]})
            assert await nearest(methods, "kept", vector=[1, 0]) == ["a"]
        assert set(await nearest(methods, "given", vector=[1, 0])) == {"a", "b"}, "it can come back"
