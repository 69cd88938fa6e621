"""The state machine of a job: its states, the events between them, and which errors lead to another attempt. Pure.

========== ============ ==========
state      event        next
========== ============ ==========
queued     Started      running
queued     Failed       failed
queued     Cancelled    cancelled
running    Progressed   running
running    Retrying     queued
running    Interrupted  queued
running    Started      running (how the attempt before ended could not be recorded)
running    Succeeded    succeeded
running    Failed       failed
running    Cancelled    cancelled
========== ============ ==========

The last three states are final. Events are what is on disk: a job is its events, applied in order.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_messages import JobStatus, JobView
from trunkline_protocol.messages import Priority
from trunkline_protocol.principals import DEFAULT_TENANT
from trunkline_protocol.tenants import key_in

FINAL: Final[frozenset[JobStatus]] = frozenset({"succeeded", "failed", "cancelled"})
STATUSES: Final[tuple[JobStatus, ...]] = ("queued", "running", "succeeded", "failed", "cancelled")

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 60.0
"""Seconds between two attempts: twice as long each time."""


class Rights(msgspec.Struct, frozen=True):
    """The rights of a job's principal, as patterns; None sets no limit. ``acting`` is as in :class:`Caller`."""

    methods: tuple[str, ...] | None = None
    subscribe: tuple[str, ...] | None = None
    publish: tuple[str, ...] | None = None
    acting: str = ""
    collections: tuple[str, ...] | None = None


class Created(msgspec.Struct, frozen=True, kw_only=True, tag="created", tag_field="event"):
    """The first event of every job. Times are milliseconds since 1970.

    Attributes:
        id: 128 random bits, in hexadecimal.
        number: the order of creation.
        principal: whose job it is.
        roles: what that principal was when it made the job.
        rights: what it might do then; None in jobs of earlier versions, which kept the roles alone.
        tenant: whose principal it is.
        claims: what the job's method is told of the principal's credentials.
        actor: the gateway that made it as that principal; empty where the principal made it itself.
        metadata: of the call that made it, less what meant that call alone.
        key: its idempotency key, of its principal.
        digest: of method and params: what the key was used for.
        size: bytes of the params.
        crc: CRC-32 of the params.
    """

    id: str
    number: int
    method: str
    principal: str
    created_at: int
    digest: str
    size: int
    crc: int
    roles: tuple[str, ...] = ()
    rights: Rights | None = None
    tenant: str = DEFAULT_TENANT
    claims: dict[str, Any] = {}
    actor: str = ""
    metadata: dict[str, Any] = {}
    priority: Priority = "low"
    key: str | None = None

    @property
    def owner(self) -> str:
        """The key of its principal: as :attr:`trunkline_protocol.calls.Caller.owner`."""
        return key_in(self.tenant, self.principal)


class Started(msgspec.Struct, frozen=True, tag="started", tag_field="event"):
    """An attempt has begun: the job was handed to the executors."""

    at: int


class Progressed(msgspec.Struct, frozen=True, tag="progressed", tag_field="event"):
    """The method of the job reported progress."""

    at: int
    value: msgspec.Raw


class Interrupted(msgspec.Struct, frozen=True, tag="interrupted", tag_field="event"):
    """The hub that ran the job has ended: the job waits for the next attempt."""

    at: int


class Retrying(msgspec.Struct, frozen=True, tag="retrying", tag_field="event"):
    """An attempt ended in an error, and there will be another.

    Attributes:
        attempts: executors the job was sent to in this attempt.
        counts: whether it is one of the attempts that a job may have.
    """

    at: int
    attempts: int
    error: dict[str, Any]
    counts: bool = True


class Succeeded(msgspec.Struct, frozen=True, tag="succeeded", tag_field="event"):
    """The job has its result, which is in a file of its own."""

    at: int
    attempts: int
    size: int
    crc: int


class Failed(msgspec.Struct, frozen=True, tag="failed", tag_field="event"):
    """The job ended in an error."""

    at: int
    attempts: int
    error: dict[str, Any]


class Cancelled(msgspec.Struct, frozen=True, tag="cancelled", tag_field="event"):
    """The job was cancelled; ``by`` tells by whom."""

    at: int
    attempts: int
    by: str


