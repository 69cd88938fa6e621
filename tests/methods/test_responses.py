"""The cache of answers: what it is for one version of a collection, one question, and those who may ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.methods.packs import word_embeddings
from trunkline.methods import rag, vectors
from trunkline.methods.local import LocalMethods
from trunkline_protocol.principals import Principal

TEXTS = {"cats": "A cat sleeps most of the day.", "dogs": "A dog barks. A cat sleeps here."}


async def served(folder: Path, **settings: Any) -> AsyncIterator[LocalMethods]:
    settings = {"data_dir": str(folder), "response_cache_bytes": 100_000, **settings}
    async with LocalMethods(word_embeddings, vectors, rag, settings=settings) as local:
        await fill(local)
        yield local


async def fill(local: LocalMethods) -> None:
    await local.call("collections.create", {"name": "pets"})
    items = [{"id": name, "text": text} for name, text in TEXTS.items()]
    await local.call("vectors.upsert", {"collection": "pets", "items": items})


@pytest.fixture
async def methods(tmp_path: Path) -> AsyncIterator[LocalMethods]:
    async for local in served(tmp_path):
        yield local


def question(query: str = "a cat sleeps", *, cache: bool | None = True, **more: Any) -> dict[str, Any]:
    return {"query": query, "options": {"collection": "pets", "cache": cache}, **more}


async def outcome(methods: LocalMethods, asked: dict[str, Any]) -> str | None:
    result = await methods.call("rag.execute", asked)
    found: str | None = result["metadata"].get("cache")
    return found


async def test_the_same_question_is_answered_once(methods: LocalMethods) -> None:
    first = await methods.call("rag.execute", question())
    again = await methods.call("rag.execute", question())
    assert (first["metadata"]["cache"], again["metadata"]["cache"]) == ("miss", "hit")
    for member in ("answer", "retrieved_documents", "technique", "query"):
        assert again[member] == first[member]
    assert again["metadata"]["cached_at"]
    assert again["metadata"]["embedding_model"] == first["metadata"]["embedding_model"]
    assert again["performance"]["generation_time_ms"] == 0


async def test_a_stream_that_hits_has_the_chunks_of_the_first(methods: LocalMethods) -> None:
    async def chunks() -> list[Any]:
        stream = methods.stream("rag.stream", question())
        found = [[chunk.type, chunk.data] async for chunk in stream]
        assert stream.result["answer"] == "".join(data["text"] for kind, data in found if kind == "partial_answer")
        return found

    first, again = await chunks(), await chunks()
    assert again[0][1].pop("cache") == "hit"
    assert [first[0][1].pop("retrieval_time_ms") > 0, again[0][1].pop("retrieval_time_ms")] == [True, 0]
    assert first == again


@pytest.mark.parametrize(
    "other",
    [
        question("a dog barks"),
        question(technique="hybrid"),
        question(technique_params={"max_sentences": 1}),
        {"query": "a cat sleeps", "options": {"collection": "pets", "cache": True, "top_k": 1}},
    ],
)
async def test_another_question_is_another_answer(methods: LocalMethods, other: dict[str, Any]) -> None:
    assert await outcome(methods, question()) == "miss"
    assert await outcome(methods, other) == "miss"
    assert await outcome(methods, question()) == "hit"


async def test_a_change_is_seen_by_the_next_question(methods: LocalMethods) -> None:
    await methods.call("rag.execute", question("a horse runs over green fields"))
    item = {"id": "horses", "text": "A horse runs fast over green fields."}
    await methods.call("vectors.upsert", {"collection": "pets", "items": [item]})
    result = await methods.call("rag.execute", question("a horse runs over green fields"))
    assert (result["metadata"]["cache"], "A horse runs fast over green fields." in result["answer"]) == ("miss", True)
    assert await outcome(methods, question("a horse runs over green fields")) == "hit"
    await methods.call("vectors.delete", {"collection": "pets", "ids": ["horses"]})
    result = await methods.call("rag.execute", question("a horse runs over green fields"))
    assert (result["metadata"]["cache"], "A horse runs fast over green fields." in result["answer"]) == ("miss", False)


async def test_tenants_share_no_answers(tmp_path: Path) -> None:
    """Not even of a collection that they have in common."""
    async for methods in served(tmp_path, shared_collections=("pets",)):
        for tenant in ("one", "two"):
            who = Principal("ada", tenant=tenant)
            result = await methods.call("rag.execute", question(), principal=who)
            assert result["metadata"]["cache"] == "miss"
        result = await methods.call("rag.execute", question(), principal=Principal("bob", tenant="two"))
        assert result["metadata"]["cache"] == "hit"


async def test_a_collection_made_anew_is_another(methods: LocalMethods) -> None:
    """Its log has as many commits as that of the first."""
    assert await outcome(methods, question()) == "miss"
    before = await methods.call("collections.stats", {"name": "pets"})
    await methods.call("collections.delete", {"name": "pets"})
    await fill(methods)
    after = await methods.call("collections.stats", {"name": "pets"})
    assert before["position"] == after["position"]
    assert await outcome(methods, question()) == "miss"


async def test_it_is_only_for_those_that_ask_for_it(methods: LocalMethods, tmp_path: Path) -> None:
    for asked in (question(cache=None), question(cache=False)):
        assert [await outcome(methods, asked) for _ in range(2)] == [None, None]


async def test_a_technique_may_have_it_by_default(tmp_path: Path) -> None:
    async for local in served(tmp_path, response_cache_techniques=("basic",)):
        assert [await outcome(local, question(cache=None)) for _ in range(2)] == ["miss", "hit"]
        assert await outcome(local, question(cache=False)) is None
        assert [await outcome(local, question(cache=None, technique="hybrid")) for _ in range(2)] == [None, None]


async def test_without_bytes_there_is_none(tmp_path: Path) -> None:
    async for local in served(tmp_path, response_cache_bytes=0):
        assert [await outcome(local, question()) for _ in range(2)] == [None, None]


async def test_it_is_bounded_and_old_answers_go_first(tmp_path: Path) -> None:
    async for local in served(tmp_path, response_cache_bytes=6_000):
        many = [question(f"a cat sleeps {number}") for number in range(20)]
        for asked in many:
            assert await outcome(local, asked) == "miss"
        assert await outcome(local, many[-1]) == "hit"
        assert await outcome(local, many[0]) == "miss"
        cleared = await local._registry.broadcast("clear_cache", {"cache_type": "responses"})
        (found,) = (each["responses"] for each in cleared if "responses" in each)
        assert 0 < found["bytes"] <= 6_000
        assert 0 < found["entries"] < 20
        assert await outcome(local, many[-1]) == "miss", "it was cleared"


async def test_a_collection_that_is_being_filled_is_asked_each_time(methods: LocalMethods) -> None:
    await methods.call("collections.create", {"name": "new", "metadata": {"expected_items": 2}})
    asked = {"query": "a cat sleeps", "options": {"collection": "new", "cache": True}}
    assert [await outcome(methods, asked) for _ in range(2)] == ["miss", "miss"]
