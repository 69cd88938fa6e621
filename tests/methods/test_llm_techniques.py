"""The techniques that ask a language model: a real HTTP server speaks the OpenAI protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("faiss")
pytest.importorskip("openai")

from tests.methods.llm_endpoint import KEY, Endpoint
from tests.methods.packs import word_embeddings
from trunkline.methods import rag, vectors
from trunkline.methods.local import LocalMethods
from trunkline_protocol.errors import RpcError

TEXTS = {"cats": "A cat sleeps all day long.", "dogs": "A dog barks at strangers.", "oven": "Bread bakes in an oven."}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as running:
        yield running


@pytest.fixture
async def methods(endpoint: Endpoint, tmp_path: Path) -> AsyncIterator[LocalMethods]:
    settings = {
        "data_dir": str(tmp_path), "llm_base_url": endpoint.base_url, "llm_model": "tiny-llm", "llm_api_key": KEY,
    }  # fmt: skip
    async with LocalMethods(word_embeddings, vectors, rag, settings=settings) as local:
        await local.call("collections.create", {"name": "pets"})
        items = [{"id": id, "text": text} for id, text in TEXTS.items()]
        await local.call("vectors.upsert", {"collection": "pets", "items": items})
        yield local


async def retrieved(methods: LocalMethods, technique: str, query: str, **params: Any) -> dict[str, Any]:
    asked = {"query": query, "technique": technique, "options": {"collection": "pets", "top_k": 3}}
    result = await methods.call("rag.retrieve", asked | {"technique_params": params})
    assert isinstance(result, dict)
    return result


def first(result: dict[str, Any]) -> str:
    return str(result["retrieved_documents"][0]["id"])


async def test_multi_query_finds_what_the_question_in_other_words_finds(
    methods: LocalMethods, endpoint: Endpoint
) -> None:
    endpoint.tokens = ["1. bread bakes", " in an oven\n", "\n- an oven for bread\n", "a third\na fourth"]
    result = await retrieved(methods, "multi_query", "where are loaves made", queries=2)
    assert first(result) == "oven"
    expected = ["where are loaves made", "bread bakes in an oven", "an oven for bread"]
    assert result["metadata"]["technique"] == {"queries": expected}
    assert result["performance"]["completion_time_ms"] > 0
    (request,) = endpoint.requests
    assert "Write 2 other ways" in request["messages"][0]["content"]
    assert request["messages"][1]["content"] == "where are loaves made"


async def test_hyde_finds_what_is_near_to_the_answer_that_the_model_makes_up(
    methods: LocalMethods, endpoint: Endpoint
) -> None:
    endpoint.tokens = ["A dog barks", " at strangers."]
    result = await retrieved(methods, "hyde", "guardian noise", passage_tokens=20)
    assert first(result) == "dogs"
    assert result["metadata"]["technique"] == {"passage": "A dog barks at strangers."}
    assert endpoint.requests[0]["max_tokens"] == 20


async def test_crag_puts_first_what_the_model_finds_helpful(methods: LocalMethods, endpoint: Endpoint) -> None:
    before = await methods.call(
        "rag.retrieve", {"query": "a cat", "technique": "hybrid", "options": {"collection": "pets"}}
    )
    last = before["retrieved_documents"][-1]["id"]
    endpoint.tokens = ["Only", " [3]", "."]
    result = await retrieved(methods, "crag", "a cat")
    assert first(result) == last
    assert result["metadata"]["technique"] == {"helpful": [last]}


async def test_crag_asks_in_other_words_where_nothing_helps(methods: LocalMethods, endpoint: Endpoint) -> None:
    endpoint.tokens = ["none\n", "bread in an oven"]
    result = await retrieved(methods, "crag", "a cat")
    assert result["metadata"]["technique"]["helpful"] == []
    assert result["metadata"]["technique"]["queries"] == ["none", "bread in an oven"]
    assert len(endpoint.requests) == 2


async def test_an_answer_is_written_from_what_such_a_technique_found(methods: LocalMethods, endpoint: Endpoint) -> None:
    asked = {"query": "a cat", "technique": "hyde", "options": {"collection": "pets", "top_k": 1}}
    result = await methods.call("rag.execute", asked)
    assert result["answer"] == "The cat sleeps [1]."
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize("technique", ["multi_query", "hyde", "crag"])
@pytest.mark.parametrize(("mode", "code"), [("500", 3003), ("broken", 3003), ("empty", 3003)])
async def test_an_endpoint_that_fails_is_a_typed_error_and_may_fall_back(
    methods: LocalMethods, endpoint: Endpoint, technique: str, mode: str, code: int
) -> None:
    endpoint.mode = mode
    with pytest.raises(RpcError) as caught:
        await retrieved(methods, technique, "a cat")
    assert caught.value.code == code
    assert KEY not in str(caught.value)
    asked = {"query": "a cat sleeps", "technique": technique, "options": {"collection": "pets"}}
    result = await methods.call("rag.execute", asked | {"fallback": "extractive"})
    assert result["metadata"]["fallback"]["from"] == technique
