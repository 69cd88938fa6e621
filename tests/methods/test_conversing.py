"""``rag.*`` in a conversation: questions and answers are kept, whatever becomes of them, and follow-ups rewritten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

for library in ("faiss", "numpy"):
    pytest.importorskip(library)

from tests.hub.tenants import as_one_of, hub_of_tenants  # noqa: E402
from tests.methods.packs import word_embeddings  # noqa: E402
from tests.support.peer import Peer  # noqa: E402
from tests.support.timing import until  # noqa: E402
from trunkline.methods import rag, vectors  # noqa: E402
from trunkline_protocol.errors import ErrorCode  # noqa: E402

TEXTS = ["A cat sleeps all day long. It purrs.", "A dog barks at night."]


@pytest_asyncio.fixture
async def ann(tmp_path: Path) -> AsyncIterator[Peer]:
    modules, settings = (word_embeddings, vectors, rag), {"gate": asyncio.Event()}
    async with (
        hub_of_tenants(tmp_path, *modules, pack_settings=settings, data=tmp_path / "data") as mock,
        as_one_of(mock, "acme") as peer,
    ):
        await peer.result("collections.create", {"name": "pets"})
        items = [{"id": str(number), "text": text} for number, text in enumerate(TEXTS)]
        await peer.result("vectors.upsert", {"collection": "pets", "items": items})
        yield peer


def question(conversation: str, query: str, **more: Any) -> dict[str, Any]:
    return {"query": query, "options": {"collection": "pets"}, "conversation_id": conversation, **more}


async def made(peer: Peer) -> str:
    return str((await peer.result("conversations.create"))["conversation_id"])


async def turns(peer: Peer, conversation: str) -> list[Any]:
    found = await peer.result("conversations.get", {"conversation_id": conversation})
    return list(found["history"])


async def test_a_follow_up_is_asked_of_what_was_asked_before(ann: Peer) -> None:
    conversation = await made(ann)
    first = await ann.result("rag.execute", question(conversation, "does a cat sleeps long?"))
    second = await ann.result("rag.execute", question(conversation, "and does it purrs?"))
    metadata = second["metadata"]
    assert second["query"] == "and does it purrs?"
    assert metadata["rewritten_query"] == "and does it purrs? (cat sleeps long)"
    assert (metadata["conversation_id"], metadata["turn"]) == (conversation, 2)
    kept = await turns(ann, conversation)
    assert [each["answer"] for each in kept] == [first["answer"], second["answer"]]
    assert [each["answer_id"] for each in kept][1] == metadata["answer_id"]
    assert kept[1]["rewritten_query"] == metadata["rewritten_query"]
    assert all(
        (each["status"], each["collection"], each["technique"]) == ("answered", "pets", "basic") for each in kept
    )


async def test_a_stream_is_kept_as_it_was_said(ann: Peer) -> None:
    conversation = await made(ann)
    result = await ann.result("rag.stream", question(conversation, "does a cat sleeps long?"))
    (turn,) = await turns(ann, conversation)
    assert (turn["status"], turn["answer"], turn["found"]) == ("answered", result["answer"], True)


async def test_what_was_not_found_and_what_failed_is_listed(ann: Peer) -> None:
    conversation = await made(ann)
    await ann.result("rag.execute", question(conversation, "zzz qqq"))
    failed = await ann.call("rag.execute", question(conversation, "why?", options={"collection": "nothing"}))
    unknown = await ann.call("rag.execute", question(conversation, "why?", technique="none"))
    kept = await turns(ann, conversation)
    assert [each["status"] for each in kept] == ["answered", "failed", "failed"]
    assert kept[0]["found"] is False
    assert [each["code"] for each in kept[1:]] == [failed["error"]["code"], unknown["error"]["code"]]
    listed = await ann.result("rag.unanswered")
    assert {each["why"] for each in listed["questions"]} == {"not_found", "failed"}


@pytest.mark.parametrize("method", ["rag.execute", "rag.stream"])
async def test_a_cancelled_answer_is_kept_as_cancelled(ann: Peer, method: str) -> None:
    conversation = await made(ann)
    request = await ann.request(method, question(conversation, "please wait"))

    async def began() -> bool:
        return bool(await turns(ann, conversation))

    await until(began, "the question is kept before it is answered")
    assert (await turns(ann, conversation))[0]["status"] == "open"
    await ann.notify("$/cancelRequest", {"id": request})
    assert (await ann.reply(request))["error"]["code"] == ErrorCode.CANCELLED
    (turn,) = await turns(ann, conversation)
    assert (turn["status"], turn["code"]) == ("cancelled", ErrorCode.CANCELLED)


async def test_a_deadline_that_passes_is_a_failure(ann: Peer) -> None:
    conversation = await made(ann)
    reply = await ann.call("rag.execute", question(conversation, "please wait"), metadata={"timeout_ms": 300})
    assert reply["error"]["code"] == ErrorCode.COMMUNICATION_TIMEOUT
    (turn,) = await turns(ann, conversation)
    assert (turn["status"], turn["code"]) == ("failed", ErrorCode.COMMUNICATION_TIMEOUT)


async def test_what_cannot_be_asked(ann: Peer) -> None:
    conversation = await made(ann)
    history = [{"role": "user", "content": "x"}]
    both = await ann.call("rag.execute", question(conversation, "why?", history=history))
    unknown = await ann.call("rag.execute", question("0" * 32, "why?"))
    for reply in (both, unknown):
        assert reply["error"]["code"] == ErrorCode.INVALID_PARAMS
    assert await turns(ann, conversation) == []
