"""What a real hub does with its own methods, against the rules of SPEC.md: the table is held to them, by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.http.http_client import rpc, send
from tests.support.hub import DEBUG_METHODS, RunningHub, ready_hub
from tests.support.peer import Peer, peer
from trunkline.edge.access.tokens import new_token
from trunkline.hub import client_connection
from trunkline_protocol.errors import ErrorCode
from trunkline_protocol.hub_methods import METHODS, NOTIFICATIONS

ABOUT_A_CONNECTION = {
    "auth", "session.open", "session.close", "subscribe", "unsubscribe", "method.register", "method.unregister",
}  # fmt: skip
ALONE_IN_A_FRAME = ABOUT_A_CONNECTION - {"method.unregister"}
UNNUMBERED = {"auth", "rpc.ping", "session.open", "session.close", "subscribe", "unsubscribe"}
FOR_ADMINS = {
    "system.calls", "system.cancel", "system.topics", "system.failure", "executors.drain", "executors.assign",
    "executors.reload", "cache.clear", "config.get", "config.validate", "config.update", "config.reload",
    "tenants.create", "tenants.list", "tenants.get", "tenants.update", "tenants.delete",
    "tenants.usage",
}  # fmt: skip

TOKEN, DIGEST = new_token()


@pytest.fixture(scope="module")
def admitted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub that knows one principal, which has no role and no patterns."""
    tokens: Path = tmp_path_factory.mktemp("tokens") / "tokens.toml"
    tokens.write_text(f'[[tokens]]\nname = "plain"\nsha256 = "{DIGEST}"\nroles = []\n')
    tokens.chmod(0o600)
    env = {"TRUNKLINE_TOKENS_FILE": str(tokens), "TRUNKLINE_AUTH_CALL": "true", "TRUNKLINE_AUTH_SECONDS": "60"}
    with ready_hub(DEBUG_METHODS, env=env) as running:
        yield running


def test_the_rules_here_are_about_methods_of_the_table() -> None:
    assert METHODS.keys() >= ABOUT_A_CONNECTION | FOR_ADMINS | UNNUMBERED


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_every_row_is_answered(debug_peer: Peer, name: str) -> None:
    reply = await debug_peer.call(name, {"no such member": 1})
    assert "result" not in reply
    assert reply["error"]["code"] in (ErrorCode.INVALID_PARAMS, ErrorCode.INVALID_REQUEST)
    if METHODS[name].scope != "handshake":
        assert "no such member" in reply["error"]["message"] or "missing required field" in reply["error"]["message"]
        assert name in reply["error"]["message"]


async def test_a_batch_refuses_what_has_to_come_alone(debug_peer: Peer) -> None:
    names = [*METHODS, "session.ack", "debug.echo"]
    await debug_peer.send([{"jsonrpc": "2.0", "id": name, "method": name, "params": {"-": 1}} for name in names])
    replies = {reply["id"]: reply for reply in await debug_peer.receive()}
    refused = {name for name in names if "be part of a batch" in json.dumps(replies[name])}
    assert refused == ALONE_IN_A_FRAME | {"session.ack"}
    assert all(replies[name]["error"]["code"] == ErrorCode.INVALID_REQUEST for name in refused)


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_http_refuses_what_needs_a_connection(debug_hub: RunningHub, name: str) -> None:
    error = rpc(debug_hub, {"jsonrpc": "2.0", "id": 1, "method": name, "params": {"-": 1}}).json()["error"]
    is_refused = error["code"] == ErrorCode.INVALID_REQUEST and "persistent connection" in error["message"]
    assert is_refused is (name in ABOUT_A_CONNECTION)
    paths = send(debug_hub, "/openapi.json", method="GET").json()["paths"]
    assert (f"/api/v1/{name.replace('.', '/')}" in paths) is (name not in ABOUT_A_CONNECTION)


async def test_methods_cannot_ask_for_what_needs_a_connection(debug_peer: Peer) -> None:
    for name in sorted(ABOUT_A_CONNECTION):
        error = await debug_peer.error("debug.call", {"method": name, "params": {}})
        assert error["code"] == ErrorCode.INVALID_REQUEST, error
        assert "needs a connection and an id" in error["message"]


async def test_what_is_about_a_connection_is_not_numbered(debug_hub: RunningHub) -> None:
    for name in sorted(METHODS.keys() - {"session.open", "session.close"}):
        async with peer(debug_hub.url) as client:
            opened = await client.call("session.open", {})
            assert "seq" not in opened
            assert ("seq" in await client.call(name, {"-": 1})) is (name not in UNNUMBERED), name


async def test_the_role_is_asked_for_before_the_params_are_looked_at(admitted: RunningHub) -> None:
    async with peer(admitted.url, {"Authorization": f"Bearer {TOKEN}"}) as client:
        for name in sorted(METHODS):
            code = (await client.error(name, {"-": 1}))["code"]
            assert (code == ErrorCode.FORBIDDEN) is (name in FOR_ADMINS | {"method.register"}), name


async def test_before_auth_there_is_nothing_else(admitted: RunningHub) -> None:
    async with peer(admitted.url) as client:
        for name in sorted(METHODS.keys() - {"auth"}):
            assert (await client.error(name, {"-": 1}))["code"] == ErrorCode.UNAUTHENTICATED, name
        assert (await client.result("auth", {"token": TOKEN}))["principal"] == "plain"


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_metadata_that_does_not_fit_is_refused(debug_peer: Peer, name: str) -> None:
    assert (await debug_peer.error(name, {}, metadata={"priority": "urgent"}))["code"] in (
        ErrorCode.INVALID_PARAMS,
        ErrorCode.INVALID_REQUEST,
    )


def test_every_notification_of_clients_is_understood() -> None:
    understood = client_connection._OWN_NOTIFICATIONS.keys() | client_connection.CANCELS
    assert understood == {row.name for row in NOTIFICATIONS.values() if row.from_client is not None}
    assert all(NOTIFICATIONS[name].from_hub for name in NOTIFICATIONS.keys() - understood)
