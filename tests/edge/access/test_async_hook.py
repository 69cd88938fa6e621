"""The authenticate hook as a coroutine function: how often it is asked, how long, and for how many at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

import pytest

from trunkline.edge.access import async_hook
from trunkline.edge.access.async_hook import AsyncHook
from trunkline.edge.access.credentials import Credentials
from trunkline.hub.principal import Handshake, Principal
from trunkline_protocol.errors import ErrorCode, RpcError

pytestmark = pytest.mark.virtual_time

SECONDS: Final = 5.0
CACHED: Final = 60.0
HERE: Final = "10.0.0.1"


class Desk:
    """A hub's credentials with a hook that the test answers.

    Attributes:
        asked: the tokens that the hook was asked of.
        ended: those whose run was ended.
        answers: what it says, by token; a future is awaited.
    """

    def __init__(self, cache_seconds: float = 0.0) -> None:
        self.asked: list[str | None] = []
        self.ended: list[str | None] = []
        self.answers: dict[str | None, Any] = {}
        self.hook = AsyncHook(self._look_up, SECONDS, cache_seconds)
        self.credentials = Credentials(hook=self.hook)

    async def _look_up(self, handshake: Handshake) -> Principal:
        token = handshake.token
        self.asked.append(token)
        answer = self.answers.get(token, Principal("ann"))
        try:
            said = await asyncio.shield(answer) if isinstance(answer, asyncio.Future) else answer
        except asyncio.CancelledError:
            self.ended.append(token)
            raise
        if isinstance(said, BaseException):
            raise said
        return said  # type: ignore[no-any-return]  # what hooks return is anything

    def later(self, token: str) -> asyncio.Future[Any]:
        answer = self.answers[token] = asyncio.get_running_loop().create_future()
        return answer

    async def come(self, token: str | None, peer: str = f"{HERE}:1") -> Principal | int:
        """The principal of a peer that is let in, or the error's code."""
        handshake = Handshake("/ws", peer, {"cookie": "c"}, token)
        asking = self.credentials.prepare(handshake)
        try:
            return self.credentials.authenticate(handshake if asking is None else await asking)
        except RpcError as error:
            return error.code

    def begin(self, token: str | None, peer: str = f"{HERE}:1") -> asyncio.Task[Principal | int]:
        return asyncio.get_running_loop().create_task(self.come(token, peer))


