"""``collections.*`` and ``vectors.*`` as a caller sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.support.vectors import base64_of, nearest, put, refused, serve  # noqa: E402
from trunkline.methods import vectors  # noqa: E402
from trunkline.methods.local import LocalMethods  # noqa: E402
from trunkline.methods.registry import Registry  # noqa: E402
from trunkline_protocol.errors import RpcError  # noqa: E402


def nested(depth: int) -> dict[str, Any]:
    return {"a": nested(depth - 1)} if depth else {}


@pytest.fixture
async def methods(tmp_path: Path) -> AsyncIterator[LocalMethods]:
    async with serve(tmp_path) as local:
        await local.call("collections.create", {"name": "flat", "dimension": 2})
        await local.call("collections.create", {"name": "texts"})
        yield local


async def test_every_method_of_a_collection_has_one_owner() -> None:
    registry = Registry()
    registry.add_module(vectors)
    keys = {name: bound.info.routing_key for name, bound in registry.methods.items()}
    assert keys == {
        "collections.create": "name",
        "collections.list": None,
        "collections.stats": "name",
        "collections.delete": "name",
        "collections.rebuild": "name",
        "collections.export": "name",
        "collections.import": "name",
        "vectors.hybrid": "collection",
        "vectors.lexical": "collection",
        "vectors.claim": "collection",
        "vectors.upsert": "collection",
        "vectors.delete": "collection",
        "vectors.get": "collection",
        "vectors.missing": "collection",
        "vectors.search": "collection",
    }


async def test_a_collection_for_texts_takes_model_and_dimension_of_the_embeddings(methods: LocalMethods) -> None:
    stats = await methods.call("collections.stats", {"name": "texts"})
    assert stats.pop("version")
    assert 0 < stats.pop("bytes") < 100_000, "empty tables"
    assert stats == {
        "name": "texts", "dimension": 256, "model": "words", "metadata": {}, "format_version": 3,
        "metric": "cosine", "index": {"kind": "flat"}, "count": 0, "tombstones": 0, "position": 0,
        "search": "exact", "building": False,
    }  # fmt: skip


async def test_texts_are_found_by_texts(methods: LocalMethods) -> None:
    assert await put(
        methods,
        "texts",
        {"id": "1", "text": "the cat sat", "metadata": {"page": 1}},
        {"id": "2", "text": "a dog ran"},
    ) == {"upserted": 2}
    found = await methods.call("vectors.search", {"collection": "texts", "text": "cat", "top_k": 1})
    assert found == {
        "matches": [{"id": "1", "score": pytest.approx(3**-0.5), "text": "the cat sat", "metadata": {"page": 1}}]
    }


async def test_vectors_are_compared_by_cosine(methods: LocalMethods) -> None:
    await put(methods, "flat", {"id": "far", "vector": [100, 1]}, {"id": "near", "vector": [0, 0.01], "text": "kept"})
    found = (await methods.call("vectors.search", {"collection": "flat", "vector": [0, 7]}))["matches"]
    assert found[0] == {"id": "near", "score": pytest.approx(1), "text": "kept", "metadata": {}}
    assert "text" not in found[1]


async def test_an_item_with_a_known_id_replaces_it(methods: LocalMethods) -> None:
    await put(methods, "flat", {"id": "a", "vector": [1, 0]}, {"id": "b", "vector": [0, 1]})
    await put(methods, "flat", {"id": "a", "vector": [0, -1]})
    assert await nearest(methods, "flat", vector=[0, -1]) == ["a", "b"]
    assert (await methods.call("collections.stats", {"name": "flat"}))["count"] == 2


@pytest.mark.parametrize(("metric", "scores"), [("dot", [8, 2, 0]), ("euclidean", [0, -1, -3])])
async def test_vectors_are_compared_by_other_metrics(methods: LocalMethods, metric: str, scores: list[float]) -> None:
    await methods.call("collections.create", {"name": "c", "dimension": 2, "metric": metric})
    rows = {"dot": ([4, 1], [1, 0], [0, 5]), "euclidean": ([2, 0], [1, 0], [-1, 0])}[metric]
    await put(methods, "c", *({"id": f"{at}", "vector": row} for at, row in enumerate(rows)))
    found = (await methods.call("vectors.search", {"collection": "c", "vector": [2, 0]}))["matches"]
    assert [(match["id"], match["score"]) for match in found] == [(f"{at}", score) for at, score in enumerate(scores)]
    enough = {"vector": [2, 0], "min_score": scores[1]}
    assert await nearest(methods, "c", **enough) == ["0", "1"]


async def test_vectors_may_be_base64(methods: LocalMethods) -> None:
    await put(methods, "flat", {"id": "a", "vector": base64_of(3, 0)}, {"id": "b", "vector": [0, 1]})
    assert await nearest(methods, "flat", vector=base64_of(2, 1)) == ["a", "b"]
    await refused(-32602, "vectors.search: vector has 1 numbers", nearest(methods, "flat", vector=base64_of(1)))


async def test_deleted_items_are_gone_at_once_and_stay_gone(methods: LocalMethods, tmp_path: Path) -> None:
    await put(methods, "flat", *({"id": f"{n}", "vector": [n, 1], "metadata": {"n": n}} for n in range(6)))
    delete = "vectors.delete"
    assert await methods.call(delete, {"collection": "flat", "ids": ["0", "x", "0"]}) == {"deleted": 1}
    assert await methods.call(delete, {"collection": "flat", "filter": {"n": {"$gte": 4}}}) == {"deleted": 2}
    assert await methods.call(delete, {"collection": "flat", "filter": {"n": 4}}) == {"deleted": 0}
    assert set(await nearest(methods, "flat", vector=[1, 1])) == {"1", "2", "3"}
    await refused(-32602, "either ids or filter", methods.call(delete, {"collection": "flat"}))
    await refused(-32602, "either ids or filter", methods.call(delete, {"collection": "flat", "ids": [], "filter": {}}))
    await refused(-32602, "empty filter matches every item", methods.call(delete, {"collection": "flat", "filter": {}}))
    wrong = methods.call(delete, {"collection": "flat", "filter": {"n": {"$above": 1}}})
    await refused(-32602, r"vectors.delete: filter\.n\.\$above: no operator", wrong)
    methods_again = serve(tmp_path)
    await methods.__aexit__(None, None, None)
    async with methods_again:
        assert set(await nearest(methods_again, "flat", vector=[1, 1])) == {"1", "2", "3"}


async def test_a_search_can_be_narrowed_by_metadata(methods: LocalMethods) -> None:
    years = [2019, 2020, 2021, "2022", None]
    await put(methods, "flat", *(
        {"id": f"{year}", "vector": [1, at], "metadata": {"year": year, "tags": ["a", f"t{at}"]}}
        for at, year in enumerate(years)
    ))  # fmt: skip
    assert await nearest(methods, "flat", vector=[1, 0], filter={"year": {"$gte": 2020}}) == ["2020", "2021"]
    assert await nearest(methods, "flat", vector=[1, 0], filter={"tags": "t3"}) == ["2022"]
    assert await nearest(methods, "flat", vector=[1, 0], filter={"tags": "a"}, top_k=2) == ["2019", "2020"]
    assert await nearest(methods, "flat", vector=[1, 0], filter={}) == [f"{year}" for year in years]
    wrong = {"$and": [{"tags": "a"}, {"year": {"$gte": None}}]}
    says = r"vectors.search: filter\.\$and\[1\]\.year\.\$gte: a number or a string was expected, not null"
    await refused(-32602, says, nearest(methods, "flat", vector=[1, 0], filter=wrong))
    await refused(-32602, "filter", nearest(methods, "flat", vector=[1, 0], filter=[]))


async def test_items_are_given_back_as_they_are(methods: LocalMethods) -> None:
    await put(methods, "flat", {"id": "a", "vector": [3, 4], "text": "kept", "metadata": {"n": 1}})
    asked = {"collection": "flat", "ids": ["x", "a"]}
    a = {"id": "a", "text": "kept", "metadata": {"n": 1}}
    assert await methods.call("vectors.get", asked) == {"items": [None, a]}
    unit = np.array([0.6, 0.8], dtype="<f4")
    got = await methods.call("vectors.get", {**asked, "vectors": True})
    assert got == {"items": [None, {**a, "vector": base64_of(*unit)}]}


async def test_too_many_vectors_for_one_answer_are_refused(methods: LocalMethods) -> None:
    await methods.call("collections.create", {"name": "wide", "dimension": 16_384})
    ids = [f"{n}" for n in range(200)]
    wanted = {"collection": "wide", "ids": ids, "vectors": True}
    await refused(-32602, "ids: 200 vectors of 16384 numbers .* ask for 128", methods.call("vectors.get", wanted))
    items = [{"id": f"{n}", "vector": [1, 0]} for n in range(5000)]
    await refused(-32602, "items.*4096", put(methods, "flat", *items))


async def test_missing_names_what_is_not_there(methods: LocalMethods) -> None:
    await put(methods, "flat", {"id": "a", "vector": [1, 0]})
    assert await methods.call("vectors.missing", {"collection": "flat", "ids": ["z", "a", "y"]}) == {"ids": ["z", "y"]}


async def test_creating_the_same_again_is_fine_and_another_is_not(methods: LocalMethods) -> None:
    again = await methods.call("collections.create", {"name": "flat", "dimension": 2, "metric": "cosine"})
    assert not again["created"]
    assert not (await methods.call("collections.create", {"name": "texts"}))["created"]
    create = "collections.create"
    await refused(4001, "dimension 2, not 3", methods.call(create, {"name": "flat", "dimension": 3}))
    await refused(4001, "dimension 2, not 256", methods.call(create, {"name": "flat"}))
    different = methods.call(create, {"name": "flat", "dimension": 2, "metadata": {"a": 1}})
    await refused(4001, "metadata {}, not {'a': 1}.*collections.delete", different)
    different = methods.call(create, {"name": "flat", "dimension": 2, "metric": "dot"})
    await refused(4001, "metric 'cosine', not 'dot'", different)
    different = methods.call(create, {"name": "flat", "dimension": 2, "index": {"kind": "hnsw", "m": 8}})
    await refused(4001, "index {'kind': 'flat'}, not {'kind': 'hnsw', 'm': 8}", different)


async def test_what_is_not_given_need_not_be_the_same(methods: LocalMethods) -> None:
    described = {"name": "own", "dimension": 2, "metric": "dot", "index": {"kind": "ivf"}, "metadata": {"a": 1}}
    assert (await methods.call("collections.create", described))["created"]
    again = await methods.call("collections.create", {"name": "own", "dimension": 2})
    assert not again["created"]
    assert {name: again[name] for name in described} == described


async def test_an_index_that_cannot_be_is_refused(methods: LocalMethods) -> None:
    async def create(**index: Any) -> Any:
        return await methods.call("collections.create", {"name": "c", "dimension": 2, "index": index})

    await refused(-32602, "index.m: an index of kind flat has no such parameter", create(kind="flat", m=16))
    await refused(-32602, "index.m: 1 is no whole number from 4 to 128", create(kind="hnsw", m=1))
    await refused(-32602, "index.kind", create(kind="tree"))
    await refused(-32602, "index.M", create(kind="hnsw", M=16))
    metadata = {"name": "c", "dimension": 2, "metadata": {"a": 2**60}}
    await refused(-32602, "collections.create: metadata cannot", methods.call("collections.create", metadata))
    assert [each["name"] for each in (await methods.call("collections.list"))["collections"]] == ["flat", "texts"]


async def test_two_who_create_at_once_both_have_it(methods: LocalMethods) -> None:
    create = {"name": "c", "dimension": 2}
    both = await asyncio.gather(*(methods.call("collections.create", create) for _ in range(2)))
    assert sorted(each["created"] for each in both) == [False, True]


async def test_deleting_removes_everything(methods: LocalMethods, tmp_path: Path) -> None:
    await put(methods, "flat", {"id": "a", "vector": [1, 0]})
    assert await methods.call("collections.delete", {"name": "flat"}) == {"name": "flat", "deleted": True}
    assert [each["name"] for each in (await methods.call("collections.list"))["collections"]] == ["texts"]
    assert [path.name for path in (tmp_path / "collections").iterdir()] == ["texts"]
    await refused(4001, "collections.create first", nearest(methods, "flat", vector=[1, 0]))
    await methods.call("collections.create", {"name": "flat", "dimension": 3})
    assert await nearest(methods, "flat", vector=[1, 0, 0]) == []


async def test_an_unknown_collection_says_what_to_do(methods: LocalMethods) -> None:
    unknown = "there is no collection 'none': call collections.create first"
    await refused(4001, unknown, put(methods, "none", {"id": "a", "vector": [1, 0]}))
    await refused(4001, unknown, nearest(methods, "none", text="x"))
    await refused(4001, unknown, methods.call("vectors.missing", {"collection": "none", "ids": []}))
    await refused(4001, unknown, methods.call("collections.stats", {"name": "none"}))
    await refused(4001, unknown, methods.call("collections.delete", {"name": "none"}))
    await refused(4001, unknown, methods.call("collections.rebuild", {"name": "none"}))
    await refused(4001, unknown, methods.call("collections.import", {"name": "none"}, input=[]))
    await refused(4001, unknown, methods.call("vectors.delete", {"collection": "none", "ids": ["a"]}))
    await refused(4001, unknown, methods.call("vectors.get", {"collection": "none", "ids": ["a"]}))
    with pytest.raises(RpcError, match=unknown):
        [_ async for _ in methods.stream("collections.export", {"name": "none"})]


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a\0", "a\n", "x" * 65, "ü"])
async def test_names_that_could_leave_the_folder_are_refused(methods: LocalMethods, name: str) -> None:
    await refused(-32602, "name", methods.call("collections.create", {"name": name, "dimension": 2}))


@pytest.mark.parametrize(
    ("item", "code", "says"),
    [
        ({"id": "x"}, -32602, r"items\[1\] has neither vector nor text"),
        ({"id": "x", "vector": [1]}, -32602, r"items\[1\].vector has 1 numbers; the collection's dimension is 2"),
        ({"id": "x", "vector": [0, 0]}, -32602, r"items\[1\].vector is all zeros"),
        ({"id": "x", "vector": [1e300, 0]}, -32602, r"items\[1\].vector has a number that is not finite"),
        ({"id": "x", "vector": []}, -32602, r"items\[1\].vector has 0 numbers"),
        ({"id": "a", "vector": [1, 1]}, -32602, "id 'a' is given twice"),
        ({"id": "", "vector": [1, 1]}, -32602, "items.1.id"),
        ({"id": "x", "vector": [1, 1], "colour": 1}, -32602, "items.1.colour"),
        ({"id": "x", "text": "words"}, 4001, "dimension 2, and words makes vectors of 256"),
        ({"id": "x", "vector": "AACAPw=="}, -32602, r"items\[1\].vector has 1 numbers"),
        ({"id": "x", "vector": "AACAPwAAwH8="}, -32602, r"items\[1\].vector has a number that is not finite"),
        ({"id": "x", "vector": "not base64"}, -32602, r"items\[1\].vector is no base64 of little-endian float32"),
        ({"id": "x", "vector": [1, "a"]}, -32602, "items.1.vector"),
        (
            {"id": "x", "vector": [1, 1], "metadata": {"a": "x" * 70_000}},
            -32602,
            r"items\[1\].metadata has 70,008 bytes",
        ),
        (
            {"id": "x", "vector": [1, 1], "metadata": {"a": 2**53}},
            -32602,
            r"items\[1\].metadata cannot be kept as it is",
        ),
        (
            {"id": "x", "vector": [1, 1], "metadata": nested(300)},
            1003,
            "what JSON cannot carry",
        ),
    ],
)
async def test_one_bad_item_refuses_the_upsert(methods: LocalMethods, item: Any, code: int, says: str) -> None:
    await refused(code, says, put(methods, "flat", {"id": "a", "vector": [1, 0]}, item))
    assert await nearest(methods, "flat", vector=[1, 0]) == []


async def test_a_search_is_for_a_text_or_a_vector(methods: LocalMethods) -> None:
    await refused(-32602, "either text or vector", nearest(methods, "flat"))
    await refused(-32602, "either text or vector", nearest(methods, "flat", text="a", vector=[1, 0]))
    await refused(-32602, "dimension is 2", nearest(methods, "flat", vector=[1, 0, 0]))
    await refused(4001, "dimension 2", nearest(methods, "flat", text="a"))
    await refused(4001, "vectors of words, and this is one of other", nearest(
        methods, "texts", vector=[1.0] * 256, model="other"
    ))  # fmt: skip


async def test_the_first_text_decides_the_model_of_a_collection_of_vectors(tmp_path: Path) -> None:
    async with serve(tmp_path, dimension=4) as methods:
        await methods.call("collections.create", {"name": "mixed", "dimension": 4})
        await put(methods, "mixed", {"id": "a", "vector": [1, 0, 0, 0]})
        assert (await methods.call("collections.stats", {"name": "mixed"}))["model"] is None
        await put(methods, "mixed", {"id": "b", "text": "b"})
        assert not (await methods.call("collections.create", {"name": "mixed", "dimension": 4}))["created"]
    async with serve(tmp_path, dimension=4, model="other") as methods:
        await refused(4001, "vectors of words, and this is one of other", nearest(methods, "mixed", text="b"))
        await refused(4001, "TRUNKLINE_MODEL", put(methods, "mixed", {"id": "c", "text": "c"}))
        assert await nearest(methods, "mixed", vector=[1, 0, 0, 0], top_k=1) == ["a"]
        await refused(4001, "model 'words', not 'other'", methods.call("collections.create", {"name": "mixed"}))


async def test_of_upserts_of_one_id_the_one_that_came_last_counts(tmp_path: Path) -> None:
    async def text_of(methods: LocalMethods, text: str) -> str:
        found = await methods.call("vectors.search", {"collection": "c", "text": text, "top_k": 1})
        return str(found["matches"][0]["text"])

    gate = asyncio.Event()
    async with serve(tmp_path, gate=gate) as methods:
        await methods.call("collections.create", {"name": "c"})
        slow = asyncio.ensure_future(put(methods, "c", {"id": "a", "text": "wait old"}, {"id": "b", "text": "b"}))
        await asyncio.sleep(0)
        assert await put(methods, "c", {"id": "a", "text": "new"}) == {"upserted": 1}, "it is not held up"
        assert not slow.done()
        gate.set()
        assert await slow == {"upserted": 2}
        assert (await text_of(methods, "old"), await text_of(methods, "b")) == ("new", "b")
    async with serve(tmp_path) as methods:
        assert (await text_of(methods, "old"), await text_of(methods, "b")) == ("new", "b")


async def test_deletes_have_their_place_in_the_order_too(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with serve(tmp_path, gate=gate) as methods:
        await methods.call("collections.create", {"name": "c"})
        ids = {"collection": "c", "ids": ["a"]}
        slow = asyncio.ensure_future(put(
            methods, "c", {"id": "a", "text": "wait"}, {"id": "b", "text": "b", "metadata": {"n": 1}},
            {"id": "c", "text": "c"}, {"id": "d", "text": "d", "metadata": {"n": 1}},
        ))  # fmt: skip
        await asyncio.sleep(0)
        assert await methods.call("vectors.delete", ids) == {"deleted": 0}
        assert await methods.call("vectors.delete", {"collection": "c", "filter": {"n": 1}}) == {"deleted": 0}
        await put(methods, "c", {"id": "d", "text": "later"})
        assert not slow.done()
        gate.set()
        await slow
        assert await methods.call("vectors.missing", {"collection": "c", "ids": ["a", "b", "c", "d"]}) == {
            "ids": ["a", "b"]
        }
        assert (await methods.call("vectors.get", {"collection": "c", "ids": ["d"]}))["items"][0]["text"] == "later"


async def test_a_failed_upsert_supersedes_nothing(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with serve(tmp_path, gate=gate) as methods:
        await methods.call("collections.create", {"name": "c"})
        slow = asyncio.ensure_future(put(methods, "c", {"id": "a", "text": "wait old"}))
        await asyncio.sleep(0)
        await refused(-32602, "is all zeros", put(methods, "c", {"id": "a", "vector": [0.0] * 256}))
        gate.set()
        await slow
        assert await nearest(methods, "c", text="old") == ["a"]


class Gate(asyncio.Event):
    """An event that tells that somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    async def wait(self) -> Literal[True]:
        self.reached.set()
        return await super().wait()


