"""Methods that a Python client serves, through a real hub."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import pytest

from tests.client.faults import Changes, through_proxy
from tests.support.hub import RunningHub
from tests.support.timing import PATIENCE, standstill, until
from trunkline.client import DisconnectedError, Hub, ServedCall, StreamChunk, connect
from trunkline_protocol.errors import ErrorCode, RpcError


@pytest.fixture
async def callee(lab_hub: RunningHub) -> AsyncIterator[Hub]:
    async with connect(lab_hub.url) as hub:
        yield hub


@pytest.fixture
async def caller(lab_hub: RunningHub) -> AsyncIterator[Hub]:
    async with connect(lab_hub.url, retry=False) as hub:
        yield hub


SAID = {"traceparent": "00-x", "principal": {"name": "root"}}


class Endless:
    """A handler that runs until it is cancelled."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, _params: Any, _call: ServedCall) -> None:
        self.began.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def began(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), PATIENCE)


async def test_a_method_like_any_other(callee: Hub, caller: Hub) -> None:
    seen: list[ServedCall] = []

    async def greet(params: dict[str, Any], call: ServedCall) -> dict[str, Any]:
        seen.append(call)
        return {"hello": params["name"]}

    registration = await callee.register("serve.greet", greet, summary="Says hello")
    assert registration.method == "serve.greet"
    assert await caller.call("serve.greet", {"name": "ü"}, timeout_ms=5000, metadata=SAID) == {"hello": "ü"}
    assert await caller.call("debug.call", {"method": "serve.greet", "params": {"name": "nested"}}) == {
        "hello": "nested"
    }
    assert await callee.call("serve.greet", {"name": "itself"}) == {"hello": "itself"}
    assert seen[0].method == "serve.greet"
    assert seen[0].metadata["traceparent"] == "00-x"
    assert 0 < seen[0].metadata["timeout_ms"] <= 5000
    who = seen[0].principal
    assert who is not None
    assert (who.name, who.tenant, dict(who.claims)) == ("anonymous", "default", {}), "the hub says it, no caller"
    assert "callee" in who.roles
    listed = {method["name"]: method for method in (await caller.call("rpc.discover"))["methods"]}
    assert listed["serve.greet"]["summary"] == "Says hello"


async def test_the_schemas_that_a_method_says_are_discovered(callee: Hub, caller: Hub) -> None:
    schema = {"properties": {"key": {"type": "string"}}, "required": ["key"]}
    await callee.register("node.said", lambda params, call: 1, params_schema=schema, result_schema={"type": "integer"})
    found = await caller.call("rpc.discover")
    (method,) = (each for each in found["methods"] if each["name"] == "node.said")
    assert method["params"] == [{"name": "key", "required": True, "schema": {"type": "string"}}]
    assert method["result"]["schema"] == {"type": "integer"}
    with pytest.raises(RpcError, match=r"node\.unsaid: .*'array'"):
        await callee.register("node.unsaid", lambda params, call: 1, params_schema={"type": "array"})


async def test_many_at_once(callee: Hub, caller: Hub) -> None:
    async def double(params: list[int], _call: ServedCall) -> int:
        await asyncio.sleep(0.01)
        return 2 * params[0]

    await callee.register("serve.double", double, max_concurrency=100)
    assert await asyncio.gather(*(caller.call("serve.double", [n]) for n in range(300))) == list(range(0, 600, 2))


async def test_asynchronous_generators_are_streams(callee: Hub, caller: Hub) -> None:
    async def count(params: dict[str, int], call: ServedCall) -> AsyncIterator[Any]:
        for number in range(params["n"]):
            yield number
        yield StreamChunk("document", {"id": "d"})
        call.set_result("the end")

    await callee.register("serve.count", count)
    stream = await caller.stream("serve.count", {"n": 2000})
    chunks = [chunk async for chunk in stream]
    assert [chunk.data for chunk in chunks[:-1]] == list(range(2000))
    assert (chunks[-1].type, chunks[-1].data) == ("document", {"id": "d"})
    assert stream.result == "the end"


async def test_plain_generators_are_streams_and_return_the_summary(callee: Hub, caller: Hub) -> None:
    def letters(params: dict[str, str], _call: ServedCall) -> Generator[str, None, int]:
        yield from params["word"]
        return len(params["word"])

    async with await callee.register("serve.letters", letters):
        stream = await caller.stream("serve.letters", {"word": "trunk"})
        assert [chunk.data async for chunk in stream] == list("trunk")
        assert stream.result == 5