Outcome = Succeeded | Failed | Cancelled
Event = Created | Started | Progressed | Interrupted | Retrying | Succeeded | Failed | Cancelled

_NEXT: Final[dict[tuple[JobStatus, type[Event]], JobStatus]] = {
    ("queued", Started): "running",
    ("queued", Failed): "failed",
    ("queued", Cancelled): "cancelled",
    ("running", Progressed): "running",
    ("running", Interrupted): "queued",
    ("running", Started): "running",
    ("running", Retrying): "queued",
    ("running", Succeeded): "succeeded",
    ("running", Failed): "failed",
    ("running", Cancelled): "cancelled",
}


class WrongEvent(ValueError):
    """An event that is not allowed in the present state."""


class Job:
    """One job, as its events so far have made it.

    Attributes:
        attempts: executors it was sent to, as far as its events tell.
        failures: attempts that ended in an error, of those that count.
        outcome: the last event of a job that is over.
        started_at: of its first attempt.
    """

    __slots__ = (
        "attempts", "created", "error", "failures", "finished_at", "last_error", "outcome", "progress", "started_at",
        "status",
    )  # fmt: skip

    def __init__(self, created: Created) -> None:
        self.created = created
        self.status: JobStatus = "queued"
        self.attempts = 0
        self.failures = 0
        self.progress: msgspec.Raw | None = None
        self.error: dict[str, Any] | None = None
        self.last_error: dict[str, Any] | None = None
        self.outcome: Outcome | None = None
        self.started_at: int | None = None
        self.finished_at: int | None = None

    @property
    def id(self) -> str:
        """The id of the job: 128 random bits, in hexadecimal."""
        return self.created.id

    @property
    def is_over(self) -> bool:
        """Whether the job has its outcome."""
        return self.status in FINAL

    def apply(self, event: Event) -> None:
        """Apply the next event.

        Raises:
            WrongEvent: the event is not allowed in this state.
        """
        status = _NEXT.get((self.status, type(event)))
        if status is None:
            raise WrongEvent(f"a job that is {self.status} cannot be {type(event).__name__.lower()}")
        if isinstance(event, Started):
            self.attempts += self.status == "running"
            self.started_at = self.started_at or event.at
        elif isinstance(event, Progressed):
            self.progress = event.value
        elif isinstance(event, Interrupted):
            self.attempts += 1
        elif isinstance(event, Retrying):
            self.attempts += event.attempts
            self.failures += event.counts
            self.last_error = event.error
        elif not isinstance(event, Created):
            self._end(event)
        self.status = status

    def _end(self, outcome: Outcome) -> None:
        self.attempts += outcome.attempts
        self.outcome = outcome
        self.finished_at = outcome.at
        self.last_error = None
        if isinstance(outcome, Failed):
            self.error = outcome.error

    def view(self, running_attempts: int = 0) -> JobView:
        """The job as data.

        Args:
            running_attempts: executors it was sent to by the attempt that runs now.
        """
        return JobView(
            id=self.id,
            method=self.created.method,
            status=self.status,
            progress=self.progress,
            error=self.error,
            last_error=self.last_error,
            attempts=self.attempts + running_attempts,
            priority=self.created.priority,
            principal=self.created.principal,
            tenant=self.created.tenant,
            created_at=self.created.created_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
        )


def runs_again(error: RpcError, *, failures: int, limit: int, overdue: bool) -> bool:
    """Whether a job whose attempt ended in an error has another attempt.

    Args:
        failures: attempts that failed before this one.
        limit: how many attempts may fail.
        overdue: the attempt had all the time that one may take.
    """
    if not error.retryable or error.data.get("quarantined"):
        return False
    if overdue and error.code == ErrorCode.COMMUNICATION_TIMEOUT:
        return False
    return failures + 1 < limit


def pause(failures: int, hint_ms: int | None) -> float:
    """The back-off before the next attempt, in seconds.

    Args:
        failures: attempts that failed so far.
        hint_ms: ``retry_after_ms`` of the error.
    """
    seconds = FIRST_PAUSE * 2.0 ** min(failures, 16)
    return min(LONGEST_PAUSE, max(seconds, (hint_ms or 0) / 1000))
