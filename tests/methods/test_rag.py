"""``rag.execute`` and ``rag.stream`` with extracted answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

np = pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.methods.packs import word_embeddings  # noqa: E402
from tests.support.timing import PATIENCE  # noqa: E402
from trunkline.methods import rag, vectors  # noqa: E402
from trunkline.methods.local import LocalMethods  # noqa: E402
from trunkline_protocol.errors import RpcError  # noqa: E402

DOCUMENTS = {
    "cats": "A cat sleeps most of the day. Bread is baked in an oven. A cat hunts mice during the night.",
    "dogs": "A dog and a cat sleeps here:\n\n    for cat in house:\n        feed(cat)\n\nA dog barks at strangers.",
    "copy": "A cat sleeps most of the day. The stars are bright tonight.",
}


async def serve_documents(folder: Path, **settings: Any) -> LocalMethods:
    methods = LocalMethods(word_embeddings, vectors, rag, settings={"data_dir": str(folder), **settings})
    await methods.__aenter__()
    await methods.call("collections.create", {"name": "pets"})
    items = [{"id": name, "text": text, "metadata": {"from": name}} for name, text in DOCUMENTS.items()]
    await methods.call("vectors.upsert", {"collection": "pets", "items": items})
    return methods


@pytest.fixture
async def methods(tmp_path: Path) -> AsyncIterator[LocalMethods]:
    local = await serve_documents(tmp_path)
    yield local
    await local.__aexit__(None, None, None)


def question(query: str = "a cat sleeps", **options: Any) -> dict[str, Any]:
    return {"technique": "basic", "query": query, "options": {"collection": "pets", **options}}


async def test_an_answer_is_made_of_sentences_with_their_sources(methods: LocalMethods) -> None:
    params = question() | {"technique_params": {"min_score": 0.25}}
    result = await methods.call("rag.execute", params, timeout_ms=10_000)
    assert result["success"]
    assert result["technique"] == "basic"
    assert result["query"] == "a cat sleeps"
    ids = [document["id"] for document in result["retrieved_documents"]]
    second = ids.index("dogs") + 1
    assert "A cat sleeps most of the day. [" in result["answer"]
    assert result["answer"].count("A cat sleeps most of the day.") == 1, "the copy says nothing new"
    assert "Bread" not in result["answer"]
    code = f"A dog and a cat sleeps here: [{second}]\n\n    for cat in house:\n        feed(cat)"
    assert code in result["answer"]
    document = result["retrieved_documents"][ids.index("cats")]
    assert document["text"] == DOCUMENTS["cats"]
    assert document["metadata"] == {"from": "cats"}
    assert 0 < document["score"] <= 1


async def test_a_collection_that_is_still_being_filled_is_said_to_be(methods: LocalMethods) -> None:
    await methods.call("collections.create", {"name": "new", "metadata": {"expected_items": 2}})
    for items in range(2):
        for query in ("a cat sleeps", "nothing of it"):
            result = await methods.call("rag.execute", question(query, collection="new"))
            assert result["metadata"]["filling"] == {"items": items, "expected_items": 2}
            assert f"is still being indexed: {items} of 2." in result["answer"]
        item = {"id": str(items), "text": f"A cat sleeps in house number {items}."}
        await methods.call("vectors.upsert", {"collection": "new", "items": [item]})
    result = await methods.call("rag.execute", question(collection="new"))
    assert "filling" not in result["metadata"]
    assert "still being indexed" not in result["answer"]


async def test_times_and_metadata_are_true(methods: LocalMethods) -> None:
    loop = asyncio.get_running_loop()
    started, before = loop.time(), datetime.now(UTC)
    result = await methods.call("rag.execute", question())
    elapsed = (loop.time() - started) * 1000
    times = result["performance"]
    assert 0 < times["retrieval_time_ms"] + times["generation_time_ms"] <= times["total_time_ms"] + 0.01
    assert times["total_time_ms"] < elapsed
    metadata = result["metadata"]
    assert before <= datetime.fromisoformat(metadata.pop("timestamp")) <= datetime.now(UTC)
    assert metadata == {
        "worker_id": "local", "generator": "extractive", "collection": "pets", "embedding_model": "words",
        "found": True, "confidence": metadata["confidence"],
    }  # fmt: skip
    assert 0.5 <= metadata["confidence"] <= 1


async def test_a_stream_gives_each_step_and_the_same_result(methods: LocalMethods) -> None:
    stream = methods.stream("rag.stream", question())
    chunks = [chunk async for chunk in stream]
    types = [chunk.type for chunk in chunks]
    parts = types.count("partial_answer")
    assert types == ["metadata", *["document"] * 3, *["partial_answer"] * parts]
    assert parts > 1
    assert chunks[0].data["documents"] == 3
    assert [chunk.data for chunk in chunks[1:4]] == stream.result["retrieved_documents"]
    assert [chunk.data["rank"] for chunk in chunks[1:4]] == [1, 2, 3]
    assert "".join(chunk.data["text"] for chunk in chunks[4:]) == stream.result["answer"]
    for chunk in chunks[4:]:
        source = chunk.data["source"]
        assert stream.result["retrieved_documents"][source["rank"] - 1]["id"] == source["id"]
        assert f"[{source['rank']}]" in chunk.data["text"]
        document = DOCUMENTS[source["id"]]
        quoted = " ".join(document[source["start"] : source["end"]].split())
        assert quoted in " ".join(chunk.data["text"].split()), "word for word, at the cited place"
    executed = await methods.call("rag.execute", question())
    for changing in ("performance", "metadata"):
        del executed[changing], stream.result[changing]
    assert executed == stream.result


async def test_documents_are_here_before_the_answer_is_made(tmp_path: Path) -> None:
    """The units cannot be embedded yet, and the documents that they are from have arrived."""
    gate = asyncio.Event()
    gate.set()
    methods = await serve_documents(tmp_path, gate=gate)
    late = {"id": "late", "text": "A cat purrs and is happy there. This must wait for a long time."}
    await methods.call("vectors.upsert", {"collection": "pets", "items": [late]})
    gate.clear()
    stream = methods.stream("rag.stream", question("a cat purrs", top_k=4))
    types: list[str] = []

    async def read() -> None:
        async for chunk in stream:
            types.append(chunk.type)  # noqa: PERF401  # seen while it still goes on

    reading = asyncio.ensure_future(read())
    async with asyncio.timeout(PATIENCE):
        while types.count("document") < 4:
            await asyncio.sleep(0.01)
    assert not reading.done()
    assert "partial_answer" not in types
    gate.set()
    await reading
    assert types[-1] == "partial_answer"
    await methods.__aexit__(None, None, None)


async def test_nothing_found_is_said(methods: LocalMethods) -> None:
    for options in ({}, {"collection": "empty"}):
        await methods.call("collections.create", {"name": "empty"})
        stream = methods.stream("rag.stream", question("quantum chromodynamics", **options))
        chunks = [chunk async for chunk in stream]
        result = stream.result
        where = options.get("collection", "pets")
        assert result["answer"] == f'Nothing in the collection "{where}" answers this.'
        assert (result["success"], result["metadata"]["found"]) == (True, False)
        assert chunks[-1].data == {"text": result["answer"], "source": None}


async def test_options_bound_the_answer(methods: LocalMethods) -> None:
    params = question("a cat", top_k=2) | {"technique_params": {"max_sentences": 1, "min_score": 0.0}}
    stream = methods.stream("rag.stream", params)
    types = [chunk.type async for chunk in stream]
    assert types == ["metadata", "document", "document", "partial_answer"]


@pytest.mark.parametrize("method", ["rag.execute", "rag.stream"])
@pytest.mark.parametrize(
    ("params", "code", "says"),
    [
        (question() | {"technique": "magic"}, 3001, "no technique 'magic'; there are: basic, .*hybrid"),
        (question(""), -32602, "query"),
        (question(" \n"), -32602, "query"),
        (question(top_k=0), -32602, "options.top_k"),
        (question(colour=1), -32602, "options.colour"),
        (question() | {"technique_params": {"colour": 1}}, -32602, "technique_params.colour"),
        (question() | {"technique_params": {"min_score": "high"}}, -32602, "technique_params.min_score"),
        (question(collection="none"), 4001, "collections.create first"),
        (question(collection="../x"), -32602, "collection"),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    methods: LocalMethods, method: str, params: Any, code: int, says: str
) -> None:
    with pytest.raises(RpcError, match=says) as caught:
        _ = [chunk async for chunk in methods.stream(method, params)]
    assert caught.value.code == code


@pytest.fixture(scope="module")
def reference() -> list[dict[str, Any]]:
    """The shorter topics of the demo collection: all of them would take a minute to embed."""
    from pydoc_data.topics import topics

    from trunkline.cli.demo import reference_passages

    short = {name for name, text in topics.items() if len(text) < 4500}
    return [passage for passage in reference_passages() if passage["id"].partition("#")[0] in short]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def python_reference(
    reference: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LocalMethods]:
    pytest.importorskip("sentence_transformers")
    from trunkline.defaults import DEFAULT_MODEL
    from trunkline.methods import embeddings
    from trunkline.methods.embeddings.model import find_model

    if not find_model(DEFAULT_MODEL).local:
        pytest.skip("the packaged model is not installed")
    settings = {"data_dir": str(tmp_path_factory.mktemp("data"))}
    async with LocalMethods(embeddings, vectors, rag, settings=settings) as methods:
        await methods.call("collections.create", {"name": "python-reference"})
        await methods.call("vectors.upsert", {"collection": "python-reference", "items": reference})
        yield methods


@pytest.mark.ml
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("query", "topic", "word"),
    [
        ("how does the with statement work?", "with", "context manager"),
        ("what does the assert statement do?", "assert", "assert"),
        ("how do I define a lambda?", "lambda", "function object"),
        ("what does yield do in a function?", "yield", "generator"),
        ("what is a global variable declaration?", "global", "global"),
    ],
)
async def test_questions_about_python_find_their_topic(
    python_reference: LocalMethods, query: str, topic: str, word: str
) -> None:
    result = await python_reference.call("rag.execute", {"query": query})
    found = [document["id"].partition("#")[0] for document in result["retrieved_documents"]]
    assert topic in found
    assert word in result["answer"]


@pytest.mark.ml
@pytest.mark.asyncio(loop_scope="module")
async def test_a_question_about_something_else_finds_nothing(python_reference: LocalMethods) -> None:
    result = await python_reference.call("rag.execute", {"query": "how do I bake a chocolate cake?"})
    assert not result["metadata"]["found"]
