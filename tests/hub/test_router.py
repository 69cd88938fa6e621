from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.hub.doors import FakeBackend
from tests.support.timing import PATIENCE
from trunkline.hub.deadlines import TICK
from trunkline.hub.internal import call as internal_call
from trunkline.hub.router import MAX_DEPTH, Router
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import MethodInfo, MethodLimits
from trunkline_protocol.errors import ErrorCode, RpcError

pytestmark = pytest.mark.virtual_time


class Asked(Call):
    """A call whose outcome can be awaited."""

    def __init__(self, method: str, metadata: bytes = b"", depth: int = 0) -> None:
        Call.__init__(self, method, b"{}", metadata, depth=depth)
        self.outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.room = True

    def caller(self) -> None:
        return None

    def deliver_result(self, result: bytes) -> None:
        self.outcome.set_result(result)

    def deliver_error(self, error: RpcError) -> None:
        self.outcome.set_result(error)

    def deliver_chunk(self, chunk_type: bytes, data: bytes) -> None:
        pass

    def deliver_progress(self, value: bytes) -> None:
        pass

    def writable(self) -> bool:
        return self.room


class Books:
    def __init__(self) -> None:
        self.entries: list[tuple[str | None, int]] = []

    def __call__(self, _call: Call, method: str | None, seconds: float, code: int) -> None:
        assert 0 <= seconds < 60
        self.entries.append((method, code))


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
async def router(backend: FakeBackend, books: Books) -> Router:
    return Router(backend, books)


def route(router: Router, *args: Any, **options: Any) -> Asked:
    asked = Asked(*args, **options)
    router.route(asked)
    return asked


async def error_of(asked: Asked) -> RpcError:
    outcome = await asyncio.wait_for(asked.outcome, PATIENCE)
    assert isinstance(outcome, RpcError), outcome
    return outcome


async def test_hub_methods_are_answered_at_once(router: Router, books: Books) -> None:
    router.handle({"hub.time": lambda call: call.settle_result(b'{"now":5}')})
    assert route(router, "hub.time").outcome.result() == b'{"now":5}'
    assert router.in_flight == 0
    assert books.entries == [("hub.time", 0)]


async def test_two_hub_methods_of_one_name(router: Router) -> None:
    router.handle({"hub.time": lambda call: call.settle_result(b"1")})
    with pytest.raises(ValueError, match=r"hub\.time"):
        router.handle({"hub.time": lambda call: call.settle_result(b"2")})


async def test_a_hub_method_with_a_bug_is_an_internal_error(router: Router) -> None:
    def broken(_call: Call) -> None:
        raise ZeroDivisionError("secret detail")

    router.handle({"hub.broken": broken})
    error = await error_of(route(router, "hub.broken"))
    assert error.code == ErrorCode.INTERNAL_ERROR
    assert "secret" not in error.message


async def test_others_go_to_the_backend(router: Router, backend: FakeBackend, books: Books) -> None:
    asked = route(router, "work.do", b'{"priority":"high","progress_token":"t"}')
    assert backend.calls == [asked]
    assert (asked.priority, asked.progress_token) == (0, "t")
    assert router.in_flight == 1
    asked.settle_result(b"1")
    assert router.in_flight == 0
    assert books.entries == [("work.do", 0)]


async def test_unknown_names_are_refused_and_not_recorded_by_name(router: Router, books: Books) -> None:
    assert (await error_of(route(router, "made.up"))).code == ErrorCode.METHOD_NOT_FOUND
    assert books.entries == [(None, ErrorCode.METHOD_NOT_FOUND)]


async def test_bad_metadata_never_reaches_the_backend(router: Router, backend: FakeBackend) -> None:
    assert (await error_of(route(router, "work.do", b'{"timeout_ms":"x"}'))).code == ErrorCode.INVALID_PARAMS
    assert backend.calls == []


@pytest.mark.parametrize(
    ("method", "metadata", "seconds"),
    [
        ("work.do", b"", 30),
        ("work.do", b'{"timeout_ms":1500}', 1.5),
        ("work.short", b"", 0.05),
        ("work.short", b'{"timeout_ms":1500}', 1.5),
        ("work.capped", b"", 0.05),
        ("work.capped", b'{"timeout_ms":1500}', 0.05),
        ("work.stream", b"", 60),
    ],
)
async def test_deadlines(router: Router, method: str, metadata: bytes, seconds: float) -> None:
    asked = route(router, method, metadata)
    assert asked.deadline == pytest.approx(asked.received + seconds)
    asked.settle_result(b"1")


async def test_a_passed_deadline_answers_and_cancels(router: Router, backend: FakeBackend) -> None:
    started = time.monotonic()
    asked = route(router, "work.do", b'{"timeout_ms":100}')
    error = await error_of(asked)
    waited = time.monotonic() - started
    assert (error.code, error.maybe_executed) == (ErrorCode.COMMUNICATION_TIMEOUT, True)
    assert 0.1 <= waited <= 0.1 + 2 * TICK
    assert backend.cancelled == [asked]


async def test_a_deadline_before_any_executor_took_it(router: Router) -> None:
    asked = route(router, "work.do", b'{"timeout_ms":50}')
    asked.executor = None
    error = await error_of(asked)
    assert not error.maybe_executed
    assert "waiting" in error.message


async def test_an_inherited_deadline_is_never_extended(router: Router) -> None:
    asked = Asked("work.do", b'{"timeout_ms":5000}')
    asked.deadline = inherited = time.monotonic() + 0.1
    router.route(asked)
    assert asked.deadline == inherited
    assert (await error_of(asked)).code == ErrorCode.COMMUNICATION_TIMEOUT


