"""Fallback of ``rag.*``: where a technique fails another answers, and the result says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.methods.packs import word_embeddings
from tests.support.libraries import skip_without
from trunkline.methods import rag, vectors
from trunkline.methods.local import LocalMethods
from trunkline_protocol.errors import ErrorCode, RpcError

skip_without("openai")

NOBODY = "http://127.0.0.1:9/v1"
"""Where no language model answers."""


@pytest.fixture
async def methods(tmp_path: Path) -> AsyncIterator[LocalMethods]:
    settings = {"data_dir": str(tmp_path), "llm_base_url": NOBODY, "llm_model": "m", "response_cache_bytes": 10_000}
    async with LocalMethods(word_embeddings, vectors, rag, settings=settings) as local:
        await local.call("collections.create", {"name": "pets"})
        item = {"id": "cats", "text": "A cat sleeps most of the day."}
        await local.call("vectors.upsert", {"collection": "pets", "items": [item]})
        yield local


def question(**more: Any) -> dict[str, Any]:
    return {"query": "a cat sleeps most of the day", "options": {"collection": "pets"}, **more}


async def test_another_technique_answers_and_the_result_says_so(methods: LocalMethods) -> None:
    with pytest.raises(RpcError) as caught:
        await methods.call("rag.execute", question())
    assert caught.value.code == ErrorCode.DATABASE_CONNECTION_ERROR
    result = await methods.call("rag.execute", question(fallback="extractive", technique_params={"temperature": 0.5}))
    assert (result["technique"], "A cat sleeps" in result["answer"]) == ("extractive", True)
    told = result["metadata"]["fallback"]
    assert (told["from"], told["code"], told["type"]) == ("basic", 5001, "DATABASE_CONNECTION_ERROR")
    assert "cannot be reached" in told["message"]


async def test_params_that_the_fallback_does_not_know_are_left_out(methods: LocalMethods) -> None:
    asked = question(technique="hybrid", technique_params={"weight": 0.5, "max_sentences": 1}, fallback="extractive")
    result = await methods.call("rag.execute", asked)
    assert result["technique"] == "extractive"
    assert result["metadata"]["fallback"]["from"] == "hybrid"


async def test_a_stream_that_has_begun_is_not_begun_again(methods: LocalMethods) -> None:
    stream = methods.stream("rag.stream", question(fallback="extractive"))
    with pytest.raises(RpcError) as caught:
        async for _ in stream:
            pass
    assert caught.value.code == ErrorCode.DATABASE_CONNECTION_ERROR


async def test_what_is_wrong_with_the_call_is_not_tried_otherwise(methods: LocalMethods) -> None:
    asked = question(fallback="extractive") | {"options": {"collection": "none"}}
    with pytest.raises(RpcError) as caught:
        await methods.call("rag.execute", asked)
    assert caught.value.code == ErrorCode.INVALID_CONFIGURATION
    with pytest.raises(RpcError, match="no technique 'none'"):
        await methods.call("rag.execute", question(fallback="none"))


async def test_a_pipeline_declares_it_and_the_check_knows_the_names(methods: LocalMethods) -> None:
    with pytest.raises(RpcError) as caught:
        await methods.call("rag.check", {"technique": "basic", "config": {"fallback": "none"}})
    assert [problem["path"] for problem in caught.value.data["errors"]] == ["fallback"]
    await methods.call("rag.check", {"technique": "basic", "config": {"fallback": "extractive"}})


async def test_an_answer_that_is_kept_does_not_say_how_the_first_was_come_by(methods: LocalMethods) -> None:
    options = {"collection": "pets", "cache": True}
    first = await methods.call("rag.execute", question(fallback="extractive") | {"options": options})
    assert first["metadata"]["fallback"]
    again = await methods.call("rag.execute", question(technique="extractive") | {"options": options})
    assert again["metadata"]["cache"] == "hit"
    assert "fallback" not in again["metadata"]
