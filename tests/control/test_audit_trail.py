"""What the audit line of a call says: its target, by the hub's table and by routing keys; and its request id."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec
import pytest

from tests.control.test_discover import PARAMS
from tests.support import jobs
from tests.support.peer import peer
from tests.support.timing import until
from trunkline import Context, method
from trunkline.testing import MockHub
from trunkline_protocol.errors import ErrorCode
from trunkline_protocol.hub_methods import METHODS

IN_WORDS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    name: ({name: value}, word)
    for name, value, word in (
        ("topic", "audit.topic", "audit.topic"),
        ("method", "audit.own", "audit.own"),
        ("call", 7, "7"),
        ("failure", 8, "8"),
        ("worker_id", "executor-9", "executor-9"),
        ("group", "gpu", "gpu"),
        ("key", "notes", "notes"),
        ("tenant", "acme", "acme"),
        ("name", "acme", "acme"),
        ("config", {"log_level": "info", "rate_limit": 5}, "log_level,rate_limit"),
        ("technique", "plain", "plain"),
        ("pipeline_id", "p1", "p1"),
        ("cache_type", "embeddings", "embeddings"),
        ("id", "0123456789abcdef", "0123456789abcdef"),
        ("conversation_id", "c1", "c1"),
        ("answer_id", "a1", "a1"),
        ("principal", "ada", "ada"),
    )
}
"""What a param that names something is given in these tests, and how the line says it."""

NAMES_NOTHING: Final = {
    "token", "resume", "recover", "history", "after", "limit", "data", "idempotency_key", "params", "result", "summary",
    "streaming", "idempotent", "max_concurrency", "timeout_ms", "drain", "priority", "status", "cursor", "time_range",
    "series", "display_name", "metadata", "state", "purge", "quotas", "from", "to", "title", "question", "turn",
    "answer", "found", "code", "rewritten_query", "collection", "days", "rating", "comment",
}  # fmt: skip
"""Params of the hub's methods that say how, or carry a payload or a secret. A new one has to be put here or above."""

NOT_OF_A_TARGET: Final = {("pipeline.initialize", "config"), ("conversations.answer", "technique")}
"""The configuration of a pipeline is a payload; the technique of an answer is kept with it."""


def named(method: str) -> set[str]:
    """The params of a method that name what it is about, by the lists above."""
    fields = {field.encode_name for field in msgspec.structs.fields(METHODS[method].params)}
    unknown = fields - NAMES_NOTHING - IN_WORDS.keys()
    assert not unknown, f"{method}: {unknown} are in neither list: does one of them name what the call is about?"
    return {name for name in fields & IN_WORDS.keys() if (method, name) not in NOT_OF_A_TARGET}


def lines(path: Path, event: str = "call") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [line for line in found if line["event"] == event]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_what_its_params_name_is_the_target(method: str) -> None:
    assert set(METHODS[method].target) == named(method)


