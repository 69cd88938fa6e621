"""Which finished jobs are forgotten. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from trunkline.jobs.job import Job


def superfluous(over: Iterable[Job], kept: int, too_old: float) -> list[Job]:
    """The jobs to forget: those that are too old, then the oldest of whoever has most, so that nobody's jobs, and the
    keys they were made under, go because another makes many.

    Args:
        over: in the order in which they ended.
        kept: how many may stay.
        too_old: when those ended that go in any case, in milliseconds since 1970.
    """
    gone: list[Job] = []
    young: list[Job] = []
    for job in over:
        (gone if (job.finished_at or 0) < too_old else young).append(job)
    if len(young) > kept:
        held: dict[str, deque[Job]] = {}
        for job in young:
            held.setdefault(job.created.owner, deque()).append(job)
        gone.extend(max(held.values(), key=len).popleft() for _ in range(len(young) - kept))
    return gone
