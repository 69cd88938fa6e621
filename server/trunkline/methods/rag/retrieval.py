"""What all techniques share: the request, the documents, and the answer as it grows."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from trunkline.methods.context import Chunk, Context


class Options(BaseModel):
    """Where to look and how far."""

    model_config = ConfigDict(extra="forbid")

    collection: str = "python-reference"
    top_k: Annotated[int, Field(ge=1, le=50)] = 5


@dataclass(frozen=True, slots=True)
class Document:
    """One retrieved passage; ``rank`` counts from 1, ``score`` is a cosine."""

    rank: int
    id: str
    score: float
    text: str
    metadata: dict[str, Any]

    def to_wire(self) -> dict[str, Any]:
        """As chunks and results carry it."""
        return {"rank": self.rank, "id": self.id, "score": self.score, "text": self.text, "metadata": self.metadata}


@dataclass(slots=True)
class Run:
    """One question on its way to an answer. Times in seconds, on ``time.perf_counter``.

    Attributes:
        answer: the parts of the answer so far; their concatenation is the answer.
        generator: ``extractive``, or the name of the model that writes.
    """

    technique: str
    query: str
    options: Options
    params: dict[str, Any]
    generator: str
    started: float = field(default_factory=time.perf_counter)
    retrieved: float = 0.0
    documents: list[Document] = field(default_factory=list)
    answer: list[str] = field(default_factory=list)
    found: bool = True

    def result(self, worker_id: str) -> dict[str, Any]:
        """The result of ``rag.execute`` (SPEC.md, RAG)."""
        ended = time.perf_counter()
        return {
            "success": self.found,
            "technique": self.technique,
            "query": self.query,
            "answer": "".join(self.answer),
            "retrieved_documents": [document.to_wire() for document in self.documents],
            "performance": {
                "total_time_ms": _ms(ended - self.started),
                "retrieval_time_ms": _ms(self.retrieved - self.started),
                "generation_time_ms": _ms(ended - self.retrieved),
            },
            "metadata": {
                "worker_id": worker_id,
                "timestamp": datetime.now(UTC).isoformat(),
                "collection": self.options.collection,
                "top_k": self.options.top_k,
                "generator": self.generator,
            },
        }


class Generator(Protocol):
    """Turns documents into an answer, part by part, as it is made."""

    name: str

    def parts(self, run: Run, ctx: Context) -> AsyncIterator[dict[str, Any]]:
        """Yield ``{text, ...}``; the concatenated texts are the answer."""


async def basic(run: Run, generator: Generator, ctx: Context) -> AsyncIterator[Chunk]:
    """The technique ``basic``: retrieve once by similarity, then answer from what was found."""
    search = {"collection": run.options.collection, "text": run.query, "top_k": run.options.top_k}
    matches = (await ctx.call("vectors.search", search))["matches"]
    run.retrieved = time.perf_counter()
    run.documents = [
        Document(rank, match["id"], match["score"], match.get("text", ""), match["metadata"])
        for rank, match in enumerate(matches, 1)
    ]
    yield Chunk(
        "metadata",
        {
            "technique": run.technique,
            "collection": run.options.collection,
            "generator": run.generator,
            "documents": len(run.documents),
            "retrieval_time_ms": _ms(run.retrieved - run.started),
        },
    )
    for document in run.documents:
        yield Chunk("document", document.to_wire())
    async for part in generator.parts(run, ctx):
        run.answer.append(part["text"])
        yield Chunk("partial_answer", part)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
