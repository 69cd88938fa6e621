"""``/v1/`` over collections and pipelines: the last message is the question, those before it are the conversation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.edge.http.http_client import JSON, send
from tests.support.hub import HttpAnswer, RunningHub, ready_hub

for library in ("faiss", "numpy"):
    pytest.importorskip(library)

PACKS = Path(__file__).parents[2] / "methods" / "packs"
CHAT = "/v1/chat/completions"
TEXT = "A cat sleeps all day long. A dog barks at night."
TOKENS = {name: f"token-of-{name}-{hashlib.sha256(name.encode()).hexdigest()}" for name in ("ann", "bob", "eve")}
ENTRIES = """
deny_by_default = true
[roles.all]
methods = [">"]
collections = ["pets"]
[roles.free]
methods = [">"]
collections = [">"]
[roles.reader]
methods = ["collections.list"]
collections = ["pets"]
"""


def entry(name: str, tenant: str, role: str) -> str:
    digest = hashlib.sha256(TOKENS[name].encode()).hexdigest()
    return f'[[tokens]]\nname = "{name}"\ntenant = "{tenant}"\nroles = ["{role}"]\nsha256 = "{digest}"\n'


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens.toml"
    tokens.write_text(ENTRIES + entry("ann", "a", "all") + entry("bob", "b", "free") + entry("eve", "a", "reader"))
    tokens.chmod(0o600)
    modules = ("word_embeddings", "trunkline.methods.vectors", "trunkline.methods.rag")
    with ready_hub(*modules, cwd=PACKS, env={"TRUNKLINE_TOKENS_FILE": str(tokens)}) as hub:
        task(hub, "collections/create", {"name": "pets"})
        items = [{"id": str(number), "text": text} for number, text in enumerate([TEXT, "A bird sings."])]
        task(hub, "vectors/upsert", {"collection": "pets", "items": items})
        yield hub


def asked(hub: RunningHub, path: str, body: Any = b"", who: str = "ann", method: str = "POST") -> HttpAnswer:
    return send(hub, path, body, JSON | {"Authorization": f"Bearer {TOKENS[who]}"}, method)


def task(hub: RunningHub, path: str, params: Any) -> Any:
    answer = asked(hub, f"/api/v1/{path}", params)
    assert answer.status == 200, answer
    return answer.json()


def chat(hub: RunningHub, *texts: str, who: str = "ann", model: str = "pets", **members: Any) -> HttpAnswer:
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)]
    return asked(hub, CHAT, {"model": model, "messages": messages} | members, who)


def test_a_question_to_a_collection(hub: RunningHub) -> None:
    body = chat(hub, "when does a cat sleeps?").json()
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "stop"
    assert "A cat sleeps all day long. [1]" in choice["message"]["content"]
    assert body["trunkline"]["retrieved_documents"][0]["text"] == TEXT
    assert body["trunkline"]["metadata"]["generator"] == "extractive"
    assert body["usage"] is None, "this embedding method does not tell its tokens"


def test_a_stream_has_the_same_words_and_sources(hub: RunningHub) -> None:
    whole = chat(hub, "when does a cat sleeps?").json()
    lines = chat(hub, "when does a cat sleeps?", stream=True).body.decode().split("\n\n")
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    said = "".join(each["choices"][0]["delta"].get("content", "") for each in events)
    assert said == whole["choices"][0]["message"]["content"]
    assert events[-1]["trunkline"]["retrieved_documents"] == whole["trunkline"]["retrieved_documents"]
    assert lines[-2:] == ["data: [DONE]", ""]


def test_what_was_said_before_makes_a_follow_up_a_question(hub: RunningHub) -> None:
    alone = chat(hub, "and when does it do that?").json()["trunkline"]
    assert "rewritten_query" not in alone["metadata"]
    more = chat(hub, "What is a cat?", "An animal.", "and when does it do that?").json()["trunkline"]
    assert more["metadata"]["rewritten_query"] == "and when does it do that? (cat)"
    assert more["metadata"]["rewritten_by"] == "terms"
    assert more["query"] == "and when does it do that?"


def test_what_extracted_answers_cannot_follow_is_told(hub: RunningHub) -> None:
    messages = [{"role": "system", "content": "Speak French."}, {"role": "user", "content": "a cat sleeps"}]
    body = asked(hub, CHAT, {"model": "pets", "messages": messages, "temperature": 0.3, "max_tokens": 5}).json()
    assert body["trunkline"]["ignored"] == ["temperature", "max_tokens", "system messages"]


def test_params_of_rag(hub: RunningHub) -> None:
    more = {"technique": "hybrid", "options": {"top_k": 1}, "technique_params": {"per_document": 1}}
    body = chat(hub, "a cat sleeps", trunkline=more).json()
    assert body["trunkline"]["technique"] == "hybrid"
    assert len(body["trunkline"]["retrieved_documents"]) == 1
    for wrong, param in [
        ({"options": {"top_k": 0}}, "options.top_k"),
        ({"options": 1}, "trunkline.options"),
        ({"query": "x"}, "trunkline.query"),
        ({"options": {"collection": "others"}}, "trunkline.options.collection"),
        ({"technique_params": {"max_tokens": 5}}, "trunkline.technique_params.max_tokens"),
        ({"technique_params": {"colour": 1}}, "technique_params.colour"),
    ]:
        answer = chat(hub, "a cat", trunkline=wrong, max_tokens=9)
        assert (answer.status, answer.json()["error"]["param"]) == (400, param)
    answer = chat(hub, "a cat", temperature=9)
    assert (answer.status, answer.json()["error"]["param"]) == (400, "technique_params.temperature")


@pytest.mark.parametrize(
    ("model", "who"), [("pets", "bob"), ("gpt-4o", "bob"), ("openai/gpt-4o", "bob"), ("a b", "bob")]
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_name_of_no_collection_is_no_model(hub: RunningHub, model: str, who: str, stream: bool) -> None:
    answer = chat(hub, "a cat", who=who, model=model, stream=stream)
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert error["message"] == f"there is no model {model!r}; GET /v1/models lists them"


def test_a_conversation_that_there_is_not_is_no_model(hub: RunningHub) -> None:
    answer = chat(hub, "a cat", trunkline={"conversation_id": "0" * 32})
    error = answer.json()["error"]
    assert (answer.status, error["param"]) == (404, "trunkline.conversation_id")
    assert error["code"] == "conversation_not_found"


def test_names_of_speakers_are_told_to_have_no_effect(hub: RunningHub) -> None:
    messages = [{"role": "user", "content": "a cat sleeps", "name": "ann"}]
    body = asked(hub, CHAT, {"model": "pets", "messages": messages, "max_tokens": 5}).json()
    assert body["trunkline"]["ignored"] == ["max_tokens", "messages[].name"]


def test_a_pipeline_is_a_model(hub: RunningHub) -> None:
    config = {"options": {"collection": "pets", "top_k": 1}}
    made = task(hub, "pipeline/initialize", {"technique": "basic", "config": config})
    assert len(chat(hub, "a cat sleeps", model=made).json()["trunkline"]["retrieved_documents"]) == 1
    assert {made, "pets"} <= {each["id"] for each in asked(hub, "/v1/models", method="GET").json()["data"]}
    assert chat(hub, "a cat", model=made, who="bob").json()["error"]["code"] == "model_not_found"


def test_rights_and_tenants(hub: RunningHub) -> None:
    unknown = send(hub, CHAT, {"model": "pets", "messages": []})
    assert (unknown.status, unknown.json()["error"]["code"]) == (401, "invalid_api_key")
    assert unknown.headers["www-authenticate"] == "Bearer"
    others = chat(hub, "a cat", who="bob")
    assert (others.status, others.json()["error"]["code"]) == (404, "model_not_found")
    none = chat(hub, "a cat", who="eve")
    assert (none.status, none.json()["error"]["type"]) == (403, "permission_error")
    for who, names in (("ann", ["pets"]), ("bob", []), ("eve", [])):
        listed = asked(hub, "/v1/models", who=who, method="GET").json()["data"]
        assert [each["id"] for each in listed if len(each["id"]) < 32] == names, who


def test_embeddings(hub: RunningHub) -> None:
    body = asked(hub, "/v1/embeddings", {"input": ["a cat"], "model": "x", "encoding_format": "base64"})
    assert (body.status, body.json()["error"]["param"]) == (400, "model"), "this method of one's own has no such param"


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": "a"}, "model"),
        ({"model": "a"}, "input"),
        ({"colour": 1}, "colour"),
        *[({"model": "a", "input": given}, "input") for given in ([1, 2], [[1, 2], [3]], ["a", [1]], ["a", 1])],
    ],
)
def test_what_is_no_request_for_embeddings(hub: RunningHub, members: dict[str, Any], param: str) -> None:
    answer = asked(hub, "/v1/embeddings", members)
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)
