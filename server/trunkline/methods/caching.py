"""A cache of results and of computations under way: what is asked for twice is computed once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

from typing_extensions import TypedDict

from trunkline.methods.batching import BatchItem
from trunkline.methods.figures import counter

if TYPE_CHECKING:
    from cachetools import TTLCache

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R")

_REQUESTS: Final = counter("trunkline_cache_requests", "Cache look-ups in executors", labels=("cache", "outcome"))


class Cleared(TypedDict):
    """What was in a cache that was cleared."""

    entries: int
    bytes: int


class ResultCache(Generic[K, R]):
    """Results by key: least recently used first out, none kept longer than its time, bounded in bytes.

    Look-ups are counted as ``hit`` or ``miss`` in ``trunkline_cache_requests_total``.

    Args:
        name: what the metric calls it.
        size: of a key and its result, in bytes.
        max_bytes: what all may take together; 0 keeps nothing.
        seconds: how long a result is kept.
    """

    def __init__(
        self,
        name: str,
        size: Callable[[R], int],
        max_bytes: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from cachetools import TTLCache  # in the extra [ml]: who only looks for a model does without

        self._name = name
        self._size = size
        self._results: TTLCache[K, R] = TTLCache(max_bytes, seconds, clock, size)

    @property
    def bytes(self) -> int:
        """The size of the kept results."""
        return int(self._results.currsize)

    def get(self, key: K) -> R | None:
        """The result of a key, or None."""
        kept: R | None = self._results.get(key)
        self.count("miss" if kept is None else "hit")
        return kept

    def put(self, key: K, result: R) -> None:
        """Keep a result, unless it is larger than the whole cache."""
        if self._size(result) <= self._results.maxsize:
            self._results[key] = result

    def count(self, outcome: Literal["hit", "joined", "miss"]) -> None:
        """Count a look-up."""
        _REQUESTS.add(1, self._name, outcome)

    def clear(self) -> Cleared:
        """Forget all results, and return how many there were."""
        self._results.expire()
        cleared = Cleared(entries=len(self._results), bytes=self.bytes)
        self._results.clear()
        return cleared


class JobCache(Generic[K, T, R]):
    """A :class:`ResultCache`, and the computations under way.

    Single-flight: whoever asks for a key that is being computed joins that job. What fails, or is dropped because
    nobody waits for it any more, is not kept. On the event loop only. Look-ups that join are counted as ``joined``.

    Args:
        name: what the metric calls it.
        size: of a key and its result, in bytes.
        max_bytes: what all may take together; 0 keeps nothing.
        seconds: how long a result is kept.
    """

    def __init__(
        self,
        name: str,
        size: Callable[[R], int],
        max_bytes: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._results: ResultCache[K, R] = ResultCache(name, size, max_bytes, seconds, clock)
        self._jobs: dict[K, BatchItem[T, R]] = {}

    @property
    def bytes(self) -> int:
        """The size of the kept results."""
        return self._results.bytes

    def get(self, key: K, value: T, deadline: float = math.inf) -> tuple[R | BatchItem[T, R], bool]:
        """The result of a key, or the job that will have it.

        Args:
            value: of the job that is made where there is none yet.
            deadline: of whoever asks.

        Returns:
            The result or the job, and whether the job is new: then the caller has to see that it is run. A caller that
            does not wait any more has to :meth:`~trunkline.methods.batching.BatchItem.leave` the job.
        """
        job = self._jobs.get(key)
        if job is not None and not job.future.cancelled():
            self._results.count("joined")
            job.join(deadline)
            return job, False
        kept = self._results.get(key)
        if kept is not None:
            return kept, False
        job = self._jobs[key] = BatchItem(value, deadline=deadline)
        job.future.add_done_callback(lambda _: self._done(key, job))
        return job, True

    def clear(self) -> Cleared:
        """Forget all results, and return how many there were. What is being computed goes on, and is kept."""
        return self._results.clear()

    def _done(self, key: K, job: BatchItem[T, R]) -> None:
        if self._jobs.get(key) is job:
            del self._jobs[key]
        if not job.future.cancelled() and job.future.exception() is None:
            self._results.put(key, job.future.result())
