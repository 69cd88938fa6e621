"""Methods whose last client is gone: a service that is restarted, drained, or replaced by another version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.test_leaving_callees_hub import asked_in_session
from tests.hub.test_registrations_hub import answer, asked, callee
from tests.hub.test_sessions_hub import SessionPeer, is_away, session_peer
from tests.support.hub import RunningHub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import until
from trunkline_protocol.errors import ErrorCode

GRACE = 1.0
NEVER = {"timeout_ms": 60_000}
NOBODY = {
    "code": ErrorCode.WORKER_UNAVAILABLE,
    "data": {"retryable": True, "maybe_executed": False, "retry_after_ms": 1000},
}


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with RunningHub(("trunkline.methods.debug",), env={"TRUNKLINE_CALLEE_GRACE": str(GRACE)}) as running:
        yield running.ready()


@pytest.fixture(scope="module")
def patient_hub() -> Iterator[RunningHub]:
    """One whose grace no test outlives."""
    with RunningHub(("trunkline.methods.debug",), env={"TRUNKLINE_CALLEE_GRACE": "600"}) as running:
        yield running.ready()


async def waiting(hub: RunningHub, caller: Peer, name: str, **params: Any) -> Any:
    """Make a call that waits for a callee."""
    request = await caller.request(name, params, metadata=NEVER)
    await until(lambda: _is_waiting(caller, request), f"{name} waits")
    return request


async def _is_waiting(caller: Peer, request: Any) -> bool:
    calls = (await caller.result("system.calls"))["calls"]
    return any(each["id"] == request and each["state"] == "queued" for each in calls)


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_calls_wait_for_a_service_that_is_restarted(patient_hub: RunningHub, how: str) -> None:
    name = f"back.{how}"
    async with peer(patient_hub.url) as caller:
        async with callee(patient_hub, name) as node:
            if how == "abort":
                node.socket.transport.abort()
        await until(lambda: is_away(caller, name), "the hub has noticed")
        calls = [await caller.request(name, {"n": n}, metadata=NEVER) for n in range(3)]
        async with callee(patient_hub, name) as again:
            for _ in calls:
                request = await asked(again)
                await answer(again, request, request["params"]["n"])
            assert [(await caller.reply(each))["result"] for each in calls] == [0, 1, 2]


async def test_a_client_that_closes_its_session_may_come_back(patient_hub: RunningHub) -> None:
    async with peer(patient_hub.url) as caller:
        async with session_peer(patient_hub) as node:
            await register(node, "back.session")
            await node.request("session.close")
            await node.connection.socket.wait_closed()
        await until(lambda: is_away(caller, "back.session"), "the hub has noticed")
        call = await caller.request("back.session", metadata=NEVER)
        async with callee(patient_hub, "back.session") as again:
            await answer(again, await asked(again), "back")
            assert (await caller.reply(call))["result"] == "back"


async def test_after_the_grace_waiting_calls_end_and_the_name_is_unknown(hub: RunningHub) -> None:
    async with peer(hub.url) as caller:
        async with callee(hub, "grace.over", max_concurrency=1) as node:
            running = await caller.request("grace.over", metadata=NEVER)
            await asked(node)
            behind = await caller.request("grace.over", metadata=NEVER)
            await caller.result("rpc.ping")  # the hub has it while there is a callee
        require({"error": {"code": ErrorCode.WORKER_CRASHED}}, await caller.reply(running))
        error = (await caller.reply(behind))["error"]
        require(NOBODY, error)
        assert "grace.over" in error["message"]
        require({"code": ErrorCode.METHOD_NOT_FOUND}, await caller.error("grace.over"))


async def test_a_deadline_that_is_shorter_counts(patient_hub: RunningHub) -> None:
    async with peer(patient_hub.url) as caller:
        async with callee(patient_hub, "grace.short"):
            pass
        await until(lambda: is_away(caller, "grace.short"), "the hub has noticed")
        error = (await caller.call("grace.short", metadata={"timeout_ms": 50}))["error"]
        require({"code": ErrorCode.COMMUNICATION_TIMEOUT, "data": {"maybe_executed": False}}, error)


async def test_unregistered_for_good_it_is_unknown_at_once(patient_hub: RunningHub) -> None:
    async with peer(patient_hub.url) as caller, callee(patient_hub, "good.bye", max_concurrency=1) as node:
        running = await caller.request("good.bye", metadata=NEVER)
        request = await asked(node)
        behind = await caller.request("good.bye", metadata=NEVER)
        assert (await node.result("method.unregister", {"method": "good.bye"}))["unregistered"] is True
        require(NOBODY, (await caller.reply(behind))["error"])
        require({"code": ErrorCode.METHOD_NOT_FOUND}, await caller.error("good.bye"))
        await answer(node, request, "done")
        assert (await caller.reply(running))["result"] == "done"


async def test_a_callee_that_drains_is_told_when_its_calls_have_ended(patient_hub: RunningHub) -> None:
    async with peer(patient_hub.url) as caller, callee(patient_hub, "drain.one", max_concurrency=2) as node:
        running = [await caller.request("drain.one", {"n": n}, metadata=NEVER) for n in range(2)]
        requests = [await asked(node) for _ in running]
        drained = await node.request("method.unregister", {"method": "drain.one", "drain": True})
        late = await waiting(patient_hub, caller, "drain.one", n=9)
        await answer(node, requests[0], "first")
        assert (await caller.reply(running[0]))["result"] == "first"
        assert await node.result("debug.echo", {"value": 1}) == 1
        assert not any(message.get("id") == drained for message in node.others), "one of them runs"
        await answer(node, requests[1], "second")
        assert (await node.reply(drained))["result"] == {"method": "drain.one", "unregistered": True}
        async with callee(patient_hub, "drain.one") as successor:
            await answer(successor, await asked(successor), "third")
            assert (await caller.reply(late))["result"] == "third"


async def test_one_that_has_nothing_to_do_drains_at_once_and_may_come_back(patient_hub: RunningHub) -> None:
    async with peer(patient_hub.url) as caller, callee(patient_hub, "drain.idle") as node:
        params = {"method": "drain.idle", "drain": True}
        assert (await node.result("method.unregister", params))["unregistered"] is True
        assert (await node.result("method.unregister", params))["unregistered"] is False
        call = await waiting(patient_hub, caller, "drain.idle")
        await node.result("method.register", {"method": "drain.idle"})
        await answer(node, await asked(node), "here again")
        assert (await caller.reply(call))["result"] == "here again"


async def test_one_that_registers_again_while_it_drains_is_told_so(patient_hub: RunningHub) -> None:
    async with peer(patient_hub.url) as caller, callee(patient_hub, "drain.back") as node:
        running = await caller.request("drain.back", metadata=NEVER)
        request = await asked(node)
        drained = await node.request("method.unregister", {"method": "drain.back", "drain": True})
        await node.result("method.register", {"method": "drain.back"})
        assert (await node.reply(drained))["result"]["unregistered"] is True
        await answer(node, request, "done")
        assert (await caller.reply(running))["result"] == "done"


async def test_an_idempotent_call_waits_for_the_successor_of_its_callee(patient_hub: RunningHub) -> None:
    async with peer(patient_hub.url) as caller:
        async with callee(patient_hub, "safe.call", idempotent=True) as node:
            call = await caller.request("safe.call", metadata=NEVER)
            await asked(node)
            node.socket.transport.abort()
        async with callee(patient_hub, "safe.call", idempotent=True) as successor:
            await answer(successor, await asked(successor), "moved")
            assert (await caller.reply(call))["result"] == "moved"


async def test_calls_do_not_wait_for_what_is_served_otherwise_now(patient_hub: RunningHub) -> None:
    async with peer(patient_hub.url) as caller:
        async with callee(patient_hub, "other.contract"):
            pass
        await until(lambda: is_away(caller, "other.contract"), "the hub has noticed")
        call = await waiting(patient_hub, caller, "other.contract")
        async with callee(patient_hub, "other.contract", idempotent=True) as node:
            require(NOBODY, (await caller.reply(call))["error"])
            later = await caller.request("other.contract", metadata=NEVER)
            await answer(node, await asked(node), "new")
            assert (await caller.reply(later))["result"] == "new"


async def register(node: SessionPeer, name: str, **options: Any) -> Any:
    reply = await node.reply(await node.request("method.register", {"method": name, **options}))
    assert "result" in reply, reply


async def test_another_version_takes_the_place_of_a_client_that_was_killed(patient_hub: RunningHub) -> None:
    async with peer(patient_hub.url) as caller, session_peer(patient_hub) as killed:
        await register(killed, "deploy.me")
        await register(killed, "deploy.other")
        running = await caller.request("deploy.me", metadata=NEVER)
        await asked_in_session(killed)
        killed.cut()
        await until(lambda: is_away(caller, "deploy.me"), "the hub has noticed")
        async with callee(patient_hub, "deploy.me", idempotent=True) as node:
            error = (await caller.reply(running))["error"]
            require({"code": ErrorCode.WORKER_CRASHED, "data": {"maybe_executed": True}}, error)
            call = await caller.request("deploy.me", metadata=NEVER)
            await answer(node, await asked(node), "version 2")
            assert (await caller.reply(call))["result"] == "version 2"
            async with session_peer(patient_hub, killed) as late:
                require({"resumed": False, "reason": "unknown"}, late.opened)


async def test_one_that_is_connected_keeps_its_place(patient_hub: RunningHub) -> None:
    async with session_peer(patient_hub) as node, peer(patient_hub.url) as other:
        await register(node, "keep.mine")
        error = await other.error("method.register", {"method": "keep.mine", "streaming": True})
        assert error["code"] == ErrorCode.INVALID_PARAMS


async def test_nobody_takes_the_place_of_another_principals_client(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.toml"
    entries = "".join(
        f'[[tokens]]\nname = "{name}"\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n'
        'roles = ["callee", "admin"]\n'
        for name in ("ann", "bob")
    )
    tokens.write_text(entries)
    tokens.chmod(0o600)
    with RunningHub(("trunkline.methods.debug",), env={"TRUNKLINE_TOKENS_FILE": str(tokens)}) as hub:
        hub.ready()
        async with peer(hub.url, {"Authorization": "Bearer ann"}) as connection:
            killed = SessionPeer(connection)
            await killed.open()
            await register(killed, "anns.own")
            killed.cut()
        async with peer(hub.url, {"Authorization": "Bearer bob"}) as bob:
            await until(lambda: is_away(bob, "anns.own"), "the hub has noticed")
            error = await bob.error("method.register", {"method": "anns.own", "streaming": True})
            assert error["code"] == ErrorCode.FORBIDDEN
            assert "served by another principal" in error["message"]


async def test_the_next_hub_waits_for_the_clients_that_served_at_the_one_before(tmp_path: Path) -> None:
    arguments = ("--data", str(tmp_path / "data"))
    with RunningHub(arguments=arguments) as before:
        async with callee(before.ready(), "served.before"):
            before.stop()
    env = {"TRUNKLINE_CALLEE_GRACE": "600"}
    with RunningHub(arguments=arguments, env=env) as hub:
        async with peer(hub.ready().url) as caller:
            call = await waiting(hub, caller, "served.before", n=1)
            require({"error": {"code": ErrorCode.METHOD_NOT_FOUND}}, await caller.call("never.served"))
            async with callee(hub, "served.before") as again:
                await answer(again, await asked(again), "back")
                assert (await caller.reply(call))["result"] == "back"


async def test_it_waits_no_longer_than_for_others_and_for_none_that_left_for_good(tmp_path: Path) -> None:
    arguments = ("--data", str(tmp_path / "data"))
    with RunningHub(arguments=arguments) as before:
        async with callee(before.ready(), "served.stays"), callee(before, "served.leaves") as leaving:
            await leaving.result("method.unregister", {"method": "served.leaves"})
            before.stop()
    with RunningHub(arguments=arguments, env={"TRUNKLINE_CALLEE_GRACE": str(GRACE)}) as hub:
        async with peer(hub.url) as caller:
            hub.ready()
            require({"error": {"code": ErrorCode.METHOD_NOT_FOUND}}, await caller.call("served.leaves"))
            await until(lambda: _is_unknown(caller, "served.stays"), "its grace is over")
    assert not (tmp_path / "data" / "served.json").exists(), "it was read once, and nobody served since"


async def _is_unknown(caller: Peer, name: str) -> bool:
    error = (await caller.call(name, metadata={"timeout_ms": 100}))["error"]
    return bool(error["code"] == ErrorCode.METHOD_NOT_FOUND)
