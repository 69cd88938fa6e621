"""How much Hypothesis tries in ``make test``. CI is to say the same twice, so there it is not random.

``TEST_FUZZ_SCALE`` multiplies the number of examples, for a long search.
"""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, settings

REPEATABLE: Final = bool(os.environ.get("CI"))
SCALE: Final = int(os.environ.get("TEST_FUZZ_SCALE", "1"))


def fuzzing(max_examples: int) -> settings:
    """A decorator. Time is no reason to fail: the machine may be shared."""
    return settings(
        max_examples=max_examples * SCALE,
        deadline=None,
        derandomize=REPEATABLE,
        suppress_health_check=[HealthCheck.too_slow],
    )
