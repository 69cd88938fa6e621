"""The hub in a test's own process: it does what a hub does, and on command what one does seldom."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.support.modules import broken_load, lab
from tests.support.timing import PATIENCE, until
from trunkline import (
    ConnectError,
    Context,
    ErrorCode,
    Event,
    Gap,
    InputStream,
    Position,
    Reconnect,
    RpcError,
    ServedCall,
    connect,
    connect_sync,
    method,
)
from trunkline.methods.declaration import RegistrationError
from trunkline.testing import MockCall, MockHub


@pytest.fixture
async def mock() -> AsyncIterator[MockHub]:
    async with MockHub() as started:
        yield started


async def count(n: int) -> AsyncIterator[int]:
    for index in range(n):
        yield index


def squares(n: int) -> Iterator[int]:
    for index in range(n):
        yield index * index


# --- methods ---


async def test_methods_of_every_kind_and_what_was_called(mock: MockHub) -> None:
    async def lower(text: str) -> str:
        return text.lower()

    mock.method("text.upper", lambda text: text.upper()).method("text.lower", lower)
    mock.method("count", count).method("squares", squares)
    async with mock.connect() as hub:
        assert await hub.call("text.upper", {"text": "a"}, metadata={"tag": 1}) == "A"
        assert await hub.call("text.lower", ["B"]) == "b"
        stream = hub.stream("count", {"n": 500})
        assert [chunk.data async for chunk in stream] == list(range(500))
        assert stream.result == {"chunks": 500}
        assert [chunk.data async for chunk in hub.stream("squares", {"n": 3})] == [0, 1, 4]
        await hub.notify("text.seen", {"n": 1})
        await until(lambda: len(mock.calls) == 5, "the notification")
    assert mock.calls[0] == MockCall("text.upper", {"text": "a"}, {"tag": 1}, False)
    assert [call.method for call in mock.calls] == ["text.upper", "text.lower", "count", "squares", "text.seen"]
    assert mock.calls[4] == MockCall("text.seen", {"n": 1}, {}, True)


async def test_errors_are_those_of_a_hub(mock: MockHub) -> None:
    def bad() -> None:
        raise RpcError(4321, "no such text", data={"key": 1})

    def bug() -> None:
        raise TypeError("oops")

    mock.method("bad", bad).method("bug", bug)

    async def square(number: int) -> int:
        return number**2

    mock.method("square", square)
    async with mock.connect() as hub:
        with pytest.raises(RpcError, match="no such text") as failure:
            await hub.call("bad")
        assert (failure.value.code, failure.value.data["key"], failure.value.maybe_executed) == (4321, 1, True)
        with pytest.raises(RpcError, match=r"bug failed: TypeError \(id ") as failure:
            await hub.call("bug")
        assert (failure.value.code, failure.value.maybe_executed) == (ErrorCode.INTERNAL_ERROR, True)
        with pytest.raises(RpcError, match=r"text\.lower") as failure:
            await hub.call("text.lower")
        assert (failure.value.code, failure.value.maybe_executed) == (ErrorCode.METHOD_NOT_FOUND, False)
        for params in ({"number": "two"}, {"nmber": 2}, {}, [1, 2]):
            with pytest.raises(RpcError) as failure:
                await hub.call("square", params)
            assert failure.value.code == ErrorCode.INVALID_PARAMS, params


async def test_a_method_replaces_another_and_may_be_there_before_the_start() -> None:
    early = MockHub().method("word", lambda: "first")
    async with early as mock, mock.connect() as hub:
        assert await hub.call("word") == "first"
        mock.method("word", lambda: "second")
        assert await hub.call("word") == "second"
        with pytest.raises(RegistrationError):
            mock.method("word", lambda **params: params)
        assert await hub.call("word") == "second"


@pytest.mark.parametrize("name", ["rpc.ping", "session.open", "", "a b"])
async def test_a_name_that_no_hub_would_serve_is_refused(mock: MockHub, name: str) -> None:
    with pytest.raises(RegistrationError):
        mock.method(name, lambda: None)


async def test_a_marked_function_keeps_what_the_mark_says(mock: MockHub) -> None:
    @method("other.name", timeout_ms=50)
    async def never() -> None:
        await asyncio.Event().wait()

    mock.method("never", never)
    async with mock.connect() as hub:
        with pytest.raises(RpcError) as failure:
            await hub.call("never")
    assert failure.value.code == ErrorCode.COMMUNICATION_TIMEOUT


async def test_modules_are_served_as_an_executor_serves_them() -> None:
    async with MockHub(lab) as mock, mock.connect() as hub:
        served = {info["name"] for info in (await hub.call("rpc.discover"))["methods"]}
        assert {name for name in served if name.startswith("lab.")}


async def test_context_input_progress_and_calls_of_methods(mock: MockHub) -> None:
    async def total(items: InputStream[int], ctx: Context) -> int:
        result = 0
        async for item in items:
            result += item
            ctx.progress(result)
        return result

    async def twice(number: int, ctx: Context) -> Any:
        return 2 * await ctx.call("one", {"number": number})

    mock.method("total", total).method("twice", twice).method("one", lambda number: number)
    async with mock.connect() as hub:
        reports: list[Any] = []
        assert await hub.call("total", input=[1, 2, 3], on_progress=reports.append) == 6
        assert reports == [1, 3, 6]
        assert await hub.call("twice", {"number": 4}) == 8
    assert [call.method for call in mock.calls] == ["total", "twice"], "the method's own call is no client's"


async def test_cancels_and_left_streams_reach_the_method(mock: MockHub) -> None:
    ended: list[str] = []

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            ended.append("stream")

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("call")

    mock.method("endless", endless).method("never", never)
    async with mock.connect() as hub:
        async for chunk in hub.stream("endless"):
            if chunk.index == 400:
                break
        await until(lambda: ended == ["stream"], "the stream is left")
        call = asyncio.create_task(hub.call("never"))
        await until(lambda: len(mock.calls) == 2, "the call")
        call.cancel()
        await until(lambda: ended == ["stream", "call"], "the call is left")
        with suppress(asyncio.CancelledError):
            await call


# --- topics, served methods ---


async def test_topics_history_gaps_and_patterns(mock: MockHub) -> None:
    assert mock.publish("orders.1", "early").offset == 1
    async with mock.connect() as hub, hub.subscribe("orders.1", history=5) as late, hub.subscribe("orders.*") as all_:
        assert await hub.publish("orders.1", {"done": 7}) == Position(mock.publish("orders.2", 0).epoch, 2)
        events = [await anext(aiter(late)) for _ in range(2)]
        assert [(event.data, event.offset) for event in events if isinstance(event, Event)] == [
            ("early", 1),
            ({"done": 7}, 2),
        ]
        seen = [await anext(aiter(all_)) for _ in range(2)]
        assert [event.topic for event in seen] == ["orders.1", "orders.2"]
        async with hub.subscribe("orders.1", recover=Position("another", 1)) as recovered:
            gap = await anext(aiter(recovered))
            assert isinstance(gap, Gap)
            assert gap.reason == "epoch"
    with pytest.raises(RpcError) as failure:
        mock.publish("orders.*", 1)
    assert failure.value.code == ErrorCode.INVALID_PARAMS


async def test_methods_that_clients_serve(mock: MockHub) -> None:
    async def lookup(params: Any, call: ServedCall) -> Any:
        return {"key": params["key"], "found": True}

    async with mock.connect() as program, mock.connect() as other:
        await program.register("node.lookup", lookup)
        assert await mock.call("node.lookup", {"key": "a"}) == {"key": "a", "found": True}
        assert await other.call("node.lookup", {"key": "b"}) == {"key": "b", "found": True}
        with pytest.raises(RpcError) as failure:
            await mock.call("node.other")
        assert failure.value.code == ErrorCode.METHOD_NOT_FOUND
    assert [call.params for call in mock.calls] == [{"key": "b"}], "those of clients"


# --- faults ---


async def test_a_cut_goes_unnoticed(mock: MockHub) -> None:
    go_on = asyncio.Event()

    async def held() -> str:
        await go_on.wait()
        return "kept"

    async def served(_params: Any, _call: ServedCall) -> str:
        return "served"

    mock.method("held", held).method("count", count)
    async with mock.connect() as hub, hub.subscribe("orders.1") as orders:
        states: list[str] = []
        hub.on_connection_state(lambda state: states.append(type(state).__name__))
        await hub.register("mine", served)
        call = asyncio.create_task(hub.call("held"))
        got = []
        async for chunk in hub.stream("count", {"n": 300}):
            got.append(chunk.data)
            if chunk.data in (50, 200):
                mock.cut()
        assert got == list(range(300))
        go_on.set()
        assert await call == "kept"
        assert "Reconnecting" in states
        await until(lambda: mock.connections == 1, "it is back")
        await hub.publish("orders.1", 1)
        assert (await anext(aiter(orders))).topic == "orders.1"
        assert await mock.call("mine") == "served"


async def test_a_restart_ends_what_runs_and_announces_the_gap(mock: MockHub) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    mock.method("never", never).method("quick", lambda: "done")
    url = mock.url
    async with mock.connect() as hub, hub.subscribe("orders.1") as orders:
        mock.publish("orders.1", 1)
        assert isinstance(await anext(aiter(orders)), Event)
        running = asyncio.create_task(hub.call("never"))
        await until(lambda: len(mock.calls) == 1, "it runs")
        mock.drain()
        waiting = asyncio.create_task(hub.call("quick"))
        await until(lambda: len(mock.calls) == 2, "the call")
        mock.restart()
        with pytest.raises(RpcError) as failure:
            await running
        assert (failure.value.code, failure.value.maybe_executed) == (ErrorCode.WORKER_CRASHED, True)
        assert await waiting == "done", "a call that was refused for the stop waits for the next hub"
        gap = await anext(aiter(orders))
        assert isinstance(gap, Gap)
        assert gap.reason == "epoch"
    assert mock.url == url


async def test_refusals_of_calls(mock: MockHub) -> None:
    mock.method("quick", lambda: "done")
    async with mock.connect() as hub:
        mock.refuse("quick", RpcError(ErrorCode.WORKER_OVERLOADED, "full", retry_after_ms=1), times=2)
        assert await hub.call("quick") == "done", "the third attempt"
        mock.refuse("quick", RpcError(ErrorCode.WORKER_OVERLOADED, "full"))
        with pytest.raises(RpcError, match="full") as failure:
            await hub.call("quick", retry=False)
        assert (failure.value.code, failure.value.retryable, failure.value.maybe_executed) == (2002, True, False)
        assert await hub.call("quick") == "done"
    with pytest.raises(ValueError, match="times"):
        mock.refuse("quick", RpcError(ErrorCode.WORKER_OVERLOADED, "full"), times=0)


async def test_refused_connections_and_no_network(mock: MockHub) -> None:
    mock.method("quick", lambda: "done")
    hub = await mock.connect()
    mock.offline(True)
    waiting = asyncio.create_task(hub.call("quick"))
    await until(lambda: hub.connection_state == "reconnecting", "it is away")
    with pytest.raises(ConnectError):
        await mock.connect()
    mock.offline(False)
    assert await waiting == "done"
    mock.refuse_connections(RpcError(ErrorCode.UNAUTHENTICATED, "the token is not valid"))
    with pytest.raises(ConnectError, match="the token is not valid") as failure:
        await mock.connect()
    assert failure.value.status == 403
    assert failure.value.error is not None
    assert failure.value.error.code == ErrorCode.UNAUTHENTICATED
    assert await hub.call("quick") == "done", "those that are open stay"
    mock.cut()
    assert (await asyncio.wait_for(hub.closed, PATIENCE)).code == 4501
    mock.refuse_connections(None)
    async with mock.connect() as again:
        assert await again.call("quick") == "done"
    await hub.close()


async def test_everything_comes_as_late_as_it_is_told_to(mock: MockHub) -> None:
    mock.method("quick", lambda: "done").method("count", count)
    async with mock.connect() as hub:
        mock.delay_ms = 60
        begun = time.monotonic()
        assert await hub.call("quick") == "done"
        assert time.monotonic() - begun >= 0.06
        stream = hub.stream("count", {"n": 20})
        first = await anext(aiter(stream))
        mock.delay_ms = 0  # nothing overtakes what is on its way
        assert [first.data, *[chunk.data async for chunk in stream]] == list(range(20))
    assert mock.delay_ms == 0
    with pytest.raises(ValueError, match="delay_ms"):
        mock.delay_ms = -1


# --- the hub itself ---


async def test_limits_and_credentials_are_the_hubs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_TOKEN", "of the environment, which has no say")
    async with MockHub(token="secret", max_calls_per_connection=1) as mock:
        with pytest.raises(ConnectError) as failure:
            await connect(mock.url)
        assert failure.value.error is not None
        assert failure.value.error.code == ErrorCode.UNAUTHENTICATED
        release = asyncio.Event()
        mock.method("held", release.wait).method("quick", lambda: 1)
        async with connect(mock.url, token="secret", retry=False) as hub:
            held = asyncio.create_task(hub.call("held"))
            await until(lambda: len(mock.calls) == 1, "it runs")
            with pytest.raises(RpcError) as refused:
                await hub.call("quick")
            assert refused.value.data["limit"] == "TRUNKLINE_MAX_CALLS_PER_CONNECTION"
            release.set()
            await held
    with pytest.raises(ValueError, match="no_such_setting"):
        MockHub(no_such_setting=1)


async def test_what_an_idempotency_key_joins(mock: MockHub) -> None:
    ran: list[int] = []
    mock.method("once", lambda: ran.append(1))
    async with mock.connect() as hub:
        for _ in range(2):
            await hub.call("once", idempotency_key="k")
    assert (len(ran), len(mock.calls)) == (1, 2)


async def test_several_at_a_time_know_nothing_of_each_other() -> None:
    async with MockHub() as one, MockHub() as other, one.connect() as hub:
        one.method("mine", lambda: 1)
        assert await hub.call("mine") == 1
        async with other.connect() as elsewhere:
            with pytest.raises(RpcError):
                await elsewhere.call("mine")
        assert [len(one.calls), len(other.calls)] == [1, 1]


async def test_nothing_is_left_behind() -> None:
    threads = set(threading.enumerate())
    async with MockHub() as mock:
        folder = mock._running().parts.settings.data
        mock.method("quick", lambda: 1)
        async with mock.connect() as hub:
            assert await hub.call("quick") == 1
            mock.restart()
            assert await hub.call("quick") == 1
    assert not await asyncio.to_thread(folder.exists)
    await until(
        lambda: not {each for each in threading.enumerate() if each.name.startswith("method")} - threads,
        "the threads end",
    )
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert others == []
    with pytest.raises(RuntimeError, match="does not run"):
        mock.cut()


async def test_a_module_that_cannot_be_loaded_fails_the_start_and_leaves_nothing() -> None:
    with pytest.raises(RpcError, match="no weights"):
        async with MockHub(broken_load):
            raise AssertionError("it began")
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    with pytest.raises(RpcError, match="no weights"), MockHub(broken_load):
        raise AssertionError("it began")
    assert not [each for each in threading.enumerate() if each.name == "trunkline-mock"]


# --- without a loop ---


def test_programs_without_a_loop() -> None:
    with MockHub() as mock:
        mock.method("text.upper", lambda text: text.upper()).method("squares", squares)
        with mock.connect_sync() as hub:
            assert hub.call("text.upper", {"text": "a"}) == "A"
            mock.cut()
            assert [chunk.data for chunk in hub.stream("squares", {"n": 3})] == [0, 1, 4]
            with hub.subscribe("orders.1") as events:
                mock.publish("orders.1", 7)
                assert next(events).topic == "orders.1"
            mock.restart()
            assert hub.call("text.upper", {"text": "b"}) == "B"
        with connect_sync(mock.url, reconnect=Reconnect(0.001, 0.01)) as own:
            mock.refuse("squares", RpcError(ErrorCode.WORKER_CRASHED, "gone", maybe_executed=True))
            with pytest.raises(RpcError, match="gone"):
                own.call("squares", {"n": 1})
        assert [call.method for call in mock.calls] == ["text.upper", "squares", "text.upper", "squares"]


async def test_connect_sync_would_wait_for_itself(mock: MockHub) -> None:
    mock.method("quick", lambda: 1)
    with pytest.raises(RuntimeError, match="would block the loop"):
        mock.connect_sync()

    def program() -> Any:
        with mock.connect_sync() as hub:
            return hub.call("quick")

    assert await asyncio.to_thread(program) == 1


async def test_what_is_no_error_is_refused_where_the_test_says_it(mock: MockHub) -> None:
    with pytest.raises(TypeError, match="refuse: error has to be an RpcError, not str"):
        mock.refuse("a.b", "boom")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="refuse_connections: error has to be an RpcError, not str"):
        mock.refuse_connections("boom")  # type: ignore[arg-type]
