"""Limits of principals and addresses at a real hub: this machine has more addresses than one."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.hub import RunningHub, ready_hub
from tests.support.match import require
from tests.support.peer import Peer, peer
from tests.support.timing import until
from trunkline.edge import pending_connections
from trunkline.edge.access import failed_logins
from trunkline.edge.access.tokens import new_token
from trunkline.edge.http import protocol
from trunkline_protocol.errors import ErrorCode

TOKENS: Final = {name: new_token() for name in ("ops", "ann", "ben", "eve", "new", "server", "other", "other eve")}
TENANTS: Final = {"ann": "acme", "ben": "acme", "other eve": "elsewhere"}
ROLES: Final = {"ops": ["admin"], "server": ["callee"], "other": ["callee"]}
FEW: Final = 8
"""Connections that may wait for their peers to authenticate."""

SLOW: Final = {
    f"{pending_connections.__name__}:MAX_PENDING": FEW,
    f"{failed_logins.__name__}:WINDOW": 60_000.0,
    f"{protocol.__name__}:HEAD_TIMEOUT": 600.0,
    f"{protocol.__name__}:REFUSED_HEAD_TIMEOUT": 600.0,
}
"""So that nothing of what is counted is forgotten, and nobody is cut off, during a test."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shares")


@pytest.fixture(scope="module")
def hub(folder: Path) -> Iterator[RunningHub]:
    entries = [
        f'[[tokens]]\nname = "{name.removeprefix("other ")}"\nsha256 = "{digest}"\n'
        f'tenant = "{TENANTS.get(name, "others")}"\nroles = {ROLES.get(name, [])}\n'
        for name, (_token, digest) in TOKENS.items()
    ]
    (tokens := folder / "tokens.toml").write_text("\n".join(entries))
    tokens.chmod(0o600)
    env = {
        "TRUNKLINE_TOKENS_FILE": str(tokens),
        "TRUNKLINE_AUTH_CALL": "true",
        "TRUNKLINE_AUTH_SECONDS": "600",
        "TRUNKLINE_AUDIT_FILE": str(folder / "audit.jsonl"),
    }
    with ready_hub(env=env, constants=SLOW) as running:
        yield running


@pytest.fixture
async def ops(hub: RunningHub) -> AsyncIterator[Peer]:
    """An administrator, whose changes of settings are undone at the end."""
    async with come(hub, "ops") as connection:
        yield connection
        await connection.result("config.reload")


def come(hub: RunningHub, name: str | None, address: str = "127.0.0.1") -> Any:
    headers = {} if name is None else {"Authorization": f"Bearer {TOKENS.get(name, (name,))[0]}"}
    return peer(hub.url, headers, local_addr=(address, 0))


async def limit(ops: Peer, **settings: float) -> None:
    await ops.result("config.update", {"config": settings})


