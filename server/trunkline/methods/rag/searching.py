"""The searches of one call of ``rag.*``, as techniques ask for them (:class:`trunkline.Retrieval`)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from trunkline import Context, ErrorCode, Passage, RpcError
from trunkline.methods.embeddings.client import Embedded, embed

T = TypeVar("T")

MAX_SEARCHES: Final = 32
"""Of one call of a technique: a loop that does not end is an error."""
NEEDS: Final = {"llm": "a language model: set TRUNKLINE_LLM_BASE_URL", "cross_encoder": "TRUNKLINE_CROSS_ENCODER"}
"""What an operator has to do for a technique that needs something."""


@dataclass(frozen=True, slots=True)
class Services:
    """What techniques may need beside searches; None where the hub has no such thing.

    Attributes:
        complete: answers a text by instructions, in so many tokens.
        cross_scores: how well each text answers a query.
    """

    complete: Callable[[Context, str, str, int], Awaitable[str]] | None = None
    cross_scores: Callable[[str, Sequence[str]], Awaitable[list[float]]] | None = None

    def missing(self, needs: frozenset[str]) -> list[str]:
        """What to do, in words, for each of the needs that is not there."""
        has = {"llm": self.complete, "cross_encoder": self.cross_scores}
        return [NEEDS[need] for need in sorted(needs) if has[need] is None]


class Searching:
    """Searches of one collection with the rights and the filter of a call.

    Args:
        top_k: the passages that the caller wants.

    Attributes:
        times: seconds of what is not search, by name.
        notes: what the technique tells of itself.
    """

    def __init__(
        self, collection: str, top_k: int, filter: dict[str, Any] | None, services: Services, ctx: Context
    ) -> None:
        self.top_k = top_k
        self.times: dict[str, float] = {}
        self.notes: dict[str, Any] = {}
        self._given: dict[str, Any] = {"collection": collection} | ({} if filter is None else {"filter": filter})
        self._services = services
        self._ctx = ctx
        self._embedded: dict[str, Embedded] = {}
        self._searches = 0

    def keep(self, text: str, embedded: Embedded) -> None:
        """Keep the vector of a text for searches."""
        self._embedded[text] = embedded

    async def search(self, text: str, count: int) -> list[Passage]:
        """The passages nearest to a text in meaning."""
        return [_passage(each, dense=each["score"]) for each in await self._found("vectors.search", text, count, {})]

    async def hybrid(
        self, text: str, count: int, *, fusion: str = "convex", weight: float | None = None
    ) -> list[Passage]:
        """The passages nearest in meaning and words, with both scores."""
        params = {"text": text, "fusion": fusion, "weight": weight}
        found = await self._found("vectors.hybrid", text, count, params)
        return [_passage(each, each["dense"], each["lexical"]) for each in found]

    async def lexical(self, text: str, count: int) -> list[Passage]:
        """The passages that have the words of a text."""
        self._count()
        found = await self._ctx.call("vectors.lexical", self._given | {"text": text, "top_k": count})
        return [_passage(each, lexical=each["score"]) for each in found["matches"]]

    async def complete(self, instructions: str, text: str, max_tokens: int = 256) -> str:
        """What the language model answers.

        Raises:
            RpcError: 4001, there is none; the error of the endpoint.
        """
        if self._services.complete is None:
            raise RpcError(ErrorCode.INVALID_CONFIGURATION, f"{self._ctx.method}: needs {NEEDS['llm']}")
        self._count()
        return await self._timed("completion", self._services.complete(self._ctx, instructions, text, max_tokens))

    async def cross_scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query, by the cross-encoder.

        Raises:
            RpcError: 4001, there is none.
        """
        if self._services.cross_scores is None:
            raise RpcError(ErrorCode.INVALID_CONFIGURATION, f"{self._ctx.method}: needs {NEEDS['cross_encoder']}")
        return await self._timed("rerank", self._services.cross_scores(query, texts))

    def note(self, name: str, value: Any) -> None:
        """Tell something in ``metadata.technique`` of the result."""
        self.notes[name] = value

    async def _found(self, method: str, text: str, count: int, params: dict[str, Any]) -> list[dict[str, Any]]:
        self._count()
        embedded = self._embedded.get(text)
        if embedded is None:
            embedded = self._embedded[text] = await embed(self._ctx, [text])
        vector = {"vector": embedded.vectors[0].tolist(), "model": embedded.model, "top_k": count}
        matches: list[dict[str, Any]] = (await self._ctx.call(method, self._given | vector | params))["matches"]
        return matches

    async def _timed(self, what: str, work: Awaitable[T]) -> T:
        began = time.perf_counter()
        try:
            return await work
        finally:
            self.times[what] = self.times.get(what, 0.0) + time.perf_counter() - began

    def _count(self) -> None:
        self._searches += 1
        if self._searches > MAX_SEARCHES:
            words = f"{self._ctx.method}: the technique asked for more than {MAX_SEARCHES} searches and completions"
            raise RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, words)


def _passage(match: dict[str, Any], dense: float | None = None, lexical: float | None = None) -> Passage:
    return Passage(match["id"], match["score"], match.get("text", ""), match["metadata"], dense, lexical)
