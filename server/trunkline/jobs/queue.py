"""Jobs that wait: principals take turns, and among the jobs of one the priority counts, then the age. Pure."""

from __future__ import annotations

import bisect
from collections import OrderedDict

from trunkline.jobs.job import Job
from trunkline_protocol.calls import PRIORITIES


def _rank(job: Job) -> tuple[int, int]:
    return PRIORITIES[job.created.priority], job.created.number


class JobQueue:
    """Queued jobs. However many one principal has, another's next job waits for one of them at most."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, list[Job]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def push(self, job: Job) -> None:
        """Queue a job."""
        bisect.insort(self._waiting.setdefault(job.created.owner, []), job, key=_rank)

    def peek(self) -> Job | None:
        """The next job, which stays queued; None where none waits."""
        return next(iter(self._waiting.values()))[0] if self._waiting else None

    def pop(self) -> Job | None:
        """Remove and return the next job. Its principal's next turn comes after those of the others."""
        if not self._waiting:
            return None
        principal, jobs = next(iter(self._waiting.items()))
        job = jobs.pop(0)
        if jobs:
            self._waiting.move_to_end(principal)
        else:
            del self._waiting[principal]
        return job

    def remove(self, job: Job) -> bool:
        """Remove a job. Returns False if it does not wait here."""
        jobs = self._waiting.get(job.created.owner, [])
        if job not in jobs:
            return False
        jobs.remove(job)
        if not jobs:
            del self._waiting[job.created.owner]
        return True
