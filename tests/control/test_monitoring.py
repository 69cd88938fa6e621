from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.control.monitored_hub import Hub, HubsOwn, ticks
from tests.hub.doors import Door, FakeBackend, connection, services
from tests.support.timing import PATIENCE
from trunkline.control.monitoring import (
    CONNECTIONS,
    EXECUTORS,
    HEALTH,
    LOGS,
    MAX_CONNECTIONS,
    MAX_ITEMS,
    MAX_REQUESTS,
    METRICS,
    REQUESTS,
    TICK_SECONDS,
)
from trunkline.hub.principal import Principal
from trunkline.hub.router import Router
from trunkline_protocol.errors import ErrorCode
from trunkline_protocol.events import Event

ALL = (METRICS, EXECUTORS, HEALTH, REQUESTS, CONNECTIONS, LOGS)

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    made = Hub()
    made.health.start()
    yield made
    made.health.stop()
    made.monitor.stop()


# --- nobody listens ---


async def test_without_subscribers_nothing_is_said_counted_or_scheduled(hub: Hub) -> None:
    hub.router.in_flight = 5
    peer = hub.peer()
    hub.monitor.opened(peer)
    hub.monitor.closed(peer)
    hub.monitor.executors_changed()
    assert not hub.monitor.wants_requests
    await ticks()
    assert hub.board.said == []
    assert hub.monitor._timer is None
    assert [*hub.monitor._opened.items, *hub.monitor._closed.items] == []
    assert not hub.logs.is_open


@pytest.mark.parametrize("topic", ALL)
async def test_only_what_is_wanted_is_said(hub: Hub, topic: str) -> None:
    hub.listen(topic)
    peer = hub.peer()
    hub.router.in_flight = 1
    hub.finish()
    hub.monitor.opened(peer)
    hub.monitor.executors_changed()
    hub.logs.records.append({"event": "said"})
    await hub.next(topic)
    assert {named for named, _ in hub.board.said} == {topic}


async def test_when_the_last_one_leaves_it_ends(hub: Hub) -> None:
    hub.listen(*ALL)
    await hub.next(EXECUTORS)
    hub.finish(3)
    hub.listen()
    said = len(hub.board.said)
    hub.router.in_flight = 1
    hub.monitor.opened(hub.peer())
    await ticks()
    assert len(hub.board.said) == said
    assert hub.monitor._timer is None


@pytest.mark.parametrize("others", [(), (METRICS,)])
async def test_who_comes_later_does_not_hear_of_what_was_before(hub: Hub, others: tuple[str, ...]) -> None:
    hub.listen(REQUESTS, CONNECTIONS, *others)
    for _ in range(MAX_ITEMS + 5):
        hub.monitor.opened(hub.peer())
    hub.finish(MAX_ITEMS + 5)
    hub.listen(*others)
    hub.listen(REQUESTS, CONNECTIONS, *others)
    hub.finish()
    hub.monitor.opened(hub.peer())
    requests = await hub.next(REQUESTS)
    connections = await hub.next(CONNECTIONS)
    assert (len(requests["requests"]), requests["dropped"]) == (1, 0)
    assert (len(connections["opened"]), connections["dropped"]) == (1, 0)


async def test_interest_that_changes_asks_for_one_timer(hub: Hub) -> None:
    hub.listen(METRICS)
    timer = hub.monitor._timer
    hub.listen(METRICS, EXECUTORS)
    assert hub.monitor._timer is timer


# --- requests ---


