"""LocalMethods: a pack called without any server, as an executor would run it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.methods.packs import sample
from tests.support.modules import callers
from tests.support.timing import until
from trunkline import Principal
from trunkline.methods.declaration import RegistrationError
from trunkline.methods.local import LocalMethods
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.principals import decode_principal, encode_principal


@pytest.fixture
async def methods() -> AsyncIterator[LocalMethods]:
    sample.began.clear()
    sample.ended.clear()
    async with LocalMethods(sample) as local:
        yield local


async def test_params_by_name_and_by_position(methods: LocalMethods) -> None:
    assert await methods.call("text.upper", {"text": "aé"}) == "AÉ"
    assert await methods.call("text.upper", ["a"]) == "A"


async def test_plain_functions_run_on_the_thread_and_report_progress() -> None:
    reports: list[Any] = []
    async with LocalMethods(sample, worker_id="me", on_progress=reports.append) as methods:
        assert await methods.call("text.thread") == {"main": False, "worker_id": "me"}
    assert reports == [{"at": 1}]


async def test_methods_are_told_who_calls() -> None:
    ann = Principal("ann", frozenset({"reader"}), "acme", {"team": "blue"})
    bob = Principal("bob")
    async with LocalMethods(callers) as methods:
        assert (await methods.call("who.below"))["name"] == "anonymous"
        assert (await methods.call("who.below", principal=bob))["name"] == "bob"
        assert [chunk.data["name"] async for chunk in methods.stream("who.streams", principal=bob)] == ["bob"]
    async with LocalMethods(callers, principal=ann) as methods:
        told = {"name": "ann", "roles": ["reader"], "tenant": "acme", "claims": {"team": "blue"}}
        assert await methods.call("who.own", {"method": "who.plain"}) == told
        assert (await methods.call("who.calls", principal=bob))["tenant"] == "default"


def test_a_principal_cannot_be_changed() -> None:
    ann = decode_principal(encode_principal("ann", ["reader"], "acme", {"team": "blue"}))
    with pytest.raises(AttributeError):
        ann.name = "bob"  # type: ignore[misc]
    with pytest.raises(TypeError):
        ann.claims["team"] = "red"  # type: ignore[index]


async def test_a_stream_gives_its_chunks_and_then_its_result(methods: LocalMethods) -> None:
    stream = methods.stream("text.letters", {"text": "abc" * 100})
    assert [chunk.data async for chunk in stream] == list("abc" * 100)
    assert stream.result == {"letters": 300}
    plain = methods.stream("text.steps", {"n": 3})
    assert [(chunk.type, chunk.data) async for chunk in plain] == [("data", 0), ("data", 1), ("data", 2)]
    assert plain.result == {"chunks": 3}


async def test_leaving_a_stream_early_cancels_it(methods: LocalMethods) -> None:
    stream = methods.stream("text.letters", {"text": "x" * 10_000})
    async for chunk in stream:
        assert chunk.data == "x"
        break
    await stream.aclose()
    assert sample.ended == ["x" * 10_000]


async def test_methods_call_and_stream_from_each_other(methods: LocalMethods) -> None:
    assert await methods.call("text.relay", {"method": "text.upper", "params": {"text": "a"}}) == "A"
    assert [chunk.data async for chunk in methods.stream("text.forward", {"text": "ab"})] == ["aa", "bb"]


async def test_a_stub_stands_in_for_a_method_of_the_hub_or_of_a_client() -> None:
    asked: list[Any] = []

    async def lookup(params: Any) -> tuple[str, ...]:
        asked.append(params)
        return "a", "b"

    def refused(_params: Any) -> None:
        raise RpcError(ErrorCode.FORBIDDEN, "not you")

    async with LocalMethods(sample, stubs={"node.lookup": lookup, "jobs.create": refused}) as local:
        assert await local.call("text.relay", {"method": "node.lookup", "params": {"key": ("x",)}}) == ["a", "b"]
        with pytest.raises(RpcError, match="not you"):
            await local.call("text.relay", {"method": "jobs.create", "params": {}})
    assert asked == [{"key": ["x"]}], "as they would have come over the wire"


async def test_nesting_is_bounded(methods: LocalMethods) -> None:
    with pytest.raises(RpcError, match="8") as caught:
        await methods.call("text.deeper")
    assert caught.value.code == 2002


async def test_a_nested_call_has_no_later_deadline(methods: LocalMethods) -> None:
    assert await methods.call("text.deadline") == 1e9
    assert await methods.call("text.relay", {"method": "text.deadline"}, timeout_ms=5000) <= 5
    assert 5 < await methods.call("text.relay", {"method": "text.deadline"}) <= 60


async def test_errors_are_the_callers(methods: LocalMethods) -> None:
    with pytest.raises(RpcError, match="no") as caught:
        await methods.call("text.relay", {"method": "text.refuse"})
    assert (caught.value.code, caught.value.retry_after_ms, caught.value.data) == (5002, 7, {"x": 1})
    with pytest.raises(RpcError, match=r"text\.upper: text: Field required") as caught:
        await methods.call("text.upper", {})
    assert caught.value.code == -32602
    with pytest.raises(RpcError, match="nowhere") as caught:
        await methods.call("nowhere")
    assert caught.value.code == -32601
    with pytest.raises(RpcError, match="nowhere"):
        _ = [chunk async for chunk in methods.stream("nowhere")]


async def test_cancelling_a_call_reaches_the_method(methods: LocalMethods) -> None:
    call = asyncio.ensure_future(methods.call("text.relay", {"method": "text.hang"}))
    await until(lambda: sample.began, "it runs")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: sample.ended == ["hang"], "the method has heard of it")


async def test_leaving_ends_what_still_runs() -> None:
    sample.began.clear()
    sample.ended.clear()
    async with LocalMethods(sample) as methods:
        call = asyncio.ensure_future(methods.call("text.hang"))
        await until(lambda: sample.began, "it runs")
    assert sample.ended == ["hang"]
    with pytest.raises(RpcError, match="cancelled"):
        await call


async def test_many_calls_at_once(methods: LocalMethods) -> None:
    calls = [methods.call("text.relay", {"method": "text.upper", "params": {"text": str(i)}}) for i in range(200)]
    assert await asyncio.gather(*calls) == [str(i) for i in range(200)]


def test_a_module_without_methods_is_refused() -> None:
    import math

    with pytest.raises(RegistrationError, match="math"):
        LocalMethods(math)
