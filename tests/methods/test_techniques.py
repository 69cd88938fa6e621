"""Techniques as plug-ins: what a user's module declares is served as the built-in ones are, and cannot break a call."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

pytest.importorskip("bm25s")
pytest.importorskip("faiss")

from tests.methods.packs import own_techniques, word_embeddings
from trunkline import Passage, Retrieval, technique
from trunkline.methods import rag, vectors
from trunkline.methods.declaration import RegistrationError
from trunkline.methods.local import LocalMethods
from trunkline.methods.rag import known
from trunkline.methods.registry import Registry
from trunkline_protocol.errors import RpcError

TEXTS = {
    "a": ("A cat sleeps.", {"year": 1, "source": "old.md"}),
    "b": ("A cat  sleeps.", {"year": 2, "source": "copy.md"}),
    "c": ("A cat hunts.", {"year": 3, "source": "new.md"}),
}


async def filled(folder: Path, *modules: ModuleType) -> LocalMethods:
    local = LocalMethods(word_embeddings, vectors, rag, *modules, settings={"data_dir": str(folder)})
    await local.__aenter__()
    await local.call("collections.create", {"name": "pets"})
    items = [{"id": id, "text": text, "metadata": metadata} for id, (text, metadata) in TEXTS.items()]
    await local.call("vectors.upsert", {"collection": "pets", "items": items})
    return local


@pytest.fixture
async def methods(tmp_path: Path) -> AsyncIterator[LocalMethods]:
    local = await filled(tmp_path, own_techniques)
    yield local
    await local.__aexit__(None, None, None)


def asked(name: str, params: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    given = {"query": "a cat sleeps", "technique": name, "options": {"collection": "pets", **options}}
    return given if params is None else given | {"technique_params": params}


def ids(result: dict[str, Any]) -> list[str]:
    return [document["id"] for document in result["retrieved_documents"]]


@pytest.mark.parametrize("method", ["rag.execute", "rag.retrieve"])
async def test_a_users_technique_is_served_as_those_of_the_pack_are(methods: LocalMethods, method: str) -> None:
    result = await methods.call(method, asked("newest", {"member": "year"}))
    assert ids(result) == ["c", "b"]
    assert result["technique"] == "newest"
    assert result["metadata"]["technique"] == {"looked_at": 3}
    assert [document["rank"] for document in result["retrieved_documents"]] == [1, 2]


async def test_params_of_the_answer_go_beside_those_of_a_users_technique(methods: LocalMethods) -> None:
    assert ids(await methods.call("rag.execute", asked("newest", {"member": "year", "max_sentences": 1}))) == ["c", "b"]
    with pytest.raises(RpcError, match=r"technique_params\.max_sentences") as caught:
        await methods.call("rag.execute", asked("newest", {"member": "year", "max_sentences": 0}))
    assert caught.value.code == -32602


async def test_a_pipeline_is_checked_by_the_model_of_a_users_technique(methods: LocalMethods) -> None:
    config = {"technique_params": {"member": 7, "colour": 1}}
    with pytest.raises(RpcError, match=r"technique_params\.member") as caught:
        await methods.call("rag.check", {"technique": "newest", "config": config})
    assert caught.value.code == 4001
    assert [each["path"] for each in caught.value.data["errors"]] == [
        "technique_params.member",
        "technique_params.colour",
    ]
    good = {"technique": "newest", "config": {"technique_params": {"member": "year"}, "fallback": "basic"}}
    assert await methods.call("rag.check", good) == good


@pytest.mark.parametrize("method", ["rag.check", "rag.retrieve"])
async def test_what_needs_a_model_is_refused_where_there_is_none(methods: LocalMethods, method: str) -> None:
    params = asked("of_a_model") if method == "rag.retrieve" else {"technique": "of_a_model"}
    with pytest.raises(RpcError, match=r"needs TRUNKLINE_CROSS_ENCODER and a language model") as caught:
        await methods.call(method, params)
    assert caught.value.code == 4001
    for name in ("multi_query", "hyde", "crag", "cross_encoder"):
        with pytest.raises(RpcError, match=f"technique {name} needs ") as caught:
            await methods.call("rag.check", {"technique": name})
        assert caught.value.code == 4001


@pytest.mark.parametrize(
    ("way", "code", "says"),
    [
        ("exit", 3003, "SystemExit"),
        ("stop", 3003, "StopAsyncIteration"),
        ("cancel", 3003, "CancelledError"),
        ("group", 3003, "KeyboardInterrupt"),
        ("typed", 2003, "no room"),
        ("no passage", 3003, "TypeError"),
        ("no number", 3003, "ValueError"),
        ("endless", 3003, "more than 32 searches"),
    ],
)
async def test_however_a_technique_ends_its_caller_gets_a_typed_error(
    methods: LocalMethods, way: str, code: int, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL), pytest.raises(RpcError, match=says) as caught:
        await methods.call("rag.execute", asked("strange", {"way": way}))
    assert caught.value.code == code
    assert "secret" not in caught.value.message
    assert ids(await methods.call("rag.execute", asked("newest"))) == ["c", "b"], "others are served as before"


async def test_a_passage_that_is_yielded_twice_counts_once(methods: LocalMethods) -> None:
    assert ids(await methods.call("rag.retrieve", asked("strange", {"way": "twice"}))) == ["twice"]


async def test_a_failing_technique_falls_back(methods: LocalMethods) -> None:
    result = await methods.call("rag.execute", asked("strange", {"way": "exit"}) | {"fallback": "basic"})
    assert result["technique"] == "basic"
    assert result["metadata"]["fallback"]["from"] == "strange"


@pytest.mark.parametrize("name", ["basic", "hybrid", "rerank", "graph"])
async def test_equal_texts_are_one_document_that_names_the_others(methods: LocalMethods, name: str) -> None:
    result = await methods.call("rag.retrieve", asked(name, top_k=2))
    assert len(ids(result)) == 2
    (kept,) = [each for each in result["retrieved_documents"] if each["text"].split() == ["A", "cat", "sleeps."]]
    others = {"a": {"id": "b", "source": "copy.md"}, "b": {"id": "a", "source": "old.md"}}
    assert kept["also_in"] == [others[kept["id"]]]


@pytest.mark.parametrize("name", ["basic", "hybrid", "rerank", "graph", "newest"])
async def test_the_filter_holds_in_every_technique(methods: LocalMethods, name: str) -> None:
    result = await methods.call("rag.execute", asked(name, filter={"year": {"$gte": 3}}))
    assert ids(result) == ["c"]
    stream = methods.stream("rag.stream", asked(name, filter={"year": {"$gte": 3}}))
    assert [chunk.data["id"] async for chunk in stream if chunk.type == "document"] == ["c"]


async def test_a_filter_that_cannot_be_is_refused(methods: LocalMethods) -> None:
    with pytest.raises(RpcError, match=r"filter.*no operator") as caught:
        await methods.call("rag.execute", asked("basic", filter={"year": {"$near": 3}}))
    assert caught.value.code == -32602


async def test_a_pipelines_filter_is_that_of_its_calls(tmp_path: Path) -> None:
    config = {"options": {"collection": "pets", "filter": {"year": 3}}}
    pipeline = {"pipeline_id": "p", "technique": "hybrid", "config": config}
    local = LocalMethods(
        word_embeddings, vectors, rag, settings={"data_dir": str(tmp_path)}, stubs={"pipeline.get": lambda _: pipeline}
    )
    async with local:
        await local.call("collections.create", {"name": "pets"})
        items = [{"id": id, "text": text, "metadata": metadata} for id, (text, metadata) in TEXTS.items()]
        await local.call("vectors.upsert", {"collection": "pets", "items": items})
        assert ids(await local.call("rag.retrieve", {"query": "a cat", "pipeline_id": "p"})) == ["c"]


class Params(BaseModel):
    pass


async def test_what_cannot_be_a_technique_is_refused_where_it_is_declared() -> None:
    async def no_generator(query: str, params: Params, retrieval: Retrieval) -> None: ...

    async def no_model(query: str, params: dict[str, int], retrieval: Retrieval) -> AsyncIterator[Passage]:
        yield Passage("a", 1.0, "")

    async def too_few(query: str) -> AsyncIterator[Passage]:
        yield Passage("a", 1.0, "")

    for function, says in [(no_generator, "no async generator"), (no_model, "no pydantic model"), (too_few, "takes 1")]:
        with pytest.raises(RegistrationError, match=says):
            technique("mine")(function)  # type: ignore[type-var]
    with pytest.raises(RegistrationError, match="needs='money' is none of llm, cross_encoder"):
        technique("mine", needs=["money"])  # type: ignore[list-item]


async def test_a_name_that_is_taken_is_refused_with_both_places() -> None:
    module = ModuleType("another")

    async def basic(query: str, params: Params, retrieval: Retrieval) -> AsyncIterator[Passage]:
        yield Passage("a", 1.0, "")

    vars(module)["basic"] = technique("basic")(basic)
    with pytest.raises(RegistrationError, match=r"technique basic is defined twice: in test_techniques\.py:\d+, and "):
        LocalMethods(word_embeddings, vectors, rag, module)


async def test_params_that_mean_something_else_everywhere_are_refused(tmp_path: Path) -> None:
    module = ModuleType("another")

    class Clashing(BaseModel):
        max_tokens: str = ""

    async def mine(query: str, params: Any, retrieval: Retrieval) -> AsyncIterator[Passage]:
        yield Passage("a", 1.0, "")

    mine.__annotations__["params"] = Clashing
    vars(module)["mine"] = technique("mine")(mine)
    local = await filled(tmp_path, module)
    with pytest.raises(RpcError, match="max_tokens means something else"):
        await local.call("rag.check", {"technique": "mine"})
    await local.__aexit__(None, None, None)


async def test_installed_packages_add_techniques_and_a_broken_one_is_told_to_who_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> Any:
        raise SystemExit(3)

    points = [
        SimpleNamespace(name="own", value="own", load=lambda: own_techniques),
        SimpleNamespace(name="broken", value="broken.module", load=fails),
    ]
    monkeypatch.setattr(known, "entry_points", lambda group: points if group == "trunkline.techniques" else [])
    with caplog.at_level(logging.ERROR):
        local = await filled(tmp_path)
    assert "entry point broken" in caplog.text
    assert ids(await local.call("rag.retrieve", asked("newest"))) == ["c", "b"]
    with pytest.raises(RpcError, match=r"broken\.module cannot be loaded: SystemExit") as caught:
        await local.call("rag.retrieve", asked("broken"))
    assert caught.value.code == 3002
    await local.__aexit__(None, None, None)


def test_a_hub_tells_the_names_and_the_params_of_all_techniques() -> None:
    registry = Registry()
    for module in (rag, own_techniques):
        registry.add_module(module)
    (info,) = [each for each in registry.catalogue().methods if each.name == "rag.execute"]
    told = {each.name: json.dumps(each.schema) for each in info.parameters}
    for name in ("basic", "rerank", "newest", "strange"):
        assert f'"{name}"' in told["technique"]
        assert f'"{name}"' in told["fallback"]
    assert "what tells the age" in told["technique_params"]
    assert "max_sentences" in told["technique_params"]
    registry = Registry()
    registry.add_module(rag)
    (info,) = [each for each in registry.catalogue().methods if each.name == "rag.execute"]
    assert "newest" not in json.dumps([each.schema for each in info.parameters])
