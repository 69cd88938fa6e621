"""The technique ``graph``: passages and what they name are linked, and importance flows along the links.

The graph is made of what the searches of one call found, so it needs no index of its own and is never out of date: the
passages of ``hybrid``, and those that name what the best of them name. A passage is linked to its entities (names,
identifiers, headings) and to the passages beside it in its document; personalised PageRank starts from the searches'
scores.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from trunkline import ErrorCode, Passage, Retrieval, RpcError, technique
from trunkline.methods.rag.retrieval import BasicParams

if TYPE_CHECKING:
    from networkx import Graph

FOUND: Final = 50
BEST: Final = 5
"""Passages whose entities are searched for."""
ENTITIES_READ: Final = 64
"""Of one passage."""
MAX_NAME: Final = 200
"""Characters of a heading."""
STEPS: Final = 20
"""Of the power iteration; the ranking does not change any more by then."""
DAMPING: Final = 0.5
"""How much of a passage's importance comes by links; the rest is its own score."""

_ENTITY: Final = re.compile(
    r"\b(?:[A-Za-z][a-z0-9]*(?:_[A-Za-z0-9]+)+|[A-Z]{2,}[A-Z0-9]*|[a-z]+[A-Z]\w+|[A-Z]+\d+|"
    r"(?<![.!?]\s)(?<!^)[A-Z][a-z]+(?:\s[A-Z][a-z]+)+)\b"
)
"""Identifiers, abbreviations, codes, and names of several words."""


class GraphParams(BasicParams):
    """``technique_params`` of ``graph``.

    Attributes:
        entities: of the first passages' entities, how many are searched for; 0: none.
    """

    entities: Annotated[int, Field(ge=0, le=10)] = 3


@technique("graph")
async def graph(query: str, params: GraphParams, retrieval: Retrieval) -> AsyncIterator[Passage]:
    """What is linked to what was found, by the entities that passages name and by their place in a document."""
    found = await retrieval.hybrid(query, FOUND)
    named = Counter(each for passage in found[:BEST] for each in entities(passage))
    searched = [entity for entity, _ in named.most_common(params.entities)]
    passages = {each.id: each for each in found}
    for entity in searched:
        for passage in await retrieval.lexical(entity, FOUND // 5):
            passages.setdefault(passage.id, replace(passage, score=0.0))
    retrieval.note("entities", searched)
    for passage in ranked([*passages.values()]):
        yield passage


def entities(passage: Passage) -> list[str]:
    """What a passage names: its headings, and names and identifiers in its text, each once."""
    headings = passage.metadata.get("headings")
    own = [each[:MAX_NAME] for each in headings if isinstance(each, str)] if isinstance(headings, list) else []
    named = [each for each in [*own, *_ENTITY.findall(passage.text)] if each.strip()]
    return [*dict.fromkeys(named)][:ENTITIES_READ]


def ranked(passages: Sequence[Passage]) -> list[Passage]:
    """The passages by importance, best first; the score is the share of importance that is theirs."""
    own = {each.id: max(0.0, each.score) for each in passages}
    total = sum(own.values())
    if not total:
        return [*passages]
    start = {id: score / total for id, score in own.items()}
    linked = _graph(passages)
    shares = dict.fromkeys(linked, 0.0) | {("passage", id): share for id, share in start.items()}
    for _ in range(STEPS):
        flowing = dict.fromkeys(linked, 0.0)
        for node, share in shares.items():
            degree = linked.degree(node)
            for neighbour in linked[node]:
                flowing[neighbour] += DAMPING * share / degree
            if not degree:
                flowing[node] += DAMPING * share
        for id, share in start.items():
            flowing["passage", id] += (1 - DAMPING) * share
        shares = flowing
    scored = [replace(each, score=shares["passage", each.id]) for each in passages]
    return sorted(scored, key=lambda each: (-each.score, each.id))


def _graph(passages: Sequence[Passage]) -> Graph[tuple[str, str]]:
    try:
        import networkx
    except ModuleNotFoundError as error:
        words = "the technique graph needs networkx: pip install 'trunkline[ml]'"
        raise RpcError(ErrorCode.MISSING_DEPENDENCIES, words) from error
    linked: Graph[tuple[str, str]] = networkx.Graph()
    linked.add_nodes_from(("passage", each.id) for each in passages)
    places = {_place(each): each.id for each in passages if _place(each) is not None}
    for passage in passages:
        linked.add_edges_from((("passage", passage.id), ("entity", each)) for each in entities(passage))
        if (place := _place(passage)) is not None and (place[0], place[1] + 1) in places:
            linked.add_edge(("passage", passage.id), ("passage", places[place[0], place[1] + 1]))
    return linked


def _place(passage: Passage) -> tuple[str, int] | None:
    """The document of a passage, and its number there."""
    source, part = passage.metadata.get("source"), passage.metadata.get("part")
    return (source, part) if isinstance(source, str) and isinstance(part, int) else None
