"""Answers made of the documents' own sentences, each with its source. No language model is needed.

Documents are read best first; the sentences of each are embedded and ranked against the query when it is that
document's turn, and the best of them leave at once. So the answer grows as it is made.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from trunkline.methods.context import Context
from trunkline.methods.rag.retrieval import Document, Run
from trunkline.methods.rag.sentences import split_sentences

Matrix = NDArray[np.float32]

NEAR_DUPLICATE: Final = 0.93
"""Cosine above which two sentences say the same."""

NOTHING_FOUND: Final = "Nothing in collection {collection} answers this."


class ExtractiveParams(BaseModel):
    """``technique_params`` of extractive answers."""

    model_config = ConfigDict(extra="forbid")

    max_sentences: Annotated[int, Field(ge=1, le=50)] = 6
    per_document: Annotated[int, Field(ge=1, le=20)] = 3
    min_score: Annotated[float, Field(ge=-1, le=1)] = 0.35


class ExtractiveGenerator:
    """Picks sentences by similarity to the query."""

    name = "extractive"

    async def parts(self, run: Run, ctx: Context) -> AsyncIterator[dict[str, Any]]:
        """Yield ``{text, source: {rank, id}, score}`` for each sentence picked."""
        params = ExtractiveParams.model_validate(run.params)
        query: Matrix | None = None
        chosen: list[NDArray[np.float32]] = []
        for document in run.documents:
            sentences = split_sentences(document.text)
            if not sentences or len(chosen) >= params.max_sentences:
                continue
            vectors = await _embed(ctx, sentences if query is not None else [run.query, *sentences])
            if query is None:
                query, vectors = vectors[:1], vectors[1:]
            room = min(params.per_document, params.max_sentences - len(chosen))
            for index, score in pick(vectors, query[0], chosen, room, params.min_score):
                yield _part(sentences[index], document, score, first=not chosen)
                chosen.append(vectors[index])
        if not chosen:
            run.found = False
            yield {"text": NOTHING_FOUND.format(collection=run.options.collection), "source": None, "score": None}


def pick(
    vectors: Matrix, query: NDArray[np.float32], chosen: Sequence[NDArray[np.float32]], room: int, min_score: float
) -> list[tuple[int, float]]:
    """The best sentences of one document, in its own order.

    Args:
        vectors: (n, d) rows of length 1.
        query: (d,) of length 1.
        chosen: what was picked before; near duplicates are passed over.
        room: how many may be picked.

    Returns:
        ``(row, score)`` pairs.
    """
    scores = vectors @ query
    picked: list[int] = []
    for row in np.argsort(-scores).tolist():
        if len(picked) == room or scores[row] < min_score:
            break
        others = [*chosen, *(vectors[other] for other in picked)]
        if all(float(vectors[row] @ other) < NEAR_DUPLICATE for other in others):
            picked.append(row)
    return [(row, float(scores[row])) for row in sorted(picked)]


def _part(sentence: str, document: Document, score: float, *, first: bool) -> dict[str, Any]:
    text = f"{'' if first else ' '}{sentence} [{document.rank}]"
    return {"text": text, "source": {"rank": document.rank, "id": document.id}, "score": round(score, 4)}


async def _embed(ctx: Context, texts: Sequence[str]) -> Matrix:
    answer = await ctx.call("embeddings.create", {"input": list(texts), "encoding_format": "base64"})
    rows = [np.frombuffer(base64.b64decode(entry["embedding"]), dtype="<f4") for entry in answer["data"]]
    return np.stack(rows)