async def test_requests(hub: Hub) -> None:
    hub.listen(REQUESTS)
    backend = FakeBackend()
    router = Router(backend, lambda call, _name, seconds, code: hub.monitor.finished(call, seconds, code))
    peer = connection(services(router), Door(), Principal("alice"))
    peer.receive(b'{"jsonrpc":"2.0","id":1,"method":"work.do","params":{"n":1},"metadata":{"request_id":"r-1"}}')
    peer.receive(b'{"jsonrpc":"2.0","method":"nobody","metadata":{"request_id":7}}')
    backend.calls[0].settle_result(b"0")
    message = await hub.next(REQUESTS)
    assert message.keys() == {"requests", "dropped"}
    failed, done = message["requests"]
    assert done.keys() == {
        *(
            "method",
            "principal",
            "tenant",
            "connection",
            "outcome",
            "code",
            "duration_ms",
            "queue_ms",
            "run_ms",
            "finished_at",
        ),
        *("id", "request_id", "trace_id", "executor", "chunks", "bytes_in", "bytes_out", "failure", "message"),
    }
    assert (done["method"], done["principal"], done["connection"]) == ("work.do", "alice", peer.number)
    assert (done["outcome"], done["code"]) == ("ok", 0)
    assert 0 <= done["duration_ms"] < 1000 * PATIENCE
    assert done["finished_at"] > 1_700_000_000_000
    assert (done["id"], done["request_id"], done["trace_id"], done["run_ms"]) == (1, "r-1", None, None)
    assert (done["queue_ms"], done["bytes_in"], done["bytes_out"]) == (0, len(b'{"n":1}'), 1)
    assert (failed["method"], failed["principal"], failed["id"]) == ("nobody", "alice", None)
    assert (failed["outcome"], failed["code"]) == ("METHOD_NOT_FOUND", ErrorCode.METHOD_NOT_FOUND)


async def test_calls_of_nobody_have_no_principal(hub: Hub) -> None:
    hub.listen(REQUESTS)
    hub.finish(code=12345)
    (request,) = (await hub.next(REQUESTS))["requests"]
    assert (request["principal"], request["connection"], request["duration_ms"]) == (None, None, 12.5)
    assert (request["outcome"], request["code"]) == ("APPLICATION_ERROR", 12345)


async def test_beyond_a_hundred_they_are_counted(hub: Hub) -> None:
    hub.finish(5)  # before anybody listened
    hub.listen(REQUESTS)
    hub.finish(MAX_REQUESTS + 17)
    message = await hub.next(REQUESTS)
    assert (len(message["requests"]), message["dropped"]) == (MAX_REQUESTS, 17)
    hub.finish(2)
    message = await hub.next(REQUESTS, 2)
    assert (len(message["requests"]), message["dropped"]) == (2, 0)


async def test_failures_are_told_however_many_calls_succeed(hub: Hub) -> None:
    hub.listen(REQUESTS)
    hub.finish(MAX_REQUESTS * 3)
    assert not hub.monitor.wants_requests
    hub.finish(MAX_REQUESTS + 1, ErrorCode.INTERNAL_ERROR)
    assert not hub.monitor.wants_failures
    message = await hub.next(REQUESTS)
    codes = [request["code"] for request in message["requests"]]
    assert codes == [0] * MAX_REQUESTS + [ErrorCode.INTERNAL_ERROR] * MAX_REQUESTS
    assert message["dropped"] == MAX_REQUESTS * 2 + 1
    assert (hub.monitor.wants_requests, hub.monitor.wants_failures) == (True, True)


async def test_where_nothing_ended_nothing_is_said(hub: Hub) -> None:
    hub.listen(REQUESTS, CONNECTIONS, LOGS)
    await ticks()
    assert hub.board.said == []


# --- connections ---


async def test_connections(hub: Hub) -> None:
    hub.listen(CONNECTIONS)
    peer, hub.open = hub.peer(), 7
    hub.monitor.opened(peer)
    hub.monitor.closed(peer)
    message = await hub.next(CONNECTIONS)
    assert message.keys() == {"opened", "closed", "dropped", "open", "connections"}
    (opened,), (closed,) = message["opened"], message["closed"]
    assert opened.keys() == {"connection", "peer", "principal", "tenant", "transport", "client", "opened_at"}
    assert (opened["transport"], opened["client"]) == ("websocket", "a test")
    assert (opened["connection"], opened["peer"], opened["principal"]) == (peer.number, "test", "alice")
    assert opened["opened_at"] > 1_700_000_000_000
    assert closed.keys() == {"connection", "duration_ms"}
    assert closed["connection"] == peer.number
    assert 0 <= closed["duration_ms"] < 1000 * PATIENCE
    assert (message["dropped"], message["open"]) == (0, 7)


async def test_beyond_two_hundred_connections_they_are_counted(hub: Hub) -> None:
    hub.listen(CONNECTIONS)
    for _ in range(MAX_ITEMS + 3):
        peer = hub.peer()
        hub.monitor.opened(peer)
        hub.monitor.closed(peer)
    message = await hub.next(CONNECTIONS)
    assert (len(message["opened"]), len(message["closed"]), message["dropped"]) == (MAX_ITEMS, MAX_ITEMS, 6)
    hub.monitor.closed(hub.peer())
    message = await hub.next(CONNECTIONS, 2)
    assert (len(message["opened"]), len(message["closed"]), message["dropped"]) == (0, 1, 0)


