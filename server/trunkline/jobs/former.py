"""What former versions have left in the folder of jobs, to be converted once. All of this blocks.

::

    <id>.job       the job's events, one line each: eight hexadecimal digits of its CRC-32, a blank, the event as JSON
    <id>.params    JSON, until the job is over
    <id>.result    JSON, of a job that succeeded
    damaged/       files that are not what had been written, set aside as they were
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from trunkline.jobs.job import Job
from trunkline.storage.failures import told
from trunkline_protocol.errors import ErrorCode, RpcError

JOB: Final = ".job"
PARAMS: Final = ".params"
RESULT: Final = ".result"
UNFINISHED: Final = ".new"

logger = logging.getLogger("trunkline.jobs")


class FormerJob(msgspec.Struct, frozen=True):
    """A job as it was stored: its events as JSON, and params and result where there are any."""

    job: Job
    events: list[bytes]
    params: bytes | None
    result: bytes | None


class FormerFiles:
    """The files that former versions wrote in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, replayed: Callable[[Iterable[tuple[bytes, int]]], Job]) -> list[FormerJob]:
        """The jobs in the order of their creation. What is damaged is named in the log, and set aside.

        Args:
            replayed: makes a job of its events.

        Raises:
            RpcError: 5001, a file cannot be read.
        """
        jobs = []
        with told("a former file of jobs cannot be read", self._folder):
            for path in self._folder.glob("*" + JOB):
                try:
                    records = _read_lines(path.read_bytes())
                    job = replayed(records)
                except ValueError as error:
                    self._set_aside(path, str(error))
                    continue
                params = None if job.is_over else _read(path.with_suffix(PARAMS))
                jobs.append(FormerJob(job, [data for data, _ in records], params, _read(path.with_suffix(RESULT))))
        return sorted(jobs, key=lambda former: former.job.created.number)

    def require_none(self) -> None:
        """Check that there are none.

        Raises:
            RpcError: 4001, there are jobs among them.
        """
        if any(self._folder.glob("*" + JOB)):
            words = f"the jobs in {self._folder} are as an older version wrote them: a hub converts them when it starts"
            raise RpcError(ErrorCode.INVALID_CONFIGURATION, words)

    def remove(self) -> None:
        """Remove the files that were read, and what belonged to none of them.

        Raises:
            RpcError: 5001, a file cannot be removed.
        """
        with told("a former file of jobs cannot be removed", self._folder):
            for path in list(self._folder.iterdir()):
                if path.suffix in (JOB, PARAMS, RESULT, UNFINISHED):
                    path.unlink()

    def _set_aside(self, path: Path, why: str) -> None:
        aside = self._folder / "damaged"
        logger.error("the job in %s cannot be read: %s. It does not run; its files are in %s now", path, why, aside)
        aside.mkdir(exist_ok=True)
        for suffix in (PARAMS, RESULT, JOB):  # the job last: until it is there, this is done again
            with contextlib.suppress(FileNotFoundError):
                path.with_suffix(suffix).rename(aside / path.with_suffix(suffix).name)


def _read(path: Path) -> bytes | None:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return None


def _read_lines(data: bytes) -> list[tuple[bytes, int]]:
    """The records with their checksums. What follows the last line break was never finished, and is left out.

    Raises:
        ValueError: a line is none.
    """
    records: list[tuple[bytes, int]] = []
    for line in data.split(b"\n")[:-1]:
        crc, blank, record = line.partition(b" ")
        if len(crc) != 8 or not blank:
            raise ValueError(f"line {len(records) + 1} has no checksum")
        records.append((record, int(crc, 16)))
    return records
