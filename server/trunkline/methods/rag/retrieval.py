"""Shared by all techniques: the options, the retrieved documents, and the answer as it grows."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from trunkline import Chunk, Context
from trunkline.methods.embeddings.client import embed
from trunkline.methods.languages import base_language, language_of
from trunkline.methods.rag.filling import Filling, filling_of, progress
from trunkline.methods.rag.said import nothing_answers, still_filling

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import numpy as np
    from numpy.typing import NDArray


LanguageTag = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*$")]
"""Such as ``hr`` or ``pt-BR``."""


class RagOptions(BaseModel):
    """The collection to search, how many documents to retrieve, the language of question and answer (ISO 639-1; by
    default that of the question, as far as that can be told), and whether a kept answer will do."""

    model_config = ConfigDict(extra="forbid")

    collection: Annotated[str, Field(min_length=1)] = "python-reference"
    top_k: Annotated[int, Field(ge=1, le=50)] = 4
    language: LanguageTag | None = None
    cache: Annotated[bool | None, Field(description="whether a kept answer will do; by default as the hub is set")] = (
        None
    )


def in_language(options: RagOptions | None, language: str | None) -> RagOptions | None:
    """The options of a call, with the language that it gives beside them."""
    if language is None:
        return options
    return (options or RagOptions()).model_copy(update={"language": language})


class BasicParams(BaseModel):
    """``technique_params`` of ``basic``.

    Which generator a hub has is its operator's choice, so params of the other one are taken and have no effect.

    Attributes:
        max_sentences: extractive: units (sentences, list items, rows, definitions, code) of the whole answer.
        per_document: extractive: of one document.
        max_words: extractive: of the whole answer, citations included; a single unit that is longer is not cut.
        min_score: extractive: cosine to the query below which a unit is not quoted.
        min_confidence: extractive: how likely it has to be that the best unit answers; below it, nothing does.
        max_tokens: generated: of the whole answer.
        temperature: generated.
    """

    model_config = ConfigDict(extra="forbid")

    max_sentences: Annotated[int, Field(ge=1, le=50)] = 6
    per_document: Annotated[int, Field(ge=1, le=20)] = 3
    max_words: Annotated[int, Field(ge=1, le=2_000)] = 80
    min_score: Annotated[float, Field(ge=-1, le=1)] = 0.1
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.5
    max_tokens: Annotated[int, Field(ge=1, le=32_768)] = 512
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0


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
        filling: where the collection is still being filled, how far.
        details: further members of the result's ``metadata``.
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

    @property
    def language(self) -> str:
        """The language of the question: the one that the call gives, else the one it seems to be in."""
        if self.options.language is not None:
            return base_language(self.options.language)
        return language_of(self.query)

    def result(self, worker_id: str) -> dict[str, Any]:
        """The result of ``rag.execute``, and of ``rag.stream`` behind the last chunk."""
        return {
            "success": True,
            "technique": self.technique,
            "query": self.query,
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
    run.filling = await filling_of(run.options.collection, run.stats, ctx)
    embedded = await embed(ctx, [run.query])
    run.model, run.query_vector = embedded.model, embedded.vectors[0]
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
        yield Part(nothing_answers(run.options.collection, run.language))
    if run.filling is not None:
        yield Part("\n\n" + still_filling(run.options.collection, *progress(run.filling), run.language))


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
