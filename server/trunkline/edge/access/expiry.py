"""When a credential ends, on the clock that timers go by. Pure, but for the clocks."""

from __future__ import annotations

import time
from typing import Final

_AT_ONCE: Final = 0.02
"""Seconds within which two clocks count as read at once."""

_LOOKS: Final = 50


def on_monotonic_clock(wall: float) -> float:
    """The value that :func:`time.monotonic` has at a time of day.

    A process that stands still between its looks at the two clocks would be wrong by as long, and take credentials for
    others that end sooner: it looks again.

    Args:
        wall: seconds since 1970.
    """
    for _ in range(_LOOKS):
        before = time.monotonic()
        now = time.time()
        after = time.monotonic()
        if after - before <= _AT_ONCE:
            break
    return after + wall - now
