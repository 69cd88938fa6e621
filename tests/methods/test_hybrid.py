"""``vectors.lexical`` and ``vectors.hybrid`` as a caller sees them, and the technique ``hybrid``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bm25s")
pytest.importorskip("faiss")

from tests.methods.packs import word_embeddings
from trunkline.methods import rag, vectors
from trunkline.methods.local import LocalMethods
from trunkline.methods.vectors import lexical
from trunkline_protocol.errors import RpcError

TEXTS = {
    "cats": ("A cat sleeps most of the day.", {"kind": "animal", "year": 1}),
    "dogs": ("A dog barks at strangers.", {"kind": "animal", "year": 2}),
    "bread": ("Bread is baked in an oven, error E4711 means it is too hot.", {"kind": "food", "year": 3}),
}


@pytest.fixture
async def methods(tmp_path: Path) -> AsyncIterator[LocalMethods]:
    async with LocalMethods(word_embeddings, vectors, rag, settings={"data_dir": str(tmp_path)}) as local:
        await local.call("collections.create", {"name": "texts"})
        await put(local, **TEXTS)
        yield local


async def put(methods: LocalMethods, **texts: tuple[str, dict[str, Any]]) -> None:
    items = [{"id": each, "text": text, "metadata": metadata} for each, (text, metadata) in texts.items()]
    await methods.call("vectors.upsert", {"collection": "texts", "items": items})


async def found(methods: LocalMethods, method: str, text: str, **params: Any) -> list[dict[str, Any]]:
    matches = (await methods.call(method, {"collection": "texts", "text": text, **params}))["matches"]
    assert isinstance(matches, list)
    return matches


async def test_words_find_their_texts_with_score_and_metadata(methods: LocalMethods) -> None:
    (match,) = await found(methods, "vectors.lexical", "what is e4711?")
    assert match["id"] == "bread"
    assert match["score"] > 0
    assert match["text"] == TEXTS["bread"][0]
    assert match["metadata"] == {"kind": "food", "year": 3}
    assert await found(methods, "vectors.lexical", "submarine") == []


async def test_what_was_acknowledged_is_found_at_once_and_what_was_deleted_is_not(methods: LocalMethods) -> None:
    assert [match["id"] for match in await found(methods, "vectors.lexical", "cat")] == ["cats"]
    await put(methods, kitten=("The cat of the house.", {}), cats=("Nothing of that kind.", {}))
    assert [match["id"] for match in await found(methods, "vectors.lexical", "cat")] == ["kitten"]
    await methods.call("vectors.delete", {"collection": "texts", "ids": ["kitten"]})
    assert await found(methods, "vectors.lexical", "cat") == []


async def test_changes_while_the_index_is_made_are_in_it(
    methods: LocalMethods, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    class Slow(lexical.LexicalIndex):
        def __init__(self, texts: Any) -> None:
            loop.call_soon_threadsafe(began.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
            super().__init__(texts)

    monkeypatch.setattr(vectors.lexical_methods, "LexicalIndex", Slow)
    search = asyncio.ensure_future(found(methods, "vectors.lexical", "cat whale"))
    await began.wait()
    await put(methods, whale=("A whale sings.", {}))
    await methods.call("vectors.delete", {"collection": "texts", "ids": ["cats"]})
    go_on.set()
    assert [match["id"] for match in await search] == ["whale"]


async def test_much_change_has_the_index_made_anew_beside(
    methods: LocalMethods, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical, "RECENT", 5)
    await found(methods, "vectors.lexical", "cat")
    await put(methods, **{f"n{n}": (f"number{n} of a cat", {}) for n in range(20)})
    assert len(await found(methods, "vectors.lexical", "cat", top_k=50)) == 21
    while any(map(asyncio.isfuture, tasks := making())):
        await asyncio.wait(tasks)
    assert len(await found(methods, "vectors.lexical", "cat", top_k=50)) == 21
    assert [match["id"] for match in await found(methods, "vectors.lexical", "number7")] == ["n7"]


def making() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__name__", "") == "_make"]


@pytest.mark.parametrize("method", ["vectors.lexical", "vectors.hybrid"])
async def test_filters_hold(methods: LocalMethods, method: str) -> None:
    matches = await found(methods, method, "cat dog bread", filter={"kind": "animal", "year": {"$gte": 2}})
    assert [match["id"] for match in matches] == ["dogs"]


async def test_hybrid_says_what_each_search_gave(methods: LocalMethods) -> None:
    matches = await found(methods, "vectors.hybrid", "a cat sleeps", weight=0.1)
    dense = {match["id"]: match["score"] for match in await found(methods, "vectors.search", "a cat sleeps")}
    words = {match["id"]: match["score"] for match in await found(methods, "vectors.lexical", "a cat sleeps")}
    best = max(words.values())
    for match in matches:
        assert match["dense"] == pytest.approx(dense[match["id"]], abs=1e-5)
        assert match["lexical"] == pytest.approx(words.get(match["id"], 0.0))
        assert match["score"] == pytest.approx(match["dense"] + 0.1 * match["lexical"] / best, abs=1e-5)
    assert [match["score"] for match in matches] == sorted((match["score"] for match in matches), reverse=True)


async def test_hybrid_finds_what_only_the_words_find(methods: LocalMethods) -> None:
    dimension = (await methods.call("collections.stats", {"name": "texts"}))["dimension"]
    vector = [1.0] + [0.0] * (dimension - 1)
    for fusion in ("convex", "rrf"):
        matches = await found(methods, "vectors.hybrid", "E4711", vector=vector, fusion=fusion, weight=50, top_k=1)
        assert [match["id"] for match in matches] == ["bread"]


@pytest.mark.parametrize(
    ("method", "params", "code", "says"),
    [
        ("vectors.lexical", {"text": ""}, -32602, "text"),
        ("vectors.lexical", {"text": "a", "collection": "nowhere"}, 4001, "there is no collection 'nowhere'"),
        ("vectors.lexical", {"text": "a", "filter": {"a": {"$near": 1}}}, -32602, "vectors.lexical: filter"),
        ("vectors.hybrid", {"text": "a", "fusion": "magic"}, -32602, "fusion"),
        ("vectors.hybrid", {"text": "a", "weight": -1}, -32602, "weight"),
        ("vectors.hybrid", {"text": "a", "vector": [1.0]}, -32602, "dimension"),
    ],
    ids=["empty", "collection", "filter", "fusion", "weight", "dimension"],
)
async def test_what_cannot_be_is_refused(
    methods: LocalMethods, method: str, params: dict[str, Any], code: int, says: str
) -> None:
    with pytest.raises(RpcError, match=says) as caught:
        await methods.call(method, {"collection": "texts", **params})
    assert caught.value.code == code


async def test_convex_fusion_wants_a_cosine(methods: LocalMethods) -> None:
    await methods.call("collections.create", {"name": "far", "dimension": 2, "metric": "euclidean"})
    params = {"collection": "far", "text": "a", "vector": [1.0, 2.0]}
    with pytest.raises(RpcError, match="metric euclidean: use rrf"):
        await methods.call("vectors.hybrid", params)
    assert await methods.call("vectors.hybrid", params | {"fusion": "rrf"}) == {"matches": []}


async def test_the_technique_hybrid_retrieves_by_meaning_and_words(methods: LocalMethods) -> None:
    question = {"technique": "hybrid", "query": "E4711", "options": {"collection": "texts", "top_k": 1}}
    answer = await methods.call("rag.execute", question | {"technique_params": {"weight": 50.0}})
    assert answer["technique"] == "hybrid"
    assert [document["id"] for document in answer["retrieved_documents"]] == ["bread"]
    with pytest.raises(RpcError, match=r"technique_params\.weight"):
        await methods.call("rag.execute", question | {"technique_params": {"weight": -1}})
