"""What is tried again: the decision by itself, and against hubs that fail."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.client.faults import QUICK
from tests.client.scripted import agreeable, scripted_hub
from tests.client.scripted_memory import client_in_memory
from tests.support.hub import RunningHub
from tests.support.timing import PATIENCE
from trunkline.client import DisconnectedError, Retry, connect
from trunkline.client.retrying import LONGEST, Repeats, full_jitter, retry_delay
from trunkline_protocol.errors import ErrorCode, RpcError

OVERLOADED = RpcError(ErrorCode.WORKER_OVERLOADED, "busy", retry_after_ms=2500)
CRASHED = RpcError(ErrorCode.WORKER_CRASHED, "gone", maybe_executed=True)
OTHER_RUN = RpcError(ErrorCode.WORKER_CRASHED, "gone", maybe_executed=True, data={"idempotency": "epoch"})
TYPED = RpcError(ErrorCode.INVALID_CONFIGURATION, "no")
CUT = DisconnectedError("cut", maybe_executed=True)
EXPIRED = DisconnectedError("cut", maybe_executed=True, reason="expired")
UNKNOWN = DisconnectedError("cut", maybe_executed=True, reason="unknown")
UNSENT = DisconnectedError("cut", maybe_executed=False)


@pytest.mark.parametrize(
    ("error", "plain", "keyed", "told", "idempotent"),
    [
        (OVERLOADED, True, True, True, True),
        (CRASHED, False, True, True, True),
        (OTHER_RUN, False, False, False, True),
        (TYPED, False, False, False, False),
        (CUT, False, False, True, True),
        (EXPIRED, False, False, True, True),
        (UNKNOWN, False, False, True, True),
        (UNSENT, True, True, True, True),
    ],
)
def test_what_may_be_made_again(error: Any, plain: bool, keyed: bool, told: bool, idempotent: bool) -> None:
    """``told``: with a key, and the next hub is told which one knows it."""

    def again(*, idempotent: bool = False, keyed: bool = False, has_epoch: bool = False) -> bool:
        repeats = Repeats(Retry(), idempotent, keyed)
        return retry_delay(error, 1, repeats, random.random, has_epoch=has_epoch) is not None

    made = again(), again(keyed=True), again(keyed=True, has_epoch=True), again(idempotent=True)
    assert made == (plain, keyed, told, idempotent)


def test_attempts_count_the_first_one() -> None:
    def again(attempt: int, retry: Retry | None) -> bool:
        return retry_delay(UNSENT, attempt, Repeats(retry), random.random) is not None

    assert [again(attempt, Retry(attempts=3)) for attempt in (1, 2, 3, 4)] == [True, True, False, False]
    assert not again(1, Retry(attempts=1))
    assert not again(1, None)


def test_waits_grow_and_the_hubs_hint_is_the_least() -> None:
    def delay(error: RpcError | DisconnectedError, attempt: int) -> float | None:
        retry = Retry(attempts=9, base_delay=1.0, factor=3.0)
        return retry_delay(error, attempt, Repeats(retry), lambda: 0.5)

    assert [delay(UNSENT, attempt) for attempt in (1, 2, 3)] == [0.5, 1.5, 4.5]
    assert [delay(OVERLOADED, attempt) for attempt in (1, 2, 3)] == [2.5, 2.5, 4.5]


def test_full_jitter_is_anything_up_to_a_bound() -> None:
    chance = random.Random(1).random
    for attempt, bound in ((0, 0.5), (1, 1.0), (5, 16.0), (6, 20.0), (5000, 20.0)):
        waits = [full_jitter(attempt, 0.5, chance, cap=20.0) for _ in range(2000)]
        assert 0 <= min(waits) < 0.02 * bound
        assert 0.98 * bound < max(waits) < bound
    assert full_jitter(10_000, 0.5, lambda: 0.5) == LONGEST / 2


@pytest.mark.parametrize("arguments", [{"attempts": 0}, {"base_delay": -1}, {"factor": 0.5}])
def test_what_makes_no_sense_is_refused(arguments: Any) -> None:
    with pytest.raises(ValueError, match="Retry"):
        Retry(**arguments)


# --- against hubs ---

SOON = Retry(attempts=3, base_delay=0.01)


def failing(*errors: dict[str, Any] | None) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    """A hub that fails calls of ``work`` one after the other; None succeeds."""
    left = list(errors)

    def answer(message: dict[str, Any]) -> list[dict[str, Any]]:
        if message["method"] != "work":
            return agreeable(message)
        error = left.pop(0)
        if error is None:
            return [{"jsonrpc": "2.0", "id": message["id"], "result": "done"}]
        return [{"jsonrpc": "2.0", "id": message["id"], "error": error}]

    return answer


def error(code: int, *, maybe_executed: bool = False, retry_after_ms: int | None = None) -> dict[str, Any]:
    return RpcError(code, "no", maybe_executed=maybe_executed, retry_after_ms=retry_after_ms).to_wire()


BUSY = error(2002)
GONE = error(2001, maybe_executed=True)


@pytest.mark.parametrize(
    ("errors", "options", "outcome", "attempts"),
    [
        ([BUSY, None], {}, "done", 2),
        ([BUSY, BUSY, BUSY], {}, 2002, 3),
        ([BUSY], {"retry": False}, 2002, 1),
        ([BUSY, BUSY, BUSY, None], {"retry": Retry(attempts=4, base_delay=0.01)}, "done", 4),
        ([GONE], {}, 2001, 1),
        ([GONE, None], {"idempotent": True}, "done", 2),
        ([GONE, None], {"idempotency_key": "k"}, "done", 2),
        ([error(4001)], {"idempotent": True}, 4001, 1),
        ([BUSY, error(-32602)], {}, -32602, 2),
    ],
)
async def test_the_rules_over_the_wire(
    errors: list[Any], options: dict[str, Any], outcome: str | int, attempts: int
) -> None:
    async with scripted_hub(failing(*errors)) as hub, connect(hub.url, retry=SOON) as client:
        if isinstance(outcome, str):
            assert await client.call("work", {"a": 1}, **options) == outcome
        else:
            with pytest.raises(RpcError) as caught:
                await client.call("work", {"a": 1}, **options)
            assert caught.value.code == outcome
        made = hub.calls("work")
    assert len(made) == attempts
    assert {str(message["params"]) for message in made} == {"{'a': 1}"}
    assert len({message["id"] for message in made}) == attempts, "ids are never used again"
    keys = {message.get("metadata", {}).get("idempotency_key") for message in made}
    assert keys == {options.get("idempotency_key")}


@pytest.mark.virtual_time
async def test_retry_after_is_waited_for() -> None:
    async with client_in_memory(failing(error(6003, retry_after_ms=300), None)) as (_hub, client):
        loop = asyncio.get_running_loop()
        before = loop.time()
        assert await client.call("work", retry=SOON) == "done"
        assert loop.time() - before == pytest.approx(0.3)


@pytest.mark.virtual_time
async def test_a_hint_that_is_longer_than_any_call_ends_it_at_once() -> None:
    late = error(6003, retry_after_ms=300_000)
    async with client_in_memory(failing(late, late, None)) as (hub, client):
        loop = asyncio.get_running_loop()
        before = loop.time()
        for timeout_ms in (None, 2000):
            with pytest.raises(RpcError) as caught:
                await client.call("work", timeout_ms=timeout_ms)
            assert caught.value.retry_after_ms == 300_000
        assert loop.time() == before
        assert len(hub.calls("work")) == 2


@pytest.mark.virtual_time
async def test_the_deadline_spans_all_attempts() -> None:
    async with client_in_memory(failing(*[BUSY] * 50, None)) as (hub, client):
        retry = Retry(attempts=99, base_delay=0.12, factor=1)
        with pytest.raises(RpcError) as caught:
            await client.call("work", timeout_ms=400, retry=retry)
        assert caught.value.code == 2002, "what was wrong last, and not that the time is over"
        left = [message["metadata"]["timeout_ms"] for message in hub.calls("work")]
        assert left == pytest.approx([400, 340, 280, 220, 160, 100, 40], abs=1)


async def test_a_call_that_waits_for_its_next_attempt_can_be_cancelled_and_ends_with_the_client() -> None:
    slow = Retry(attempts=3, base_delay=1000)
    async with scripted_hub(failing(BUSY, BUSY)) as hub:
        async with connect(hub.url, random=lambda: 0.9) as client:
            cancelled = asyncio.create_task(client.call("work", retry=slow))
            closed = asyncio.create_task(client.call("work", retry=slow))
            await hub.wait_for("work", 2)
            await client.call("other", {"topic": "t"})  # its reply comes after those that failed the two
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        with pytest.raises(RpcError):
            await asyncio.wait_for(closed, PATIENCE)


async def test_calls_that_were_lost_with_the_hub_are_made_again_if_they_may_be() -> None:
    """Without a session: only what is idempotent; a key means nothing to a hub that may be another one."""
    asked: list[str] = []

    def once(message: dict[str, Any]) -> list[dict[str, Any]]:
        asked.append(message["method"])
        if asked.count(message["method"]) == 1:
            return []
        return [{"jsonrpc": "2.0", "id": message["id"], "result": "done"}]

    async with scripted_hub(once) as hub, connect(hub.url, reconnect=QUICK, retry=SOON) as client:
        calls = {
            "idempotent": asyncio.create_task(client.call("a", idempotent=True)),
            "keyed": asyncio.create_task(client.call("b", idempotency_key="k")),
            "plain": asyncio.create_task(client.call("c")),
        }
        await hub.wait_for("c")
        await hub.cut()
        assert await asyncio.wait_for(calls["idempotent"], PATIENCE) == "done"
        for name in ("keyed", "plain"):
            with pytest.raises(DisconnectedError) as caught:
                await asyncio.wait_for(calls[name], PATIENCE)
            assert caught.value.maybe_executed
    assert sorted(asked) == ["a", "a", "b", "c"]


async def test_streams_and_calls_with_input_are_not_made_again() -> None:
    async with scripted_hub(failing(BUSY, BUSY)) as hub, connect(hub.url, retry=SOON) as client:
        with pytest.raises(RpcError):
            await client.call("work", input=[1, 2], idempotent=True)
        with pytest.raises(RpcError):
            async for _ in await client.stream("work"):
                pass
        assert len(hub.calls("work")) == 2


async def test_a_keyed_call_runs_once_though_it_is_made_twice(lab_hub: RunningHub, tmp_path: Path) -> None:
    marker = tmp_path / "m"
    async with connect(lab_hub.url) as client:
        for _ in range(2):
            key = str(tmp_path)
            assert await client.call("lab.counted_run", {"marker": str(marker)}, idempotency_key=key) == "done"
    assert marker.read_text() == "x"
