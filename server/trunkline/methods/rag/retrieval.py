"""Shared by all techniques: the options, the retrieved documents, and the answer as it grows."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from trunkline import Chunk, Context
from trunkline.methods.embeddings.client import embed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import numpy as np
    from numpy.typing import NDArray


class RagOptions(BaseModel):
    """The collection to search, how many documents to retrieve, and whether a kept answer will do."""

    model_config = ConfigDict(extra="forbid")

    collection: Annotated[str, Field(min_length=1)] = "python-reference"
    top_k: Annotated[int, Field(ge=1, le=50)] = 4
    cache: Annotated[bool | None, Field(description="whether a kept answer will do; by default as the hub is set")] = (
        None
    )


class BasicParams(BaseModel):
    """``technique_params`` of ``basic``.

    Which generator a hub has is its operator's choice, so params of the other one are taken and have no effect.

    Attributes:
        max_sentences: extractive: of the whole answer.
        per_document: extractive: of one document.
        min_score: extractive: cosine to the query below which a sentence is no answer.
        max_tokens: generated: of the whole answer.
        temperature: generated.
        instructions: generated: what the model is told beside its task.
    """

    model_config = ConfigDict(extra="forbid")

    max_sentences: Annotated[int, Field(ge=1, le=50)] = 6
    per_document: Annotated[int, Field(ge=1, le=20)] = 2
    min_score: Annotated[float, Field(ge=-1, le=1)] = 0.35
    max_tokens: Annotated[int, Field(ge=1, le=32_768)] = 512
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    instructions: Annotated[str, Field(max_length=20_000)] = ""


class HybridParams(BasicParams):
    """``technique_params`` of ``hybrid``: those of ``basic``, and how the two searches become one.

    Attributes:
        fusion: see :mod:`trunkline.methods.vectors.fusion`.
        weight: of the lexical search; the dense one has 1. By default what was best in measurements.
    """

    fusion: Literal["convex", "rrf"] = "convex"
    weight: Annotated[float, Field(ge=0, le=100)] | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """One retrieved passage; ``rank`` counts from 1, ``score`` is what the technique ranks by.

    That is the cosine of the angle to the query with ``basic``, the fused score with ``hybrid``.
    """

    rank: int
    id: str
    score: float
    text: str
    metadata: dict[str, Any]

    def to_wire(self) -> dict[str, Any]:
        """The document as chunks and results carry it."""
        return {"rank": self.rank, "id": self.id, "score": self.score, "text": self.text, "metadata": self.metadata}


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of an answer. The texts of all parts, joined, are the answer.

    Attributes:
        source: of an extracted sentence: ``{rank, id, score}``, of the document, the score being the sentence's own;
            None where nothing was found.
    """

    text: str
    source: dict[str, Any] | None = None


class Filling(TypedDict):
    """The number of items in a collection that is being filled, and the expected number."""

    items: int
    expected_items: int


@dataclass(slots=True)
class RagRun:
    """One question on its way to an answer. Times in seconds.

    Attributes:
        generator: ``extractive``, or the name of the model that writes.
        stats: of the collection, before it was searched.
        model: what embedded the query.
        query_vector: of length 1.
        answer: the texts of the parts so far.
        found: the documents answer the question, as far as the generator can tell.
        filling: where the collection is still being filled, how many items are in and how many are to be.
        details: further members of the result's ``metadata``.
        asked: the question, where ``query`` is what a follow-up was rewritten to.
        read_tokens: that the embedding model has read for it; None where it does not tell.
    """

    technique: str
    query: str
    options: RagOptions
    params: BasicParams
    generator: str
    started: float = field(default_factory=time.perf_counter)
    retrieval_time: float = 0.0
    generation_time: float = 0.0
    stats: dict[str, Any] | None = None
    model: str = ""
    query_vector: NDArray[np.float32] | None = None
    documents: list[Document] = field(default_factory=list)
    answer: list[str] = field(default_factory=list)
    found: bool = True
    filling: Filling | None = None
    details: dict[str, Any] = field(default_factory=dict)
    asked: str | None = None
    read_tokens: int | None = 0

    @property
    def question(self) -> str:
        """The question as it was asked."""
        return self.query if self.asked is None else self.asked

    def read(self, tokens: int | None) -> None:
        """Note that the embedding model has read so many tokens more."""
        known = self.read_tokens is not None and tokens is not None
        self.read_tokens = (self.read_tokens or 0) + (tokens or 0) if known else None

    def _usage(self) -> dict[str, Any]:
        """The tokens of an answer that no language model has written; of others its endpoint tells them."""
        if self.generator != "extractive" or self.read_tokens is None:
            return {}
        return {"usage": {"prompt_tokens": self.read_tokens, "completion_tokens": 0}}

    def result(self, worker_id: str) -> dict[str, Any]:
        """The result of ``rag.execute``, and of ``rag.stream`` behind the last chunk."""
        return {
            "success": True,
            "technique": self.technique,
            "query": self.question,
            "answer": "".join(self.answer),
            "retrieved_documents": [document.to_wire() for document in self.documents],
            "performance": {
                "total_time_ms": _ms(time.perf_counter() - self.started),
                "retrieval_time_ms": _ms(self.retrieval_time),
                "generation_time_ms": _ms(self.generation_time),
            },
            "metadata": {
                "worker_id": worker_id,
                "timestamp": datetime.now(UTC).isoformat(),
                "generator": self.generator,
                "collection": self.options.collection,
                "embedding_model": self.model,
                "found": self.found,
                **self._usage(),
                **({} if self.filling is None else {"filling": self.filling}),
                **self.details,
            },
        }


