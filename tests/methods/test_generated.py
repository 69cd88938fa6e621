"""Answers of a language model: a real HTTP server speaks the OpenAI protocol, with delays and faults."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("faiss")

from tests.methods.llm_endpoint import KEY, TOKENS, Endpoint
from tests.methods.packs import word_embeddings
from tests.support.libraries import skip_without
from tests.support.timing import PATIENCE
from trunkline.methods import rag, vectors
from trunkline.methods.local import LocalMethods
from trunkline.methods.rag import generated
from trunkline_protocol.errors import RpcError

skip_without("openai")


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
        items = [{"id": "cats", "text": "A cat sleeps."}, {"id": "dogs", "text": "A dog barks."}]
        await local.call("vectors.upsert", {"collection": "pets", "items": items})
        yield local


QUESTION = {"query": "what does a cat do?", "options": {"collection": "pets", "top_k": 2}}


async def test_tokens_arrive_as_they_are_made(methods: LocalMethods, endpoint: Endpoint) -> None:
    """Each token is here before the next one is made: the endpoint waits for that."""
    endpoint.taken = 0
    stream = methods.stream("rag.stream", QUESTION)
    texts: list[Any] = []
    async with asyncio.timeout(PATIENCE):
        async for chunk in stream:
            if chunk.type == "partial_answer":
                texts.append(chunk.data)
                endpoint.taken += 1
    assert texts == [{"text": token} for token in TOKENS]
    assert endpoint.sent[-1] - endpoint.sent[0] >= 0.35
    result = stream.result
    assert result["answer"] == "".join(TOKENS)
    assert (result["metadata"]["generator"], result["metadata"]["finish_reason"]) == ("tiny-llm", "stop")
    assert result["performance"]["generation_time_ms"] >= 400


async def test_the_endpoint_gets_the_passages_and_the_question(methods: LocalMethods, endpoint: Endpoint) -> None:
    params = QUESTION | {"technique_params": {"max_tokens": 7, "temperature": 0.5}}
    assert (await methods.call("rag.execute", params))["answer"] == "".join(TOKENS)
    (request,) = endpoint.requests
    assert endpoint.authorization == f"Bearer {KEY}"
    assert (request["model"], request["stream"], request["max_tokens"], request["temperature"]) == (
        "tiny-llm", True, 7, 0.5,
    )  # fmt: skip
    prompt = request["messages"][-1]["content"]
    assert "[1] A cat sleeps.\n\n[2] A dog barks." in prompt
    assert prompt.endswith("Question: what does a cat do?")


async def test_usage_is_what_the_endpoint_tells_or_an_estimate(methods: LocalMethods, endpoint: Endpoint) -> None:
    estimated = (await methods.call("rag.execute", QUESTION))["metadata"]["usage"]
    assert estimated["estimated"]
    endpoint.usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    told = (await methods.call("rag.execute", QUESTION))["metadata"]["usage"]
    assert told == {"prompt_tokens": 7, "completion_tokens": 5}


async def test_instructions_stand_behind_the_task(methods: LocalMethods, endpoint: Endpoint) -> None:
    await methods.call("rag.execute", QUESTION | {"technique_params": {"instructions": "Speak French."}})
    told = endpoint.requests[0]["messages"][0]["content"]
    assert told.endswith("\n\nSpeak French.")
    assert "numbered passages only" in told


async def test_the_model_rewrites_a_follow_up(methods: LocalMethods, endpoint: Endpoint) -> None:
    endpoint.usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    history = [{"role": "user", "content": "what does a cat do?"}, {"role": "assistant", "content": "It sleeps."}]
    result = await methods.call("rag.execute", QUESTION | {"query": "and at night?", "history": history})
    assert result["query"] == "and at night?"
    assert result["metadata"]["rewritten_query"] == "".join(TOKENS), "all that this model ever says"
    assert result["metadata"]["rewritten_by"] == "tiny-llm"
    assert result["metadata"]["usage"] == {"prompt_tokens": 14, "completion_tokens": 10}, "both requests are paid"
    rewriting, answering = endpoint.requests
    assert "assistant: It sleeps.\nuser: and at night?" in rewriting["messages"][-1]["content"]
    assert answering["messages"][-1]["content"].endswith(f"Question: {''.join(TOKENS)}")


async def test_without_documents_no_model_is_asked(methods: LocalMethods, endpoint: Endpoint) -> None:
    await methods.call("collections.create", {"name": "empty"})
    result = await methods.call("rag.execute", {"query": "a", "options": {"collection": "empty"}})
    assert (result["metadata"]["found"], endpoint.requests) == (False, [])


@pytest.mark.parametrize(
    ("mode", "code", "says"),
    [
        ("401", 3003, "HTTP 401: check TRUNKLINE_LLM_API_KEY"),
        ("404", 3003, "HTTP 404: check TRUNKLINE_LLM_MODEL"),
        ("429", 3003, "HTTP 429"),
        ("500", 3003, "HTTP 500"),
        ("silent", 1002, "silent for"),
        ("broken", 3003, "broke off"),
        ("garbage", 3003, "broke off"),
        ("error", 3003, "broke off"),
        ("empty", 3003, "sent no text"),
    ],
)
async def test_faults_of_the_endpoint_are_typed_and_say_no_secret(
    methods: LocalMethods, endpoint: Endpoint, mode: str, code: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.mode = mode
    if mode == "silent":
        clients = methods._registry.instances[-1]._generator._clients
        monkeypatch.setitem(clients, "tiny-llm", clients["tiny-llm"].with_options(timeout=0.3))
    with pytest.raises(RpcError, match=says) as caught:
        await methods.call("rag.execute", QUESTION)
    assert caught.value.code == code
    assert KEY not in json.dumps(caught.value.to_wire())
    assert "tiny-llm" in caught.value.message
    if mode == "429":
        assert (caught.value.retry_after_ms, caught.value.data["http_status"]) == (3000, 429)


async def test_an_endpoint_that_is_not_there(tmp_path: Path, endpoint: Endpoint, methods: LocalMethods) -> None:
    endpoint.__exit__()
    with pytest.raises(RpcError, match="cannot be reached: is it running") as caught:
        await methods.call("rag.execute", QUESTION)
    assert caught.value.code == 5001


@pytest.mark.parametrize("by", ["leaving the stream", "cancelling the call"])
async def test_a_cancel_closes_the_request(methods: LocalMethods, endpoint: Endpoint, by: str) -> None:
    endpoint.mode = "silent"
    if by == "leaving the stream":
        stream = methods.stream("rag.stream", QUESTION)
        async for chunk in stream:
            if chunk.type == "partial_answer":
                break
        await stream.aclose()
    else:
        call = asyncio.ensure_future(methods.call("rag.execute", QUESTION))
        while not endpoint.sent:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    deadline = time.monotonic() + PATIENCE / 2
    while not endpoint.closed_early:
        assert time.monotonic() < deadline, "the endpoint still sends"
        await asyncio.sleep(0.01)


async def test_an_endpoint_needs_a_model() -> None:
    with pytest.raises(RpcError, match="TRUNKLINE_LLM_MODEL") as caught:
        async with LocalMethods(rag, settings={"llm_base_url": "http://127.0.0.1:1/v1"}):
            pass
    assert caught.value.code == 4001


def test_openai_is_imported_only_where_it_is_needed() -> None:
    import subprocess
    import sys

    code = "import sys, trunkline.methods.rag; print('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
    assert generated.SILENCE == 60
