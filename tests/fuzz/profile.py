"""How much Hypothesis tries in ``make test``. CI is to say the same twice, so there it is not random.

``TEST_FUZZ_SCALE`` multiplies the number of examples: more for a long search, less for ``make test-unit``.
"""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, settings

REPEATABLE: Final = bool(os.environ.get("CI"))
SCALE: Final = float(os.environ.get("TEST_FUZZ_SCALE", "1"))


def fuzzing(max_examples: int) -> settings:
    """A decorator. Time is no reason to fail: the machine may be shared."""
    return settings(
        max_examples=max(1, round(max_examples * SCALE)),
        deadline=None,
        derandomize=REPEATABLE,
        suppress_health_check=[HealthCheck.too_slow],
    )
