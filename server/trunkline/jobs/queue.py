"""Jobs that wait: principals take turns, and among the jobs of one the priority counts, then the age. Pure."""

from __future__ import annotations

import bisect
from collections import OrderedDict

from trunkline.jobs.job import Job
from trunkline_protocol.calls import PRIORITIES


def _rank(job: Job) -> tuple[int, int]:
    return PRIORITIES[job.created.priority], job.created.number


class JobQueue:
    """However many jobs of one principal wait, another's next job waits for one of them at most."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, list[Job]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def push(self, job: Job) -> None:
        """Let a job wait."""
        bisect.insort(self._waiting.setdefault(job.created.principal, []), job, key=_rank)

    def peek(self) -> Job | None:
        """The next one, which stays."""
        return next(iter(self._waiting.values()))[0] if self._waiting else None

    def pop(self) -> Job | None:
        """The next one. Its principal goes to the end of the row."""
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
        """Take a job out of the middle. False if it does not wait here."""
        jobs = self._waiting.get(job.created.principal, [])
        if job not in jobs:
            return False
        jobs.remove(job)
        if not jobs:
            del self._waiting[job.created.principal]
        return True
