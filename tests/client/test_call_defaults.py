"""What all calls of a connection have: metadata, given or made for each call, and a deadline."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from trunkline.client import UsageError, connect, connect_sync
from trunkline.testing import MockHub
from trunkline_protocol.errors import ErrorCode, RpcError

SPAN: ContextVar[str] = ContextVar("SPAN", default="none")


async def test_metadata_of_all_calls_stand_behind_those_of_one() -> None:
    async with MockHub() as mock:
        mock.method("where", lambda: 1)
        async with connect(mock.url, metadata={"traceparent": "a", "tag": "all"}) as hub:
            await hub.call("where")
            await hub.call("where", metadata={"tag": "own"}, priority="high")
        tags = [(call.metadata["traceparent"], call.metadata["tag"]) for call in mock.calls]
        assert tags == [("a", "all"), ("a", "own")]
        assert mock.calls[1].metadata["priority"] == "high"


async def test_a_function_is_asked_for_each_call_where_it_is_made() -> None:
    async with MockHub() as mock:
        mock.method("where", lambda: 1)

        async def within(span: str) -> None:
            SPAN.set(span)
            await hub.call("where")

        async with connect(mock.url, metadata=lambda: {"span": SPAN.get()}) as hub:
            await asyncio.gather(within("a"), within("b"))
            with pytest.raises(UsageError, match="is no stream"):
                await hub.stream("where").wait()
        assert sorted(call.metadata["span"] for call in mock.calls) == ["a", "b", "none"]


def test_without_a_loop_it_is_asked_where_the_caller_is() -> None:
    with MockHub() as mock:
        mock.method("where", lambda: 1)
        with connect_sync(mock.url, metadata=lambda: {"span": SPAN.get()}) as hub:
            token = SPAN.set("of the thread")
            hub.call("where")
            SPAN.reset(token)
        assert [call.metadata["span"] for call in mock.calls] == ["of the thread"]


async def test_a_deadline_of_all_calls_is_not_that_of_streams_nor_of_one_that_has_its_own() -> None:
    async def late() -> None:
        await asyncio.Event().wait()

    async with MockHub() as mock:
        mock.method("late", late)
        mock.method("where", lambda: 1)
        async with connect(mock.url, timeout_ms=50, retry=False) as hub:
            with pytest.raises(RpcError) as raised:
                await hub.call("late")
            assert raised.value.code == ErrorCode.COMMUNICATION_TIMEOUT
            await hub.call("where", timeout_ms=30_000)
            with pytest.raises(UsageError, match="is no stream"):
                await hub.stream("where").wait()
        assert [call.metadata.get("timeout_ms") for call in mock.calls] == [50, 30_000, None]


def test_metadata_that_are_none_are_refused_at_once() -> None:
    with pytest.raises(TypeError, match="metadata has to be a mapping or a function, not int"):
        connect("ws://127.0.0.1:1/ws", metadata=5)  # type: ignore[arg-type]
