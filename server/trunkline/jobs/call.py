"""The call a job makes, as its creator's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from typing_extensions import override

from trunkline.hub.internal import FutureCall
from trunkline.hub.principal import ADMIN, Principal
from trunkline.jobs.job import Created, Rights
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.request_ids import is_request_id


class HubStopping(Exception):
    """The hub stops before the outcome: the job is attempted again by the next hub."""


def creator_of(created: Created) -> Principal:
    """The principal of a job, with the rights that it had when it made the job.

    Where those were not kept, an admin has every right, and others have that of the job's own method alone.
    """
    roles, rights = frozenset(created.roles), created.rights
    if rights is None:
        rights = Rights() if ADMIN in roles else Rights((created.method,), (), ())
    return Principal(
        created.principal,
        roles,
        rights.methods,
        rights.subscribe,
        rights.publish,
        acting=rights.acting,
        tenant=created.tenant,
        claims=created.claims,
        actor=created.actor,
        collections=rights.collections,
    )


def _carried(created: Created) -> dict[str, Any]:
    """The metadata of a job. Earlier versions kept any text as a request id: one that is none is left out."""
    request_id = created.metadata.get("request_id")
    if isinstance(request_id, str) and not is_request_id(request_id):
        return {name: value for name, value in created.metadata.items() if name != "request_id"}
    return created.metadata


class JobCall(FutureCall):
    """One attempt of a job. Its outcome is a future.

    Args:
        params: JSON.
        seconds: how long it may take.
        on_progress: gets each report, as JSON.
    """

    __slots__ = ("_creator", "_on_progress", "job_id")

    def __init__(self, created: Created, params: bytes, seconds: float, on_progress: Callable[[bytes], None]) -> None:
        own = {"progress_token": created.id, "priority": created.priority, "timeout_ms": seconds * 1000}
        FutureCall.__init__(self, created.method, params, msgspec.json.encode(_carried(created) | own))
        self.job_id = created.id
        self._creator = creator_of(created)
        self._on_progress = on_progress

    @override
    def deliver_progress(self, value: bytes) -> None:
        self._on_progress(value)

    @override
    def caller(self) -> Principal:
        return self._creator

    def cancel(self, by: str) -> None:
        """End the attempt with CANCELLED, unless it has ended."""
        words = f"{self.method} was cancelled by {by}"
        self.settle_error(RpcError(ErrorCode.CANCELLED, words, maybe_executed=self.maybe_executed))
        self.cancel_execution()

    def interrupt(self) -> None:
        """End the attempt without an outcome, unless it has ended."""
        if not self.settled:
            self.abandon()
            self.future.set_exception(HubStopping())
