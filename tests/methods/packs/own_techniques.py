"""Techniques as a user writes them: a good one, and one that ends in every odd way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal, cast

from pydantic import BaseModel, Field

from trunkline import Passage, Retrieval, RpcError, technique


class NewestParams(BaseModel):
    member: str = Field("year", description="what tells the age")


@technique("newest")
async def newest(query: str, params: NewestParams, retrieval: Retrieval) -> AsyncIterator[Passage]:
    found = await retrieval.search(query, 50)
    retrieval.note("looked_at", len(found))
    for passage in sorted(found, key=lambda each: each.metadata.get(params.member, 0), reverse=True):
        yield passage


class StrangeParams(BaseModel):
    way: Literal["exit", "stop", "cancel", "group", "typed", "no passage", "no number", "endless", "twice"]


@technique("strange")
async def strange(query: str, params: StrangeParams, retrieval: Retrieval) -> AsyncIterator[Passage]:
    raising: dict[str, BaseException] = {
        "exit": SystemExit(1),
        "stop": StopAsyncIteration("secret"),
        "cancel": asyncio.CancelledError("secret"),
        "group": BaseExceptionGroup("secret", [KeyboardInterrupt("secret")]),
        "typed": RpcError(2003, "no room"),
    }
    if params.way in raising:
        raise raising[params.way]
    while params.way == "endless":
        await retrieval.search(query, 1)
    if params.way == "no passage":
        yield cast("Any", {"id": "a"})
    score = float("nan") if params.way == "no number" else 1.0
    for _ in range(2):
        yield Passage("twice", score, "the same")


@technique("of_a_model", needs=("llm", "cross_encoder"))
async def of_a_model(query: str, params: NewestParams, retrieval: Retrieval) -> AsyncIterator[Passage]:
    yield Passage("one", 1.0, await retrieval.complete("", query))
