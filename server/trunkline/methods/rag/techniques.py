"""The techniques that come with the pack and need no language model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from trunkline import Passage, Retrieval, technique
from trunkline.methods.rag.retrieval import BasicParams, HybridParams

MAX_FOUND: Final = 1000


async def _growing(find: Callable[[int], Awaitable[list[Passage]]], top_k: int) -> AsyncIterator[Passage]:
    """What a search finds; more is asked for where the first ones are not enough, as some have the same text."""
    count, given = 2 * top_k, 0
    while True:
        found = await find(count)
        for passage in found[given:]:
            yield passage
        if len(found) < count or count == MAX_FOUND:
            return
        given, count = len(found), min(MAX_FOUND, 4 * count)


@technique("basic")
async def basic(query: str, params: BasicParams, retrieval: Retrieval) -> AsyncIterator[Passage]:
    """By meaning: what is nearest to the query."""
    async for passage in _growing(lambda count: retrieval.search(query, count), retrieval.top_k):
        yield passage


@technique("extractive")
async def extractive(query: str, params: BasicParams, retrieval: Retrieval) -> AsyncIterator[Passage]:
    """As ``basic``; the answer is extracted, whatever model is set."""
    async for passage in _growing(lambda count: retrieval.search(query, count), retrieval.top_k):
        yield passage


@technique("hybrid")
async def hybrid(query: str, params: HybridParams, retrieval: Retrieval) -> AsyncIterator[Passage]:
    """By meaning and words, fused."""

    async def find(count: int) -> list[Passage]:
        return await retrieval.hybrid(query, count, fusion=params.fusion, weight=params.weight)

    async for passage in _growing(find, retrieval.top_k):
        yield passage
