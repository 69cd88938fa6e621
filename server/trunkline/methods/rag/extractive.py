"""Answers made of the documents' own words, each with its place. No language model is needed.

All documents are cut into units (:mod:`trunkline.methods.rag.units`), which are embedded together and weighed against
the question (:mod:`trunkline.methods.rag.evidence`). The best one comes first; others follow while there is room.
Where even the best one is no answer, nothing is quoted.
"""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trunkline import Context
from trunkline.methods.embeddings.client import embed
from trunkline.methods.languages import count_words, knows, language_of, question_stems, stems
from trunkline.methods.rag.blocks import blocks_of, headings_of
from trunkline.methods.rag.evidence import Asked, Seen, Weighed, confidence, proper_names, weighed
from trunkline.methods.rag.retrieval import BasicParams, Document, Part, RagRun
from trunkline.methods.rag.units import Unit, units_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_UNITS: Final = 96
"""Of all documents together; of those behind there are fewer."""
MAX_UNITS_PER_DOCUMENT: Final = 24
NEAR_DUPLICATE: Final = 0.93
"""Cosine from which on two units say the same."""
PASSAGES_SEEN: Final = 50
"""Passages whose cosines are asked for; those of others are taken for the least of these."""
HEADINGS_SHOWN: Final = 2
"""The innermost headings that a unit is embedded with."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A unit, and the document it is from.

    Attributes:
        shown: what is embedded: its words, below its headings.
        language: of the document.
    """

    document: Document
    unit: Unit
    shown: str
    language: str

    @property
    def words(self) -> int:
        """How many words it adds to an answer, its citation included."""
        return count_words(self.unit.led(self.document.text)) + 1


class ExtractiveGenerator:
    """Quotes what answers the question. It cannot combine or conclude, and does not try."""

    name = "extractive"

    async def parts(self, run: RagRun, ctx: Context) -> AsyncGenerator[Part, None]:
        """Yield a part a unit, ending in the rank of its document as a citation, ``[1]``.

        Raises:
            RpcError: the error of ``embeddings.create``.
        """
        assert run.query_vector is not None
        # On a thread: the first time, the model that detects languages is loaded.
        candidates = await asyncio.to_thread(candidates_of, run.documents)
        run.found = False
        if not candidates:
            return
        embedded = await embed(ctx, [each.shown for each in candidates])
        run.read(embedded.tokens)
        language = candidates[0].language
        by_meaning = knows(run.model, language)
        asked = Asked.of(run.query, frozenset(question_stems(run.query, language)))
        seen = _seen(candidates, embedded.vectors @ run.query_vector, await _cosines(run, ctx))
        ranked = weighed(asked, seen, by_meaning=by_meaning)
        names = frozenset(stems(proper_names(run.query), language))
        sure = confidence(ranked, names, seen, by_meaning=by_meaning)
        run.details["confidence"] = round(sure, 3)
        if sure < run.params.min_confidence:
            return
        worthy = [each for each in ranked if not by_meaning or each.cosine >= run.params.min_score]
        last: Candidate | None = None
        for each in chosen(candidates, worthy, embedded.vectors, run.params):
            run.found = True
            candidate = candidates[each.row]
            yield Part(separator(last, candidate) + cited(candidate), source_of(candidate, each.cosine))
            last = candidate


def candidates_of(documents: Sequence[Document]) -> list[Candidate]:
    """The units of all documents, bounded in number: each document has a share, and gives on what it does not need."""
    candidates: list[Candidate] = []
    for left, document in zip(range(len(documents), 0, -1), documents, strict=True):
        language = language_of(document.text)
        headings = headings_of(document.metadata)[-HEADINGS_SHOWN:]
        room = min(MAX_UNITS_PER_DOCUMENT, max(1, (MAX_UNITS - len(candidates)) // left))
        units = units_of(document.text, blocks_of(document.text, document.metadata), language)
        above = " > ".join(headings)
        for unit in units[:room]:
            led = unit.led(document.text)
            candidates.append(Candidate(document, unit, f"{above}: {led}" if above else led, language))
    return candidates


def chosen(
    candidates: Sequence[Candidate], ranked: Sequence[Weighed], vectors: NDArray[np.float32], params: BasicParams
) -> Iterator[Weighed]:
    """The units of an answer: the best ones that fit, no two of which say the same."""
    room = params.max_words
    rows: list[int] = []
    taken: dict[int, int] = {}
    for each in ranked:
        candidate = candidates[each.row]
        rank = candidate.document.rank
        if len(rows) == params.max_sentences or room <= 0:
            return
        too_long = candidate.words > room and bool(rows)
        if too_long or taken.get(rank, 0) == params.per_document:
            continue
        if any(float(vectors[each.row] @ vectors[row]) >= NEAR_DUPLICATE for row in rows):
            continue
        rows.append(each.row)
        taken[rank] = taken.get(rank, 0) + 1
        room -= candidate.words
        yield each


def source_of(candidate: Candidate, score: float) -> dict[str, Any]:
    """Where a unit is: its document, and its characters there."""
    document, unit = candidate.document, candidate.unit
    place = {"rank": document.rank, "id": document.id, "score": score, "start": unit.start, "end": unit.end}
    lead = {} if unit.lead is None else {"lead": list(unit.lead)}
    return place | {"kind": unit.kind} | lead


def cited(candidate: Candidate) -> str:
    """A unit with its citation, behind what announces it; code is indented, as Markdown has it."""
    passage, unit = candidate.document.text, candidate.unit
    lead = "" if unit.lead is None else _folded(passage[slice(*unit.lead)])
    citation = f"[{candidate.document.rank}]"
    if unit.kind != "code":
        return " ".join(filter(None, [lead, _folded(unit.text(passage)), citation]))
    code = textwrap.indent(textwrap.dedent(unit.text(passage)).strip("\n"), "    ")
    return f"{lead} {citation}".lstrip() + f"\n\n{code}"


def separator(last: Candidate | None, candidate: Candidate) -> str:
    """The separator between two units: a paragraph is one document's prose."""
    if last is None:
        return ""
    is_prose = last.unit.kind == candidate.unit.kind == "sentence" and last.document is candidate.document
    return " " if is_prose else "\n\n"


async def _cosines(run: RagRun, ctx: Context) -> dict[str, float]:
    """The cosines of the passages nearest to the question, by id: what a technique ranks by may be anything."""
    assert run.query_vector is not None
    search = {"collection": run.options.collection, "vector": run.query_vector.tolist(), "model": run.model}
    if run.options.filter is not None:
        search["filter"] = run.options.filter
    matches = (await ctx.call("vectors.search", search | {"top_k": PASSAGES_SEEN}))["matches"]
    return {match["id"]: match["score"] for match in matches}


def _seen(candidates: Sequence[Candidate], cosines: NDArray[np.float32], of_near: Mapping[str, float]) -> list[Seen]:
    far = min(of_near.values(), default=0.0)
    of_passages: dict[int, frozenset[str]] = {}
    seen = []
    for candidate, cosine in zip(candidates, cosines.tolist(), strict=True):
        document = candidate.document
        if document.rank not in of_passages:
            whole = "\n".join([*headings_of(document.metadata), document.text])
            of_passages[document.rank] = frozenset(stems(whole, candidate.language))
        own = frozenset(stems(candidate.shown, candidate.language))
        near = of_near.get(document.id, far)
        text = candidate.unit.text(document.text)
        is_code = candidate.unit.kind == "code"
        words = of_passages[document.rank]
        seen.append(Seen(document.rank, text, is_code, cosine, own, near, words, candidate.words))
    return seen


def _folded(text: str) -> str:
    return " ".join(text.split())
