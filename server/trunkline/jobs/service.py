"""All jobs of a hub: made, found, listed, cancelled, announced, and forgotten when they are old."""

from __future__ import annotations

import asyncio
import logging
import secrets
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from trunkline.background import keep_up, start_task
from trunkline.hub.shares import share_error
from trunkline.hub.topic_spaces import TopicSpaces
from trunkline.jobs.disk import DiskThread
from trunkline.jobs.job import STATUSES, Created, Job, Rights, Succeeded
from trunkline.jobs.keeping import superfluous
from trunkline.jobs.limits import JobLimits
from trunkline.jobs.runner import JobRunner, now_ms
from trunkline.jobs.store import JobStore
from trunkline_protocol.calls import Call, Caller
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError, draining_error, limit_error
from trunkline_protocol.hub_messages import JobEvent, JobStatus, JobView, JobWithResult
from trunkline_protocol.messages import Priority
from trunkline_protocol.params_digest import params_digest
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.topics import JOBS

ADMIN: Final = "admin"
SMALL_RESULT: Final = 16 * 1024
"""Bytes up to which the last event carries the result itself."""

OPEN_AGAIN_SECONDS: Final = 2.0
INTERRUPT_AGAIN: Final = 0.05
FORGET_SECONDS: Final = 600.0

logger = logging.getLogger("trunkline.jobs")
_encoder: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class NewJob:
    """The job that a caller asks for.

    Attributes:
        params: JSON.
        metadata: for the method.
        key: the caller's idempotency key.
    """

    method: str
    params: bytes
    metadata: dict[str, Any]
    priority: Priority = "low"
    key: str | None = None