async def test_a_streams_deadline_moves_with_its_chunks(router: Router) -> None:
    asked = route(router, "work.stream", b'{"timeout_ms":200}')
    for _ in range(6):
        await asyncio.sleep(0.08)
        asked.last_activity = time.monotonic()
        asked.stream(b'"data"', b"1")
        assert not asked.settled
    error = await error_of(asked)
    assert error.data["chunks"] == 6


async def test_the_deadline_of_a_method_with_input_moves_with_its_items(router: Router) -> None:
    asked = route(router, "work.fed", b'{"timeout_ms":200}')
    for _ in range(6):
        await asyncio.sleep(0.15)
        asked.last_activity = time.monotonic()  # as the pool sets it for each item
        assert not asked.settled
    began = time.monotonic()
    assert (await error_of(asked)).code == ErrorCode.COMMUNICATION_TIMEOUT
    assert 0.2 <= time.monotonic() - began <= 0.2 + 2 * TICK


async def test_a_stream_that_waits_for_its_reader_is_not_idle(router: Router) -> None:
    asked = route(router, "work.stream", b'{"timeout_ms":100}')
    asked.room = False
    await asyncio.sleep(0.35)  # three times its idle limit
    assert not asked.settled
    asked.room = True
    assert (await error_of(asked)).code == ErrorCode.COMMUNICATION_TIMEOUT


async def test_depth_is_bounded(router: Router, backend: FakeBackend) -> None:
    allowed = route(router, "work.do", depth=MAX_DEPTH)
    assert backend.calls == [allowed]
    assert (await error_of(route(router, "work.do", depth=MAX_DEPTH + 1))).code == ErrorCode.WORKER_OVERLOADED
    allowed.settle_result(b"1")


async def test_draining(router: Router, backend: FakeBackend) -> None:
    router.handle({"hub.time": lambda call: call.settle_result(b"1")})
    running = route(router, "work.do")
    draining = asyncio.create_task(router.drain(PATIENCE))
    await asyncio.sleep(0)
    refused = await error_of(route(router, "work.do"))
    assert (refused.code, refused.maybe_executed) == (ErrorCode.WORKER_UNAVAILABLE, False)
    assert route(router, "hub.time").outcome.done()
    nested = route(router, "work.do", depth=1)
    assert nested in backend.calls, "what running methods call still runs"
    nested.settle_result(b"1")
    assert not draining.done()
    running.settle_result(b"1")
    assert await asyncio.wait_for(draining, PATIENCE) == 0


async def test_draining_is_limited(router: Router) -> None:
    running = route(router, "work.do")
    assert await router.drain(0.05) == 1
    running.settle_result(b"1")


async def test_draining_with_nothing_to_wait_for(router: Router) -> None:
    began = time.monotonic()
    assert await router.drain(PATIENCE) == 0
    assert time.monotonic() == began, "it did not wait"


async def test_internal_calls(router: Router, backend: FakeBackend) -> None:
    task = asyncio.create_task(internal_call(router, "work.do", {"a": 1}, timeout_ms=5000))
    await asyncio.sleep(0)
    (asked,) = backend.calls
    assert asked.params == b'{"a":1}'
    asked.settle_result(b'{"b":2}')
    assert await task == {"b": 2}


async def test_an_internal_call_that_is_cancelled_is_abandoned(router: Router, backend: FakeBackend) -> None:
    task = asyncio.create_task(internal_call(router, "work.do", {}))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.cancelled == backend.calls
    assert router.in_flight == 0


async def test_a_deadline_that_cannot_be_enforced_is_not_the_last(router: Router, backend: FakeBackend) -> None:
    class Broken(Asked):
        def deliver_error(self, error: RpcError) -> None:
            raise OSError("nobody to tell")

    broken, other = Broken("work.do", b'{"timeout_ms":1}'), Asked("work.do", b'{"timeout_ms":20}')
    router.route(broken)
    router.route(other)
    error = await asyncio.wait_for(other.outcome, PATIENCE)
    assert error.code == ErrorCode.COMMUNICATION_TIMEOUT


async def test_so_many_calls_of_a_method_are_in_flight_and_no_more(router: Router, backend: FakeBackend) -> None:
    backend.infos["work.few"] = MethodInfo("work.few", limits=MethodLimits(max_calls=2))
    first, second = route(router, "work.few"), route(router, "work.few")
    refused = await error_of(route(router, "work.few"))
    assert (refused.code, refused.maybe_executed) == (ErrorCode.WORKER_OVERLOADED, False)
    assert "2 calls of work.few are in flight already" in refused.message
    assert refused.retry_after_ms is not None
    assert (await error_of(route(router, "work.few"))).code == ErrorCode.WORKER_OVERLOADED, "a refused call counts not"
    route(router, "work.do")
    first.settle_result(b"1")
    third = route(router, "work.few")
    second.settle_error(RpcError(ErrorCode.CANCELLED, "no"))
    third.settle_result(b"3")
    assert not any(router._limits._in_flight.values())


async def test_so_many_calls_of_a_method_a_second(router: Router, backend: FakeBackend) -> None:
    backend.infos["work.paced"] = MethodInfo("work.paced", limits=MethodLimits(rate=2))
    begun = [route(router, "work.paced") for _ in range(2)]
    refused = await error_of(route(router, "work.paced"))
    assert (refused.code, refused.maybe_executed) == (ErrorCode.RATE_LIMITED, False)
    assert refused.retry_after_ms == 501, "who comes when told to is not refused again"
    route(router, "work.do")
    await asyncio.sleep(refused.retry_after_ms / 1000)
    assert backend.calls[:2] == begun
    assert not route(router, "work.paced").outcome.done()
