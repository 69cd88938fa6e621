"""Measures of a ranking, by ir_measures, and whether two ways to search differ by more than chance. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trunkline.evaluate.questions import Question

MEASURES: Final = ("nDCG@10", "R@5", "RR")
"""As ir_measures writes them: normalised discounted cumulative gain, recall, and the reciprocal rank of the first."""
RESAMPLES: Final = 2000


@dataclass(frozen=True, slots=True)
class Measured:
    """The scores of one technique: the mean of each measure, and the score of each question, in their order."""

    means: dict[str, float]
    each: dict[str, list[float]]


def measure(questions: Sequence[Question], rankings: Mapping[str, Sequence[str]]) -> Measured:
    """Score rankings.

    Args:
        rankings: documents by question id, best first, each once. A question without one scored 0.
    """
    import ir_measures

    measures = [ir_measures.parse_measure(name) for name in MEASURES]
    qrels = {question.id: question.relevant for question in questions}
    run = {id: {document: -float(rank) for rank, document in enumerate(found)} for id, found in rankings.items()}
    scored: dict[tuple[str, str], float] = {
        (str(each.measure), each.query_id): each.value for each in ir_measures.iter_calc(measures, qrels, run)
    }
    each = {name: [scored.get((name, question.id), 0.0) for question in questions] for name in MEASURES}
    return Measured({name: sum(values) / len(values) for name, values in each.items()}, each)


def interval(baseline: Sequence[float], other: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The 95 % confidence interval of the mean of ``other - baseline``, by paired bootstrap over questions.

    An interval that has 0 in it is a difference that may be chance.
    """
    differences = [b - a for a, b in zip(baseline, other, strict=True)]
    source = random.Random(seed)  # noqa: S311  # statistics, not secrets
    means = sorted(sum(source.choices(differences, k=len(differences))) / len(differences) for _ in range(RESAMPLES))
    return means[int(RESAMPLES * 0.025)], means[int(RESAMPLES * 0.975) - 1]
