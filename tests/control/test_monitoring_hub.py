"""What a real hub says of itself, and how admins end others' calls."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.peer import Peer, peer
from tests.support.timing import START
from tests.support.timing import until as reached

ADMIN = "an-admins-token-0001"
WORKER = "a-workers-token-0002"
FLOOD = 1000
"""Log records, in no time."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens.toml"
    tokens.write_text(
        "".join(
            f'[[tokens]]\nname = "{name}"\nsha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\n{roles}\n'
            for name, token, roles in (("boss", ADMIN, 'roles = ["admin"]'), ("worker", WORKER, ""))
        )
    )
    tokens.chmod(0o600)
    env = {"TRUNKLINE_TOKENS_FILE": str(tokens), "TRUNKLINE_MAX_CONCURRENCY": "1", "TRUNKLINE_MAX_BATCH": str(FLOOD)}
    with ready_hub(DEBUG_METHODS, "lab", cwd=MODULES, executors=1, env=env) as running:
        yield running


def as_(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def until(one: Peer, topic: str, found: Callable[[Any], Any]) -> Any:
    """Wait for an event of a topic in which ``found`` finds something; that."""
    async with asyncio.timeout(START):
        while True:
            message = one.others.pop(0) if one.others else await one.receive(START)
            params = message.get("params", {})
            if message.get("method") == "event" and params["topic"] == topic and (it := found(params["data"])):
                return it


async def listed(admin: Peer, number: int) -> list[dict[str, Any]]:
    """``system.calls`` once it has so many."""

    async def found() -> list[dict[str, Any]] | None:
        calls: list[dict[str, Any]] = (await admin.result("system.calls"))["calls"]
        return calls if len(calls) == number else None

    return await reached(found, f"there are {number} calls")


async def learn_slow(worker: Peer) -> None:
    """After a slow call the hub sends nothing ahead of what the executor can run: what is more waits in its queue."""
    await worker.result("debug.sleep", {"seconds": 0.2})


async def test_an_admin_sees_and_ends_the_calls_of_others(hub: RunningHub) -> None:
    async with peer(hub.url, headers=as_(ADMIN)) as admin, peer(hub.url, headers=as_(WORKER)) as worker:
        await learn_slow(worker)
        trace = "0af7651916cd43dd8448eb211c80319c"
        metadata = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        running = await worker.request("debug.sleep", {"seconds": 60}, id="mine", metadata=metadata)
        await listed(admin, 1)
        queued = await worker.request("debug.echo", {"value": 1})
        first, second = await listed(admin, 2)
        assert (first["method"], first["id"], first["principal"]) == ("debug.sleep", "mine", "worker")
        assert (first["state"], first["executor"], first["trace_id"]) == ("running", "executor-0", trace)
        assert (second["method"], second["state"], second["executor"]) == ("debug.echo", "queued", None)
        assert first["age_ms"] >= second["age_ms"] >= 0
        assert first["age_ms"] >= first["running_ms"] > 0
        assert second["running_ms"] is None
        assert first["connection"] == second["connection"]

        assert await admin.result("system.cancel", {"call": first["call"]}) == {
            "call": first["call"],
            "cancelled": True,
        }
        error = (await worker.reply(running))["error"]
        assert (error["code"], error["data"]["maybe_executed"]) == (-32800, True)
        assert "boss" in error["message"]
        assert (await worker.reply(queued))["result"] == 1, "its executor is free again"
        assert await admin.result("system.cancel", {"call": first["call"]}) == {
            "call": first["call"],
            "cancelled": False,
        }


async def test_a_queued_call_that_is_cancelled_was_never_executed(hub: RunningHub) -> None:
    async with peer(hub.url, headers=as_(ADMIN)) as admin, peer(hub.url, headers=as_(WORKER)) as worker:
        await learn_slow(worker)
        running = await worker.request("debug.sleep", {"seconds": 60})
        await listed(admin, 1)
        queued = await worker.request("debug.echo", {"value": 1})
        _, second = await listed(admin, 2)
        await admin.result("system.cancel", {"call": second["call"]})
        assert (await worker.reply(queued))["error"]["data"]["maybe_executed"] is False
        await worker.cancel(running)
        await worker.reply(running)


async def test_others_may_neither_see_nor_end_calls(hub: RunningHub) -> None:
    async with peer(hub.url, headers=as_(WORKER)) as worker:
        assert (await worker.error("system.calls"))["code"] == 6002
        assert (await worker.error("system.cancel", {"call": 1}))["code"] == 6002
        assert (await worker.error("system.topics"))["code"] == 6002
        for order in ("executors.drain", "executors.reload", "executors.assign"):
            assert (await worker.error(order, {"worker_id": "executor-0"}))["code"] == 6002
        assert (await worker.error("system.failure", {"failure": 1}))["code"] == 6002
        assert (await worker.error("subscribe", {"topic": "system.logs"}))["code"] == 6002


async def test_executors_tell_what_they_run_and_why_they_were_restarted(hub: RunningHub) -> None:
    async with peer(hub.url, headers=as_(ADMIN)) as admin, peer(hub.url, headers=as_(WORKER)) as worker:
        await admin.result("subscribe", {"topic": "system.executors"})
        sleeping = await worker.request("debug.sleep", {"seconds": 60})

        def busy(data: Any) -> Any:
            (executor,) = data["executors"]
            return executor if executor["running"] else None

        executor = await until(admin, "system.executors", busy)
        assert [call["method"] for call in executor["running"]] == ["debug.sleep"]
        assert executor["running"][0]["principal"] == "worker"
        os.kill(executor["pid"], signal.SIGKILL)
        assert (await worker.reply(sleeping))["error"]["code"] == 2001

        def restarted(data: Any) -> Any:
            (executor,) = data["executors"]
            return executor if executor["status"] == "ready" and executor["restarts"] else None

        executor = await until(admin, "system.executors", restarted)
        assert executor["last_restart"]["words"] == "it was ended by SIGKILL"
        assert (executor["last_restart"]["cause"], executor["last_restart"]["number"]) == ("signal", 1)
        assert executor["restart_causes"] == {"signal": 1}


async def test_connections_tell_their_clients_name(hub: RunningHub) -> None:
    async with peer(hub.url, headers=as_(ADMIN)) as admin:
        await admin.result("subscribe", {"topic": "system.connections"})

        def row_of(data: Any, client: str) -> Any:
            return next((row for row in data["connections"] or () if row["client"] == client), None)

        def has_sent(data: Any) -> Any:
            row = row_of(data, "the tests/1.0")
            return row if row is not None and row["received_bytes"] > 5000 else None

        async with peer(hub.url, headers=as_(WORKER), user_agent_header="the tests/1.0") as worker:
            await worker.result("debug.echo", {"value": "x" * 5000})
            row = await until(admin, "system.connections", has_sent)
            assert (row["transport"], row["principal"]) == ("websocket", "worker")
            assert row["sent_bytes"] is None or row["sent_bytes"] > 5000

        def is_alone(data: Any) -> Any:
            return data if len(data["connections"] or ()) == 1 else None

        assert row_of(await until(admin, "system.connections", is_alone), "the tests/1.0") is None


async def test_requests_tell_where_their_time_went(hub: RunningHub) -> None:
    async with peer(hub.url, headers=as_(ADMIN)) as admin, peer(hub.url, headers=as_(WORKER)) as worker:
        await admin.result("subscribe", {"topic": "system.requests"})
        sleep = {"jsonrpc": "2.0", "method": "debug.sleep", "params": {"seconds": 0.2}}
        order = {"metadata": {"request_id": "order-7"}}
        await worker.send([sleep | order | {"id": number} for number in range(2)])  # a batch: both come at once
        assert len(await worker.receive()) == 2
        seen: list[dict[str, Any]] = []

        def both(data: Any) -> Any:
            seen.extend(request for request in data["requests"] if request["request_id"] == "order-7")
            return len(seen) >= 2

        await until(admin, "system.requests", both)
        first, second = seen
        assert first["method"] == second["method"] == "debug.sleep"
        assert first["executor"] == "executor-0"
        assert first["run_ms"] >= 190
        assert second["queue_ms"] >= 150
        assert second["duration_ms"] >= second["queue_ms"] + second["run_ms"] - 1


async def test_logs_are_told_and_hold_no_token(hub: RunningHub) -> None:
    async with peer(hub.url, headers=as_(ADMIN)) as admin:
        await admin.result("subscribe", {"topic": "system.logs"})
        await admin.notify("no.such.method", {"text": "x"})

        def about(data: Any) -> Any:
            return next((record for record in data["records"] if "no.such.method" in record["event"]), None)

        record = await until(admin, "system.logs", about)
        assert (record["level"], record["logger"]) == ("info", "trunkline.hub")
        for token in (ADMIN, WORKER):
            assert token not in "\n".join(hub.stderr)


async def test_a_flood_of_logs_is_told_in_part_and_counted(hub: RunningHub) -> None:
    async with peer(hub.url, headers=as_(ADMIN)) as admin:
        await admin.result("subscribe", {"topic": "system.logs"})
        await admin.send([{"jsonrpc": "2.0", "method": "no.such.method"}] * FLOOD)  # a batch: all come at once
        await admin.result("rpc.ping")
        told = dropped = 0

        def all_of_them(data: Any) -> Any:
            nonlocal told, dropped
            told += sum("no.such.method" in record["event"] for record in data["records"])
            dropped += data["dropped"]
            return told + dropped >= FLOOD

        await until(admin, "system.logs", all_of_them)
        assert dropped > 0
        assert told < FLOOD
