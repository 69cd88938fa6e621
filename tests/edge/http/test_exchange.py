"""One message to the hub and its answer, with a hub in memory: who waits gets the answer, or why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.hub.doors import FakeBackend, services
from tests.support.timing import until
from trunkline.edge.access.credentials import Credentials
from trunkline.edge.access.rules import LOOPBACK_NAMES, AccessRules
from trunkline.edge.context import EdgeContext
from trunkline.edge.http.exchange import PAUSE_BYTES, Exchange, ExchangeServices, Notification, Reply, exchange_services
from trunkline.hub.authentication import CREDENTIALS_EXPIRED, Authentication
from trunkline.hub.client_connection import ClientConnection
from trunkline.hub.outbox import Flusher
from trunkline.hub.principal import ANONYMOUS, Handshake
from trunkline.hub.router import Router
from trunkline_protocol.errors import ErrorCode, RpcError

OUTBOX_BYTES = 4 * PAUSE_BYTES


class Hub:
    """A backend whose calls the test settles, with what exchanges need around it."""

    def __init__(self) -> None:
        self.backend = FakeBackend()
        shared = services(Router(self.backend, lambda *_: None))
        self.context = EdgeContext(
            shared,
            AccessRules(LOOPBACK_NAMES, (), Credentials().authenticate),
            Flusher(asyncio.get_running_loop()),
            max_connections=1,
            max_message_bytes=1000,
            outbox_bytes=OUTBOX_BYTES,
            outbox_event_bytes=OUTBOX_BYTES,
            auth_call=False,
        )
        self.services: ExchangeServices = exchange_services(shared, Authentication(_nobody, 1.0))
        self.notified: list[Notification] = []
        self.reads = asyncio.Event()
        self.reads.set()

    async def _notified(self, notification: Notification) -> None:
        self.notified.append(notification)
        await self.reads.wait()

    def exchange(self, *, takes_events: bool = True) -> Exchange:
        return Exchange(
            self.context, self.services.of(takes_events), ANONYMOUS, "a test", "mcp", takes_events=takes_events
        )

    @asynccontextmanager
    async def calling(
        self, method: str = "work.do", *, takes_events: bool = True
    ) -> AsyncIterator[tuple[Exchange, asyncio.Task[Reply]]]:
        """A call that the backend has, or that has been answered."""
        exchange = self.exchange(takes_events=takes_events)
        waiting = asyncio.create_task(exchange.call(method, {}, {"progress_token": 1}, self._notified))
        await until(lambda: self.backend.calls or waiting.done(), "the call")
        try:
            yield exchange, waiting
        finally:
            waiting.cancel()
            await asyncio.wait([waiting])
            assert not self.context.listeners


def _nobody(_handshake: Handshake) -> Any:
    raise AssertionError("nothing authenticates here")


async def test_what_comes_before_the_response_is_handed_on_in_order_and_the_response_is_returned() -> None:
    hub = Hub()
    async with hub.calling("work.stream") as (_, waiting):
        [call] = hub.backend.calls
        call.stream(b'"word"', b'"a"')
        call.progress(b'{"done":1}')
        call.stream(b'"word"', b'"b"')
        call.settle_result(b'{"words":2}')
        reply = await waiting
    assert (bytes(reply.result), reply.error) == (b'{"words":2}', None)
    said = [(each.method, bytes(each.params.data), bytes(each.params.value)) for each in hub.notified]
    null = b"null"
    assert said[:3] == [
        ("stream_chunk", b'"a"', null),
        ("$/progress", null, b'{"done":1}'),
        ("stream_chunk", b'"b"', null),
    ]
    assert [each.params.is_final for each in hub.notified] == [False, False, False, True]


async def test_an_error_is_the_response() -> None:
    hub = Hub()
    async with hub.calling() as (_, waiting):
        hub.backend.calls[0].settle_error(RpcError(ErrorCode.WORKER_OVERLOADED, "no room"))
        reply = await waiting
    assert reply.error is not None
    assert (reply.error["code"], reply.error["message"]) == (ErrorCode.WORKER_OVERLOADED, "no room")


async def test_who_stops_waiting_cancels_the_call() -> None:
    hub = Hub()
    async with hub.calling() as (_, waiting):
        waiting.cancel()
        await asyncio.wait([waiting])
        assert hub.backend.cancelled == hub.backend.calls


@pytest.mark.parametrize(
    ("close", "code"),
    [(CREDENTIALS_EXPIRED, ErrorCode.UNAUTHENTICATED), (1001, ErrorCode.WORKER_UNAVAILABLE)],
)
async def test_a_call_whose_connection_is_closed_says_why(close: int, code: ErrorCode) -> None:
    hub = Hub()
    async with hub.calling() as (exchange, waiting):
        exchange.close(close, "so it is")
        reply = await waiting
        assert hub.backend.cancelled == hub.backend.calls
    assert reply.error is not None
    assert (reply.error["code"], reply.error["message"]) == (code, "so it is")
    assert reply.error["data"]["maybe_executed"]


async def test_more_than_may_wait_is_an_error_and_no_wait_without_end() -> None:
    hub = Hub()
    hub.reads.clear()
    async with hub.calling("work.stream") as (exchange, waiting):
        [call] = hub.backend.calls
        call.stream(b'"data"', b"1")
        await until(lambda: hub.notified, "the first chunk")  # and takes no more from now on
        call.stream(b'"data"', b'"%b"' % (b"x" * PAUSE_BYTES))
        await until(lambda: exchange._paused, "a full exchange")
        call.settle_result(b'"%b"' % (b"x" * OUTBOX_BYTES))
        hub.reads.set()
        with pytest.raises(RpcError) as lost:
            await waiting
    assert lost.value.code == ErrorCode.RESOURCE_EXHAUSTED
    assert "TRUNKLINE_OUTBOX_BYTES" in lost.value.message
    assert lost.value.maybe_executed


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("subscribe", "needs a persistent connection"),
        ("work.fed", "takes a stream of input"),
        ("work.stream", "send Accept: text/event-stream"),
    ],
)
async def test_what_one_answer_cannot_carry_is_refused(method: str, words: str) -> None:
    hub = Hub()
    async with hub.calling(method, takes_events=False) as (_, waiting):
        reply = await waiting
    assert reply.error is not None
    assert words in reply.error["message"]
    assert not hub.backend.calls


async def test_a_connection_has_a_number_of_its_own_or_shares_one() -> None:
    hub = Hub()
    args = (hub.context.services, hub.exchange()._connection.outbox, ANONYMOUS, "a test", hub.exchange())
    first, second = ClientConnection(*args), ClientConnection(*args)
    assert second.number == first.number + 1
    assert ClientConnection(*args, first.number).number == first.number
    assert ClientConnection(*args).number == second.number + 1, "a shared number takes none away"
