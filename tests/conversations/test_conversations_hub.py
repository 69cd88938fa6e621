"""Conversations of a real hub: kept, bounded, exported, deleted, with the rights of their principals and tenants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.hub.tenants import as_one_of, hub_of_tenants
from tests.support.peer import Peer
from trunkline_protocol.errors import ErrorCode

LIMITS: Any = {"conversations_per_principal": 3, "conversation_turns": 4, "conversation_bytes": 4096}


@pytest_asyncio.fixture
async def ann(tmp_path: Path) -> AsyncIterator[Peer]:
    async with (
        hub_of_tenants(tmp_path, executors=0, data=tmp_path / "data", **LIMITS) as mock,
        as_one_of(mock, "acme") as peer,
    ):
        yield peer


async def made(peer: Peer, title: str = "") -> str:
    return str((await peer.result("conversations.create", {"title": title}))["conversation_id"])


async def ask(peer: Peer, conversation: str, question: str) -> Any:
    return await peer.result("conversations.append", {"conversation_id": conversation, "question": question})


async def answer(peer: Peer, conversation: str, turn: int, status: str = "answered", **more: Any) -> Any:
    params = {"conversation_id": conversation, "turn": turn, "status": status, **more}
    return await peer.result("conversations.answer", params)


async def refused(peer: Peer, method: str, **params: Any) -> Any:
    return (await peer.call(method, params))["error"]


async def test_questions_and_answers_are_kept(ann: Peer) -> None:
    conversation = await made(ann, "pets")
    first = await ask(ann, conversation, "What is a cat?")
    assert (first["turn"], first["history"]) == (1, [])
    await answer(ann, conversation, 1, answer="An animal.", found=True)
    second = await ask(ann, conversation, "And a dog?")
    assert [each["answer"] for each in second["history"]] == ["An animal."]
    found = await ann.result("conversations.get", {"conversation_id": conversation})
    assert (found["title"], found["turns"], found["tenant"], found["principal"]) == ("pets", 2, "acme", "ann")
    (one, other) = found["history"]
    assert (one["status"], one["found"], one["answer_id"]) == ("answered", True, first["answer_id"])
    assert other["status"] == "open", "whoever put it there may still answer it"
    assert (await refused(ann, "conversations.answer", conversation_id=conversation, turn=1, status="failed"))["code"]


async def test_they_outlive_the_hub(tmp_path: Path) -> None:
    for first in (True, False):
        async with (
            hub_of_tenants(tmp_path, executors=0, data=tmp_path / "data") as mock,
            as_one_of(mock, "acme") as peer,
        ):
            if first:
                conversation = await made(peer)
                await ask(peer, conversation, "kept?")
                await answer(peer, conversation, 1, answer="yes", found=True)
                assert (tmp_path / "data/conversations/conversations.sqlite").stat().st_mode & 0o777 == 0o600
                continue
            (turn,) = (await peer.result("conversations.get", {"conversation_id": conversation}))["history"]
            assert (turn["question"], turn["answer"]) == ("kept?", "yes")


async def test_nothing_is_on_disk_before_the_first(ann: Peer, tmp_path: Path) -> None:
    assert await ann.result("conversations.list") == {"conversations": [], "cursor": None}
    assert (await refused(ann, "conversations.get", conversation_id="x"))["code"] == ErrorCode.INVALID_PARAMS
    assert await ann.result("conversations.delete", {"conversation_id": "*"}) == {"deleted": 0}
    assert not (tmp_path / "data/conversations").exists()


async def test_they_are_listed_page_by_page(ann: Peer) -> None:
    ids = [await made(ann, f"number {number}") for number in range(3)]
    page = await ann.result("conversations.list", {"limit": 2})
    rest = await ann.result("conversations.list", {"limit": 2, "cursor": page["cursor"]})
    assert [each["conversation_id"] for each in (*page["conversations"], *rest["conversations"])] == ids[::-1]
    assert rest["cursor"] is None
    assert (await refused(ann, "conversations.list", cursor="x"))["code"] == ErrorCode.INVALID_PARAMS


async def test_they_are_bounded(ann: Peer) -> None:
    conversation = await made(ann)
    await made(ann)
    await made(ann)
    assert (await refused(ann, "conversations.create"))["data"]["limit"] == "TRUNKLINE_CONVERSATIONS_PER_PRINCIPAL"
    for number in range(4):
        await ask(ann, conversation, f"question {number}")
    error = await refused(ann, "conversations.append", conversation_id=conversation, question="one more")
    assert error["data"]["limit"] == "TRUNKLINE_CONVERSATION_TURNS"


async def test_an_answer_that_is_too_large_is_kept_in_part_and_has_failed(ann: Peer) -> None:
    conversation = await made(ann)
    await ask(ann, conversation, "a")
    turn = await answer(ann, conversation, 1, answer="x" * 10_000)
    assert (turn["status"], turn["code"]) == ("failed", ErrorCode.RESOURCE_EXHAUSTED)
    assert 0 < len(turn["answer"]) < 4096
    await ask(ann, conversation, "b")
    error = await refused(ann, "conversations.append", conversation_id=conversation, question="q" * 3000)
    assert error["data"]["limit"] == "TRUNKLINE_CONVERSATION_BYTES"


async def test_everything_is_exported_and_deleted(ann: Peer, tmp_path: Path) -> None:
    for number in range(3):
        conversation = await made(ann)
        await ask(ann, conversation, f"secret {number}")
        await answer(ann, conversation, 1, answer="said", found=True)
    exported = await ann.result("conversations.export")
    lines = [json.loads(line) for line in exported["lines"].splitlines()]
    assert [line["history"][0]["question"] for line in lines] == ["secret 2", "secret 1", "secret 0"]
    assert (exported["conversations"], exported["cursor"]) == (3, None)
    assert await ann.result("conversations.delete", {"conversation_id": conversation}) == {"deleted": 1}
    assert await ann.result("conversations.delete", {"conversation_id": "*"}) == {"deleted": 2}
    assert (await ann.result("conversations.export"))["lines"] == ""
    for file in (tmp_path / "data/conversations").iterdir():
        assert b"secret" not in file.read_bytes(), f"{file.name} still has what was deleted"
    for params in ({}, {"conversation_id": "x", "principal": "ann"}, {"conversation_id": "x"}):
        assert (await refused(ann, "conversations.delete", **params))["code"] == ErrorCode.INVALID_PARAMS


async def test_feedback_and_questions_without_an_answer(ann: Peer) -> None:
    conversation = await made(ann)
    for number, (status, found) in enumerate([("answered", True), ("answered", False), ("failed", None)], 1):
        kept = await ask(ann, conversation, f"question {number}")
        await answer(ann, conversation, number, status, found=found)
    rated = await ann.result("rag.feedback", {"answer_id": kept["answer_id"], "rating": "up", "comment": "so what"})
    assert (rated["turn"], rated["rating"], rated["comment"]) == (3, "up", "so what")
    place = {"conversation_id": conversation, "turn": 1}
    assert (await ann.result("rag.feedback", place | {"rating": "down"}))["rating"] == "down"
    found = await ann.result("rag.unanswered")
    assert {each["turn"]: each["why"] for each in found["questions"]} == {1: "rated_down", 2: "not_found", 3: "failed"}
    (day,) = found["days"]
    counts = ("questions", "answered", "not_found", "failed", "cancelled", "rated_up", "rated_down")
    assert [day[name] for name in counts] == [3, 1, 1, 1, 0, 1, 1]
    for params in ({}, place | {"answer_id": "x"}, {"conversation_id": conversation}):
        assert (await refused(ann, "rag.feedback", rating="up", **params))["code"] == ErrorCode.INVALID_PARAMS
    unknown = await refused(ann, "rag.feedback", rating="up", answer_id="0" * 32)
    assert unknown["data"]["no_such"] == "conversation"


async def test_admins_see_questions_and_delete_for_others(tmp_path: Path) -> None:
    async with (
        hub_of_tenants(tmp_path, executors=0, data=tmp_path / "data") as mock,
        as_one_of(mock, "acme") as ann,
        as_one_of(mock, "bolt") as bolt,
        as_one_of(mock, "root") as root,
    ):
        for peer in (ann, bolt):
            conversation = await made(peer)
            await ask(peer, conversation, "why?")
            await answer(peer, conversation, 1, found=False)
        both = await root.result("rag.unanswered")
        assert sorted(each["tenant"] for each in both["questions"]) == ["acme", "bolt"]
        assert [each["tenant"] for each in (await root.result("rag.unanswered", {"tenant": "bolt"}))["days"]] == [
            "bolt"
        ]
        assert [each["tenant"] for each in (await ann.result("rag.unanswered"))["questions"]] == ["acme"]
        whose: Any = {"principal": "ann", "tenant": "acme"}
        others: list[tuple[str, dict[str, Any]]] = [
            ("rag.unanswered", {"tenant": "bolt"}),
            ("conversations.export", {"tenant": "bolt"}),
            ("conversations.delete", {"conversation_id": "*", "principal": "bob"}),
        ]
        for method, params in others:
            assert (await refused(ann, method, **params))["code"] == ErrorCode.FORBIDDEN
        for method in ("conversations.export", "conversations.delete"):
            params = {"principal": "ann"} | ({"conversation_id": "*"} if method == "conversations.delete" else {})
            error = await refused(root, method, **params)
            assert (error["code"], error["data"]["no_such"]) == (ErrorCode.INVALID_PARAMS, "principal"), method
            assert error["data"]["tenant"] == "default"
            assert "tenant 'default'" in error["message"]
            assert "name tenant" in error["message"]
        assert (await root.result("conversations.export", whose))["conversations"] == 1
        assert await root.result("conversations.delete", whose | {"conversation_id": "*"}) == {"deleted": 1}
        assert (await bolt.result("conversations.list"))["conversations"]
        await root.result("tenants.create", {"name": "bolt"})
        removed = await root.result("tenants.delete", {"name": "bolt", "purge": True})
        assert removed["removed"]["conversations"] == 1, removed
        assert (await root.result("rag.unanswered"))["days"] == []


async def test_old_ones_are_forgotten(tmp_path: Path) -> None:
    for seconds in (60.0, 0.001):
        settings: dict[str, Any] = {"conversations_kept_seconds": seconds}
        async with (
            hub_of_tenants(tmp_path, executors=0, data=tmp_path / "data", **settings) as mock,
            as_one_of(mock, "acme") as peer,
        ):
            if seconds > 1:
                await made(peer)
                await asyncio.sleep(0.05)
            else:
                assert (await peer.result("conversations.list"))["conversations"] == []
