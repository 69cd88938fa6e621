"""``pipeline.*``: techniques with their configurations, checked once, kept here, and used by id in ``rag.*``.

The hub keeps them, so that any executor can use one, also after a restart of its own; they live as long as the hub. The
pack of the technique checks them.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final

import msgspec

from trunkline import defaults
from trunkline.hub.dispatch import Handlers, answering_later, replying
from trunkline.hub.internal import call as call_internally
from trunkline.hub.principal import ADMIN, HUB
from trunkline.hub.router import Router
from trunkline_protocol.administration import (
    DestroyedPipeline,
    Pipeline,
    PipelineInitializeParams,
    PipelineParams,
)
from trunkline_protocol.calls import Call, Caller
from trunkline_protocol.errors import ErrorCode, RpcError, limit_error
from trunkline_protocol.hub_methods import PIPELINE_DESTROY, PIPELINE_GET, PIPELINE_INITIALIZE, PIPELINE_LIST
from trunkline_protocol.reports import NoParams
from trunkline_protocol.tenants import TenantParts, key_in

CHECK: Final = "rag.check"
"""The pack's method that checks technique and config. Clients may call it, too: it changes nothing."""

MAX_CONFIG_BYTES: Final = 16 * 1024

_encoder: Final = msgspec.json.Encoder()


@dataclass(slots=True)
class PipelineLimits:
    """The settings ``max_pipelines`` and ``max_pipelines_per_principal``. They may be changed."""

    all: int = defaults.MAX_PIPELINES
    per_principal: int = defaults.MAX_PIPELINES_PER_PRINCIPAL


class Pipelines:
    """The pipelines of all principals. One belongs to its principal: to others it does not exist, but for admins.

    Args:
        router: passes on the checks.
    """

    def __init__(self, router: Router, limits: PipelineLimits) -> None:
        self._router = router
        self.limits = limits
        self._pipelines: dict[str, Pipeline] = {}
        self._parts = TenantParts()
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._pipelines)

    def technique_of(self, pipeline_id: str) -> str | None:
        """The technique of a pipeline, whoever's it is; None for an unknown one."""
        pipeline = self._pipelines.get(pipeline_id)
        return None if pipeline is None else pipeline.technique

    def methods(self) -> Handlers:
        """The handlers."""
        return (
            answering_later(PIPELINE_INITIALIZE, self._initialize)
            | replying(PIPELINE_LIST, self._list)
            | replying(PIPELINE_GET, self._get)
            | replying(PIPELINE_DESTROY, self._destroy)
        )

    def _initialize(self, call: Call, params: PipelineInitializeParams) -> Awaitable[str]:
        size = len(_encoder.encode(params.config))
        if size > MAX_CONFIG_BYTES:
            words = f"{call.method}: config: has {size} bytes; it may have {MAX_CONFIG_BYTES}"
            raise RpcError(ErrorCode.INVALID_PARAMS, words)
        self._require_room(call.caller() or HUB)
        return self._checked(call, params)

    async def _checked(self, call: Call, params: PipelineInitializeParams) -> str:
        """The id of the pipeline, once it was checked."""
        try:
            await call_internally(self._router, CHECK, msgspec.to_builtins(params), on_behalf_of=call)
            if call.settled:  # it was cancelled, and nobody would know the id
                return ""
            return self._keep(call.caller() or HUB, params).pipeline_id
        except RpcError as error:
            raise _not_initialized(error) from error

    def _keep(self, who: Caller, params: PipelineInitializeParams) -> Pipeline:
        self._require_room(who)  # others may have come while this one was checked
        made = secrets.token_hex(16), params.technique, params.config
        pipeline = Pipeline(*made, who.name, who.tenant, int(time.time() * 1000))
        self._pipelines[pipeline.pipeline_id] = pipeline
        self._counts[who.owner] += 1
        self._parts.add(who.owner)
        return pipeline

    def _require_room(self, who: Caller) -> None:
        own = self._counts[who.owner]
        if own >= self.limits.per_principal:
            words = f"{who.name} has {own} pipelines; destroy some"
            raise limit_error("max_pipelines_per_principal", words, retry_after_ms=None)
        if len(self._pipelines) >= self.limits.all:
            raise limit_error("max_pipelines", f"there are {len(self._pipelines)} pipelines already")
        if refusal := self._parts.refusal(who.owner, self.limits.all, "max_pipelines", "pipelines"):
            raise refusal

    def _list(self, call: Call, _params: NoParams) -> list[str]:
        return [pipeline.pipeline_id for pipeline in self._pipelines.values() if _may_see(call, pipeline)]

    def _get(self, call: Call, params: PipelineParams) -> Pipeline:
        return self._found(call, params.pipeline_id)

    def _destroy(self, call: Call, params: PipelineParams) -> DestroyedPipeline:
        pipeline = self._found(call, params.pipeline_id)
        self._forget(pipeline)
        return DestroyedPipeline(pipeline.pipeline_id, True)

    def forget(self, tenant: str) -> None:
        """Forget the pipelines of a tenant."""
        for pipeline in [each for each in self._pipelines.values() if each.tenant == tenant]:
            self._forget(pipeline)

    def _forget(self, pipeline: Pipeline) -> None:
        del self._pipelines[pipeline.pipeline_id]
        owner = _owner(pipeline)
        self._parts.add(owner, -1)
        self._counts[owner] -= 1
        if not self._counts[owner]:
            del self._counts[owner]

    def _found(self, call: Call, pipeline_id: str) -> Pipeline:
        pipeline = self._pipelines.get(pipeline_id)
        if pipeline is None or not _may_see(call, pipeline):
            words = f"no pipeline {pipeline_id!r:.80}: it was destroyed, is another principal's, or of an earlier hub"
            words += "; make one with pipeline.initialize"
            raise RpcError(ErrorCode.PIPELINE_NOT_FOUND, words, data={"no_such": "pipeline"})
        return pipeline


def _owner(pipeline: Pipeline) -> str:
    return key_in(pipeline.tenant, pipeline.principal)


def _may_see(call: Call, pipeline: Pipeline) -> bool:
    caller = call.caller()
    return caller is None or _owner(pipeline) == caller.owner or ADMIN in caller.roles


def _not_initialized(error: RpcError) -> RpcError:
    """The error of ``pipeline.initialize`` for that of the check: what is wrong, or why that is unknown."""
    if error.code in (ErrorCode.INVALID_CONFIGURATION, ErrorCode.RESOURCE_EXHAUSTED) or error.retryable:
        return error
    return RpcError(
        ErrorCode.PIPELINE_INITIALIZATION_FAILED,
        f"pipeline.initialize: the pipeline could not be checked: {error.message}",
        data={"cause": error.name},
    )
