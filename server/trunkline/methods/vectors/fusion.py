"""One ranking of two: what is near in meaning, and what has the words. Pure.

Both ways to fuse take the dense and the lexical score of every candidate, whichever search found it:

- ``convex``: cosine + weight * (BM25 / the query's best BM25). It keeps how much better one passage is than the next,
  so that one which is clearly nearest stays first; see Bruch, Gai, Ingber, "An Analysis of Fusion Functions for
  Hybrid Retrieval", ACM TOIS 2023.
- ``rrf``: 1 / (60 + dense rank) + weight / (60 + lexical rank), reciprocal rank fusion after Cormack, Clarke and
  Buettcher, SIGIR 2009. It needs no scores that can be compared, and throws away what they say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Fusion = Literal["convex", "rrf"]

RANK_CONSTANT: Final = 60
WEIGHTS: Final[dict[str, float]] = {"convex": 0.1, "rrf": 0.2}
"""The lexical part's weight where nobody gives one: the best on two question sets (``bench/retrieval.py``)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage that one of the searches found.

    Attributes:
        dense: how near it is to the query.
        lexical: its BM25; 0 where it has no word of the query.
    """

    id: str
    dense: float
    lexical: float


def fuse(candidates: Sequence[Candidate], fusion: Fusion, weight: float | None = None) -> list[tuple[Candidate, float]]:
    """The candidates with their fused scores, best first.

    Args:
        weight: of the lexical part; the dense one has 1.
    """
    weight = WEIGHTS[fusion] if weight is None else weight
    if fusion == "rrf":
        dense = _ranks(candidates, [each.dense for each in candidates])
        lexical = _ranks(candidates, [each.lexical for each in candidates])
        scores = [
            1 / (RANK_CONSTANT + near) + (weight / (RANK_CONSTANT + has) if each.lexical else 0.0)
            for each, near, has in zip(candidates, dense, lexical, strict=True)
        ]
    else:
        best = max((each.lexical for each in candidates), default=0.0) or 1.0
        scores = [each.dense + weight * each.lexical / best for each in candidates]
    return sorted(zip(candidates, scores, strict=True), key=lambda pair: (-pair[1], -pair[0].dense, pair[0].id))


def _ranks(candidates: Sequence[Candidate], scores: Sequence[float]) -> list[int]:
    """Each candidate's place by a score, from 1."""
    order = sorted(range(len(candidates)), key=lambda at: (-scores[at], candidates[at].id))
    ranks = [0] * len(candidates)
    for rank, at in enumerate(order, 1):
        ranks[at] = rank
    return ranks
