"""Which units answer a question, and whether any does: by meaning, and by the question's own words. Pure.

The weights were fitted on the tuning questions of ``bench/answers`` (``python -m bench.answers --fit`` prints them).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Stems = frozenset[str]

WORDS_WEIGHT: Final = 0.25
"""Of the share of the question's words that are in a unit, beside the cosine of the two."""
PASSAGE_WEIGHT: Final = 0.25
"""Of the cosine of its passage."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a unit.

    Attributes:
        cosine: of unit and question.
        stems: of its words, with those that announce it and the headings above it.
        passage_cosine: of its passage and the question.
        passage_stems: of all words of its passage, and of its headings.
    """

    cosine: float
    stems: Stems
    passage_cosine: float
    passage_stems: Stems


@dataclass(frozen=True, slots=True)
class Weighed:
    """A unit's worth as an answer.

    Attributes:
        row: which of the units it is.
        score: what units are ranked by.
        cover: the share of the question's words that are in it, the rarer ones counting more; ``passage_cover`` of its
            passage.
    """

    row: int
    score: float
    cosine: float
    cover: float
    passage_cover: float


def weighed(question: Stems, seen: Sequence[Seen], *, by_meaning: bool) -> list[Weighed]:
    """All units, the best one first.

    Args:
        by_meaning: whether the model knows the language, so that cosines mean something.
    """
    rarity = _rarity(question, [each.stems for each in seen])
    found = []
    for row, each in enumerate(seen):
        cover, passage_cover = _cover(rarity, each.stems), _cover(rarity, each.passage_stems)
        score = cover + PASSAGE_WEIGHT * passage_cover
        if by_meaning:
            score = each.cosine + WORDS_WEIGHT * cover + PASSAGE_WEIGHT * each.passage_cosine
        found.append(Weighed(row, score, each.cosine, cover, passage_cover))
    return sorted(found, key=lambda each: -each.score)


def confidence(best: Sequence[Weighed], *, by_meaning: bool) -> float:
    """How likely it is that the best units answer the question, from 0 to 1.

    Args:
        best: all units, as :func:`weighed` gives them.
    """
    if not best:
        return 0.0
    return 1.0


def _rarity(question: Stems, units: Sequence[Stems]) -> dict[str, float]:
    """The weight of each word of the question: what is in few of the units, or in none, says more."""
    counts = Counter(stem for stems in units for stem in question & stems)
    return {stem: math.log(1 + (len(units) + 1) / (counts[stem] + 1)) for stem in question}


def _cover(rarity: dict[str, float], stems: Stems) -> float:
    total = sum(rarity.values())
    return sum(weight for stem, weight in rarity.items() if stem in stems) / total if total else 0.0