async def test_a_table_of_connections_each_second(hub: Hub) -> None:
    hub.listen(CONNECTIONS)
    door = Door()
    peer = connection(hub.services, door, Principal("alice"))
    hub.monitor.opened(peer)
    peer.receive(b'{"jsonrpc":"2.0","id":1,"method":"work.do"}')
    (row,) = (await hub.next_with(CONNECTIONS, "connections"))["connections"]
    assert row.keys() == {
        *(
            "connection",
            "peer",
            "principal",
            "tenant",
            "transport",
            "client",
            "duration_ms",
            "calls",
            "streams",
            "subscriptions",
        ),
        *("session", "received_bytes", "sent_bytes", "in_bytes_per_second", "out_bytes_per_second"),
        *("buffered_bytes", "lag_ms", "dropped_events"),
    }
    assert (row["connection"], row["principal"], row["transport"], row["client"]) == (
        *(peer.number, "alice", "websocket", "a test"),
    )
    assert (row["calls"], row["session"], row["in_bytes_per_second"]) == (1, False, None)
    door.received = 10_000
    (row,) = (await hub.next_with(CONNECTIONS, "connections", 2))["connections"]
    assert row["received_bytes"] == 10_000
    assert row["in_bytes_per_second"] == 10_000, "all of it in a second"
    assert row["out_bytes_per_second"] == 0


async def test_a_peer_that_does_not_read_comes_first_with_what_waits_and_what_was_dropped(hub: Hub) -> None:
    hub.listen(CONNECTIONS)
    peers = [connection(hub.services, Door(10_000, 800), Principal("alice")) for _ in range(3)]
    for peer in peers:
        hub.monitor.opened(peer)
    slow = peers[1].outbox
    slow.pause()
    for offset in range(1, 9):
        slow.send_event(Event("t", b'"' + b"x" * 40 + b'"', "e", offset, 1_000_000).encode())
    row = (await hub.next_with(CONNECTIONS, "connections"))["connections"][0]
    assert row["connection"] == peers[1].number
    assert row["dropped_events"] > 0
    assert row["buffered_bytes"] > 0
    assert row["lag_ms"] > 1_000_000_000, "since what waits longest was published"
    assert hub.monitor.book.dropped_events == row["dropped_events"]
    hub.monitor.closed(peers[1])
    assert hub.monitor.book.dropped_events == row["dropped_events"], "what was dropped stays counted"
    assert hub.monitor.book.buffered_bytes == 0


async def test_the_table_is_bounded(hub: Hub) -> None:
    for _ in range(MAX_CONNECTIONS + 5):
        hub.monitor.opened(hub.peer())
    hub.listen(CONNECTIONS)
    message = await hub.next_with(CONNECTIONS, "connections")
    assert len(message["connections"]) == MAX_CONNECTIONS


# --- logs ---


async def test_log_records_are_gathered_only_while_somebody_listens(hub: Hub) -> None:
    hub.listen(LOGS, METRICS)
    was_open = hub.logs.is_open
    hub.logs.records, hub.logs.dropped = [{"event": "said"}], 3
    assert await hub.next(LOGS) == {"records": [{"event": "said"}], "dropped": 3}
    hub.listen(METRICS)
    assert (was_open, hub.logs.is_open) == (True, False)
    hub.listen(METRICS, EXECUTORS)
    assert not hub.logs.is_open


# --- executors ---


async def test_executors_at_once_and_whenever_one_changes(hub: Hub) -> None:
    hub.listen(EXECUTORS)
    (executor,) = (await hub.next(EXECUTORS))["executors"]
    assert (executor["worker_id"], executor["status"]) == ("executor-0", "ready")
    assert executor["memory_usage"].keys() == {"rss_mb", "vms_mb", "percent"}
    await ticks()
    assert len(hub.board.said) == 1, "nothing changed and nothing works"
    hub.monitor.executors_changed()
    hub.monitor.executors_changed()
    await hub.next(EXECUTORS, 2)
    await ticks()
    assert len(hub.board.said) == 2


