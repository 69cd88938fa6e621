"""Jobs on disk, with one owner; what is acknowledged is on disk. All of this blocks: call it from one thread.

::

    <data>/jobs/jobs.sqlite    the jobs, their events, params (until a job is over) and results; made by TABLES
    <data>/jobs/lock           flock of the hub that runs these jobs, and its process id

A job is its events, applied in order; see jobs/job.py. Each has a CRC-32; those of params and results are in events. A
job that is not what was written stays where it is, with the reason in its column ``damaged``, and does not run.
"""

from __future__ import annotations

import itertools
import logging
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import msgspec

from trunkline.jobs.former import FormerFiles, FormerJob
from trunkline.jobs.job import Created, Event, Interrupted, Job, Outcome, Started, Succeeded, WrongEvent
from trunkline.storage.database import Database
from trunkline.storage.snapshot import copy_of
from trunkline_protocol.errors import ErrorCode, RpcError

FILE: Final = "jobs.sqlite"

TABLES: Final = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    principal TEXT NOT NULL,
    damaged TEXT
);
CREATE TABLE events (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    event BLOB NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (job, position)
) WITHOUT ROWID;
CREATE TABLE params (job TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE, data BLOB NOT NULL);
CREATE TABLE results (job TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE, data BLOB NOT NULL)
"""

_ALL_EVENTS: Final = """
SELECT id, event, crc FROM jobs LEFT JOIN events ON events.job = jobs.id
WHERE damaged IS NULL ORDER BY number, position
"""
_APPEND: Final = """
INSERT INTO events (job, position, event, crc)
SELECT ?1, coalesce(max(position) + 1, 0), ?2, ?3 FROM events WHERE job = ?1
"""
_ADD_PARAMS: Final = "INSERT INTO params VALUES (?, ?)"
_ADD_RESULT: Final = "INSERT INTO results VALUES (?, ?)"
_PARAMS: Final = "SELECT data FROM params WHERE job = ?"
_RESULT: Final = "SELECT data FROM results WHERE job = ?"

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
        self._database = Database(folder / FILE, "the jobs", [TABLES], shared=True)
        self._is_opening = False
        self._interrupting = threading.Lock()

    def exists(self) -> bool:
        """Whether the folder is there, that is, whether there ever was a job."""
        return self._folder.is_dir()

    def open(self, now: int) -> list[Job]:
        """Lock the folder and read all jobs, in the order of their creation. None of them runs.

        Args:
            now: milliseconds since 1970.

        Raises:
            RpcError: as :meth:`Database.open`.
        """
        self._is_opening = True
        try:
            self._database.open()
            self._convert()
            jobs = list(self._load())
            self._database.note_opening()
            interrupted = Interrupted(now)
            for job in jobs:
                if job.status == "running":
                    self.append(job.id, interrupted, durable=False)
                    job.apply(interrupted)
            return jobs
        except BaseException:
            self.close()
            raise
        finally:
            with self._interrupting:
                self._is_opening = False

    def interrupt_opening(self) -> None:
        """End :meth:`open` on another thread, where it is under way: it raises 5001. Nothing else is disturbed."""
        with self._interrupting:
            if self._is_opening:
                self._database.interrupt()

    def close(self) -> None:
        """Release the folder."""
        self._database.close()

    # --- reading ---

    def _load(self) -> Iterator[Job]:
        rows = self._database.read(f"the jobs in {self._folder} cannot be read", _ALL_EVENTS)
        for job_id, records in itertools.groupby(rows, key=lambda row: row[0]):
            try:
                yield replayed((event, crc) for _, event, crc in records)
            except ValueError as error:
                self._set_aside(job_id, str(error))

    def _set_aside(self, job_id: str, why: str) -> None:
        path = self._database.path
        logger.error("job %s in %s cannot be read: %s. It does not run, and stays there", job_id, path, why)
        with self._writing(f"job {job_id} cannot be set aside") as transaction:
            transaction.execute("UPDATE jobs SET damaged = ? WHERE id = ?", (why, job_id))

    def result(self, job: Job) -> bytes:
        """The result of a job that succeeded, as JSON.

        Raises:
            RpcError: 5001, the result cannot be read, or is not what was written.
        """
        assert isinstance(job.outcome, Succeeded)
        data = self._data(_RESULT, job.id, f"the result of job {job.id} cannot be read")
        if (len(data), zlib.crc32(data)) != (job.outcome.size, job.outcome.crc):
            words = f"the result of job {job.id} in {self._database.path} is not what was written, and lost"
            raise RpcError(ErrorCode.DATABASE_CONNECTION_ERROR, f"{words}: create the job again")
        return data

    def _data(self, query: str, job_id: str, what: str) -> bytes:
        """The bytes that a query finds; none where a row is missing, which no checksum fits."""
        for (data,) in self._database.read(what, query, [job_id]):
            return bytes(data)
        return b""

    # --- writing ---

    def create(self, created: Created, params: bytes) -> None:
        """Write a new job. When this returns, it is on disk; when it raises, there is none.

        Raises:
            RpcError: 5002, the disk is full; 5001, other trouble.
        """
        with self._writing("the job was not created") as transaction:
            _insert(transaction, created)
            _append(transaction, created.id, _encoder.encode(created))
            transaction.execute(_ADD_PARAMS, (created.id, params))

    def begin(self, created: Created, started: Started) -> bytes:
        """Record that an attempt begins. Returns the params of the job, as JSON.

        Raises:
            RpcError: 3002, the params are not what was written; 5001 and 5002 as :meth:`append`.
        """
        params = self._data(_PARAMS, created.id, f"job {created.id} cannot be started")
        if (len(params), zlib.crc32(params)) != (created.size, created.crc):
            words = f"the params of job {created.id} in {self._database.path} are not what was written, and lost"
            raise RpcError(ErrorCode.PIPELINE_INITIALIZATION_FAILED, f"{words}: create it again")
        self.append(created.id, started, durable=False)
        return params

    def append(self, job_id: str, event: Event, *, durable: bool) -> None:
        """Append an event to a job.

        Args:
            durable: whether the event has to be on disk when this returns.

        Raises:
            RpcError: 5002, the disk is full; 5001, other trouble. Nothing was added, then.
        """
        with self._writing(f"job {job_id} cannot be recorded", durable=durable) as transaction:
            _append(transaction, job_id, _encoder.encode(event))

    def finish(self, job_id: str, outcome: Outcome, result: bytes | None) -> None:
        """Record the outcome of a job. When this returns, it is on disk, and the params are removed.

        Raises:
            RpcError: as :meth:`append`.
        """
        with self._writing(f"the outcome of job {job_id} cannot be recorded") as transaction:
            if result is not None:
                transaction.execute(_ADD_RESULT, (job_id, result))
            _append(transaction, job_id, _encoder.encode(outcome))
            transaction.execute("DELETE FROM params WHERE job = ?", (job_id,))

    def forget(self, job_ids: Iterable[str]) -> None:
        """Remove jobs. What cannot be removed now is forgotten again by the next hub."""
        try:
            with self._writing("old jobs cannot be removed", durable=False) as transaction:
                transaction.executemany("DELETE FROM jobs WHERE id = ?", [(job_id,) for job_id in job_ids])
            self._database.shrink()
        except RpcError as error:
            logger.warning("%s", error)

    def remove(self, job_ids: Iterable[str]) -> None:
        """Remove jobs, durably.

        Raises:
            RpcError: 5001 or 5002: all are there.
        """
        with self._writing("jobs cannot be removed") as transaction:
            transaction.executemany("DELETE FROM jobs WHERE id = ?", [(job_id,) for job_id in job_ids])

    def _writing(self, what: str, *, durable: bool = True) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction, unless another hub got past the lock, which was removed or moved: it runs these jobs, too."""
        if not self._database.is_ours:
            words = f"{what}: {self._folder} is not this hub's any more: another one has it, or it was moved"
            raise RpcError(
                ErrorCode.DATABASE_CONNECTION_ERROR,
                f"{words}; if two hubs share this data folder (TRUNKLINE_DATA), stop one",
                retry_after_ms=1000,
            )
        return self._database.writing(what, durable=durable)

    # --- the former format ---

    def _convert(self) -> None:
        """Take over what former versions wrote, some files a job: all of them, or none."""
        former = FormerFiles(self._folder)
        if jobs := former.read(replayed):
            with self._writing(f"the former files in {self._folder} cannot be converted") as transaction:
                for job in jobs:
                    _take_over(transaction, job)
            logger.info("the jobs are in one file now", extra={"jobs": len(jobs), "path": str(self._database.path)})
        former.remove()