async def test_a_stream_without_a_summary_of_its_own(callee: Hub, caller: Hub) -> None:
    async def three(_params: Any, _call: ServedCall) -> AsyncIterator[int]:
        for number in range(3):
            yield number

    await callee.register("serve.three", three)
    stream = await caller.stream("serve.three")
    assert len([chunk async for chunk in stream]) == 3
    assert stream.result == {"chunks": 3}


async def test_a_slow_reader_holds_the_generator_back(callee: Hub, caller: Hub) -> None:
    made = 0

    async def flood(_params: Any, _call: ServedCall) -> AsyncIterator[int]:
        nonlocal made
        for number in range(5000):
            made += 1
            yield number

    await callee.register("serve.flood", flood)
    stream = await caller.stream("serve.flood")
    await until(lambda: made, "it has begun")
    assert await standstill(lambda: made) < 1000
    assert [chunk.data async for chunk in stream] == list(range(5000))


async def test_leaving_a_stream_closes_the_generator(callee: Hub, caller: Hub) -> None:
    closed = asyncio.Event()

    async def endless(_params: Any, _call: ServedCall) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    await callee.register("serve.endless", endless)
    async for _ in await caller.stream("serve.endless"):
        break
    await began(closed)


async def test_progress(callee: Hub, caller: Hub) -> None:
    async def slow(_params: Any, call: ServedCall) -> str:
        for step in range(3):
            call.progress({"step": step})
        return "done"

    await callee.register("serve.slow", slow)
    reports: list[Any] = []
    assert await caller.call("serve.slow", on_progress=reports.append) == "done"
    assert reports == [{"step": step} for step in range(3)]
    assert await caller.call("serve.slow") == "done"


async def test_errors(callee: Hub, caller: Hub) -> None:
    async def fail(params: dict[str, Any], _call: ServedCall) -> Any:
        match params["how"]:
            case "typed":
                raise RpcError(4321, "no such order", data={"order": 7})
            case "params":
                raise RpcError(ErrorCode.INVALID_PARAMS, "order is missing")
            case "bug":
                return params["order"]
            case "nan":
                return [math.nan]
            case "huge":
                return 2**60
            case "object":
                return object()

    await callee.register("serve.fail", fail)

    async def error_of(how: str) -> RpcError:
        with pytest.raises(RpcError) as caught:
            await caller.call("serve.fail", {"how": how})
        return caught.value

    typed = await error_of("typed")
    assert (typed.code, typed.message, typed.data["order"], typed.maybe_executed) == (4321, "no such order", 7, True)
    params = await error_of("params")
    assert (params.code, params.maybe_executed) == (-32602, False)
    bug = await error_of("bug")
    assert bug.code == -32603
    assert re.search(r"serve\.fail failed: KeyError \(id [0-9a-f]{8}\)$", bug.message)  # its text is in the log
    assert "Traceback" not in str(bug.to_wire())
    for how in ("nan", "huge", "object"):
        assert (await error_of(how)).code == ErrorCode.SERIALIZATION_ERROR


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Unknown(BaseException):
    pass


def raising(error: BaseException) -> Any:
    raise error


def circle() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


OUTCOMES: dict[str, tuple[Callable[[], Any], int]] = {
    "circle": (circle, ErrorCode.SERIALIZATION_ERROR),
    "keys": (lambda: {1: 2}, ErrorCode.SERIALIZATION_ERROR),
    "function": (lambda: raising, ErrorCode.SERIALIZATION_ERROR),
    "surrogate": (lambda: "\ud800", ErrorCode.SERIALIZATION_ERROR),
    "strided": (lambda: memoryview(bytearray(8))[::2], ErrorCode.SERIALIZATION_ERROR),
    "unprintable": (lambda: raising(Unprintable()), ErrorCode.INTERNAL_ERROR),
    "exit": (lambda: raising(SystemExit(2)), ErrorCode.INTERNAL_ERROR),
    "base": (lambda: raising(Unknown("lost")), ErrorCode.INTERNAL_ERROR),
    "stop": (lambda: raising(StopIteration()), ErrorCode.INTERNAL_ERROR),
    "message": (lambda: raising(RpcError(4321, [object()])), 4321),  # type: ignore[arg-type]
    "data": (lambda: raising(RpcError(4321, "\ud800", data={"a": object()})), 4321),
}