async def test_executors_each_second_while_they_work_and_once_more(hub: Hub) -> None:
    hub.listen(EXECUTORS)
    hub.router.in_flight = 1
    await hub.next(EXECUTORS, 4)
    hub.router.in_flight = 0
    await ticks()
    said = len(hub.board.said)
    await ticks()
    assert len(hub.board.said) == said


async def test_what_executors_run(hub: Hub) -> None:
    call = HubsOwn("work.do", b"{}")
    call.received = time.monotonic() - 2
    hub.pool.calls = [(call, True)]
    hub.router.in_flight = 1
    hub.listen(EXECUTORS)
    (executor,) = (await hub.next(EXECUTORS))["executors"]
    (running,) = executor["running"]
    assert (running["method"], running["parked"], running["trace_id"]) == ("work.do", True, None)
    assert running["age_ms"] >= 2000
    assert (running["state"], running["running_ms"]) == ("queued", None)
    call.executor, call.waited = object(), 1.5
    (executor,) = (await hub.next(EXECUTORS, 2))["executors"]
    (running,) = executor["running"]
    assert running["running_ms"] == pytest.approx(running["age_ms"] - 1500, abs=0.2), "without the time in the queue"
    (executor,) = (await hub.next(EXECUTORS, 3))["executors"]
    assert executor["cpu_percent"] >= 0
    assert executor["running"][0]["call"] == running["call"] > 0, "the number stays with the call"


# --- metrics ---


async def test_metrics(hub: Hub) -> None:
    hub.stats.record("work.do", 5.0, 0)  # before anybody listened: none of it is said
    hub.listen(METRICS)
    hub.board.count, hub.router.in_flight = 9, 2
    while hub.monitor._before is None:
        await asyncio.sleep(TICK_SECONDS / 2)
    for _ in range(90):
        hub.stats.record("work.do", 0.0009, 0)
    for _ in range(10):
        hub.stats.record("work.do", 0.04, ErrorCode.INTERNAL_ERROR, 0.03, 0.009, 10, 100)
    hub.board.published, hub.board.deliveries = 50, 500
    data = await hub.next(METRICS)
    assert data.keys() == {
        *("connections", "subscriptions", "calls_in_flight", "calls_waiting"),
        *("calls_per_second", "errors_per_second", "events_per_second", "deliveries_per_second"),
        *("p50_ms", "p95_ms", "p99_ms", "rss_mb", "streams", "errors", "events_dropped", "buffered_bytes"),
        *("wait_p50_ms", "wait_p95_ms", "wait_p99_ms", "run_p50_ms", "run_p95_ms", "run_p99_ms"),
        *("bytes_in_per_second", "bytes_out_per_second"),
    }
    assert (data["connections"], data["subscriptions"]) == (1, 9)
    assert (data["calls_in_flight"], data["calls_waiting"]) == (2, 3)
    assert data["calls_per_second"] == 100
    for other, share in (("errors", 0.1), ("events", 0.5), ("deliveries", 5)):
        assert data[f"{other}_per_second"] == pytest.approx(share * data["calls_per_second"], rel=0.01), other
    assert 0.5 <= data["p50_ms"] <= 1
    assert 25 <= data["p95_ms"] <= data["p99_ms"] <= 50
    assert data["rss_mb"] > 1
    assert data["errors"] == {"INTERNAL_ERROR": 10}
    assert 25 <= data["wait_p50_ms"] <= 50
    assert 5 <= data["run_p50_ms"] <= 10
    assert data["bytes_out_per_second"] == pytest.approx(10 * data["bytes_in_per_second"], rel=0.1)
    quiet = await hub.next(METRICS, 2)
    assert [quiet[f"{what}_per_second"] for what in ("calls", "errors", "events", "deliveries")] == [0, 0, 0, 0]
    assert quiet["p99_ms"] == 0


async def test_rates_begin_when_somebody_listens(hub: Hub) -> None:
    hub.listen(METRICS, REQUESTS)
    await hub.next(METRICS)
    hub.listen(REQUESTS)
    for _ in range(1000):
        hub.stats.record("work.do", 0.001, 0)
    hub.listen(METRICS, REQUESTS)
    said = len(hub.board.of(METRICS))
    assert (await hub.next(METRICS, said + 1))["calls_per_second"] == 0
