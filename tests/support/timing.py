"""The one time unit of the tests. Slow machines set ``TEST_TIMEOUT_SCALE`` above 1."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar, overload

T = TypeVar("T")

SCALE: Final = float(os.environ.get("TEST_TIMEOUT_SCALE", "1"))

PATIENCE: Final = 10 * SCALE
"""Seconds until something that has to happen counts as not happening."""

START: Final = 4 * PATIENCE
"""Seconds for a program to start: it loads a lot, and may be one of many."""

SOON: Final = 1 * SCALE
"""Seconds for what has to happen at once on a busy machine."""

TIMER_GRAIN: Final = 0.002
"""Seconds that a timer of another process may seem early: uvloop counts whole milliseconds, and rounds."""


def eventually(condition: Callable[[], object], what: str, within: float = PATIENCE) -> None:
    """Wait for a state of another process, which has no event to wait for."""
    limit = time.monotonic() + within
    while not condition():
        assert time.monotonic() < limit, f"after {within:.1f} s still not so: {what}"
        time.sleep(0.01)


@overload
async def until(condition: Callable[[], Awaitable[T | None]], what: str, within: float = PATIENCE) -> T: ...
@overload
async def until(condition: Callable[[], T | None], what: str, within: float = PATIENCE) -> T: ...
async def until(condition: Callable[[], Any], what: str, within: float = PATIENCE) -> Any:
    """Wait, on the test's own loop, for a state that has no event to wait for; returns what the condition found."""
    limit = time.monotonic() + within
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < limit, f"after {within:.1f} s still not so: {what}"
        await asyncio.sleep(0.01)


async def standstill(state: Callable[[], T], within: float = START) -> T:
    """Wait until a state stands still, which nothing tells: two looks find the same; returns what they found.

    On a busy machine it may only seem so. That it goes no further is told by a limit that it must not exceed.
    """
    limit = time.monotonic() + within
    before = state()
    while True:
        await asyncio.sleep(0.2)
        if (now := state()) == before:
            return now
        assert time.monotonic() < limit, f"after {within:.1f} s it still goes on: {now!r}"
        before = now


def number_in(marker: Path) -> int:
    """The number that another process has written to a file so far; 0 before."""
    return int(marker.read_text() or 0) if marker.exists() else 0


def records_in(file: Path) -> list[Any]:
    """The JSON of each line that another process has written to a file so far; one that it is just writing is none."""
    whole, _, _ = file.read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]
