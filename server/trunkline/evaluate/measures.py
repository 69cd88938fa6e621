"""Measures of a ranking, by ir_measures, and whether two ways to search differ by more than chance. Pure."""

from __future__ import annotations

import math
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


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, and the 95 % confidence interval that ``low`` and ``high`` bound."""

    mean: float
    low: float
    high: float

    @property
    def is_above_zero(self) -> bool:
        """Whether it is above zero by more than chance."""
        return self.low > 0


def estimate(values: Sequence[float], seed: int = 0) -> Estimate:
    """The mean of values, one a question, with its confidence interval by bootstrap over the questions."""
    source = random.Random(seed)  # noqa: S311  # statistics, not secrets
    means = sorted(sum(source.choices(values, k=len(values))) / len(values) for _ in range(RESAMPLES))
    return Estimate(sum(values) / len(values), means[int(RESAMPLES * 0.025)], means[math.ceil(RESAMPLES * 0.975) - 1])


def difference(baseline: Sequence[float], other: Sequence[float]) -> Estimate:
    """The mean of ``other - baseline``, paired by question.

    An interval that has 0 in it is a difference that may be chance.
    """
    return estimate([b - a for a, b in zip(baseline, other, strict=True)])