async def test_a_cancelled_upsert_is_not_applied(tmp_path: Path) -> None:
    gate = Gate()
    async with serve(tmp_path, gate=gate) as methods:
        await methods.call("collections.create", {"name": "c"})
        slow = asyncio.ensure_future(put(methods, "c", {"id": "a", "text": "wait"}))
        await gate.reached.wait()
        slow.cancel()
        gate.set()
        await put(methods, "c", {"id": "b", "text": "b"})
        assert await methods.call("vectors.missing", {"collection": "c", "ids": ["a", "b"]}) == {"ids": ["a"]}


async def test_an_upsert_does_not_reach_a_collection_that_was_made_anew_meanwhile(tmp_path: Path) -> None:
    gate = Gate()
    async with serve(tmp_path, gate=gate) as methods:
        await methods.call("collections.create", {"name": "c"})
        slow = asyncio.ensure_future(put(methods, "c", {"id": "a", "text": "wait"}))
        await gate.reached.wait()
        await methods.call("collections.delete", {"name": "c"})
        await methods.call("collections.create", {"name": "c"})
        gate.set()
        await refused(4001, "was deleted while", slow)
        assert (await methods.call("collections.stats", {"name": "c"}))["count"] == 0


async def test_many_at_once(methods: LocalMethods) -> None:
    await asyncio.gather(*(put(methods, "texts", {"id": f"{i % 50}", "text": f"n{i}"}) for i in range(200)))
    assert (await methods.call("collections.stats", {"name": "texts"}))["count"] == 50
    found = await methods.call("vectors.search", {"collection": "texts", "text": "n199", "top_k": 1})
    assert found["matches"][0]["id"] == "49"


async def test_without_embeddings_vectors_still_work(tmp_path: Path) -> None:
    async with LocalMethods(vectors, settings={"data_dir": str(tmp_path)}) as methods:
        await methods.call("collections.create", {"name": "c", "dimension": 2})
        await put(methods, "c", {"id": "a", "vector": [1, 0]})
        assert await nearest(methods, "c", vector=[1, 0]) == ["a"]
        await refused(-32601, "embeddings.create", methods.call("collections.create", {"name": "d"}))


async def test_the_data_folder_has_to_be_set() -> None:
    with pytest.raises(RpcError, match="TRUNKLINE_DATA"):
        async with LocalMethods(vectors):
            pass
