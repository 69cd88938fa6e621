"""Jobs on disk, with one owner; what is acknowledged is on disk. All of this blocks: call it from one thread.

::

    <data>/jobs/lock           flock of the hub that runs these jobs, and its process id
    <data>/jobs/<id>.job       the job's events, one checksummed line each; see jobs/job.py
    <data>/jobs/<id>.params    JSON, until the job is over
    <data>/jobs/<id>.result    JSON, of a job that succeeded
    <data>/jobs/damaged/       files that were not what had been written, set aside as they were
"""

from __future__ import annotations

import contextlib
import logging
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from trunkline.durable import sync_folder
from trunkline.jobs.files import append, checked_line, lock, read_lines, storage, write_whole
from trunkline.jobs.job import Created, Event, Interrupted, Job, Outcome, Started, Succeeded, WrongEvent
from trunkline_protocol.errors import ErrorCode, RpcError

JOB: Final = ".job"
PARAMS: Final = ".params"
RESULT: Final = ".result"

logger = logging.getLogger("trunkline.jobs")
_decoder: Final = msgspec.json.Decoder(Event)
_encoder: Final = msgspec.json.Encoder()


class JobStore:
    """The folder of the jobs, which is made with the first job.

    Args:
        folder: ``<data>/jobs``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: int | None = None

    def exists(self) -> bool:
        """Whether the folder is there, that is, whether there ever was a job."""
        return self._folder.is_dir()

    def open(self, now: int) -> list[Job]:
        """Lock the folder and read all jobs, in the order of their creation. None of them runs.

        Args:
            now: milliseconds since 1970.

        Raises:
            RpcError: 5001, another hub has the folder, or it cannot be used; 5002, the disk is full.
        """
        with storage(f"the jobs in {self._folder} cannot be used"):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock = lock(self._folder / "lock")
            except BlockingIOError as error:
                words = f"the jobs in {self._folder} are another hub's: {error.strerror}; stop it, or set another "
                raise RpcError(
                    ErrorCode.DATABASE_CONNECTION_ERROR, words + "folder (TRUNKLINE_DATA)", retry_after_ms=1000
                ) from None
            try:
                jobs = self._load()
                for job in jobs:
                    if job.status == "running":
                        self.append(job.id, interrupted := Interrupted(now), durable=False)
                        job.apply(interrupted)
                return jobs
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Release the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- reading ---

    def _load(self) -> list[Job]:
        jobs = [job for path in self._folder.glob("*" + JOB) if (job := self._read(path)) is not None]
        known = {job.id: job for job in jobs}
        for path in self._folder.iterdir():
            job = known.get(path.stem)
            left_over = path.suffix in (PARAMS, RESULT) and (job is None or (path.suffix == PARAMS and job.is_over))
            if path.suffix == ".new" or left_over:
                path.unlink()
        return sorted(jobs, key=lambda job: job.created.number)

    def _read(self, path: Path) -> Job | None:
        try:
            data = path.read_bytes()
            job, end = _replay(data)
        except (OSError, ValueError) as error:
            self._set_aside(path, str(error))
            return None
        if end < len(data):
            logger.warning("%s: the last %d bytes were never finished, and are cut", path, len(data) - end)
            os.truncate(path, end)
        return job

    def _set_aside(self, path: Path, why: str) -> None:
        aside = self._folder / "damaged"
        logger.error("the job in %s cannot be read: %s. It does not run; its files are in %s now", path, why, aside)
        with contextlib.suppress(OSError):
            aside.mkdir(exist_ok=True)
            for suffix in (JOB, PARAMS, RESULT):
                if (each := path.with_suffix(suffix)).exists():
                    each.rename(aside / each.name)

    def result(self, job: Job) -> bytes:
        """The result of a job that succeeded, as JSON.

        Raises:
            RpcError: 5001, the result cannot be read, or is not what was written.
        """
        assert isinstance(job.outcome, Succeeded)
        path = self._path(job.id, RESULT)
        with storage(f"the result of job {job.id} cannot be read"):
            data = path.read_bytes()
        if (len(data), zlib.crc32(data)) != (job.outcome.size, job.outcome.crc):
            words = f"{path} is not what was written: the result of this job is lost; create the job again"
            raise RpcError(ErrorCode.DATABASE_CONNECTION_ERROR, words)
        return data

    # --- writing ---

    def create(self, created: Created, params: bytes) -> None:
        """Write a new job. When this returns, it is on disk; when it raises, there is none.

        Raises:
            RpcError: 5002, the disk is full; 5001, other trouble.
        """
        with storage("the job was not created"):
            try:
                write_whole(self._path(created.id, PARAMS), params)
                write_whole(self._path(created.id, JOB), checked_line(_encoder.encode(created)))
                sync_folder(self._folder)
            except BaseException:
                self.forget([created.id])
                raise

    def begin(self, created: Created, started: Started) -> bytes:
        """Record that an attempt begins. Returns the params of the job, as JSON.

        Raises:
            RpcError: 3002, the params are not what was written; 5001 and 5002 as :meth:`append`.
        """
        path = self._path(created.id, PARAMS)
        with storage(f"job {created.id} cannot be started"):
            try:
                params = path.read_bytes()
            except FileNotFoundError:
                params = b""
            if (len(params), zlib.crc32(params)) != (created.size, created.crc):
                words = f"{path} is not what was written: the params of this job are lost; create it again"
                raise RpcError(ErrorCode.PIPELINE_INITIALIZATION_FAILED, words)
            self.append(created.id, started, durable=False)
        return params

    def append(self, job_id: str, event: Event, *, durable: bool) -> None:
        """Append an event to a job.

        Args:
            durable: whether the event has to be on disk when this returns.

        Raises:
            RpcError: 5002, the disk is full; 5001, other trouble. Nothing was added, then.
        """
        with storage(f"job {job_id} cannot be recorded"):
            append(self._path(job_id, JOB), checked_line(_encoder.encode(event)), durable=durable)

    def finish(self, job_id: str, outcome: Outcome, result: bytes | None) -> None:
        """Record the outcome of a job. When this returns, it is on disk, and the params are removed.

        Raises:
            RpcError: as :meth:`append`.
        """
        with storage(f"the outcome of job {job_id} cannot be recorded"):
            if result is not None:
                write_whole(self._path(job_id, RESULT), result)
                sync_folder(self._folder)
            self.append(job_id, outcome, durable=True)
        with contextlib.suppress(OSError):  # the next hub removes it
            self._path(job_id, PARAMS).unlink(missing_ok=True)

    def forget(self, job_ids: Iterable[str]) -> None:
        """Remove jobs. What cannot be removed now is found, and removed, by the next hub."""
        for job_id in job_ids:
            for suffix in (JOB, PARAMS, RESULT):
                try:
                    self._path(job_id, suffix).unlink(missing_ok=True)
                except OSError as error:
                    logger.warning("an old job cannot be removed: %s", error)

    def _path(self, job_id: str, suffix: str) -> Path:
        return self._folder / (job_id + suffix)


def _replay(data: bytes) -> tuple[Job, int]:
    """The job that a file's events make, and where the last of them ends.

    Raises:
        ValueError: they make none.
    """
    records, end = read_lines(data)
    job: Job | None = None
    for number, record in enumerate(records, 1):
        try:
            event = _decoder.decode(record)
            if job is not None:
                job.apply(event)
            elif isinstance(event, Created):
                job = Job(event)
            else:
                raise WrongEvent("it does not begin with its creation")
        except (msgspec.DecodeError, WrongEvent) as error:
            raise ValueError(f"record {number}: {error}") from error
    if job is None:
        raise ValueError("it has no whole record")
    return job, end
