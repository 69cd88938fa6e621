"""The official clients of OpenAI's API, and a framework on them, unchanged, against a real hub."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.node import FOLDER, node, require_packages
from tests.interop.packages import library
from tests.support.hub import RunningHub, ready_hub

PACKS = Path(__file__).parents[1] / "methods" / "packs"
MESSAGES: Any = [{"role": "user", "content": "one two"}]
SAID = "user:one two t=1.0 "


@pytest.fixture(scope="module")
def hub(tiny_model: Path) -> Iterator[RunningHub]:
    env = {"TRUNKLINE_MODEL": str(tiny_model)}
    with ready_hub("chats", "trunkline.methods.embeddings", cwd=PACKS, env=env) as hub:
        yield hub


def base(hub: RunningHub) -> str:
    return f"http://127.0.0.1:{hub.port}/v1"


@pytest.fixture(scope="module")
def client(hub: RunningHub) -> Any:
    return library("openai").OpenAI(base_url=base(hub), api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def model(client: Any) -> str:
    """The name of the embedding model, as the list has it."""
    (name,) = [each.id for each in client.models.list() if not each.id.startswith("chat.")]
    return str(name)


def test_python_chat(client: Any) -> None:
    whole = client.chat.completions.create(model="chat.echo", messages=MESSAGES)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (SAID, "length")
    assert whole.usage.total_tokens == 4
    options = {"include_usage": True}
    chunks = [
        *client.chat.completions.create(model="chat.echo", messages=MESSAGES, stream=True, stream_options=options)
    ]
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == SAID
    assert chunks[-1].usage.total_tokens == 4
    with client.chat.completions.stream(model="chat.whole", messages=MESSAGES) as stream:
        assert stream.get_final_completion().choices[0].message.content == "ONE TWO"


def test_python_errors(client: Any) -> None:
    openai = library("openai")
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="no-such-model", messages=MESSAGES)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="chat.echo", messages=MESSAGES, response_format={"type": "json_object"})
    assert refused.value.param == "response_format"
    stream = client.chat.completions.create(model="chat.breaks", messages=MESSAGES, stream=True)
    assert [next(stream).choices[0].delta.content for _ in range(2)] == ["", "a word"]
    with pytest.raises(openai.APIError, match="the pipe burst"):
        next(stream)


def test_what_has_begun_is_not_tried_again(hub: RunningHub) -> None:
    openai = library("openai")
    patient = openai.OpenAI(base_url=base(hub), api_key="none", max_retries=5)
    with pytest.raises(openai.InternalServerError) as failed:
        patient.chat.completions.create(model="chat.breaks", messages=MESSAGES)
    assert failed.value.response.request.headers["x-stainless-retry-count"] == "0"


def test_python_embeddings(client: Any, model: str) -> None:
    found = client.embeddings.create(model=model, input=["abc", "def"])
    plain = client.embeddings.create(model=model, input=["abc", "def"], encoding_format="float", user="ann")
    for one, other in zip(found.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding)
        assert math.hypot(*one.embedding) == pytest.approx(1)
    assert found.usage.prompt_tokens == found.usage.total_tokens > 0
    assert client.embeddings.create(model=model, input="a " * 40).truncated == [0]
    with pytest.raises(library("openai").NotFoundError):
        client.embeddings.create(model="text-embedding-3-small", input="abc")


def test_langchain(hub: RunningHub, model: str) -> None:
    framework = library("langchain_openai")
    llm = framework.ChatOpenAI(base_url=base(hub), api_key="none", model="chat.echo", temperature=0.5, max_retries=0)
    assert llm.invoke("one two").content == "user:one two t=0.5 "
    chunks = [*llm.stream([("system", "be brief"), ("human", "one")])]
    assert "".join(each.content for each in chunks) == "system:be brief user:one t=0.5 "
    assert chunks[-1].usage_metadata is None or chunks[-1].usage_metadata["total_tokens"]
    embedder = framework.OpenAIEmbeddings(
        base_url=base(hub), api_key="none", model=model, check_embedding_ctx_length=False
    )
    assert [len(each) for each in embedder.embed_documents(["abc", "def"])] == [8, 8]


def test_token_numbers_of_openai_are_refused(client: Any, model: str) -> None:
    openai = library("openai")
    for given in ([2], [[2], [3, 4]]):  # numbers that the model of these tests has, too
        with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False") as refused:
            client.embeddings.create(model=model, input=given)
        assert refused.value.param == "input"


async def test_node(hub: RunningHub, model: str) -> None:
    require_packages("openai")
    async with node(FOLDER / "openai" / "client.mjs", base(hub), "chat.echo", model) as script:
        said = {name: await script.says(name) for name in ("whole", "stream", "helper", "unknown", "n", "inside")}
        listed, embedded = await script.says("models"), await script.says("embeddings")
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    for name in ("whole", "stream"):
        assert said[name] == {"what": name, "content": SAID, "finish": "length", "usage": usage}
    assert said["helper"]["content"] == SAID
    assert (said["unknown"]["status"], said["unknown"]["code"]) == (404, "model_not_found")
    assert (said["n"]["status"], said["n"]["param"]) == (400, "n")
    assert said["inside"]["kind"] == "APIError"
    assert {"chat.echo", model} <= {*listed["ids"]}
    assert embedded["lengths"] == [8, 8]
    assert embedded["first"] != 0
