"""Which units answer a question, and whether any does: by meaning, and by the question's own words. Pure.

A unit is worth a weighted sum: its cosine to the question, the question's words that are in it, the cosines of its
passage and of its neighbours (an answer often stands beside the sentence that is most like the question), and whether
it has what is asked for, as far as an English question says that: a number, a name or command. Whether the best one
answers is a logistic model of its worth, of how many of the question's words are in its passages, and of whether names
of the question are in none of them. The weights of both were fitted (logistic regression, each question left out in
turn) to the tuning questions of ``bench/answers``, with the packaged model.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Stems = frozenset[str]

COSINE: Final = 2.9
COVER: Final = 0.5
PASSAGE: Final = 3.1
BEFORE: Final = 2.1
BEHIND: Final = 1.5
NUMBER: Final = 1.4
NAME: Final = 1.3
COMMAND: Final = 0.3
PER_WORD: Final = 0.01
"""What a word costs when units are ranked: of short ones more fit into an answer."""

WORTH: Final = 1.0
PASSAGE_COVER: Final = 0.5
MISSING_NAME: Final = -1.5
CONSTANT: Final = -4.3
BY_WORDS_ENOUGH: Final = 0.45
"""The share of the question's words that has to be in the best unit where the model does not know the language."""
STEEPNESS: Final = 10.0

_ASKS_NUMBER: Final = re.compile(
    r"\bhow (?:many|much|big|long|old|large|often|far|high|small|fast)\b"
    r"|\bwh(?:ich|at) (?:\w+ )?(?:port|version|release|size|limit|length|number|year|percentage|value)\b",
    re.IGNORECASE,
)
_ASKS_NAME: Final = re.compile(
    r"\bwh(?:ich|at)\b[^?.]{0,40}\b(?:file|method|function|command|option|package|table|key|program|tool|pragma|"
    r"interface|setting|variable|flag|switch|directive|call|module|parameter|macro|statement|routine|script|service|"
    r"daemon|utility)\b|\bwith which\b|\b(?:have|has) to (?:run|install|be installed)\b"
    r"|\bis there an? (?:table|function|command|option)\b",
    re.IGNORECASE,
)
_ASKS_COMMAND: Final = re.compile(r"\bhow (?:do|can|could|should|would|to|may)\b|\bcommand\b", re.IGNORECASE)
_NAME: Final = re.compile(
    r"\w_\w|\w\(\)|(?<!\w)--?[a-z]\w|\b[a-z]+[A-Z]|\b\w+\.(?:c|h|txt|conf|sh|py|html|db|deb)\b"
    r"|(?<!\w)/[\w.-]+/|\b[a-z]+-[a-z]+\b|\b[A-Z]{3,}\b|="
)
_NUMBER: Final = re.compile(r"\d")
_PROPER: Final = re.compile(r"(?<=[^.?!] )[A-Z][\w-]+|\w*\d\w*")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: its words, and what kind of thing it asks for.

    Attributes:
        stems: of its words, without those that say nothing.
        wants_number: and so on: as far as it can be told.
    """

    stems: Stems
    wants_number: bool = False
    wants_name: bool = False
    wants_command: bool = False

    @classmethod
    def of(cls, question: str, stems: Stems) -> Asked:
        """What a question asks for. Only English ones say so here; of others, nothing is known."""
        return cls(
            stems,
            _ASKS_NUMBER.search(question) is not None,
            _ASKS_NAME.search(question) is not None,
            _ASKS_COMMAND.search(question) is not None,
        )


def proper_names(question: str) -> str:
    """The words of a question that are names or numbers: capitals inside of a sentence, or digits."""
    return " ".join(_PROPER.findall(question))


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a unit.

    Attributes:
        passage: the rank of its passage; its neighbours are those beside it of the same one.
        text: its own words.
        cosine: of unit and question.
        stems: of its words, with those that announce it and the headings above it.
        passage_cosine: of its passage and the question.
        passage_stems: of all words of its passage, and of its headings.
        words: how many it adds to an answer.
    """

    passage: int
    text: str
    is_code: bool
    cosine: float
    stems: Stems
    passage_cosine: float
    passage_stems: Stems
    words: int


@dataclass(frozen=True, slots=True)
class Weighed:
    """A unit's worth as an answer.

    Attributes:
        row: which of the units it is.
        cover: the share of the question's words that are in it, the rarer ones counting more; ``passage_cover`` of its
            passage.
    """

    row: int
    worth: float
    cosine: float
    cover: float
    passage_cover: float


def weighed(asked: Asked, seen: Sequence[Seen], *, by_meaning: bool) -> list[Weighed]:
    """All units, the best one first.

    Args:
        by_meaning: whether the model knows the language, so that cosines mean something.
    """
    rarity = _rarity(asked.stems, [each.stems for each in seen])
    found = []
    for row, each in enumerate(seen):
        cover, passage_cover = _cover(rarity, each.stems), _cover(rarity, each.passage_stems)
        worth = _worth(asked, seen, row, cover) if by_meaning else cover + passage_cover / 10
        found.append(Weighed(row, worth, each.cosine, cover, passage_cover))
    cost = PER_WORD if by_meaning else 0.0
    return sorted(found, key=lambda each: cost * seen[each.row].words - each.worth)


def confidence(ranked: Sequence[Weighed], names: Stems, seen: Sequence[Seen], *, by_meaning: bool) -> float:
    """How likely it is that the best units answer the question, from 0 to 1.

    Args:
        ranked: all units, as :func:`weighed` gives them.
        names: stems of the names in the question.
    """
    if not ranked:
        return 0.0
    if not by_meaning:
        return _logistic(STEEPNESS * (max(each.cover for each in ranked) - BY_WORDS_ENOUGH))
    is_missing = not names <= frozenset().union(*(each.passage_stems for each in seen))
    worth = max(each.worth for each in ranked)
    cover = max(each.passage_cover for each in ranked)
    return _logistic(CONSTANT + WORTH * worth + PASSAGE_COVER * cover + MISSING_NAME * is_missing)


def _worth(asked: Asked, seen: Sequence[Seen], row: int, cover: float) -> float:
    unit = seen[row]
    has_name = _NAME.search(unit.text) is not None
    worth = COSINE * unit.cosine + COVER * cover + PASSAGE * unit.passage_cosine
    worth += BEFORE * _beside(seen, row, -1) + BEHIND * _beside(seen, row, 1)
    worth += NUMBER * _fits(asked.wants_number, _NUMBER.search(unit.text) is not None)
    worth += NAME * _fits(asked.wants_name, has_name)
    return worth + COMMAND * _fits(asked.wants_command, has_name or unit.is_code)


def _fits(wanted: bool, there: bool) -> int:
    """1 where what is wanted is there, -1 where it is not, 0 where nothing is known to be wanted."""
    return (1 if there else -1) if wanted else 0


def _beside(seen: Sequence[Seen], row: int, step: int) -> float:
    """The cosine of a unit's neighbour, or its own where there is none."""
    other = row + step
    is_there = 0 <= other < len(seen) and seen[other].passage == seen[row].passage
    return seen[other if is_there else row].cosine


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, value))))


def _rarity(question: Stems, units: Sequence[Stems]) -> dict[str, float]:
    """The weight of each word of the question: what is in few of the units, or in none, says more."""
    counts = Counter(stem for stems in units for stem in question & stems)
    return {stem: math.log(1 + (len(units) + 1) / (counts[stem] + 1)) for stem in question}


def _cover(rarity: dict[str, float], stems: Stems) -> float:
    total = sum(rarity.values())
    return sum(weight for stem, weight in rarity.items() if stem in stems) / total if total else 0.0
