"""``collections.*`` and ``vectors.*`` as a caller sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("faiss")

from tests.methods.packs import word_embeddings
from trunkline.methods import vectors
from trunkline.methods.local import LocalMethods
from trunkline.methods.registry import Registry
from trunkline_protocol.errors import RpcError


def serve(folder: Path, **settings: Any) -> LocalMethods:
    return LocalMethods(word_embeddings, vectors, settings={"data_dir": str(folder), **settings})


@pytest.fixture
async def methods(tmp_path: Path) -> AsyncIterator[LocalMethods]:
    async with serve(tmp_path) as local:
        await local.call("collections.create", {"name": "flat", "dimension": 2})
        await local.call("collections.create", {"name": "texts"})
        yield local


async def refused(code: int, says: str, call: Any) -> RpcError:
    with pytest.raises(RpcError, match=says) as caught:
        await call
    assert caught.value.code == code, caught.value
    return caught.value


async def put(methods: LocalMethods, collection: str, *items: dict[str, Any]) -> Any:
    return await methods.call("vectors.upsert", {"collection": collection, "items": list(items)})


async def nearest(methods: LocalMethods, collection: str, **query: Any) -> list[str]:
    found = await methods.call("vectors.search", {"collection": collection, **query})
    return [match["id"] for match in found["matches"]]


async def test_every_method_of_a_collection_has_one_owner() -> None:
    registry = Registry()
    registry.add_module(vectors)
    keys = {name: bound.info.routing_key for name, bound in registry.methods.items()}
    assert keys == {
        "collections.create": "name",
        "collections.list": None,
        "collections.stats": "name",
        "collections.delete": "name",
        "vectors.upsert": "collection",
        "vectors.missing": "collection",
        "vectors.search": "collection",
    }


async def test_a_collection_for_texts_takes_model_and_dimension_of_the_embeddings(methods: LocalMethods) -> None:
    stats = await methods.call("collections.stats", {"name": "texts"})
    assert stats == {
        "name": "texts", "dimension": 256, "model": "words", "metadata": {}, "format_version": 2,
        "count": 0, "bytes": 0,
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


async def test_missing_names_what_is_not_there(methods: LocalMethods) -> None:
    await put(methods, "flat", {"id": "a", "vector": [1, 0]})
    assert await methods.call("vectors.missing", {"collection": "flat", "ids": ["z", "a", "y"]}) == {"ids": ["z", "y"]}


async def test_creating_the_same_again_is_fine_and_another_is_not(methods: LocalMethods) -> None:
    again = await methods.call("collections.create", {"name": "flat", "dimension": 2})
    assert not again["created"]
    assert not (await methods.call("collections.create", {"name": "texts"}))["created"]
    create = "collections.create"
    await refused(4001, "dimension 2, not 3", methods.call(create, {"name": "flat", "dimension": 3}))
    await refused(4001, "dimension 2, not 256", methods.call(create, {"name": "flat"}))
    different = methods.call(create, {"name": "flat", "dimension": 2, "metadata": {"a": 1}})
    await refused(4001, "metadata {}, not {'a': 1}.*collections.delete", different)


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


async def test_a_cancelled_upsert_is_not_applied(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with serve(tmp_path, gate=gate) as methods:
        await methods.call("collections.create", {"name": "c"})
        slow = asyncio.ensure_future(put(methods, "c", {"id": "a", "text": "wait"}))
        await asyncio.sleep(0.05)
        slow.cancel()
        gate.set()
        await put(methods, "c", {"id": "b", "text": "b"})
        assert await methods.call("vectors.missing", {"collection": "c", "ids": ["a", "b"]}) == {"ids": ["a"]}


async def test_an_upsert_does_not_reach_a_collection_that_was_made_anew_meanwhile(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with serve(tmp_path, gate=gate) as methods:
        await methods.call("collections.create", {"name": "c"})
        slow = asyncio.ensure_future(put(methods, "c", {"id": "a", "text": "wait"}))
        await asyncio.sleep(0.05)
        await methods.call("collections.delete", {"name": "c"})
        await methods.call("collections.create", {"name": "c"})
        gate.set()
        await refused(5001, "was deleted.*try again", slow)
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
