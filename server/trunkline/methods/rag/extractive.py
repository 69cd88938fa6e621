"""Answers made of the documents' own sentences, each with its source. No language model is needed.

Documents are read best first; the sentences of each are embedded and ranked against the query when it is that
document's turn, and the best of them leave at once. So the answer grows as it is made.
"""

from __future__ import annotations

import textwrap
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Final

from trunkline import Context
from trunkline.methods.embeddings.client import embed
from trunkline.methods.rag.retrieval import Document, Part, RagRun
from trunkline.methods.rag.sentences import Sentence, split_sentences

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEAR_DUPLICATE: Final = 0.93
"""Cosine from which on two sentences say the same."""


class ExtractiveGenerator:
    """Picks sentences by their similarity to the query. It cannot combine or conclude, and does not try."""

    name = "extractive"

    async def parts(self, run: RagRun, ctx: Context) -> AsyncGenerator[Part, None]:
        """Yield a part a sentence, ending in the rank of its document as a citation, ``[1]``.

        Raises:
            RpcError: the error of ``embeddings.create``.
        """
        assert run.query_vector is not None
        chosen: list[NDArray[np.float32]] = []
        last: tuple[Sentence, Document] | None = None
        for document in run.documents:
            room = min(run.params.per_document, run.params.max_sentences - len(chosen))
            sentences = split_sentences(document.text)
            if room <= 0 or not sentences:
                continue
            embedded = await embed(ctx, [f"{each.text}\n{each.code}".strip() for each in sentences])
            run.read(embedded.tokens)
            for row, score in pick(embedded.vectors, run.query_vector, chosen, room, run.params.min_score):
                sentence = sentences[row]
                source = {"rank": document.rank, "id": document.id, "score": score}
                yield Part(separator(last, sentence, document) + cited(sentence, document.rank), source)
                chosen.append(embedded.vectors[row])
                last = sentence, document
        run.found = bool(chosen)


def pick(
    vectors: NDArray[np.float32],
    query: NDArray[np.float32],
    chosen: Sequence[NDArray[np.float32]],
    room: int,
    min_score: float,
) -> list[tuple[int, float]]:
    """The best sentences of one document, in its own order.

    Args:
        vectors: (n, dimension), rows of length 1.
        query: (dimension,), of length 1.
        chosen: what was picked before; near duplicates are passed over.
        room: how many may be picked.

    Returns:
        ``(row, score)`` pairs.
    """
    scores = vectors @ query
    picked: list[int] = []
    for row in (-scores).argsort(kind="stable").tolist():
        if len(picked) == room or scores[row] < min_score:
            break
        others = [*chosen, *(vectors[other] for other in picked)]
        if all(float(vectors[row] @ other) < NEAR_DUPLICATE for other in others):
            picked.append(row)
    return [(row, float(scores[row])) for row in sorted(picked)]


def cited(sentence: Sentence, rank: int) -> str:
    """A sentence with its citation; its code follows, indented, as Markdown has it."""
    text = f"{sentence.text} [{rank}]".lstrip()
    return text + ("\n\n" + textwrap.indent(sentence.code, "    ") if sentence.code else "")


def separator(last: tuple[Sentence, Document] | None, sentence: Sentence, document: Document) -> str:
    """The separator between two sentences: a paragraph is one document's prose."""
    if last is None:
        return ""
    return " " if last[1] is document and not last[0].code and sentence.text else "\n\n"