class Jobs:
    """The jobs of one hub. Nothing is on disk, or looked for there, before the first one.

    Args:
        folder: ``<data>/jobs``.
        submit: takes calls, as the router does.
        find: looks a method of the executors up.
        is_hubs: whether the hub answers a method itself.
        spaces: the topics of tenants: what becomes of a job is announced to its own.
        holds: whether jobs of a tenant are not to be begun now.
        quota: how many jobs that are not over a tenant may have by its own quota; 0 where it has none.

    Attributes:
        trouble: why the stored jobs cannot be read; None where they can.
    """

    def __init__(
        self,
        folder: Path,
        submit: Callable[[Call], None],
        find: Callable[[str], MethodInfo],
        is_hubs: Callable[[str], bool],
        spaces: TopicSpaces,
        limits: JobLimits,
        holds: Callable[[str], bool] = lambda _tenant: False,
        quota: Callable[[str], int] = lambda _tenant: 0,
    ) -> None:
        self._find = find
        self._quota = quota
        self._is_hubs = is_hubs
        self._spaces = spaces
        self._limits = limits
        self._store = JobStore(folder)
        self._disk = DiskThread()
        self._runner = JobRunner(submit, self._require, self._store, self._disk, limits, self._changed, holds)
        self._jobs: dict[str, Job] = {}
        self._over: deque[Job] = deque()
        self._keys: dict[tuple[str, str], Job] = {}
        self._new: dict[tuple[str, str], asyncio.Task[Job]] = {}
        self._number = 0
        self._opening = asyncio.Lock()
        self._is_open = False
        self._stopping = False
        self._house: asyncio.Task[None] | None = None
        self.trouble: str | None = None

    # --- life ---

    def start(self) -> None:
        """Go on with the stored jobs, in the background. Where they cannot be read, that is retried."""
        self._house = keep_up(self._keep_house, "jobs")

    def wake(self) -> None:
        """Begin queued jobs: to be called when executors have changed."""
        self._runner.wake()

    async def stop(self) -> None:
        """Begin no more attempts, and interrupt those that run: the next hub runs their jobs again."""
        self._stopping = True
        await self._runner.stop()

    async def close(self) -> None:
        """Finish writing and release the folder for the next hub. Nothing may be called after this."""
        if self._house is not None:
            self._house.cancel()
        self._disk.soon(self._store.close)
        stopped = start_task(asyncio.to_thread(self._disk.stop), "end of the jobs' thread")
        while not stopped.done():
            self._store.interrupt_opening()  # a file of gigabytes may be looked through for minutes
            await asyncio.wait([stopped], timeout=INTERRUPT_AGAIN)
        await stopped

    def limit(self, limits: JobLimits) -> None:
        """Change the limits: for jobs made, and attempts begun, from now on."""
        self._limits = self._runner.limits = limits
        self._runner.wake()

    def counts(self) -> dict[str, int]:
        """The number of jobs by status."""
        found = Counter(job.status for job in self._jobs.values())
        return {status: found[status] for status in STATUSES}

    async def _keep_house(self) -> None:
        while not self._is_open:
            try:
                await self._open_what_exists()
                self.trouble = None
            except RpcError as error:
                if error.message != self.trouble:
                    self.trouble = error.message
                    logger.warning("%s; retrying", error)
            if not self._is_open:
                await asyncio.sleep(OPEN_AGAIN_SECONDS)
        while True:
            await asyncio.sleep(FORGET_SECONDS)
            self._forget_old()

    async def _open(self) -> None:
        async with self._opening:
            if not self._is_open:
                jobs = await self._disk.do(self._store.open, now_ms())
                self._is_open = True
                self._take(jobs)

    def _take(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._add(job)
        self._over.extend(sorted((job for job in jobs if job.is_over), key=lambda job: job.finished_at or 0))
        self._forget_old()
        left = [job for job in jobs if not job.is_over]
        if left:
            logger.info("unfinished jobs are resumed", extra={"jobs": len(left)})
        for job in left:
            self._runner.enqueue(job)

    def _add(self, job: Job) -> None:
        self._jobs[job.id] = job
        self._number = max(self._number, job.created.number)
        if job.created.key is not None:
            self._keys[job.created.owner, job.created.key] = job

    def _forget_old(self) -> None:
        gone = superfluous(self._over, self._limits.kept, now_ms() - 1000 * self._limits.kept_seconds)
        if gone:
            self._drop(gone)
            self._disk.soon(self._store.forget, [job.id for job in gone])

    def _drop(self, gone: list[Job]) -> None:
        dropped = set(gone)
        self._over = deque(job for job in self._over if job not in dropped)
        for job in gone:
            del self._jobs[job.id]
            if job.created.key is not None:
                del self._keys[job.created.owner, job.created.key]

    # --- a tenant's ---

    async def count_of(self, tenant: str) -> int:
        """The number of a tenant's jobs, those that are over included.

        Raises:
            RpcError: the stored jobs cannot be read.
        """
        return len(await self._of(tenant))

    async def remove_of(self, tenant: str) -> int:
        """Cancel and remove all jobs of a tenant; returns how many there were.

        Raises:
            RpcError: 5001 or 5002, they could not be removed; 1001, the hub stops.
        """
        jobs = await self._of(tenant)
        for job in jobs:
            await self._runner.cancel(job, "tenants.delete")
        theirs = [job for job in jobs if job.id in self._jobs]  # others are forgotten meanwhile, being old
        if theirs:
            await self._disk.do(self._store.remove, [job.id for job in theirs])
            self._drop([job for job in theirs if job.id in self._jobs])
        return len(jobs)

    async def _of(self, tenant: str) -> list[Job]:
        await self._open_what_exists()
        return [job for job in self._jobs.values() if job.created.tenant == tenant]

    # --- what can be a job ---

    def _require(self, method: str) -> None:
        """Check that a method can be run as a job.

        Raises:
            RpcError: -32601, nobody serves it; 1001, that is not known yet; -32602, the method cannot be a job.
        """
        if self._is_hubs(method):
            raise _no_job(method, "the hub answers it itself, at once: call it")
        info = self._find(method)
        if info.streaming or info.input is not None:
            raise _no_job(
                method, "it streams, and a job has only a result: call it, or make a job of one that does not"
            )
        if not info.idempotent:
            raise _no_job(
                method, "a job may run more than once, and it is not declared @method(..., idempotent=True): call it"
            )

    # --- what is asked ---

    async def create(self, who: Caller, new: NewJob) -> JobView:
        """Create a job, which is on disk when this returns. The same key again is the same job, whatever its state.

        Raises:
            RpcError: the method cannot be a job, or there is no room for one; nothing was created.
        """
        if self._stopping:
            raise draining_error()
        self._require(new.method)
        await self._open()
        if new.key is None:
            return self._view(await self._make(who, new))
        key = (who.owner, new.key)
        job = self._keys.get(key)
        if job is None:
            task = self._new.get(key)
            if task is None:
                task = self._new[key] = start_task(self._make(who, new), "jobs.create", expected=RpcError)
                task.add_done_callback(lambda _: self._new.pop(key))
            job = await asyncio.shield(task)
        if job.created.digest != params_digest(new.method, new.params).hex():
            words = f"idempotency_key was used for job {job.id}, which has another method or other params: use another"
            raise RpcError(ErrorCode.INVALID_PARAMS, f"jobs.create: {words}", data={"idempotency": "mismatch"})
        return self._view(job)

    async def _make(self, who: Caller, new: NewJob) -> Job:
        self._require_room(who, new)
        self._number += 1
        created = Created(
            id=secrets.token_hex(16),
            number=self._number,
            method=new.method,
            principal=who.name,
            roles=tuple(sorted(who.roles)),
            rights=Rights(who.methods, who.subscribe, who.publish, who.acting, who.collections),
            tenant=who.tenant,
            claims=dict(who.claims),
            actor=who.actor,
            metadata=new.metadata,
            priority=new.priority,
            key=new.key,
            created_at=now_ms(),
            digest=params_digest(new.method, new.params).hex(),
            size=len(new.params),
            crc=zlib.crc32(new.params),
        )
        await self._disk.do(self._store.create, created, new.params)
        job = Job(created)
        self._add(job)
        self._changed(job)
        self._runner.enqueue(job)
        return job

    def _require_room(self, who: Caller, new: NewJob) -> None:
        limits = self._limits
        if len(new.params) > limits.bytes:
            words = f"params have {len(new.params)} bytes; those of a job may have {limits.bytes}: pass references"
            raise limit_error("job_bytes", f"jobs.create: {words}", code=ErrorCode.INVALID_PARAMS, retry_after_ms=None)
        waiting = [job.created for job in self._jobs.values() if not job.is_over]
        own = sum(created.owner == who.owner for created in waiting)
        if len(waiting) >= limits.waiting:
            raise limit_error("jobs_waiting", f"{len(waiting)} jobs are waiting already; try again later")
        if own >= limits.waiting_per_principal:
            raise limit_error("jobs_waiting_per_principal", f"{own} jobs of {who.name} are waiting already")
        quota = self._quota(who.tenant)
        if quota or who.tenant != DEFAULT_TENANT:
            theirs = sum(created.tenant == who.tenant for created in waiting)
            words = f"{theirs} jobs of tenant {who.tenant} are waiting already, and it may have"
            if quota and theirs >= quota:
                raise share_error("quotas.jobs", "tenant", quota, f"{words} {quota}")
            if not quota and theirs >= (half := max(1, limits.waiting // 2)):
                raise share_error("jobs_waiting", "tenant", half, f"{words} half of what all may have")
        size = sum(created.size for created in waiting)
        if waiting and size + len(new.params) > limits.waiting_bytes:
            raise limit_error("jobs_waiting_bytes", f"the params of waiting jobs take {size} bytes already")

    async def get(self, who: Caller, job_id: str) -> JobWithResult:
        """A job with its result, which is None where it has none.

        Raises:
            RpcError: -32602, there is no such job of this caller.
        """
        await self._open_what_exists()
        job = self._visible(who, job_id, "jobs.get")
        result = None
        if isinstance(job.outcome, Succeeded):
            result = msgspec.Raw(await self._disk.do(self._store.result, job))
        return JobWithResult(**msgspec.structs.asdict(self._view(job)), result=result)

    async def page(
        self, who: Caller, status: JobStatus | None, limit: int, before: int | None
    ) -> tuple[list[JobView], int | None]:
        """A page of jobs, the newest first: the caller's own, or for an admin everybody's.

        Args:
            before: the number of the job after which the page begins.

        Returns:
            The jobs, and ``before`` of the next page; None where this is the last.
        """
        await self._open_what_exists()
        page: list[Job] = []
        for job in self._newest_first(who, before):
            if status is None or job.status == status:
                if len(page) == limit:
                    return [self._view(each) for each in page], page[-1].created.number
                page.append(job)
        return [self._view(each) for each in page], None

    def _newest_first(self, who: Caller, before: int | None) -> Iterator[Job]:
        for job in reversed(self._jobs.values()):
            if (before is None or job.created.number < before) and _may_see(who, job):
                yield job

    async def cancel(self, who: Caller, job_id: str) -> tuple[Job, bool]:
        """Cancel a job. Returns the job, and whether it is cancelled now and had not ended before.

        Raises:
            RpcError: -32602, there is no such job of this caller; 5001 or 5002, that could not be recorded.
        """
        await self._open_what_exists()
        job = self._visible(who, job_id, "jobs.cancel")
        if job.is_over:
            return job, False
        await self._runner.cancel(job, who.name)
        return job, job.status == "cancelled"

    async def _open_what_exists(self) -> None:
        if not self._is_open and self._store.exists():
            await self._open()

    def _visible(self, who: Caller, job_id: str, method: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None or not _may_see(who, job):
            words = (
                f"{method}: id: there is no job {job_id!r:.100} of yours; jobs that are over are kept for a while only"
            )
            raise RpcError(ErrorCode.INVALID_PARAMS, words)
        return job

    def _view(self, job: Job) -> JobView:
        return job.view(self._runner.attempts(job))

    # --- what is said ---

    def _changed(self, job: Job, result: bytes | None = None) -> None:
        """Publish a job's new state."""
        self._publish(job, result if result is not None and len(result) <= SMALL_RESULT else None)
        if job.is_over:
            self._over.append(job)
            self._forget_old()

    def _publish(self, job: Job, result: bytes | None) -> None:
        view = self._view(job)
        event = JobEvent(job.id, view.method, view.status, view.attempts, view.progress)
        if result is not None:
            event.result = msgspec.Raw(result)
        if job.error is not None:
            event.error = job.error
        topic = f"{JOBS}.{job.id}"
        self._spaces.of(job.created.tenant, topic).broker.publish(topic, _encoder.encode(event), None, lambda _: None)


def _may_see(who: Caller, job: Job) -> bool:
    return job.created.owner == who.owner or who.has_role(ADMIN)


def _no_job(method: str, why: str) -> RpcError:
    return RpcError(ErrorCode.INVALID_PARAMS, f"jobs.create: method: {method:.200} cannot be a job: {why}")
