"""The limits of jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from trunkline import defaults


class JobSettings(Protocol):
    """The settings of the hub that concern jobs."""

    jobs_at_once: int | None
    job_seconds: float
    job_attempts: int
    job_bytes: int
    jobs_waiting: int
    jobs_waiting_per_principal: int
    jobs_waiting_bytes: int
    jobs_kept: int
    jobs_kept_seconds: float


@dataclass(frozen=True, slots=True)
class JobLimits:
    """The settings of similar names.

    Attributes:
        at_once: jobs that run at the same time.
        seconds: that one attempt may take.
        attempts: that may fail.
        bytes: of one job's params, and of its result.
        waiting: jobs that are not over, of all principals.
        waiting_per_principal: of one of them.
        waiting_bytes: of their params, on disk.
        kept: jobs that are over.
        kept_seconds: since they are.
    """

    at_once: int = 1
    seconds: float = defaults.JOB_SECONDS
    attempts: int = defaults.JOB_ATTEMPTS
    bytes: int = defaults.JOB_BYTES
    waiting: int = defaults.JOBS_WAITING
    waiting_per_principal: int = defaults.JOBS_WAITING_PER_PRINCIPAL
    waiting_bytes: int = defaults.JOBS_WAITING_BYTES
    kept: int = defaults.JOBS_KEPT
    kept_seconds: float = defaults.JOBS_KEPT_SECONDS

    @classmethod
    def of(cls, settings: JobSettings, executors: int) -> JobLimits:
        """The limits that the settings give. By default half of the executors, at least one, run jobs."""
        return cls(
            at_once=settings.jobs_at_once or max(1, executors // 2),
            seconds=settings.job_seconds,
            attempts=settings.job_attempts,
            bytes=settings.job_bytes,
            waiting=settings.jobs_waiting,
            waiting_per_principal=settings.jobs_waiting_per_principal,
            waiting_bytes=settings.jobs_waiting_bytes,
            kept=settings.jobs_kept,
            kept_seconds=settings.jobs_kept_seconds,
        )
