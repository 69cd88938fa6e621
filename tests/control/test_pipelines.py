"""Pipelines by themselves: whose they are, how many there may be, and what the check of one may say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.hub.doors import FakeBackend
from tests.support.doubles import Asked
from tests.support.timing import PATIENCE, until
from trunkline.control.pipelines import CHECK, MAX_CONFIG_BYTES, PipelineLimits, Pipelines
from trunkline.hub.principal import ADMIN, Principal
from trunkline.hub.router import Router
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError

ADA, BOB, ROOT = Principal("ada"), Principal("bob"), Principal("root", frozenset({ADMIN}))


class Hub:
    """A router with pipelines, and a pack whose answers the test gives."""

    def __init__(self, **limits: int) -> None:
        self.pack = FakeBackend()
        self.pack.infos[CHECK] = MethodInfo(CHECK)
        self.router = Router(self.pack, lambda *_: None)
        self.pipelines = Pipelines(self.router, PipelineLimits(**limits))
        self.router.handle(self.pipelines.methods())

    def begin(self, who: Principal | None, technique: str = "basic", **config: Any) -> Asked:
        asked = Asked("pipeline.initialize", {"technique": technique, "config": config}, who)
        self.router.route(asked)
        return asked

    async def check(self) -> Call:
        """The next check that the pack is asked for."""
        await until(lambda: self.pack.calls, "it is asked")
        return self.pack.calls.pop(0)

    async def make(self, who: Principal | None, technique: str = "basic", **config: Any) -> str:
        made = self.begin(who, technique, **config)
        (await self.check()).settle_result(b"null")
        outcome = await asyncio.wait_for(made.outcome, PATIENCE)
        assert isinstance(outcome, str), outcome
        return outcome

    def call(self, who: Principal | None, method: str, *params: Any) -> Any:
        asked = Asked(f"pipeline.{method}", list(params), who)
        self.router.route(asked)
        return asked.outcome.result()


async def test_a_pipeline_is_checked_and_kept() -> None:
    hub = Hub()
    made = hub.begin(ADA, "hybrid", options={"top_k": 3})
    check = await hub.check()
    assert (check.method, check.params) == (CHECK, b'{"technique":"hybrid","config":{"options":{"top_k":3}}}')
    assert len(hub.pipelines) == 0
    check.settle_result(b"null")
    pipeline_id = await made.outcome
    found = hub.call(ADA, "get", pipeline_id)
    assert (found["technique"], found["config"], found["principal"]) == ("hybrid", {"options": {"top_k": 3}}, "ada")
    assert hub.pipelines.technique_of(pipeline_id) == "hybrid"
    assert hub.pipelines.technique_of("another") is None


async def test_to_others_it_does_not_exist_but_for_admins() -> None:
    hub = Hub()
    own, other = await hub.make(ADA), await hub.make(BOB)
    assert hub.call(ADA, "list") == [own]
    assert hub.call(ROOT, "list") == hub.call(None, "list") == [own, other]
    for method in ("get", "destroy"):
        refused = hub.call(BOB, method, own)
        assert (refused.code, refused.maybe_executed) == (ErrorCode.PIPELINE_NOT_FOUND, False)
        assert refused.message == hub.call(BOB, method, "0" * 32).message.replace("0" * 32, own)
    assert hub.call(ROOT, "destroy", own) == {"pipeline_id": own, "destroyed": True}
    assert hub.call(ADA, "list") == []
    assert hub.call(ADA, "get", own).code == ErrorCode.PIPELINE_NOT_FOUND


async def test_a_principal_has_so_many_and_the_hub_so_many() -> None:
    hub = Hub(per_principal=2, all=3)
    first = await hub.make(ADA)
    await hub.make(ADA)
    own = hub.begin(ADA).error
    assert (own.code, own.data["limit"]) == (ErrorCode.RESOURCE_EXHAUSTED, "TRUNKLINE_MAX_PIPELINES_PER_PRINCIPAL")
    assert own.retry_after_ms is None, "waiting does not help"
    await hub.make(BOB)
    full = hub.begin(BOB).error
    assert (full.data["limit"], full.retry_after_ms) == ("TRUNKLINE_MAX_PIPELINES", 1000)
    assert hub.pack.calls == [], "what has no room is not checked"
    hub.call(ADA, "destroy", first)
    await hub.make(BOB)
    assert len(hub.pipelines) == 3


async def test_of_two_that_are_checked_at_once_the_last_room_is_the_first_ones() -> None:
    hub = Hub(per_principal=1)
    both = [hub.begin(ADA), hub.begin(ADA)]
    for _ in both:
        (await hub.check()).settle_result(b"null")
    kept, refused = [await asked.outcome for asked in both]
    assert hub.call(ADA, "list") == [kept]
    assert refused.data["limit"] == "TRUNKLINE_MAX_PIPELINES_PER_PRINCIPAL"


async def test_one_that_was_cancelled_while_it_was_checked_is_not_kept() -> None:
    hub = Hub()
    made = hub.begin(ADA)
    check = await hub.check()
    made.abandon()
    check.settle_result(b"null")
    await hub.make(BOB)  # later than what would have kept it
    assert hub.call(ADA, "list") == []


async def test_a_large_configuration_is_refused_unseen() -> None:
    hub = Hub()
    error = hub.begin(ADA, text="x" * MAX_CONFIG_BYTES).error
    assert error.code == ErrorCode.INVALID_PARAMS
    assert f"it may have {MAX_CONFIG_BYTES}" in error.message
    await hub.make(ADA, text="x" * (MAX_CONFIG_BYTES - 100))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (RpcError(ErrorCode.INVALID_CONFIGURATION, "top_k: too many", data={"errors": [1]}), None),
        (RpcError(ErrorCode.RESOURCE_EXHAUSTED, "no memory"), None),
        (RpcError(ErrorCode.WORKER_CRASHED, "it died"), None),
        (RpcError(ErrorCode.INTERNAL_ERROR, "a mistake"), ErrorCode.PIPELINE_INITIALIZATION_FAILED),
        (RpcError(ErrorCode.METHOD_NOT_FOUND, "no method"), ErrorCode.PIPELINE_INITIALIZATION_FAILED),
    ],
)
async def test_what_the_check_says_is_told_where_it_is_about_the_pipeline(said: RpcError, told: int | None) -> None:
    hub = Hub()
    made = hub.begin(ADA)
    (await hub.check()).settle_error(said)
    error = await made.outcome
    if told is None:
        assert error is said
    else:
        assert (error.code, error.data["cause"]) == (told, said.name)
        assert error.message == f"pipeline.initialize: the pipeline could not be checked: {said.message}"
    assert len(hub.pipelines) == 0


async def test_without_a_pack_that_checks_there_are_no_pipelines() -> None:
    hub = Hub()
    del hub.pack.infos[CHECK]
    error = await hub.begin(ADA).outcome
    assert (error.code, error.data["cause"]) == (ErrorCode.PIPELINE_INITIALIZATION_FAILED, "METHOD_NOT_FOUND")