@pytest.mark.parametrize("how", OUTCOMES)
@pytest.mark.parametrize("kind", ["call", "chunk"])
async def test_whatever_a_handler_does_is_answered_at_once(callee: Hub, caller: Hub, how: str, kind: str) -> None:
    outcome, code = OUTCOMES[how]

    async def work(_params: Any, _call: ServedCall) -> Any:
        return outcome()

    async def pieces(_params: Any, _call: ServedCall) -> AsyncIterator[Any]:
        yield outcome()

    async def result(name: str) -> Any:
        if kind == "call":
            return await caller.call(name, timeout_ms=60_000)
        return [item async for item in await caller.stream(name)]

    name = f"serve.whatever.{kind}.{how}"
    async with await callee.register(name, work if kind == "call" else pieces, max_concurrency=1):
        for _ in range(2):
            with pytest.raises(RpcError) as caught:
                await asyncio.wait_for(result(name), PATIENCE)
            assert caught.value.code == code
    assert await callee.call("debug.echo", {"value": 1}) == 1


async def test_a_chunk_type_that_is_no_text(callee: Hub, caller: Hub) -> None:
    async def typed(_params: Any, _call: ServedCall) -> AsyncIterator[Any]:
        yield StreamChunk(7, "x")  # type: ignore[arg-type]

    await callee.register("serve.typed", typed)
    with pytest.raises(RpcError) as caught:
        await asyncio.wait_for(anext(aiter(await caller.stream("serve.typed"))), PATIENCE)
    assert caught.value.code == ErrorCode.SERIALIZATION_ERROR


async def test_a_stream_that_fails_after_some_chunks(callee: Hub, caller: Hub) -> None:
    async def broken(_params: Any, _call: ServedCall) -> AsyncIterator[Any]:
        yield 1
        yield object()

    await callee.register("serve.broken", broken)
    chunks = aiter(await caller.stream("serve.broken"))
    assert (await anext(chunks)).data == 1
    with pytest.raises(RpcError) as caught:
        await anext(chunks)
    assert (caught.value.code, caught.value.data["chunks"]) == (ErrorCode.SERIALIZATION_ERROR, 1)


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_whoever_gives_up_cancels_the_handler(callee: Hub, caller: Hub, how: str) -> None:
    handler = Endless()
    await callee.register(f"serve.{how}", handler)
    if how == "cancel":
        call = asyncio.create_task(caller.call("serve.cancel"))
        await began(handler.began)
        call.cancel()
        await asyncio.wait([call])
    timeout_ms = 300
    while not handler.began.is_set():  # on a busy machine, a deadline may be over before that
        with pytest.raises(RpcError) as caught:
            await caller.call("serve.deadline", timeout_ms=timeout_ms)
        assert caught.value.code == ErrorCode.COMMUNICATION_TIMEOUT
        timeout_ms *= 2
    await began(handler.cancelled)
    assert await callee.call("debug.echo", {"value": 1}) == 1


async def test_a_handler_that_cancels_itself_is_answered(callee: Hub, caller: Hub) -> None:
    async def give_up(_params: Any, _call: ServedCall) -> None:
        raise asyncio.CancelledError

    await callee.register("serve.give_up", give_up)
    with pytest.raises(RpcError) as caught:
        await asyncio.wait_for(caller.call("serve.give_up"), PATIENCE)
    assert caught.value.code == ErrorCode.CANCELLED


class Odd(BaseException):
    """Of the kind that `except Exception` does not catch, and without a text."""

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    "error", [Odd(), BaseException("x"), GeneratorExit(), StopAsyncIteration()], ids=lambda e: type(e).__name__
)
async def test_whatever_a_handler_raises_its_caller_hears_of_it(callee: Hub, caller: Hub, error: BaseException) -> None:
    async def fail(_params: Any, _call: ServedCall) -> None:
        raise error

    async with await callee.register("serve.fail_oddly", fail):
        with pytest.raises(RpcError, match=type(error).__name__) as caught:
            await asyncio.wait_for(caller.call("serve.fail_oddly"), PATIENCE)
        assert caught.value.code == ErrorCode.INTERNAL_ERROR


async def test_unregistering(callee: Hub, caller: Hub) -> None:
    finish = asyncio.Event()
    running = asyncio.Event()

    async def work(_params: Any, _call: ServedCall) -> str:
        running.set()
        await finish.wait()
        return "finished"

    async with await callee.register("serve.work", work):
        with pytest.raises(ValueError, match="already"):
            await callee.register("serve.work", work)
        call = asyncio.create_task(caller.call("serve.work"))
        await began(running)
    with pytest.raises(RpcError) as caught:
        await caller.call("serve.work")
    assert caught.value.code == ErrorCode.METHOD_NOT_FOUND
    finish.set()
    assert await asyncio.wait_for(call, PATIENCE) == "finished", "what is being worked on may finish"
    registration = await callee.register("serve.work", work)
    await registration.unregister()
    await registration.unregister()


