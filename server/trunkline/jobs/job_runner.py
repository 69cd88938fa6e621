"""Runs jobs: a limited number at once, principals in turn, with retries, until each job has its outcome.

An outcome counts when it is on disk. Until it is, the job is ``running``, and recording it is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import zlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from trunkline.background import start_task
from trunkline.jobs.call import HubStopping, JobCall
from trunkline.jobs.job import (
    Cancelled,
    Failed,
    Interrupted,
    Job,
    Outcome,
    Progressed,
    Retrying,
    Started,
    Succeeded,
    pause,
    runs_again,
)
from trunkline.jobs.limits import JobLimits
from trunkline.jobs.queue import JobQueue
from trunkline.jobs.store import JobStore
from trunkline.storage.disk_thread import DiskThread
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import DRAINING, ErrorCode, RpcError, limit_error

ANNOUNCE_SECONDS: Final = 0.1
"""Between two events of one job's progress: the last one counts, and goes out."""

RECORD_SECONDS: Final = 2.0
RECORD_SHARE: Final = 0.02
"""Between two records of one job's progress on disk: so long, or so much of the time it runs already, so that what a
job of days says does not fill the disk."""

MAX_PROGRESS_BYTES: Final = 16 * 1024
FIRST_RECORDING_PAUSE: Final = 0.5
LONGEST_RECORDING_PAUSE: Final = 30.0
NOT_LOADED_PAUSE: Final = 10.0
"""Seconds until a job is looked at again whose method's module could not be loaded."""

HELD_PAUSE: Final = 5.0
"""Seconds until a job is looked at again whose tenant is suspended."""

STOP_SECONDS: Final = 5.0
"""What is being written when the hub stops has so long."""

logger = logging.getLogger("trunkline.jobs")


def now_ms() -> int:
    """Milliseconds since 1970: for people, and for ages in days."""
    return int(time.time() * 1000)


class _Run:
    """A job while it is attempted, or while its end is recorded."""

    __slots__ = ("announced", "by", "call", "recorded", "started", "task", "timer")

    def __init__(self) -> None:
        self.call: JobCall | None = None
        self.by: str | None = None
        self.started = self.recorded = time.monotonic()
        self.announced = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None


