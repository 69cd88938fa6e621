"""``system.calls`` and ``system.cancel``: what is told of calls in flight, and who ends one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.hub.doors import FakeBackend
from tests.support.doubles import Asked
from trunkline.control.calls_in_flight import CallsInFlight
from trunkline.hub.principal import ADMIN, Principal
from trunkline.hub.router import Router
from trunkline_protocol.errors import ErrorCode

ADA, ROOT = Principal("ada"), Principal("root", frozenset({ADMIN}))

pytestmark = pytest.mark.virtual_time


class Hub:
    """A router whose calls do not end by themselves."""

    def __init__(self) -> None:
        self.backend = FakeBackend()
        self.router = Router(self.backend, lambda *_: None)
        self.router.handle(CallsInFlight(self.router).methods())

    def begin(self, method: str = "work.do", who: Principal | None = ADA) -> Asked:
        asked = Asked(method, {}, who)
        self.router.route(asked)
        return asked

    def ask(self, method: str, who: Principal = ROOT, **params: Any) -> Any:
        asked = Asked(method, params, who)
        self.router.route(asked)
        return asked.outcome.result()


async def test_calls_are_listed_the_oldest_first_and_the_others_counted() -> None:
    hub = Hub()
    first = hub.begin()
    await asyncio.sleep(2)
    hub.begin("work.stream", None)
    await asyncio.sleep(1)
    hub.begin("work.fed", Principal("bob"))
    told = hub.ask("system.calls", limit=2)
    assert told["more"] == 1
    oldest, second = told["calls"]
    assert (oldest["method"], oldest["principal"], oldest["age_ms"]) == ("work.do", "ada", 3000.0)
    assert (second["method"], second["principal"], second["state"]) == ("work.stream", None, "running")
    assert oldest["call"] != second["call"]
    first.executor = None
    (again, *_) = hub.ask("system.calls")["calls"]
    assert (again["call"], again["state"]) == (oldest["call"], "queued"), "a call keeps its number"


async def test_a_call_is_ended_by_its_number_once() -> None:
    hub = Hub()
    call = hub.begin()
    await asyncio.sleep(1)
    other = hub.begin()
    number = hub.ask("system.calls")["calls"][0]["call"]
    assert hub.ask("system.cancel", call=number) == {"call": number, "cancelled": True}
    assert (call.error.code, call.error.maybe_executed) == (ErrorCode.CANCELLED, True)
    assert call.error.message == "work.do was cancelled by root"
    assert hub.backend.cancelled == [call], "its executor is told"
    assert not other.settled
    assert hub.ask("system.cancel", call=number) == {"call": number, "cancelled": False}


async def test_a_call_that_has_no_number_yet_cannot_be_meant() -> None:
    hub = Hub()
    call = hub.begin()
    assert hub.ask("system.cancel", call=0)["cancelled"] is False
    assert not call.settled


async def test_both_are_for_admins() -> None:
    hub = Hub()
    assert hub.ask("system.calls", ADA).code == ErrorCode.FORBIDDEN
    assert hub.ask("system.cancel", ADA, call=1).code == ErrorCode.FORBIDDEN