class Generator(Protocol):
    """Turns documents into an answer, part by part, as it is made."""

    name: str

    def parts(self, run: RagRun, ctx: Context) -> AsyncGenerator[Part, None]:
        """Yield the parts of the answer. Only called with documents; closing the generator stops the work."""


async def basic(run: RagRun, generator: Generator, ctx: Context) -> AsyncGenerator[Chunk, None]:
    """The techniques ``basic`` and ``hybrid``: retrieve once, then answer from what was found."""
    await retrieve(run, ctx)
    yield Chunk(
        "metadata",
        {
            "technique": run.technique,
            "query": run.query,
            "collection": run.options.collection,
            "embedding_model": run.model,
            "generator": run.generator,
            "documents": len(run.documents),
            "worker_id": ctx.worker_id,
            "retrieval_time_ms": _ms(run.retrieval_time),
        },
    )
    for document in run.documents:
        yield Chunk("document", document.to_wire())
    async with aclosing(answer(run, generator, ctx)) as parts:
        async for part in parts:
            is_sourced = run.generator == "extractive"
            yield Chunk("partial_answer", {"text": part.text} | ({"source": part.source} if is_sourced else {}))


async def retrieve(run: RagRun, ctx: Context) -> None:
    """Embed the query, once, and find the documents nearest to it, with ``hybrid`` also by their words.

    Raises:
        RpcError: the error of embedding or search; 4001 where collection and query have different models.
    """
    if run.stats is None:
        run.stats = await ctx.call("collections.stats", {"name": run.options.collection})
    run.filling = _filling(run.stats)
    embedded = await embed(ctx, [run.query])
    run.model, run.query_vector = embedded.model, embedded.vectors[0]
    run.read(embedded.tokens)
    search: dict[str, Any] = {
        "collection": run.options.collection,
        "vector": run.query_vector.tolist(),
        "model": run.model,
        "top_k": run.options.top_k,
    }
    if isinstance(run.params, HybridParams):
        search |= {"text": run.query, "fusion": run.params.fusion, "weight": run.params.weight}
        matches = (await ctx.call("vectors.hybrid", search))["matches"]
    else:
        matches = (await ctx.call("vectors.search", search))["matches"]
    run.documents = [
        Document(rank, match["id"], match["score"], match.get("text", ""), match["metadata"])
        for rank, match in enumerate(matches, 1)
    ]
    run.retrieval_time = time.perf_counter() - run.started


async def answer(run: RagRun, generator: Generator, ctx: Context) -> AsyncGenerator[Part, None]:
    """Yield the parts of the answer, and note them in ``run``. A slow reader's time is not counted as generation."""
    async with aclosing(_parts(run, generator, ctx)) as parts:
        resumed = time.perf_counter()
        async for part in parts:
            run.generation_time += time.perf_counter() - resumed
            run.answer.append(part.text)
            yield part
            resumed = time.perf_counter()
        run.generation_time += time.perf_counter() - resumed


async def _parts(run: RagRun, generator: Generator, ctx: Context) -> AsyncGenerator[Part, None]:
    if run.documents:
        async with aclosing(generator.parts(run, ctx)) as parts:
            async for part in parts:
                yield part
    if not run.documents or not run.found:
        run.found = False
        yield Part(f'Nothing in the collection "{run.options.collection}" answers this.')
    if run.filling is not None:
        items, expected = run.filling["items"], run.filling["expected_items"]
        yield Part(
            f'\n\nThe collection "{run.options.collection}" is still being indexed: {items} of {expected}. Ask again '
            "when it is done."
        )


def _filling(stats: dict[str, Any]) -> Filling | None:
    expected = stats["metadata"].get("expected_items")
    if not isinstance(expected, int) or stats["count"] >= expected:
        return None
    return {"items": stats["count"], "expected_items": expected}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
