"""``system.failure``: what failed calls were given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.control.test_monitoring_hub import until
from tests.support.hub import RunningHub, ready_hub
from tests.support.peer import Peer, peer
from trunkline.control.failed_calls import MAX_BYTES, MAX_FAILURES, MAX_PARAMS_BYTES, FailedCalls
from trunkline.observe.secrets import SecretMask
from trunkline_protocol.calls import Call

TOKEN = "the-hubs-own-token-1"


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with ready_hub(env={"TRUNKLINE_TOKEN": TOKEN}) as running:
        yield running


def failed(size: int = 2) -> Call:
    return Call("work.do", b'"' + b"x" * (size - 2) + b'"')


def test_the_oldest_are_forgotten() -> None:
    calls = FailedCalls(SecretMask())
    numbers = [calls.keep(failed()) for _ in range(MAX_FAILURES + 1)]
    assert len(set(numbers)) == MAX_FAILURES + 1
    assert calls.bytes == 2 * MAX_FAILURES
    for _ in range(MAX_BYTES // MAX_PARAMS_BYTES + 3):
        assert calls.keep(failed(MAX_PARAMS_BYTES)) is not None
        assert calls.bytes <= MAX_BYTES
    assert calls.keep(failed(MAX_PARAMS_BYTES + 1)) is None
    calls.forget()
    assert calls.bytes == 0


def test_nothing_is_kept_where_nobody_wants_it() -> None:
    calls = FailedCalls(SecretMask(), wanted=False)
    assert calls.keep(failed()) is None
    assert calls.bytes == 0


async def failure_of(listener: Peer, method: str) -> Any:
    """The number of the next failure of a method."""

    def number(data: Any) -> Any:
        found = [request["failure"] for request in data["requests"] if request["method"] == method and request["code"]]
        return found[-1] if found else None

    return await until(listener, "system.requests", number)


async def test_what_a_failed_call_was_given_without_secrets(hub: RunningHub) -> None:
    async with peer(hub.url, headers={"Authorization": f"Bearer {TOKEN}"}) as admin:
        await admin.result("subscribe", {"topic": "system.requests"})
        await admin.error("debug.echo", {"worth": 1, "password": "hunter2", "note": f"with {TOKEN}"})
        number = await failure_of(admin, "debug.echo")
        assert await admin.result("system.failure", {"failure": number}) == {
            "failure": number,
            "kept": True,
            "method": "debug.echo",
            "params": {"worth": 1, "password": "***", "note": "with ***"},
            "redacted": 2,
        }
        await admin.result("unsubscribe", {"topic": "system.requests"})
        answer = await admin.result("system.failure", {"failure": number})
        assert (answer["kept"], answer["params"]) == (False, None), "nobody listens any more"


async def test_what_cannot_be_shown_is_said(hub: RunningHub) -> None:
    async with peer(hub.url, headers={"Authorization": f"Bearer {TOKEN}"}) as admin:
        await admin.result("subscribe", {"topic": "system.requests"})
        deep = "[" * 800 + "]" * 800
        await admin.send(f'{{"jsonrpc":"2.0","id":"deep","method":"nobody.serves","params":{{"deep":{deep}}}}}')
        await admin.reply("deep")
        number = await failure_of(admin, "nobody.serves")
        error = await admin.error("system.failure", {"failure": number})
        assert (error["code"], "cannot be shown" in error["message"]) == (-32602, True)
