"""``POST /v1/chat/completions`` of a real hub, byte by byte: what clients of OpenAI-compatible servers stumbled over.

Public reports that these tests stand for: the usage chunk (ollama#4448, llama.cpp#15443, opencode#42918), the role in
the first delta and an empty last one (litellm#2692, vllm#35705), finish_reason null until then (sglang#3912,
AIShell#350), errors inside a stream (open-webui#29628, openclaude#1174), comments (openai-python#2722), null content.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.edge.http.http_client import JSON, connected, send
from tests.support.hub import HttpAnswer, RunningHub, ready_hub
from tests.support.timing import eventually

PACKS = Path(__file__).parents[2] / "methods" / "packs"
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with ready_hub("chats", cwd=PACKS, env={"TRUNKLINE_PING_INTERVAL": "1"}) as hub:
        yield hub


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text} for text in texts]


def chat(hub: RunningHub, model: str, *texts: str, headers: dict[str, str] | None = None, **members: Any) -> HttpAnswer:
    body = {"model": model, "messages": said(*texts or ("hello",)), **members}
    return send(hub, CHAT, body, JSON | (headers or {}))


def chunks(answer: HttpAnswer) -> list[Any]:
    """The events of a stream, each of them one line of data; the last is ``[DONE]`` where it is there."""
    assert answer.headers["content-type"] == "text/event-stream"
    blocks = re.sub(r"(?m)^:\n", "", answer.body.decode()).removesuffix("\n\n").split("\n\n")
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks), blocks
    return [block[6:] if block == "data: [DONE]" else json.loads(block[6:]) for block in blocks]


def test_a_whole_answer(hub: RunningHub) -> None:
    before = int(time.time())
    answer = chat(hub, "chat.whole", "what is this?", headers={"X-Request-Id": "r-1"})
    assert (answer.status, answer.headers["x-request-id"]) == (200, "r-1")
    body = answer.json()
    assert before <= body.pop("created") <= time.time()
    assert body == {
        "id": "chatcmpl-r-1",
        "object": "chat.completion",
        "model": "chat.whole",
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "WHAT IS THIS?", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": None,
        "trunkline": {"ignored": []},
    }


def test_a_stream_that_is_asked_for_whole_is_put_together(hub: RunningHub) -> None:
    body = chat(hub, "chat.echo", "one", "two", temperature=0.5).json()
    (choice,) = body["choices"]
    assert choice["message"]["content"] == "user:one user:two t=0.5 "
    assert choice["finish_reason"] == "length"
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": True}])
def test_a_stream(hub: RunningHub, options: Any) -> None:
    *events, done = chunks(chat(hub, "chat.echo", "one", stream=True, stream_options=options))
    assert done == "[DONE]"
    assert len({(each["id"], each["created"], each["model"], each["object"]) for each in events}) == 1
    if options == {"include_usage": True}:
        last = events.pop()
        assert last["choices"] == []
        assert last["usage"] == {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        assert all(each["usage"] is None for each in events)
    else:
        assert not any("usage" in each for each in events)
    choices = [each["choices"][0] for each in events]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert [each["delta"] for each in choices[1:-1]] == [{"content": "user:one "}, {"content": "t=1.0 "}]
    assert choices[-1]["delta"] == {}, "the chunk with the reason has no text"
    assert [each["finish_reason"] for each in choices] == [None, None, None, "length"]
    assert all(each["index"] == 0 and each["logprobs"] is None for each in choices)


@pytest.mark.parametrize(("model", "text"), [("chat.whole", "HELLO"), ("chat.plain", "hello"), ("chat.empty", "")])
@pytest.mark.parametrize("stream", [True, False])
def test_every_kind_of_method_is_served_both_ways(hub: RunningHub, model: str, text: str, stream: bool) -> None:
    answer = chat(hub, model, stream=stream)
    if not stream:
        assert answer.json()["choices"][0]["message"]["content"] == text, "never null"
        return
    *events, done = chunks(answer)
    assert (done, events[0]["choices"][0]["delta"]["role"]) == ("[DONE]", "assistant")
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in events) == text
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_silent_stream_has_comments_that_no_client_takes_for_an_event(hub: RunningHub) -> None:
    answer = chat(hub, "chat.slow", "2.5", stream=True)
    assert b"\n:\n" in answer.body
    assert b":\n\n" not in answer.body, "a blank line behind a comment is an event without data for some clients"
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in chunks(answer)[:-1]) == "beforebehind"


def test_an_error_before_the_first_word_has_a_status(hub: RunningHub) -> None:
    for stream in (True, False):
        answer = chat(hub, "chat.breaks", "at once", stream=stream)
        assert (answer.status, answer.headers["content-type"]) == (500, "application/json")
        error = answer.json()["error"]
        assert (error["type"], error["code"], error["param"]) == ("server_error", "pipeline_execution_error", None)
        assert "the pipe burst" in error["message"]
        assert error["trunkline"]["code"] == 3003


def test_an_error_inside_a_stream_is_told_and_no_done_follows(hub: RunningHub) -> None:
    *events, last = chunks(chat(hub, "chat.breaks", stream=True))
    assert [each["choices"][0]["delta"].get("content") for each in events] == ["", "a word"]
    assert all(each["choices"][0]["finish_reason"] is None for each in events)
    assert last["error"]["code"] == "pipeline_execution_error"


def test_clients_are_told_whether_to_try_again(hub: RunningHub) -> None:
    first, second = chat(hub, "chat.busy"), chat(hub, "chat.busy")
    assert (first.status, second.status) == (200, 429)
    assert second.json()["error"]["type"] == "rate_limit_error"
    assert second.headers["x-should-retry"] == "true"
    assert int(second.headers["retry-after"]) >= int(second.headers["retry-after-ms"]) / 1000 > 0
    assert chat(hub, "chat.breaks").headers["x-should-retry"] == "false", "the method has begun"


def test_a_deadline_is_that_of_every_door(hub: RunningHub) -> None:
    answer = chat(hub, "chat.slow", "30", headers={"X-Timeout-Ms": "200"}, stream=False)
    assert answer.status == 504
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("stream", [True, False])
def test_whoever_leaves_cancels(hub: RunningHub, stream: bool) -> None:
    def cancelled() -> int:
        return int(send(hub, "/api/v1/chat/cancelled").json())

    before = cancelled()
    body = json.dumps({"model": "chat.slow", "messages": said("60"), "stream": stream}).encode()
    with connected(hub) as connection:
        connection.request("POST", CHAT, body, JSON)
        if stream:
            assert b"assistant" in connection.getresponse().readline()
        else:
            time.sleep(0.5)
        assert connection.sock is not None
        connection.sock.shutdown(socket.SHUT_RDWR)
    eventually(lambda: cancelled() > before, "the method is cancelled")


USER = said("hello")


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"stop": ["\n"]}, "stop"),
        ({"top_p": 0.1}, "top_p"),
        ({"seed": 1}, "seed"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"store": True}, "store"),
        ({"colour": "red"}, "colour"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"stream": True, "stream_options": {"colour": True}}, "stream_options.colour"),
        ({"trunkline": {"technique": "basic"}}, "trunkline"),
        ({"trunkline": 1}, "trunkline"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "1", "tool_call_id": "c"}, *USER]}, "messages[0].role"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}, *USER]}, "messages[0].tool_calls"),
        ({"messages": [*USER, {"role": "assistant", "content": "so"}]}, "messages[1]"),
        ({"messages": said(" ")}, "messages[0]"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
         "messages[0].content[0]"),
        ({"model": None}, "model"),
        ({"temperature": "hot"}, "temperature"),
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused_by_name(hub: RunningHub, members: dict[str, Any], param: str) -> None:
    answer = send(hub, CHAT, {"model": "chat.echo", "messages": USER} | members)
    error = answer.json()["error"]
    assert (answer.status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert error["code"] == "invalid_params"


def test_what_means_nothing_is_taken(hub: RunningHub) -> None:
    neutral = {
        "n": 1, "top_p": 1.0, "stop": None, "tools": [], "tool_choice": "auto", "response_format": {"type": "text"},
        "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "logprobs": False, "modalities": ["text"],
        "user": "u", "metadata": {"a": "b"}, "parallel_tool_calls": True, "store": False, "service_tier": "auto",
        "seed": None, "stream_options": None,
    }  # fmt: skip
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "name": "ann"},
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": None, "annotations": []},
        *USER,
    ]
    answer = send(hub, CHAT, {"model": "chat.echo", "messages": messages, **neutral})
    assert answer.json()["choices"][0]["message"]["content"] == (
        "system:Be brief. user:one\ntwo assistant: user:hello t=1.0 "
    )
    assert answer.json()["trunkline"]["ignored"] == ["messages[].name"]


def test_it_says_what_had_no_effect(hub: RunningHub) -> None:
    body = chat(hub, "chat.echo", temperature=0.5, max_tokens=5).json()
    assert body["trunkline"]["ignored"] == ["max_tokens"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b'{"model":"\xff"}', b"[" * 100_000])
def test_what_is_no_request(hub: RunningHub, body: bytes) -> None:
    answer = send(hub, CHAT, body)
    assert answer.status == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_paths_and_verbs(hub: RunningHub) -> None:
    for path, method, status in [
        (CHAT, "GET", 405), ("/v1/models", "POST", 405), ("/v1/completions", "POST", 404),
        ("/v1/responses", "POST", 404), ("/v1/", "GET", 404), ("/v1/models/no.such", "GET", 404),
    ]:  # fmt: skip
        answer = send(hub, path, b"", method=method)
        assert (answer.status, answer.json()["error"]["type"]) == (status, "invalid_request_error"), path
    assert send(hub, CHAT, b"{}", {"Content-Type": "text/plain"}).status == 415


def test_models(hub: RunningHub) -> None:
    listed = send(hub, "/v1/models", method="GET").json()
    names = [each["id"] for each in listed["data"]]
    assert names == [f"chat.{name}" for name in ("breaks", "busy", "echo", "empty", "plain", "slow", "whole")]
    one = send(hub, "/v1/models/chat.echo", method="GET").json()
    assert one == listed["data"][2]
    assert (one["object"], one["owned_by"]) == ("model", "trunkline")


def test_an_unknown_model(hub: RunningHub) -> None:
    answer = chat(hub, "no-such-model")
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["param"]) == (404, "model_not_found", "model")