async def test_every_method_of_the_hub_leaves_a_line_with_its_target(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with MockHub(audit_file=path) as mock, peer(mock.url) as client:
        for number, name in enumerate(sorted(METHODS.keys() - {"session.open", "session.close"})):
            params: dict[str, Any] = dict(PARAMS.get(name, {}))
            for member in METHODS[name].target:
                params |= IN_WORDS[member][0]
            await client.send({"jsonrpc": "2.0", "id": number, "method": name, "params": params})
            await client.reply(number)
    found = {line["method"]: line for line in lines(path)}
    assert found.keys() >= METHODS.keys() - {"session.open", "session.close"}
    for name, row in METHODS.items():
        if name in found:
            said = " ".join(IN_WORDS[member][1] for member in row.target)
            assert found[name].get("target", "") == said, name
            assert found[name]["principal"] == "anonymous"
            assert ("request_id" in found[name]) is (found[name]["code"] != 0 or name == "jobs.create"), name
    assert "a hub on loopback wants none" not in path.read_text(), "a token is no target"


@pytest.mark.parametrize(
    ("params", "target"),
    [
        ({"worker_id": "executor-0", "key": "notes"}, "notes executor-0"),
        (["notes", "executor-0"], "notes executor-0"),
        (["notes"], "notes"),
        ([], None),
        ({"key": ["notes"], "worker_id": None}, None),
        ({"key": "\x1b[31m\u202ered\n", "worker_id": ""}, "\x1b[31m\u202ered\n"),
    ],
)
async def test_params_as_they_come(tmp_path: Path, params: Any, target: str | None) -> None:
    path = tmp_path / "audit.jsonl"
    async with MockHub(audit_file=path) as mock, peer(mock.url) as client:
        await client.call("executors.assign", params)
    (line,) = lines(path)
    assert line.get("target") == target
    assert b"\x1b" not in path.read_bytes()


@method("shelf.put", routing_key="shelf")
def put(shelf: str, book: str) -> int:
    """Put a book on a shelf."""
    return len(shelf + book)


def shelves() -> ModuleType:
    """A module with the methods of this file."""
    module = ModuleType("shelves")
    for function in (put, both):
        vars(module)[function.__name__] = function
        function.__module__ = module.__name__
    return module


async def test_a_routing_key_is_the_target_and_nothing_else_of_the_params(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with MockHub(shelves(), audit_file=path) as mock, peer(mock.url) as client:
        await client.result("shelf.put", {"book": "a payload", "shelf": "notes"})
        await client.error("shelf.put", {"book": "a payload", "shelf": 3})
    assert [line.get("target") for line in lines(path)] == ["notes", "3"]
    assert "payload" not in path.read_text()


def of_call(path: Path, method: str) -> Mapping[str, Any]:
    (line,) = [line for line in lines(path) if line["method"] == method]
    return line


async def test_a_request_id_is_the_callers_or_one_is_made_and_the_error_has_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with MockHub(audit_file=path) as mock, peer(mock.url) as client:
        given = await client.error("none.such", metadata={"request_id": "r-1"})
        made = await client.error("neither.such")
    assert given["data"]["request_id"] == of_call(path, "none.such")["request_id"] == "r-1"
    assert made["data"]["request_id"] == of_call(path, "neither.such")["request_id"]


async def test_without_anybody_who_writes_about_it_no_id_is_made() -> None:
    async with MockHub() as mock, peer(mock.url) as client:
        assert "request_id" not in (await client.error("none.such"))["data"]
        assert (await client.error("none.such", metadata={"request\\u005fid": "x"}))["data"].get("request_id") is None


@method("shelf.both", idempotent=True)
async def both(ctx: Context) -> str | None:
    """Put a book by another method; returns the request id it was told."""
    await ctx.call("shelf.put", {"shelf": "below", "book": "x"})
    told: str | None = ctx.metadata.get("request_id")
    return told


async def test_what_a_method_and_a_job_call_have_the_id_of_who_began_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with MockHub(shelves(), audit_file=path) as mock, peer(mock.url) as client:
        await client.result("shelf.both")
        await client.result("shelf.both", metadata={"request_id": "r-2"})
        made = await client.result("jobs.create", {"method": "shelf.both"})
        job = await jobs.until(client, made["id"])
    found = lines(path)
    nested = [line for line in found if line.get("via") == "shelf.both"]
    outer = [line for line in found if line["method"] == "shelf.both"]
    (create,) = [line for line in found if line["method"] == "jobs.create"]
    assert [line["target"] for line in nested] == ["below"] * 3
    assert [line["request_id"] for line in nested] == [line["request_id"] for line in outer]
    assert outer[1]["request_id"] == "r-2"
    assert len({line["request_id"] for line in outer}) == 3
    assert (outer[2]["peer"], outer[2]["request_id"]) == (f"job:{made['id']}", create["request_id"])
    assert job["result"] == create["request_id"]


async def test_a_cancelled_call_is_found_by_the_number_that_was_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with MockHub(audit_file=path) as mock, peer(mock.url) as client:
        mock.method("stuck", hang)
        await client.send({"jsonrpc": "2.0", "id": "s", "method": "stuck"})
        await until(lambda: mock.calls, "it runs")
        (running,) = (await client.result("system.calls"))["calls"]
        await client.result("system.cancel", {"call": running["call"]})
        await client.reply("s")
    assert of_call(path, "system.cancel")["target"] == str(of_call(path, "stuck")["call"])
    assert of_call(path, "stuck")["outcome"] == "CANCELLED"


async def hang() -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("text", ["", "x" * 257, "a\nb", "a\n", "\x1b[2J", "\u202e", "naïve", "\x7f"])
async def test_a_hostile_request_id_is_refused_and_repeated_nowhere(tmp_path: Path, text: str) -> None:
    path = tmp_path / "audit.jsonl"
    async with MockHub(audit_file=path) as mock, peer(mock.url) as client:
        mock.method("echo", lambda: 1)
        for name in ("echo", "rpc.ping"):
            error = await client.error(name, metadata={"request_id": text})
            assert error["code"] == ErrorCode.INVALID_PARAMS
            assert "request_id" in error["message"]
            assert error["data"]["request_id"] != text
            assert not text or text not in json.dumps(error, ensure_ascii=False)
    assert all(line["request_id"].isprintable() and line["request_id"].isascii() for line in lines(path))
