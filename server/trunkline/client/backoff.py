"""How long to wait before something is tried again. Pure.

Full jitter: everybody waits a random part of a bound that grows, so that those who were cut off at the same moment do
not come back in the same moment (AWS Architecture Blog, "Exponential Backoff And Jitter").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

Random = Callable[[], float]
"""Uniform in [0, 1), as :func:`random.random`."""

LONGEST: Final = 60.0
"""Seconds that no wait exceeds where nobody says otherwise."""


def full_jitter(attempt: int, base: float, random: Random, *, factor: float = 2.0, cap: float = LONGEST) -> float:
    """Seconds to wait.

    Args:
        attempt: how many waits there were before this one.
        base: bound of the first wait, in seconds.
        cap: what the bound never exceeds.
    """
    try:
        bound = base * factor**attempt
    except OverflowError:
        bound = cap
    return random() * min(cap, bound)
