"""A question that belongs to a conversation: put behind it before it is answered, and its answer after it.

Where the call is cancelled, or its executor dies, nothing can be told from here: the hub sees that the call has ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from trunkline import Context, ErrorCode, RpcError
from trunkline.methods.rag.retrieval import RagRun
from trunkline.methods.rag.signatures import Turn


@dataclass(slots=True)
class Place:
    """Where a question belongs.

    Attributes:
        history: what was said before.
        details: of the result's ``metadata``; empty without a conversation.
        run: of the technique that answers, once there is one.
    """

    history: Sequence[Turn] = ()
    details: dict[str, Any] = field(default_factory=dict)
    run: RagRun | None = None


@asynccontextmanager
async def place_of(
    ctx: Context, query: str, conversation_id: str | None, history: Sequence[Turn] | None
) -> AsyncIterator[Place]:
    """The place of a question. Behind the block its answer is kept there, or that there is none, with the error.

    Raises:
        RpcError: -32602, a conversation and a history, or no such conversation; 2003, it is full; 5001, 5002.
    """
    if conversation_id is None:
        yield Place(history or ())
        return
    if history:
        words = f"{ctx.method}: history: the conversation has one; give either history or conversation_id"
        raise RpcError(ErrorCode.INVALID_PARAMS, words)
    begun = await ctx.call("conversations.append", {"conversation_id": conversation_id, "question": query})
    turn = {"conversation_id": conversation_id, "turn": begun["turn"]}
    place = Place(_turns(begun["history"]), turn | {"answer_id": begun["answer_id"]})
    try:
        yield place
    except RpcError as error:
        await ctx.call("conversations.answer", turn | {"status": "failed", "code": error.code} | _said(place.run))
        raise
    except Exception:
        code = int(ErrorCode.INTERNAL_ERROR)
        await ctx.call("conversations.answer", turn | {"status": "failed", "code": code} | _said(place.run))
        raise
    found = place.run is not None and place.run.found
    await ctx.call("conversations.answer", turn | {"status": "answered", "found": found} | _said(place.run))


def _turns(kept: list[dict[str, Any]]) -> list[Turn]:
    turns: list[Turn] = []
    for each in kept:
        turns.append({"role": "user", "content": each["question"]})
        turns.append({"role": "assistant", "content": each["answer"]})
    return turns


def _said(run: RagRun | None) -> dict[str, Any]:
    if run is None:
        return {}
    return {
        "answer": "".join(run.answer),
        "collection": run.options.collection,
        "technique": run.technique,
        "rewritten_query": run.details.get("rewritten_query"),
    }
