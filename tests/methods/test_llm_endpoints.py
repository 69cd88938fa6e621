"""Endpoints of language models: what they refuse, how their streams end, which one answers, and what it costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("faiss")
pytest.importorskip("openai")

from tests.methods.llm_endpoint import KEY, TOKENS, Endpoint
from tests.methods.packs import word_embeddings
from trunkline.methods import rag, vectors
from trunkline.methods.local import LocalMethods
from trunkline.methods.rag.citations import CheckedCitations
from trunkline.methods.rag.endpoints import FAILURES, endpoints_of, without_secrets
from trunkline.methods.rag.spending import FILE, Spending
from trunkline_protocol.errors import RpcError

QUESTION = {"query": "what does a cat do?", "options": {"collection": "pets", "top_k": 2}}


@pytest.fixture
def first() -> Iterator[Endpoint]:
    with Endpoint() as running:
        yield running


@pytest.fixture
def second() -> Iterator[Endpoint]:
    with Endpoint() as running:
        yield running


@asynccontextmanager
async def serving(folder: Path, *endpoints: dict[str, Any], **settings: Any) -> AsyncIterator[LocalMethods]:
    settings |= {"data_dir": str(folder), "llm_endpoints": list(endpoints)}
    async with LocalMethods(word_embeddings, vectors, rag, settings=settings) as local:
        await local.call("collections.create", {"name": "pets"})
        place = {"title": "Pets", "headings": ["Cats", "Sleep"], "source": "pets.md"}
        items = [{"id": "cats", "text": "A cat sleeps.", "metadata": place}, {"id": "dogs", "text": "A dog barks."}]
        await local.call("vectors.upsert", {"collection": "pets", "items": items})
        yield local


def at(endpoint: Endpoint, name: str, **members: Any) -> dict[str, Any]:
    return {"name": name, "base_url": endpoint.base_url, "model": f"model-of-{name}", "api_key": KEY, **members}


async def test_a_refused_name_or_temperature_is_learnt(tmp_path: Path, first: Endpoint) -> None:
    first.refuses = {
        "max_tokens": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
        "temperature": "Unsupported value: 'temperature' does not support 0.0 with this model.",
    }
    async with serving(tmp_path, at(first, "a")) as methods:
        for _ in range(2):
            assert (await methods.call("rag.execute", QUESTION))["answer"] == "".join(TOKENS)
    last = first.requests[-1]
    assert (last["max_completion_tokens"], "max_tokens" in last, "temperature" in last) == (512, False, False)
    assert len(first.requests) == 4, "twice refused, once answered, and then known"


UNASKED = ("messages", "model", "stream", "stream_options")


async def test_params_of_the_settings_come_first_and_null_takes_one_out(tmp_path: Path, first: Endpoint) -> None:
    params = {"temperature": None, "max_tokens": None, "max_completion_tokens": 9, "reasoning_effort": "low"}
    async with serving(tmp_path, at(first, "a", params={"top_p": 0.5}), llm_params=params) as methods:
        await methods.call("rag.execute", QUESTION)
    (request,) = first.requests
    assert {name: value for name, value in request.items() if name not in UNASKED} == {
        "max_completion_tokens": 9, "reasoning_effort": "low", "top_p": 0.5,
    }  # fmt: skip


async def test_params_that_are_refused_end_in_an_error_with_the_cause(tmp_path: Path, first: Endpoint) -> None:
    first.refuses = {"max_tokens": f"use max_completion_tokens, says {KEY} at https://me:pass@host/"}
    async with serving(tmp_path, at(first, "a", params={"max_tokens": 5})) as methods:
        with pytest.raises(RpcError, match="HTTP 400: use max_completion_tokens, says") as caught:
            await methods.call("rag.execute", QUESTION)
    wire = json.dumps(caught.value.to_wire())
    assert (caught.value.code, KEY in wire, "pass@" in wire) == (3003, False, False)


async def test_a_stream_that_is_cut_is_an_error_with_what_came(tmp_path: Path, first: Endpoint) -> None:
    first.mode = "cut"
    async with serving(tmp_path, at(first, "a")) as methods:
        stream = methods.stream("rag.stream", QUESTION)
        with pytest.raises(RpcError, match="without a finish_reason") as caught:
            _ = [chunk async for chunk in stream]
    assert (caught.value.code, caught.value.data["partial_answer"]) == (3003, "".join(TOKENS))


async def test_a_delta_that_is_null_is_odd_and_complete(tmp_path: Path, first: Endpoint) -> None:
    first.mode = "null delta"
    async with serving(tmp_path, at(first, "a")) as methods:
        result = await methods.call("rag.execute", QUESTION)
    assert (result["answer"], result["metadata"]["finish_reason"]) == ("".join(TOKENS), "stop")


async def test_the_place_of_a_passage_is_told(tmp_path: Path, first: Endpoint) -> None:
    async with serving(tmp_path, at(first, "a")) as methods:
        await methods.call("rag.execute", QUESTION | {"language": "hr"})
    system, asked = (message["content"] for message in first.requests[0]["messages"])
    assert "[1] Pets > Cats > Sleep (source: pets.md)\nA cat sleeps.\n\n[2] A dog barks." in asked
    assert "'hr'" in system


async def test_what_was_not_retrieved_is_not_cited(tmp_path: Path, first: Endpoint) -> None:
    first.tokens = ["A cat [1", ", 7] and", " [", "9", "] sleeps", " [2]."]
    async with serving(tmp_path, at(first, "a")) as methods:
        result = await methods.call("rag.execute", QUESTION)
    assert result["answer"] == "A cat [1] and sleeps [2]."
    assert result["metadata"]["unknown_citations"] == [7, 9]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_citations_are_checked_however_the_text_is_cut(size: int) -> None:
    text = "See [1][3] and `argv[5]`, argv[6], [x], [ 7 ], [2; 8] ``[9]`` [4]"
    citations = CheckedCitations(2)
    said = "".join(citations.feed(text[start : start + size]) for start in range(0, len(text), size))
    assert said + citations.end() == "See [1] and `argv[5]`, argv[6], [x], [ 7 ], [2] ``[9]``"
    assert citations.unknown == [3, 8, 4]


async def test_the_next_endpoint_answers_where_one_fails(tmp_path: Path, first: Endpoint, second: Endpoint) -> None:
    first.mode = "500"
    second.usage = {"prompt_tokens": 1_000_000, "completion_tokens": 500_000, "total_tokens": 1_500_000}
    dear = at(second, "b", input_price=2.0, output_price=4.0)
    async with serving(tmp_path, at(first, "a"), dear) as methods:
        for asked in range(1, FAILURES + 3):
            metadata = (await methods.call("rag.execute", QUESTION))["metadata"]
            assert (metadata["endpoint"], metadata["generator"], metadata["cost"]) == ("b", "model-of-b", 4.0)
            assert metadata["usage"] == {"prompt_tokens": 1_000_000, "completion_tokens": 500_000}
            if asked <= FAILURES:
                assert [each["endpoint"] for each in metadata["tried"]] == ["a"]
                assert metadata["tried"][0]["code"] == 3003
            else:
                assert "tried" not in metadata, "its breaker is open"
    assert len(first.requests) == FAILURES
    assert second.requests[0]["stream_options"] == {"include_usage": True}
    assert Spending(tmp_path, 0).spent() == 4.0 * (FAILURES + 2)
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


async def test_what_has_begun_is_not_begun_again_elsewhere(tmp_path: Path, first: Endpoint, second: Endpoint) -> None:
    first.mode = "broken"
    async with serving(tmp_path, at(first, "a"), at(second, "b")) as methods:
        with pytest.raises(RpcError, match="broke off") as caught:
            await methods.call("rag.execute", QUESTION)
    assert (caught.value.data["partial_answer"], second.requests) == (TOKENS[0], [])


async def test_all_that_fail_are_not_tried_for_a_while(tmp_path: Path, first: Endpoint) -> None:
    first.mode = "500"
    async with serving(tmp_path, at(first, "a")) as methods:
        for _ in range(FAILURES):
            with pytest.raises(RpcError, match="HTTP 500"):
                await methods.call("rag.execute", QUESTION)
        with pytest.raises(RpcError, match="tried for now") as caught:
            await methods.call("rag.execute", QUESTION)
        assert (caught.value.code, caught.value.retry_after_ms is not None) == (1001, True)
        answered = await methods.call("rag.execute", QUESTION | {"fallback": "extractive"})
    assert answered["metadata"]["fallback"]["code"] == 1001


async def test_a_spent_budget_leaves_what_costs_nothing(tmp_path: Path, first: Endpoint, second: Endpoint) -> None:
    first.usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
    dear = at(first, "dear", output_price=1_000_000.0)
    for endpoints, last in (([dear, at(second, "free")], "free"), ([dear], None)):
        async with serving(tmp_path / str(last), *endpoints, llm_budget=15.0) as methods:
            for _ in range(2):
                assert (await methods.call("rag.execute", QUESTION))["metadata"]["endpoint"] == "dear"
            if last is not None:
                assert (await methods.call("rag.execute", QUESTION))["metadata"]["endpoint"] == last
                continue
            with pytest.raises(RpcError, match=r"spent: 20 of 15 \(TRUNKLINE_LLM_BUDGET\)") as caught:
                await methods.call("rag.execute", QUESTION)
            assert (caught.value.code, caught.value.maybe_executed) == (2003, False)
            fallen = await methods.call("rag.execute", QUESTION | {"fallback": "extractive"})
            assert fallen["metadata"]["fallback"]["code"] == 2003


async def test_costs_are_estimated_where_an_endpoint_does_not_tell(tmp_path: Path, first: Endpoint) -> None:
    first.refuses = {"stream_options": "unknown field stream_options"}
    async with serving(tmp_path, at(first, "a", output_price=1.0)) as methods:
        metadata = (await methods.call("rag.execute", QUESTION))["metadata"]
    assert (metadata["usage"]["estimated"], metadata["usage"]["completion_tokens"]) == (True, len("".join(TOKENS)) // 4)
    assert metadata["cost"] > 0


async def test_several_writers_add_up(tmp_path: Path) -> None:
    spending = [Spending(tmp_path, 0) for _ in range(4)]
    await asyncio.gather(*(asyncio.to_thread(each.add, "a", 0.25) for each in spending * 5))
    assert spending[0].spent() == 5.0


def test_words_of_an_endpoint_have_no_secrets() -> None:
    said = "Incorrect key sk-proj-abc***xyz,\n Bearer abcdefgh, https://u:p@host and own-key; model not found"
    assert without_secrets(said, ["own-key"]) == "Incorrect key ***, *** https://***host and ***; model not found"


def test_the_settings_of_endpoints_keep_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    from trunkline.config import load_settings
    from trunkline.hosting.executor_settings import pack_settings
    from trunkline.settings.naming import SettingsError

    endpoint = {"base_url": "https://llm.example/v1", "model": "m", "api_key": KEY, "input_price": 0.5}
    monkeypatch.setenv("TRUNKLINE_LLM_ENDPOINTS", json.dumps([endpoint]))
    settings = load_settings()
    assert KEY in settings.secrets, "never logged"
    assert KEY not in repr(settings)
    (given,) = pack_settings(settings)["llm_endpoints"]
    assert (given["api_key"], given["input_price"], given["output_price"]) == (KEY, 0.5, 0)
    monkeypatch.setenv("TRUNKLINE_LLM_ENDPOINTS", json.dumps([endpoint | {"input_price": -1}]))
    with pytest.raises(SettingsError, match="llm_endpoints"):
        load_settings()


def test_two_endpoints_of_one_model_have_two_names() -> None:
    one = {"base_url": "http://a/v1", "model": "m"}
    settings = {"llm_base_url": "http://b/v1", "llm_model": "m", "llm_endpoints": [one, one | {"name": "near"}]}
    assert [(each.name, each.base_url) for each in endpoints_of(settings)] == [
        ("m", "http://b/v1"), ("m-2", "http://a/v1"), ("near", "http://a/v1"),
    ]  # fmt: skip