def check_copy(path: Path, original: Path) -> tuple[int, list[str]]:
    """Read a copy of the jobs' file that nobody writes to. Returns their number, and of each that is damaged, why.

    Args:
        original: what it is a copy of, for messages.

    Raises:
        RpcError: as :func:`~trunkline.storage.snapshot.copy_of`.
    """
    with copy_of(path, original, [TABLES]) as copy:
        ((count,),) = copy.execute("SELECT count(*) FROM jobs").fetchall()
        why = []
        for job_id, records in itertools.groupby(copy.execute(_ALL_EVENTS), key=lambda row: row[0]):
            try:
                _require_data(copy, replayed((event, crc) for _, event, crc in records))
            except ValueError as error:
                why.append(f"job {job_id}: {error}")
    return count, why


def _require_data(copy: sqlite3.Connection, job: Job) -> None:
    """Check that the params of a job without an outcome, or its result, are what was written.

    Raises:
        ValueError: they are not.
    """
    if isinstance(job.outcome, Succeeded):
        what, query, wanted = "result is", _RESULT, (job.outcome.size, job.outcome.crc)
    elif job.is_over:
        return
    else:
        what, query, wanted = "params are", _PARAMS, (job.created.size, job.created.crc)
    ((data,),) = copy.execute(query, [job.id]).fetchall() or [(b"",)]
    if not isinstance(data, bytes) or (len(data), zlib.crc32(data)) != wanted:
        raise ValueError(f"its {what} not what was written")


