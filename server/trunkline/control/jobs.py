"""``jobs.create``, ``jobs.get``, ``jobs.list``, ``jobs.cancel``: calls that outlive their caller, and the hub."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final

import msgspec
from typing_extensions import TypedDict

from trunkline.background import start_task
from trunkline.control.method import describe
from trunkline.hub.client_calls import decode_params
from trunkline.hub.principal import ADMIN, Principal
from trunkline.jobs.job import JobView, Status
from trunkline.jobs.service import Jobs, NewJob
from trunkline_protocol.calls import Call, Caller
from trunkline_protocol.codecs.jsonrpc import decode_metadata
from trunkline_protocol.depth import CARRIED_DEPTH, require_depth
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import CALLERS_OWN, Priority

HUB: Final = Principal("(hub)", frozenset({ADMIN}))
"""Whose jobs those are that the hub makes for itself."""

MAX_PAGE: Final = 200
MAX_METADATA_BYTES: Final = 16 * 1024
NOT_HANDED_ON: Final = CALLERS_OWN | {"timeout_ms", "priority"}

logger = logging.getLogger("trunkline.jobs")
_encoder: Final = msgspec.json.Encoder()
_metadata_decoder: Final = msgspec.json.Decoder(dict[str, Any])

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class CreateParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``jobs.create``; ``params`` stays the bytes it came as. The key may also be the call's own."""

    method: str
    params: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))
    idempotency_key: Key | None = None
    priority: Priority = "low"


class JobParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``jobs.get`` and ``jobs.cancel``."""

    id: str


class ListParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``jobs.list``; ``cursor`` is the one of the page before."""

    status: Status | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE)] = 50
    cursor: str | None = None


class JobWithResult(JobView):
    """A job and what it returned; null where it has not, or has failed."""

    result: Any


class JobPage(TypedDict):
    """Jobs, the newest first. ``cursor`` is for the next page; null where this is the last."""

    jobs: list[JobView]
    cursor: str | None


class CancelledJob(TypedDict):
    """``cancelled``: it was not over, and this ended it. Otherwise ``status`` says how it had ended."""

    id: str
    status: Status
    cancelled: bool


JOB_METHODS: Final = (
    describe(
        "jobs.create",
        "Run an idempotent method as a job, which outlives its caller, its executor and the hub",
        CreateParams,
        idempotent=False,
        result=JobView,
    ),
    describe("jobs.get", "A job, and its result", JobParams, idempotent=True, result=JobWithResult),
    describe(
        "jobs.list",
        "Your jobs, the newest first (role admin: everybody's)",
        ListParams,
        idempotent=True,
        result=JobPage,
    ),
    describe("jobs.cancel", "End a job that is not over", JobParams, idempotent=True, result=CancelledJob),
)


class JobCalls:
    """Answers them."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def methods(self) -> dict[str, Callable[[Call], None]]:
        """The calls of this file, by name."""
        return {
            "jobs.create": self._create,
            "jobs.get": self._get,
            "jobs.list": self._list,
            "jobs.cancel": self._cancel,
        }

    def _create(self, call: Call) -> None:
        params = decode_params(call, CreateParams)
        target, given = params.method, bytes(params.params)
        who = _caller(call)
        if not who.may_call(target):
            raise RpcError(ErrorCode.FORBIDDEN, f"jobs.create: {who.name} may not call {target:.200}")
        if given[:1] not in (b"{", b"["):
            raise RpcError(
                ErrorCode.INVALID_PARAMS, f"jobs.create: params: an object or an array, as {target:.200} takes them"
            )
        require_depth(given, "jobs.create: params", levels=CARRIED_DEPTH)
        metadata, key = _metadata_of(call)
        call.attempts = 1  # from here on nobody can tell, without the answer, whether there is a job
        new = NewJob(target, given, metadata, params.priority, params.idempotency_key or key)
        self._answer(call, self._jobs.create(who, new))

    def _get(self, call: Call) -> None:
        self._answer(call, self._jobs.get(_caller(call), decode_params(call, JobParams).id))

    def _list(self, call: Call) -> None:
        params = ListParams() if call.params.strip() == b"[]" else decode_params(call, ListParams)
        self._answer(call, self._page(_caller(call), params, _before(params.cursor)))

    async def _page(self, who: Caller, params: ListParams, before: int | None) -> JobPage:
        jobs, following = await self._jobs.page(who, params.status, params.limit, before)
        return {"jobs": jobs, "cursor": None if following is None else str(following)}

    def _cancel(self, call: Call) -> None:
        self._answer(call, self._cancelled(_caller(call), decode_params(call, JobParams).id))

    async def _cancelled(self, who: Caller, job_id: str) -> CancelledJob:
        job, cancelled = await self._jobs.cancel(who, job_id)
        return {"id": job.id, "status": job.status, "cancelled": cancelled}

    def _answer(self, call: Call, work: Coroutine[Any, Any, Any]) -> None:
        start_task(_settle(call, work), call.method)


async def _settle(call: Call, work: Coroutine[Any, Any, Any]) -> None:
    try:
        call.settle_result(_encoder.encode(await work))
    except RpcError as error:
        call.settle_error(error)
    except Exception:
        logger.exception("answering %s failed", call.method)
        call.settle_error(RpcError(ErrorCode.INTERNAL_ERROR, f"the hub failed to answer {call.method}"))


def _caller(call: Call) -> Caller:
    return call.caller() or HUB


def _metadata_of(call: Call) -> tuple[dict[str, Any], str | None]:
    """What the job's own call carries of it, and its idempotency key."""
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
        raise RpcError(ErrorCode.INVALID_PARAMS, f"jobs.list: cursor: {cursor!r:.50} is not from a page before this")
    return int(cursor)
