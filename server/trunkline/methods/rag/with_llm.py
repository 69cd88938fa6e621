"""Techniques that ask a language model before or after they search; refused with 4001 where none is set."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Annotated, Final

from pydantic import Field

from trunkline import Passage, Retrieval, technique
from trunkline.methods.rag.retrieval import BasicParams

FOUND: Final = 50
RANK_CONSTANT: Final = 60
"""As of reciprocal rank fusion in the collection's own searches."""
MAX_QUERY: Final = 2000
"""Characters of a text of the model that are searched for."""
GRADED: Final = 10
GRADED_CHARACTERS: Final = 1200
"""Of each passage that the model grades."""

REPHRASE: Final = (
    "Write {count} other ways to ask the question, one a line, in the language of the question, each in other words. "
    "Write nothing else."
)
SUPPOSE: Final = (
    "Write a short passage of documentation that answers the question, in the language of the question. Write nothing "
    "else. It need not be true: it is only used to find passages like it."
)
GRADE: Final = (
    "Which of the numbered passages help to answer the question? Answer with their numbers, separated by commas, or "
    "with the word none."
)
_LIST_MARK: Final = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s*")


class MultiQueryParams(BasicParams):
    """``technique_params`` of ``multi_query``.

    Attributes:
        queries: how many other ways to ask the model is to find.
    """

    queries: Annotated[int, Field(ge=1, le=8)] = 3


class HydeParams(BasicParams):
    """``technique_params`` of ``hyde``.

    Attributes:
        passage_tokens: of the passage that the model writes, at most.
    """

    passage_tokens: Annotated[int, Field(ge=16, le=1024)] = 160


@technique("multi_query", needs=("llm",))
async def multi_query(query: str, params: MultiQueryParams, retrieval: Retrieval) -> AsyncIterator[Passage]:
    """The question in other words, too: what several ways to ask it find, by reciprocal rank fusion."""
    said = await retrieval.complete(REPHRASE.format(count=params.queries), query)
    queries = [query, *_lines(said, params.queries)]
    retrieval.note("queries", queries)
    for passage in fused([await retrieval.hybrid(each, FOUND) for each in dict.fromkeys(queries)]):
        yield passage


@technique("hyde", needs=("llm",))
async def hyde(query: str, params: HydeParams, retrieval: Retrieval) -> AsyncIterator[Passage]:
    """What is near to an answer that the model makes up, and to the question.

    See Gao et al., "Precise Zero-Shot Dense Retrieval without Relevance Labels", ACL 2023.
    """
    said = (await retrieval.complete(SUPPOSE, query, params.passage_tokens)).strip()[:MAX_QUERY]
    retrieval.note("passage", said)
    supposed = await retrieval.search(said, FOUND) if said else []
    for passage in fused([supposed, await retrieval.hybrid(query, FOUND)]):
        yield passage


@technique("crag", needs=("llm",))
async def crag(query: str, params: BasicParams, retrieval: Retrieval) -> AsyncIterator[Passage]:
    """What the model finds helpful comes first; where nothing is, it asks in other words and looks again.

    See Yan et al., "Corrective Retrieval Augmented Generation", 2024; without the search of the web.
    """
    found = await retrieval.hybrid(query, FOUND)
    helpful = await _helpful(query, found[:GRADED], retrieval)
    retrieval.note("helpful", [each.id for each in helpful])
    if found and not helpful:
        others = _lines(await retrieval.complete(REPHRASE.format(count=2), query), 2)
        retrieval.note("queries", others)
        found = fused([found, *[await retrieval.hybrid(each, FOUND) for each in others]])
    chosen = {each.id for each in helpful}
    ranked = [*helpful, *(each for each in found if each.id not in chosen)]
    for rank, passage in enumerate(ranked, 1):
        yield replace(passage, score=1 / rank)


def fused(rankings: Sequence[Sequence[Passage]]) -> list[Passage]:
    """One ranking of several, by reciprocal rank fusion; of equal ones that of the first ranking comes first."""
    scores: dict[str, float] = {}
    passages: dict[str, Passage] = {}
    for ranking in rankings:
        for rank, passage in enumerate(ranking, 1):
            passages.setdefault(passage.id, passage)
            scores[passage.id] = scores.get(passage.id, 0.0) + 1 / (RANK_CONSTANT + rank)
    return [replace(passages[id], score=scores[id]) for id in sorted(scores, key=lambda id: -scores[id])]


async def _helpful(query: str, passages: Sequence[Passage], retrieval: Retrieval) -> list[Passage]:
    """The passages whose numbers the model names."""
    if not passages:
        return []
    numbered = "\n\n".join(f"[{at}] {each.text[:GRADED_CHARACTERS]}" for at, each in enumerate(passages, 1))
    said = await retrieval.complete(GRADE, f"Passages:\n\n{numbered}\n\nQuestion: {query}", 64)
    named = {int(number) for number in re.findall(r"(?<!\d)\d{1,2}(?!\d)", said)}
    return [each for at, each in enumerate(passages, 1) if at in named]


def _lines(said: str, count: int) -> list[str]:
    """The first lines of what the model said, without marks of a list."""
    lines = (_LIST_MARK.sub("", line).strip()[:MAX_QUERY] for line in said.splitlines())
    return [line for line in lines if line][:count]