async def test_names_that_are_taken(callee: Hub) -> None:
    async def mine(_params: Any, _call: ServedCall) -> None: ...

    with pytest.raises(RpcError) as caught:
        await callee.register("debug.echo", mine)
    assert caught.value.code == ErrorCode.FORBIDDEN
    with pytest.raises(RpcError):
        await callee.register("not a name", mine)


async def test_a_callee_that_is_closed(lab_hub: RunningHub, caller: Hub) -> None:
    handler = Endless()
    async with connect(lab_hub.url) as callee:
        await callee.register("serve.mortal", handler)
        call = asyncio.create_task(caller.call("serve.mortal"))
        await began(handler.began)
    assert handler.cancelled.is_set()
    with pytest.raises(RpcError) as caught:
        await asyncio.wait_for(call, PATIENCE)
    assert caught.value.code == ErrorCode.WORKER_CRASHED
    assert caught.value.maybe_executed


async def test_a_callee_that_unregisters_first_and_is_closed(lab_hub: RunningHub, caller: Hub) -> None:
    handler = Endless()
    async with connect(lab_hub.url) as callee:
        async with await callee.register("serve.polite", handler):
            call = asyncio.create_task(caller.call("serve.polite"))
            await began(handler.began)
        assert not handler.cancelled.is_set(), "what is being worked on may finish"
    with pytest.raises(RpcError) as caught:
        await asyncio.wait_for(call, PATIENCE)
    assert caught.value.code == ErrorCode.WORKER_CRASHED
    assert caught.value.maybe_executed


async def test_an_idempotent_call_moves_on_when_its_callee_is_closed(lab_hub: RunningHub, caller: Hub) -> None:
    handler = Endless()

    async def quick(_params: Any, _call: ServedCall) -> str:
        return "moved"

    async with connect(lab_hub.url) as other:
        async with connect(lab_hub.url) as callee:
            await callee.register("serve.safe", handler, idempotent=True)
            call = asyncio.create_task(caller.call("serve.safe"))
            await began(handler.began)
            await other.register("serve.safe", quick, idempotent=True)
        assert await asyncio.wait_for(call, PATIENCE) == "moved"


async def test_what_was_answered_while_it_was_away_arrives(lab_hub: RunningHub, caller: Hub) -> None:
    running, finish = asyncio.Event(), asyncio.Event()

    async def work(_params: Any, _call: ServedCall) -> str:
        running.set()
        await finish.wait()
        return "while it was away"

    async with through_proxy(lab_hub.port) as (proxy, callee):
        changes = Changes(callee)
        await callee.register("serve.away", work)
        call = asyncio.create_task(caller.call("serve.away"))
        await began(running)
        proxy.refuse()
        proxy.cut()
        await changes.wait_for("reconnecting")
        finish.set()
        await proxy.wait_refused(3)
        proxy.refuse(False)
        assert await asyncio.wait_for(call, PATIENCE) == "while it was away"


async def test_without_a_session_a_cut_aborts_the_handlers(lab_hub: RunningHub, caller: Hub) -> None:
    handler = Endless()
    async with through_proxy(lab_hub.port, session=False) as (proxy, callee):
        await callee.register("serve.lost", handler)
        call = asyncio.create_task(caller.call("serve.lost"))
        await began(handler.began)
        proxy.cut()
        await began(handler.cancelled)
        with pytest.raises(RpcError):
            await asyncio.wait_for(call, PATIENCE)


async def test_unregistering_while_it_is_away(lab_hub: RunningHub, caller: Hub) -> None:
    async def work(_params: Any, _call: ServedCall) -> str:
        return "served"

    async with through_proxy(lab_hub.port) as (proxy, callee):
        changes = Changes(callee)
        async with await callee.register("serve.left", work):
            assert await caller.call("serve.left") == "served"
            proxy.refuse()
            proxy.cut()
            await changes.wait_for("reconnecting")
        proxy.refuse(False)
        await changes.wait_for("connected")
        await callee.call("rpc.ping")
        with pytest.raises(RpcError, match=r"serve\.left") as caught:
            await caller.call("serve.left")
        assert caught.value.code == ErrorCode.METHOD_NOT_FOUND
        assert "does not serve" not in caught.value.message, "it is the hub that says so"


async def test_registering_after_the_end(lab_hub: RunningHub) -> None:
    async with connect(lab_hub.url) as callee:
        pass
    with pytest.raises(DisconnectedError):
        await callee.register("serve.late", Endless())