async def refusal(
    hub: RunningHub, name: str | None, address: str = "127.0.0.1"
) -> tuple[int, dict[str, Any], str | None]:
    """The status, the error and ``Retry-After`` of an upgrade that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with come(hub, name, address):
            pass
    response = refused.value.response
    return response.status_code, json.loads(response.body)["error"], response.headers.get("Retry-After")


def ask(hub: RunningHub, name: str, address: str) -> tuple[int, dict[str, Any]]:
    """The status of a call over HTTP from an address, and its answer."""
    connection = http.client.HTTPConnection(hub.host, hub.port, timeout=60, source_address=(address, 0))
    headers = {"Authorization": f"Bearer {TOKENS.get(name, (name,))[0]}", "Content-Type": "application/json"}
    try:
        connection.request("POST", "/rpc", b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}', headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def metric(hub: RunningHub, name: str) -> float:
    page = hub.get("/metrics", {"Authorization": f"Bearer {TOKENS['ops'][0]}"}).body.decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return 0.0 if found is None else float(found[1])


async def test_connections_of_an_address(hub: RunningHub, ops: Peer) -> None:
    await limit(ops, max_connections_per_address=3)
    refused = 'trunkline_refused_total{limit="TRUNKLINE_MAX_CONNECTIONS_PER_ADDRESS"}'
    before = metric(hub, refused)
    async with AsyncExitStack() as stack:
        for name in ("ann", "ben", "eve"):
            await stack.enter_async_context(come(hub, name, "127.0.0.2"))
        status, error, wait = await refusal(hub, "ann", "127.0.0.2")
        assert (status, wait) == (503, "1")
        named = {"limit": "TRUNKLINE_MAX_CONNECTIONS_PER_ADDRESS", "of": "address", "max": 3}
        require({"code": ErrorCode.RESOURCE_EXHAUSTED, "data": named}, error)
        assert "127.0.0.2" in error["message"]
        assert ask(hub, "ann", "127.0.0.2")[0] == 503
        assert ask(hub, "ann", "127.0.0.3")[0] == 200
        async with come(hub, "ann", "127.0.0.3") as other:
            await other.result("rpc.ping")
        assert metric(hub, refused) == before + 2

    async def has_room() -> bool:
        return ask(hub, "ann", "127.0.0.2")[0] == 200

    await until(has_room, "the address has room again")
    for _ in range(10):
        assert ask(hub, "ann", "127.0.0.2")[0] == 200, "a request gives back what it took"


async def test_idle_sockets_of_an_address(hub: RunningHub, ops: Peer) -> None:
    await limit(ops, max_connections_per_address=3)
    idle = [socket.create_connection((hub.host, hub.port), 60, ("127.0.0.7", 0)) for _ in range(3)]
    try:

        async def is_full() -> bool:
            return answered(hub, "127.0.0.7") == 503

        await until(is_full, "the hub has accepted the idle ones")
        status, error, _ = await refusal(hub, "ann", "127.0.0.7")
        assert status == 503
        require({"data": {"limit": "TRUNKLINE_MAX_CONNECTIONS_PER_ADDRESS", "of": "address", "max": 3}}, error)
        assert ask(hub, "ann", "127.0.0.2")[0] == 200
    finally:
        for each in idle:
            each.close()

    async def has_room() -> bool:
        return answered(hub, "127.0.0.7") == 200

    await until(has_room, "the sockets are given back")
    async with AsyncExitStack() as stack:  # a WebSocket is a connection, and no idle socket any more
        for _ in range(3):
            await stack.enter_async_context(come(hub, "ann", "127.0.0.7"))
        assert answered(hub, "127.0.0.7") == 200


def answered(hub: RunningHub, address: str) -> int:
    connection = http.client.HTTPConnection(hub.host, hub.port, timeout=60, source_address=(address, 0))
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("setting", "of", "who"),
    [("max_connections_per_principal", "principal", "ann"), ("max_connections_per_tenant", "tenant", "ben")],
)
async def test_connections_of_a_principal_and_of_a_tenant(
    hub: RunningHub, ops: Peer, setting: str, of: str, who: str
) -> None:
    await limit(ops, **{setting: 2})
    named = {"limit": f"TRUNKLINE_{setting.upper()}", "of": of, "max": 2}
    async with come(hub, "ann", "127.0.0.2"), come(hub, None, "127.0.0.3") as late:
        await late.result("auth", {"token": TOKENS[who][0]})
        require({"code": ErrorCode.RESOURCE_EXHAUSTED, "data": named}, (await refusal(hub, who))[1])
        require({"error": {"data": named}}, ask(hub, who, "127.0.0.4")[1])
        async with come(hub, None) as later:
            error = await later.error("auth", {"token": TOKENS[who][0]})
            require({"code": ErrorCode.RESOURCE_EXHAUSTED, "data": named}, error)
            assert await later.close_code() == 1013
        async with come(hub, "eve") as other:
            await other.result("rpc.ping")

    async def has_room() -> bool:
        return ask(hub, who, "127.0.0.2")[0] == 200

    await until(has_room, "there is room again")


async def test_silent_sockets_of_one_address_do_not_lock_others_out(hub: RunningHub) -> None:
    async with AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(come(hub, None, "127.0.0.5")) for _ in range(FEW)]
        status, error, _ = await refusal(hub, None, "127.0.0.5")
        assert status == 503
        require({"data": {"limit": "TRUNKLINE_AUTH_CALL"}}, error)
        async with come(hub, None, "127.0.0.6") as guest:
            await guest.result("auth", {"token": TOKENS["eve"][0]})
            await guest.result("rpc.ping")
        assert await silent[0].close_code() == 1013
        async with come(hub, None, "127.0.0.5") as neighbour:  # there is room again
            await neighbour.result("auth", {"token": TOKENS["ann"][0]})


async def test_an_address_that_guesses_tokens(hub: RunningHub, ops: Peer, folder: Path) -> None:
    await limit(ops, failed_logins=3)
    failed, before = "trunkline_failed_logins_total", metric(hub, "trunkline_failed_logins_total")
    assert ask(hub, "ben", "127.0.0.8")[0] == 200
    wrong = [await refusal(hub, f"wrong {n}", "127.0.0.9") for n in range(3)]
    assert [(status, error["code"]) for status, error, _ in wrong] == [(403, ErrorCode.UNAUTHENTICATED)] * 3
    status, error, wait = await refusal(hub, "wrong", "127.0.0.9")
    assert status == 429
    assert int(wait or 0) == -(-error["data"]["retry_after_ms"] // 1000)
    named = {"limit": "TRUNKLINE_FAILED_LOGINS", "of": "address", "max": 3}
    require({"code": ErrorCode.RATE_LIMITED, "data": named}, error)
    assert ask(hub, "wrong", "127.0.0.9")[0] == 429
    async with come(hub, None, "127.0.0.9") as caller:
        require({"code": ErrorCode.RATE_LIMITED, "data": named}, await caller.error("auth", {"token": "wrong"}))
        assert await caller.close_code() == 1013
    assert ask(hub, "ben", "127.0.0.9")[0] == 200, "the hub has accepted this token before"
    assert ask(hub, "new", "127.0.0.8")[0] == 200, "another address does not wait"
    assert ask(hub, "wrong", "127.0.0.8")[0] == 401
    assert metric(hub, failed) == before + 4

    def audited() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
        return [line for line in lines if line["event"] == "refused" and line["peer"].startswith("127.0.0.9:")]

    refused = await until(lambda: found if len(found := audited()) == 6 else None, "the refusals are audited")
    assert [line["outcome"] for line in refused] == ["UNAUTHENTICATED"] * 3 + ["RATE_LIMITED"] * 3
    assert refused[-1]["limit"] == "TRUNKLINE_FAILED_LOGINS"


async def test_methods_that_a_principal_serves(hub: RunningHub, ops: Peer) -> None:
    await limit(ops, max_registrations_per_principal=3)
    named = {"limit": "TRUNKLINE_MAX_REGISTRATIONS_PER_PRINCIPAL", "of": "principal", "max": 3}
    async with come(hub, "server") as one, come(hub, "server") as two, come(hub, "other") as other:
        for served, name in ((one, "a.one"), (one, "a.two"), (two, "a.one")):
            await served.result("method.register", {"method": name})
        await one.result("method.register", {"method": "a.one", "max_concurrency": 5})  # anew: it serves it already
        for served in (one, two):
            error = await served.error("method.register", {"method": "a.three"})
            require({"code": ErrorCode.RESOURCE_EXHAUSTED, "data": named}, error)
        await other.result("method.register", {"method": "b.one"})
        for number in range(5):
            await one.result("method.unregister", {"method": "a.two"})
            await one.result("method.register", {"method": "a.two"}, id=f"again {number}")
        await two.socket.close()

        async def has_room() -> bool:
            return "result" in await one.call("method.register", {"method": "a.three"})

        await until(has_room, "what a client served is given back when it is gone")
        require({"data": named}, await one.error("method.register", {"method": "a.four"}))


def mcp(hub: RunningHub, method: str, name: str, session: str | None = None) -> tuple[int, str | None, bytes]:
    """The status of a request to ``/mcp``, the session that it names, and the body."""
    connection = http.client.HTTPConnection(hub.host, hub.port, timeout=60)
    headers = {"Authorization": f"Bearer {TOKENS[name][0]}", "Content-Type": "application/json"}
    headers["Accept"] = "application/json, text/event-stream"
    if session is not None:
        headers["Mcp-Session-Id"] = session
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    try:
        connection.request(method, "/mcp", body if method == "POST" else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers.get("mcp-session-id"), answer.read()
    finally:
        connection.close()


async def test_mcp_sessions_of_a_principal(hub: RunningHub, ops: Peer) -> None:
    await limit(ops, max_mcp_sessions_per_principal=2)
    opened = [mcp(hub, "POST", "eve") for _ in range(2)]
    assert [status for status, _, _ in opened] == [200, 200]
    status, _, body = mcp(hub, "POST", "eve")
    assert status == 503
    named = {"limit": "TRUNKLINE_MAX_MCP_SESSIONS_PER_PRINCIPAL", "of": "principal", "max": 2}
    require({"error": {"code": ErrorCode.RESOURCE_EXHAUSTED, "data": named}}, json.loads(body))
    assert mcp(hub, "POST", "ann")[0] == 200, "another one has its own"
    assert mcp(hub, "DELETE", "other eve", opened[0][1])[0] == 404, "of another tenant, whatever its name"
    assert mcp(hub, "DELETE", "eve", opened[0][1])[0] == 200
    assert mcp(hub, "POST", "eve")[0] == 200
