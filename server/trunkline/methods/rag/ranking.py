"""The technique ``rerank``: the passages of ``hybrid``, ranked anew by what their words, headings and places say.

A linear model over a few features of query and passage. Its weights were fitted on headings of two documentations and
measured on a third (docs/retrieval.md, :mod:`bench.techniques`). It asks no model and takes milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Final

from pydantic import Field

from trunkline import Passage, Retrieval, technique
from trunkline.methods.languages import language_of, stems
from trunkline.methods.rag.retrieval import BasicParams

FOUND: Final = 50
FOUND_WEIGHT: Final = 0.3
"""Of words in the search whose passages are ranked: it is to find, and another formula ranks."""

WEIGHTS: Final = {
    "cosine": 1.0,
    "lexical": 0.33,
    "covered": 0.17,
    "in_headings": 0.16,
    "pairs": 0.09,
    "near_cosine": 0.03,
    "near_lexical": 0.12,
    "begins_section": 0.21,
    "length": 0.27,
}
"""The weight of each feature, that of the cosine being 1."""


class RerankParams(BasicParams):
    """``technique_params`` of ``rerank``.

    Attributes:
        candidates: how many passages of ``hybrid`` are ranked.
    """

    candidates: Annotated[int, Field(ge=1, le=200)] = FOUND


@technique("rerank")
async def rerank(query: str, params: RerankParams, retrieval: Retrieval) -> AsyncIterator[Passage]:
    """By meaning and words, then ranked by features of query, passage, headings and neighbours."""
    found = await retrieval.hybrid(query, max(params.candidates, retrieval.top_k), weight=FOUND_WEIGHT)
    for passage in ranked(query, found):
        yield passage


def ranked(query: str, passages: Sequence[Passage]) -> list[Passage]:
    """The passages, best first, with the model's scores."""
    weights = [*WEIGHTS.values()]
    scored = [
        replace(passage, score=sum(map(float.__mul__, weights, own)))
        for passage, own in zip(passages, features(query, passages), strict=True)
    ]
    return sorted(scored, key=lambda each: (-each.score, each.id))


def features(query: str, passages: Sequence[Passage]) -> list[list[float]]:
    """The features of each passage, in the order of :data:`WEIGHTS`."""
    language = language_of("\n".join([query, *(each.text for each in passages[:3])]))
    texts = [stems(each.text, language) for each in passages]
    headings = [set(stems(" ".join(_headings(each)), language)) for each in passages]
    asked = [*dict.fromkeys(stems(query, language))]
    rarity = _rarity(asked, [{*text} for text in texts])
    total = sum(rarity.values()) or 1.0
    wanted = set(pairwise(asked))
    best = max((each.lexical or 0.0 for each in passages), default=0.0) or 1.0
    near = _neighbours(passages)
    told = []
    for passage, text, above, beside in zip(passages, texts, headings, near, strict=True):
        words = {*text}
        told.append([
            passage.dense or 0.0,
            (passage.lexical or 0.0) / best,
            sum(rarity[each] for each in asked if each in words or each in above) / total,
            sum(rarity[each] for each in asked if each in above) / total,
            len(wanted & set(pairwise(text))) / max(1, len(wanted)),
            max((each.dense or 0.0 for each in beside), default=0.0),
            max(((each.lexical or 0.0) / best for each in beside), default=0.0),
            1.0 if _begins_section(passage) else 0.0,
            math.log1p(len(text)) / 10,
        ])  # fmt: skip
    return told


def _rarity(asked: Sequence[str], texts: Sequence[set[str]]) -> dict[str, float]:
    """How much it says that a passage has a word of the query: what all of them have says little."""
    count = len(texts)
    having = {each: sum(each in text for text in texts) for each in asked}
    return {each: math.log(1 + (count - has + 0.5) / (has + 0.5)) for each, has in having.items()}


def _headings(passage: Passage) -> list[str]:
    """The title and the headings that a passage stands under, as far as its metadata tells them."""
    title, headings = passage.metadata.get("title"), passage.metadata.get("headings")
    told = [title, *headings] if isinstance(headings, list) else [title]
    return [each for each in told if isinstance(each, str)]


def _begins_section(passage: Passage) -> bool:
    """Whether a passage's first block is a heading."""
    blocks = passage.metadata.get("blocks")
    first = blocks[0] if isinstance(blocks, list) and blocks else None
    return isinstance(first, list) and bool(first) and first[0] == "heading"


def _neighbours(passages: Sequence[Passage]) -> list[list[Passage]]:
    """Of each passage those of the others that stand right before and behind it in its document."""
    places: dict[tuple[str, int], Passage] = {}
    for passage in passages:
        if (place := _place(passage)) is not None:
            places[place] = passage
    found = []
    for passage in passages:
        place = _place(passage)
        beside = [] if place is None else [(place[0], place[1] - 1), (place[0], place[1] + 1)]
        found.append([places[each] for each in beside if each in places])
    return found


def _place(passage: Passage) -> tuple[str, int] | None:
    """The document of a passage, and its number there."""
    source, part = passage.metadata.get("source"), passage.metadata.get("part")
    return (source, part) if isinstance(source, str) and isinstance(part, int) else None
