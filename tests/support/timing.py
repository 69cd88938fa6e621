"""The one time unit of the tests. Slow machines set ``TEST_TIMEOUT_SCALE`` above 1."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

SCALE: Final = float(os.environ.get("TEST_TIMEOUT_SCALE", "1"))

PATIENCE: Final = 10 * SCALE
"""Seconds until something that has to happen counts as not happening."""

SOON: Final = 1 * SCALE
"""Seconds for what has to happen at once on a busy machine."""

START: Final = 4 * PATIENCE
"""Seconds for a program to start: it loads a lot, and may be one of many."""


def eventually(condition: Callable[[], object], what: str, within: float = PATIENCE) -> None:
    """Wait for a state of another process, which has no event to wait for."""
    limit = time.monotonic() + within
    while not condition():
        assert time.monotonic() < limit, f"after {within:.1f} s still not so: {what}"
        time.sleep(0.01)