class JobRunner:
    """Runs the attempts of jobs.

    Args:
        submit: takes calls, as the router does.
        require: raises the reason if a method cannot be run as a job (now).
        changed: called when a job has another state or has made progress, with its result once it has one.
        holds: whether jobs of a tenant are not to be begun now.
    """

    def __init__(
        self,
        submit: Callable[[Call], None],
        require: Callable[[str], None],
        store: JobStore,
        disk: DiskThread,
        limits: JobLimits,
        changed: Callable[[Job, bytes | None], None],
        holds: Callable[[str], bool] = lambda _tenant: False,
    ) -> None:
        self._submit = submit
        self._require = require
        self._store = store
        self._disk = disk
        self.limits = limits
        self._changed = changed
        self._holds = holds
        self._queue = JobQueue()
        self._pauses: dict[str, asyncio.TimerHandle] = {}
        self._runs: dict[str, _Run] = {}
        self._stopped = asyncio.Event()

    @property
    def _stopping(self) -> bool:
        return self._stopped.is_set()

    def attempts(self, job: Job) -> int:
        """The number of executors that a job was sent to by the attempt that runs now."""
        run = self._runs.get(job.id)
        return run.call.attempts if run is not None and run.call is not None and not job.is_over else 0

    # --- what waits ---

    def enqueue(self, job: Job) -> None:
        """Queue a job for its next attempt."""
        self._queue.push(job)
        self.wake()

    def wake(self) -> None:
        """Begin attempts of queued jobs, as far as limits allow. To be called when executors have become ready."""
        while not self._stopping and len(self._runs) < self.limits.at_once and (job := self._queue.peek()):
            if self._holds(job.created.tenant):
                self._queue.pop()
                self._wait(job, HELD_PAUSE)
                continue
            try:
                self._require(job.created.method)
            except RpcError as error:
                if error.code == ErrorCode.WORKER_UNAVAILABLE:
                    return  # nobody knows yet what there is to run
                self._queue.pop()
                if "modules" in error.data:  # they could not be loaded, which may be mended: others go on meanwhile
                    self._wait(job, NOT_LOADED_PAUSE)
                    continue
                self._begin(job, self._conclude(job, Failed(now_ms(), 0, error.to_wire())))
                continue
            self._queue.pop()
            self._begin(job, self._attempt(job))

    def _begin(self, job: Job, work: Coroutine[Any, Any, None]) -> _Run:
        run = self._runs[job.id] = _Run()
        run.task = start_task(work, f"job-{job.id}", expected=Exception)  # see _done
        run.task.add_done_callback(lambda task: self._done(job, task))
        return run

    def _done(self, job: Job, task: asyncio.Task[None]) -> None:
        run = self._runs.pop(job.id)
        if run.timer is not None:
            run.timer.cancel()
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, RpcError):
            logger.error("job %s was lost by the hub; it runs again after a restart", job.id, exc_info=error)
        if self._stopping and job.status == "running":
            job.apply(Interrupted(now_ms()))  # as the next hub does, which finds that it is running
        self.wake()

    def _wait(self, job: Job, seconds: float) -> None:
        def over() -> None:
            del self._pauses[job.id]
            self.enqueue(job)

        self._pauses[job.id] = asyncio.get_running_loop().call_later(seconds, over)

    # --- one attempt ---

    async def _attempt(self, job: Job) -> None:
        run, started = self._runs[job.id], Started(now_ms())
        try:
            params = await self._disk.do(self._store.begin, job.created, started)
        except RpcError as error:
            await self._failed(job, run, error)
            return
        job.apply(started)
        if run.by is not None:
            await self._conclude(job, Cancelled(now_ms(), 0, run.by))
            return
        call = run.call = JobCall(
            job.created, params, self.limits.seconds, lambda value: self._progress(job, run, value)
        )
        if self._stopping:
            return
        self._submit(call)
        self._changed(job, None)
        try:
            result = await call.future
        except RpcError as error:
            await self._failed(job, run, error)
        except HubStopping:
            return
        else:
            await self._succeeded(job, call.attempts, result)

    async def _succeeded(self, job: Job, attempts: int, result: bytes) -> None:
        if len(result) > self.limits.bytes:
            words = f"the result has {len(result)} bytes; a job may return {self.limits.bytes}: return where it is"
            error = limit_error("job_bytes", words, retry_after_ms=None)
            await self._conclude(job, Failed(now_ms(), attempts, error.to_wire()))
            return
        await self._conclude(job, Succeeded(now_ms(), attempts, len(result), zlib.crc32(result)), result)

    async def _failed(self, job: Job, run: _Run, error: RpcError) -> None:
        attempts = 0 if run.call is None else run.call.attempts
        if error.code == ErrorCode.CANCELLED:
            await self._conclude(job, Cancelled(now_ms(), attempts, run.by or "system.cancel"))
            return
        overdue = time.monotonic() - run.started >= self.limits.seconds
        counts = attempts > 0  # what was refused before it ran has failed at nothing
        failures = job.failures if counts else 0
        if not runs_again(error, failures=failures, limit=self.limits.attempts, overdue=overdue):
            await self._conclude(job, Failed(now_ms(), attempts, error.to_wire()))
            return
        if job.status == "running":
            retrying = Retrying(now_ms(), attempts, error.to_wire(), counts)
            run.call = None  # its attempts are in the event from here on
            job.apply(retrying)
            self._record_soon(job, retrying)
            self._changed(job, None)
        if run.by is not None:
            await self._conclude(job, Cancelled(now_ms(), 0, run.by))
        else:
            self._wait(job, pause(job.failures, error.retry_after_ms))

    def _progress(self, job: Job, run: _Run, value: bytes) -> None:
        if len(value) > MAX_PROGRESS_BYTES or job.status != "running":
            return
        now = time.monotonic()
        progressed = Progressed(now_ms(), msgspec.Raw(value))
        job.apply(progressed)
        if now - run.recorded >= max(RECORD_SECONDS, RECORD_SHARE * (now - run.started)):
            run.recorded = now
            self._record_soon(job, progressed)
        if run.timer is None:
            wait = max(0.0, run.announced + ANNOUNCE_SECONDS - now)
            run.timer = asyncio.get_running_loop().call_later(wait, self._announce, job, run)

    def _announce(self, job: Job, run: _Run) -> None:
        run.timer = None
        run.announced = time.monotonic()
        if job.status == "running":
            self._changed(job, None)

    def _record_soon(self, job: Job, event: Progressed | Retrying) -> None:
        """Record an event that a restart may lose: the job is then where it was a little earlier."""

        def record() -> None:
            try:
                self._store.append(job.id, event, durable=False)
            except RpcError as error:
                logger.warning("%s", error)

        self._disk.soon(record)

    # --- the end ---

    async def _conclude(self, job: Job, outcome: Outcome, result: bytes | None = None) -> None:
        """Record the outcome, however long that takes, and only then let it be seen."""
        seconds = FIRST_RECORDING_PAUSE
        while True:
            try:
                await self._disk.do(self._store.finish, job.id, outcome, result)
                break
            except RpcError as error:
                logger.error("%s; retrying", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), seconds)
            if self._stopping:
                return
            seconds = min(LONGEST_RECORDING_PAUSE, 2 * seconds)
        job.apply(outcome)
        self._changed(job, result)

    async def cancel(self, job: Job, by: str) -> None:
        """End a job that is not over. When this returns it is over, perhaps by an outcome that came first.

        Raises:
            RpcError: 5001 or 5002, the cancellation could not be recorded; 1001, the hub stops.
        """
        while not job.is_over:
            if self._stopping:
                words = f"the hub is stopping: job {job.id} goes on after its restart; cancel it then"
                raise RpcError(ErrorCode.WORKER_UNAVAILABLE, words, retry_after_ms=1000, data={DRAINING: True})
            run = self._runs.get(job.id)
            if run is None:
                run = self._cancel_queued(job, by)
            elif run.by is None:
                run.by = by
                if run.call is not None:
                    run.call.cancel(by)
            assert run.task is not None
            await asyncio.wait({run.task}, timeout=STOP_SECONDS)
            if not run.task.done():
                raise RpcError(
                    ErrorCode.INSUFFICIENT_RESOURCES,
                    f"job {job.id} was stopped, but that cannot be recorded yet: free space in the data folder",
                    retry_after_ms=1000,
                )
            if not run.task.cancelled() and (error := run.task.exception()) is not None:
                raise error

    def _cancel_queued(self, job: Job, by: str) -> _Run:
        pause = self._pauses.pop(job.id, None)
        if pause is not None:
            pause.cancel()
        else:
            self._queue.remove(job)
        return self._begin(job, self._record_cancel(job, Cancelled(now_ms(), 0, by)))

    async def _record_cancel(self, job: Job, cancelled: Cancelled) -> None:
        try:
            await self._disk.do(self._store.finish, job.id, cancelled, None)
        except RpcError:
            self._queue.push(job)
            raise
        job.apply(cancelled)
        self._changed(job, None)

    async def stop(self) -> None:
        """Begin no more attempts, and interrupt those that run: the next hub runs their jobs again."""
        self._stopped.set()
        for timer in self._pauses.values():
            timer.cancel()
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for run in self._runs.values():
            if run.call is not None:
                run.call.interrupt()
        if tasks:
            _done, left = await asyncio.wait(tasks, timeout=STOP_SECONDS)
            for task in left:
                task.cancel()
