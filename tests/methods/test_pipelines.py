"""``rag.*`` with pipelines: what is checked, and what a call lays over its pipeline."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")
pytest.importorskip("faiss")

from tests.methods.packs import word_embeddings
from tests.support.hub import ready_hub
from tests.support.peer import peer
from tests.support.timing import START, until
from trunkline.methods import rag, vectors
from trunkline.methods.local import LocalMethods
from trunkline_protocol.errors import ErrorCode, RpcError

TEXTS = {"cats": "A cat sleeps most of the day.", "dogs": "A dog barks. A cat sleeps here.", "more": "A cat sleeps."}
PIPELINE = {"technique": "basic", "config": {"options": {"collection": "pets", "top_k": 2}}}


def kept(params: dict[str, Any]) -> dict[str, Any]:
    if params["pipeline_id"] != "p1":
        raise RpcError(ErrorCode.PIPELINE_NOT_FOUND, "no pipeline")
    return {"pipeline_id": "p1", **PIPELINE}


@pytest.fixture
async def methods(tmp_path: Path) -> AsyncIterator[LocalMethods]:
    settings = {"data_dir": str(tmp_path)}
    async with LocalMethods(word_embeddings, vectors, rag, settings=settings, stubs={"pipeline.get": kept}) as local:
        await local.call("collections.create", {"name": "pets"})
        items = [{"id": name, "text": text} for name, text in TEXTS.items()]
        await local.call("vectors.upsert", {"collection": "pets", "items": items})
        yield local


async def test_all_that_is_wrong_is_said_by_path(methods: LocalMethods) -> None:
    config = {
        "options": {"top_k": 0, "colour": 1}, "technique_params": {"max_sentences": "x", "weight": 1}, "extra": 1,
    }  # fmt: skip
    with pytest.raises(RpcError) as caught:
        await methods.call("rag.check", {"technique": "basic", "config": config})
    assert caught.value.code == ErrorCode.INVALID_CONFIGURATION
    paths = {problem["path"] for problem in caught.value.data["errors"]}
    assert paths == {
        "options.top_k", "options.colour", "extra", "technique_params.max_sentences", "technique_params.weight",
    }  # fmt: skip
    with pytest.raises(RpcError) as caught:
        await methods.call("rag.check", {"technique": "none", "config": {"options": 1}})
    assert {problem["path"] for problem in caught.value.data["errors"]} == {"technique", "options"}
    await methods.call("rag.check", {"technique": "hybrid", "config": {"technique_params": {"weight": 1}}})


async def test_a_call_lays_what_it_gives_over_its_pipeline(methods: LocalMethods) -> None:
    asked = {"query": "a cat sleeps", "pipeline_id": "p1"}
    result = await methods.call("rag.execute", asked)
    assert (result["metadata"]["collection"], len(result["retrieved_documents"])) == ("pets", 2)
    result = await methods.call("rag.execute", asked | {"options": {"top_k": 1}})
    assert (result["metadata"]["collection"], len(result["retrieved_documents"])) == ("pets", 1)
    stream = methods.stream("rag.stream", asked | {"technique": "basic", "technique_params": {"max_sentences": 1}})
    async for _ in stream:
        pass
    assert stream.result["answer"].count(".") == 1


async def test_an_unknown_pipeline_or_another_technique_executes_nothing(methods: LocalMethods) -> None:
    with pytest.raises(RpcError) as caught:
        await methods.call("rag.execute", {"query": "q", "pipeline_id": "p2"})
    assert (caught.value.code, caught.value.maybe_executed) == (ErrorCode.PIPELINE_NOT_FOUND, False)
    with pytest.raises(RpcError, match="is one of basic") as caught:
        await methods.call("rag.execute", {"query": "q", "pipeline_id": "p1", "technique": "hybrid"})
    assert (caught.value.code, caught.value.maybe_executed) == (ErrorCode.INVALID_PARAMS, False)


async def test_every_executor_knows_it_and_so_do_restarted_ones() -> None:
    modules = ("tests.methods.packs.word_embeddings", "trunkline.methods.vectors", "trunkline.methods.rag")
    env = {"TRUNKLINE_QUARANTINE_KILLS": "100"}  # the kills here are not for the input
    with ready_hub(*modules, executors=2, cwd=Path(__file__).parents[2], env=env) as hub:
        async with peer(hub.url) as client:
            await client.result("collections.create", {"name": "pets"})
            items = [{"id": name, "text": text} for name, text in TEXTS.items()]
            await client.result("vectors.upsert", {"collection": "pets", "items": items})
            pipeline_id = await client.result("pipeline.initialize", [PIPELINE["technique"], PIPELINE["config"]])
            asked = {"query": "a cat sleeps", "pipeline_id": pipeline_id}

            async def workers() -> set[str]:
                made = [await client.request("rag.execute", asked) for _ in range(4)]
                replies = [await client.reply(number) for number in made]  # errors while executors die and start
                results = [reply["result"] for reply in replies if "result" in reply]
                assert all(len(result["retrieved_documents"]) == 2 for result in results)
                return {result["metadata"]["worker_id"] for result in results}

            await until(lambda: both(workers), "both executors have answered", START)
            for pid in hub.executor_pids():
                os.kill(pid, signal.SIGKILL)
            await until(lambda: both(workers), "both new ones have", START)
            await client.result("pipeline.destroy", [pipeline_id])
            error = await client.error("rag.execute", asked)
            assert (error["code"], error["data"]["maybe_executed"]) == (ErrorCode.PIPELINE_NOT_FOUND, False)


async def both(workers: Callable[[], Awaitable[set[str]]]) -> bool:
    return await workers() == {"executor-0", "executor-1"}
