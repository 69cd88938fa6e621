"""Methods that raise, each another way, and what is left of the exceptions."""

from __future__ import annotations

import traceback
import weakref
from collections.abc import AsyncIterator, Iterator

from trunkline import Batch, method


class TrackedError(Exception):
    """Tells whether it is still there."""


raised: list[weakref.ref[TrackedError]] = []
lengths: list[int] = []
"""How many lines the traceback of an exception has, each time that one is told."""


def tracked() -> TrackedError:
    error = TrackedError("this and its frames are freed at once")
    raised.append(weakref.ref(error))
    return error


@method("raising.function")
def function() -> int:
    raise tracked()


@method("raising.coroutine")
async def coroutine() -> int:
    raise tracked()


@method("raising.generator")
def generator() -> Iterator[int]:
    yield 1
    raise tracked()


@method("raising.async_generator")
async def async_generator() -> AsyncIterator[int]:
    yield 1
    raise tracked()


@method("raising.batched", batch=Batch(max_items=4))
def batched(number: list[int]) -> list[int]:
    raise tracked()


@method("raising.batched_later", batch=Batch(max_items=4))
async def batched_later(number: list[int]) -> list[int | TrackedError]:
    return [tracked() for _ in number]


class MeasuredError(Exception):
    def __str__(self) -> str:
        lengths.append(len(traceback.format_tb(self.__traceback__)))
        return "measured"


@method("raising.batched_together", batch=Batch(max_items=8, max_wait_ms=50))
def batched_together(number: list[int]) -> list[int]:
    raise MeasuredError
