"""Jobs that wait: tenants take turns, in a tenant its principals do, and of one's jobs priority counts, then age.

Pure.
"""

from __future__ import annotations

import bisect
from collections import OrderedDict

from trunkline.jobs.job import Job
from trunkline_protocol.calls import PRIORITIES
from trunkline_protocol.tenants import tenant_and_name


def _rank(job: Job) -> tuple[int, int]:
    return PRIORITIES[job.created.priority], job.created.number


class JobQueue:
    """Queued jobs. However many one tenant has, over however many principals, another's next job waits for one of them
    at most; and so it is between the principals of a tenant.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, OrderedDict[str, list[Job]]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, job: Job) -> None:
        """Queue a job."""
        owner = job.created.owner
        principals = self._waiting.setdefault(tenant_and_name(owner)[0], OrderedDict())
        bisect.insort(principals.setdefault(owner, []), job, key=_rank)
        self._size += 1

    def peek(self) -> Job | None:
        """The next job, which stays queued; None where none waits."""
        return next(iter(next(iter(self._waiting.values())).values()))[0] if self._waiting else None

    def pop(self) -> Job | None:
        """Remove and return the next job. The next turn of its tenant, and of its principal, is behind the others'."""
        job = self.peek()
        if job is not None:
            owner = job.created.owner
            tenant = tenant_and_name(owner)[0]
            self.remove(job)
            if (principals := self._waiting.get(tenant)) is not None:
                self._waiting.move_to_end(tenant)
                if owner in principals:
                    principals.move_to_end(owner)
        return job

    def remove(self, job: Job) -> bool:
        """Remove a job. Returns False if it does not wait here."""
        owner = job.created.owner
        tenant = tenant_and_name(owner)[0]
        principals = self._waiting.get(tenant, OrderedDict())
        jobs = principals.get(owner, [])
        if job not in jobs:
            return False
        jobs.remove(job)
        self._size -= 1
        if not jobs:
            del principals[owner]
        if not principals:
            del self._waiting[tenant]
        return True
