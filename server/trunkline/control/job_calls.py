"""``jobs.create``, ``jobs.get``, ``jobs.list``, ``jobs.cancel``: calls that outlive their caller and the hub."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final

import msgspec

from trunkline.hub.dispatch import Handlers, answering_later
from trunkline.hub.principal import HUB, not_granted
from trunkline.jobs.service import Jobs, NewJob
from trunkline_protocol.calls import Call, Caller
from trunkline_protocol.codecs.jsonrpc import decode_metadata
from trunkline_protocol.depth import CARRIED_DEPTH, require_depth
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_messages import (
    CancelledJob,
    JobCreateParams,
    JobListParams,
    JobPage,
    JobParams,
    JobView,
    JobWithResult,
)
from trunkline_protocol.hub_methods import JOBS_CANCEL, JOBS_CREATE, JOBS_GET, JOBS_LIST
from trunkline_protocol.messages import CALLERS_OWN
from trunkline_protocol.request_ids import new_request_id

MAX_METADATA_BYTES: Final = 16 * 1024
NOT_HANDED_ON: Final = CALLERS_OWN | {"timeout_ms", "priority"}

_metadata_decoder: Final = msgspec.json.Decoder(dict[str, Any])


class JobCalls:
    """Answers the calls about jobs."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def methods(self) -> Handlers:
        """Handlers of ``jobs.create``, ``jobs.get``, ``jobs.list`` and ``jobs.cancel``."""
        return (
            answering_later(JOBS_CREATE, self._create)
            | answering_later(JOBS_GET, self._get)
            | answering_later(JOBS_LIST, self._list)
            | answering_later(JOBS_CANCEL, self._cancel)
        )

    def _create(self, call: Call, params: JobCreateParams) -> Awaitable[JobView]:
        target, given = params.method, bytes(params.params)
        who = _caller(call)
        if not who.may_call(target):
            raise not_granted(who, "methods", target, ", which the job would")
        if given[:1] not in (b"{", b"["):
            raise RpcError(
                ErrorCode.INVALID_PARAMS, f"jobs.create: params: must be an object or array, as of {target:.200}"
            )
        require_depth(given, "jobs.create: params", levels=CARRIED_DEPTH)
        metadata, key = _metadata_of(call)
        metadata["request_id"] = call.known_request_id() or new_request_id()
        call.attempts = 1  # from here on a caller without the reply cannot know whether there is a job
        new = NewJob(target, given, metadata, params.priority, params.idempotency_key or key)
        return self._made(call, who, new)

    async def _made(self, call: Call, who: Caller, new: NewJob) -> JobView:
        view = await self._jobs.create(who, new)
        if call.known_request_id() is None:
            call.origin().made_id = new.metadata["request_id"]  # what is written of either names the other
        return view

    def _get(self, call: Call, params: JobParams) -> Awaitable[JobWithResult]:
        return self._jobs.get(_caller(call), params.id)

    def _list(self, call: Call, params: JobListParams) -> Awaitable[JobPage]:
        return self._page(_caller(call), params, _before(params.cursor))

    async def _page(self, who: Caller, params: JobListParams, before: int | None) -> JobPage:
        jobs, following = await self._jobs.page(who, params.status, params.limit, before)
        return JobPage(jobs, None if following is None else str(following))

    def _cancel(self, call: Call, params: JobParams) -> Awaitable[CancelledJob]:
        return self._cancelled(_caller(call), params.id)

    async def _cancelled(self, who: Caller, job_id: str) -> CancelledJob:
        job, cancelled = await self._jobs.cancel(who, job_id)
        return CancelledJob(job.id, job.status, cancelled)


def _caller(call: Call) -> Caller:
    return call.caller() or HUB


def _metadata_of(call: Call) -> tuple[dict[str, Any], str | None]:
    """The part of a call's metadata that the job's own call gets, and the idempotency key."""
    if not call.metadata:
        return {}, None
    key = decode_metadata(call.metadata).idempotency_key
    if len(call.metadata) > MAX_METADATA_BYTES:
        words = f"metadata has {len(call.metadata)} bytes; that of a job may have {MAX_METADATA_BYTES}"
        raise RpcError(ErrorCode.INVALID_PARAMS, f"jobs.create: {words}")
    metadata = _metadata_decoder.decode(call.metadata)
    return {name: value for name, value in metadata.items() if name not in NOT_HANDED_ON}, key


def _before(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 20):
        raise RpcError(ErrorCode.INVALID_PARAMS, f"jobs.list: cursor: {cursor!r:.50} is not one of a page")
    return int(cursor)
