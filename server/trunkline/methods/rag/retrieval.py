"""Shared by all techniques: the options, the retrieved documents, and the answer as it grows."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, Protocol

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from trunkline import Chunk, Context, Passage
from trunkline.methods.embeddings.client import embed
from trunkline.methods.languages import base_language, language_of
from trunkline.methods.rag.filling import Filling, filling_of, progress
from trunkline.methods.rag.said import nothing_answers, still_filling
from trunkline.methods.rag.searching import Searching, Services

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import numpy as np
    from numpy.typing import NDArray

    from trunkline.methods.techniques import Technique


LanguageTag = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*$")]
"""Such as ``hr`` or ``pt-BR``."""


class RagOptions(BaseModel):
    """The collection to search, how many documents to retrieve and which, the language of question and answer (ISO
    639-1; by default that of the question, as far as that can be told), and whether a kept answer will do."""

    model_config = ConfigDict(extra="forbid")

    collection: Annotated[str, Field(min_length=1)] = "python-reference"
    top_k: Annotated[int, Field(ge=1, le=50)] = 4
    filter: Annotated[dict[str, Any] | None, Field(description="of passages by metadata, as of vectors.search")] = None
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
        instructions: generated: what the model is told beside its task.
    """

    model_config = ConfigDict(extra="forbid")

    max_sentences: Annotated[int, Field(ge=1, le=50)] = 6
    per_document: Annotated[int, Field(ge=1, le=20)] = 3
    max_words: Annotated[int, Field(ge=1, le=2_000)] = 80
    min_score: Annotated[float, Field(ge=-1, le=1)] = 0.1
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.5
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


class SameText(TypedDict):
    """Another passage with the same text, which was left out; ``source`` where its metadata has that."""

    id: str
    source: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Document:
    """One retrieved passage; ``rank`` counts from 1, ``score`` is what the technique ranks by.

    That is the cosine of the angle to the query with ``basic``, the fused score with ``hybrid``.

    Attributes:
        also_in: passages of other documents with the same text, which were left out.
    """

    rank: int
    id: str
    score: float
    text: str
    metadata: dict[str, Any]
    also_in: list[SameText] = field(default_factory=list)

    def to_wire(self) -> dict[str, Any]:
        """The document as chunks and results carry it."""
        told = {"rank": self.rank, "id": self.id, "score": self.score, "text": self.text, "metadata": self.metadata}
        return told | {"also_in": self.also_in} if self.also_in else told


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
        plan: the technique.
        generator: ``extractive``, or the name of the model that writes.
        services: what techniques may need beside searches.
        messages: of a question to a language model alone, what it is sent instead of documents.
        stats: of the collection, before it was searched.
        model: what embedded the query.
        query_vector: of length 1.
        answer: the texts of the parts so far.
        found: the documents answer the question, as far as the generator can tell.
        times: further durations, by what was done.
        filling: where the collection is still being filled, how far.
        details: further members of the result's ``metadata``.
        asked: the question, where ``query`` is what a follow-up was rewritten to.
        read_tokens: that the embedding model has read for it; None where it does not tell.
    """

    plan: Technique
    query: str
    options: RagOptions
    params: BasicParams
    generator: str
    services: Services = field(default_factory=Services)
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
    times: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, str]] | None = None
    asked: str | None = None
    read_tokens: int | None = 0

    @property
    def technique(self) -> str:
        """The name of the technique."""
        return self.plan.name

    @property
    def question(self) -> str:
        """The question as it was asked."""
        return self.query if self.asked is None else self.asked

    def read(self, tokens: int | None) -> None:
        """Note that the embedding model has read so many tokens more."""
        known = self.read_tokens is not None and tokens is not None
        self.read_tokens = (self.read_tokens or 0) + (tokens or 0) if known else None

    def retrieved(self, worker_id: str) -> dict[str, Any]:
        """The result of ``rag.retrieve``."""
        told = self.result(worker_id)
        del told["success"], told["answer"], told["performance"]["generation_time_ms"]
        for name in ("generator", "found"):
            del told["metadata"][name]
        return told

    @property
    def language(self) -> str:
        """The language of the question: the one that the call gives, else the one it seems to be in."""
        if self.options.language is not None:
            return base_language(self.options.language)
        return language_of(self.query)

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
                **{f"{name}_time_ms": _ms(seconds) for name, seconds in self.times.items()},
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


async def answered(run: RagRun, generator: Generator, ctx: Context) -> AsyncGenerator[Chunk, None]:
    """Retrieve by the technique, then answer from what was found."""
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
    """Embed the query, and take the first passages of the technique that have different texts.

    Raises:
        RpcError: the error of embedding or search, or the technique's; 4001, collection and query have two models.
    """
    if run.stats is None:
        run.stats = await ctx.call("collections.stats", {"name": run.options.collection})
    run.filling = await filling_of(run.options.collection, run.stats, ctx)
    embedded = await embed(ctx, [run.query])
    run.model, run.query_vector = embedded.model, embedded.vectors[0]
    run.read(embedded.tokens)
    searching = Searching(run.options.collection, run.options.top_k, run.options.filter, run.services, ctx)
    searching.keep(run.query, embedded)
    distinct = Distinct()
    async with aclosing(run.plan.passages(run.query, run.params, searching)) as passages:
        async for passage in passages:
            if len(distinct.documents) >= run.options.top_k and not distinct.has(passage):
                break
            distinct.add(passage)
    run.documents = distinct.documents
    run.times |= searching.times
    if searching.notes:
        run.details["technique"] = searching.notes
    run.retrieval_time = time.perf_counter() - run.started


class Distinct:
    """Documents with different texts: of equal ones the first stays, and names the others."""

    def __init__(self) -> None:
        self.documents: list[Document] = []
        self._by_text: dict[str, Document] = {}

    def has(self, passage: Passage) -> bool:
        """Whether there is a document of this text."""
        return _folded(passage.text) in self._by_text

    def add(self, passage: Passage) -> None:
        """Add a passage, or name it where its text is there."""
        text = _folded(passage.text)
        if text and (same := self._by_text.get(text)) is not None:
            other: SameText = {"id": passage.id}
            source = passage.metadata.get("source")
            same.also_in.append(other | {"source": source} if isinstance(source, str) else other)
            return
        rank = len(self.documents) + 1
        document = Document(rank, passage.id, passage.score, passage.text, passage.metadata)
        self.documents.append(document)
        if text:
            self._by_text[text] = document


def _folded(text: str) -> str:
    return " ".join(text.split())


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