def _insert(transaction: sqlite3.Connection, created: Created) -> None:
    row = (created.number, created.id, created.tenant, created.principal)
    transaction.execute("INSERT INTO jobs (number, id, tenant, principal) VALUES (?, ?, ?, ?)", row)


def _append(transaction: sqlite3.Connection, job_id: str, event: bytes) -> None:
    transaction.execute(_APPEND, (job_id, event, zlib.crc32(event)))


def _take_over(transaction: sqlite3.Connection, former: FormerJob) -> None:
    created = former.job.created
    if transaction.execute("SELECT 1 FROM jobs WHERE id = ?", (created.id,)).fetchall():
        return  # a hub ended between the commit and the removal of the files
    _insert(transaction, created)
    for event in former.events:
        _append(transaction, created.id, event)
    for statement, data in ((_ADD_PARAMS, former.params), (_ADD_RESULT, former.result)):
        if data is not None:
            transaction.execute(statement, (created.id, data))


def replayed(records: Iterable[tuple[bytes | None, int | None]]) -> Job:
    """The job that events make, each with its CRC-32; None where a row has no event.

    Raises:
        ValueError: they make none.
    """
    job: Job | None = None
    for number, (record, crc) in enumerate(records, 1):
        try:
            if not isinstance(record, bytes) or zlib.crc32(record) != crc:
                raise WrongEvent("it is not what was written")
            event = _decoder.decode(record)
            if job is not None:
                job.apply(event)
            elif isinstance(event, Created):
                job = Job(event)
            else:
                raise WrongEvent("it does not begin with its creation")
        except (msgspec.DecodeError, WrongEvent) as error:
            raise ValueError(f"event {number}: {error}") from error
    if job is None:
        raise ValueError("it has no event")
    return job