async def turns() -> None:
    """Let everything run that can run."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (RpcError(ErrorCode.UNAUTHENTICATED, "no"), ErrorCode.UNAUTHENTICATED),
        (RpcError(ErrorCode.RATE_LIMITED, "later"), ErrorCode.RATE_LIMITED),
        (OSError("the database is away"), ErrorCode.WORKER_UNAVAILABLE),
        (TimeoutError(), ErrorCode.WORKER_UNAVAILABLE),
        (asyncio.CancelledError(), ErrorCode.WORKER_UNAVAILABLE),
        (None, ErrorCode.INTERNAL_ERROR),
        ("admin", ErrorCode.INTERNAL_ERROR),
        (Principal("a", claims={"key": object()}), ErrorCode.INTERNAL_ERROR),
        (Principal("*", subscribe=("{principal}.>",)), ErrorCode.UNAUTHENTICATED),
    ],
)
@pytest.mark.parametrize("cached", [0.0, CACHED])
async def test_whatever_is_no_principal_lets_nobody_in_and_is_not_kept(said: Any, code: int, cached: float) -> None:
    desk = Desk(cached)
    desk.answers["t"] = said
    assert await desk.come("t") == code
    desk.answers["t"] = Principal("ann")
    assert await desk.come("t") == Principal("ann", credential="hook"), "it is asked again"


async def test_a_hook_that_says_nothing_is_given_up_in_time() -> None:
    desk = Desk()
    desk.later("t")
    began = time.monotonic()
    assert await desk.come("t") == ErrorCode.WORKER_UNAVAILABLE
    assert time.monotonic() - began == pytest.approx(SECONDS)
    await turns()
    assert desk.ended == ["t"]


async def test_a_hook_that_does_not_let_itself_be_ended_is_not_believed_later(monkeypatch: Any) -> None:
    monkeypatch.setattr(async_hook, "MAX_RUNNING", 2)
    end = asyncio.Event()

    async def stubborn(_handshake: Handshake) -> Principal:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue
        return Principal("ann")

    desk = Desk()
    desk.hook._hook = stubborn
    assert [await desk.come("a"), await desk.come("b")] == [ErrorCode.WORKER_UNAVAILABLE] * 2
    began = time.monotonic()
    assert await desk.come("c") == ErrorCode.WORKER_UNAVAILABLE
    assert time.monotonic() == began, "no third one is begun"
    end.set()
    await turns()
    assert isinstance(await desk.come("d"), Principal), "those that have ended at last are forgotten"


async def test_a_thousand_with_one_token_ask_once() -> None:
    desk = Desk(CACHED)
    answer = desk.later("t")
    many = [desk.begin("t", f"10.0.{n % 250}.1:{n}") for n in range(1000)]
    await turns()
    answer.set_result(Principal("ann"))
    assert {principal.name for principal in await asyncio.gather(*many) if isinstance(principal, Principal)} == {"ann"}
    assert desk.asked == ["t"]


async def test_one_that_leaves_takes_the_run_with_it_only_if_nobody_else_waits() -> None:
    desk = Desk(CACHED)
    answer = desk.later("t")
    first, second = desk.begin("t"), desk.begin("t")
    await turns()
    first.cancel()
    await turns()
    assert desk.ended == []
    answer.set_result(Principal("ann"))
    assert isinstance(await second, Principal)
    desk.later("u")
    last = desk.begin("u")
    await turns()
    last.cancel()
    await turns()
    assert desk.ended == ["u"]


async def test_an_answer_is_kept_as_long_as_it_may_and_as_long_as_the_principal_lasts() -> None:
    desk = Desk(CACHED)
    assert isinstance(await desk.come("t"), Principal)
    await asyncio.sleep(CACHED - 1)
    assert isinstance(await desk.come("t"), Principal)
    assert desk.asked == ["t"]
    await asyncio.sleep(2)
    desk.answers["t"] = Principal("ann", expires=time.monotonic() + 10)
    assert isinstance(await desk.come("t"), Principal)
    await asyncio.sleep(9)
    assert isinstance(await desk.come("t"), Principal)
    assert desk.asked == ["t"] * 2
    await asyncio.sleep(2)
    assert isinstance(await desk.come("t"), Principal)
    assert desk.asked == ["t"] * 3


async def test_without_a_token_or_a_cache_each_is_asked_of() -> None:
    desk = Desk(CACHED)
    for _ in range(2):
        assert isinstance(await desk.come(None), Principal)
    assert desk.asked == [None, None]
    uncached = Desk()
    for _ in range(2):
        assert isinstance(await uncached.come("t"), Principal)
    assert uncached.asked == ["t", "t"]


async def test_what_is_kept_is_bounded_and_no_token_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_hook, "MAX_CACHED", 3)
    desk = Desk(CACHED)
    for token in "abcad":
        await desk.come(token)
    assert desk.asked == [*"abcd"]
    await desk.come("b")
    assert desk.asked == [*"abcdb"], "the one that was used least recently made room"
    assert len(desk.hook._cached) == 3
    assert all(len(digest) == 32 for digest in desk.hook._cached)


async def test_a_reload_forgets_and_what_it_overtakes_is_not_kept() -> None:
    desk = Desk(CACHED)
    answer = desk.later("t")
    before = desk.begin("t")
    await turns()
    desk.credentials.reload()
    desk.answers["t"] = RpcError(ErrorCode.UNAUTHENTICATED, "not any more")
    assert await desk.come("t") == ErrorCode.UNAUTHENTICATED, "it is not the run that began before"
    answer.set_result(Principal("ann"))
    assert isinstance(await before, Principal)
    assert await desk.come("t") == ErrorCode.UNAUTHENTICATED


async def test_one_address_that_takes_all_of_it_does_not_lock_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_hook, "MAX_ASKING", 8)
    desk = Desk()
    desk.later("flood")
    flood = [desk.begin("flood", f"{HERE}:{n}") for n in range(10)]
    await turns()
    assert [task.result() for task in flood[8:]] == [ErrorCode.RESOURCE_EXHAUSTED] * 2, "no room for more of this one"
    assert isinstance(await desk.come("guest", "10.0.0.2:1"), Principal)
    assert await flood[0] == ErrorCode.RESOURCE_EXHAUSTED, "its oldest makes room for others"
    desk.answers["flood"].set_result(Principal("ann"))
    assert all(isinstance(principal, Principal) for principal in await asyncio.gather(*flood[1:8]))


async def test_a_hub_that_stops_answers_who_waits_and_who_comes() -> None:
    desk = Desk(CACHED)
    desk.later("t")
    waiting = desk.begin("t")
    await turns()
    desk.hook.stop()
    assert await waiting == ErrorCode.WORKER_UNAVAILABLE
    assert await desk.come("u") == ErrorCode.WORKER_UNAVAILABLE
    assert (desk.asked, desk.ended) == (["t"], ["t"])


async def test_others_ways_are_tried_first_and_a_handshake_that_was_not_asked_of_is_refused() -> None:
    desk = Desk()
    credentials = Credentials(token="static", hook=desk.hook)
    known = Handshake("/ws", "p:1", {}, "static")
    assert credentials.prepare(known) is None
    assert credentials.authenticate(known).credential == "static"
    with pytest.raises(RpcError) as refusal:
        credentials.authenticate(Handshake("/ws", "p:1", {}, "t"))
    assert refusal.value.code == ErrorCode.INTERNAL_ERROR
    assert desk.asked == []


async def test_no_token_is_logged_or_told(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(CACHED)
    desk.answers["a-secret-token"] = KeyError("a-secret-token")
    desk.answers["another-secret"] = RpcError(ErrorCode.UNAUTHENTICATED, "who is another-secret?")
    with caplog.at_level(logging.DEBUG):
        assert await desk.come("a-secret-token") == ErrorCode.WORKER_UNAVAILABLE
        handshake = await desk.hook.answer(Handshake("/ws", "p:1", {}, "another-secret"))
    assert isinstance(handshake.answer, RpcError)
    assert handshake.answer.message == "who is <token>?"
    (record,) = caplog.records
    assert vars(record)["error"] == "KeyError"
    assert __file__ in vars(record)["at"]
    assert __file__ in vars(record)["calls"][-1]
    assert "secret" not in f"{vars(record)!r} {handshake!r}"
